"""The small interfaces that every model backend fills in; stages know nothing else of a model.

Shapes: audio [B, C, T] float32 at `sample_rate`; latents [B, D, L]; time t [B] in [0, 1], where 0 is data and 1 is
noise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from synthio.audio import cut_windows

Objective = Literal["v", "rectified_flow"]
WINDOWS_AT_ONCE = 32  # of long clips, in a scorer


@dataclass(frozen=True)
class Condition:
    """What a generation is conditioned on, one row per clip.

    Attributes:
        cross: [B, S, E] states that the model attends to (text, then length); zeros mean "no condition".
        pooled: [B, 1, G] states added to every token (length), or None.
    """

    cross: torch.Tensor
    pooled: torch.Tensor | None

    def __len__(self) -> int:
        return self.cross.shape[0]

    def rows(self, index: torch.Tensor) -> Condition:
        """The condition of some rows, in the order of `index` [N]."""
        return Condition(self.cross[index], None if self.pooled is None else self.pooled[index])

    def dropped(self, mask: torch.Tensor) -> Condition:
        """The same with the attended states zeroed where `mask` [B] is True (classifier-free guidance)."""
        return Condition(torch.where(mask[:, None, None], 0.0, self.cross), self.pooled)

    def unconditional(self) -> Condition:
        """The same with every attended state zeroed."""
        return Condition(torch.zeros_like(self.cross), self.pooled)

    @staticmethod
    def joined(parts: Sequence[Condition]) -> Condition:
        """Several conditions as one batch."""
        pooled = None if parts[0].pooled is None else torch.cat([part.pooled for part in parts])
        return Condition(torch.cat([part.cross for part in parts]), pooled)


@dataclass(frozen=True)
class Sampling:
    """How a checkpoint was made to be sampled, where it says so."""

    sampler: str
    num_steps: int
    cfg_scale: float


class TextToAudio(ABC):
    """A latent text-to-audio diffusion model.

    Attributes:
        name: what the `model` column of generated clips says.
        sample_rate: in Hz.
        channels: audio channels C.
        objective: what `predict` returns, "v" or "rectified_flow".
        latent_shape: (D, L) of one clip; every clip of a batch has this length, and is cut afterwards.
        max_seconds: length of L latent frames.
        module: the trainable network.
        device: where tensors belong.
        sampling: how it was made to be sampled; None: what suits the objective.
        distilled: whether it was trained on for few steps without guidance. Its loss is no diffusion loss any more.
    """

    name: str
    sample_rate: int
    channels: int
    objective: Objective
    latent_shape: tuple[int, int]
    max_seconds: float
    module: torch.nn.Module
    device: torch.device
    sampling: Sampling | None = None
    distilled: bool = False

    @abstractmethod
    def encode(self, audio: torch.Tensor) -> torch.Tensor:
        """Audio [B, C, T] -> latents [B, D, L]; T is cut or zero-padded to the model's length first."""

    @abstractmethod
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents [B, D, L] -> audio [B, C, T]."""

    @abstractmethod
    def condition(self, prompts: Sequence[str], seconds: Sequence[float]) -> Condition:
        """Prompts and the length of each clip in seconds -> condition of B rows."""

    @abstractmethod
    def predict(self, latents: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        """The network's output for noisy latents [B, D, L] at times t [B]: v or velocity, [B, D, L]."""


class AudioTextScorer(ABC):
    """A model with one embedding space for sound and text (CLAP).

    A backend says what its network reads of a window, and gives vectors with gradients; how a clip is cut and how
    its windows become one vector is the same for all.

    Attributes:
        name: for the record.
        sample_rate: in Hz; clips are resampled to it.
        window_s: length of the fixed windows that a clip is cut into; their embeddings are averaged.
        logit_scale: the learned scale of the cosine. A probability sigmoid(scale * cosine) means different things
            for different models, because this differs.
        module: the network.
        device: where tensors belong.
        trainable: the parameters that fine-tuning changes, by name: neither scales of the cosine nor fixed filters.
    """

    name: str
    sample_rate: int
    window_s: float
    logit_scale: float
    module: torch.nn.Module
    device: torch.device
    trainable: dict[str, torch.nn.Parameter]

    def take(self, module: torch.nn.Module, device: str) -> None:
        """Make `module` the network of this scorer: frozen, without dropout, on the device."""
        self.device = torch.device(device)
        self.trainable = {
            name: p for name, p in module.named_parameters() if p.requires_grad and not name.startswith("logit_scale")
        }
        self.module = module.requires_grad_(False).eval().to(self.device)

    @abstractmethod
    def features(self, windows: np.ndarray) -> torch.Tensor:
        """Mono windows [W, T] of `window_s` seconds -> what the network reads of each, [W, ...]."""

    @abstractmethod
    def audio_vectors(self, features: torch.Tensor) -> torch.Tensor:
        """`features` of W windows -> unit vectors [W, E], with gradients."""

    @abstractmethod
    def text_vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts -> unit vectors [N, E], with gradients."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the model into a folder that is there, in the format that it came in."""

    @torch.no_grad()
    def embed_audio(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Mono clips [1, T] at `sample_rate` -> unit vectors [N, E] float32: the mean over windows, made unit again."""
        length = round(self.window_s * self.sample_rate)
        windows = [cut_windows(clip, length)[:, 0] for clip in clips]
        parts = self.features(np.concatenate(windows)).split(WINDOWS_AT_ONCE)
        vectors = torch.cat([self.audio_vectors(part) for part in parts])
        means = [part.mean(dim=0) for part in vectors.split([len(w) for w in windows])]
        return unit(torch.stack(means)).cpu().numpy()

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """Texts -> unit vectors [N, E] float32."""
        return self.text_vectors(texts).cpu().numpy()


def unit(x: torch.Tensor) -> torch.Tensor:
    """Vectors [..., E] at length 1."""
    return torch.nn.functional.normalize(x, dim=-1)
