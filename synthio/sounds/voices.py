"""Voices."""

from __future__ import annotations

import numpy as np

from synthio.sounds.blocks import (
    SAMPLE_RATE,
    band,
    count_word,
    few,
    glottis,
    height_word,
    hump,
    log_uniform,
    make_noise,
    pace_word,
    place_at,
    repeat,
    resonate,
    samples,
    time_axis,
    unit,
)
from synthio.sounds.nature import (
    contour,
    cords,
    in_turn,
    individual,
    settle,
    smooth_curve,
    spray,
    through_formants,
)
from synthio.sounds.registry import event

_VOWELS = [
    (800, 1200, 2600),
    (400, 2000, 2600),
    (300, 2300, 3000),
    (500, 900, 2500),
    (350, 800, 2400),
    (600, 1700, 2500),
]


def _syllable(rng, pitch, length_s, breath=0.05, scale=1.0):
    """A vowel: a pitch that bends, formants of a random vowel scaled by the size of the speaker."""
    m = samples(length_s)
    f = pitch * (1 + rng.uniform(-0.15, 0.15) * np.linspace(-1, 1, m))
    formants = np.array(_VOWELS[rng.integers(len(_VOWELS))]) * scale
    return resonate(glottis(rng, f, breath), formants, [90, 120, 180], [1, 0.6, 0.3]) * hump(m, 0.15, 0.35) * 4


def _babble(rng, n, pitch, rate, scale=1.0):
    def one(rng, k):
        voice = _syllable(rng, pitch * rng.uniform(0.8, 1.25), rng.uniform(0.6, 1.1) / rate, scale=scale)
        if rng.random() < 0.4:
            m = samples(0.06)
            voice = np.concatenate([band(make_noise(rng, m), 2500, 7000) * hump(m) * 0.5, voice])
        return voice * rng.uniform(0.4, 1)

    return repeat(rng, n, 1 / rate, 0.25, one)[0]


@event("speech", "a person talking")
def _speech(rng, n):
    pitch = log_uniform(rng, 85, 260)
    return _babble(rng, n, pitch, rng.uniform(3, 6), 0.9 + pitch / 1200), [
        "low-pitched" if pitch < 150 else "high-pitched"
    ]


@event("children_playing", "children playing")
def _children(rng, n):
    out = sum(_babble(rng, n, rng.uniform(260, 520), rng.uniform(1.5, 4), 1.3) * rng.uniform(0.3, 1) for _ in range(4))

    def shout(rng, k):
        return _syllable(rng, rng.uniform(400, 800), rng.uniform(0.2, 0.6), scale=1.35) * 1.5

    return out + few(rng, n, 1, 4, 0.5, shout)[0], ["shouting"]


@event("crowd", "a crowd of people talking")
def _crowd(rng, n):
    voices = [_babble(rng, n, log_uniform(rng, 90, 280), rng.uniform(3, 6)) for _ in range(6)]
    return sum(v * rng.uniform(0.3, 1) for v in voices) + 0.3 * band(make_noise(rng, n, 0.5), 200, 2500), ["murmuring"]


@event("laughing", "a person laughing")
def _laughing(rng, n):
    pitch, rate = log_uniform(rng, 140, 420), rng.uniform(3.5, 6.5)
    scale = 0.9 + 0.4 * (pitch - 140) / 280
    vowel = (
        np.array([[750, 1250, 2600, 3700], [560, 1750, 2600, 3700], [420, 2000, 2800, 3800]])[rng.integers(3)] * scale
    )
    breath, per_bout = log_uniform(rng, 0.1, 1.2), int(rng.integers(3, 11))

    def ha(k):
        """A puff of breath, then a short vowel; pitch and level sink as the air runs out."""
        m, sink = samples(rng.uniform(0.75, 0.95) / rate), k / per_bout
        f = pitch * rng.lognormal(0, 0.05) * (1.25 - 0.45 * sink) * contour(m, (0, 0.4, 1), (1, 1.08, 0.85))
        puff = contour(m, (0, 0.3, 0.5, 1), (1.5, 1.2, 0.15, 0.5))
        source = cords(rng, f, breath * puff, 0.15) * contour(m, (0, 0.25, 0.5, 1), (0.3, 0.5, 1, 0.3))
        voice = through_formants(source, vowel * rng.lognormal(0, 0.04), [120, 180, 260, 400], [1, 0.6, 0.3, 0.15])
        return unit(voice) * hump(m, 0.2, 0.35) * (1.1 - 0.7 * sink) * rng.lognormal(0, 0.15)

    sounds, gaps, total = [], [], 0
    while total < n:
        for k in range(per_bout):
            sounds.append(ha(k))
            gaps.append(0.1 / rate * rng.lognormal(0, 0.4))
        m = samples(rng.uniform(0.25, 0.6))  # the breath drawn in between bouts
        gasp = unit(through_formants(rng.standard_normal(m), vowel * 1.2, [300, 400, 600, 800], floor=0.08))
        sounds.append(gasp * hump(m, 0.6, 0.2) * rng.uniform(0.03, 0.3))
        gaps.append(log_uniform(rng, 0.1, 1.2))
        total = sum(map(len, sounds)) + samples(sum(gaps))
    return in_turn(rng, n, sounds, gaps, 0.0)[0], [height_word(pitch, 140, 420)]


