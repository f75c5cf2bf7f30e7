"""Machines and vehicles."""

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
    place_at,
    repeat,
    resonate,
    samples,
    slow_curve,
    time_axis,
    tone,
    unit,
)
from synthio.sounds.nature import (
    from_afar,
    in_turn,
    make_grains,
    open_air,
    settle,
    smooth_curve,
    spray,
    strokes,
    through_formants,
)
from synthio.sounds.registry import event


def _motor(rng, n, rate_hz, cylinders, wobble, noise_level, formants):
    """Firing pulses with jitter through body resonances, over noise that follows the firing."""
    speed = rate_hz * (1 + wobble * slow_curve(rng, n, 1.5, -1, 1) + 0.01 * slow_curve(rng, n, 20, -1, 1))
    angle = np.cumsum(speed) / SAMPLE_RATE
    strengths = rng.uniform(0.6, 1.0, cylinders)
    fire = np.diff(np.floor(angle), prepend=0) > 0
    pulses = fire * strengths[np.floor(angle).astype(int) % cylinders]
    body = resonate(pulses * 30, formants, [f * 0.25 for f in formants])
    return body + noise_level * make_noise(rng, n, 0.5) * (0.5 + 0.5 * np.exp(-4 * (angle % 1)))


@event("engine", "an engine running")
def _engine(rng, n):
    rate, revving = log_uniform(rng, 20, 120), rng.random() < 0.5
    revs = 1 + 0.015 * smooth_curve(rng, n, 2)
    if revving:
        revs = revs * np.exp(rng.uniform(0.15, 0.4) * smooth_curve(rng, n, rng.uniform(0.3, 0.9)))
    turns = np.cumsum(rate * revs) / SAMPLE_RATE
    # Cylinders differ, so half orders sound between the firing harmonics; the block and the exhaust color them.
    cylinders = rng.integers(1, 9)
    uneven = 1 + rng.uniform(0.05, 0.5) * rng.standard_normal(cylinders)
    pulses = strokes(rng, turns, rng.uniform(0.03, 0.3)) * uneven[turns.astype(int) % cylinders]
    body = [log_uniform(rng, f, 2.2 * f) for f in (60, 180, 500, 1300)]
    gains = np.array([1, 0.8, 0.5, 0.3]) * rng.lognormal(0, 0.5, 4) * (np.array(body) / 100) ** rng.uniform(0, 0.6)
    x = unit(resonate(pulses, body, [f * rng.uniform(0.15, 0.6) for f in body], gains)) * revs
    intake = unit(band(make_noise(rng, n, 0.4), 100, rng.uniform(1500, 6000), 1)) * (0.4 + np.exp(-3 * (turns % 1)))
    x = np.tanh(x * rng.uniform(0.2, 1)) + intake * log_uniform(rng, 0.03, 0.4) * revs**2
    if rng.random() < 0.5:  # tappets and injectors tick on every stroke
        at = np.flatnonzero(pulses > 0.3)
        ticks = spray(rng, n, np.append(at, 0), np.append(pulses[at], 0.1), 0.01, 1500, 6500)
        x = x + unit(ticks) * rng.uniform(0.03, 0.2)
    x = band(x, None, log_uniform(rng, 900, 7000), 1)  # behind a hood, or down the road
    return settle(x), [height_word(rate, 20, 120), "revving" if revving else "steady"]


@event("engine_idling", "an engine idling")
def _idling(rng, n):
    rate = rng.uniform(12, 32)
    x = _motor(rng, n, rate, 4, 0.03, rng.uniform(0.1, 0.4), [rng.uniform(50, 100), rng.uniform(150, 350), 900])
    return x, ["rough" if rate < 20 else "steady"]


def _fly_past(rng, n, nearest: float, speed: float):
    """Distance [n] in m and the Doppler factor [n] of what passes at nearest m; it may come, pass or leave."""
    along = speed * (time_axis(n) - n / SAMPLE_RATE * rng.uniform(-0.3, 1.3))
    distance = np.sqrt(nearest**2 + along**2)
    return distance, 1 / (1 + speed * along / distance / 343)


def _from_the_sky(rng, x, distance):
    """What reaches the ground: level by distance, dull when far, and combed by the reflection from the ground,
    whose delay changes while the source moves."""
    near = distance.min() / distance
    air = from_afar(x, float(distance.min())) * near**1.5 + from_afar(x, 3 * float(distance.max())) * near * (1 - near)
    delay = rng.uniform(1, 9) * SAMPLE_RATE / 1000 * np.clip(rng.uniform(40, 300) / distance, 0.05, 1)
    place = np.arange(len(x))
    return air + rng.uniform(0, 0.6) * np.interp(place - delay, place, air)


