"""The small interfaces that every model backend fills in; stages know nothing else of a model.

Shapes: audio [B, C, T] float32 at `sample_rate`; latents [B, D, L]; time t [B] in [0, 1], where 0 is data and 1 is
noise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

Objective = Literal["v", "rectified_flow"]


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

    Attributes:
        name: for the record.
        sample_rate: in Hz; clips are resampled to it.
        window_s: length of the fixed windows that a clip is cut into; their embeddings are averaged.
        logit_scale: the learned scale of the cosine. A probability sigmoid(scale * cosine) means different things
            for different models, because this differs.
    """

    name: str
    sample_rate: int
    window_s: float
    logit_scale: float

    @abstractmethod
    def embed_audio(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Mono clips [1, T] at `sample_rate` -> unit vectors [N, E] float32."""

    @abstractmethod
    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """Texts -> unit vectors [N, E] float32."""