# Kinds of crying: shortest and longest cry and pause in s, how hoarse, how much breath.
_CRIES = {
    "wailing": ((0.7, 1.6), (0.1, 0.45), 0.25, 0.08),
    "screaming": ((0.8, 2.2), (0.15, 0.4), 0.8, 0.12),
    "whimpering": ((0.15, 0.5), (0.15, 0.8), 0.1, 0.3),
    "sobbing": ((0.5, 1.3), (0.15, 0.5), 0.3, 0.2),
    "rhythmic": ((0.3, 0.6), (0.25, 0.6), 0.15, 0.1),
}
_MELODIES = (
    ((0, 0.12, 0.35, 0.8, 1), (0.75, 0.95, 1.05, 0.9, 0.6)),  # rises and falls: most cries
    ((0, 0.1, 0.5, 1), (0.95, 1.08, 0.9, 0.6)),
    ((0, 0.1, 0.85, 1), (0.8, 1, 1.02, 0.7)),
    ((0, 0.2, 0.5, 0.75, 1), (0.75, 1.05, 0.88, 1.05, 0.65)),  # two arcs on one breath
)


def _cry(rng, pitch, style, size, throat):
    """One breath of crying, or of a toddler's whimper."""
    (short, long), _, hoarse, breath = _CRIES[style]
    m = samples(rng.uniform(short, long))
    times, values = _MELODIES[rng.choice(4, p=[0.5, 0.2, 0.2, 0.1])]
    f = pitch * rng.lognormal(0, 0.06) * contour(m, times, np.array(values) * rng.lognormal(0, 0.05, len(values)))
    f = f * (
        1
        + rng.uniform(0, 0.03) * np.sin(2 * np.pi * rng.uniform(5, 9) * time_axis(m))
        + 0.012 * smooth_curve(rng, m, 6)
    )
    if rng.random() < 0.12 + 0.3 * (style == "screaming"):  # the voice leaps to the whistle register and back
        leap = np.sort(rng.uniform(0.1, 0.95, 2)) * m
        f = f * np.where((np.arange(m) > leap[0]) & (np.arange(m) < leap[1]), rng.uniform(1.9, 2.6), 1)
    strain = np.clip(hoarse * (0.4 + 0.9 * smooth_curve(rng, m, 2)), 0, 1)
    source = cords(rng, f, breath * log_uniform(rng, 0.15, 1.5), strain, 0.7 * strain, rng.uniform(200, 900))
    mouth = contour(m, (0, 0.2, 0.75, 1), (0.8, 1, 1, 0.75)) * size
    voice = through_formants(source, [1050 * mouth, 2300 * mouth**0.5, 3700, 5300], *throat)
    envelope = hump(m, rng.uniform(0.03, 0.2), rng.uniform(0.15, 0.45)) * np.exp(0.15 * smooth_curve(rng, m, 5))
    if style == "sobbing":
        envelope *= 1 - rng.uniform(0.6, 1) * (0.5 + 0.5 * np.cos(2 * np.pi * rng.uniform(3.5, 6.5) * time_axis(m)))
    return unit(np.tanh(unit(voice) * rng.uniform(0.3, 1))) * envelope * rng.lognormal(0, 0.2)


def _gasp(rng, pitch, length_s):
    """The short breath in between cries: airy, sometimes voiced and above the cry."""
    m = samples(length_s)
    source = cords(rng, pitch * np.linspace(1, rng.uniform(1.2, 1.7), m), 1, 0.5) if rng.random() < 0.5 else None
    source = rng.standard_normal(m) if source is None else source
    return unit(through_formants(source, [1300, 2600, 4300], [500, 700, 1200], floor=0.1)) * hump(m, 0.5, 0.2)


