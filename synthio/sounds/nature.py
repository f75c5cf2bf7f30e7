"""More building blocks, for sounds in the open and from throats: clusters, distance, resonances that move."""

from __future__ import annotations

import numpy as np
from scipy import interpolate, signal

from synthio.sounds.blocks import SAMPLE_RATE, band, decay, log_uniform, place_at, samples, slow_curve, unit

_FRAME, _HOP = 512, 128


def smooth_curve(rng, n: int, rate_hz: float):
    """A random curve of mean 0 and variance about 1 that changes at rate_hz and, less, at two octaves above it."""
    m = n // 80 + 2  # these curves are slow: 200 values a second do
    curve = sum(slow_curve(rng, m, 80 * rate_hz * 2**k, -1, 1) / 2 ** (k / 2) for k in range(3)) / 0.62
    return np.interp(np.arange(n), 80 * np.arange(m), curve)


def contour(n: int, times, values):
    """A smooth curve [n] through values at increasing times, which are shares of its length."""
    return interpolate.PchipInterpolator(times, values)(np.linspace(times[0], times[-1], n))


def bursts(rng, n: int, rate: float, cluster: float, change_hz: float):
    """Places of impacts, `rate` a second in the mean. The rate itself wanders, by a factor of e**cluster: real
    drops and pops come in clusters, where a Poisson process sounds like a machine."""
    wander = np.exp(cluster * smooth_curve(rng, n, change_hz))
    return np.flatnonzero(rng.random(n) * wander.mean() * SAMPLE_RATE < rate * wander)


def pareto(rng, count: int, shape: float, top: float):
    """Power-law levels from 1 to top. Equal sources spread over a plane and heard as 1 / distance have shape 2."""
    return np.minimum((1 - rng.random(count)) ** (-1 / shape), top)


def make_grains(rng, n: int, at, levels, low: float, high: float, t60_s: float, kinds: int = 6):
    """Impacts that each ring one of some small bodies: centers between low and high Hz, dying within about t60_s."""
    kind, out = rng.integers(kinds, size=len(at)), np.zeros(n)
    for k in range(kinds):
        angle = 2 * np.pi * log_uniform(rng, low, high) / SAMPLE_RATE
        radius = 10 ** (-3 / (t60_s * rng.uniform(0.4, 1.6) * SAMPLE_RATE))
        train = np.bincount(at[kind == k], levels[kind == k], n)
        out += signal.lfilter([np.sin(angle)], [1, -2 * radius * np.cos(angle), radius**2], train)
    return out


def spray(rng, n: int, at, levels, t60_s: float, low: float | None, high: float | None):
    """Bursts of noise that die within t60_s: splashes, cracks, breath."""
    fade = 10 ** (-3 / (t60_s * SAMPLE_RATE))
    envelope = signal.lfilter([1], [1, -fade], np.bincount(at, levels, n))
    return band(envelope * rng.standard_normal(n), low, high, 1)


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


