"""Sounds of instruments."""

from __future__ import annotations

import numpy as np
import pytest

from synthio.sounds import music
from synthio.sounds.blocks import SAMPLE_RATE
from tests.sounds.toy import raw


def test_melodies_are_on_a_pentatonic_scale():
    for seed in range(10):
        heard = []

        def one(rng, f, m, heard=heard):
            heard.append(f)
            return np.zeros(m)

        music._notes(np.random.default_rng(seed), 10 * SAMPLE_RATE, 200, 400, one)
        steps = 12 * np.log2(np.array(heard) / min(heard))
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)
        assert max(steps) <= 12 + 1e-9
        offsets = {round(s) for s in steps}
        assert any({(root + s) for s in offsets} <= {0, 2, 4, 7, 9, 12} for root in (0, 2, 4, 7, 9, 12))


@pytest.mark.parametrize("label", ["flute", "guitar"])
def test_an_instrument_has_a_pitch(label):
    """The autocorrelation of its loudest tenth of a second comes back to more than half of its start."""
    for seed in range(3):
        audio, _ = raw(label, seed)
        middle = int(np.argmax(np.convolve(audio**2, np.ones(1600), "valid")))
        part = audio[middle : middle + 1600] - audio[middle : middle + 1600].mean()
        correlation = np.correlate(part, part, "full")[1599:]
        assert correlation[17:300].max() > 0.5 * correlation[0]
