"""Voices of animals."""

from __future__ import annotations

import numpy as np

from tests.sounds.toy import raw


def test_a_distant_rooster_is_duller_than_a_near_one():
    high = {True: [], False: []}
    for seed in range(60):
        audio, words = raw("rooster", seed)
        power = np.abs(np.fft.rfft(audio)) ** 2
        high["distant" in words].append(power[len(power) * 3 // 8 :].sum() / power.sum())  # above 3 kHz
    assert np.median(high[True]) < 0.7 * np.median(high[False])
