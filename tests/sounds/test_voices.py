"""Voices of people."""

from __future__ import annotations

import numpy as np
import pytest

from synthio.sounds import voices
from tests.sounds.toy import raw


def test_a_syllable_has_the_pitch_of_its_voice():
    """Its pitch bends by at most 15 % both ways, and cycles vary by another 1 %."""
    for seed in range(5):
        audio = voices._syllable(np.random.default_rng(seed), 200.0, 0.5, breath=0.0)
        part = audio[3200:4800] - audio[3200:4800].mean()
        correlation = np.correlate(part, part, "full")[1599:]
        lag = 60 + int(np.argmax(correlation[60:110]))
        assert 16000 / lag == pytest.approx(200, rel=0.17)
        assert correlation[lag] > 0.5 * correlation[0]


@pytest.mark.parametrize(("label", "word"), [("speech", "low-pitched"), ("speech", "high-pitched")])
def test_speech_says_which_voice_it_has(label, word):
    """Below 150 Hz the pitch period is longer than 6.7 ms: the strongest return within 3.5 to 12 ms is later."""
    lags = {"low-pitched": [], "high-pitched": []}
    for seed in range(30):
        audio, words = raw(label, seed)
        start = int(np.argmax(np.convolve(audio**2, np.ones(1600), "valid")))
        part = audio[start : start + 1600] - audio[start : start + 1600].mean()
        lags[words[0]].append(56 + int(np.argmax(np.correlate(part, part, "full")[1599:][56:192])))
    assert np.median(lags["low-pitched"]) > np.median(lags["high-pitched"])
    assert lags[word]


def test_bouts_of_laughter_have_pauses():
    for seed in range(3):
        audio, _ = raw("laughing", seed)
        level = np.sqrt(np.mean(audio[: len(audio) // 800 * 800].reshape(-1, 800) ** 2, axis=1))  # 50 ms
        assert np.quantile(level, 0.05) < 0.3 * np.quantile(level, 0.9)
