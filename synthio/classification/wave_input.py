"""How another network than AST hears a clip: whole, through the feature extractor beside it.

norm = WaveInput(load_extractor(model), samples=64000)
norm.fill([norm.hear(waveform, model.config)])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from synthio.audio import fit_length
from synthio.classification.ragged import Features, Ragged
from synthio.classification.training import Batch, blend, draw_mixup
from synthio.models.sound_classifier import LEAST_S, hear


@dataclass(frozen=True)
class WaveInput:
    """See `training.Input`.

    Attributes:
        extractor: of transformers.
        samples: a longer training clip was cut to so many; others are heard whole, as in transformers' pipeline. None:
            not known.
    """

    extractor: Any  # which of the library's classes, the model's folder says
    samples: int | None = None

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.extractor.sampling_rate

    @property
    def least(self) -> int:
        """Samples of the shortest sound that is heard."""
        return round(LEAST_S * self.sample_rate)

    def hear(self, waveform: np.ndarray, config: Any = None) -> torch.Tensor:  # Any: not asked
        """See `Input`."""
        return hear(self.extractor, waveform)

    def fill(self, clips: Sequence[torch.Tensor]) -> Ragged:
        """See `Input`."""
        return Ragged(clips)

    def changed(self, waveforms: Sequence[np.ndarray], features: Features | None = None) -> Ragged:
        """See `Input`."""
        most = self.samples or None
        return self.fill([self.hear(waveform[:most]) for waveform in waveforms])

    def mixed(self, alpha: float, rng: np.random.Generator, waveforms: Sequence[np.ndarray], batch: Batch) -> Batch:
        """See `Input`; the sounds are blended, the other one cut or filled up to the length of each."""
        shares, others = draw_mixup(alpha, rng, len(waveforms))
        blended = []
        for share, row, waveform in zip(shares, others, waveforms, strict=True):
            other = fit_length(waveforms[row][None], len(waveform))[0]
            blended.append((share * waveform + (1 - share) * other).astype(np.float32))
        targets, weights = blend(shares, others, *batch[1:])
        return self.changed(blended), targets, weights

    def record(self) -> dict[str, Any]:
        """See `Input`."""
        seconds = self.samples and self.samples / self.sample_rate
        return {"feature_extractor": type(self.extractor).__name__, "training_s": seconds}