@event("baby_cry", "a baby crying")
def _baby(rng, n):
    pitch, style = log_uniform(rng, 330, 620), str(rng.choice(list(_CRIES), p=[0.35, 0.15, 0.15, 0.15, 0.2]))
    (low, high), size, air = _CRIES[style][1], rng.uniform(0.75, 1.2), log_uniform(rng, 0.01, 0.3)
    throat = individual(rng, [250, 400, 600, 900], [1, 0.8, 0.5, 0.25])
    skip = (
        int(rng.uniform(0, 1.5) * SAMPLE_RATE) if rng.random() < 0.6 and n > samples(1.5) else 0
    )  # often the crying has begun already
    sounds, gaps, total = [], [], 0
    while total < n + skip:
        sounds += [_cry(rng, pitch, style, size, throat), _gasp(rng, pitch, rng.uniform(0.1, 0.3)) * air]
        gaps += [rng.uniform(low, high) * rng.lognormal(0, 0.2), rng.uniform(0.02, 0.12)]
        total += len(sounds[-2]) + len(sounds[-1]) + samples(gaps[-2]) + samples(gaps[-1])
    lead = samples(rng.uniform(0, 0.4)) if not skip and n > SAMPLE_RATE else 0
    out = place_at(n, [lead], [in_turn(rng, n + skip, sounds, gaps, 0.0)[0][skip:]])
    return settle(out), [height_word(pitch, 330, 620), style]


def _sneeze_vowel(rng, pitch, bend, formants, length_s, breath):
    m = samples(length_s)
    first, last = bend
    f = pitch * np.linspace(first, last, m) * (1 + 0.02 * smooth_curve(rng, m, 10))
    voice = through_formants(
        cords(rng, f, breath, rng.uniform(0, 0.5)), formants, [130, 180, 260, 400], [1, 0.6, 0.3, 0.15]
    )
    return unit(voice) * hump(m, 0.15, 0.6)


def _blast(rng, scale, length_s):
    """Air burst through a mouth: open as in "ha", through the teeth as in "tsh", or held back by a hand."""
    m = samples(length_s)
    kind = rng.choice(3, p=[0.35, 0.45, 0.2])
    low, high = ((600, 4500), (2200, 7600), (200, 2500))[kind]
    air = band(rng.standard_normal(m), low * scale, high * scale, 1)
    peak = np.array(((900, 1900, 3200), (2900, 4500, 6200), (350, 1100, 2000))[kind]) * scale * rng.lognormal(0, 0.1, 3)
    air = unit(air) * 0.6 + unit(through_formants(air, peak, [400, 900, 1300], floor=0.05))
    return np.tanh(unit(air) * 0.8) * hump(m, rng.uniform(0.01, 0.15), rng.uniform(0.5, 0.85))


def _one_sneeze(rng, pitch, scale):
    """A breath drawn in, voiced or not, a pause, a burst, and what is left of the breath as a vowel."""
    formants = np.array([750, 1300, 2600, 3800]) * scale
    inhale, gap = np.zeros(1), 0.0
    if rng.random() < 0.7:
        m = samples(rng.uniform(0.2, 0.9))
        inhale = through_formants(rng.standard_normal(m), formants * 1.2, [300, 400, 600, 800], floor=0.1)
        inhale = unit(inhale) * hump(m, 0.8, 0.1) * rng.uniform(0.03, 0.25)
        if rng.random() < 0.5:  # ah, ah
            voiced = _sneeze_vowel(rng, pitch, (0.9, 1.3), formants, m / SAMPLE_RATE, 0.8)
            inhale = inhale + voiced[:m] * rng.uniform(0.05, 0.4)
        gap = log_uniform(rng, 0.02, 0.6)
    parts = [inhale, np.zeros(samples(gap))]
    if rng.random() < 0.55:  # a shout before the burst: "ha-tshoo"
        shout = _sneeze_vowel(rng, pitch * 1.3, (1.0, 1.2), formants, rng.uniform(0.06, 0.2), 0.4)
        parts.append(shout * rng.uniform(0.4, 1.2))
    parts.append(_blast(rng, scale, rng.uniform(0.08, 0.35)) * rng.uniform(0.8, 1.5))
    if rng.random() < 0.7:
        vowel = np.array([[380, 900, 2400, 3500], [750, 1200, 2600, 3800], [500, 1700, 2600, 3800]])[rng.integers(3)]
        tail = _sneeze_vowel(rng, pitch * 1.2, (1.15, 0.7), vowel * scale, rng.uniform(0.1, 0.5), rng.uniform(0.2, 1.5))
        over = min(len(parts[-1]), len(tail)) // 3  # the vowel begins while the burst dies
        parts[-1][-over:] += tail[:over] * 0.7
        parts.append(tail[over:] * 0.7)
    return np.concatenate(parts)


