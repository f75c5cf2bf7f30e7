"""Music."""

from __future__ import annotations

import numpy as np
from scipy import signal

from synthio.sounds.blocks import (
    SAMPLE_RATE,
    band,
    count_word,
    decay,
    few,
    height_word,
    hump,
    log_uniform,
    make_noise,
    modes,
    pace_word,
    repeat,
    resonate,
    samples,
    slow_curve,
    time_axis,
    tone,
    unit,
)
from synthio.sounds.registry import EVENTS, event


@event("bell", "a bell ringing")
def _bell(rng, n):
    f = log_uniform(rng, 220, 2000)
    t60 = rng.uniform(0.8, 4)

    def one(rng, k):
        return modes(rng, samples(min(t60, 4)), f, [0.5, 1, 1.19, 1.5, 2, 2.51, 3.01], t60, 0.002)

    x, _ = repeat(rng, n, rng.uniform(0.5, 2.2), 0.05, one)
    return x, [height_word(f, 220, 2000), "long" if t60 > 2.5 else "short"]


def _notes(rng, n, low, high, one):
    """A short melody on a pentatonic scale; `one(rng, f, m)` makes a note."""
    root = log_uniform(rng, low, high)
    rate = rng.uniform(1, 5)

    def note(rng, k):
        f = root * 2 ** (rng.choice([0, 2, 4, 7, 9, 12]) / 12)
        return one(rng, f, samples(rng.uniform(0.8, 1.5) / rate + 0.1))

    x, _ = repeat(rng, n, 1 / rate, 0.02, note)
    return x, [height_word(root, low, high), pace_word(rate, 2, 3.5)]


@event("piano", "a piano playing")
def _piano(rng, n):
    return _notes(rng, n, 90, 700, lambda rng, f, m: modes(rng, m, f, range(1, 9), 2.0, 0.0005) * decay(m, 2, 0.003))


@event("guitar", "a guitar playing")
def _guitar(rng, n):
    def pluck(rng, f, m):
        period = max(2, int(SAMPLE_RATE / f))
        burst = np.zeros(m)
        burst[: min(period, m)] = rng.uniform(-1, 1, min(period, m))
        a = np.zeros(period + 2)
        a[0], a[period], a[period + 1] = 1, -0.498, -0.498
        return signal.lfilter([1], a, burst) * hump(m, 0.01, 0.1)

    return _notes(rng, n, 80, 400, pluck)


@event("strings", "a bowed string instrument playing")
def _strings(rng, n):
    def bow(rng, f, m):
        vibrato = f * (1 + 0.006 * np.sin(2 * np.pi * 5.5 * time_axis(m)))
        return resonate(tone(vibrato, 20, 0.9), [300, 900, 2500], [200, 400, 900]) * hump(m, 0.2, 0.2) * 3

    return _notes(rng, n, 60, 500, bow)


@event("flute", "a flute playing")
def _flute(rng, n):
    def blow(rng, f, m):
        vibrato = f * (1 + 0.008 * np.sin(2 * np.pi * 5 * time_axis(m)))
        return (tone(vibrato, 4, 1.8) + 0.15 * band(make_noise(rng, m), f, f * 3)) * hump(m, 0.15, 0.2)

    return _notes(rng, n, 260, 900, blow)


@event("brass", "a brass instrument playing")
def _brass(rng, n):
    return _notes(rng, n, 90, 450, lambda rng, f, m: np.tanh(1.5 * tone(np.full(m, f), 16, 0.8)) * hump(m, 0.12, 0.15))


@event("reed", "a woodwind reed instrument playing")
def _reed(rng, n):
    def blow(rng, f, m):
        square = signal.square(2 * np.pi * f * time_axis(m), rng.uniform(0.3, 0.5))
        return band(square, None, 3500) * hump(m, 0.1, 0.15)

    return _notes(rng, n, 70, 500, blow)


@event("drums", "drums playing")
def _drums(rng, n):
    rate = rng.uniform(3, 9)

    def one(rng, k):
        m = samples(0.3)
        if k % 4 == 0:
            return tone(50 + 110 * np.exp(-time_axis(m) * 30), 1) * decay(m, 0.3) * 1.5
        if k % 4 == 2:
            return band(make_noise(rng, m), 300, 6000) * decay(m, 0.18) + modes(rng, m, 190, [1, 1.6], 0.15)
        return band(make_noise(rng, m), 5000, None) * decay(m, 0.07) * 0.6

    return repeat(rng, n, 1 / rate, 0.01, one)[0], [pace_word(rate, 4.5, 7), "rhythmic"]


@event("cymbal", "a cymbal crashing")
def _cymbal(rng, n):
    def one(rng, k):
        m = samples(1.8)
        return (
            band(make_noise(rng, m), 2500, None) * decay(m, rng.uniform(0.3, 2))
            + modes(rng, m, 700, [1, 2.3, 4.1, 6.7], 0.8) * 0.3
        )

    x, count = few(rng, n, 1, 4, 0.6, one)
    return x, [count_word(count), "shimmering"]


@event("street_music", "street music playing")
def _street_music(rng, n):
    first = EVENTS[rng.choice(["guitar", "reed", "brass", "strings"])].make(rng, n)[0]
    drums = EVENTS["drums"].make(rng, n)[0]
    crowd = EVENTS["crowd"].make(rng, n)[0]
    return sum(unit(x) * g for x, g in ((first, 1), (drums, rng.uniform(0, 0.8)), (crowd, rng.uniform(0.1, 0.5)))), []


@event("whistle", "a person whistling")
def _whistle(rng, n):
    return _notes(
        rng, n, 900, 2000, lambda rng, f, m: tone(f * (1 + 0.01 * slow_curve(rng, m, 6, -1, 1)), 2, 3) * hump(m)
    )
