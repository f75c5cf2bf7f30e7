"""Sounds of things."""

from __future__ import annotations

import numpy as np

from tests.sounds.toy import raw


def onsets(audio) -> int:
    """How often the level rises from below a fifth of its top to above, in steps of 10 ms."""
    level = np.abs(audio[: len(audio) // 160 * 160]).reshape(-1, 160).max(axis=1)
    loud = level > 0.2 * level.max()
    return int(np.sum(np.diff(loud.astype(int)) == 1) + loud[0])


def test_fast_steps_are_more_than_slow_ones():
    """Below 1.7 steps a second there are 7 in 4 s at most, above 2.6 at least 10; heel and sole may be told apart."""
    counts = {"slow": [], "fast": []}
    for seed in range(60):
        audio, words = raw("footsteps", seed)
        if words[0] in counts and words[1] == "":
            counts[words[0]].append(onsets(audio))
    assert np.median(counts["slow"]) < np.median(counts["fast"])


def test_a_slam_is_heard_once_and_ends_in_silence():
    for seed in range(5):
        audio, _ = raw("door_slam", seed)
        loud = np.flatnonzero(np.abs(audio) > 0.1 * np.abs(audio).max())
        assert np.ptp(loud) < 16000  # it lasts a second


def test_a_shot_is_loudest_at_its_start():
    for seed in range(5):
        audio, words = raw("gun_shot", seed)
        if words[0] == "single":
            peak = int(np.argmax(np.abs(audio)))
            assert np.mean(audio[peak : peak + 800] ** 2) > 10 * np.mean(audio[peak + 8000 : peak + 8800] ** 2)
