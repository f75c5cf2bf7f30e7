"""Objects, doors, people's actions."""

from __future__ import annotations

import numpy as np

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
    place_at,
    repeat,
    resonate,
    samples,
    slow_curve,
    time_axis,
    unit,
)
from synthio.sounds.nature import make_grains, pareto, settle, spray
from synthio.sounds.registry import event


@event("footsteps", "footsteps walking")
def _footsteps(rng, n):
    rate = rng.uniform(1.2, 3.6)
    ground = str(rng.choice(["floor", "pavement", "gravel", "snow", "leaves"], p=[0.35, 0.2, 0.2, 0.1, 0.15]))
    loose = ground in ("gravel", "snow", "leaves")
    thud_hz, ring, hollow = log_uniform(rng, 55, 200), rng.uniform(0.04, 0.16), rng.uniform(0, 1)
    heel_hz, heel = log_uniform(rng, 500, 3500), log_uniform(rng, 0.15, 2.5)
    low, high, t60, grains = {"gravel": (900, 6000, 0.006, 60), "snow": (500, 4000, 0.004, 300)}.get(
        ground, (1800, 7000, 0.004, 90)
    )
    limp = rng.uniform(0, 0.12)

    def one(rng, k):
        """Heel, then sole: two contacts; loose ground gives way while the weight rolls over it."""
        m, roll = samples(0.35), rng.uniform(0.05, 0.14) * 2 / rate
        at, levels = np.array([0, samples(roll)]), np.array([1, rng.uniform(0.1, 0.7)])
        thud = make_grains(rng, m, at, levels, thud_hz * 0.9, thud_hz * 1.1, ring, 1)
        thud = thud + hollow * make_grains(rng, m, at, levels, thud_hz * 2, thud_hz * 5, ring * 0.7, 2)
        step = unit(thud) * rng.uniform(0.6, 1)
        if loose:
            when = np.minimum(rng.beta(1.5, 3, rng.poisson(grains) + 1) * samples(0.3), m - 1).astype(int)
            sizes = pareto(rng, len(when), 2, 10)
            crunch = make_grains(rng, m, when, sizes, low, high, t60, 4) + spray(rng, m, when, sizes, t60, low, None)
            step = 0.3 * heel * step + unit(crunch)
        else:
            click = spray(rng, m, at, levels, rng.uniform(0.01, 0.03), heel_hz * 0.5, heel_hz * 2)
            scrape = band(rng.standard_normal(m), 800, 5000, 1) * hump(m, 0.2, 0.7) ** 2 * rng.lognormal(-3, 0.8)
            step = step + heel * unit(click) + scrape
        return step * rng.lognormal(0, 0.2) * (1 - limp * (k % 2))

    return settle(repeat(rng, n, 1 / rate, 0.05, one)[0]), [pace_word(rate, 1.7, 2.6), "crunching" if loose else ""]


@event("knocking", "knocking on a door")
def _knocking(rng, n):
    f, rate = rng.uniform(110, 420), rng.uniform(3, 8)
    per_group = int(rng.integers(2, 7))

    def one(rng, k):
        m = samples(0.2)
        body = modes(rng, m, f, [1, 1.6, 2.4, 3.9], rng.uniform(0.05, 0.14), 0.01)
        return (body + 0.3 * band(make_noise(rng, m), 300, 3000) * decay(m, 0.02)) * rng.uniform(0.7, 1)

    def group(rng, k):
        m = samples(per_group / rate + 0.2)
        return repeat(rng, m, 1 / rate, 0.05, one, first_s=0.0)[0]

    x, _ = few(rng, n, 1, 3, per_group / rate + 0.5, group)
    return x, [height_word(f, 110, 420), pace_word(rate, 4, 6), "hollow"]


