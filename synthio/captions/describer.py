"""The embedded captioner: it measures a clip and says what it measured. It has no weights and knows no labels.

    AcousticDescriber().describe([clip])  # ["several loud, low-pitched sounds, with a low hum in the background"]

The words are those of the captions that the embedded text-to-audio model was trained on. What cannot be measured
with some certainty is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synthio.audio import peak_db
from synthio.captions.requests import Captioner

SAMPLE_RATE = 16000
FRAME, HOP = 512, 160  # 32 ms every 10 ms
ACTIVE_DB = 20.0  # a frame within this of the loudest is part of the foreground
FLOOR_DB = 6.0  # ... if it also stands this far above the noise floor
GAP_FRAMES = 8  # shorter pauses (80 ms) do not end a sound
QUIET_PEAK_DB, LOUD_PEAK_DB = -18.0, -4.0
BACKGROUND_DB = 45.0  # a background weaker than this below the foreground is not heard
COUNT_WORDS = {1: "a single", 2: "two", 3: "three"}


class AcousticDescriber(Captioner):
    """See `Captioner`."""

    name = "embedded-2"
    key = (name,)  # raise the number when the words change
    sample_rate = SAMPLE_RATE
    batch_size = 64

    def describe(self, clips: Sequence[np.ndarray]) -> list[str]:
        """Mono clips [1, T] at 16 kHz -> captions."""
        return [describe(clip[0]) for clip in clips]


def describe(audio: np.ndarray) -> str:
    """The caption of one clip [T] at 16 kHz."""
    if peak_db(audio[None]) < -90:
        return "silence"
    power = frame_power(audio)
    level_db = 10 * np.log10(power.sum(axis=1) + 1e-12)
    active = foreground(level_db)
    bursts = burst_lengths(active)
    steady = active.mean() > 0.85 and level_db[active].std() < 4
    words = [level_word(audio), pitch_word(audio, active), tone_word(power[active]), pace_word(bursts, len(active))]
    if steady:
        words.append("steady")
    adjectives = ", ".join(word for word in words if word)
    text = " ".join(part for part in (count_words(bursts, steady), adjectives, noun(bursts, steady)) if part)
    behind = background(power, level_db, active)
    return f"{text}, with {behind} in the background" if behind else text


def frame_power(audio: np.ndarray) -> np.ndarray:
    """Power spectra [N, 257] of Hann-windowed frames of 32 ms, one every 10 ms."""
    padded = np.pad(audio, (0, max(0, FRAME - len(audio))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    return np.abs(np.fft.rfft(frames * np.hanning(FRAME), axis=1)) ** 2 / FRAME**2


def foreground(level_db: np.ndarray) -> np.ndarray:
    """Which frames [N] hold the foreground: near the loudest and, where there are pauses, above the noise floor."""
    floor = np.percentile(level_db, 10)
    top = level_db.max()
    active = level_db > top - ACTIVE_DB
    if top - floor > ACTIVE_DB:
        active &= level_db > floor + FLOOR_DB
    return active


def burst_lengths(active: np.ndarray) -> list[int]:
    """Lengths in frames of the separate sounds; pauses under 80 ms are bridged."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(int), [0]])))
    starts, ends = list(edges[::2]), list(edges[1::2])
    joined: list[list[int]] = []
    for start, end in zip(starts, ends, strict=True):
        if joined and start - joined[-1][1] < GAP_FRAMES:
            joined[-1][1] = end
        else:
            joined.append([start, end])
    return [end - start for start, end in joined]


def level_word(audio: np.ndarray) -> str:
    """quiet, loud or nothing, by the peak in dBFS."""
    peak = peak_db(audio[None])
    return "quiet" if peak < QUIET_PEAK_DB else "loud" if peak > LOUD_PEAK_DB else ""


def pitch_word(audio: np.ndarray, active: np.ndarray) -> str:
    """low-pitched or high-pitched where most of the foreground has a clear pitch below 200 Hz or above 700 Hz."""
    pitches = [pitch_hz(audio[i * HOP : i * HOP + 2 * FRAME]) for i in np.flatnonzero(active)[::4]]
    voiced = [pitch for pitch in pitches if pitch]
    if len(voiced) < max(2, 0.5 * len(pitches)):
        return ""
    middle = float(np.median(voiced))
    return "low-pitched" if middle < 200 else "high-pitched" if middle > 700 else ""


def pitch_hz(frame: np.ndarray) -> float:
    """Pitch of a frame [T] by autocorrelation, 60 to 3000 Hz; 0 where it has none."""
    frame = frame - frame.mean()
    spectrum = np.fft.rfft(frame, 2 * len(frame))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: len(frame)]
    low, high = SAMPLE_RATE // 3000, min(SAMPLE_RATE // 60, len(frame) - 1)
    if high <= low + 2 or correlation[0] <= 0:
        return 0.0
    # the estimate is biased towards short lags; dividing by the overlap removes that
    clear = correlation[low:high] / correlation[0] * len(frame) / (len(frame) - np.arange(low, high))
    peaks = np.flatnonzero((clear[1:-1] > clear[:-2]) & (clear[1:-1] >= clear[2:]) & (clear[1:-1] > 0.8)) + 1
    if not len(peaks):
        return 0.0
    first = peaks[clear[peaks] > 0.95 * clear[peaks].max()][0]  # the shortest of equally good periods
    return SAMPLE_RATE / (low + int(first))


def tone_word(power: np.ndarray) -> str:
    """muffled, rumbling or hissing, by where the energy of the foreground frames [N, 257] lies."""
    spectrum = power.mean(axis=0)
    share = np.cumsum(spectrum) / spectrum.sum()
    roll_off, median = (np.searchsorted(share, q) * SAMPLE_RATE / FRAME for q in (0.95, 0.5))
    if roll_off < 350:
        return "rumbling"
    if roll_off < 1500:
        return "muffled"
    return "hissing" if median > 3000 else ""


def pace_word(bursts: list[int], frames: int) -> str:
    """slow or fast, where at least four sounds follow each other."""
    if len(bursts) < 4:
        return ""
    rate_hz = len(bursts) / (frames * HOP / SAMPLE_RATE)
    return "slow" if rate_hz < 1.5 else "fast" if rate_hz > 4 else ""


def count_words(bursts: list[int], steady: bool) -> str:
    """How many sounds there are; nothing for one that goes on throughout."""
    return "a" if steady else COUNT_WORDS.get(len(bursts), "several")


def noun(bursts: list[int], steady: bool) -> str:
    """sound or sounds."""
    return "sound" if steady or len(bursts) == 1 else "sounds"


def background(power: np.ndarray, level_db: np.ndarray, active: np.ndarray) -> str:
    """A hum or rumble between the sounds of the foreground; "" where there is none, or no between.

    Broadband noise is not named: it may as well be the tail of the sound or a recorder's hiss. When it was, 265 of 1500
    procedural clips had "white noise" in their caption; 22 of these have it, 147 no background at all. A generator
    takes the word for loud noise, which hides the sound.
    """
    quiet = ~active
    if quiet.sum() < 10 or np.median(level_db[active]) - np.median(level_db[quiet]) > BACKGROUND_DB:
        return ""
    spectrum = np.median(power[quiet], axis=0)
    if 10 * np.log10(spectrum.sum() + 1e-12) < -80:
        return ""
    frequency = np.arange(len(spectrum)) * SAMPLE_RATE / FRAME
    if spectrum[frequency < 300].sum() < 0.8 * spectrum.sum():
        return ""
    return "a low hum" if spectrum.max() > 0.4 * spectrum.sum() else "a low rumble"
