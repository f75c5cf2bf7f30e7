"""Windows of a sound of any length, in constant memory.

    for span in spans("night.wav", rates=(16000,), window=402, hop=201):
        span.audio[16000], span.starts

Places are counted in steps of 10 ms, the distance of two frames of AST's input, so that overlapping windows can share
their frames, and windows at several sample rates lie at the same places.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthio.audio import mix_down, open_audio

STEPS_PER_S = 100
WINDOWS_AT_ONCE = 8  # with 16, the embedded AST is 6 % faster and takes 23 MB more


@dataclass(frozen=True)
class Span:
    """A stretch of a sound, and the windows in it.

    Attributes:
        start: where it begins in the sound, in steps.
        audio: sample rate in Hz -> mono float32 [T].
        starts: where each window begins in the span, in steps. Each is `window` steps long; that of a sound which is
            shorter is the whole sound.
        window: see there.
        end: where the last window ends, or the sound, in steps.
    """

    start: int
    audio: Mapping[int, np.ndarray]
    starts: Sequence[int]
    window: int

    @property
    def end(self) -> float:
        return self.start + min(len(audio) * STEPS_PER_S / rate for rate, audio in self.audio.items())

    def cut(self, rate: int) -> list[np.ndarray]:
        """The windows at a rate, each [1, T]."""
        step = rate // STEPS_PER_S
        return [self.audio[rate][None, s * step : (s + self.window) * step] for s in self.starts]


class _Tape:
    """The last samples of a sound at one rate.

    Args:
        own_rate: of the sound, in Hz.
        rate: wanted, in Hz.
    """

    def __init__(self, own_rate: int, rate: int):
        import soxr

        assert rate % STEPS_PER_S == 0, f"no step of 10 ms is whole at {rate} Hz"
        self.step = rate // STEPS_PER_S
        self._resampler = None if own_rate == rate else soxr.ResampleStream(own_rate, rate, 1, "float32", "HQ")
        self._samples, self._start = np.zeros(0, np.float32), 0

    @property
    def end(self) -> float:
        """How far it reaches, in steps."""
        return self._start + len(self._samples) / self.step

    def add(self, samples: np.ndarray, last: bool = False) -> None:
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=last)
        self._samples = np.concatenate([self._samples, samples])

    def cut(self, start: int, end: float) -> np.ndarray:
        """The samples between two places."""
        return self._samples[(start - self._start) * self.step : round((end - self._start) * self.step)].copy()

    def forget(self, place: int) -> None:
        """Let go of what lies before a place."""
        if place > self._start:
            self._samples = self._samples[(place - self._start) * self.step :].copy()
            self._start = place


def spans(
    path: str | Path, rates: Sequence[int], window: int, hop: int, at_once: int = WINDOWS_AT_ONCE
) -> Iterator[Span]:
    """The windows of a sound file, mixed down, at most `at_once` in a span.

    They begin every `hop` steps. What is left at the end is heard by a last window that ends with the sound, to a step.

    Args:
        path: any format of `open_audio`, any length.
        rates: sample rates in Hz, multiples of 100.
        window: length in steps.
        hop: distance in steps, at most `window`.
        at_once: see above.

    Raises:
        BadAudio: as `open_audio`; what only decoding finds comes after the spans before it.
    """
    assert 0 < hop <= window
    place = 0
    with open_audio(path, max_duration_s=math.inf) as stream:
        tapes = {rate: _Tape(stream.sample_rate, rate) for rate in rates}
        for block in stream.blocks:
            for tape in tapes.values():
                tape.add(mix_down(block)[0])
            while _reach(tapes) >= place + (at_once - 1) * hop + window:
                yield _span(tapes, [place + k * hop for k in range(at_once)], window)
                place += at_once * hop
                for tape in tapes.values():
                    tape.forget(place - hop)  # where the last window may begin
        for tape in tapes.values():
            tape.add(np.zeros(0, np.float32), last=True)
    if starts := _last_starts(_reach(tapes), place, window, hop):
        yield _span(tapes, starts, window)


def _reach(tapes: Mapping[int, _Tape]) -> float:
    return min(tape.end for tape in tapes.values())


def _last_starts(end: float, place: int, window: int, hop: int) -> list[int]:
    """Where the windows begin that are left, from a place on, when the sound ends."""
    starts = list(range(place, math.floor(end) - window + 1, hop))
    heard = starts[-1] + window if starts else place - hop + window if place else 0
    if heard < math.floor(end) or not heard:
        starts.append(max(0, math.floor(end) - window))
    return starts


def _span(tapes: Mapping[int, _Tape], starts: Sequence[int], window: int) -> Span:
    first = starts[0]
    audio = {rate: tape.cut(first, starts[-1] + window) for rate, tape in tapes.items()}
    return Span(first, audio, [start - first for start in starts], window)
