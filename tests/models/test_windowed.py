"""How a clip is cut, and which windows are heard together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthio.models.windowed import WINDOWS_AT_ONCE, WindowedEmbedder


class Loudness(WindowedEmbedder):
    """The sum of the samples, and how many there are."""

    sample_rate, names = 10, []

    def __init__(self):
        self.asked = []

    def vectors(self, waveforms):
        batch = torch.stack([torch.from_numpy(waveform) for waveform in waveforms])
        self.asked.append(tuple(batch.shape))
        return torch.stack([batch.sum(dim=1), torch.full((len(batch),), float(batch.shape[1]))], dim=1)


def test_a_long_clip_has_the_mean_of_its_windows():
    """250 samples at 10 Hz: three windows of 100, the last of which ends with the clip."""
    clip = np.arange(250, dtype=np.float32)[None]
    (vector,) = Loudness().embed_audio([clip])
    parts = [clip[0, start : start + 100].sum() for start in (0, 100, 150)]
    assert vector.tolist() == pytest.approx([np.mean(parts), 100])


def test_clips_of_one_length_are_heard_together_and_their_order_stays():
    ear, lengths = Loudness(), [30, 50, 30, 100]
    found = ear.embed_audio([np.full((1, length), 1 + i, np.float32) for i, length in enumerate(lengths)])
    assert found[:, 1].tolist() == lengths and found[:, 0].tolist() == [30, 100, 90, 400]
    assert ear.asked == [(2, 30), (1, 50), (1, 100)]
    ear.asked.clear()
    ear.embed_audio([np.ones((1, 5), np.float32)] * (WINDOWS_AT_ONCE + 1))
    assert ear.asked == [(WINDOWS_AT_ONCE, 5), (1, 5)]


def test_without_a_head_it_has_no_names_to_say():
    with pytest.raises(NotImplementedError):
        Loudness().name(np.zeros((1, 2), np.float32))
