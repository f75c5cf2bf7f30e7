"""A procedural sound engine: 16 kHz clips of everyday sounds with captions that are exactly true.

It makes the demo dataset and most of the corpus that the embedded models are trained on. Each event is modelled on
how the sound arises: modes for struck bodies, filtered noise with envelopes for weather, jittered impulse trains for
machines, glottal pulses through formants for voices and animals, frequency modulation for sirens. Every number comes
from the generator that is passed in, and the caption is written from the parameters that were drawn.

    clip = make_clip("dog_bark", np.random.default_rng(0), 3.0)
    clip.caption   # "two loud low-pitched barks of a dog barking, with light rain in the background"
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import interpolate, signal

SAMPLE_RATE = 16000
DEMO_LABELS = (
    "rain",
    "engine",
    "siren",
    "clock_tick",
    "footsteps",
    "bird",
    "bell",
    "wind",
    "dog_bark",
    "knocking",
)


@dataclass(frozen=True)
class Clip:
    """One generated sound.

    Attributes:
        audio: float32 [T], mono, |x| <= 0.99, never silent.
        sample_rate: in Hz.
        label: the main event.
        caption: what is heard, in words.
        events: labels of all events, the main one first.
        background: name of the background scene, or "".
    """

    audio: np.ndarray
    sample_rate: int
    label: str
    caption: str
    events: tuple[str, ...]
    background: str


@dataclass(frozen=True)
class _Event:
    """How a label sounds and reads; `make(rng, n)` gives (audio [n], attribute words)."""

    make: Callable[[np.random.Generator, int], tuple[np.ndarray, list[str]]]
    phrase: str


_EVENTS: dict[str, _Event] = {}


def _event(label: str, phrase: str):
    def register(make):
        _EVENTS[label] = _Event(make, phrase)
        return make

    return register


# --- building blocks; n is a number of samples, times are in samples unless the name says _s ---


def _s(seconds: float) -> int:
    return max(1, round(seconds * SAMPLE_RATE))


def _time(n: int) -> np.ndarray:
    return np.arange(n) / SAMPLE_RATE


def _log_uniform(rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _band(x, low: float | None, high: float | None, order: int = 2):
    """Butterworth low-, high- or band-pass; corners in Hz."""
    top = SAMPLE_RATE / 2 * 0.98
    if low and high:
        sos = signal.butter(
            order, [max(20, low), min(max(high, low * 1.05), top)], "band", fs=SAMPLE_RATE, output="sos"
        )
    elif low:
        sos = signal.butter(order, min(low, top), "high", fs=SAMPLE_RATE, output="sos")
    else:
        sos = signal.butter(order, min(high, top), "low", fs=SAMPLE_RATE, output="sos")
    return signal.sosfilt(sos, x)


def _resonate(x, centers, bandwidths, gains=None):
    """A bank of two-pole resonators in parallel: formants, bodies, pipes."""
    gains = np.ones(len(centers)) if gains is None else gains
    out = np.zeros(len(x))
    for center, bandwidth, gain in zip(centers, bandwidths, gains, strict=True):
        center = min(center, SAMPLE_RATE / 2 * 0.95)
        radius = np.exp(-np.pi * bandwidth / SAMPLE_RATE)
        a = [1, -2 * radius * np.cos(2 * np.pi * center / SAMPLE_RATE), radius**2]
        out += gain * signal.lfilter([1 - radius], a, x)
    return out


def _noise(rng, n: int, tilt: float = 0.0):
    """White noise with a spectral tilt: power falls by 6 * tilt dB per octave (0 white, 0.5 pink, 1 brown)."""
    white = rng.standard_normal(n)
    if not tilt:
        return white
    spectrum = np.fft.rfft(white)
    f = np.maximum(np.fft.rfftfreq(n, 1 / SAMPLE_RATE), 40.0)
    shaped = np.fft.irfft(spectrum * (f / 1000) ** -tilt, n)
    return shaped / (shaped.std() + 1e-12)


def _slow(rng, n: int, rate_hz: float, low: float = 0.0, high: float = 1.0):
    """A smooth random curve in [low, high] that changes about `rate_hz` times a second."""
    knots = max(4, int(n / SAMPLE_RATE * rate_hz) + 4)
    return np.interp(np.linspace(0, knots - 1, n), np.arange(knots), rng.uniform(low, high, knots))


def _decay(n: int, t60_s: float, attack_s: float = 0.002):
    """An envelope: linear attack, then exponential decay by 60 dB in t60_s."""
    t = _time(n)
    return np.minimum(1, t / max(attack_s, 1e-4)) * 10 ** (-3 * np.maximum(0, t - attack_s) / t60_s)


def _hump(n: int, attack: float = 0.2, release: float = 0.3):
    """An envelope with raised-cosine ends; attack and release are shares of its length."""
    rise, fall = max(1, int(n * attack)), max(1, int(n * release))
    out = np.ones(n)
    out[:rise] = 0.5 - 0.5 * np.cos(np.pi * np.arange(rise) / rise)
    out[-fall:] *= 0.5 + 0.5 * np.cos(np.pi * np.arange(fall) / fall)
    return out


def _modes(rng, n: int, base_hz: float, ratios, t60_s: float, spread: float = 0.01):
    """A struck body: decaying partials at ratios of base_hz, the higher ones dying sooner."""
    t = _time(n)
    out = np.zeros(n)
    for k, ratio in enumerate(ratios):
        f = base_hz * ratio * (1 + rng.normal(0, spread))
        if f < SAMPLE_RATE / 2:
            level = rng.uniform(0.3, 1) / (1 + 0.5 * k)
            out += level * np.sin(2 * np.pi * f * t + rng.uniform(0, 6.28)) * _decay(n, t60_s / (1 + 0.4 * k))
    return out


def _tone(freq_hz, harmonics: int, rolloff: float = 1.0, phase: float = 0.0):
    """A harmonic tone along a frequency curve [n] in Hz; partial k has level 1 / k ** rolloff."""
    angle = 2 * np.pi * np.cumsum(freq_hz) / SAMPLE_RATE + phase
    top = float(np.max(freq_hz))
    out = np.zeros(len(freq_hz))
    for k in range(1, harmonics + 1):
        if k * top < SAMPLE_RATE / 2:
            out += np.sin(k * angle) / k**rolloff
    return out


def _glottis(rng, freq_hz, breath: float = 0.05):
    """A voice source along a pitch curve [n] in Hz: pulses rich in harmonics, with breath noise."""
    angle = np.cumsum(freq_hz * (1 + 0.01 * _slow(rng, len(freq_hz), 30, -1, 1))) / SAMPLE_RATE
    pulse = 2 * np.exp(-6 * (angle % 1.0)) - 0.35
    return pulse + breath * rng.standard_normal(len(freq_hz)) * (0.3 + (angle % 1.0))


def _place(n: int, starts, sounds) -> np.ndarray:
    """Add sounds at start samples; what runs over the end is cut."""
    out = np.zeros(n)
    for start, sound in zip(starts, sounds, strict=True):
        start = int(start)
        if 0 <= start < n:
            part = sound[: n - start]
            out[start : start + len(part)] += part
    return out


def _repeat(rng, n: int, period_s: float, jitter: float, one, first_s: float | None = None):
    """Place `one(rng, k)` every period_s with relative jitter; returns (audio, count)."""
    seconds = n / SAMPLE_RATE
    at = rng.uniform(0, min(period_s, 0.3, max(seconds - 0.1, 0))) if first_s is None else first_s
    starts = []
    while not starts or at < seconds - 0.03:
        starts.append(_s(at) - 1)
        at += period_s * max(0.2, 1 + rng.normal(0, jitter))
    return _place(n, starts, [one(rng, k) for k in range(len(starts))]), len(starts)


def _few(rng, n: int, low: int, high: int, length_s: float, one):
    """Place 1.. `high` sounds of about length_s at random, not overlapping much; returns (audio, count)."""
    room = max(1, int(n / SAMPLE_RATE / max(length_s, 0.05)))
    count = int(min(rng.integers(low, high + 1), room))
    edges = np.sort(rng.uniform(0, max(n - _s(length_s * 1.1), 1), count)) if count > 1 else [rng.uniform(0, n * 0.2)]
    gap = _s(length_s)
    starts = [edges[0]]
    for edge in edges[1:]:
        starts.append(max(edge, starts[-1] + gap))
    return _place(n, starts, [one(rng, k) for k in range(count)]), count


def _height(f: float, low: float, high: float) -> str:
    """A pitch word for f within the event's own range [low, high] in Hz."""
    position = np.log(f / low) / np.log(high / low)
    return "low-pitched" if position < 0.35 else "high-pitched" if position > 0.65 else ""


def _pace(rate: float, slow: float, fast: float) -> str:
    return "slow" if rate < slow else "fast" if rate > fast else ""


def _count(count: int) -> str:
    return {1: "single", 2: "two", 3: "three"}.get(count, "several")


# --- building blocks for sounds in the open and from throats: clusters, distance, resonances that move ---

_FRAME, _HOP = 512, 128


def _smooth(rng, n: int, rate_hz: float):
    """A random curve of mean 0 and variance about 1 that changes at rate_hz and, less, at two octaves above it."""
    m = n // 80 + 2  # these curves are slow: 200 values a second do
    curve = sum(_slow(rng, m, 80 * rate_hz * 2**k, -1, 1) / 2 ** (k / 2) for k in range(3)) / 0.62
    return np.interp(np.arange(n), 80 * np.arange(m), curve)


def _contour(n: int, times, values):
    """A smooth curve [n] through values at increasing times, which are shares of its length."""
    return interpolate.PchipInterpolator(times, values)(np.linspace(times[0], times[-1], n))


def _bursts(rng, n: int, rate: float, cluster: float, change_hz: float):
    """Places of impacts, `rate` a second in the mean. The rate itself wanders, by a factor of e**cluster: real
    drops and pops come in clusters, where a Poisson process sounds like a machine."""
    wander = np.exp(cluster * _smooth(rng, n, change_hz))
    return np.flatnonzero(rng.random(n) * wander.mean() * SAMPLE_RATE < rate * wander)


def _pareto(rng, count: int, shape: float, top: float):
    """Power-law levels from 1 to top. Equal sources spread over a plane and heard as 1 / distance have shape 2."""
    return np.minimum((1 - rng.random(count)) ** (-1 / shape), top)


def _grains(rng, n: int, at, levels, low: float, high: float, t60_s: float, kinds: int = 6):
    """Impacts that each ring one of some small bodies: centers between low and high Hz, dying within about t60_s."""
    kind, out = rng.integers(kinds, size=len(at)), np.zeros(n)
    for k in range(kinds):
        angle = 2 * np.pi * _log_uniform(rng, low, high) / SAMPLE_RATE
        radius = 10 ** (-3 / (t60_s * rng.uniform(0.4, 1.6) * SAMPLE_RATE))
        train = np.bincount(at[kind == k], levels[kind == k], n)
        out += signal.lfilter([np.sin(angle)], [1, -2 * radius * np.cos(angle), radius**2], train)
    return out


def _spray(rng, n: int, at, levels, t60_s: float, low: float | None, high: float | None):
    """Bursts of noise that die within t60_s: splashes, cracks, breath."""
    fade = 10 ** (-3 / (t60_s * SAMPLE_RATE))
    envelope = signal.lfilter([1], [1, -fade], np.bincount(at, levels, n))
    return _band(envelope * rng.standard_normal(n), low, high, 1)


