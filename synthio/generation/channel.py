"""The recording chain of real clips, put on generated ones: room, tone, bandwidth, level and noise floor.

    channel = estimate_channel(gold, generated, sample_rate)  # mono clips [T] of that rate
    matched = channel.apply(audio, seed)  # [C, T]

One chain is estimated for all clips, from means and quantiles over them, so that no clip's own event is copied. A
generated clip goes through the room, then through the filter, and noise is added. Nothing is trained.

- Filter: the mean log spectrum of the generated clips becomes that of the gold clips, in bands of a third of an octave.
  The noise is counted in: what is noise in the gold clips is not made by raising the generated sound.
- Noise: what the floors of the gold clips have more than those of the filtered ones. The floor of a clip is a low
  quantile over time (minimum statistics, Martin 2001). A steady event, such as rain, is a floor too, but not that of
  every clip: each generated clip gets a level between the least and the median floor of the set, drawn by its seed, for
  noise that is the same in all clips takes their variety. Lines (hum) come as tones, the rest as shaped noise.
- Room: decaying noise (Moorer 1979), of the length and level with which the generated clips fall from their loud parts
  as steeply as the gold clips do; none where they do already.

Every difference is taken by its standard error over the clips, so that sets of one kind stay as they are: a gain of
less than two is none, and of the noise one is taken off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import signal

SHORTEST_S = 0.05  # of a clip that says something; shorter ones, and silent ones, are passed over
SILENT_PEAK = 1e-4
WINDOW_S = 0.128  # of the spectra: lines of hum that are 16 Hz apart are told apart
BANDS_PER_OCTAVE, LOWEST_HZ = 3, 30.0
MAX_BOOST_DB, MAX_CUT_DB, MAX_LEVEL_DB = 20.0, 40.0, 40.0  # a band beside the level; the level, which is their median
QUIETEST_DB = -130.0  # power per Hz; 16 bits have -142 at 16 kHz
OVER_TIME = 0.1  # the quantile that is a clip's floor
OVER_CLIPS = (0.01, 0.5)  # those of a set's floors that are the least and the most noise of a clip
AVERAGED = 3  # spectra that a floor's is a mean of
LINE_DB, LINE_HZ = 10.0, 100.0  # a line stands so far above the median of this much to either side
ROUNDS = 5  # of filter and noise in turn: each depends on the other
ROOM_S, ROOM_DB = (0.25, 0.5, 1.0), (-6.0, 0.0, 6.0)  # what is tried: time to -60 dB; tail over direct sound
ROOM_CLIPS = 40  # drawn from the generated ones
FRAME_S, FALLS_S, STEEP = 0.01, (0.03, 0.06, 0.12, 0.2), 0.1  # levels; lags of their falls; the quantile of these
LOUD_DB = 10.0  # below a clip's loudest frame: from there a fall is one of the sound, and not of the noise
CERTAIN = 2.0  # standard errors that are no chance
TAPS_S = 0.064
MAX_PEAK = 0.99


@dataclass(frozen=True)
class Channel:
    """A chain of recording.

    Attributes:
        sample_rate: in Hz.
        bands_hz, gains_db: the filter; the gains hold the level, too.
        noise_hz, noise_db, more_noise_db: power per Hz of the least and of the most noise that a clip gets, over full
            scale squared. How much it is, is drawn for each clip; of `QUIETEST_DB` there is none.
        tones: (frequency in Hz, amplitude) of each line of hum.
        room_s: time in which the room falls by 60 dB; 0: there is none.
        room_db: energy of the room's tail over that of the sound that comes directly.
    """

    sample_rate: int
    bands_hz: tuple[float, ...]
    gains_db: tuple[float, ...]
    noise_hz: tuple[float, ...]
    noise_db: tuple[float, ...]
    more_noise_db: tuple[float, ...]
    tones: tuple[tuple[float, float], ...] = ()
    room_s: float = 0.0
    room_db: float = 0.0

    def record(self) -> dict[str, Any]:
        """For a JSON file; `channel_of` reads it."""
        return asdict(self)

    def summary(self) -> str:
        """One line for people."""
        if self == replace(nothing(self.sample_rate), bands_hz=self.bands_hz, noise_hz=self.noise_hz):
            return "none to be told from theirs"
        gains = np.array(self.gains_db)
        parts = [f"level {np.median(gains):+.0f} dB, bands {np.ptp(gains):.0f} dB apart"] if gains.any() else []
        if max(self.more_noise_db) > QUIETEST_DB:
            parts.append(f"noise up to {max(self.more_noise_db):.0f} dB per Hz")
        if self.tones:
            parts.append(f"hum at {', '.join(f'{frequency:.0f}' for frequency, _ in self.tones)} Hz")
        if self.room_s:
            parts.append(f"a room of {self.room_s:g} s")
        return "; ".join(parts)

    def apply(self, audio: np.ndarray, seed: int) -> np.ndarray:
        """What this chain makes of a clip, float32 [C, T] -> [C, T]; its peak is at most `MAX_PEAK` if it changes it.

        Args:
            audio: of this sample rate.
            seed: of the noise and of the phases of the tones.
        """
        heard = self._filter(self._reverberate(audio.astype(np.float64)))
        heard = heard + self.noise(audio.shape[1], seed)
        if np.array_equal(heard, audio):
            return audio
        return (heard / max(1.0, np.abs(heard).max() / MAX_PEAK)).astype(np.float32)

    def noise(self, samples: int, seed: int) -> np.ndarray:
        """Noise and tones, float64 [T]."""
        rng, time = np.random.default_rng(seed), np.arange(samples) / self.sample_rate
        found, least, most = np.zeros(samples), np.array(self.noise_db), np.array(self.more_noise_db)
        if most.max() > QUIETEST_DB:
            frequencies = np.fft.rfftfreq(samples, 1 / self.sample_rate)
            density = _power(np.interp(frequencies, self.noise_hz, least + rng.random() * (most - least)))
            shape = np.sqrt(density * self.sample_rate / 2)
            found = np.fft.irfft(np.fft.rfft(rng.standard_normal(samples)) * shape, samples)
        for frequency, amplitude in self.tones:
            found += amplitude * np.sin(2 * np.pi * (frequency * time + rng.random()))
        return found

    def _reverberate(self, audio: np.ndarray) -> np.ndarray:
        if not self.room_s:
            return audio
        response = room_response(self.room_s, self.room_db, self.sample_rate)
        return signal.oaconvolve(audio, response[None], axes=1)[:, : audio.shape[1]]

    def _filter(self, audio: np.ndarray) -> np.ndarray:
        if not any(self.gains_db):
            return audio
        taps = filter_taps(self.bands_hz, self.gains_db, self.sample_rate)
        return signal.oaconvolve(audio, taps[None], axes=1)[:, : audio.shape[1]]


def channel_of(record: dict[str, Any]) -> Channel:
    """The channel of `Channel.record`, also after a JSON file."""
    tones = tuple((frequency, amplitude) for frequency, amplitude in record["tones"])
    lists = {name: tuple(record[name]) for name in ("bands_hz", "gains_db", "noise_hz", "noise_db", "more_noise_db")}
    return Channel(**{**record, **lists, "tones": tones})


@lru_cache(maxsize=8)
def filter_taps(bands_hz: tuple[float, ...], gains_db: tuple[float, ...], sample_rate: int) -> np.ndarray:
    """A minimum-phase filter: nothing is heard before its cause."""
    nyquist, size = sample_rate / 2, 2 * int(TAPS_S * sample_rate / 2) + 1
    grid = np.linspace(0, nyquist, size)
    gains = np.interp(np.log(np.maximum(grid, 1.0)), np.log(bands_hz), gains_db)
    linear = signal.firwin2(size, grid, 10 ** (gains / 20), fs=sample_rate)
    return signal.minimum_phase(linear, half=False)


@lru_cache(maxsize=16)
def room_response(seconds: float, tail_db: float, sample_rate: int) -> np.ndarray:
    """The direct sound and a tail of decaying noise, of energy 1 together; always the same room."""
    time = np.arange(1, round(seconds * sample_rate)) / sample_rate
    tail = np.random.default_rng(0).standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    tail *= np.sqrt(_power(tail_db) / np.sum(tail**2))
    response = np.concatenate([[1.0], tail])
    return response / np.sqrt(np.sum(response**2))


def _power(db):
    return 10 ** (np.asarray(db) / 10)


def _db(power):
    return 10 * np.log10(np.maximum(power, _power(QUIETEST_DB)))


# What is measured in clips


@dataclass(frozen=True)
class Measured:
    """Of each clip that says something: mean spectrum and floor, power per Hz [N, F], and its falls in dB [N, K]."""

    spectra: np.ndarray
    floors: np.ndarray
    falls: np.ndarray
    frequencies: np.ndarray

    def __len__(self) -> int:
        return len(self.spectra)


def window_samples(sample_rate: int) -> int:
    return int(2 ** round(np.log2(WINDOW_S * sample_rate)))


def says_something(audio: np.ndarray, sample_rate: int) -> bool:
    """Whether a clip is neither silent nor too short to have a spectrum."""
    return len(audio) >= SHORTEST_S * sample_rate and float(np.abs(audio).max()) > SILENT_PEAK


def measure(clips: Sequence[np.ndarray], sample_rate: int) -> Measured:
    """Measure mono clips [T]; those that say nothing are passed over."""
    size = window_samples(sample_rate)
    window = signal.ShortTimeFFT(np.hanning(size), size // 2, sample_rate, fft_mode="onesided2X", scale_to="psd")
    found = [_measure(clip, window) for clip in clips if says_something(clip, sample_rate)]
    widths = (size // 2 + 1, size // 2 + 1, len(FALLS_S))
    spectra, floors, falls = (
        np.array([row[column] for row in found]).reshape(-1, width) for column, width in enumerate(widths)
    )
    return Measured(spectra, floors, falls, window.f)


def _measure(clip: np.ndarray, window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    size, rate = window.m_num, round(window.fs)
    power = np.square(np.abs(window.stft(np.pad(clip, (0, max(0, size - len(clip)))).astype(np.float64))))
    first, last = window.lower_border_end[1], max(window.upper_border_begin(max(size, len(clip)))[1], 1)
    whole = power[:, first:last] if last > first else power  # frames that lie inside the clip
    calm = signal.lfilter(np.ones(AVERAGED) / AVERAGED, [1.0], whole, axis=1)[:, AVERAGED - 1 :]
    calm = calm if calm.shape[1] else whole.mean(axis=1, keepdims=True)
    frame = max(1, round(FRAME_S * rate))
    frames = clip[: len(clip) // frame * frame].reshape(-1, frame).astype(np.float64)
    return whole.mean(axis=1), np.quantile(calm, OVER_TIME, axis=1), _falls(_db(np.square(frames).mean(axis=1)))


def _falls(levels: np.ndarray) -> np.ndarray:
    """How steeply the level [frames] in dB falls from loud frames within each of `FALLS_S`."""
    is_loud = levels > levels.max() - LOUD_DB
    lags = [max(1, min(round(lag / FRAME_S), len(levels) - 1)) for lag in FALLS_S]
    falls = [(levels[lag:] - levels[:-lag])[is_loud[:-lag]] for lag in lags]
    return np.array([np.quantile(fall, STEEP) if len(fall) else 0.0 for fall in falls])


def band_matrix(frequencies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(centres in Hz [B], weights [F, B] that make a spectrum's mean in each band)."""
    top = frequencies[-1]
    count = int(BANDS_PER_OCTAVE * np.log2(top / LOWEST_HZ)) + 1
    centres = LOWEST_HZ * 2 ** (np.arange(count) / BANDS_PER_OCTAVE)
    half = 2 ** (0.5 / BANDS_PER_OCTAVE)
    inside = (frequencies[:, None] >= centres / half) & (frequencies[:, None] < centres * half)
    nearest = np.abs(frequencies[:, None] - centres).argmin(axis=0)
    inside[nearest, np.arange(count)] = True  # a low band may lie between two bins
    return centres, inside / inside.sum(axis=0)


