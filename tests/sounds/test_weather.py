"""Sounds of weather."""

from __future__ import annotations

import numpy as np

from tests.sounds.toy import raw


def flatness(audio):
    power = np.abs(np.fft.rfft(audio)) ** 2 + 1e-12
    return np.exp(np.mean(np.log(power))) / np.mean(power)


def test_rain_is_noise_like_and_a_bell_is_not():
    assert np.median([flatness(raw("rain", s)[0]) for s in range(5)]) > 20 * np.median(
        [flatness(raw("bell", s)[0]) for s in range(5)]
    )
