"""Scenes: quiet beds behind the events, and the room in which all is heard."""

from __future__ import annotations

import numpy as np
from scipy import signal

from synthio.sounds.blocks import band, decay, log_uniform, make_noise, samples, tone, unit
from synthio.sounds.registry import EVENTS

SCENES: dict[str, tuple[str, ...]] = {
    "light rain": ("rain",),
    "wind": ("wind",),
    "a busy street": ("engine", "car_horn"),
    "a forest with birds": ("bird", "wind"),
    "a crowd": ("crowd",),
    "a running machine": ("air_conditioner",),
    "a flowing stream": ("stream",),
    "a seashore": ("sea_waves",),
    "a workshop": ("drilling",),
    "music": ("piano",),
    "a summer night": ("crickets",),
    "white noise": (),
    "a low hum": (),
}


def make_scene(name: str, rng, n: int) -> np.ndarray:
    if name == "white noise":
        return make_noise(rng, n, rng.uniform(0, 0.4))
    if name == "a low hum":
        return tone(np.full(n, float(rng.choice([50, 60, 100, 120]))), 6, 1.2) + 0.2 * make_noise(rng, n, 0.8)
    parts = [unit(EVENTS[label].make(rng, n)[0]) for label in SCENES[name]]
    return sum(part * rng.uniform(0.4, 1) for part in parts)


def reverberate(x: np.ndarray, tail: np.ndarray, mix: float) -> np.ndarray:
    """A sound [T] with a share `mix` of what a room's tail [K], of any level, makes of it."""
    wet = signal.oaconvolve(x, tail / (np.sqrt(np.sum(tail**2)) + 1e-9))[: len(x)]
    return x * (1 - mix) + wet * mix


def in_a_room(rng, x: np.ndarray) -> tuple[np.ndarray, str]:
    """What a room and a recorder do: reverberation, tone, distance. Returns (audio, attribute word)."""
    word = ""
    if rng.random() < 0.4:
        t60 = log_uniform(rng, 0.1, 1.5)
        m = samples(min(t60, 1.2))
        tail = rng.standard_normal(m) * decay(m, t60, 0.0005)
        mix = rng.uniform(0.1, 0.7)
        x = reverberate(x, tail, mix)
        word = "reverberant" if t60 > 0.7 and mix > 0.35 else ""
    if rng.random() < 0.25:
        x = band(x, None, log_uniform(rng, 1200, 5000), 1)
        word = word or "muffled"
    elif rng.random() < 0.3:
        x = band(x, log_uniform(rng, 60, 500), None, 1)
    return x, word