# From two sets to a channel


def estimate_channel(gold: Sequence[np.ndarray], generated: Sequence[np.ndarray], sample_rate: int) -> Channel:
    """The chain that makes generated clips sound as gold clips were recorded.

    Args:
        gold, generated: mono clips [T]. Where the sets have other shares of their classes, that is a part of the
            difference: give of each class as many.
        sample_rate: of both, in Hz.
    """
    wanted, own = measure(gold, sample_rate), measure(generated, sample_rate)
    if min(len(wanted), len(own)) < 2:
        return nothing(sample_rate)
    dry = fit_chain(wanted, own, sample_rate)
    speaking = [clip for clip in generated if says_something(clip, sample_rate)]
    few = [speaking[row] for row in np.random.default_rng(0).permutation(len(speaking))[:ROOM_CLIPS]]
    seconds, tail_db = choose_room(wanted, few, sample_rate)
    if not seconds:
        return dry
    response = room_response(seconds, tail_db, sample_rate)
    heard = [signal.oaconvolve(clip, response)[: len(clip)] for clip in generated]
    return fit_chain(wanted, measure(heard, sample_rate), sample_rate, seconds, tail_db)


def nothing(sample_rate: int) -> Channel:
    """The chain that leaves clips as they are."""
    frequencies = np.fft.rfftfreq(window_samples(sample_rate), 1 / sample_rate)
    centres, _ = band_matrix(frequencies)
    quiet = (QUIETEST_DB,) * len(frequencies)
    bands, bins = (tuple(map(float, values)) for values in (centres, frequencies))
    return Channel(sample_rate, bands, (0.0,) * len(bands), bins, quiet, quiet)


