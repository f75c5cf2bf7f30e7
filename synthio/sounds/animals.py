"""Animals."""

from __future__ import annotations

import numpy as np
from scipy import signal

from synthio.sounds.blocks import (
    count_word,
    few,
    glottis,
    height_word,
    hump,
    log_uniform,
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
    contour,
    cords,
    from_afar,
    in_turn,
    individual,
    open_air,
    settle,
    smooth_curve,
    through_formants,
)
from synthio.sounds.registry import EVENTS, event


def _bark(rng, pitch, length_s, bend, hoarse, air, size, throat, corner_hz):
    """A jaw that snaps open and shut: pitch and resonances leap up and fall within a tenth of a second or two."""
    m = samples(length_s * rng.lognormal(0, 0.12))
    top = rng.uniform(0.15, 0.45)
    arch = contour(m, (0, top, 1), (rng.uniform(0.6, 0.9), 1.15, rng.uniform(0.45, 0.8)))
    f = pitch * rng.lognormal(0, 0.06) * arch**bend
    source = cords(rng, f, air, hoarse * rng.uniform(0.5, 1), 0.5 * hoarse, corner_hz)
    jaw = contour(m, (0, top, 1), (0.7, 1.1, 0.65))
    centers = [620 * size * jaw, 1250 * size * jaw**0.5, 2500 * size, 4000 * size**0.5]
    voice = through_formants(source, centers, *throat)
    return np.tanh(unit(voice) * rng.uniform(0.4, 1.3)) * hump(m, rng.uniform(0.04, 0.15), rng.uniform(0.4, 0.8))


def _growl(rng, pitch, length_s):
    """Slow, uneven pulses of the cords under the next bark."""
    m = samples(length_s)
    f = np.clip(pitch * 0.25, 35, 110) * (1 + 0.1 * smooth_curve(rng, m, 4))
    source = cords(rng, f, 0.6, 0.7, 0.4)
    return unit(through_formants(source, [400, 900, 2000], [200, 300, 500], [1, 0.6, 0.3])) * hump(m, 0.4, 0.2)


@event("dog_bark", "a dog barking")
def _dog(rng, n):
    pitch = log_uniform(rng, 130, 1000)
    length = log_uniform(rng, 0.06, 0.28) * (400 / pitch) ** 0.25
    # From the clear yap of one gaping throat to the noisy, doubled bark of a hoarse one.
    voice = {
        "bend": rng.uniform(0.15, 1.1),
        "hoarse": rng.uniform(0, 1) ** 3,
        "air": log_uniform(rng, 0.01, 1),
        "size": (pitch / 400) ** 0.4 * rng.lognormal(0, 0.15),
        "throat": individual(rng, [200, 300, 500, 800], [1, 0.7, 0.25, 0.08]),
        "corner_hz": log_uniform(rng, 60, 600),
    }
    per_group, pause = rng.integers(1, 6), log_uniform(rng, 0.3, 2.5)
    within = log_uniform(rng, 0.06, 0.5)  # between the barks of one group
    count, total = int(rng.integers(1, 13)), 0
    sounds: list[np.ndarray] = []
    gaps: list[float] = []
    while len(sounds) < count and total < n:
        sounds.append(_bark(rng, pitch, length, **voice) * rng.lognormal(0, 0.2))
        ends = len(sounds) % per_group == 0
        gaps.append((pause if ends else within) * rng.lognormal(0, 0.25))
        total += len(sounds[-1]) + samples(gaps[-1])
    gaps[-1] = 0.0
    out, count = in_turn(rng, n, sounds, gaps)
    if rng.random() < 0.15:
        growl = _growl(rng, pitch, rng.uniform(0.3, 1.5)) * rng.uniform(0.03, 0.3)
        out = out + place_at(n, [rng.uniform(0, n * 0.7)], [growl])
    if rng.random() < 0.5:
        out = open_air(rng, from_afar(out, log_uniform(rng, 20, 400)))
    return settle(out), [count_word(count), height_word(pitch, 160, 800)]