def _wave(turns, levels, phases):
    """A periodic wave along turns [n], one period a turn, from the levels and phases of its harmonics."""
    grid = np.arange(1025) / 1024
    harmonics = np.arange(1, len(levels) + 1)
    table = levels @ np.cos(2 * np.pi * harmonics[:, None] * grid + np.reshape(phases, (-1, 1)))
    return np.interp(turns % 1, grid, table)


def _blades(rng, turns, sharp: float):
    """The pressure of blades that pass, at 1 a turn: phase-locked harmonics, a sharp slap or a round thump."""
    k = np.arange(1, 80)
    levels = k ** rng.uniform(0, 1) * np.exp(-k / (2 + 30 * sharp**2)) * (1 - k / 80)
    wave = _wave(turns, levels, rng.uniform(0, 6.28) + rng.normal(0, 0.25, len(k)))
    blade = 1 + rng.uniform(0, 0.25) * rng.standard_normal(rng.integers(2, 6))  # no two blades are alike
    return wave * blade[turns.astype(int) % len(blade)]


@event("helicopter", "a helicopter flying")
def _helicopter(rng, n):
    rate, sharp = log_uniform(rng, 9, 25), rng.uniform(0, 1)
    passing, inside = rng.random() < 0.6, rng.random() < 0.12
    nearest = log_uniform(rng, 25, 1000)
    distance, doppler = _fly_past(rng, n, nearest, rng.uniform(20, 75) if passing else rng.uniform(0, 6))
    turns = np.cumsum(rate * doppler * (1 + 0.004 * smooth_curve(rng, n, 0.6))) / SAMPLE_RATE
    beat = unit(_blades(rng, turns, sharp)) * np.exp(rng.uniform(0.05, 0.35) * smooth_curve(rng, n, 1.5))
    gate = np.exp(rng.uniform(1, 6) * (np.cos(2 * np.pi * (turns + rng.random())) - 1))
    depth = rng.uniform(0.3, 0.95)
    wash = band(make_noise(rng, n, rng.uniform(0, 0.7)), log_uniform(rng, 60, 400), rng.uniform(1500, 7000), 1) * (
        1 - depth + depth * gate
    )
    tail = _wave(turns * rng.uniform(3.6, 6.3) * rng.choice([1, 1, 2]), rng.uniform(0.2, 1, 12), rng.uniform(0, 6, 12))
    out = beat * rng.uniform(0.3, 1) + unit(wash) * log_uniform(rng, 0.3, 3)
    out = out + unit(tail) * log_uniform(rng, 0.02, 0.5)
    for _ in range(rng.integers(0, 4)):  # turbine and gears
        f = log_uniform(rng, 500, 6500) * doppler * (1 + 0.002 * smooth_curve(rng, n, 2))
        out = out + tone(f, 1) * np.exp(0.4 * smooth_curve(rng, n, 3)) * log_uniform(rng, 0.004, 0.15)
    if inside:
        out = band(out, None, rng.uniform(400, 1500), 1) + 0.1 * unit(make_noise(rng, n, 0.8))
    else:
        out = _from_the_sky(rng, out, distance)
    out = band(out, log_uniform(rng, 30, 160), None)  # small microphones do not hear the blade rate itself
    far = "distant" if nearest > 400 and not inside else ""
    return out, [pace_word(rate, 13, 18), "chopping" if sharp > 0.55 and depth > 0.6 else "", far]


def _throttle(rng, n, style: str):
    """How far the trigger of a saw is pulled, 0 to 1 [n]; the engine follows with its inertia."""
    low, high, hold = {"idling": (0, 0.06, 3), "revving": (0, 1, 0.9), "steady": (0.8, 1, 1.6)}[style]
    target, count, up = np.zeros(n), 0, bool(rng.random() < 0.5)
    while count < n:
        m = samples(hold * rng.lognormal(0, 0.6) * (1 if up else 0.8))
        target[count : count + m] = rng.uniform(0.75, 1) * high if up else low + rng.uniform(0, 0.12) * high
        count, up = count + m, not up
    pole = np.exp(-1 / (rng.uniform(0.06, 0.2) * SAMPLE_RATE))
    return signal.lfilter([1 - pole], [1, -pole], target, zi=[pole * target[0]])[0]