def fit_chain(wanted: Measured, own: Measured, sample_rate: int, room_s: float = 0.0, room_db: float = 0.0) -> Channel:
    """Filter and noise that bring the clips of `own`, which the room has been put on, to those of `wanted`."""
    centres, weights = band_matrix(own.frequencies)
    gains, noise = np.zeros(len(centres)), np.zeros(len(own.frequencies))
    for _ in range(ROUNDS):
        gains = fit_filter(wanted.spectra @ weights, own.spectra @ weights, noise @ weights)
        curve = np.interp(np.log(np.maximum(own.frequencies, 1.0)), np.log(centres), gains)
        own_floors = own.floors * _power(curve)
        (least, _), (most, tones) = (fit_noise(wanted.floors, own_floors, own.frequencies, q) for q in OVER_CLIPS)
        most = np.maximum(least, most)
        noise = _power((_db(least) + _db(most)) / 2) + line_power(tones, own.frequencies)
    gains_db, noise_db, more_noise_db = (tuple(map(float, values)) for values in (gains, _db(least), _db(most)))
    return replace(
        nothing(sample_rate),
        gains_db=gains_db,
        noise_db=noise_db,
        more_noise_db=more_noise_db,
        tones=tones,
        room_s=room_s,
        room_db=room_db,
    )


