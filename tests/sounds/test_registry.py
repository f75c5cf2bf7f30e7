"""Where the sounds register."""

from __future__ import annotations

import numpy as np

from synthio.sounds import registry


def test_a_sound_is_found_by_its_label_and_stays_a_function(monkeypatch):
    monkeypatch.setattr(registry, "EVENTS", {})

    @registry.event("click", "a click")
    def click(rng, n):
        return np.eye(1, n)[0], ["short"]

    found = registry.EVENTS["click"]
    assert list(registry.EVENTS) == ["click"] and found.phrase == "a click" and found.make is click
    audio, words = found.make(np.random.default_rng(0), 3)
    assert audio.tolist() == [1, 0, 0] and words == ["short"]