@event("cat_meow", "a cat meowing")
def _cat(rng, n):
    pitch = log_uniform(rng, 330, 1000)  # up to kittens
    length, hoarse, size = log_uniform(rng, 0.25, 1.3), rng.uniform(0, 1) ** 2, (pitch / 550) ** 0.3
    throat = individual(rng, [250, 350, 600, 900], [1, 0.8, 0.5, 0.2])

    def one():
        """The mouth opens from "m" through "ee" to "a" and closes to "ow": the resonances follow."""
        m = samples(length * rng.lognormal(0, 0.15))
        top = rng.uniform(0.25, 0.6)
        f = (
            contour(m, (0, top, 1), (rng.uniform(0.65, 0.95), 1.12, rng.uniform(0.6, 0.95)))
            * pitch
            * rng.lognormal(0, 0.05)
        )
        f = f * (
            1
            + rng.uniform(0, 0.02) * np.sin(2 * np.pi * rng.uniform(5, 9) * time_axis(m))
            + 0.01 * smooth_curve(rng, m, 8)
        )
        strain = np.clip(hoarse * (0.5 + 0.6 * smooth_curve(rng, m, 3)), 0, 1)
        source = cords(rng, f, rng.uniform(0.03, 0.2), strain, 0.5 * strain, rng.uniform(200, 800))
        first = contour(m, (0, 0.25, 0.6, 1), (450, 900, 1150, 650)) * size
        second = contour(m, (0, 0.25, 0.6, 1), (2300, 2500, 1900, 1300)) * size
        voice = through_formants(source, [first, second, 3800 * size, 5500], *throat)
        return unit(voice) * hump(m, rng.uniform(0.1, 0.35), rng.uniform(0.25, 0.5)) * rng.lognormal(0, 0.15)

    sounds = [one() for _ in range(rng.choice([1, 2, 3, 4], p=[0.45, 0.3, 0.15, 0.1]))]
    gaps = [log_uniform(rng, 0.15, 1.5) for _ in sounds]
    gaps[-1] = 0.0
    x, count = in_turn(rng, n, sounds, gaps)
    return x, [count_word(count), height_word(pitch, 330, 1000)]


# The parts of a crow, "cock-a-doodle-doo": length in s, gap after, pitch at the start, its peak and the end.
_CROW_PARTS = (
    (0.2, 0.04, 0.6, 0.8, 0.72),
    (0.13, 0.02, 0.75, 0.9, 0.85),
    (0.28, 0.02, 0.85, 1.0, 0.95),
    (0.95, 0.0, 0.9, 1.08, 0.65),
)


def _crow_call(rng, pitch, pace, hoarse, parts, throat):
    """A crow of a rooster: beak and windpipe open with each part, and the last, longest one sinks and roughens."""
    lengths = [max(0.05, part[0] * pace * rng.lognormal(0, 0.12)) for part in parts]
    gaps = [part[1] * rng.lognormal(0, 0.6) for part in parts]
    pitches: list[np.ndarray] = []
    levels: list[np.ndarray] = []
    openings: list[np.ndarray] = []
    for part, length, gap in zip(parts, lengths, gaps, strict=True):
        m, last = samples(length), part is parts[-1]
        start, peak, end = np.array(part[2:]) * rng.lognormal(0, 0.02, 3)
        hold = (0, 0.2, 0.6, 1) if last else (0, 0.45, 0.7, 1)
        pitches.append(contour(m, hold, (start, peak, 0.95 * peak if last else peak, end)))
        levels.append(hump(m, 0.08 if last else 0.2, 0.25) * (1 if last else rng.uniform(0.4, 0.95)))
        openings.append(contour(m, (0, 0.3, 0.8, 1), (0.8, 1.05, 1.0, 0.8)))
        k = samples(gap)
        pitches.append(np.full(k, pitches[-1][-1]))
        levels.append(np.full(k, 0.03))
        openings.append(np.full(k, 0.8))
    f, level, open_ = np.concatenate(pitches) * pitch, np.concatenate(levels), np.concatenate(openings)
    m = len(f)
    strain = np.clip(
        hoarse * contour(m, (0, 0.5, 0.75, 1), (0.4, 0.3, 0.5, 1.2)) * (1 + 0.5 * smooth_curve(rng, m, 4)), 0, 1
    )
    source = cords(
        rng,
        f * (1 + 0.006 * smooth_curve(rng, m, 12)),
        log_uniform(rng, 0.01, 0.1) + 0.25 * hoarse,
        strain,
        0.6 * strain,
        1200,
    )
    size = (pitch / 700) ** 0.4
    centers = [950 * size * open_, 2100 * size * open_**0.7, 3500 * size, 5200 * size]
    voice = through_formants(source, centers, *throat)
    return np.tanh(unit(voice) * rng.uniform(0.4, 1.2)) * level


