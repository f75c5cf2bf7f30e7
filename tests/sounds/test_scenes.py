"""Scenes behind the events, and rooms."""

from __future__ import annotations

import numpy as np
import pytest

from synthio.sounds.registry import EVENTS
from synthio.sounds.scenes import SCENES, in_a_room, make_scene


@pytest.mark.parametrize("name", SCENES)
def test_every_scene_is_of_sounds_that_there_are_and_can_be_heard(name):
    assert set(SCENES[name]) <= set(EVENTS)
    audio = make_scene(name, np.random.default_rng(0), 8000)
    assert audio.shape == (8000,) and np.isfinite(audio).all() and audio.std() > 0


def test_a_hum_is_at_the_frequency_of_the_mains():
    for seed in range(5):
        audio = make_scene("a low hum", np.random.default_rng(seed), 16000)
        assert int(np.argmax(np.abs(np.fft.rfft(audio)))) in (50, 60, 100, 120)


def test_a_reverberant_room_goes_on_after_the_sound():
    click, tails = np.eye(1, 16000)[0], {"reverberant": [], "": []}
    for seed in range(200):
        audio, word = in_a_room(np.random.default_rng(seed), click)
        if word in tails:
            tails[word].append(np.sum(audio[4800:] ** 2) / np.sum(audio**2))
    assert np.median(tails["reverberant"]) > 1e-3 > np.median(tails[""])
