"""Clips, and events without room, scene and recorder."""

from __future__ import annotations

import numpy as np

from synthio import sounds
from synthio.sounds.registry import EVENTS


def raw(label, seed, seconds=4.0):
    """The event without room, scene and recorder."""
    return EVENTS[label].make(np.random.default_rng(seed), int(seconds * sounds.SAMPLE_RATE))
