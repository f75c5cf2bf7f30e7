"""The events, by label. The modules of sounds add theirs when they are imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Event:
    """How a label sounds and reads; `make(rng, n)` gives (audio [n], attribute words)."""

    make: Callable[[np.random.Generator, int], tuple[np.ndarray, list[str]]]
    phrase: str


EVENTS: dict[str, Event] = {}


def event(label: str, phrase: str):
    """Add the function below as the sound of a label."""

    def register(make):
        EVENTS[label] = Event(make, phrase)
        return make

    return register
