"""Windows of long sounds: where they lie, what they hold, and that memory does not grow."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import soundfile

from synthio.audio import BadAudio, read_audio
from synthio.classification.windows import WINDOWS_AT_ONCE, spans
from tests.encoders import encode, tone

WINDOW, HOP = 102, 51  # steps of 10 ms


def windows_of(path, rate=16000, hop=HOP, at_once=3):
    """[(first sample, samples [T])] of all spans."""
    step = rate // 100
    return [
        ((span.start + start) * step, window[0])
        for span in spans(path, (rate,), WINDOW, hop, at_once)
        for start, window in zip(span.starts, span.cut(rate), strict=True)
    ]


@pytest.mark.parametrize("rate", [16000, 44100, 22050])
@pytest.mark.parametrize("seconds", [0.3, 1.02, 1.0267, 4.777, 9.3, 37.11])
@pytest.mark.parametrize("hop", [HOP, WINDOW])
def test_they_are_cut_from_the_sound_and_cover_it(make_wav, rate, seconds, hop):
    path = make_wav("x.wav", seconds, sample_rate=rate, seed=1, channels=2, subtype="FLOAT")
    whole, found = read_audio(path, 16000)[0][0], windows_of(path, hop=hop)
    covered = np.zeros(len(whole), bool)
    for start, window in found:
        np.testing.assert_array_equal(window, whole[start : start + len(window)])
        covered[start : start + len(window)] = True
        assert len(window) == WINDOW * 160 or (len(found) == 1 and len(window) == len(whole))
    assert covered[: len(whole) // 160 * 160].all()  # to a step
    starts = [start for start, _ in found]
    assert starts[:-1] == [k * hop * 160 for k in range(len(starts) - 1)] and starts == sorted(set(starts))


def test_several_rates_hear_the_same_places(make_wav):
    path = make_wav("x.wav", 5, sample_rate=44100, seed=1)
    for span in spans(path, (16000, 48000), WINDOW, HOP, at_once=16):
        assert {rate: len(audio) / rate for rate, audio in span.audio.items()} == {16000: span.end / 100} | {
            48000: span.end / 100
        }
        assert [len(window[0]) for window in span.cut(48000)] == [WINDOW * 480] * len(span.starts)


def test_a_format_that_does_not_tell_its_length(tmp_path):
    path = encode(tmp_path / "x.mp3", "libmp3lame", tone(7), 16000)
    whole = read_audio(path, 16000)[0][0]
    for start, window in windows_of(path):
        np.testing.assert_array_equal(window, whole[start : start + len(window)])


def test_memory_does_not_grow_with_the_length(tmp_path):
    peaks = []
    for minutes in (2, 8):
        with soundfile.SoundFile(tmp_path / "x.flac", "w", 44100, 1) as file:
            for _ in range(minutes):
                file.write(np.random.default_rng(0).uniform(-0.1, 0.1, 60 * 44100))
        tracemalloc.start()
        sizes = [len(span.audio[16000]) for span in spans(tmp_path / "x.flac", (16000,), WINDOW, HOP)]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert max(sizes) == ((WINDOWS_AT_ONCE - 1) * HOP + WINDOW) * 160
    assert peaks[1] < 1.1 * peaks[0] < 50e6


def test_damage_shows_after_what_is_before_it(make_wav):
    path = make_wav("x.flac", 30, seed=1)
    data = bytearray(path.read_bytes())
    data[2 * len(data) // 3 : 2 * len(data) // 3 + 4000] = bytes(4000)
    path.write_bytes(data)
    heard = 0
    with pytest.raises(BadAudio):
        for span in spans(path, (16000,), WINDOW, HOP, 2):
            heard += len(span.starts)
    assert heard > 5