@event("person_sneeze", "a person sneezing")
def _sneeze(rng, n):
    who = rng.integers(3)  # man, woman, child
    pitch = log_uniform(rng, *((110, 230), (220, 420), (320, 600))[who])
    scale = (0.95, 1.1, 1.3)[who] * rng.uniform(0.95, 1.05)
    wanted = int(rng.choice([1, 2, 3], p=[0.72, 0.22, 0.06]))
    sounds = [_one_sneeze(rng, pitch * rng.lognormal(0, 0.08), scale) * rng.uniform(0.6, 1) for _ in range(wanted)]
    gaps = [log_uniform(rng, 0.15, 1.2) for _ in sounds]
    # only what fits is in the clip, and counted
    while len(sounds) > 1 and sum(map(len, sounds)) + samples(sum(gaps)) > n:
        sounds, gaps = sounds[:-1], gaps[:-1]
    count, sounds[0] = len(sounds), sounds[0][-max(n, 2) :]  # a short clip loses the breath, not the burst
    if rng.random() < 0.3:  # a sniff, or a breath out
        m = samples(rng.uniform(0.15, 0.5))
        sniff = unit(through_formants(rng.standard_normal(m), [700 * scale, 2200, 4500], [500, 900, 1500], floor=0.15))
        sounds, gaps = [*sounds, sniff * hump(m, 0.5, 0.3) * rng.uniform(0.03, 0.2)], [*gaps, 0.0]
    return in_turn(rng, n, sounds, gaps)[0], [count_word(count), ("", "", "high-pitched")[who]]


@event("coughing", "a person coughing")
def _coughing(rng, n):
    pitch = log_uniform(rng, 95, 380)
    scale, wet = 0.9 + pitch / 1000, rng.uniform(0, 1) ** 2
    voiced, air = rng.uniform(0, 0.8), np.array([rng.uniform(500, 900), 1500, 2700, 4200])

    def one():
        """The glottis bursts open, air rushes, and the cords may close again with a voiced end."""
        m = samples(rng.uniform(0.15, 0.42))
        burst = spray(rng, m, np.array([0]), np.array([1.0]), rng.uniform(0.08, 0.2), 300, None)
        rush = rng.standard_normal(m) * contour(m, (0, 0.1, 0.5, 1), (1, 0.8, 0.3, 0.02))
        rattle = 1 - wet * (0.5 + 0.5 * np.sin(2 * np.pi * np.cumsum(30 + 12 * smooth_curve(rng, m, 10)) / SAMPLE_RATE))
        end = cords(rng, pitch * np.linspace(1.2, 0.75, m), 0.5, rng.uniform(0.2, 0.8))
        end = end * contour(m, (0, 0.3, 0.65, 1), (0.2, 0.35, 1, 0)) * voiced
        x = through_formants(
            2 * unit(burst) + unit(rush) * rattle + end, air * scale, [250, 350, 500, 800], [1, 0.8, 0.5, 0.3], 0.05
        )
        return np.tanh(unit(x) * 0.8) * hump(m, 0.01, 0.4) * rng.lognormal(0, 0.25)

    wanted = int(rng.integers(1, 7))
    sounds = [one() for _ in range(wanted)]
    gaps = [log_uniform(rng, 0.05, 0.35) if rng.random() < 0.75 else rng.uniform(0.5, 1.5) for _ in sounds]
    gaps[-1] = 0.0
    x, count = in_turn(rng, n, sounds, gaps)
    return x, [count_word(count)]


@event("breathing", "a person breathing")
def _breathing(rng, n):
    rate = rng.uniform(0.4, 1.2)

    def one(rng, k):
        m = samples(0.4 / rate)
        return band(make_noise(rng, m), 300 if k % 2 else 700, 2500 if k % 2 else 5000) * hump(m, 0.4, 0.4)

    return repeat(rng, n, 0.5 / rate, 0.05, one)[0], [pace_word(rate, 0.6, 0.9)]


@event("snoring", "a person snoring")
def _snoring(rng, n):
    def one(rng, k):
        m = samples(rng.uniform(0.7, 1.2))
        return (
            resonate(glottis(rng, np.full(m, rng.uniform(28, 60)), 0.6), [250, 600, 1800], [90, 150, 300]) * hump(m) * 4
        )

    return repeat(rng, n, rng.uniform(1.6, 2.6), 0.05, one)[0], ["deep"]
