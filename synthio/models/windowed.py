"""Embeddings of clips by a network that hears sounds of any length."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch

from synthio.audio import cut_windows

WINDOW_S = 10.0  # that an embedding is of; a longer clip has the mean of several
WINDOWS_AT_ONCE = 16


class WindowedEmbedder(ABC):
    """A frozen network. A backend gives the vectors of sounds of one length.

    A clip longer than 10 s is cut into windows, whose vectors are averaged; a shorter one is heard as it is. So a
    clip's vector depends on nothing but the clip.

    Attributes:
        sample_rate: in Hz.
        names: the K classes of its pretrained head; empty where it has none, or no names for it.
    """

    sample_rate: int
    names: list[str]

    @abstractmethod
    def vectors(self, waveforms: Sequence[np.ndarray]) -> torch.Tensor:
        """Waveforms of one length, each float32 [T] -> [B, E]."""

    def name(self, pooled: np.ndarray) -> np.ndarray:
        """What the pretrained head says of vectors [N, E]: logits float32 [N, K] of `names`."""
        raise NotImplementedError

    @torch.no_grad()
    def embed_audio(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Mono clips [1, T] -> float32 [N, E]."""
        length = round(WINDOW_S * self.sample_rate)
        windows = [[clip] if clip.shape[1] <= length else list(cut_windows(clip, length)) for clip in clips]
        vectors = iter(self._embed([window[0] for some in windows for window in some]))
        return np.stack([np.mean([next(vectors) for _ in some], axis=0) for some in windows])

    def _embed(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Each waveform [T] -> [E]; those of one length together."""
        by_length: dict[int, list[int]] = {}
        for row, waveform in enumerate(waveforms):
            by_length.setdefault(len(waveform), []).append(row)
        found: dict[int, np.ndarray] = {}
        for rows in by_length.values():
            for start in range(0, len(rows), WINDOWS_AT_ONCE):
                some = rows[start : start + WINDOWS_AT_ONCE]
                vectors = self.vectors([waveforms[row] for row in some]).cpu().numpy()
                found |= dict(zip(some, vectors, strict=True))
        return [found[row] for row in range(len(waveforms))]