@event("rooster", "a rooster crowing")
def _rooster(rng, n):
    pitch = log_uniform(rng, 420, 1050)  # from heavy breeds to bantams
    pace, hoarse = log_uniform(rng, 0.65, 1.35), rng.uniform(0, 1) ** 1.7
    parts = [_CROW_PARTS, _CROW_PARTS, _CROW_PARTS[:1] + _CROW_PARTS[2:], _CROW_PARTS[2:]][rng.integers(4)]
    metres, throat = log_uniform(rng, 20, 400), individual(rng, [450, 500, 700, 900], [1, 0.85, 0.5, 0.2])
    wanted = int(rng.choice([1, 2, 3], p=[0.65, 0.27, 0.08]))
    calls = [_crow_call(rng, pitch * rng.lognormal(0, 0.03), pace, hoarse, parts, throat) for _ in range(wanted)]
    gaps = list(rng.uniform(0.5, 2.5, wanted))
    while len(calls) > 1 and sum(map(len, calls)) + samples(sum(gaps)) > n:
        calls, gaps = calls[:-1], gaps[:-1]
    gaps[-1] = 0.0
    out = from_afar(in_turn(rng, n, calls, gaps)[0], metres)
    count = count_word(len(calls))
    if rng.random() < 0.15:  # a neighbour answers from far, and is not counted
        count = ""
        answer = from_afar(_crow_call(rng, pitch * rng.uniform(0.8, 1.25), 1.0, 0.1, _CROW_PARTS, throat), 500)
        out = out + place_at(n, [rng.uniform(0, 0.8 * n)], [answer * rng.uniform(0.03, 0.15)])
    if rng.random() < 0.15:  # its hens
        out = out + unit(EVENTS["hen"].make(rng, n)[0]) * rng.uniform(0.01, 0.06)
    if rng.random() < 0.6:
        out = open_air(rng, out)
    return settle(out), [count, height_word(pitch, 420, 1050), "distant" if metres > 200 else ""]


@event("hen", "a hen clucking")
def _hen(rng, n):
    pitch, hoarse, cackling = log_uniform(rng, 280, 700), rng.uniform(0.1, 0.8), rng.random() < 0.4
    size, period = (pitch / 450) ** 0.3, log_uniform(rng, 0.18, 0.7)
    first, cries = rng.integers(5), []

    def one(rng, k):
        """Clucks, and in a cackle every few of them a long rising cry."""
        long = cackling and k % 5 == first
        cries.append(long)
        m = samples(rng.uniform(0.25, 0.6) if long else rng.uniform(0.04, 0.13))
        bend = (0.8, 1.5, 1.1) if long else (1, 1.1, 0.75)
        f = pitch * rng.lognormal(0, 0.08) * contour(m, (0, 0.4, 1), bend)
        source = cords(rng, f, 0.3, hoarse * rng.uniform(0.5, 1), 0.4 * hoarse, 600)
        beak = contour(m, (0, 0.4, 1), (0.8, 1.1, 0.85)) * size
        voice = through_formants(
            source, [950 * beak, 1900 * beak, 3300 * size, 5000], [250, 350, 500, 800], [1, 0.7, 0.4, 0.15]
        )
        return unit(voice) * hump(m, 0.12, 0.6) * rng.lognormal(0, 0.35) * (1.5 if long else 1)

    x = repeat(rng, n, period, 0.4, one)[0]
    if rng.random() < 0.4:
        x = open_air(rng, x)
    return x, ["cackling" if any(cries) else "clucking"]


