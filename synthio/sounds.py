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
from scipy import signal

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


# --- weather and water ---


@_event("rain", "rain falling")
def _rain(rng, n):
    density = _log_uniform(rng, 40, 1500)
    drops = rng.random(n) < density / SAMPLE_RATE
    hits = drops * rng.lognormal(0, 0.8, n)
    tap = _band(hits, rng.uniform(800, 2500), rng.uniform(4000, 7500)) * 6
    hiss = _band(_noise(rng, n, rng.uniform(0, 0.3)), rng.uniform(300, 1000), None) * rng.uniform(0.15, 0.5)
    return tap + hiss * np.sqrt(density / 600) * _slow(rng, n, 1, 0.8, 1), ["light" if density < 200 else "heavy"]


@_event("sea_waves", "sea waves washing on a shore")
def _waves(rng, n):
    period = rng.uniform(2.5, 7)
    phase = 2 * np.pi * (_time(n) / period + rng.random()) + _slow(rng, n, 0.5, -0.5, 0.5)
    swell = (0.5 + 0.5 * np.sin(phase)) ** rng.uniform(1, 3)
    low = _band(_noise(rng, n, 0.8), 60, 900)
    foam = _band(_noise(rng, n), 1200, 7000) * swell**2
    return low * (0.3 + 0.7 * swell) + rng.uniform(0.3, 1) * foam, ["slow" if period > 5 else "rolling"]


@_event("wind", "wind blowing")
def _wind(rng, n):
    gust = _slow(rng, n, rng.uniform(0.5, 2), 0.15, 1) ** 1.5
    body = _band(_noise(rng, n, 0.9), 60, rng.uniform(500, 1200))
    howl_hz = rng.uniform(250, 900)
    howl = _resonate(_noise(rng, n), [howl_hz, howl_hz * 1.6], [40, 60]) * 6
    share = rng.uniform(0, 0.8)
    return gust * (body * (1 - share) + howl * share * _slow(rng, n, 2)), ["howling" if share > 0.45 else "gusty"]


@_event("thunder", "thunder rumbling")
def _thunder(rng, n):
    crack = _noise(rng, n) * _decay(n, rng.uniform(0.2, 0.6), 0.004) * rng.uniform(0, 1)
    roll = _band(_noise(rng, n, 1.2), 30, rng.uniform(150, 400)) * _slow(rng, n, 4, 0.2, 1)
    out = _band(crack, 300, None) * 0.6 + roll * _decay(n, rng.uniform(2, 6), 0.1) * 1.5
    return np.roll(out, 0), ["distant" if np.abs(crack).max() < 1 else "cracking"]


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
    bubbles = rng.integers(15, 60) * n // SAMPLE_RATE
    starts = rng.integers(0, n, bubbles)
    sounds = []
    for _ in range(bubbles):
        m = _s(rng.uniform(0.02, 0.08))
        f = _log_uniform(rng, 400, 2500) * (1 + 0.5 * np.arange(m) / m)
        sounds.append(_tone(f, 1) * _decay(m, 0.06) * rng.uniform(0.1, 0.6))
    bed = _band(_noise(rng, n, 0.3), 400, 5000) * _slow(rng, n, 6, 0.15, 0.35)
    return _place(n, starts, sounds) + bed, ["bubbling"]


