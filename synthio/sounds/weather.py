"""Weather and water."""

from __future__ import annotations

import numpy as np
from scipy import signal

from synthio.sounds.blocks import (
    SAMPLE_RATE,
    band,
    decay,
    hump,
    log_uniform,
    make_noise,
    pace_word,
    repeat,
    resonate,
    samples,
    slow_curve,
    time_axis,
    tone,
    unit,
)
from synthio.sounds.nature import bursts, make_grains, pareto, smooth_curve, spray, through_formants
from synthio.sounds.registry import EVENTS, event

# What rain falls on: lowest and highest resonance in Hz, how long a drop rings in s, how tonal it is.
_RAIN_SURFACES = {
    "leaves": (1500, 7000, 0.004, 0.3),
    "ground": (700, 6000, 0.006, 0.3),
    "puddle": (900, 4500, 0.016, 0.7),
    "roof": (350, 4500, 0.02, 0.6),
    "canvas": (110, 900, 0.025, 0.6),
}


def _drips(rng, n):
    """Water that runs together and falls as big drops: each traps a bubble whose note rises as it shrinks."""
    base, period = log_uniform(rng, 400, 2500), log_uniform(rng, 0.12, 1.2)

    def one(rng, k):
        m = samples(rng.uniform(0.04, 0.12))
        f = base * rng.lognormal(0, 0.15) * (1 + rng.uniform(0, 4) * time_axis(m))
        click = spray(rng, m, np.array([0]), np.array([0.4]), 0.008, 1000, None)
        return (tone(f, 1) * decay(m, rng.uniform(0.03, 0.12), 0.001) + click) * rng.lognormal(0, 0.4)

    return repeat(rng, n, period, rng.uniform(0.02, 0.4), one)[0]


@event("rain", "rain falling")
def _rain(rng, n):
    low, high, ring_s, tonal = _RAIN_SURFACES[str(rng.choice(list(_RAIN_SURFACES)))]
    density = log_uniform(rng, 40, 1500)
    # The far drops merge into a hiss; whether single ones are heard above it depends on density and on the microphone.
    near_db = rng.uniform(-22, 4) if density > 200 else rng.uniform(-8, 20)
    at = bursts(rng, n, density, rng.uniform(0.1, 0.5), 3)
    levels = pareto(rng, len(at), rng.uniform(1.6, 3), 20)
    drops = tonal * unit(make_grains(rng, n, at, levels, low, high, ring_s, 10))
    drops = drops + (1 - tonal) * unit(spray(rng, n, at, levels, ring_s * 0.7, low, None))
    hiss = band(make_noise(rng, n, rng.uniform(0, 0.9)), log_uniform(rng, 80, 1000), rng.uniform(3500, 7800), 1)
    body = resonate(make_noise(rng, n), [np.sqrt(low * high), low], [high - low, low])
    bed = unit(unit(hiss) + rng.uniform(0, 0.8) * unit(body))
    out = bed * 10 ** (rng.uniform(0, 2.5) * smooth_curve(rng, n, 0.4) / 20) + drops * 10 ** (near_db / 20)
    words = ["light" if density < 200 else "heavy", "pattering" if near_db > 0 else "steady" if near_db < -12 else ""]
    if rng.random() < 0.25:
        out = out + unit(_drips(rng, n)) * rng.uniform(0.15, 0.8)
        words.append("dripping")
    if rng.random() < 0.3:  # wind on the microphone, traffic, or thunder far away
        rumble = unit(make_noise(rng, n, 1.3)) * np.exp(0.6 * smooth_curve(rng, n, 0.7))
        out = out + band(rumble, 25, log_uniform(rng, 120, 400), 1) * rng.uniform(0.1, 1)
    return out, words


def _breakers(rng, n, times, scale):
    """The level of four bands for waves that break at `times`: the low body swells ahead of the crash, the foam
    comes after it and hisses on while it drains, the finest longest, so the centroid rises through each wave."""
    t = np.arange(0, n + 160, 160) / SAMPLE_RATE
    levels = np.zeros((4, len(t)))
    for at in times:
        strength = rng.lognormal(0, 0.35)
        lag, rises, falls = rng.uniform(0.1, 0.6), (1.4, 0.6, 0.35, 0.4), (0.7, 0.8, 1.1, 1.8)
        for k in range(4):
            x = t - at - lag * (0, 0, 0.7, 1.3)[k] * scale
            rise, fall = rises[k] * scale * rng.uniform(0.6, 1.4), falls[k] * scale * rng.uniform(0.6, 1.5)
            drain = np.maximum(x, 0) / fall
            levels[k] += strength * np.where(x < 0, np.exp(-((x / rise) ** 2)), (1 + drain) * np.exp(-1.4 * drain))
    return np.array([np.interp(np.arange(n), np.arange(len(t)) * 160, level) for level in levels])