def _starter(rng):
    """A pull at the cord: the ratchet and a few compressions that do not catch."""
    m = samples(rng.uniform(0.3, 0.7))
    turns = np.cumsum(rng.uniform(12, 25) * hump(m, 0.3, 0.6)) / SAMPLE_RATE
    puff = resonate(strokes(rng, turns, 0.3) * 40, [120, 400, 1100], [80, 200, 500])
    return puff + 0.3 * band(make_noise(rng, m), 600, 5000) * hump(m, 0.3, 0.5) * (0.4 + (turns * 6 % 1))


@event("chainsaw", "a chainsaw cutting")
def _chainsaw(rng, n):
    style = str(rng.choice(["idling", "revving", "steady"], p=[0.12, 0.43, 0.45]))
    throttle = _throttle(rng, n, style)
    # In the wood the chain takes speed from the engine, and gives it back when the cut ends.
    load = np.clip(0.5 + 0.8 * smooth_curve(rng, n, rng.uniform(0.4, 1.5)), 0, 1) * rng.uniform(0, 1)
    idle, full = rng.uniform(32, 52), rng.uniform(125, 225)
    rate = (idle + (full - idle) * throttle) * (1 - 0.3 * load * throttle) * (1 + 0.012 * smooth_curve(rng, n, 8))
    turns = np.cumsum(rate) / SAMPLE_RATE
    # A two-stroke at idle misses every other fire and is uneven; at full speed it is a hard, dense buzz.
    pulses = strokes(rng, turns, 0.18, np.clip(0.5 - 0.6 * throttle, 0, 1) * rng.uniform(0, 1.2))
    muffler = [log_uniform(rng, 150, 350), log_uniform(rng, 450, 1000), log_uniform(rng, 1200, 2500), 4000]
    gains = rng.uniform(0.3, 1.2, 4) * (np.array(muffler) / 300) ** rng.uniform(0.2, 1)
    buzz = unit(resonate(pulses, muffler, [f * rng.uniform(0.2, 0.6) for f in muffler], gains))
    buzz = buzz + rng.uniform(0, 0.6) * unit(band(pulses, 800, None, 1))
    buzz = np.tanh(buzz * rng.uniform(0.5, 2.5)) * (0.3 + 0.7 * throttle)
    intake = band(make_noise(rng, n, 0.3), 300, 5000, 1) * (0.3 + (turns % 1)) * (0.15 + 0.85 * throttle)
    teeth = 0.7 + 0.3 * np.sin(2 * np.pi * turns * rng.uniform(1.5, 4))
    chain = band(make_noise(rng, n), rng.uniform(1500, 3500), None, 1) * throttle**2 * (0.3 + load) * teeth
    out = buzz + rng.uniform(0.05, 0.4) * intake + log_uniform(rng, 0.1, 1.2) * chain
    if rng.random() < 0.1:
        pulls = [_starter(rng) * rng.uniform(0.05, 0.25) for _ in range(rng.integers(1, 4))]
        gaps = rng.uniform(0.15, 0.8, len(pulls))
        silent = min(n // 2, sum(len(x) for x in pulls) + samples(float(gaps.sum())))
        out = place_at(n, [silent], [out]) + in_turn(rng, n, pulls, gaps, 0.0)[0]
    if rng.random() < 0.55:
        out = open_air(rng, from_afar(out, log_uniform(rng, 20, 800)))
    return settle(out), [style, "buzzing" if style != "idling" else ""]


@event("drilling", "a drill drilling")
def _drilling(rng, n):
    rate = rng.uniform(120, 400)
    strain = 1 - 0.15 * slow_curve(rng, n, 1, 0, 1)
    whine = tone(rate * strain, 20, 0.6)
    rattle = band(make_noise(rng, n), 1000, 7000) * (
        0.5 + 0.5 * np.sin(2 * np.pi * np.cumsum(rate / 8 * strain) / SAMPLE_RATE)
    )
    return whine * 0.6 + rattle * rng.uniform(0.3, 1), [height_word(rate, 120, 400), "grinding"]


@event("jackhammer", "a jackhammer hammering")
def _jackhammer(rng, n):
    rate = rng.uniform(12, 30)

    def one(rng, k):
        m = samples(0.06)
        body = modes(rng, m, rng.uniform(120, 200), [1, 2.3, 5.1, 9.7], 0.06, 0.05)
        return body + 0.8 * band(make_noise(rng, m), 500, 7000) * decay(m, 0.05)

    return repeat(rng, n, 1 / rate, 0.03, one)[0] + 0.1 * make_noise(rng, n, 0.4), [pace_word(rate, 16, 24), "pounding"]


@event("air_conditioner", "an air conditioner humming")
def _air_conditioner(rng, n):
    mains = rng.choice([50, 60]) * rng.choice([1, 2])
    hum = tone(np.full(n, float(mains)), 8, rng.uniform(0.6, 1.5)) * rng.uniform(0.05, 0.5)
    rattle = slow_curve(rng, n, 0.5, 0.8, 1)
    return rattle * (make_noise(rng, n, rng.uniform(0.4, 0.9)) * 0.5 + hum), ["steady"]


@event("vacuum_cleaner", "a vacuum cleaner running")
def _vacuum(rng, n):
    spin = 1 + 0.004 * smooth_curve(rng, n, 3)
    stroke = smooth_curve(rng, n, rng.uniform(0.4, 1.2)) * rng.uniform(0, 1)  # over carpet and bare floor
    if rng.random() < 0.2:  # it is switched on, or off
        at = rng.uniform(0.1, 0.7) * n / SAMPLE_RATE
        edge = 1 / (1 + np.exp(-(time_axis(n) - at) / 0.15))
        spin = spin * np.clip(edge if rng.random() < 0.5 else 1 - edge, 0.01, 1)
    turns = np.cumsum(log_uniform(rng, 170, 480) * spin * (1 - 0.02 * stroke)) / SAMPLE_RATE
    count = int(rng.integers(4, 16))
    levels = rng.uniform(0.1, 1, count) / np.arange(1, count + 1) ** rng.uniform(0, 1)
    whine = unit(_wave(turns, levels, rng.uniform(0, 6.28, count)))
    nozzle = np.array([log_uniform(rng, 250, 600), log_uniform(rng, 700, 1800), log_uniform(rng, 2000, 5000)])
    nozzle = nozzle[:, None] * (1 + 0.12 * stroke)
    air = rng.standard_normal(n)
    air = unit(through_formants(air, nozzle, [300, 600, 1500], rng.uniform(0.3, 1, 3), rng.uniform(0.05, 0.4)))
    return spin**2 * (air + whine * log_uniform(rng, 0.1, 1.2)) + 1e-4 * air, ["loud"]


@event("washing_machine", "a washing machine turning")
def _washer(rng, n):
    turn = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.6, 1.5) * time_axis(n))
    slosh = band(make_noise(rng, n, 0.6), 150, 1500) * turn
    return slosh + tone(np.full(n, rng.uniform(45, 110)), 10, 0.9) * 0.3, ["sloshing"]