def fit_filter(wanted: np.ndarray, own: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Gains in dB [B], with which mean(log(gain * own + noise)) is mean(log(wanted)), as far as that is no chance.

    Args:
        wanted, own: band powers [N, B] and [M, B].
        noise: [B], what is added.
    """
    target, error = _db(wanted).mean(axis=0), _standard_error(_db(wanted), _db(own))
    low, high = np.full(own.shape[1], -MAX_LEVEL_DB - MAX_CUT_DB), np.full(own.shape[1], MAX_LEVEL_DB + MAX_BOOST_DB)
    for _ in range(40):  # bisection: the mean rises with the gain
        middle = (low + high) / 2
        is_low = _db(own * _power(middle) + noise).mean(axis=0) < target
        low, high = np.where(is_low, middle, low), np.where(is_low, high, middle)
    gains = less(middle, error)
    level = float(np.clip(np.median(gains), -MAX_LEVEL_DB, MAX_LEVEL_DB))
    return np.clip(gains, level - MAX_CUT_DB, level + MAX_BOOST_DB)


def less(difference: np.ndarray, error: np.ndarray) -> np.ndarray:
    """A difference without what may be chance, by the non-negative garrote (Breiman 1995): 0 up to `CERTAIN` errors."""
    share = CERTAIN * error / np.maximum(np.abs(difference), 1e-9)
    return difference * np.maximum(1 - share**2, 0)


def _standard_error(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(x.var(axis=0, ddof=1) / len(x) + y.var(axis=0, ddof=1) / len(y))


@lru_cache(maxsize=1)
def floor_share() -> float:
    """What a floor has of its noise: the quantile of a mean of spectra, each of two squared normals."""
    from scipy.stats import gamma

    # overlapping by a half, Hann windows share (1/6)^2 of a spectrum's variance (Welch 1967)
    count = AVERAGED / (1 + 2 * (AVERAGED - 1) / AVERAGED / 36)
    return float(gamma.ppf(OVER_TIME, count) / count)


def fit_noise(
    wanted: np.ndarray, own: np.ndarray, frequencies: np.ndarray, quantile: float
) -> tuple[np.ndarray, tuple[tuple[float, float], ...]]:
    """(power per Hz [F], tones) of the noise that the floors of `own` [M, F] lack to those of `wanted` [N, F]."""
    goal, there = (np.quantile(floors, quantile, axis=0) for floors in (wanted, own))
    tones, goal = take_lines(goal, there, frequencies)
    centres, weights = band_matrix(frequencies)
    goal, there = goal @ weights, there @ weights
    # a quantile's error is some 1.36 times that of the mean, for normal levels and the lower quartile
    error = 1.36 * _standard_error(_db(wanted @ weights), _db(own @ weights))
    lacking = np.maximum(goal * _power(-error) - there, 0) / floor_share()
    curve = np.interp(np.log(np.maximum(frequencies, 1.0)), np.log(centres), _db(lacking))
    return np.where(curve > QUIETEST_DB, _power(curve), 0), tones


def take_lines(
    goal: np.ndarray, there: np.ndarray, frequencies: np.ndarray
) -> tuple[tuple[tuple[float, float], ...], np.ndarray]:
    """(tones, the rest [F]) of a floor [F]: its lines that another floor [F] has not."""
    step = frequencies[1]
    around = signal.medfilt(_db(goal), 2 * max(1, int(LINE_HZ / step)) + 1)
    peaks, _ = signal.find_peaks(_db(goal))
    is_line = (_db(goal)[peaks] - around[peaks] > LINE_DB) & (goal[peaks] > 2 * there[peaks])
    tones, rest = [], goal.copy()
    for peak in peaks[is_line]:
        before, top, after = _db(goal[peak - 1 : peak + 2])
        aside = (before - after) / (before - 2 * top + after) / 2  # of a parabola through the three
        power = _power(top - (before - after) * aside / 4) * 1.5 * step  # the noise bandwidth of the Hann window
        tones.append((float(frequencies[peak] + aside * step), float(np.sqrt(2 * power))))
        near = slice(max(0, peak - 2), peak + 3)
        rest[near] = np.minimum(rest[near], _power(around[near]))
    return tuple(tones), rest


def line_power(tones: Sequence[tuple[float, float]], frequencies: np.ndarray) -> np.ndarray:
    """Power per Hz [F] of tones."""
    found = np.zeros(len(frequencies))
    for frequency, amplitude in tones:
        found[np.abs(frequencies - frequency).argmin()] += amplitude**2 / 2 / frequencies[1]
    return found


def choose_room(wanted: Measured, clips: Sequence[np.ndarray], sample_rate: int) -> tuple[float, float]:
    """(seconds, dB) of the room with which clips, heard through the whole chain, fall as steeply as those of `wanted`.

    Returns:
        (0, 0) where that is so without one, or no room makes it better.
    """

    def cost(room: tuple[float, float]) -> float:
        return _misfit(wanted, clips, sample_rate, *room)

    dry = (0.0, 0.0)
    costs = {dry: cost(dry)}
    if costs[dry] <= CERTAIN**2:
        return dry
    costs |= {room: cost(room) for room in ((seconds, 0.0) for seconds in ROOM_S)}
    seconds, _ = min(costs, key=lambda room: costs[room])
    if seconds:
        costs |= {room: cost(room) for room in ((seconds, tail_db) for tail_db in ROOM_DB if tail_db)}
    return min(costs, key=lambda room: costs[room])


def _misfit(wanted: Measured, clips: Sequence[np.ndarray], sample_rate: int, seconds: float, tail_db: float) -> float:
    """Mean squared difference of the falls in standard errors."""
    if seconds:
        response = room_response(seconds, tail_db, sample_rate)
        clips = [signal.oaconvolve(clip, response)[: len(clip)] for clip in clips]
    chain = fit_chain(wanted, measure(clips, sample_rate), sample_rate)
    falls = measure([chain.apply(clip[None], row)[0] for row, clip in enumerate(clips)], sample_rate).falls
    error = np.maximum(_standard_error(wanted.falls, falls), 1e-3)
    return float(np.mean(((wanted.falls.mean(axis=0) - falls.mean(axis=0)) / error) ** 2))