def _filter_over_time(x, gain):
    """Filter with a magnitude response that moves: gain [len(x) // _HOP + 2, _FRAME // 2 + 1]."""
    count = len(gain)
    padded = np.pad(x, (_FRAME // 2, count * _HOP + _FRAME - len(x)))
    window = np.hanning(_FRAME + 1)[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::_HOP][:count] * window
    shaped = np.fft.irfft(np.fft.rfft(frames) * gain, _FRAME) * window
    step = _FRAME // _HOP
    out = np.zeros((count + step, _HOP))
    for j in range(step):
        out[j : j + count] += shaped[:, j * _HOP : (j + 1) * _HOP]
    return out.ravel()[_FRAME // 2 : _FRAME // 2 + len(x)] / 1.5  # the squared windows add up to 1.5


def _formants(x, centers, bandwidths, gains=None, floor: float = 0.02):
    """Resonances of a throat that opens and closes: each center is a number or a curve [len(x)], in Hz."""
    gains = np.ones(len(centers)) if gains is None else gains
    moments = np.minimum(np.arange(len(x) // _HOP + 2) * _HOP, len(x) - 1)
    f = np.fft.rfftfreq(_FRAME, 1 / SAMPLE_RATE)
    gain = np.full((len(moments), len(f)), float(floor))
    for center, bandwidth, level in zip(centers, bandwidths, gains, strict=True):
        away = f - np.broadcast_to(center, len(x))[moments, None]
        gain += level / np.sqrt(1 + (2 * away / bandwidth) ** 2)
    return _filter_over_time(x, gain)


def _strokes(rng, angle, spread: float, alternate=0.0):
    """One pulse each time the angle [n] in turns passes a whole number, shared between two samples so that pitch
    does not snap to the sample grid. Strengths vary by `spread`; every other one is weaker by `alternate` [n]."""
    n = len(angle)
    at = np.flatnonzero(np.diff(np.floor(angle), prepend=np.floor(angle[0])) > 0)
    late = np.clip((angle[at] % 1) / np.maximum(angle[at] - angle[at - 1], 1e-9), 0, 1)
    strength = np.maximum(1 + spread * rng.standard_normal(len(at)), 0)
    strength[::2] *= 1 - np.broadcast_to(alternate, n)[at[::2]]
    return np.bincount(at, strength * (1 - late), n) + np.bincount(np.maximum(at - 1, 0), strength * late, n)


def _cords(rng, pitch_hz, breath=0.1, rough=0.0, double=0.0, corner_hz: float = 200.0):
    """A voice source along a pitch curve [n]: a pulse a cycle that falls by 6 dB per octave above corner_hz.

    breath: level of noise, most while the cords are open. rough: 0 to 1, irregular cycles as in strained voices.
    double: 0 to 1, period doubling, the subharmonics of hoarse animals and screams. All may be curves [n].
    """
    n = len(pitch_hz)
    uneven = 0.006 * _smooth(rng, n, 25) + 0.12 * rough * _slow(rng, n, 150, -1, 1)
    angle = np.cumsum(pitch_hz * (1 + uneven)) / SAMPLE_RATE + rng.random()
    pulses = _strokes(rng, angle, 0.06 + 0.4 * float(np.mean(rough)), double)
    pulses = pulses - pulses.sum() * pitch_hz / np.sum(pitch_hz)  # no air flows on average
    pole = np.exp(-2 * np.pi * corner_hz / SAMPLE_RATE)
    voice = signal.lfilter([0.5, 0, -0.5], np.polymul([1, -0.985], [1, -pole]), pulses)
    noise = signal.lfilter([0.5], [1, -0.5], rng.standard_normal(n) * (0.4 + (angle % 1)))  # softer above 2 kHz
    return _level(voice) + (breath + 0.3 * rough) * noise


def _individual(rng, widths, gains):
    """The throat of one animal or person: (widths, gains, floor) of its resonances, from dull to shrill."""
    tilt = rng.normal(0, 0.8) * np.arange(len(gains)) / 2
    gains = np.array(gains) * np.exp(tilt + rng.normal(0, 0.35, len(gains)))
    return np.array(widths) * _log_uniform(rng, 0.35, 1.2), gains, _log_uniform(rng, 0.003, 0.04)


def _settle(x):
    """Take out the steady pressure that bent and one-sided waves carry and no microphone passes."""
    return signal.lfilter([1, -1], [1, -0.99], x)


def _far(x, metres: float):
    """Air and ground take the high frequencies of what is far."""
    return _band(x, None, 16000 * (20 / max(metres, 20)) ** 0.7, 1)


def _open_air(rng, x):
    """A yard or a wood: echoes of a few walls, then a thin, dull tail."""
    m = _s(rng.uniform(0.3, 1.2))
    tail = _band(rng.standard_normal(m) * _decay(m, _log_uniform(rng, 0.4, 2.5), 0.02), 150, rng.uniform(1500, 5000), 1)
    tail /= np.sqrt(np.sum(tail**2)) + 1e-9
    for _ in range(rng.integers(0, 4)):
        tail[rng.integers(m)] += rng.uniform(0.1, 0.5)
    return x + rng.uniform(0.1, 0.6) * signal.oaconvolve(x, tail)[: len(x)]


def _in_turn(rng, n: int, sounds, gaps_s, lead: float | None = None):
    """Sounds one after the other with gaps_s after each; returns (audio, how many begin before the end).

    What is left of the clip is shared between the silence before and after; `lead` is the part before, 0 to 1.
    """
    lengths = np.array([len(x) for x in sounds]) + np.array([_s(gap) for gap in gaps_s])
    free = max(0, n - int(lengths.sum()))
    starts = int(free * (rng.beta(1, 2) if lead is None else lead)) + np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return _place(n, starts, sounds), int(max(1, np.sum(starts < n - _s(0.05))))


# --- weather and water ---


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
    base, period = _log_uniform(rng, 400, 2500), _log_uniform(rng, 0.12, 1.2)

    def one(rng, k):
        m = _s(rng.uniform(0.04, 0.12))
        f = base * rng.lognormal(0, 0.15) * (1 + rng.uniform(0, 4) * _time(m))
        click = _spray(rng, m, np.array([0]), np.array([0.4]), 0.008, 1000, None)
        return (_tone(f, 1) * _decay(m, rng.uniform(0.03, 0.12), 0.001) + click) * rng.lognormal(0, 0.4)

    return _repeat(rng, n, period, rng.uniform(0.02, 0.4), one)[0]


@_event("rain", "rain falling")
def _rain(rng, n):
    low, high, ring_s, tonal = _RAIN_SURFACES[str(rng.choice(list(_RAIN_SURFACES)))]
    density = _log_uniform(rng, 40, 1500)
    # The far drops merge into a hiss; whether single ones are heard above it depends on density and on the microphone.
    near_db = rng.uniform(-22, 4) if density > 200 else rng.uniform(-8, 20)
    at = _bursts(rng, n, density, rng.uniform(0.1, 0.5), 3)
    levels = _pareto(rng, len(at), rng.uniform(1.6, 3), 20)
    drops = tonal * _level(_grains(rng, n, at, levels, low, high, ring_s, 10))
    drops = drops + (1 - tonal) * _level(_spray(rng, n, at, levels, ring_s * 0.7, low, None))
    hiss = _band(_noise(rng, n, rng.uniform(0, 0.9)), _log_uniform(rng, 80, 1000), rng.uniform(3500, 7800), 1)
    body = _resonate(_noise(rng, n), [np.sqrt(low * high), low], [high - low, low])
    bed = _level(_level(hiss) + rng.uniform(0, 0.8) * _level(body))
    out = bed * 10 ** (rng.uniform(0, 2.5) * _smooth(rng, n, 0.4) / 20) + drops * 10 ** (near_db / 20)
    words = ["light" if density < 200 else "heavy", "pattering" if near_db > 0 else "steady" if near_db < -12 else ""]
    if rng.random() < 0.25:
        out = out + _level(_drips(rng, n)) * rng.uniform(0.15, 0.8)
        words.append("dripping")
    if rng.random() < 0.3:  # wind on the microphone, traffic, or thunder far away
        rumble = _level(_noise(rng, n, 1.3)) * np.exp(0.6 * _smooth(rng, n, 0.7))
        out = out + _band(rumble, 25, _log_uniform(rng, 120, 400), 1) * rng.uniform(0.1, 1)
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
        m = _s(rng.uniform(0.3, 1.1))
        wash = _band(_noise(rng, m, 0.4), rng.uniform(150, 400), rng.uniform(1200, 5000), 1)
        at = np.sort(rng.integers(0, m, rng.integers(2, 20)))
        gulp = _grains(rng, m, at, rng.lognormal(-1, 0.6, len(at)), 250, 1400, 0.06, 4)
        return (
            (_level(wash) * 0.6 + _level(gulp) * rng.uniform(0, 0.7)) * _hump(m, 0.3, 0.7) ** 2 * rng.lognormal(0, 0.6)
        )

    out = sum(_repeat(rng, n, rng.uniform(0.4, 1.5), 0.5, slap)[0] for _ in range(2))
    bed = _level(_band(_noise(rng, n, 0.5), 150, 5000, 1)) * np.exp(0.3 * _smooth(rng, n, 1))
    return out + bed * _log_uniform(rng, 0.05, 0.4)


@_event("sea_waves", "sea waves washing on a shore")
def _waves(rng, n):
    wind = _band(_noise(rng, n, 1.2), 30, 250, 1) * np.exp(0.7 * _smooth(rng, n, 0.8)) * rng.choice([0, 0.1, 0.5])
    if rng.random() < 0.18:
        return _level(_lapping(rng, n)) + 0.3 * wind, ["calm", "lapping"]
    period, scale = _log_uniform(rng, 2.5, 11), _log_uniform(rng, 0.5, 1.6)
    count = int(n / SAMPLE_RATE / period) + 3
    times = np.cumsum(period * rng.uniform(0.6, 1.4, count)) - period * rng.uniform(1, 2)
    near = _breakers(rng, n, times, scale)
    far = _breakers(rng, n, times + rng.uniform(-2, 2, count), scale * 2)
    calm = rng.uniform(0.02, 0.35)  # surf along the rest of the beach, never silent
    tilt = rng.uniform(0, 1)  # a dull roar from afar, or foam at the microphone's feet
    edges = ((40, 300), (250, 1200), (1000, 3500), (3000, None))
    out, water = np.zeros(n), _noise(rng, n, 0.4)
    for k, (low, high) in enumerate(edges):
        noise = _level(_band(water, low, high, 1))
        out += noise * (near[k] + rng.uniform(0.1, 0.6) * far[k] / (1 + k) + calm) / (1 + tilt * k)
    words = ["slow" if period > 5 else "rolling"]
    if rng.random() < 0.2:  # pebbles roll in the backwash
        at = _bursts(rng, n, rng.uniform(60, 400), 0.5, 6)
        rattle = _grains(rng, n, at, _pareto(rng, len(at), 1.8, 15), 1800, 6500, 0.008)
        out = out + _level(rattle) * near[3] * rng.uniform(0.2, 0.7)
        words.append("rattling")
    return out + wind, words


@_event("wind", "wind blowing")
def _wind(rng, n):
    gust = np.exp(rng.uniform(0.15, 0.6) * _smooth(rng, n, _log_uniform(rng, 0.3, 2)))
    # Turbulence on the microphone is low and buffets; leaves hiss in time with it; gaps howl higher as it freshens.
    buffets = _level(_band(_noise(rng, n, rng.uniform(0.7, 1.3)), 30, _log_uniform(rng, 200, 1200), 1))
    buffets = buffets * np.exp(rng.uniform(0, 0.6) * _smooth(rng, n, 5))
    leaves = _level(_band(rng.standard_normal(n), _log_uniform(rng, 700, 3000), rng.uniform(4000, 7800), 1))
    share = rng.uniform(0, 0.8) if rng.random() < 0.6 else 0.0
    out = gust * (buffets * (1 - share) + leaves * _log_uniform(rng, 0.02, 0.8) * (1 - share))
    if share:
        note = _log_uniform(rng, 200, 900) * np.clip(gust, 0.4, 2.5) ** rng.uniform(0.1, 0.4)
        widths = [_log_uniform(rng, 40, 200), 150, 300]
        howl = _formants(
            rng.standard_normal(n), [note, note * rng.uniform(1.4, 2.2), note * 3], widths, [1, 0.5, 0.15], 0
        )
        out = out + _level(howl) * share * gust**1.5
    return out, ["howling" if share > 0.45 else "gusty"]


@_event("thunder", "thunder rumbling")
def _thunder(rng, n):
    near, t = rng.random() < 0.4, _time(n)
    begin = rng.uniform(0, 0.25) * n / SAMPLE_RATE * (rng.random() < 0.6)
    # The channel is kilometres long: its parts arrive one after the other as claps of their own, ever duller.
    claps, level = rng.integers(3, 14), np.zeros(n)
    for at in np.append(0, rng.exponential(1.2, claps)):
        late = t - begin - at
        level += rng.lognormal(0, 0.6) * np.exp(-at / 3) * np.where(late > 0, np.exp(-late / rng.uniform(0.2, 1.2)), 0)
    level = signal.lfilter([0.002], [1, -0.998], level) + 0.003
    roll = _level(_band(_noise(rng, n, 1.2), 25, _log_uniform(rng, 90, 400), 1)) * np.exp(0.4 * _smooth(rng, n, 8))
    mid = _level(_band(rng.standard_normal(n), 150, _log_uniform(rng, 500, 1800), 1)) * level * rng.uniform(0.05, 0.4)
    out = roll * level + mid * level
    if near:
        tears = _s(begin) + np.append(0, rng.integers(0, _s(0.5), rng.integers(1, 12)))
        tears = tears[tears < n] if np.any(tears < n) else np.array([0])
        crack = _spray(rng, n, tears, _pareto(rng, len(tears), 1.5, 5), rng.uniform(0.15, 0.7), 300, None)
        out = out + _level(crack) * level.max() * rng.uniform(0.3, 1.2)
    if rng.random() < 0.3:
        out = _level(out) + _level(_EVENTS["rain"].make(rng, n)[0]) * rng.uniform(0.02, 0.15)
    return out, ["cracking" if near else "distant"]


@_event("water_drops", "water dripping")
def _drops(rng, n):
    rate = _log_uniform(rng, 0.8, 8)
    base = _log_uniform(rng, 500, 2500)

    def one(rng, k):
        m = _s(rng.uniform(0.04, 0.15))
        sweep = base * rng.uniform(0.8, 1.3) * (1 + rng.uniform(0.2, 1.0) * _time(m) / 0.1)
        return _tone(sweep, 1) * _decay(m, rng.uniform(0.05, 0.15)) * rng.uniform(0.4, 1)

    return _repeat(rng, n, 1 / rate, 0.3, one)[0], [_pace(rate, 2, 4)]


@_event("stream", "a stream of water running")
def _stream(rng, n):
    rate, low = _log_uniform(rng, 30, 900), _log_uniform(rng, 250, 800)
    at = _bursts(rng, n, rate, rng.uniform(0.2, 0.8), 6)
    at = np.append(at, 0)
    bubbles = _grains(rng, n, at, _pareto(rng, len(at), 1.8, 12), low, low * 6, _log_uniform(rng, 0.01, 0.04), 12)
    rush = _band(_noise(rng, n, rng.uniform(0, 0.6)), _log_uniform(rng, 150, 900), rng.uniform(3000, 7800), 1)
    rush = _level(rush) * np.exp(0.15 * _smooth(rng, n, 3))
    bubbles_db = rng.uniform(-14, 10)
    return rush + _level(bubbles) * 10 ** (bubbles_db / 20), ["bubbling" if bubbles_db > -4 else "rushing"]


@_event("pouring_water", "water being poured")
def _pouring(rng, n):
    glug = rng.random() < 0.3
    begin, end = rng.uniform(0, 0.25) * (rng.random() < 0.5), rng.uniform(0.7, 1.3)
    share = np.linspace(0, 1, n)
    on = np.clip((share - begin) * 30, 0, 1) * np.clip((end - share) * 12, 0, 1)
    # The air left in the vessel shortens while it fills, so its resonances rise.
    air = rng.uniform(0.08, 0.3) * (1 - rng.uniform(0.2, 0.85) * share)
    note = 343 / (4 * (air + 0.02))
    flow = on * np.exp(rng.uniform(0.1, 0.5) * _smooth(rng, n, 6))
    if glug:  # a bottle takes in its air in gulps
        gulps = np.cumsum(rng.uniform(3, 7) * np.exp(0.2 * _smooth(rng, n, 2))) / SAMPLE_RATE
        flow = flow * (0.15 + np.exp(-3 * (gulps % 1)))
    at = np.append(_bursts(rng, n, _log_uniform(rng, 80, 900), 0.4, 8), 0)
    bubbles = _level(_grains(rng, n, at, _pareto(rng, len(at), 2, 10), 350, 3500, 0.02, 12))
    splash = _level(_band(rng.standard_normal(n), _log_uniform(rng, 500, 2500), None, 1))
    inside = rng.standard_normal(n) + bubbles * rng.uniform(0.5, 2)
    ring = _formants(inside, [note, 3 * note, 5 * note], [rng.uniform(60, 250), 250, 400], [1, 0.7, 0.4])
    out = (
        _level(ring) * _log_uniform(rng, 0.3, 2) + bubbles * rng.uniform(0.2, 1) + splash * _log_uniform(rng, 0.1, 1.2)
    )
    return out * flow + 1e-4 * splash, ["glugging" if glug else "splashing"]


@_event("toilet_flush", "a toilet flushing")
def _flush(rng, n):
    envelope = _hump(n, 0.1, 0.6)
    gurgle = _band(_noise(rng, n, 0.7), 120, 900) * _slow(rng, n, 8, 0.2, 1)
    return envelope * (gurgle + 0.6 * _band(_noise(rng, n), 600, 5000)), ["gurgling"]


@_event("fire_crackling", "a fire crackling")
def _fire(rng, n):
    rate = _log_uniform(rng, 4, 60)
    # Gas bursts out of wood in volleys and its energy follows a power law: many ticks, few loud pops.
    at = _bursts(rng, n, rate, rng.uniform(0.5, 1.6), rng.uniform(2, 12))
    at = np.append(at, rng.integers(0, n))
    levels = _pareto(rng, len(at), rng.uniform(1.1, 2), _log_uniform(rng, 6, 50))
    low = _log_uniform(rng, 350, 2000)
    ticks = _grains(rng, n, at, levels, low, 7000, _log_uniform(rng, 0.003, 0.02))
    loud = levels > np.quantile(levels, 0.7)
    cracks = _spray(rng, n, at[loud], levels[loud], _log_uniform(rng, 0.008, 0.06), low * 0.6, None)
    fine = _bursts(rng, n, rate * _log_uniform(rng, 4, 40), 0.8, 3)  # embers and small twigs
    fine = _spray(rng, n, fine, _pareto(rng, len(fine), 2, 6), 0.004, low, None)
    snap = np.tanh((_level(ticks) + rng.uniform(0.1, 1.2) * _level(cracks)) / 12) * 12
    snap = snap + _log_uniform(rng, 0.03, 0.6) * _level(fine)
    # Flames lap at 1 to 10 Hz; the roar of a big fire reaches into the middle of the spectrum.
    roar_db = rng.uniform(-35, 3)
    flicker = np.exp(rng.uniform(0.3, 0.8) * _smooth(rng, n, rng.uniform(1, 7)))
    roar = _level(_band(_noise(rng, n, 1.1), 30, _log_uniform(rng, 150, 1200), 1) * flicker)
    hiss = _level(_band(rng.standard_normal(n), _log_uniform(rng, 600, 3500), None, 1))
    hiss = hiss * np.exp(0.5 * _smooth(rng, n, 1.5)) * 10 ** (rng.uniform(-40, -6) / 20)
    out = _level(snap) + 10 ** (roar_db / 20) * roar + hiss
    if rng.random() < 0.2:  # sap boils out of a log: a jet of steam that comes and goes
        jet = _resonate(_noise(rng, n), [_log_uniform(rng, 1500, 5000)], [_log_uniform(rng, 300, 2500)])
        out = out + _level(jet) * np.maximum(0, _smooth(rng, n, 0.7)) * rng.uniform(0.03, 0.25)
    return out, ["lively" if rate > 20 else "gentle", "roaring" if roar_db > -3 else ""]


# --- machines and vehicles ---


def _motor(rng, n, rate_hz, cylinders, wobble, noise_level, formants):
    """Firing pulses with jitter through body resonances, over noise that follows the firing."""
    speed = rate_hz * (1 + wobble * _slow(rng, n, 1.5, -1, 1) + 0.01 * _slow(rng, n, 20, -1, 1))
    angle = np.cumsum(speed) / SAMPLE_RATE
    strengths = rng.uniform(0.6, 1.0, cylinders)
    fire = np.diff(np.floor(angle), prepend=0) > 0
    pulses = fire * strengths[np.floor(angle).astype(int) % cylinders]
    body = _resonate(pulses * 30, formants, [f * 0.25 for f in formants])
    return body + noise_level * _noise(rng, n, 0.5) * (0.5 + 0.5 * np.exp(-4 * (angle % 1)))


@_event("engine", "an engine running")
def _engine(rng, n):
    rate, revving = _log_uniform(rng, 20, 120), rng.random() < 0.5
    revs = 1 + 0.015 * _smooth(rng, n, 2)
    if revving:
        revs = revs * np.exp(rng.uniform(0.15, 0.4) * _smooth(rng, n, rng.uniform(0.3, 0.9)))
    turns = np.cumsum(rate * revs) / SAMPLE_RATE
    # Cylinders differ, so half orders sound between the firing harmonics; the block and the exhaust color them.
    cylinders = rng.integers(1, 9)
    uneven = 1 + rng.uniform(0.05, 0.5) * rng.standard_normal(cylinders)
    pulses = _strokes(rng, turns, rng.uniform(0.03, 0.3)) * uneven[turns.astype(int) % cylinders]
    body = [_log_uniform(rng, f, 2.2 * f) for f in (60, 180, 500, 1300)]
    gains = np.array([1, 0.8, 0.5, 0.3]) * rng.lognormal(0, 0.5, 4) * (np.array(body) / 100) ** rng.uniform(0, 0.6)
    x = _level(_resonate(pulses, body, [f * rng.uniform(0.15, 0.6) for f in body], gains)) * revs
    intake = _level(_band(_noise(rng, n, 0.4), 100, rng.uniform(1500, 6000), 1)) * (0.4 + np.exp(-3 * (turns % 1)))
    x = np.tanh(x * rng.uniform(0.2, 1)) + intake * _log_uniform(rng, 0.03, 0.4) * revs**2
    if rng.random() < 0.5:  # tappets and injectors tick on every stroke
        at = np.flatnonzero(pulses > 0.3)
        ticks = _spray(rng, n, np.append(at, 0), np.append(pulses[at], 0.1), 0.01, 1500, 6500)
        x = x + _level(ticks) * rng.uniform(0.03, 0.2)
    x = _band(x, None, _log_uniform(rng, 900, 7000), 1)  # behind a hood, or down the road
    return _settle(x), [_height(rate, 20, 120), "revving" if revving else "steady"]


@_event("engine_idling", "an engine idling")
def _idling(rng, n):
    rate = rng.uniform(12, 32)
    x = _motor(rng, n, rate, 4, 0.03, rng.uniform(0.1, 0.4), [rng.uniform(50, 100), rng.uniform(150, 350), 900])
    return x, ["rough" if rate < 20 else "steady"]


def _fly_past(rng, n, nearest: float, speed: float):
    """Distance [n] in m and the Doppler factor [n] of what passes at nearest m; it may come, pass or leave."""
    along = speed * (_time(n) - n / SAMPLE_RATE * rng.uniform(-0.3, 1.3))
    distance = np.sqrt(nearest**2 + along**2)
    return distance, 1 / (1 + speed * along / distance / 343)


def _from_the_sky(rng, x, distance):
    """What reaches the ground: level by distance, dull when far, and combed by the reflection from the ground,
    whose delay changes while the source moves."""
    near = distance.min() / distance
    air = _far(x, float(distance.min())) * near**1.5 + _far(x, 3 * float(distance.max())) * near * (1 - near)
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


@_event("helicopter", "a helicopter flying")
def _helicopter(rng, n):
    rate, sharp = _log_uniform(rng, 9, 25), rng.uniform(0, 1)
    passing, inside = rng.random() < 0.6, rng.random() < 0.12
    nearest = _log_uniform(rng, 25, 1000)
    distance, doppler = _fly_past(rng, n, nearest, rng.uniform(20, 75) if passing else rng.uniform(0, 6))
    turns = np.cumsum(rate * doppler * (1 + 0.004 * _smooth(rng, n, 0.6))) / SAMPLE_RATE
    beat = _level(_blades(rng, turns, sharp)) * np.exp(rng.uniform(0.05, 0.35) * _smooth(rng, n, 1.5))
    gate = np.exp(rng.uniform(1, 6) * (np.cos(2 * np.pi * (turns + rng.random())) - 1))
    depth = rng.uniform(0.3, 0.95)
    wash = _band(_noise(rng, n, rng.uniform(0, 0.7)), _log_uniform(rng, 60, 400), rng.uniform(1500, 7000), 1) * (
        1 - depth + depth * gate
    )
    tail = _wave(turns * rng.uniform(3.6, 6.3) * rng.choice([1, 1, 2]), rng.uniform(0.2, 1, 12), rng.uniform(0, 6, 12))
    out = beat * rng.uniform(0.3, 1) + _level(wash) * _log_uniform(rng, 0.3, 3)
    out = out + _level(tail) * _log_uniform(rng, 0.02, 0.5)
    for _ in range(rng.integers(0, 4)):  # turbine and gears
        f = _log_uniform(rng, 500, 6500) * doppler * (1 + 0.002 * _smooth(rng, n, 2))
        out = out + _tone(f, 1) * np.exp(0.4 * _smooth(rng, n, 3)) * _log_uniform(rng, 0.004, 0.15)
    if inside:
        out = _band(out, None, rng.uniform(400, 1500), 1) + 0.1 * _level(_noise(rng, n, 0.8))
    else:
        out = _from_the_sky(rng, out, distance)
    out = _band(out, _log_uniform(rng, 30, 160), None)  # small microphones do not hear the blade rate itself
    far = "distant" if nearest > 400 and not inside else ""
    return out, [_pace(rate, 13, 18), "chopping" if sharp > 0.55 and depth > 0.6 else "", far]


def _throttle(rng, n, style: str):
    """How far the trigger of a saw is pulled, 0 to 1 [n]; the engine follows with its inertia."""
    low, high, hold = {"idling": (0, 0.06, 3), "revving": (0, 1, 0.9), "steady": (0.8, 1, 1.6)}[style]
    target, count, up = np.zeros(n), 0, bool(rng.random() < 0.5)
    while count < n:
        m = _s(hold * rng.lognormal(0, 0.6) * (1 if up else 0.8))
        target[count : count + m] = rng.uniform(0.75, 1) * high if up else low + rng.uniform(0, 0.12) * high
        count, up = count + m, not up
    pole = np.exp(-1 / (rng.uniform(0.06, 0.2) * SAMPLE_RATE))
    return signal.lfilter([1 - pole], [1, -pole], target, zi=[pole * target[0]])[0]


def _starter(rng):
    """A pull at the cord: the ratchet and a few compressions that do not catch."""
    m = _s(rng.uniform(0.3, 0.7))
    turns = np.cumsum(rng.uniform(12, 25) * _hump(m, 0.3, 0.6)) / SAMPLE_RATE
    puff = _resonate(_strokes(rng, turns, 0.3) * 40, [120, 400, 1100], [80, 200, 500])
    return puff + 0.3 * _band(_noise(rng, m), 600, 5000) * _hump(m, 0.3, 0.5) * (0.4 + (turns * 6 % 1))


@_event("chainsaw", "a chainsaw cutting")
def _chainsaw(rng, n):
    style = str(rng.choice(["idling", "revving", "steady"], p=[0.12, 0.43, 0.45]))
    throttle = _throttle(rng, n, style)
    # In the wood the chain takes speed from the engine, and gives it back when the cut ends.
    load = np.clip(0.5 + 0.8 * _smooth(rng, n, rng.uniform(0.4, 1.5)), 0, 1) * rng.uniform(0, 1)
    idle, full = rng.uniform(32, 52), rng.uniform(125, 225)
    rate = (idle + (full - idle) * throttle) * (1 - 0.3 * load * throttle) * (1 + 0.012 * _smooth(rng, n, 8))
    turns = np.cumsum(rate) / SAMPLE_RATE
    # A two-stroke at idle misses every other fire and is uneven; at full speed it is a hard, dense buzz.
    pulses = _strokes(rng, turns, 0.18, np.clip(0.5 - 0.6 * throttle, 0, 1) * rng.uniform(0, 1.2))
    muffler = [_log_uniform(rng, 150, 350), _log_uniform(rng, 450, 1000), _log_uniform(rng, 1200, 2500), 4000]
    gains = rng.uniform(0.3, 1.2, 4) * (np.array(muffler) / 300) ** rng.uniform(0.2, 1)
    buzz = _level(_resonate(pulses, muffler, [f * rng.uniform(0.2, 0.6) for f in muffler], gains))
    buzz = buzz + rng.uniform(0, 0.6) * _level(_band(pulses, 800, None, 1))
    buzz = np.tanh(buzz * rng.uniform(0.5, 2.5)) * (0.3 + 0.7 * throttle)
    intake = _band(_noise(rng, n, 0.3), 300, 5000, 1) * (0.3 + (turns % 1)) * (0.15 + 0.85 * throttle)
    teeth = 0.7 + 0.3 * np.sin(2 * np.pi * turns * rng.uniform(1.5, 4))
    chain = _band(_noise(rng, n), rng.uniform(1500, 3500), None, 1) * throttle**2 * (0.3 + load) * teeth
    out = buzz + rng.uniform(0.05, 0.4) * intake + _log_uniform(rng, 0.1, 1.2) * chain
    if rng.random() < 0.1:
        pulls = [_starter(rng) * rng.uniform(0.05, 0.25) for _ in range(rng.integers(1, 4))]
        gaps = rng.uniform(0.15, 0.8, len(pulls))
        silent = min(n // 2, sum(len(x) for x in pulls) + _s(float(gaps.sum())))
        out = _place(n, [silent], [out]) + _in_turn(rng, n, pulls, gaps, 0.0)[0]
    if rng.random() < 0.55:
        out = _open_air(rng, _far(out, _log_uniform(rng, 20, 800)))
    return _settle(out), [style, "buzzing" if style != "idling" else ""]


@_event("drilling", "a drill drilling")
def _drilling(rng, n):
    rate = rng.uniform(120, 400)
    strain = 1 - 0.15 * _slow(rng, n, 1, 0, 1)
    whine = _tone(rate * strain, 20, 0.6)
    rattle = _band(_noise(rng, n), 1000, 7000) * (
        0.5 + 0.5 * np.sin(2 * np.pi * np.cumsum(rate / 8 * strain) / SAMPLE_RATE)
    )
    return whine * 0.6 + rattle * rng.uniform(0.3, 1), [_height(rate, 120, 400), "grinding"]


@_event("jackhammer", "a jackhammer hammering")
def _jackhammer(rng, n):
    rate = rng.uniform(12, 30)

    def one(rng, k):
        m = _s(0.06)
        body = _modes(rng, m, rng.uniform(120, 200), [1, 2.3, 5.1, 9.7], 0.06, 0.05)
        return body + 0.8 * _band(_noise(rng, m), 500, 7000) * _decay(m, 0.05)

    return _repeat(rng, n, 1 / rate, 0.03, one)[0] + 0.1 * _noise(rng, n, 0.4), [_pace(rate, 16, 24), "pounding"]


@_event("air_conditioner", "an air conditioner humming")
def _air_conditioner(rng, n):
    mains = rng.choice([50, 60]) * rng.choice([1, 2])
    hum = _tone(np.full(n, float(mains)), 8, rng.uniform(0.6, 1.5)) * rng.uniform(0.05, 0.5)
    rattle = _slow(rng, n, 0.5, 0.8, 1)
    return rattle * (_noise(rng, n, rng.uniform(0.4, 0.9)) * 0.5 + hum), ["steady"]


@_event("vacuum_cleaner", "a vacuum cleaner running")
def _vacuum(rng, n):
    spin = 1 + 0.004 * _smooth(rng, n, 3)
    stroke = _smooth(rng, n, rng.uniform(0.4, 1.2)) * rng.uniform(0, 1)  # over carpet and bare floor
    if rng.random() < 0.2:  # it is switched on, or off
        at = rng.uniform(0.1, 0.7) * n / SAMPLE_RATE
        edge = 1 / (1 + np.exp(-(_time(n) - at) / 0.15))
        spin = spin * np.clip(edge if rng.random() < 0.5 else 1 - edge, 0.01, 1)
    turns = np.cumsum(_log_uniform(rng, 170, 480) * spin * (1 - 0.02 * stroke)) / SAMPLE_RATE
    count = int(rng.integers(4, 16))
    levels = rng.uniform(0.1, 1, count) / np.arange(1, count + 1) ** rng.uniform(0, 1)
    whine = _level(_wave(turns, levels, rng.uniform(0, 6.28, count)))
    nozzle = np.array([_log_uniform(rng, 250, 600), _log_uniform(rng, 700, 1800), _log_uniform(rng, 2000, 5000)])
    nozzle = nozzle[:, None] * (1 + 0.12 * stroke)
    air = rng.standard_normal(n)
    air = _level(_formants(air, nozzle, [300, 600, 1500], rng.uniform(0.3, 1, 3), rng.uniform(0.05, 0.4)))
    return spin**2 * (air + whine * _log_uniform(rng, 0.1, 1.2)) + 1e-4 * air, ["loud"]


@_event("washing_machine", "a washing machine turning")
def _washer(rng, n):
    turn = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.6, 1.5) * _time(n))
    slosh = _band(_noise(rng, n, 0.6), 150, 1500) * turn
    return slosh + _tone(np.full(n, rng.uniform(45, 110)), 10, 0.9) * 0.3, ["sloshing"]


@_event("train", "a train passing on rails")
def _train(rng, n):
    rate = rng.uniform(1.2, 3.5)
    axles, body = rng.uniform(0.07, 0.16), [_log_uniform(rng, 120, 300), _log_uniform(rng, 400, 900), 1800]

    def one(rng, k):
        """A bogie over a rail joint: two axles, each a knock with the ring of rail and wagon."""
        m = _s(0.4)
        at = np.array([0, _s(axles)])
        knock = _spray(rng, m, at, rng.uniform(0.6, 1, 2), 0.09, 150, 5000)
        return (knock + _resonate(knock, body, [60, 120, 300])) * rng.lognormal(0, 0.2)

    clack = _level(_repeat(rng, n, 1 / rate, 0.05, one)[0])
    distance, _ = _fly_past(rng, n, _log_uniform(rng, 5, 60), rng.uniform(8, 30))
    near = (distance.min() / distance) ** rng.uniform(0.2, 1)
    rumble = _level(_band(_noise(rng, n, rng.uniform(0.5, 1)), 30, _log_uniform(rng, 400, 3000), 1))
    hiss = _level(_band(rng.standard_normal(n), 800, 6000, 1)) * np.exp(0.2 * _smooth(rng, n, 4))
    out = clack * _log_uniform(rng, 0.15, 1.5) + rumble + hiss * _log_uniform(rng, 0.05, 0.7)
    if rng.random() < 0.25:  # flanges squeal in a curve
        f = _log_uniform(rng, 1500, 5500) * (1 + 0.01 * _smooth(rng, n, 3))
        out = out + _tone(f, 2, 1) * np.maximum(0, _smooth(rng, n, 1.5)) * rng.uniform(0.03, 0.4)
    return out * near, [_pace(rate, 1.8, 2.8), "rumbling"]


@_event("airplane", "an airplane flying over")
def _airplane(rng, n):
    propeller, nearest = rng.random() < 0.4, _log_uniform(rng, 60, 2500)
    distance, doppler = _fly_past(rng, n, nearest, rng.uniform(40, 110) if nearest > 150 else rng.uniform(40, 70))
    turns = np.cumsum(_log_uniform(rng, 55, 130) * doppler * (1 + 0.003 * _smooth(rng, n, 1))) / SAMPLE_RATE
    roar = _level(_band(_noise(rng, n, rng.uniform(0.3, 0.9)), 40, _log_uniform(rng, 800, 6000), 1))
    roar = roar * np.exp(0.15 * _smooth(rng, n, 3))
    if propeller:  # blade and firing harmonics, with the slow beat of two engines now and then
        count = int(rng.integers(8, 30))
        levels = rng.uniform(0.3, 1, count) / np.arange(1, count + 1) ** rng.uniform(0.3, 1.2)
        drone = _wave(turns, levels, rng.uniform(0, 6.28, count))
        if rng.random() < 0.4:
            drone = drone + _wave(turns * (1 + rng.uniform(0.002, 0.02)), levels, rng.uniform(0, 6.28, count))
        out = _level(drone) + roar * _log_uniform(rng, 0.1, 0.8)
    else:
        fan = _tone(_log_uniform(rng, 700, 3500) * doppler, 2, 1) * np.exp(0.3 * _smooth(rng, n, 4))
        out = roar + _level(fan) * _log_uniform(rng, 0.01, 0.4)
    out = _from_the_sky(rng, out, distance)
    return out, ["droning" if propeller else "roaring", "distant" if nearest > 900 else ""]


@_event("car_horn", "a car horn honking")
def _car_horn(rng, n):
    f = rng.uniform(280, 520)

    def one(rng, k):
        m = _s(rng.uniform(0.15, 1.2))
        both = _tone(np.full(m, f), 16, 0.5) + _tone(np.full(m, f * rng.choice([1.19, 1.26, 1.33])), 16, 0.5)
        return np.tanh(both) * _hump(m, 0.03, 0.08)

    x, count = _few(rng, n, 1, 4, 0.6, one)
    return x, [_count(count), _height(f, 280, 520)]


@_event("siren", "a siren wailing")
def _siren(rng, n):
    low = rng.uniform(400, 800)
    high = low * rng.uniform(1.3, 2.4)
    rate = _log_uniform(rng, 0.2, 5)
    phase = rate * _time(n) + rng.random()
    shape = rng.integers(3)
    curve = [0.5 + 0.5 * np.sin(2 * np.pi * phase), (phase % 1 > 0.5) * 1.0, np.minimum(phase % 1, 0.7) / 0.7][shape]
    curve = signal.lfilter([0.01], [1, -0.99], curve)
    x = _tone(low + (high - low) * curve, 10, rng.uniform(0.6, 1.5))
    return x, [["wailing", "two-tone", "rising"][shape], _pace(rate, 0.6, 2)]


@_event("alarm_clock", "an alarm clock beeping")
def _alarm(rng, n):
    f, rate = rng.uniform(800, 3200), rng.uniform(1.5, 9)
    gate = signal.square(2 * np.pi * rate * _time(n), rng.uniform(0.3, 0.6)) > 0
    group = 1.0 if rng.random() < 0.5 else signal.square(2 * np.pi * _time(n) * rate / 6, 0.6) > 0
    return np.tanh(2 * _tone(np.full(n, f), 6, 0.8)) * gate * group, [_height(f, 800, 3200), _pace(rate, 3, 6)]


@_event("phone_ring", "a telephone ringing")
def _phone(rng, n):
    rate, f = rng.uniform(14, 28), rng.uniform(700, 2000)
    strikes = signal.square(2 * np.pi * rate * _time(n)) * 0.5 + 0.5
    on = (_time(n) + rng.uniform(0, 1)) % rng.uniform(1.5, 3) < rng.uniform(0.6, 1.2)
    bell = _tone(np.full(n, f), 1) + 0.6 * _tone(np.full(n, f * 2.76), 1) + 0.4 * _tone(np.full(n, f * 1.5), 1)
    return bell * (0.3 + 0.7 * strikes) * signal.lfilter([0.002], [1, -0.998], on.astype(float)), [
        _height(f, 700, 2000)
    ]


@_event("keyboard_typing", "typing on a keyboard")
def _typing(rng, n):
    rate = rng.uniform(3, 11)
    f = rng.uniform(1200, 3000)

    def one(rng, k):
        m = _s(0.05)
        return (_band(_noise(rng, m), f * 0.5, f * 2.5) * _decay(m, 0.03)) * rng.uniform(0.3, 1)

    return _repeat(rng, n, 1 / rate, 0.5, one)[0], [_pace(rate, 5, 8), "clicking"]


@_event("mouse_click", "a mouse clicking")
def _mouse(rng, n):
    def one(rng, k):
        m = _s(0.12)
        press = _band(_noise(rng, m), 2000, 7000) * _decay(m, 0.012)
        return press + 0.6 * np.roll(press, _s(rng.uniform(0.05, 0.1)))

    x, count = _few(rng, n, 1, 5, 0.3, one)
    return x, [_count(count)]


# Kinds of clock: ticks a second, lowest and highest resonance of the case in Hz, how long it rings in s.
_CLOCKS = {
    "quartz": ((1.0,), 900, 4000, 0.03),
    "pendulum": ((1.0, 1.0, 1.25, 1.5), 180, 2500, 0.12),
    "mantel": ((2.0, 2.5), 500, 4000, 0.06),
    "alarm": ((4.0, 4.0, 3.33, 5.0), 1200, 6500, 0.05),
    "watch": ((5.0, 5.5, 6.0, 8.0), 2500, 7400, 0.015),
}


def _escapement(rng, low, high, ring_s):
    """One side of an escapement: the fork is unlocked, struck and locked again, two to five impacts within some
    milliseconds, in a case with resonances of its own."""
    m = _s(0.04 + 2 * ring_s)
    hits = rng.integers(2, 6)
    at = np.append(0, np.cumsum(rng.uniform(0.001, 0.009, hits - 1)) * SAMPLE_RATE).astype(int)
    levels = rng.uniform(0.15, 1, hits) * rng.choice([-1, 1], hits)
    tick = np.zeros(m)
    for _ in range(12):  # each impact excites every mode of the case, in shares of its own
        shares = levels * rng.uniform(0.2, 1, hits) * rng.lognormal(0, 0.6)
        tick += _grains(rng, m, at, shares, low * 0.7, high, ring_s, 1)
    body = _grains(rng, m, at, levels, low * 0.4, low, ring_s * 1.5, 1)
    click = _spray(rng, m, at, np.abs(levels), _log_uniform(rng, 0.003, 0.012), low, None)
    return _level(tick) + rng.uniform(0, 0.7) * _level(body) + rng.uniform(0.2, 1.5) * _level(click)


@_event("clock_tick", "a clock ticking")
def _clock(rng, n):
    rates, low, high, ring_s = _CLOCKS[str(rng.choice(list(_CLOCKS)))]
    rate = rng.choice(rates) * rng.uniform(0.98, 1.02)
    tune = _log_uniform(rng, 0.7, 1.4)
    low, high, ring_s = low * tune, min(high * tune, 7500), ring_s * _log_uniform(rng, 0.5, 2)
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
    out = _place(n, starts, [(tock if i % 2 else tick) * levels[i] for i in k])
    grain = _band(_noise(rng, n), low, None, 1) * 10 ** (rng.uniform(-70, -38) / 20)  # wheels, a motor, the room
    center = np.sqrt(low * high)
    return _level(out) + grain, [_pace(rate, 1.5, 3), _height(center, 500, 4500)]


# --- objects, doors, people's actions ---


@_event("footsteps", "footsteps walking")
def _footsteps(rng, n):
    rate = rng.uniform(1.2, 3.6)
    ground = str(rng.choice(["floor", "pavement", "gravel", "snow", "leaves"], p=[0.35, 0.2, 0.2, 0.1, 0.15]))
    loose = ground in ("gravel", "snow", "leaves")
    thud_hz, ring, hollow = _log_uniform(rng, 55, 200), rng.uniform(0.04, 0.16), rng.uniform(0, 1)
    heel_hz, heel = _log_uniform(rng, 500, 3500), _log_uniform(rng, 0.15, 2.5)
    low, high, t60, grains = {"gravel": (900, 6000, 0.006, 60), "snow": (500, 4000, 0.004, 300)}.get(
        ground, (1800, 7000, 0.004, 90)
    )
    limp = rng.uniform(0, 0.12)

    def one(rng, k):
        """Heel, then sole: two contacts; loose ground gives way while the weight rolls over it."""
        m, roll = _s(0.35), rng.uniform(0.05, 0.14) * 2 / rate
        at, levels = np.array([0, _s(roll)]), np.array([1, rng.uniform(0.1, 0.7)])
        thud = _grains(rng, m, at, levels, thud_hz * 0.9, thud_hz * 1.1, ring, 1)
        thud = thud + hollow * _grains(rng, m, at, levels, thud_hz * 2, thud_hz * 5, ring * 0.7, 2)
        step = _level(thud) * rng.uniform(0.6, 1)
        if loose:
            when = np.minimum(rng.beta(1.5, 3, rng.poisson(grains) + 1) * _s(0.3), m - 1).astype(int)
            sizes = _pareto(rng, len(when), 2, 10)
            crunch = _grains(rng, m, when, sizes, low, high, t60, 4) + _spray(rng, m, when, sizes, t60, low, None)
            step = 0.3 * heel * step + _level(crunch)
        else:
            click = _spray(rng, m, at, levels, rng.uniform(0.01, 0.03), heel_hz * 0.5, heel_hz * 2)
            scrape = _band(rng.standard_normal(m), 800, 5000, 1) * _hump(m, 0.2, 0.7) ** 2 * rng.lognormal(-3, 0.8)
            step = step + heel * _level(click) + scrape
        return step * rng.lognormal(0, 0.2) * (1 - limp * (k % 2))

    return _settle(_repeat(rng, n, 1 / rate, 0.05, one)[0]), [_pace(rate, 1.7, 2.6), "crunching" if loose else ""]


@_event("knocking", "knocking on a door")
def _knocking(rng, n):
    f, rate = rng.uniform(110, 420), rng.uniform(3, 8)
    per_group = int(rng.integers(2, 7))

    def one(rng, k):
        m = _s(0.2)
        body = _modes(rng, m, f, [1, 1.6, 2.4, 3.9], rng.uniform(0.05, 0.14), 0.01)
        return (body + 0.3 * _band(_noise(rng, m), 300, 3000) * _decay(m, 0.02)) * rng.uniform(0.7, 1)

    def group(rng, k):
        m = _s(per_group / rate + 0.2)
        return _repeat(rng, m, 1 / rate, 0.05, one, first_s=0.0)[0]

    x, _ = _few(rng, n, 1, 3, per_group / rate + 0.5, group)
    return x, [_height(f, 110, 420), _pace(rate, 4, 6), "hollow"]


@_event("door_slam", "a door slamming")
def _door(rng, n):
    m = min(n, _s(1.0))
    slam = _modes(rng, m, rng.uniform(50, 110), [1, 1.8, 2.7, 4.4], 0.35, 0.02) + _noise(rng, m, 0.4) * _decay(m, 0.15)
    return _place(n, [rng.uniform(0, max(1, n - m))], [slam]), ["heavy"]


@_event("glass_breaking", "glass breaking")
def _glass(rng, n):
    m = min(n, _s(rng.uniform(0.6, 1.2)))
    pieces = rng.integers(12, 30)
    starts = rng.exponential(m / 5, pieces)
    sounds = [_modes(rng, _s(0.2), _log_uniform(rng, 2000, 6000), [1, 1.31, 1.73], 0.12) * 0.3 for _ in range(pieces)]
    crash = _place(m, starts, sounds) + _band(_noise(rng, m), 1500, None) * _decay(m, 0.2)
    return _place(n, [rng.uniform(0, max(1, n - m) * 0.6)], [crash]), ["sharp"]


@_event("gun_shot", "a gun shot")
def _gun(rng, n):
    tail = rng.uniform(0.2, 1.2)

    def one(rng, k):
        m = _s(tail + 0.1)
        blast = np.tanh(3 * _noise(rng, m) * _decay(m, 0.05, 0.0005))
        return blast + _band(_noise(rng, m, 0.6), 60, 1800) * _decay(m, tail, 0.001) * 0.7

    x, count = _few(rng, n, 1, 4, 0.35, one)
    return x, [_count(count), "echoing" if tail > 0.7 else "dry"]


@_event("fireworks", "fireworks exploding")
def _fireworks(rng, n):
    def one(rng, k):
        m = _s(1.2)
        boom = _band(_noise(rng, m, 0.9), 40, 600) * _decay(m, 0.7, 0.002) * 1.4
        crackle = (rng.random(m) < 0.004) * rng.normal(0, 4, m) * _hump(m, 0.4, 0.5)
        return boom + _band(crackle, 1500, None)

    x, count = _few(rng, n, 1, 4, 0.8, one)
    return x, [_count(count)]


@_event("clapping", "people clapping")
def _clapping(rng, n):
    people = int(_log_uniform(rng, 1, 40))
    out = np.zeros(n)
    for _ in range(min(people, 12)):
        f, rate = rng.uniform(700, 2000), rng.uniform(2.5, 4.5)

        def one(rng, k, f=f):
            m = _s(0.06)
            return _band(_noise(rng, m), f * 0.7, f * 2) * _decay(m, 0.05) * rng.uniform(0.5, 1)

        out += _repeat(rng, n, 1 / rate, 0.12, one)[0]
    if people > 12:
        out = out + 0.5 * _band(_noise(rng, n), 600, 5000) * _slow(rng, n, 20, 0.5, 1)
    return out, ["applause" if people > 12 else "a few"]


@_event("can_opening", "a can being opened")
def _can(rng, n):
    m = min(n, _s(0.7))
    click = _modes(rng, m, rng.uniform(1500, 3000), [1, 1.5, 2.2], 0.08) * 0.8
    fizz = _band(_noise(rng, m), 3000, None) * _hump(m, 0.05, 0.8)
    return _place(n, [rng.uniform(0, max(1, n - m) * 0.5)], [click + np.roll(fizz, _s(0.04)) * 0.6]), ["fizzing"]


@_event("hand_saw", "sawing wood by hand")
def _saw(rng, n):
    rate = rng.uniform(1.2, 3)
    stroke = np.abs(np.sin(np.pi * rate * _time(n)))
    teeth = 0.5 + 0.5 * np.sin(2 * np.pi * np.cumsum(rng.uniform(60, 150) * stroke) / SAMPLE_RATE)
    return _resonate(_noise(rng, n) * teeth, [700, 1800, 3500], [300, 500, 900]) * stroke, [
        _pace(rate, 1.6, 2.4),
        "rasping",
    ]


# --- voices ---

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
    m = _s(length_s)
    f = pitch * (1 + rng.uniform(-0.15, 0.15) * np.linspace(-1, 1, m))
    formants = np.array(_VOWELS[rng.integers(len(_VOWELS))]) * scale
    return _resonate(_glottis(rng, f, breath), formants, [90, 120, 180], [1, 0.6, 0.3]) * _hump(m, 0.15, 0.35) * 4


def _babble(rng, n, pitch, rate, scale=1.0):
    def one(rng, k):
        voice = _syllable(rng, pitch * rng.uniform(0.8, 1.25), rng.uniform(0.6, 1.1) / rate, scale=scale)
        if rng.random() < 0.4:
            m = _s(0.06)
            voice = np.concatenate([_band(_noise(rng, m), 2500, 7000) * _hump(m) * 0.5, voice])
        return voice * rng.uniform(0.4, 1)

    return _repeat(rng, n, 1 / rate, 0.25, one)[0]


@_event("speech", "a person talking")
def _speech(rng, n):
    pitch = _log_uniform(rng, 85, 260)
    return _babble(rng, n, pitch, rng.uniform(3, 6), 0.9 + pitch / 1200), [
        "low-pitched" if pitch < 150 else "high-pitched"
    ]


@_event("children_playing", "children playing")
def _children(rng, n):
    out = sum(_babble(rng, n, rng.uniform(260, 520), rng.uniform(1.5, 4), 1.3) * rng.uniform(0.3, 1) for _ in range(4))

    def shout(rng, k):
        return _syllable(rng, rng.uniform(400, 800), rng.uniform(0.2, 0.6), scale=1.35) * 1.5

    return out + _few(rng, n, 1, 4, 0.5, shout)[0], ["shouting"]


@_event("crowd", "a crowd of people talking")
def _crowd(rng, n):
    voices = [_babble(rng, n, _log_uniform(rng, 90, 280), rng.uniform(3, 6)) for _ in range(6)]
    return sum(v * rng.uniform(0.3, 1) for v in voices) + 0.3 * _band(_noise(rng, n, 0.5), 200, 2500), ["murmuring"]


@_event("laughing", "a person laughing")
def _laughing(rng, n):
    pitch, rate = _log_uniform(rng, 140, 420), rng.uniform(3.5, 6.5)
    scale = 0.9 + 0.4 * (pitch - 140) / 280
    vowel = (
        np.array([[750, 1250, 2600, 3700], [560, 1750, 2600, 3700], [420, 2000, 2800, 3800]])[rng.integers(3)] * scale
    )
    breath, per_bout = _log_uniform(rng, 0.1, 1.2), int(rng.integers(3, 11))

    def ha(k):
        """A puff of breath, then a short vowel; pitch and level sink as the air runs out."""
        m, sink = _s(rng.uniform(0.75, 0.95) / rate), k / per_bout
        f = pitch * rng.lognormal(0, 0.05) * (1.25 - 0.45 * sink) * _contour(m, (0, 0.4, 1), (1, 1.08, 0.85))
        puff = _contour(m, (0, 0.3, 0.5, 1), (1.5, 1.2, 0.15, 0.5))
        source = _cords(rng, f, breath * puff, 0.15) * _contour(m, (0, 0.25, 0.5, 1), (0.3, 0.5, 1, 0.3))
        voice = _formants(source, vowel * rng.lognormal(0, 0.04), [120, 180, 260, 400], [1, 0.6, 0.3, 0.15])
        return _level(voice) * _hump(m, 0.2, 0.35) * (1.1 - 0.7 * sink) * rng.lognormal(0, 0.15)

    sounds, gaps, total = [], [], 0
    while total < n:
        for k in range(per_bout):
            sounds.append(ha(k))
            gaps.append(0.1 / rate * rng.lognormal(0, 0.4))
        m = _s(rng.uniform(0.25, 0.6))  # the breath drawn in between bouts
        gasp = _level(_formants(rng.standard_normal(m), vowel * 1.2, [300, 400, 600, 800], floor=0.08))
        sounds.append(gasp * _hump(m, 0.6, 0.2) * rng.uniform(0.03, 0.3))
        gaps.append(_log_uniform(rng, 0.1, 1.2))
        total = sum(map(len, sounds)) + _s(sum(gaps))
    return _in_turn(rng, n, sounds, gaps, 0.0)[0], [_height(pitch, 140, 420)]


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
    m = _s(rng.uniform(short, long))
    times, values = _MELODIES[rng.choice(4, p=[0.5, 0.2, 0.2, 0.1])]
    f = pitch * rng.lognormal(0, 0.06) * _contour(m, times, np.array(values) * rng.lognormal(0, 0.05, len(values)))
    f = f * (1 + rng.uniform(0, 0.03) * np.sin(2 * np.pi * rng.uniform(5, 9) * _time(m)) + 0.012 * _smooth(rng, m, 6))
    if rng.random() < 0.12 + 0.3 * (style == "screaming"):  # the voice leaps to the whistle register and back
        leap = np.sort(rng.uniform(0.1, 0.95, 2)) * m
        f = f * np.where((np.arange(m) > leap[0]) & (np.arange(m) < leap[1]), rng.uniform(1.9, 2.6), 1)
    strain = np.clip(hoarse * (0.4 + 0.9 * _smooth(rng, m, 2)), 0, 1)
    source = _cords(rng, f, breath * _log_uniform(rng, 0.15, 1.5), strain, 0.7 * strain, rng.uniform(200, 900))
    mouth = _contour(m, (0, 0.2, 0.75, 1), (0.8, 1, 1, 0.75)) * size
    voice = _formants(source, [1050 * mouth, 2300 * mouth**0.5, 3700, 5300], *throat)
    envelope = _hump(m, rng.uniform(0.03, 0.2), rng.uniform(0.15, 0.45)) * np.exp(0.15 * _smooth(rng, m, 5))
    if style == "sobbing":
        envelope *= 1 - rng.uniform(0.6, 1) * (0.5 + 0.5 * np.cos(2 * np.pi * rng.uniform(3.5, 6.5) * _time(m)))
    return _level(np.tanh(_level(voice) * rng.uniform(0.3, 1))) * envelope * rng.lognormal(0, 0.2)


def _gasp(rng, pitch, length_s):
    """The short breath in between cries: airy, sometimes voiced and above the cry."""
    m = _s(length_s)
    source = _cords(rng, pitch * np.linspace(1, rng.uniform(1.2, 1.7), m), 1, 0.5) if rng.random() < 0.5 else None
    source = rng.standard_normal(m) if source is None else source
    return _level(_formants(source, [1300, 2600, 4300], [500, 700, 1200], floor=0.1)) * _hump(m, 0.5, 0.2)


@_event("baby_cry", "a baby crying")
def _baby(rng, n):
    pitch, style = _log_uniform(rng, 330, 620), str(rng.choice(list(_CRIES), p=[0.35, 0.15, 0.15, 0.15, 0.2]))
    (low, high), size, air = _CRIES[style][1], rng.uniform(0.75, 1.2), _log_uniform(rng, 0.01, 0.3)
    throat = _individual(rng, [250, 400, 600, 900], [1, 0.8, 0.5, 0.25])
    skip = (
        int(rng.uniform(0, 1.5) * SAMPLE_RATE) if rng.random() < 0.6 and n > _s(1.5) else 0
    )  # often the crying has begun already
    sounds, gaps, total = [], [], 0
    while total < n + skip:
        sounds += [_cry(rng, pitch, style, size, throat), _gasp(rng, pitch, rng.uniform(0.1, 0.3)) * air]
        gaps += [rng.uniform(low, high) * rng.lognormal(0, 0.2), rng.uniform(0.02, 0.12)]
        total += len(sounds[-2]) + len(sounds[-1]) + _s(gaps[-2]) + _s(gaps[-1])
    lead = _s(rng.uniform(0, 0.4)) if not skip and n > SAMPLE_RATE else 0
    out = _place(n, [lead], [_in_turn(rng, n + skip, sounds, gaps, 0.0)[0][skip:]])
    return _settle(out), [_height(pitch, 330, 620), style]


def _sneeze_vowel(rng, pitch, bend, formants, length_s, breath):
    m = _s(length_s)
    f = pitch * np.linspace(*bend, m) * (1 + 0.02 * _smooth(rng, m, 10))
    voice = _formants(_cords(rng, f, breath, rng.uniform(0, 0.5)), formants, [130, 180, 260, 400], [1, 0.6, 0.3, 0.15])
    return _level(voice) * _hump(m, 0.15, 0.6)


def _blast(rng, scale, length_s):
    """Air burst through a mouth: open as in "ha", through the teeth as in "tsh", or held back by a hand."""
    m = _s(length_s)
    kind = rng.choice(3, p=[0.35, 0.45, 0.2])
    low, high = ((600, 4500), (2200, 7600), (200, 2500))[kind]
    air = _band(rng.standard_normal(m), low * scale, high * scale, 1)
    peak = np.array(((900, 1900, 3200), (2900, 4500, 6200), (350, 1100, 2000))[kind]) * scale * rng.lognormal(0, 0.1, 3)
    air = _level(air) * 0.6 + _level(_formants(air, peak, [400, 900, 1300], floor=0.05))
    return np.tanh(_level(air) * 0.8) * _hump(m, rng.uniform(0.01, 0.15), rng.uniform(0.5, 0.85))


def _one_sneeze(rng, pitch, scale):
    """A breath drawn in, voiced or not, a pause, a burst, and what is left of the breath as a vowel."""
    formants = np.array([750, 1300, 2600, 3800]) * scale
    inhale, gap = np.zeros(1), 0.0
    if rng.random() < 0.7:
        m = _s(rng.uniform(0.2, 0.9))
        inhale = _formants(rng.standard_normal(m), formants * 1.2, [300, 400, 600, 800], floor=0.1)
        inhale = _level(inhale) * _hump(m, 0.8, 0.1) * rng.uniform(0.03, 0.25)
        if rng.random() < 0.5:  # ah, ah
            voiced = _sneeze_vowel(rng, pitch, (0.9, 1.3), formants, m / SAMPLE_RATE, 0.8)
            inhale = inhale + voiced[:m] * rng.uniform(0.05, 0.4)
        gap = _log_uniform(rng, 0.02, 0.6)
    parts = [inhale, np.zeros(_s(gap))]
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


@_event("person_sneeze", "a person sneezing")
def _sneeze(rng, n):
    who = rng.integers(3)  # man, woman, child
    pitch = _log_uniform(rng, *((110, 230), (220, 420), (320, 600))[who])
    scale = (0.95, 1.1, 1.3)[who] * rng.uniform(0.95, 1.05)
    wanted = int(rng.choice([1, 2, 3], p=[0.72, 0.22, 0.06]))
    sounds = [_one_sneeze(rng, pitch * rng.lognormal(0, 0.08), scale) * rng.uniform(0.6, 1) for _ in range(wanted)]
    gaps = [_log_uniform(rng, 0.15, 1.2) for _ in sounds]
    while len(sounds) > 1 and sum(map(len, sounds)) + _s(sum(gaps)) > n:  # only what fits is in the clip, and counted
        sounds, gaps = sounds[:-1], gaps[:-1]
    count, sounds[0] = len(sounds), sounds[0][-max(n, 2) :]  # a short clip loses the breath, not the burst
    if rng.random() < 0.3:  # a sniff, or a breath out
        m = _s(rng.uniform(0.15, 0.5))
        sniff = _level(_formants(rng.standard_normal(m), [700 * scale, 2200, 4500], [500, 900, 1500], floor=0.15))
        sounds, gaps = [*sounds, sniff * _hump(m, 0.5, 0.3) * rng.uniform(0.03, 0.2)], [*gaps, 0.0]
    return _in_turn(rng, n, sounds, gaps)[0], [_count(count), ("", "", "high-pitched")[who]]


@_event("coughing", "a person coughing")
def _coughing(rng, n):
    pitch = _log_uniform(rng, 95, 380)
    scale, wet = 0.9 + pitch / 1000, rng.uniform(0, 1) ** 2
    voiced, air = rng.uniform(0, 0.8), np.array([rng.uniform(500, 900), 1500, 2700, 4200])

    def one():
        """The glottis bursts open, air rushes, and the cords may close again with a voiced end."""
        m = _s(rng.uniform(0.15, 0.42))
        burst = _spray(rng, m, np.array([0]), np.array([1.0]), rng.uniform(0.08, 0.2), 300, None)
        rush = rng.standard_normal(m) * _contour(m, (0, 0.1, 0.5, 1), (1, 0.8, 0.3, 0.02))
        rattle = 1 - wet * (0.5 + 0.5 * np.sin(2 * np.pi * np.cumsum(30 + 12 * _smooth(rng, m, 10)) / SAMPLE_RATE))
        end = _cords(rng, pitch * np.linspace(1.2, 0.75, m), 0.5, rng.uniform(0.2, 0.8))
        end = end * _contour(m, (0, 0.3, 0.65, 1), (0.2, 0.35, 1, 0)) * voiced
        x = _formants(
            2 * _level(burst) + _level(rush) * rattle + end, air * scale, [250, 350, 500, 800], [1, 0.8, 0.5, 0.3], 0.05
        )
        return np.tanh(_level(x) * 0.8) * _hump(m, 0.01, 0.4) * rng.lognormal(0, 0.25)

    wanted = int(rng.integers(1, 7))
    sounds = [one() for _ in range(wanted)]
    gaps = [_log_uniform(rng, 0.05, 0.35) if rng.random() < 0.75 else rng.uniform(0.5, 1.5) for _ in sounds]
    gaps[-1] = 0.0
    x, count = _in_turn(rng, n, sounds, gaps)
    return x, [_count(count)]


@_event("breathing", "a person breathing")
def _breathing(rng, n):
    rate = rng.uniform(0.4, 1.2)

    def one(rng, k):
        m = _s(0.4 / rate)
        return _band(_noise(rng, m), 300 if k % 2 else 700, 2500 if k % 2 else 5000) * _hump(m, 0.4, 0.4)

    return _repeat(rng, n, 0.5 / rate, 0.05, one)[0], [_pace(rate, 0.6, 0.9)]


@_event("snoring", "a person snoring")
def _snoring(rng, n):
    def one(rng, k):
        m = _s(rng.uniform(0.7, 1.2))
        return (
            _resonate(_glottis(rng, np.full(m, rng.uniform(28, 60)), 0.6), [250, 600, 1800], [90, 150, 300])
            * _hump(m)
            * 4
        )

    return _repeat(rng, n, rng.uniform(1.6, 2.6), 0.05, one)[0], ["deep"]


# --- animals ---


def _bark(rng, pitch, length_s, bend, hoarse, air, size, throat, corner_hz):
    """A jaw that snaps open and shut: pitch and resonances leap up and fall within a tenth of a second or two."""
    m = _s(length_s * rng.lognormal(0, 0.12))
    top = rng.uniform(0.15, 0.45)
    arch = _contour(m, (0, top, 1), (rng.uniform(0.6, 0.9), 1.15, rng.uniform(0.45, 0.8)))
    f = pitch * rng.lognormal(0, 0.06) * arch**bend
    source = _cords(rng, f, air, hoarse * rng.uniform(0.5, 1), 0.5 * hoarse, corner_hz)
    jaw = _contour(m, (0, top, 1), (0.7, 1.1, 0.65))
    centers = [620 * size * jaw, 1250 * size * jaw**0.5, 2500 * size, 4000 * size**0.5]
    voice = _formants(source, centers, *throat)
    return np.tanh(_level(voice) * rng.uniform(0.4, 1.3)) * _hump(m, rng.uniform(0.04, 0.15), rng.uniform(0.4, 0.8))


def _growl(rng, pitch, length_s):
    """Slow, uneven pulses of the cords under the next bark."""
    m = _s(length_s)
    f = np.clip(pitch * 0.25, 35, 110) * (1 + 0.1 * _smooth(rng, m, 4))
    source = _cords(rng, f, 0.6, 0.7, 0.4)
    return _level(_formants(source, [400, 900, 2000], [200, 300, 500], [1, 0.6, 0.3])) * _hump(m, 0.4, 0.2)


@_event("dog_bark", "a dog barking")
def _dog(rng, n):
    pitch = _log_uniform(rng, 130, 1000)
    length = _log_uniform(rng, 0.06, 0.28) * (400 / pitch) ** 0.25
    # From the clear yap of one gaping throat to the noisy, doubled bark of a hoarse one.
    voice = {
        "bend": rng.uniform(0.15, 1.1),
        "hoarse": rng.uniform(0, 1) ** 3,
        "air": _log_uniform(rng, 0.01, 1),
        "size": (pitch / 400) ** 0.4 * rng.lognormal(0, 0.15),
        "throat": _individual(rng, [200, 300, 500, 800], [1, 0.7, 0.25, 0.08]),
        "corner_hz": _log_uniform(rng, 60, 600),
    }
    per_group, pause = rng.integers(1, 6), _log_uniform(rng, 0.3, 2.5)
    within = _log_uniform(rng, 0.06, 0.5)  # between the barks of one group
    count, total, sounds, gaps = int(rng.integers(1, 13)), 0, [], []
    while len(sounds) < count and total < n:
        sounds.append(_bark(rng, pitch, length, **voice) * rng.lognormal(0, 0.2))
        ends = len(sounds) % per_group == 0
        gaps.append((pause if ends else within) * rng.lognormal(0, 0.25))
        total += len(sounds[-1]) + _s(gaps[-1])
    gaps[-1] = 0.0
    out, count = _in_turn(rng, n, sounds, gaps)
    if rng.random() < 0.15:
        growl = _growl(rng, pitch, rng.uniform(0.3, 1.5)) * rng.uniform(0.03, 0.3)
        out = out + _place(n, [rng.uniform(0, n * 0.7)], [growl])
    if rng.random() < 0.5:
        out = _open_air(rng, _far(out, _log_uniform(rng, 20, 400)))
    return _settle(out), [_count(count), _height(pitch, 160, 800)]


@_event("cat_meow", "a cat meowing")
def _cat(rng, n):
    pitch = _log_uniform(rng, 330, 1000)  # up to kittens
    length, hoarse, size = _log_uniform(rng, 0.25, 1.3), rng.uniform(0, 1) ** 2, (pitch / 550) ** 0.3
    throat = _individual(rng, [250, 350, 600, 900], [1, 0.8, 0.5, 0.2])

    def one():
        """The mouth opens from "m" through "ee" to "a" and closes to "ow": the resonances follow."""
        m = _s(length * rng.lognormal(0, 0.15))
        top = rng.uniform(0.25, 0.6)
        f = (
            _contour(m, (0, top, 1), (rng.uniform(0.65, 0.95), 1.12, rng.uniform(0.6, 0.95)))
            * pitch
            * rng.lognormal(0, 0.05)
        )
        f = f * (
            1 + rng.uniform(0, 0.02) * np.sin(2 * np.pi * rng.uniform(5, 9) * _time(m)) + 0.01 * _smooth(rng, m, 8)
        )
        strain = np.clip(hoarse * (0.5 + 0.6 * _smooth(rng, m, 3)), 0, 1)
        source = _cords(rng, f, rng.uniform(0.03, 0.2), strain, 0.5 * strain, rng.uniform(200, 800))
        first = _contour(m, (0, 0.25, 0.6, 1), (450, 900, 1150, 650)) * size
        second = _contour(m, (0, 0.25, 0.6, 1), (2300, 2500, 1900, 1300)) * size
        voice = _formants(source, [first, second, 3800 * size, 5500], *throat)
        return _level(voice) * _hump(m, rng.uniform(0.1, 0.35), rng.uniform(0.25, 0.5)) * rng.lognormal(0, 0.15)

    sounds = [one() for _ in range(rng.choice([1, 2, 3, 4], p=[0.45, 0.3, 0.15, 0.1]))]
    gaps = [_log_uniform(rng, 0.15, 1.5) for _ in sounds]
    gaps[-1] = 0.0
    x, count = _in_turn(rng, n, sounds, gaps)
    return x, [_count(count), _height(pitch, 330, 1000)]


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
    f, level, open_ = [], [], []
    for part, length, gap in zip(parts, lengths, gaps, strict=True):
        m, last = _s(length), part is parts[-1]
        start, peak, end = np.array(part[2:]) * rng.lognormal(0, 0.02, 3)
        hold = (0, 0.2, 0.6, 1) if last else (0, 0.45, 0.7, 1)
        f.append(_contour(m, hold, (start, peak, 0.95 * peak if last else peak, end)))
        level.append(_hump(m, 0.08 if last else 0.2, 0.25) * (1 if last else rng.uniform(0.4, 0.95)))
        open_.append(_contour(m, (0, 0.3, 0.8, 1), (0.8, 1.05, 1.0, 0.8)))
        k = _s(gap)
        f.append(np.full(k, f[-1][-1]))
        level.append(np.full(k, 0.03))
        open_.append(np.full(k, 0.8))
    f, level, open_ = np.concatenate(f) * pitch, np.concatenate(level), np.concatenate(open_)
    m = len(f)
    strain = np.clip(
        hoarse * _contour(m, (0, 0.5, 0.75, 1), (0.4, 0.3, 0.5, 1.2)) * (1 + 0.5 * _smooth(rng, m, 4)), 0, 1
    )
    source = _cords(
        rng,
        f * (1 + 0.006 * _smooth(rng, m, 12)),
        _log_uniform(rng, 0.01, 0.1) + 0.25 * hoarse,
        strain,
        0.6 * strain,
        1200,
    )
    size = (pitch / 700) ** 0.4
    centers = [950 * size * open_, 2100 * size * open_**0.7, 3500 * size, 5200 * size]
    voice = _formants(source, centers, *throat)
    return np.tanh(_level(voice) * rng.uniform(0.4, 1.2)) * level


@_event("rooster", "a rooster crowing")
def _rooster(rng, n):
    pitch = _log_uniform(rng, 420, 1050)  # from heavy breeds to bantams
    pace, hoarse = _log_uniform(rng, 0.65, 1.35), rng.uniform(0, 1) ** 1.7
    parts = [_CROW_PARTS, _CROW_PARTS, _CROW_PARTS[:1] + _CROW_PARTS[2:], _CROW_PARTS[2:]][rng.integers(4)]
    metres, throat = _log_uniform(rng, 20, 400), _individual(rng, [450, 500, 700, 900], [1, 0.85, 0.5, 0.2])
    wanted = int(rng.choice([1, 2, 3], p=[0.65, 0.27, 0.08]))
    calls = [_crow_call(rng, pitch * rng.lognormal(0, 0.03), pace, hoarse, parts, throat) for _ in range(wanted)]
    gaps = list(rng.uniform(0.5, 2.5, wanted))
    while len(calls) > 1 and sum(map(len, calls)) + _s(sum(gaps)) > n:
        calls, gaps = calls[:-1], gaps[:-1]
    gaps[-1] = 0.0
    out = _far(_in_turn(rng, n, calls, gaps)[0], metres)
    count = _count(len(calls))
    if rng.random() < 0.15:  # a neighbour answers from far, and is not counted
        count = ""
        answer = _far(_crow_call(rng, pitch * rng.uniform(0.8, 1.25), 1.0, 0.1, _CROW_PARTS, throat), 500)
        out = out + _place(n, [rng.uniform(0, 0.8 * n)], [answer * rng.uniform(0.03, 0.15)])
    if rng.random() < 0.15:  # its hens
        out = out + _level(_EVENTS["hen"].make(rng, n)[0]) * rng.uniform(0.01, 0.06)
    if rng.random() < 0.6:
        out = _open_air(rng, out)
    return _settle(out), [count, _height(pitch, 420, 1050), "distant" if metres > 200 else ""]


@_event("hen", "a hen clucking")
def _hen(rng, n):
    pitch, hoarse, cackling = _log_uniform(rng, 280, 700), rng.uniform(0.1, 0.8), rng.random() < 0.4
    size, period = (pitch / 450) ** 0.3, _log_uniform(rng, 0.18, 0.7)
    first, cries = rng.integers(5), []

    def one(rng, k):
        """Clucks, and in a cackle every few of them a long rising cry."""
        long = cackling and k % 5 == first
        cries.append(long)
        m = _s(rng.uniform(0.25, 0.6) if long else rng.uniform(0.04, 0.13))
        bend = (0.8, 1.5, 1.1) if long else (1, 1.1, 0.75)
        f = pitch * rng.lognormal(0, 0.08) * _contour(m, (0, 0.4, 1), bend)
        source = _cords(rng, f, 0.3, hoarse * rng.uniform(0.5, 1), 0.4 * hoarse, 600)
        beak = _contour(m, (0, 0.4, 1), (0.8, 1.1, 0.85)) * size
        voice = _formants(
            source, [950 * beak, 1900 * beak, 3300 * size, 5000], [250, 350, 500, 800], [1, 0.7, 0.4, 0.15]
        )
        return _level(voice) * _hump(m, 0.12, 0.6) * rng.lognormal(0, 0.35) * (1.5 if long else 1)

    x = _repeat(rng, n, period, 0.4, one)[0]
    if rng.random() < 0.4:
        x = _open_air(rng, x)
    return x, ["cackling" if any(cries) else "clucking"]


@_event("cow", "a cow mooing")
def _cow(rng, n):
    deep = rng.random() < 0.65
    pitch = _log_uniform(rng, 65, 150) if deep else _log_uniform(rng, 180, 420)  # calves, and cows that call far
    hoarse = rng.uniform(0, 1) ** 1.5

    def one():
        """Begins in the nose with a closed mouth, then opens: the second half is brighter and strained."""
        m = _s(rng.uniform(0.8, 2.4))
        opens = rng.uniform(0.2, 0.6)
        f = pitch * _contour(m, (0, opens, 0.8, 1), (0.75, 0.95, 1.1, 0.8)) * (1 + 0.012 * _smooth(rng, m, 6))
        strain = np.clip(hoarse * _contour(m, (0, opens, 1), (0.1, 0.5, 1)), 0, 1)
        source = _cords(rng, f, 0.08 + 0.15 * hoarse, strain, 0.6 * strain, rng.uniform(150, 500))
        mouth = _contour(m, (0, opens, 0.85, 1), (0.55, 1, 1, 0.7))
        centers = [480 * mouth, 1100 * mouth, 2100, 3300]
        voice = _formants(source, centers, [130, 220, 350, 500], [1, 0.5, 0.3, 0.15], 0.01)
        return np.tanh(_level(voice) * rng.uniform(0.4, 1)) * mouth * _hump(m, 0.15, 0.25)

    calls = [one() for _ in range(rng.choice([1, 2], p=[0.7, 0.3]))]
    gaps = [*rng.uniform(0.3, 2, len(calls) - 1), 0.0]
    x, count = _in_turn(rng, n, calls, gaps)
    if rng.random() < 0.5:
        x = _open_air(rng, _far(x, _log_uniform(rng, 20, 300)))
    return _settle(x), [_count(count), "deep" if deep else "high-pitched"]


@_event("sheep", "a sheep bleating")
def _sheep(rng, n):
    pitch = rng.uniform(180, 400)

    def one(rng, k):
        m = _s(rng.uniform(0.5, 1.1))
        tremolo = 1 + 0.5 * np.sin(2 * np.pi * rng.uniform(6, 10) * _time(m))
        return (
            _resonate(_glottis(rng, np.full(m, pitch), 0.2), [700, 1500, 2800], [150, 250, 350])
            * tremolo
            * _hump(m)
            * 3
        )

    x, count = _few(rng, n, 1, 3, 1.0, one)
    return x, [_count(count), "trembling"]


@_event("crow", "a crow cawing")
def _crow(rng, n):
    pitch, length = _log_uniform(rng, 250, 600), _log_uniform(rng, 0.15, 0.5)
    hoarse, gap = rng.uniform(0.3, 1), _log_uniform(rng, 0.08, 0.6)

    def one():
        m = _s(length * rng.lognormal(0, 0.1))
        f = pitch * rng.lognormal(0, 0.04) * _contour(m, (0, 0.3, 1), (0.85, 1.08, 0.8))
        source = _cords(rng, f, 0.1 + 0.4 * hoarse, 0.8 * hoarse, 0.5 * hoarse, 900)
        beak = _contour(m, (0, 0.3, 0.8, 1), (0.85, 1.05, 1, 0.85))
        voice = _formants(
            source, [1250 * beak, 1900 * beak, 3200, 5000], [350, 400, 700, 1000], [1, 0.9, 0.4, 0.2], 0.04
        )
        return np.tanh(_level(voice) * rng.uniform(0.6, 1.3)) * _hump(m, 0.12, 0.35) * rng.lognormal(0, 0.12)

    wanted = int(rng.integers(1, 8))
    calls = [one() for _ in range(wanted)]
    gaps = [gap * rng.lognormal(0, 0.15) + (rng.uniform(0.5, 2) if rng.random() < 0.15 else 0) for _ in calls]
    gaps[-1] = 0.0
    x, count = _in_turn(rng, n, calls, gaps)
    if rng.random() < 0.7:
        x = _open_air(rng, _far(x, _log_uniform(rng, 20, 400)))
    return _settle(x), [_count(count), "harsh"]


@_event("bird", "a bird chirping")
def _bird(rng, n):
    base, rate = rng.uniform(1800, 5200), rng.uniform(1.5, 9)
    # A species repeats a few notes of its own: whistles, sweeps, warbles, trills.
    motif = [(rng.integers(4), rng.lognormal(0, 0.12), rng.uniform(-0.35, 0.35)) for _ in range(rng.integers(1, 5))]
    depth, trill, overtones = rng.uniform(0.02, 0.15), rng.uniform(15, 60), rng.uniform(1.2, 3)
    length = rng.uniform(0.3, 0.9)

    def one(rng, k):
        kind, height, bend = motif[k % len(motif)]
        m = _s(min(0.3, length / rate) * rng.lognormal(0, 0.1))
        t = np.linspace(0, 1, m)
        curve = (
            1 + bend * t,
            1 + bend * np.sin(np.pi * t),
            1 + depth * np.sin(2 * np.pi * trill * _time(m)),
            1 + bend * t,
        )
        f = base * height * rng.lognormal(0, 0.01) * curve[kind]
        note = _tone(f, 2, overtones) * _hump(m, rng.uniform(0.1, 0.4), 0.4)
        if kind == 3:
            note = note * (0.5 - 0.5 * np.cos(2 * np.pi * trill * _time(m)))
        return note * rng.lognormal(0, 0.25)

    song = _repeat(rng, n, 1 / rate, rng.uniform(0.03, 0.4), one)[0]
    if rng.random() < 0.6:
        song = _open_air(rng, _far(song, _log_uniform(rng, 20, 150)))
    return song, [_pace(rate, 3, 6), _height(base, 1800, 5200)]


@_event("crickets", "crickets chirping")
def _crickets(rng, n):
    out = np.zeros(n)
    for _ in range(rng.integers(1, 4)):
        f, pulse, chirp = rng.uniform(3000, 5500), rng.uniform(18, 45), rng.uniform(0.7, 3)
        gate = (np.sin(2 * np.pi * pulse * _time(n)) > 0) * (
            np.sin(2 * np.pi * chirp * _time(n) + rng.uniform(0, 6)) > -0.2
        )
        out += _tone(np.full(n, f), 1) * signal.lfilter([0.02], [1, -0.98], gate.astype(float)) * rng.uniform(0.3, 1)
    return out, ["steady"]


@_event("frog", "a frog croaking")
def _frog(rng, n):
    f, rate = rng.uniform(300, 1400), rng.uniform(20, 70)

    def one(rng, k):
        m = _s(rng.uniform(0.15, 0.5))
        pulses = signal.square(2 * np.pi * rate * _time(m), 0.3) > 0
        return _resonate(pulses * 1.0 - 0.3, [f, f * 2.1], [f * 0.15, f * 0.3]) * _hump(m, 0.1, 0.2) * 4

    return _repeat(rng, n, rng.uniform(0.4, 1.1), 0.2, one)[0], [_height(f, 300, 1400)]


@_event("insect_buzz", "an insect buzzing")
def _insect(rng, n):
    f = rng.uniform(120, 450) * (1 + 0.08 * _slow(rng, n, 4, -1, 1))
    return _tone(f, 18, 0.7) * _slow(rng, n, 1.5, 0.2, 1), [_height(float(f.mean()), 120, 450)]


# --- music ---


@_event("bell", "a bell ringing")
def _bell(rng, n):
    f = _log_uniform(rng, 220, 2000)
    t60 = rng.uniform(0.8, 4)

    def one(rng, k):
        return _modes(rng, _s(min(t60, 4)), f, [0.5, 1, 1.19, 1.5, 2, 2.51, 3.01], t60, 0.002)

    x, _ = _repeat(rng, n, rng.uniform(0.5, 2.2), 0.05, one)
    return x, [_height(f, 220, 2000), "long" if t60 > 2.5 else "short"]


def _notes(rng, n, low, high, one):
    """A short melody on a pentatonic scale; `one(rng, f, m)` makes a note."""
    root = _log_uniform(rng, low, high)
    rate = rng.uniform(1, 5)

    def note(rng, k):
        f = root * 2 ** (rng.choice([0, 2, 4, 7, 9, 12]) / 12)
        return one(rng, f, _s(rng.uniform(0.8, 1.5) / rate + 0.1))

    x, _ = _repeat(rng, n, 1 / rate, 0.02, note)
    return x, [_height(root, low, high), _pace(rate, 2, 3.5)]


@_event("piano", "a piano playing")
def _piano(rng, n):
    return _notes(rng, n, 90, 700, lambda rng, f, m: _modes(rng, m, f, range(1, 9), 2.0, 0.0005) * _decay(m, 2, 0.003))


@_event("guitar", "a guitar playing")
def _guitar(rng, n):
    def pluck(rng, f, m):
        period = max(2, int(SAMPLE_RATE / f))
        burst = np.zeros(m)
        burst[: min(period, m)] = rng.uniform(-1, 1, min(period, m))
        a = np.zeros(period + 2)
        a[0], a[period], a[period + 1] = 1, -0.498, -0.498
        return signal.lfilter([1], a, burst) * _hump(m, 0.01, 0.1)

    return _notes(rng, n, 80, 400, pluck)


@_event("strings", "a bowed string instrument playing")
def _strings(rng, n):
    def bow(rng, f, m):
        vibrato = f * (1 + 0.006 * np.sin(2 * np.pi * 5.5 * _time(m)))
        return _resonate(_tone(vibrato, 20, 0.9), [300, 900, 2500], [200, 400, 900]) * _hump(m, 0.2, 0.2) * 3

    return _notes(rng, n, 60, 500, bow)


@_event("flute", "a flute playing")
def _flute(rng, n):
    def blow(rng, f, m):
        vibrato = f * (1 + 0.008 * np.sin(2 * np.pi * 5 * _time(m)))
        return (_tone(vibrato, 4, 1.8) + 0.15 * _band(_noise(rng, m), f, f * 3)) * _hump(m, 0.15, 0.2)

    return _notes(rng, n, 260, 900, blow)


@_event("brass", "a brass instrument playing")
def _brass(rng, n):
    return _notes(
        rng, n, 90, 450, lambda rng, f, m: np.tanh(1.5 * _tone(np.full(m, f), 16, 0.8)) * _hump(m, 0.12, 0.15)
    )


@_event("reed", "a woodwind reed instrument playing")
def _reed(rng, n):
    def blow(rng, f, m):
        square = signal.square(2 * np.pi * f * _time(m), rng.uniform(0.3, 0.5))
        return _band(square, None, 3500) * _hump(m, 0.1, 0.15)

    return _notes(rng, n, 70, 500, blow)


@_event("drums", "drums playing")
def _drums(rng, n):
    rate = rng.uniform(3, 9)

    def one(rng, k):
        m = _s(0.3)
        if k % 4 == 0:
            return _tone(50 + 110 * np.exp(-_time(m) * 30), 1) * _decay(m, 0.3) * 1.5
        if k % 4 == 2:
            return _band(_noise(rng, m), 300, 6000) * _decay(m, 0.18) + _modes(rng, m, 190, [1, 1.6], 0.15)
        return _band(_noise(rng, m), 5000, None) * _decay(m, 0.07) * 0.6

    return _repeat(rng, n, 1 / rate, 0.01, one)[0], [_pace(rate, 4.5, 7), "rhythmic"]


@_event("cymbal", "a cymbal crashing")
def _cymbal(rng, n):
    def one(rng, k):
        m = _s(1.8)
        return (
            _band(_noise(rng, m), 2500, None) * _decay(m, rng.uniform(0.3, 2))
            + _modes(rng, m, 700, [1, 2.3, 4.1, 6.7], 0.8) * 0.3
        )

    x, count = _few(rng, n, 1, 4, 0.6, one)
    return x, [_count(count), "shimmering"]


@_event("street_music", "street music playing")
def _street_music(rng, n):
    first = _EVENTS[rng.choice(["guitar", "reed", "brass", "strings"])].make(rng, n)[0]
    drums = _EVENTS["drums"].make(rng, n)[0]
    crowd = _EVENTS["crowd"].make(rng, n)[0]
    return sum(_level(x) * g for x, g in ((first, 1), (drums, rng.uniform(0, 0.8)), (crowd, rng.uniform(0.1, 0.5)))), []


@_event("whistle", "a person whistling")
def _whistle(rng, n):
    return _notes(rng, n, 900, 2000, lambda rng, f, m: _tone(f * (1 + 0.01 * _slow(rng, m, 6, -1, 1)), 2, 3) * _hump(m))


# --- scenes: quiet beds behind the events ---

_SCENES: dict[str, tuple[str, ...]] = {
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


def _scene(name: str, rng, n: int) -> np.ndarray:
    if name == "white noise":
        return _noise(rng, n, rng.uniform(0, 0.4))
    if name == "a low hum":
        return _tone(np.full(n, float(rng.choice([50, 60, 100, 120]))), 6, 1.2) + 0.2 * _noise(rng, n, 0.8)
    parts = [_level(_EVENTS[label].make(rng, n)[0]) for label in _SCENES[name]]
    return sum(part * rng.uniform(0.4, 1) for part in parts)


def _level(x: np.ndarray) -> np.ndarray:
    """Scale to an RMS of 1."""
    return x / (np.sqrt(np.mean(x**2)) + 1e-9)


def _room(rng, x: np.ndarray) -> tuple[np.ndarray, str]:
    """What a room and a recorder do: reverberation, tone, distance. Returns (audio, attribute word)."""
    word = ""
    if rng.random() < 0.4:
        t60 = _log_uniform(rng, 0.1, 1.5)
        m = _s(min(t60, 1.2))
        tail = rng.standard_normal(m) * _decay(m, t60, 0.0005)
        wet = signal.oaconvolve(x, tail / (np.sqrt(np.sum(tail**2)) + 1e-9))[: len(x)]
        mix = rng.uniform(0.1, 0.7)
        x = x * (1 - mix) + wet * mix
        word = "reverberant" if t60 > 0.7 and mix > 0.35 else ""
    if rng.random() < 0.25:
        x = _band(x, None, _log_uniform(rng, 1200, 5000), 1)
        word = word or "muffled"
    elif rng.random() < 0.3:
        x = _band(x, _log_uniform(rng, 60, 500), None, 1)
    return x, word


# --- the public face ---


def labels() -> tuple[str, ...]:
    """Every event label."""
    return tuple(_EVENTS)


def scenes() -> tuple[str, ...]:
    """Every background scene."""
    return tuple(_SCENES)


def phrase(label: str) -> str:
    """A label in natural words: "dog_bark" -> "a dog barking"."""
    return _EVENTS[_known(label)].phrase


def _known(label: str) -> str:
    if label not in _EVENTS:
        near = difflib.get_close_matches(label, _EVENTS, 3) or sorted(_EVENTS)[:5]
        raise ValueError(f"unknown sound '{label}'; near it are {', '.join(near)}")
    return label


def _caption(rng, label: str, attributes: list[str], second: str, background: str) -> str:
    words = [word for word in dict.fromkeys(attributes) if word]
    main, joined = phrase(label), " ".join(words)
    forms = [main, f"{main}, {joined}" if words else main, f"the sound of {main}"]
    if words:
        forms += [f"{joined} sound of {main}", f"a recording of {main}, {' and '.join(words)}"]
    text = str(rng.choice(forms))
    if second:
        text += str(
            rng.choice([f" and {phrase(second)}", f", followed by {phrase(second)}", f" with {phrase(second)}"])
        )
    if background:
        text += str(
            rng.choice([f" with {background} in the background", f", {background} behind it", f" over {background}"])
        )
    return text


def make_clip(
    label: str,
    rng: np.random.Generator,
    duration_s: float,
    *,
    background: str | None = "auto",
    snr_db: float | None = None,
    second_event: str | None = "auto",
) -> Clip:
    """Make one clip.

    Args:
        label: one of `labels()`.
        rng: the only source of randomness.
        duration_s: length in seconds.
        background: a scene, "auto" (drawn, often none) or None.
        snr_db: level of the events over the background in dB; None draws it from 0 to 20.
        second_event: a label, "auto" (drawn, mostly none) or None.

    Raises:
        ValueError: unknown label or scene (near matches are listed), or a length that is not positive.
    """
    _known(label)
    if duration_s <= 0:
        raise ValueError(f"duration_s must be positive, got {duration_s}")
    if background not in (None, "auto", "") and background not in _SCENES:
        raise ValueError(f"unknown scene '{background}'; there are {', '.join(_SCENES)}")
    n = _s(duration_s)
    audio, attributes = _EVENTS[label].make(rng, n)
    audio = _level(audio)
    second = _draw_second(rng, label, second_event)
    if second:
        audio = audio + _level(_EVENTS[second].make(rng, n)[0]) * rng.uniform(0.25, 0.7)
    audio, room_word = _room(rng, audio)
    scene = _draw_scene(rng, background)
    snr_db = rng.uniform(0, 20) if snr_db is None else snr_db
    if scene:
        audio = _level(audio) + _level(_scene(scene, rng, n)) * 10 ** (-snr_db / 20)
    audio = audio + _level(_noise(rng, n, 0.4)) * np.sqrt(np.mean(audio**2)) * 10 ** (rng.uniform(-70, -30) / 20)
    peak_db = rng.uniform(-24, -1)
    audio = audio / (np.abs(audio).max() + 1e-9) * 10 ** (peak_db / 20) * 0.99
    level_word = "quiet" if peak_db < -18 else "loud" if peak_db > -4 else ""
    caption = _caption(rng, label, [level_word, *attributes, room_word], second, scene)
    events = (label, second) if second else (label,)
    return Clip(audio.astype(np.float32), SAMPLE_RATE, label, caption, events, scene)


def _draw_second(rng, label: str, wanted: str | None) -> str:
    if wanted == "auto":
        other = str(rng.choice(labels()))
        return other if rng.random() < 0.2 and other != label else ""
    return _known(wanted) if wanted else ""


def _draw_scene(rng, wanted: str | None) -> str:
    if wanted == "auto":
        scene = str(rng.choice(scenes()))
        return scene if rng.random() < 0.4 else ""
    return wanted or ""


def random_clip(rng: np.random.Generator, duration_s: float) -> Clip:
    """A clip of a random label."""
    return make_clip(str(rng.choice(labels())), rng, duration_s)
