"""What the models of diffusers' Stable Audio pipelines share: parts, precision, the way through the autoencoder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from synthio.cli import UserError
from synthio.files import read_object
from synthio.models.adapters import load_adapter
from synthio.models.base import Network, Part, TextToAudio
from synthio.models.strict import load_network

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def check_parts(folder: Path, parts: Sequence[str], what: str) -> None:
    """Refuse a folder that lacks some of the parts."""
    missing = [name for name in parts if not (folder / name).is_dir()]
    if missing:
        raise UserError(f"{folder}: not a {what} folder of diffusers; it has no {', '.join(missing)}")


def read_scheduler(folder: Path) -> dict:
    """The configuration of the folder's scheduler."""
    return read_object(folder / "scheduler" / "scheduler_config.json")


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is float16 on CUDA, as on the models' cards, and float32 elsewhere: a CPU is many times slower in half
    precision, and Apple's float16 makes noise of Stable Audio."""
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return DTYPES[name]


class PipelineModel(TextToAudio):
    """What the pipelines share: precision, and the way through the autoencoder.

    Transformer and autoencoder compute in `dtype`. What turns text and length into a condition stays in float32: it
    runs once a clip, and T5 is known to overflow in float16.

    Args:
        name: see `TextToAudio`.
        device: torch device.
        dtype: "auto", "float32", "float16" or "bfloat16".
    """

    def __init__(self, name: str, device: str, dtype: str):
        self.name = name
        self.device = torch.device(device)
        self.dtype = pick_dtype(dtype, self.device)

    def _set_vae(self, kind: type[Network], folder: Path, dtype: torch.dtype) -> None:
        """Load the autoencoder; in float32 too, when it is first needed."""
        self.vae = load_network(kind, folder, "autoencoder", torch_dtype=dtype)
        self._load_exact_vae = partial(load_network, kind, folder, "autoencoder", torch_dtype=torch.float32)
        self._exact_vae: Network | None = None

    def _place(self, adapter: str | None, *frozen: Network) -> None:
        """Put the adapter on the transformer, and everything, frozen, on the device; `frozen` are what reads texts."""
        if adapter:
            self.module = load_adapter(self.module, adapter)
        self._readers = frozen
        for part in (self.module, self.vae, *frozen):
            part.requires_grad_(False).eval().to(self.device)

    def parts(self, part: Part) -> Sequence[Network]:
        """See `TextToAudio`."""
        return self._readers if part == "text" else [vae for vae in (self.vae, self._exact_vae) if vae is not None]

    def recompute_activations(self) -> None:
        """By diffusers' own checkpointing of the transformer's blocks, whatever adapter is around it."""
        from diffusers import ModelMixin

        for part in self.module.modules():
            if isinstance(part, ModelMixin):
                part.enable_gradient_checkpointing()

    def _through_vae(self, run: Callable[[Network, torch.Tensor], torch.Tensor], x: torch.Tensor):
        """run(autoencoder, x) in float32. Rows that overflow in half precision are done again in single.

        Each row by itself, so that a clip depends neither on its batch nor on what came before.
        """
        dtype = next(self.vae.parameters()).dtype
        out = run(self.vae, x.to(self.device, dtype)).float()
        overflowed = ~out.isfinite().flatten(1).all(dim=1)
        if dtype == torch.float32 or not overflowed.any():
            return out
        if self._exact_vae is None:
            print(f"{self.name}: the autoencoder overflows in {dtype}; such clips go through float32", file=sys.stderr)
            self._exact_vae = self._load_exact_vae().requires_grad_(False).eval().to(self.device)
        out[overflowed] = run(self._exact_vae, x[overflowed].to(self.device, torch.float32))
        return out

    def _in_channels(self, audio: torch.Tensor) -> torch.Tensor:
        """Audio in the model's channels: others are mixed to mono, and mono is repeated."""
        if audio.shape[1] == self.channels:
            return audio
        return audio.mean(dim=1, keepdim=True).expand(-1, self.channels, -1)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents [B, D, L] -> audio [B, C, L * hop].

        Raises:
            UserError: the latents are not finite, so the transformer overflowed.
        """
        self.check_finite(latents)
        return self._through_vae(lambda vae, x: vae.decode(x).sample, latents)
