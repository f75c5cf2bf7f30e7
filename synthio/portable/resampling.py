"""soxr's resampling to a whole fraction of a rate, as one convolution."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from synthio.audio import resample
from synthio.cli import UserError

REACH = 2000  # output samples on each side, far beyond what soxr's filters reach
LEAST_TAP = 1e-7  # of a filter whose largest is about one by the factor: what is less is not heard at 24 bits


def filter_of(from_rate: int, to_rate: int) -> tuple[np.ndarray, int]:
    """(taps float32 [K], how many of them lie after the sample): out[n] = sum of taps[k] x[factor n + after - k].

    soxr's filters are linear, so that its answers to a single sample at each place between two outputs are all of them.
    """
    factor = from_rate // to_rate
    middle, taps = 2 * REACH * factor, np.zeros(2 * REACH * factor + 1)
    for place in range(middle, middle + factor):
        impulse = np.zeros((1, 2 * middle))
        impulse[0, place] = 1
        out = resample(impulse, from_rate, to_rate)[0]
        lags = factor * np.arange(len(out)) - place
        near = np.abs(lags) <= REACH * factor
        taps[lags[near] + REACH * factor] = out[near]
    heard = np.flatnonzero(np.abs(taps) > LEAST_TAP)
    return taps[heard[0] : heard[-1] + 1].astype(np.float32), REACH * factor - int(heard[0])


class Resampler(nn.Module):
    """`synthio.audio.resample` of mono sounds.

    Args:
        from_rate: in Hz.
        to_rate: in Hz.

    Raises:
        UserError: the first rate is no multiple of the second.
    """

    taps: torch.Tensor

    def __init__(self, from_rate: int, to_rate: int):
        super().__init__()
        if from_rate % to_rate:
            raise UserError(
                f"its models hear at {from_rate} and {to_rate} Hz, of which none is a multiple of the other"
            )
        self.factor = from_rate // to_rate
        taps, self.after = filter_of(from_rate, to_rate) if self.factor > 1 else (np.ones(1, np.float32), 0)
        self.register_buffer("taps", torch.from_numpy(taps[::-1].copy()))

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """[B, T] -> [B, T / factor, rounded]."""
        if self.factor == 1:
            return waveform
        before, count = len(self.taps) - 1 - self.after, (waveform.shape[1] + self.factor // 2) // self.factor
        # out[n] reads x[factor n + after - k] for k < K: from factor n - before to factor n + after
        padded = functional.pad(waveform[:, None], (before, self.after + self.factor))
        return functional.conv1d(padded, self.taps[None, None], stride=self.factor)[:, 0, :count]
