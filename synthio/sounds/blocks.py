"""Building blocks of the sounds. n is a number of samples, times are in samples unless the name says _s."""

from __future__ import annotations

import numpy as np
from scipy import signal

SAMPLE_RATE = 16000


def samples(seconds: float) -> int:
    return max(1, round(seconds * SAMPLE_RATE))


def time_axis(n: int) -> np.ndarray:
    return np.arange(n) / SAMPLE_RATE


def log_uniform(rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def band(x, low: float | None, high: float | None, order: int = 2):
    """Butterworth low-, high- or band-pass; corners in Hz."""
    top = SAMPLE_RATE / 2 * 0.98
    if low and high:
        sos = signal.butter(
            order, [max(20, low), min(max(high, low * 1.05), top)], "band", fs=SAMPLE_RATE, output="sos"
        )
    elif low:
        sos = signal.butter(order, min(low, top), "high", fs=SAMPLE_RATE, output="sos")
    else:
        assert high, "a band has a corner"
        sos = signal.butter(order, min(high, top), "low", fs=SAMPLE_RATE, output="sos")
    return signal.sosfilt(sos, x)


def resonate(x, centers, bandwidths, gains=None):
    """A bank of two-pole resonators in parallel: formants, bodies, pipes."""
    gains = np.ones(len(centers)) if gains is None else gains
    out = np.zeros(len(x))
    for center, bandwidth, gain in zip(centers, bandwidths, gains, strict=True):
        center = min(center, SAMPLE_RATE / 2 * 0.95)
        radius = np.exp(-np.pi * bandwidth / SAMPLE_RATE)
        a = [1, -2 * radius * np.cos(2 * np.pi * center / SAMPLE_RATE), radius**2]
        out += gain * signal.lfilter([1 - radius], a, x)
    return out


def make_noise(rng, n: int, tilt: float = 0.0):
    """White noise with a spectral tilt: power falls by 6 * tilt dB per octave (0 white, 0.5 pink, 1 brown)."""
    white = rng.standard_normal(n)
    if not tilt:
        return white
    spectrum = np.fft.rfft(white)
    f = np.maximum(np.fft.rfftfreq(n, 1 / SAMPLE_RATE), 40.0)
    shaped = np.fft.irfft(spectrum * (f / 1000) ** -tilt, n)
    return shaped / (shaped.std() + 1e-12)


def slow_curve(rng, n: int, rate_hz: float, low: float = 0.0, high: float = 1.0):
    """A smooth random curve in [low, high] that changes about `rate_hz` times a second."""
    knots = max(4, int(n / SAMPLE_RATE * rate_hz) + 4)
    return np.interp(np.linspace(0, knots - 1, n), np.arange(knots), rng.uniform(low, high, knots))


def decay(n: int, t60_s: float, attack_s: float = 0.002):
    """An envelope: linear attack, then exponential decay by 60 dB in t60_s."""
    t = time_axis(n)
    return np.minimum(1, t / max(attack_s, 1e-4)) * 10 ** (-3 * np.maximum(0, t - attack_s) / t60_s)


def hump(n: int, attack: float = 0.2, release: float = 0.3):
    """An envelope with raised-cosine ends; attack and release are shares of its length."""
    rise, fall = max(1, int(n * attack)), max(1, int(n * release))
    out = np.ones(n)
    out[:rise] = 0.5 - 0.5 * np.cos(np.pi * np.arange(rise) / rise)
    out[-fall:] *= 0.5 + 0.5 * np.cos(np.pi * np.arange(fall) / fall)
    return out


def modes(rng, n: int, base_hz: float, ratios, t60_s: float, spread: float = 0.01):
    """A struck body: decaying partials at ratios of base_hz, the higher ones dying sooner."""
    t = time_axis(n)
    out = np.zeros(n)
    for k, ratio in enumerate(ratios):
        f = base_hz * ratio * (1 + rng.normal(0, spread))
        if f < SAMPLE_RATE / 2:
            level = rng.uniform(0.3, 1) / (1 + 0.5 * k)
            out += level * np.sin(2 * np.pi * f * t + rng.uniform(0, 6.28)) * decay(n, t60_s / (1 + 0.4 * k))
    return out


def tone(freq_hz, harmonics: int, rolloff: float = 1.0, phase: float = 0.0):
    """A harmonic tone along a frequency curve [n] in Hz; partial k has level 1 / k ** rolloff."""
    angle = 2 * np.pi * np.cumsum(freq_hz) / SAMPLE_RATE + phase
    top = float(np.max(freq_hz))
    out = np.zeros(len(freq_hz))
    for k in range(1, harmonics + 1):
        if k * top < SAMPLE_RATE / 2:
            out += np.sin(k * angle) / k**rolloff
    return out


def glottis(rng, freq_hz, breath: float = 0.05):
    """A voice source along a pitch curve [n] in Hz: pulses rich in harmonics, with breath noise."""
    angle = np.cumsum(freq_hz * (1 + 0.01 * slow_curve(rng, len(freq_hz), 30, -1, 1))) / SAMPLE_RATE
    pulse = 2 * np.exp(-6 * (angle % 1.0)) - 0.35
    return pulse + breath * rng.standard_normal(len(freq_hz)) * (0.3 + (angle % 1.0))


def place_at(n: int, starts, sounds) -> np.ndarray:
    """Add sounds at start samples; what runs over the end is cut."""
    out = np.zeros(n)
    for start, sound in zip(starts, sounds, strict=True):
        start = int(start)
        if 0 <= start < n:
            part = sound[: n - start]
            out[start : start + len(part)] += part
    return out


def repeat(rng, n: int, period_s: float, jitter: float, one, first_s: float | None = None):
    """Place `one(rng, k)` every period_s with relative jitter; returns (audio, count)."""
    seconds = n / SAMPLE_RATE
    at = rng.uniform(0, min(period_s, 0.3, max(seconds - 0.1, 0))) if first_s is None else first_s
    starts: list[int] = []
    while not starts or at < seconds - 0.03:
        starts.append(samples(at) - 1)
        at += period_s * max(0.2, 1 + rng.normal(0, jitter))
    return place_at(n, starts, [one(rng, k) for k in range(len(starts))]), len(starts)


def few(rng, n: int, low: int, high: int, length_s: float, one):
    """Place 1.. `high` sounds of about length_s at random, not overlapping much; returns (audio, count)."""
    room = max(1, int(n / SAMPLE_RATE / max(length_s, 0.05)))
    count = int(min(rng.integers(low, high + 1), room))
    latest = max(n - samples(length_s * 1.1), 1)
    edges = np.sort(rng.uniform(0, latest, count)) if count > 1 else [rng.uniform(0, n * 0.2)]
    gap = samples(length_s)
    starts = [edges[0]]
    for edge in edges[1:]:
        starts.append(max(edge, starts[-1] + gap))
    return place_at(n, starts, [one(rng, k) for k in range(count)]), count


def height_word(f: float, low: float, high: float) -> str:
    """A pitch word for f within the event's own range [low, high] in Hz."""
    position = np.log(f / low) / np.log(high / low)
    return "low-pitched" if position < 0.35 else "high-pitched" if position > 0.65 else ""


def pace_word(rate: float, slow: float, fast: float) -> str:
    return "slow" if rate < slow else "fast" if rate > fast else ""


def count_word(count: int) -> str:
    return {1: "single", 2: "two", 3: "three"}.get(count, "several")


def unit(x: np.ndarray) -> np.ndarray:
    """Scale to an RMS of 1."""
    return x / (np.sqrt(np.mean(x**2)) + 1e-9)
