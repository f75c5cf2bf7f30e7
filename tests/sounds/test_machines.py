"""Sounds of machines."""

from __future__ import annotations

import numpy as np

from tests.sounds.toy import raw


def test_a_clock_ticks_at_a_steady_rate():
    for seed in range(5):
        audio, _ = raw("clock_tick", seed)
        envelope = np.abs(audio)[: 64000 // 80 * 80].reshape(-1, 80).max(axis=1)  # 5 ms
        envelope = envelope - envelope.mean()
        correlation = np.correlate(envelope, envelope, "full")[len(envelope) - 1 :]
        lag = np.argmax(correlation[20:210]) + 20  # 0.1 to 1.05 s
        assert correlation[lag] > 0.3 * correlation[0]


def test_a_siren_moves_in_pitch():
    audio, _ = raw("siren", 2)
    frames = audio[: 64000 // 1600 * 1600].reshape(-1, 1600) * np.hanning(1600)
    peak_hz = np.argmax(np.abs(np.fft.rfft(frames, axis=1)), axis=1) * 10
    assert peak_hz.max() > 1.2 * peak_hz.min()


def test_a_throttled_chainsaw_is_louder_than_an_idling_one():
    levels = {"idling": [], "revving": [], "steady": []}
    for seed in range(60):
        audio, words = raw("chainsaw", seed, 1.0)
        levels[words[0]].append(np.sqrt(np.mean(audio**2)))
    assert np.median(levels["steady"]) > 1.5 * np.median(levels["idling"])