@_event("pouring_water", "water being poured")
def _pouring(rng, n):
    f = np.linspace(rng.uniform(400, 800), rng.uniform(1200, 2500), n)
    x = _noise(rng, n)
    blocks = max(2, n // 2000)
    out = np.concatenate(
        [_resonate(part, [f[i * n // blocks]], [150]) for i, part in enumerate(np.array_split(x, blocks))]
    )
    return out * 4 * _slow(rng, n, 12, 0.4, 1) + 0.2 * _band(x, 2000, 6000), ["splashing"]


@_event("toilet_flush", "a toilet flushing")
def _flush(rng, n):
    envelope = _hump(n, 0.1, 0.6)
    gurgle = _band(_noise(rng, n, 0.7), 120, 900) * _slow(rng, n, 8, 0.2, 1)
    return envelope * (gurgle + 0.6 * _band(_noise(rng, n), 600, 5000)), ["gurgling"]


@_event("fire_crackling", "a fire crackling")
def _fire(rng, n):
    rate = _log_uniform(rng, 6, 50)
    pops = (rng.random(n) < rate / SAMPLE_RATE) * rng.lognormal(0, 1.0, n) * rng.choice([-1, 1], n)
    snap = _band(pops, rng.uniform(600, 1800), 7500) * 8 + _resonate(pops, [rng.uniform(1500, 4000)], [500]) * 3
    roar = _band(_noise(rng, n, 0.9), 50, 500) * _slow(rng, n, 5, 0.05, rng.uniform(0.1, 0.5))
    hiss = _band(_noise(rng, n), 2500, None) * rng.uniform(0.005, 0.06)
    return snap + roar + hiss, ["lively" if rate > 20 else "gentle"]


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
    rate = _log_uniform(rng, 20, 120)
    drift = rng.choice([0.02, 0.25])
    x = _motor(rng, n, rate, 4, drift, rng.uniform(0.05, 0.3), [rng.uniform(60, 140), rng.uniform(200, 500), 1200])
    return x, [_height(rate, 20, 120), "revving" if drift > 0.1 else "steady"]


@_event("engine_idling", "an engine idling")
def _idling(rng, n):
    rate = rng.uniform(12, 32)
    x = _motor(rng, n, rate, 4, 0.03, rng.uniform(0.1, 0.4), [rng.uniform(50, 100), rng.uniform(150, 350), 900])
    return x, ["rough" if rate < 20 else "steady"]


@_event("helicopter", "a helicopter flying")
def _helicopter(rng, n):
    rate = rng.uniform(9, 22)
    angle = (np.cumsum(np.full(n, rate) * (1 + 0.02 * _slow(rng, n, 1, -1, 1))) / SAMPLE_RATE) % 1
    chop = np.exp(-rng.uniform(4, 10) * angle)
    low = _band(_noise(rng, n, 0.8), 40, 500) * chop
    whine = 0.06 * _tone(np.full(n, rng.uniform(400, 1200)), 4)
    swell = _slow(rng, n, 0.4, 0.5, 1)
    return swell * (low * 1.5 + 0.3 * chop * _band(_noise(rng, n), 500, 4000) + whine), [
        _pace(rate, 13, 18),
        "chopping",
    ]


@_event("chainsaw", "a chainsaw cutting")
def _chainsaw(rng, n):
    rate = rng.uniform(70, 170)
    load = 1 + 0.35 * _slow(rng, n, 1.5, -1, 1)
    buzz = np.tanh(2 * _tone(rate * load, 24, 0.5))
    return buzz * _slow(rng, n, 3, 0.6, 1) + 0.3 * _band(_noise(rng, n), 1500, None), ["buzzing", "revving"]


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
    f = rng.uniform(180, 400) * (1 + 0.03 * _slow(rng, n, 1, -1, 1))
    return _tone(f, 14, 0.8) * 0.4 + _band(_noise(rng, n, 0.2), 300, 7000) * 0.8, ["loud"]


@_event("washing_machine", "a washing machine turning")
def _washer(rng, n):
    turn = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.6, 1.5) * _time(n))
    slosh = _band(_noise(rng, n, 0.6), 150, 1500) * turn
    return slosh + _tone(np.full(n, rng.uniform(45, 110)), 10, 0.9) * 0.3, ["sloshing"]


@_event("train", "a train passing on rails")
def _train(rng, n):
    rate = rng.uniform(1.2, 3.5)

    def one(rng, k):
        m = _s(0.25)
        clack = _band(_noise(rng, m), 200, 2500) * _decay(m, 0.12)
        return clack + 0.8 * np.roll(clack, _s(0.11))

    clack, _ = _repeat(rng, n, 1 / rate, 0.03, one)
    return clack + _band(_noise(rng, n, 0.8), 40, 900) * 0.6, [_pace(rate, 1.8, 2.8), "rumbling"]


@_event("airplane", "an airplane flying over")
def _airplane(rng, n):
    pass_by = np.exp(-(((_time(n) / (n / SAMPLE_RATE) - rng.uniform(0.3, 0.7)) / rng.uniform(0.3, 0.8)) ** 2))
    roar = _band(_noise(rng, n, 0.6), 60, rng.uniform(1500, 4000))
    whine = _tone(np.linspace(1, 0.8, n) * rng.uniform(500, 1500), 3, 1) * rng.uniform(0, 0.2)
    return pass_by * (roar + whine), ["roaring"]


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


@_event("clock_tick", "a clock ticking")
def _clock(rng, n):
    rate = rng.choice([1.0, 2.0, 2.5, 4.0, 5.0]) * rng.uniform(0.97, 1.03)
    f, damp = _log_uniform(rng, 900, 4000), rng.uniform(0.01, 0.06)
    tock = rng.uniform(0.6, 1.0)

    def one(rng, k):
        m = _s(0.09)
        hit = _modes(rng, m, f * (tock if k % 2 else 1), [1, 1.7, 2.9], damp, 0.004)
        return hit + 0.4 * _band(_noise(rng, m), 1500, None) * _decay(m, 0.01)

    return _repeat(rng, n, 1 / rate, 0.004, one)[0], [_pace(rate, 1.5, 3), _height(f, 900, 4000)]


# --- objects, doors, people's actions ---


@_event("footsteps", "footsteps walking")
def _footsteps(rng, n):
    rate, gravel = rng.uniform(1.2, 3.6), rng.random() < 0.45
    thud_hz, top = rng.uniform(60, 160), rng.uniform(1500, 6000)

    def one(rng, k):
        m = _s(0.28)
        thud = _modes(rng, m, thud_hz * rng.uniform(0.95, 1.05), [1, 1.9, 3.3], 0.12, 0.02)
        scuff = _band(_noise(rng, m), 500, top) * (_hump(m, 0.15, 0.7) if gravel else _decay(m, 0.07))
        if gravel:
            scuff *= 0.3 + 2 * (rng.random(m) < 0.06)
        return thud * rng.uniform(0.5, 1) + scuff * (0.6 if gravel else 0.4)

    return _repeat(rng, n, 1 / rate, 0.06, one)[0], [_pace(rate, 1.7, 2.6), "crunching" if gravel else ""]


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
    pitch, rate = _log_uniform(rng, 140, 420), rng.uniform(4, 7)

    def one(rng, k):
        return _syllable(rng, pitch * (1.1 - 0.02 * (k % 8)), 0.5 / rate, 0.5) * (1 - 0.08 * (k % 8))

    return _repeat(rng, n, 1 / rate, 0.08, one)[0], [_height(pitch, 140, 420)]


@_event("baby_cry", "a baby crying")
def _baby(rng, n):
    pitch = rng.uniform(330, 620)

    def one(rng, k):
        m = _s(rng.uniform(0.5, 1.2))
        bend = (
            pitch
            * (0.85 + 0.3 * np.sin(np.pi * np.linspace(0.1, 0.9, m)))
            * (1 + 0.02 * np.sin(2 * np.pi * 8 * _time(m)))
        )
        voice = _resonate(_glottis(rng, bend, 0.15), [1000, 1900, 3600], [150, 200, 300], [1, 0.8, 0.5])
        return np.tanh(3 * voice) * _hump(m, 0.1, 0.3)

    return _repeat(rng, n, rng.uniform(1.0, 1.6), 0.15, one)[0], [_height(pitch, 330, 620), "wailing"]


@_event("person_sneeze", "a person sneezing")
def _sneeze(rng, n):
    def one(rng, k):
        inhale = _band(_noise(rng, _s(0.35)), 800, 4000) * np.linspace(0, 1, _s(0.35)) ** 2 * rng.uniform(0.05, 0.3)
        m = _s(rng.uniform(0.25, 0.5))
        burst = (
            _resonate(_noise(rng, m), [rng.uniform(900, 1600), 2500, 4500], [400, 600, 900]) * 3 * _decay(m, 0.35, 0.01)
        )
        voice = _syllable(rng, rng.uniform(180, 420), m / SAMPLE_RATE, 0.6) * 0.8
        return np.concatenate([inhale, burst + voice[:m] * _decay(m, 0.3, 0.01)])

    x, count = _few(rng, n, 1, 2, 1.1, one)
    return x, [_count(count)]


@_event("coughing", "a person coughing")
def _coughing(rng, n):
    def one(rng, k):
        m = _s(rng.uniform(0.15, 0.35))
        rough = _resonate(_noise(rng, m), [rng.uniform(400, 800), 1300, 2700], [250, 350, 500]) * 3
        return rough * _decay(m, 0.25, 0.006) + 0.5 * _syllable(rng, rng.uniform(100, 220), m / SAMPLE_RATE, 0.8)[:m]

    x, count = _few(rng, n, 1, 5, 0.4, one)
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


@_event("dog_bark", "a dog barking")
def _dog(rng, n):
    pitch = _log_uniform(rng, 160, 800)
    length = rng.uniform(0.08, 0.28)
    size = (pitch / 400) ** 0.35

    def one(rng, k):
        m = _s(length * rng.uniform(0.85, 1.15))
        bend = pitch * rng.uniform(0.92, 1.08) * (0.7 + 0.5 * np.sin(np.pi * np.linspace(0.15, 1, m)))
        source = _glottis(rng, bend, rng.uniform(0.3, 0.9))
        return np.tanh(4 * _resonate(source, np.array([650, 1300, 2700]) * size, [180, 260, 400])) * _hump(
            m, 0.08, 0.45
        )

    x, count = _few(rng, n, 1, 7, length * 1.6, one)
    return x, [_count(count), _height(pitch, 160, 800)]


@_event("cat_meow", "a cat meowing")
def _cat(rng, n):
    pitch = rng.uniform(380, 800)

    def one(rng, k):
        m = _s(rng.uniform(0.4, 1.0))
        t = np.linspace(0, 1, m)
        voice = _glottis(rng, pitch * (0.8 + 0.5 * np.sin(np.pi * t**0.7)), 0.05)
        return _resonate(voice, [900, 1800, 3500], [150, 250, 400]) * _hump(m, 0.2, 0.4) * 3

    x, count = _few(rng, n, 1, 3, 1.0, one)
    return x, [_count(count), _height(pitch, 380, 800)]


@_event("rooster", "a rooster crowing")
def _rooster(rng, n):
    pitch = rng.uniform(550, 950)

    def one(rng, k):
        parts = [(0.15, 0.75, 0.95), (0.12, 0.95, 1.0), (0.3, 1.1, 1.25), (rng.uniform(0.5, 1.0), 1.25, 0.7)]
        notes = []
        for seconds, start, end in parts:
            m = _s(seconds)
            f = pitch * np.linspace(start, end, m) * (1 + 0.02 * _slow(rng, m, 40, -1, 1))
            notes.append(_resonate(_glottis(rng, f, 0.25), [1200, 2400, 3800], [250, 350, 500]) * _hump(m, 0.1, 0.2))
            notes.append(np.zeros(_s(0.03)))
        return np.tanh(3 * np.concatenate(notes))

    x, count = _few(rng, n, 1, 2, 1.7, one)
    return x, [_count(count), _height(pitch, 550, 950)]


@_event("hen", "a hen clucking")
def _hen(rng, n):
    pitch = rng.uniform(350, 700)

    def one(rng, k):
        m = _s(rng.uniform(0.05, 0.14))
        voice = _glottis(rng, pitch * rng.uniform(0.85, 1.2) * np.linspace(1, 0.8, m), 0.3)
        return _resonate(voice, [900, 1900, 3200], [200, 300, 400]) * _hump(m, 0.1, 0.5) * 3

    return _repeat(rng, n, rng.uniform(0.2, 0.5), 0.4, one)[0], ["clucking"]


@_event("cow", "a cow mooing")
def _cow(rng, n):
    pitch = rng.uniform(70, 160)

    def one(rng, k):
        m = _s(rng.uniform(1.0, 2.0))
        voice = _glottis(rng, pitch * (0.85 + 0.25 * np.sin(np.pi * np.linspace(0, 1, m))), 0.1)
        return _resonate(voice, [350, 800, 2000], [90, 150, 300]) * _hump(m, 0.2, 0.3) * 4

    x, count = _few(rng, n, 1, 2, 1.6, one)
    return x, [_count(count), "deep"]


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
    def one(rng, k):
        m = _s(rng.uniform(0.2, 0.45))
        voice = _glottis(rng, rng.uniform(250, 450) * np.linspace(1.1, 0.85, m), 1.2)
        return np.tanh(4 * _resonate(voice, [1100, 1700, 3000], [250, 300, 500])) * _hump(m, 0.1, 0.3)

    x, count = _few(rng, n, 1, 5, 0.55, one)
    return x, [_count(count), "harsh"]


@_event("bird", "a bird chirping")
def _bird(rng, n):
    base, rate = rng.uniform(1800, 5200), rng.uniform(1.5, 9)
    kind = rng.integers(3)

    def one(rng, k):
        m = _s(rng.uniform(0.04, 0.25))
        t = np.linspace(0, 1, m)
        sweep = [1 + 0.3 * t, 1.25 - 0.4 * t, 1 + 0.12 * np.sin(2 * np.pi * rng.uniform(3, 9) * t)][kind]
        return _tone(base * rng.uniform(0.9, 1.15) * sweep, 2, 2.5) * _hump(m, 0.2, 0.4) * rng.uniform(0.4, 1)

    return _repeat(rng, n, 1 / rate, 0.35, one)[0], [_pace(rate, 3, 6), _height(base, 1800, 5200)]


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