@event("cow", "a cow mooing")
def _cow(rng, n):
    deep = rng.random() < 0.65
    pitch = log_uniform(rng, 65, 150) if deep else log_uniform(rng, 180, 420)  # calves, and cows that call far
    hoarse = rng.uniform(0, 1) ** 1.5

    def one():
        """Begins in the nose with a closed mouth, then opens: the second half is brighter and strained."""
        m = samples(rng.uniform(0.8, 2.4))
        opens = rng.uniform(0.2, 0.6)
        f = pitch * contour(m, (0, opens, 0.8, 1), (0.75, 0.95, 1.1, 0.8)) * (1 + 0.012 * smooth_curve(rng, m, 6))
        strain = np.clip(hoarse * contour(m, (0, opens, 1), (0.1, 0.5, 1)), 0, 1)
        source = cords(rng, f, 0.08 + 0.15 * hoarse, strain, 0.6 * strain, rng.uniform(150, 500))
        mouth = contour(m, (0, opens, 0.85, 1), (0.55, 1, 1, 0.7))
        centers = [480 * mouth, 1100 * mouth, 2100, 3300]
        voice = through_formants(source, centers, [130, 220, 350, 500], [1, 0.5, 0.3, 0.15], 0.01)
        return np.tanh(unit(voice) * rng.uniform(0.4, 1)) * mouth * hump(m, 0.15, 0.25)

    calls = [one() for _ in range(rng.choice([1, 2], p=[0.7, 0.3]))]
    gaps = [*rng.uniform(0.3, 2, len(calls) - 1), 0.0]
    x, count = in_turn(rng, n, calls, gaps)
    if rng.random() < 0.5:
        x = open_air(rng, from_afar(x, log_uniform(rng, 20, 300)))
    return settle(x), [count_word(count), "deep" if deep else "high-pitched"]


@event("sheep", "a sheep bleating")
def _sheep(rng, n):
    pitch = rng.uniform(180, 400)

    def one(rng, k):
        m = samples(rng.uniform(0.5, 1.1))
        tremolo = 1 + 0.5 * np.sin(2 * np.pi * rng.uniform(6, 10) * time_axis(m))
        return (
            resonate(glottis(rng, np.full(m, pitch), 0.2), [700, 1500, 2800], [150, 250, 350]) * tremolo * hump(m) * 3
        )

    x, count = few(rng, n, 1, 3, 1.0, one)
    return x, [count_word(count), "trembling"]


@event("crow", "a crow cawing")
def _crow(rng, n):
    pitch, length = log_uniform(rng, 250, 600), log_uniform(rng, 0.15, 0.5)
    hoarse, gap = rng.uniform(0.3, 1), log_uniform(rng, 0.08, 0.6)

    def one():
        m = samples(length * rng.lognormal(0, 0.1))
        f = pitch * rng.lognormal(0, 0.04) * contour(m, (0, 0.3, 1), (0.85, 1.08, 0.8))
        source = cords(rng, f, 0.1 + 0.4 * hoarse, 0.8 * hoarse, 0.5 * hoarse, 900)
        beak = contour(m, (0, 0.3, 0.8, 1), (0.85, 1.05, 1, 0.85))
        voice = through_formants(
            source, [1250 * beak, 1900 * beak, 3200, 5000], [350, 400, 700, 1000], [1, 0.9, 0.4, 0.2], 0.04
        )
        return np.tanh(unit(voice) * rng.uniform(0.6, 1.3)) * hump(m, 0.12, 0.35) * rng.lognormal(0, 0.12)

    wanted = int(rng.integers(1, 8))
    calls = [one() for _ in range(wanted)]
    gaps = [gap * rng.lognormal(0, 0.15) + (rng.uniform(0.5, 2) if rng.random() < 0.15 else 0) for _ in calls]
    gaps[-1] = 0.0
    x, count = in_turn(rng, n, calls, gaps)
    if rng.random() < 0.7:
        x = open_air(rng, from_afar(x, log_uniform(rng, 20, 400)))
    return settle(x), [count_word(count), "harsh"]


