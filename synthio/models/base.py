"""The small interfaces that every model backend fills in; stages know nothing else of a model.

Shapes: audio [B, C, T] float32 at `sample_rate`; latents [B, D, L]; time t [B] in [0, 1], where 0 is data and 1 is
noise.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from synthio.audio import cut_windows
from synthio.cli import UserError
from synthio.models.lengths import Grid

Objective = Literal["v", "rectified_flow"]
Part = Literal["text", "sound"]
# A network whose class is a library's: torch declares each attribute of a Module as `Tensor | Module`, of which
# mypy lets nothing be called, counted or read.
Network: TypeAlias = Any
UNNAMED = re.compile(r"LABEL_\d+")  # what transformers calls a class without a name
WINDOWS_AT_ONCE = 32  # of long clips, in a scorer


@dataclass(frozen=True)
class Condition:
    """What a generation is conditioned on, one row per clip.

    Attributes:
        cross: [B, S, E] states that the model attends to (text, then length); zeros mean "no condition".
        pooled: [B, 1, G] states added to every token (length), or None.
        null: [B, S, E] what stands in the place of `cross` for "no condition"; None: zeros.
    """

    cross: torch.Tensor
    pooled: torch.Tensor | None
    null: torch.Tensor | None = None

    def __len__(self) -> int:
        return self.cross.shape[0]

    def rows(self, index: torch.Tensor) -> Condition:
        """The condition of some rows, in the order of `index` [N]."""
        pooled, null = (None if part is None else part[index] for part in (self.pooled, self.null))
        return Condition(self.cross[index], pooled, null)

    def dropped(self, mask: torch.Tensor) -> Condition:
        """The same with "no condition" attended to where `mask` [B] is True (classifier-free guidance)."""
        null = 0.0 if self.null is None else self.null
        return Condition(torch.where(mask[:, None, None], null, self.cross), self.pooled, self.null)

    def to(self, device: torch.device | str) -> Condition:
        """The same on a device."""
        pooled, null = (None if part is None else part.to(device) for part in (self.pooled, self.null))
        return Condition(self.cross.to(device), pooled, null)

    def unconditional(self) -> Condition:
        """The same with "no condition" attended to in every row."""
        null = torch.zeros_like(self.cross) if self.null is None else self.null
        return Condition(null, self.pooled, self.null)

    @staticmethod
    def joined(parts: Sequence[Condition]) -> Condition:
        """Several conditions as one batch."""
        return Condition(
            torch.cat([part.cross for part in parts]),
            _joined([part.pooled for part in parts]),
            _joined([part.null for part in parts]),
        )


def _joined(parts: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    """Parts that every condition has, or none has, as one batch."""
    tensors = [part for part in parts if part is not None]
    assert len(tensors) in (0, len(parts)), "conditions of one model are alike"
    return torch.cat(tensors) if tensors else None


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
        latent_shape: (D, L) of the longest clip; where the length is fixed, every clip has it, and is cut afterwards.
        hop: audio samples of a latent frame.
        frame_step: the network takes multiples of so many frames.
        is_shortened: whether L was set (`set_frames`) below the checkpoint's own.
        decoder_reach: how many frames away a latent still changes an instant of the decoded sound; None: any.
        variable_length: latents are as long as their clip, so that those of one batch must be of equally many frames.
        module: the trainable network.
        device: where tensors belong.
        dtype: what the network computes in; what goes in and comes out is float32.
        noise_range: of the checkpoint's own schedule, (sigma_min, sigma_max) for v and (lambda_min, lambda_max) for a
            rectified flow (see `synthio.generation.sampling.schedule`); None: what suits the objective.
        sampling: how it was made to be sampled; None: what suits the objective.
        distilled: whether it was trained on for few steps without guidance. Its loss is no diffusion loss any more.
    """

    name: str
    sample_rate: int
    channels: int
    objective: Objective
    latent_shape: tuple[int, int]
    hop: int
    module: Network
    device: torch.device
    dtype: torch.dtype = torch.float32
    noise_range: tuple[float, float] | None = None
    sampling: Sampling | None = None
    distilled: bool = False
    decoder_reach: int | None = None
    variable_length: bool = False
    frame_step: int = 1
    is_shortened: bool = False

    @property
    def samples(self) -> int:
        """Audio samples of L latent frames."""
        return self.latent_shape[1] * self.hop

    @property
    def max_seconds(self) -> float:
        """Length of L latent frames."""
        return self.samples / self.sample_rate

    @property
    def grid(self) -> Grid:
        """Its latent frames as they are now."""
        return Grid(self.latent_shape[1], self.max_seconds, self.decoder_reach, self.frame_step)

    def set_frames(self, frames: int) -> None:
        """Let latents have this many frames, rounded up to what the network takes, in place of the checkpoint's own.

        Raises:
            ValueError: none, or more than the checkpoint's own.
        """
        depth, own = self.latent_shape
        if not 0 < frames <= own:
            raise ValueError(f"{self.name} makes latents of 1 to {own} frames, not of {frames}")
        frames = self.grid.taken(frames)
        self.latent_shape, self.is_shortened = (depth, frames), self.is_shortened or frames < own

    def parts(self, part: Part) -> Sequence[Network]:
        """The networks that `condition` alone runs (text), or that `encode` and `decode` alone run (sound)."""
        return ()

    def move(self, part: Part, device: torch.device | str) -> None:
        """Put these networks on a device; on "meta" they are given up, and what they are for cannot be asked any more.

        Their memory is the transformer's where latents and conditions are computed already.
        """
        for network in self.parts(part):
            for module in network.to(device).modules():
                own = vars(module).items()  # weight_norm keeps what it computed as no parameter
                vars(module).update({name: value.to(device) for name, value in own if isinstance(value, torch.Tensor)})

    def recompute_activations(self) -> None:
        """Let the transformer compute activations again for the gradients and keep few of them (Chen et al. 2016)."""
        raise NotImplementedError

    def sounding_frames(self, seconds: float) -> int:
        """Latent frames that a clip of this length fills, at least one."""
        return self.grid.filled(seconds)

    def frames_for(self, seconds: float) -> int:
        """Latent frames that the network is given for a clip of this length: those it fills, or always all of them."""
        return self.grid.taken(self.sounding_frames(seconds)) if self.variable_length else self.latent_shape[1]

    def check_finite(self, latents: torch.Tensor) -> None:
        """Refuse to decode what an overflow has left.

        Raises:
            UserError: some of the latents are not finite.
        """
        if not latents.isfinite().all():
            raise UserError(f"{self.name} gave NaN or infinity in {self.dtype}; use --dtype bfloat16 or float32")

    @abstractmethod
    def encode(self, audio: torch.Tensor) -> torch.Tensor:
        """Audio [B, C, T] -> latents [B, D, L]; T is cut or zero-padded to the model's length first.

        A model of variable length pads to whole latent frames only.
        """

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
        logit_bias: what is added to it; 0: nothing. A model that learnt one was trained to say whether a text suits a
            sound, so that the sigmoid is a probability.
        similarity: what is scaled: "cosine", or "product" of vectors that are no unit ones.
        module: the network.
        device: where tensors belong.
        trainable: the parameters that fine-tuning changes, by name: neither scales of the cosine nor fixed filters.
    """

    name: str
    sample_rate: int
    window_s: float
    logit_scale: float
    logit_bias: float = 0.0
    similarity: Literal["cosine", "product"] = "cosine"
    module: Network
    device: torch.device
    trainable: dict[str, torch.nn.Parameter]

    def take(self, module: Network, device: str) -> None:
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

    @property
    def cosine_scale(self) -> float:
        """The scale of a cosine of its unit vectors."""
        return self.logit_scale

    def score_audio(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Mono clips [1, T] -> vectors [N, E] whose product with those of texts is the `similarity`."""
        return self.embed_audio(clips)

    def score_text(self, texts: Sequence[str]) -> np.ndarray:
        """Texts -> vectors [N, E], as `score_audio`."""
        return self.embed_text(texts)

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """Texts -> unit vectors [N, E] float32."""
        return self.text_vectors(texts).cpu().numpy()


