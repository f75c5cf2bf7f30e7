"""One convolution against soxr."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthio.audio import resample
from synthio.cli import UserError
from synthio.portable.resampling import Resampler


@pytest.mark.parametrize(("from_rate", "to_rate"), [(48000, 16000), (32000, 16000), (44100, 22050)])
def test_it_is_soxrs(from_rate, to_rate):
    resampler, rng = Resampler(from_rate, to_rate), np.random.default_rng(0)
    for samples in (2, 481, 4800, 14401, 50000):
        clips = rng.uniform(-1, 1, (2, samples)).astype(np.float32)
        wanted = np.concatenate([resample(clip[None], from_rate, to_rate) for clip in clips])
        found = resampler(torch.from_numpy(clips)).numpy()
        np.testing.assert_allclose(found, wanted, atol=3e-6)  # both add hundreds of products in float32


def test_a_rate_stays_and_other_fractions_are_refused():
    sound = torch.arange(5.0)[None]
    assert torch.equal(Resampler(16000, 16000)(sound), sound)
    with pytest.raises(UserError, match="at 48000 and 22050 Hz, of which none is a multiple"):
        Resampler(48000, 22050)