@event("bird", "a bird chirping")
def _bird(rng, n):
    base, rate = rng.uniform(1800, 5200), rng.uniform(1.5, 9)
    # A species repeats a few notes of its own: whistles, sweeps, warbles, trills.
    motif = [(rng.integers(4), rng.lognormal(0, 0.12), rng.uniform(-0.35, 0.35)) for _ in range(rng.integers(1, 5))]
    depth, trill, overtones = rng.uniform(0.02, 0.15), rng.uniform(15, 60), rng.uniform(1.2, 3)
    length = rng.uniform(0.3, 0.9)

    def one(rng, k):
        kind, height, bend = motif[k % len(motif)]
        m = samples(min(0.3, length / rate) * rng.lognormal(0, 0.1))
        t = np.linspace(0, 1, m)
        curve = (
            1 + bend * t,
            1 + bend * np.sin(np.pi * t),
            1 + depth * np.sin(2 * np.pi * trill * time_axis(m)),
            1 + bend * t,
        )
        f = base * height * rng.lognormal(0, 0.01) * curve[kind]
        note = tone(f, 2, overtones) * hump(m, rng.uniform(0.1, 0.4), 0.4)
        if kind == 3:
            note = note * (0.5 - 0.5 * np.cos(2 * np.pi * trill * time_axis(m)))
        return note * rng.lognormal(0, 0.25)

    song = repeat(rng, n, 1 / rate, rng.uniform(0.03, 0.4), one)[0]
    if rng.random() < 0.6:
        song = open_air(rng, from_afar(song, log_uniform(rng, 20, 150)))
    return song, [pace_word(rate, 3, 6), height_word(base, 1800, 5200)]


@event("crickets", "crickets chirping")
def _crickets(rng, n):
    out = np.zeros(n)
    for _ in range(rng.integers(1, 4)):
        f, pulse, chirp = rng.uniform(3000, 5500), rng.uniform(18, 45), rng.uniform(0.7, 3)
        gate = (np.sin(2 * np.pi * pulse * time_axis(n)) > 0) * (
            np.sin(2 * np.pi * chirp * time_axis(n) + rng.uniform(0, 6)) > -0.2
        )
        out += tone(np.full(n, f), 1) * signal.lfilter([0.02], [1, -0.98], gate.astype(float)) * rng.uniform(0.3, 1)
    return out, ["steady"]


@event("frog", "a frog croaking")
def _frog(rng, n):
    f, rate = rng.uniform(300, 1400), rng.uniform(20, 70)

    def one(rng, k):
        m = samples(rng.uniform(0.15, 0.5))
        pulses = signal.square(2 * np.pi * rate * time_axis(m), 0.3) > 0
        return resonate(pulses * 1.0 - 0.3, [f, f * 2.1], [f * 0.15, f * 0.3]) * hump(m, 0.1, 0.2) * 4

    return repeat(rng, n, rng.uniform(0.4, 1.1), 0.2, one)[0], [height_word(f, 300, 1400)]


@event("insect_buzz", "an insect buzzing")
def _insect(rng, n):
    f = rng.uniform(120, 450) * (1 + 0.08 * slow_curve(rng, n, 4, -1, 1))
    return tone(f, 18, 0.7) * slow_curve(rng, n, 1.5, 0.2, 1), [height_word(float(f.mean()), 120, 450)]