def _lapping(rng, n):
    """A calm shore, a jetty: small slaps of water and the bubbles they fold in."""

    def slap(rng, k):
        m = samples(rng.uniform(0.3, 1.1))
        wash = band(make_noise(rng, m, 0.4), rng.uniform(150, 400), rng.uniform(1200, 5000), 1)
        at = np.sort(rng.integers(0, m, rng.integers(2, 20)))
        gulp = make_grains(rng, m, at, rng.lognormal(-1, 0.6, len(at)), 250, 1400, 0.06, 4)
        return (unit(wash) * 0.6 + unit(gulp) * rng.uniform(0, 0.7)) * hump(m, 0.3, 0.7) ** 2 * rng.lognormal(0, 0.6)

    out = sum(repeat(rng, n, rng.uniform(0.4, 1.5), 0.5, slap)[0] for _ in range(2))
    bed = unit(band(make_noise(rng, n, 0.5), 150, 5000, 1)) * np.exp(0.3 * smooth_curve(rng, n, 1))
    return out + bed * log_uniform(rng, 0.05, 0.4)


@event("sea_waves", "sea waves washing on a shore")
def _waves(rng, n):
    wind = (
        band(make_noise(rng, n, 1.2), 30, 250, 1) * np.exp(0.7 * smooth_curve(rng, n, 0.8)) * rng.choice([0, 0.1, 0.5])
    )
    if rng.random() < 0.18:
        return unit(_lapping(rng, n)) + 0.3 * wind, ["calm", "lapping"]
    period, scale = log_uniform(rng, 2.5, 11), log_uniform(rng, 0.5, 1.6)
    count = int(n / SAMPLE_RATE / period) + 3
    times = np.cumsum(period * rng.uniform(0.6, 1.4, count)) - period * rng.uniform(1, 2)
    near = _breakers(rng, n, times, scale)
    far = _breakers(rng, n, times + rng.uniform(-2, 2, count), scale * 2)
    calm = rng.uniform(0.02, 0.35)  # surf along the rest of the beach, never silent
    tilt = rng.uniform(0, 1)  # a dull roar from afar, or foam at the microphone's feet
    edges = ((40, 300), (250, 1200), (1000, 3500), (3000, None))
    out, water = np.zeros(n), make_noise(rng, n, 0.4)
    for k, (low, high) in enumerate(edges):
        noise = unit(band(water, low, high, 1))
        out += noise * (near[k] + rng.uniform(0.1, 0.6) * far[k] / (1 + k) + calm) / (1 + tilt * k)
    words = ["slow" if period > 5 else "rolling"]
    if rng.random() < 0.2:  # pebbles roll in the backwash
        at = bursts(rng, n, rng.uniform(60, 400), 0.5, 6)
        rattle = make_grains(rng, n, at, pareto(rng, len(at), 1.8, 15), 1800, 6500, 0.008)
        out = out + unit(rattle) * near[3] * rng.uniform(0.2, 0.7)
        words.append("rattling")
    return out + wind, words


@event("wind", "wind blowing")
def _wind(rng, n):
    gust = np.exp(rng.uniform(0.15, 0.6) * smooth_curve(rng, n, log_uniform(rng, 0.3, 2)))
    # Turbulence on the microphone is low and buffets; leaves hiss in time with it; gaps howl higher as it freshens.
    buffets = unit(band(make_noise(rng, n, rng.uniform(0.7, 1.3)), 30, log_uniform(rng, 200, 1200), 1))
    buffets = buffets * np.exp(rng.uniform(0, 0.6) * smooth_curve(rng, n, 5))
    leaves = unit(band(rng.standard_normal(n), log_uniform(rng, 700, 3000), rng.uniform(4000, 7800), 1))
    share = rng.uniform(0, 0.8) if rng.random() < 0.6 else 0.0
    out = gust * (buffets * (1 - share) + leaves * log_uniform(rng, 0.02, 0.8) * (1 - share))
    if share:
        note = log_uniform(rng, 200, 900) * np.clip(gust, 0.4, 2.5) ** rng.uniform(0.1, 0.4)
        widths = [log_uniform(rng, 40, 200), 150, 300]
        howl = through_formants(
            rng.standard_normal(n), [note, note * rng.uniform(1.4, 2.2), note * 3], widths, [1, 0.5, 0.15], 0
        )
        out = out + unit(howl) * share * gust**1.5
    return out, ["howling" if share > 0.45 else "gusty"]