@event("train", "a train passing on rails")
def _train(rng, n):
    rate = rng.uniform(1.2, 3.5)
    axles, body = rng.uniform(0.07, 0.16), [log_uniform(rng, 120, 300), log_uniform(rng, 400, 900), 1800]

    def one(rng, k):
        """A bogie over a rail joint: two axles, each a knock with the ring of rail and wagon."""
        m = samples(0.4)
        at = np.array([0, samples(axles)])
        knock = spray(rng, m, at, rng.uniform(0.6, 1, 2), 0.09, 150, 5000)
        return (knock + resonate(knock, body, [60, 120, 300])) * rng.lognormal(0, 0.2)

    clack = unit(repeat(rng, n, 1 / rate, 0.05, one)[0])
    distance, _ = _fly_past(rng, n, log_uniform(rng, 5, 60), rng.uniform(8, 30))
    near = (distance.min() / distance) ** rng.uniform(0.2, 1)
    rumble = unit(band(make_noise(rng, n, rng.uniform(0.5, 1)), 30, log_uniform(rng, 400, 3000), 1))
    hiss = unit(band(rng.standard_normal(n), 800, 6000, 1)) * np.exp(0.2 * smooth_curve(rng, n, 4))
    out = clack * log_uniform(rng, 0.15, 1.5) + rumble + hiss * log_uniform(rng, 0.05, 0.7)
    if rng.random() < 0.25:  # flanges squeal in a curve
        f = log_uniform(rng, 1500, 5500) * (1 + 0.01 * smooth_curve(rng, n, 3))
        out = out + tone(f, 2, 1) * np.maximum(0, smooth_curve(rng, n, 1.5)) * rng.uniform(0.03, 0.4)
    return out * near, [pace_word(rate, 1.8, 2.8), "rumbling"]