@event("door_slam", "a door slamming")
def _door(rng, n):
    m = min(n, samples(1.0))
    slam = modes(rng, m, rng.uniform(50, 110), [1, 1.8, 2.7, 4.4], 0.35, 0.02) + make_noise(rng, m, 0.4) * decay(
        m, 0.15
    )
    return place_at(n, [rng.uniform(0, max(1, n - m))], [slam]), ["heavy"]


@event("glass_breaking", "glass breaking")
def _glass(rng, n):
    m = min(n, samples(rng.uniform(0.6, 1.2)))
    pieces = rng.integers(12, 30)
    starts = rng.exponential(m / 5, pieces)
    sounds = [
        modes(rng, samples(0.2), log_uniform(rng, 2000, 6000), [1, 1.31, 1.73], 0.12) * 0.3 for _ in range(pieces)
    ]
    crash = place_at(m, starts, sounds) + band(make_noise(rng, m), 1500, None) * decay(m, 0.2)
    return place_at(n, [rng.uniform(0, max(1, n - m) * 0.6)], [crash]), ["sharp"]


@event("gun_shot", "a gun shot")
def _gun(rng, n):
    tail = rng.uniform(0.2, 1.2)

    def one(rng, k):
        m = samples(tail + 0.1)
        blast = np.tanh(3 * make_noise(rng, m) * decay(m, 0.05, 0.0005))
        return blast + band(make_noise(rng, m, 0.6), 60, 1800) * decay(m, tail, 0.001) * 0.7

    x, count = few(rng, n, 1, 4, 0.35, one)
    return x, [count_word(count), "echoing" if tail > 0.7 else "dry"]


@event("fireworks", "fireworks exploding")
def _fireworks(rng, n):
    def one(rng, k):
        m = samples(1.2)
        boom = band(make_noise(rng, m, 0.9), 40, 600) * decay(m, 0.7, 0.002) * 1.4
        crackle = (rng.random(m) < 0.004) * rng.normal(0, 4, m) * hump(m, 0.4, 0.5)
        return boom + band(crackle, 1500, None)

    x, count = few(rng, n, 1, 4, 0.8, one)
    return x, [count_word(count)]


@event("clapping", "people clapping")
def _clapping(rng, n):
    people = int(log_uniform(rng, 1, 40))
    out = np.zeros(n)
    for _ in range(min(people, 12)):
        f, rate = rng.uniform(700, 2000), rng.uniform(2.5, 4.5)

        def one(rng, k, f=f):
            m = samples(0.06)
            return band(make_noise(rng, m), f * 0.7, f * 2) * decay(m, 0.05) * rng.uniform(0.5, 1)

        out += repeat(rng, n, 1 / rate, 0.12, one)[0]
    if people > 12:
        out = out + 0.5 * band(make_noise(rng, n), 600, 5000) * slow_curve(rng, n, 20, 0.5, 1)
    return out, ["applause" if people > 12 else "a few"]


@event("can_opening", "a can being opened")
def _can(rng, n):
    m = min(n, samples(0.7))
    click = modes(rng, m, rng.uniform(1500, 3000), [1, 1.5, 2.2], 0.08) * 0.8
    fizz = band(make_noise(rng, m), 3000, None) * hump(m, 0.05, 0.8)
    return place_at(n, [rng.uniform(0, max(1, n - m) * 0.5)], [click + np.roll(fizz, samples(0.04)) * 0.6]), ["fizzing"]


@event("hand_saw", "sawing wood by hand")
def _saw(rng, n):
    rate = rng.uniform(1.2, 3)
    stroke = np.abs(np.sin(np.pi * rate * time_axis(n)))
    teeth = 0.5 + 0.5 * np.sin(2 * np.pi * np.cumsum(rng.uniform(60, 150) * stroke) / SAMPLE_RATE)
    return resonate(make_noise(rng, n) * teeth, [700, 1800, 3500], [300, 500, 900]) * stroke, [
        pace_word(rate, 1.6, 2.4),
        "rasping",
    ]