def through_formants(x, centers, bandwidths, gains=None, floor: float = 0.02):
    """Resonances of a throat that opens and closes: each center is a number or a curve [len(x)], in Hz."""
    gains = np.ones(len(centers)) if gains is None else gains
    moments = np.minimum(np.arange(len(x) // _HOP + 2) * _HOP, len(x) - 1)
    f = np.fft.rfftfreq(_FRAME, 1 / SAMPLE_RATE)
    gain = np.full((len(moments), len(f)), float(floor))
    for center, bandwidth, level in zip(centers, bandwidths, gains, strict=True):
        away = f - np.broadcast_to(center, len(x))[moments, None]
        gain += level / np.sqrt(1 + (2 * away / bandwidth) ** 2)
    return _filter_over_time(x, gain)


def strokes(rng, angle, spread: float, alternate=0.0):
    """One pulse each time the angle [n] in turns passes a whole number, shared between two samples so that pitch
    does not snap to the sample grid. Strengths vary by `spread`; every other one is weaker by `alternate` [n]."""
    n = len(angle)
    at = np.flatnonzero(np.diff(np.floor(angle), prepend=np.floor(angle[0])) > 0)
    late = np.clip((angle[at] % 1) / np.maximum(angle[at] - angle[at - 1], 1e-9), 0, 1)
    strength = np.maximum(1 + spread * rng.standard_normal(len(at)), 0)
    strength[::2] *= 1 - np.broadcast_to(alternate, n)[at[::2]]
    return np.bincount(at, strength * (1 - late), n) + np.bincount(np.maximum(at - 1, 0), strength * late, n)


def cords(rng, pitch_hz, breath=0.1, rough=0.0, double=0.0, corner_hz: float = 200.0):
    """A voice source along a pitch curve [n]: a pulse a cycle that falls by 6 dB per octave above corner_hz.

    breath: level of noise, most while the cords are open. rough: 0 to 1, irregular cycles as in strained voices.
    double: 0 to 1, period doubling, the subharmonics of hoarse animals and screams. All may be curves [n].
    """
    n = len(pitch_hz)
    uneven = 0.006 * smooth_curve(rng, n, 25) + 0.12 * rough * slow_curve(rng, n, 150, -1, 1)
    angle = np.cumsum(pitch_hz * (1 + uneven)) / SAMPLE_RATE + rng.random()
    pulses = strokes(rng, angle, 0.06 + 0.4 * float(np.mean(rough)), double)
    pulses = pulses - pulses.sum() * pitch_hz / np.sum(pitch_hz)  # no air flows on average
    pole = np.exp(-2 * np.pi * corner_hz / SAMPLE_RATE)
    voice = signal.lfilter([0.5, 0, -0.5], np.polymul([1, -0.985], [1, -pole]), pulses)
    noise = signal.lfilter([0.5], [1, -0.5], rng.standard_normal(n) * (0.4 + (angle % 1)))  # softer above 2 kHz
    return unit(voice) + (breath + 0.3 * rough) * noise


def individual(rng, widths, gains):
    """The throat of one animal or person: (widths, gains, floor) of its resonances, from dull to shrill."""
    tilt = rng.normal(0, 0.8) * np.arange(len(gains)) / 2
    gains = np.array(gains) * np.exp(tilt + rng.normal(0, 0.35, len(gains)))
    return np.array(widths) * log_uniform(rng, 0.35, 1.2), gains, log_uniform(rng, 0.003, 0.04)


def settle(x):
    """Take out the steady pressure that bent and one-sided waves carry and no microphone passes."""
    return signal.lfilter([1, -1], [1, -0.99], x)


def from_afar(x, metres: float):
    """Air and ground take the high frequencies of what is far."""
    return band(x, None, 16000 * (20 / max(metres, 20)) ** 0.7, 1)


def open_air(rng, x):
    """A yard or a wood: echoes of a few walls, then a thin, dull tail."""
    m = samples(rng.uniform(0.3, 1.2))
    tail = band(rng.standard_normal(m) * decay(m, log_uniform(rng, 0.4, 2.5), 0.02), 150, rng.uniform(1500, 5000), 1)
    tail /= np.sqrt(np.sum(tail**2)) + 1e-9
    for _ in range(rng.integers(0, 4)):
        tail[rng.integers(m)] += rng.uniform(0.1, 0.5)
    return x + rng.uniform(0.1, 0.6) * signal.oaconvolve(x, tail)[: len(x)]


def in_turn(rng, n: int, sounds, gaps_s, lead: float | None = None):
    """Sounds one after the other with gaps_s after each; returns (audio, how many begin before the end).

    What is left of the clip is shared between the silence before and after; `lead` is the part before, 0 to 1.
    """
    lengths = np.array([len(x) for x in sounds]) + np.array([samples(gap) for gap in gaps_s])
    free = max(0, n - int(lengths.sum()))
    starts = int(free * (rng.beta(1, 2) if lead is None else lead)) + np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return place_at(n, starts, sounds), max(1, int(np.sum(starts < n - samples(0.05))))