@event("airplane", "an airplane flying over")
def _airplane(rng, n):
    propeller, nearest = rng.random() < 0.4, log_uniform(rng, 60, 2500)
    distance, doppler = _fly_past(rng, n, nearest, rng.uniform(40, 110) if nearest > 150 else rng.uniform(40, 70))
    turns = np.cumsum(log_uniform(rng, 55, 130) * doppler * (1 + 0.003 * smooth_curve(rng, n, 1))) / SAMPLE_RATE
    roar = unit(band(make_noise(rng, n, rng.uniform(0.3, 0.9)), 40, log_uniform(rng, 800, 6000), 1))
    roar = roar * np.exp(0.15 * smooth_curve(rng, n, 3))
    if propeller:  # blade and firing harmonics, with the slow beat of two engines now and then
        count = int(rng.integers(8, 30))
        levels = rng.uniform(0.3, 1, count) / np.arange(1, count + 1) ** rng.uniform(0.3, 1.2)
        drone = _wave(turns, levels, rng.uniform(0, 6.28, count))
        if rng.random() < 0.4:
            drone = drone + _wave(turns * (1 + rng.uniform(0.002, 0.02)), levels, rng.uniform(0, 6.28, count))
        out = unit(drone) + roar * log_uniform(rng, 0.1, 0.8)
    else:
        fan = tone(log_uniform(rng, 700, 3500) * doppler, 2, 1) * np.exp(0.3 * smooth_curve(rng, n, 4))
        out = roar + unit(fan) * log_uniform(rng, 0.01, 0.4)
    out = _from_the_sky(rng, out, distance)
    return out, ["droning" if propeller else "roaring", "distant" if nearest > 900 else ""]


@event("car_horn", "a car horn honking")
def _car_horn(rng, n):
    f = rng.uniform(280, 520)

    def one(rng, k):
        m = samples(rng.uniform(0.15, 1.2))
        both = tone(np.full(m, f), 16, 0.5) + tone(np.full(m, f * rng.choice([1.19, 1.26, 1.33])), 16, 0.5)
        return np.tanh(both) * hump(m, 0.03, 0.08)

    x, count = few(rng, n, 1, 4, 0.6, one)
    return x, [count_word(count), height_word(f, 280, 520)]


@event("siren", "a siren wailing")
def _siren(rng, n):
    low = rng.uniform(400, 800)
    high = low * rng.uniform(1.3, 2.4)
    rate = log_uniform(rng, 0.2, 5)
    phase = rate * time_axis(n) + rng.random()
    shape = rng.integers(3)
    curve = [0.5 + 0.5 * np.sin(2 * np.pi * phase), (phase % 1 > 0.5) * 1.0, np.minimum(phase % 1, 0.7) / 0.7][shape]
    curve = signal.lfilter([0.01], [1, -0.99], curve)
    x = tone(low + (high - low) * curve, 10, rng.uniform(0.6, 1.5))
    return x, [["wailing", "two-tone", "rising"][shape], pace_word(rate, 0.6, 2)]


@event("alarm_clock", "an alarm clock beeping")
def _alarm(rng, n):
    f, rate = rng.uniform(800, 3200), rng.uniform(1.5, 9)
    gate = signal.square(2 * np.pi * rate * time_axis(n), rng.uniform(0.3, 0.6)) > 0
    group = 1.0 if rng.random() < 0.5 else signal.square(2 * np.pi * time_axis(n) * rate / 6, 0.6) > 0
    return np.tanh(2 * tone(np.full(n, f), 6, 0.8)) * gate * group, [height_word(f, 800, 3200), pace_word(rate, 3, 6)]


@event("phone_ring", "a telephone ringing")
def _phone(rng, n):
    rate, f = rng.uniform(14, 28), rng.uniform(700, 2000)
    strikes = signal.square(2 * np.pi * rate * time_axis(n)) * 0.5 + 0.5
    on = (time_axis(n) + rng.uniform(0, 1)) % rng.uniform(1.5, 3) < rng.uniform(0.6, 1.2)
    bell = tone(np.full(n, f), 1) + 0.6 * tone(np.full(n, f * 2.76), 1) + 0.4 * tone(np.full(n, f * 1.5), 1)
    return bell * (0.3 + 0.7 * strikes) * signal.lfilter([0.002], [1, -0.998], on.astype(float)), [
        height_word(f, 700, 2000)
    ]