@event("thunder", "thunder rumbling")
def _thunder(rng, n):
    near, t = rng.random() < 0.4, time_axis(n)
    begin = rng.uniform(0, 0.25) * n / SAMPLE_RATE * (rng.random() < 0.6)
    # The channel is kilometres long: its parts arrive one after the other as claps of their own, ever duller.
    claps, level = rng.integers(3, 14), np.zeros(n)
    for at in np.append(0, rng.exponential(1.2, claps)):
        late = t - begin - at
        level += rng.lognormal(0, 0.6) * np.exp(-at / 3) * np.where(late > 0, np.exp(-late / rng.uniform(0.2, 1.2)), 0)
    level = signal.lfilter([0.002], [1, -0.998], level) + 0.003
    roll = unit(band(make_noise(rng, n, 1.2), 25, log_uniform(rng, 90, 400), 1)) * np.exp(0.4 * smooth_curve(rng, n, 8))
    mid = unit(band(rng.standard_normal(n), 150, log_uniform(rng, 500, 1800), 1)) * level * rng.uniform(0.05, 0.4)
    out = roll * level + mid * level
    if near:
        tears = samples(begin) + np.append(0, rng.integers(0, samples(0.5), rng.integers(1, 12)))
        tears = tears[tears < n] if np.any(tears < n) else np.array([0])
        crack = spray(rng, n, tears, pareto(rng, len(tears), 1.5, 5), rng.uniform(0.15, 0.7), 300, None)
        out = out + unit(crack) * level.max() * rng.uniform(0.3, 1.2)
    if rng.random() < 0.3:
        out = unit(out) + unit(EVENTS["rain"].make(rng, n)[0]) * rng.uniform(0.02, 0.15)
    return out, ["cracking" if near else "distant"]


@event("water_drops", "water dripping")
def _drops(rng, n):
    rate = log_uniform(rng, 0.8, 8)
    base = log_uniform(rng, 500, 2500)

    def one(rng, k):
        m = samples(rng.uniform(0.04, 0.15))
        sweep = base * rng.uniform(0.8, 1.3) * (1 + rng.uniform(0.2, 1.0) * time_axis(m) / 0.1)
        return tone(sweep, 1) * decay(m, rng.uniform(0.05, 0.15)) * rng.uniform(0.4, 1)

    return repeat(rng, n, 1 / rate, 0.3, one)[0], [pace_word(rate, 2, 4)]


@event("stream", "a stream of water running")
def _stream(rng, n):
    rate, low = log_uniform(rng, 30, 900), log_uniform(rng, 250, 800)
    at = bursts(rng, n, rate, rng.uniform(0.2, 0.8), 6)
    at = np.append(at, 0)
    bubbles = make_grains(rng, n, at, pareto(rng, len(at), 1.8, 12), low, low * 6, log_uniform(rng, 0.01, 0.04), 12)
    rush = band(make_noise(rng, n, rng.uniform(0, 0.6)), log_uniform(rng, 150, 900), rng.uniform(3000, 7800), 1)
    rush = unit(rush) * np.exp(0.15 * smooth_curve(rng, n, 3))
    bubbles_db = rng.uniform(-14, 10)
    return rush + unit(bubbles) * 10 ** (bubbles_db / 20), ["bubbling" if bubbles_db > -4 else "rushing"]