def reach_of(decoder: Network) -> int:
    """How many latent frames away an input changes an output, of a decoder of convolutions that stand in their order.

    A convolution of width k and dilation d reaches d (k - 1) / 2 samples of its own rate; a transposed one that raises
    the rate s times, k / s samples of the rate before.
    """
    reach, rate = 0.0, 1
    for part in decoder.modules():
        if isinstance(part, torch.nn.ConvTranspose1d):
            reach += part.kernel_size[0] / part.stride[0] / rate
            rate *= part.stride[0]
        elif isinstance(part, torch.nn.Conv1d):
            reach += part.dilation[0] * (part.kernel_size[0] - 1) / 2 / rate
    return math.ceil(reach)


def unit(x: torch.Tensor) -> torch.Tensor:
    """Vectors [..., E] at length 1."""
    return torch.nn.functional.normalize(x, dim=-1)


@dataclass(frozen=True)
class OwnHead:
    """A classifier's pretrained head as a linear layer on what a new one reads, and the names of its K classes.

    weight float32 [K, E] and bias [K]. AST's hold what scale and shift its own LayerNorm has, so that they suit a new
    one; those of others are both layers of the head.
    """

    names: list[str]
    weight: np.ndarray
    bias: np.ndarray


def head_names(config, has_head: bool) -> list[str]:
    """The classes of a pretrained head; empty where there is none, or its classes have no names."""
    names = [config.id2label[i] for i in range(config.num_labels)]
    return names if has_head and not any(map(UNNAMED.fullmatch, names)) else []