@event("keyboard_typing", "typing on a keyboard")
def _typing(rng, n):
    rate = rng.uniform(3, 11)
    f = rng.uniform(1200, 3000)

    def one(rng, k):
        m = samples(0.05)
        return (band(make_noise(rng, m), f * 0.5, f * 2.5) * decay(m, 0.03)) * rng.uniform(0.3, 1)

    return repeat(rng, n, 1 / rate, 0.5, one)[0], [pace_word(rate, 5, 8), "clicking"]


@event("mouse_click", "a mouse clicking")
def _mouse(rng, n):
    def one(rng, k):
        m = samples(0.12)
        press = band(make_noise(rng, m), 2000, 7000) * decay(m, 0.012)
        return press + 0.6 * np.roll(press, samples(rng.uniform(0.05, 0.1)))

    x, count = few(rng, n, 1, 5, 0.3, one)
    return x, [count_word(count)]


# Kinds of clock: ticks a second, lowest and highest resonance of the case in Hz, how long it rings in s.
_CLOCKS: dict[str, tuple[tuple[float, ...], float, float, float]] = {
    "quartz": ((1.0,), 900, 4000, 0.03),
    "pendulum": ((1.0, 1.0, 1.25, 1.5), 180, 2500, 0.12),
    "mantel": ((2.0, 2.5), 500, 4000, 0.06),
    "alarm": ((4.0, 4.0, 3.33, 5.0), 1200, 6500, 0.05),
    "watch": ((5.0, 5.5, 6.0, 8.0), 2500, 7400, 0.015),
}


def _escapement(rng, low, high, ring_s):
    """One side of an escapement: the fork is unlocked, struck and locked again, two to five impacts within some
    milliseconds, in a case with resonances of its own."""
    m = samples(0.04 + 2 * ring_s)
    hits = rng.integers(2, 6)
    at = np.append(0, np.cumsum(rng.uniform(0.001, 0.009, hits - 1)) * SAMPLE_RATE).astype(int)
    levels = rng.uniform(0.15, 1, hits) * rng.choice([-1, 1], hits)
    tick = np.zeros(m)
    for _ in range(12):  # each impact excites every mode of the case, in shares of its own
        shares = levels * rng.uniform(0.2, 1, hits) * rng.lognormal(0, 0.6)
        tick += make_grains(rng, m, at, shares, low * 0.7, high, ring_s, 1)
    body = make_grains(rng, m, at, levels, low * 0.4, low, ring_s * 1.5, 1)
    click = spray(rng, m, at, np.abs(levels), log_uniform(rng, 0.003, 0.012), low, None)
    return unit(tick) + rng.uniform(0, 0.7) * unit(body) + rng.uniform(0.2, 1.5) * unit(click)


@event("clock_tick", "a clock ticking")
def _clock(rng, n):
    rates, low, high, ring_s = _CLOCKS[str(rng.choice(list(_CLOCKS)))]
    rate = rng.choice(rates) * rng.uniform(0.98, 1.02)
    tune = log_uniform(rng, 0.7, 1.4)
    low, high, ring_s = low * tune, min(high * tune, 7500), ring_s * log_uniform(rng, 0.5, 2)
    tick, tock = _escapement(rng, low, high, ring_s), _escapement(rng, low, high, ring_s)
    if rate < 1.3 or rng.random() < 0.4:  # both sides sound alike: a quartz step, or a close pair of pallets
        tock = tick
    limp = rng.uniform(-0.06, 0.06) if rate > 1.9 else 0.0  # a clock that is not set level
    weak, spread = rng.uniform(0.5, 1.1), rng.uniform(0.02, 0.12)
    count = int(n / SAMPLE_RATE * rate) + 1
    k = np.arange(count)
    starts = ((k + limp * (k % 2)) / rate + rng.normal(0, 0.0006, count)) * SAMPLE_RATE
    starts = np.maximum(starts + rng.uniform(0, min(SAMPLE_RATE / rate, max(n - 800, 1))), 0)
    levels = (1 + spread * rng.standard_normal(count)) * np.where(k % 2, weak, 1)
    out = place_at(n, starts, [(tock if i % 2 else tick) * levels[i] for i in k])
    grain = band(make_noise(rng, n), low, None, 1) * 10 ** (rng.uniform(-70, -38) / 20)  # wheels, a motor, the room
    center = np.sqrt(low * high)
    return unit(out) + grain, [pace_word(rate, 1.5, 3), height_word(center, 500, 4500)]