@event("pouring_water", "water being poured")
def _pouring(rng, n):
    glug = rng.random() < 0.3
    begin, end = rng.uniform(0, 0.25) * (rng.random() < 0.5), rng.uniform(0.7, 1.3)
    share = np.linspace(0, 1, n)
    on = np.clip((share - begin) * 30, 0, 1) * np.clip((end - share) * 12, 0, 1)
    # The air left in the vessel shortens while it fills, so its resonances rise.
    air = rng.uniform(0.08, 0.3) * (1 - rng.uniform(0.2, 0.85) * share)
    note = 343 / (4 * (air + 0.02))
    flow = on * np.exp(rng.uniform(0.1, 0.5) * smooth_curve(rng, n, 6))
    if glug:  # a bottle takes in its air in gulps
        gulps = np.cumsum(rng.uniform(3, 7) * np.exp(0.2 * smooth_curve(rng, n, 2))) / SAMPLE_RATE
        flow = flow * (0.15 + np.exp(-3 * (gulps % 1)))
    at = np.append(bursts(rng, n, log_uniform(rng, 80, 900), 0.4, 8), 0)
    bubbles = unit(make_grains(rng, n, at, pareto(rng, len(at), 2, 10), 350, 3500, 0.02, 12))
    splash = unit(band(rng.standard_normal(n), log_uniform(rng, 500, 2500), None, 1))
    inside = rng.standard_normal(n) + bubbles * rng.uniform(0.5, 2)
    ring = through_formants(inside, [note, 3 * note, 5 * note], [rng.uniform(60, 250), 250, 400], [1, 0.7, 0.4])
    out = unit(ring) * log_uniform(rng, 0.3, 2) + bubbles * rng.uniform(0.2, 1) + splash * log_uniform(rng, 0.1, 1.2)
    return out * flow + 1e-4 * splash, ["glugging" if glug else "splashing"]


@event("toilet_flush", "a toilet flushing")
def _flush(rng, n):
    envelope = hump(n, 0.1, 0.6)
    gurgle = band(make_noise(rng, n, 0.7), 120, 900) * slow_curve(rng, n, 8, 0.2, 1)
    return envelope * (gurgle + 0.6 * band(make_noise(rng, n), 600, 5000)), ["gurgling"]


@event("fire_crackling", "a fire crackling")
def _fire(rng, n):
    rate = log_uniform(rng, 4, 60)
    # Gas bursts out of wood in volleys and its energy follows a power law: many ticks, few loud pops.
    at = bursts(rng, n, rate, rng.uniform(0.5, 1.6), rng.uniform(2, 12))
    at = np.append(at, rng.integers(0, n))
    levels = pareto(rng, len(at), rng.uniform(1.1, 2), log_uniform(rng, 6, 50))
    low = log_uniform(rng, 350, 2000)
    ticks = make_grains(rng, n, at, levels, low, 7000, log_uniform(rng, 0.003, 0.02))
    loud = levels > np.quantile(levels, 0.7)
    cracks = spray(rng, n, at[loud], levels[loud], log_uniform(rng, 0.008, 0.06), low * 0.6, None)
    fine = bursts(rng, n, rate * log_uniform(rng, 4, 40), 0.8, 3)  # embers and small twigs
    fine = spray(rng, n, fine, pareto(rng, len(fine), 2, 6), 0.004, low, None)
    snap = np.tanh((unit(ticks) + rng.uniform(0.1, 1.2) * unit(cracks)) / 12) * 12
    snap = snap + log_uniform(rng, 0.03, 0.6) * unit(fine)
    # Flames lap at 1 to 10 Hz; the roar of a big fire reaches into the middle of the spectrum.
    roar_db = rng.uniform(-35, 3)
    flicker = np.exp(rng.uniform(0.3, 0.8) * smooth_curve(rng, n, rng.uniform(1, 7)))
    roar = unit(band(make_noise(rng, n, 1.1), 30, log_uniform(rng, 150, 1200), 1) * flicker)
    hiss = unit(band(rng.standard_normal(n), log_uniform(rng, 600, 3500), None, 1))
    hiss = hiss * np.exp(0.5 * smooth_curve(rng, n, 1.5)) * 10 ** (rng.uniform(-40, -6) / 20)
    out = unit(snap) + 10 ** (roar_db / 20) * roar + hiss
    if rng.random() < 0.2:  # sap boils out of a log: a jet of steam that comes and goes
        jet = resonate(make_noise(rng, n), [log_uniform(rng, 1500, 5000)], [log_uniform(rng, 300, 2500)])
        out = out + unit(jet) * np.maximum(0, smooth_curve(rng, n, 0.7)) * rng.uniform(0.03, 0.25)
    return out, ["lively" if rate > 20 else "gentle", "roaring" if roar_db > -3 else ""]
