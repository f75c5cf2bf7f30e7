"""The last frame of a sound that declares no length: lengths of frames by files of real encoders, cut anywhere."""

from __future__ import annotations

import io

import numpy as np
import pytest

from synthio.audio import probe
from synthio.formats.file_bytes import BLOCK, FileBytes
from synthio.formats.frames import cut_frame, first_run, frame_bytes, run_end
from tests.encoders import encode, id3

# (suffix, codec, container, Hz, samples of a frame, bytes before the first)
CODERS = [
    ("mp3", "libmp3lame", None, 44100, 1152, 0),
    ("mp3", "libmp3lame", None, 48000, 1152, 0),
    ("mp3", "libmp3lame", None, 24000, 576, 0),
    ("mp3", "libmp3lame", None, 11025, 576, 0),
    ("mp2", "mp2", None, 44100, 1152, 0),
    ("mp2", "mp2", None, 22050, 1152, 0),
    ("aac", "aac", "adts", 16000, 1024, 0),
    ("ac3", "ac3", None, 48000, 1536, 0),
    ("eac3", "eac3", "eac3", 48000, 1536, 0),
    ("amr", "libopencore_amrnb", None, 8000, 160, 6),
]


def noise(seconds, rate):
    return np.random.default_rng(0).uniform(-0.5, 0.5, round(rate * seconds))


def made(tmp_path, suffix, codec, form, rate, seconds=1.0):
    options = {"write_xing": "0", "id3v2_version": "0"} if suffix == "mp3" else {}
    return encode(tmp_path / f"a.{suffix}", codec, noise(seconds, rate), rate, form, **options)


def bytes_of(raw):
    return FileBytes(io.BytesIO(raw))


@pytest.mark.parametrize(("suffix", "codec", "form", "rate", "samples", "begin"), CODERS)
def test_a_frame_that_is_cut_anywhere(tmp_path, suffix, codec, form, rate, samples, begin):
    path = made(tmp_path, suffix, codec, form, rate)
    raw, at, places = path.read_bytes(), begin, []
    while at < len(raw):
        places.append(at)
        at += 13 if suffix == "amr" else frame_bytes(raw[at : at + 8])
    assert at == len(raw) and abs(len(places) * samples - probe(path)[2]) <= samples
    begin, end = places[-2:]
    for cut in range(begin, end + 1):
        found = cut_frame(bytes_of(raw[:cut]), 0, cut)
        # a byte alone may be anything; AMR has no other sign of a frame
        expected = None if cut in (begin, end) or (cut == begin + 1 and suffix != "amr") else begin
        assert found == expected, cut


@pytest.mark.parametrize("behind", [b"TAG" + bytes(125), b"APETAGEX" + bytes(24), bytes(5000), id3(3000)])
def test_what_follows_the_last_frame_is_no_frame(tmp_path, behind):
    raw = made(tmp_path, "mp3", "libmp3lame", None, 44100).read_bytes()
    assert cut_frame(bytes_of(raw + behind), 0, len(raw + behind)) is None
    assert cut_frame(bytes_of(raw[:-100] + b"TAG" + bytes(67)), 0, len(raw) - 30) is not None


def test_the_end_of_a_long_sound(tmp_path):
    raw = made(tmp_path, "mp3", "libmp3lame", None, 44100).read_bytes()
    length, long = len(raw), raw * (2 * BLOCK // len(raw))
    assert cut_frame(bytes_of(long), 0, len(long)) is None
    assert len(long) - length < cut_frame(bytes_of(long[:-50]), 0, len(long) - 50) < len(long) - 50


def test_frames_of_one_kind_that_follow_each_other(tmp_path):
    raw = made(tmp_path, "mp3", "libmp3lame", None, 44100).read_bytes()
    junk = b"\xff\xfb\x50\xc4" + bytes(1000)
    data = bytes_of(junk + raw)
    assert first_run(data, 0, len(data)) == len(junk) and first_run(data, 0, len(junk)) == len(junk)
    assert run_end(data, 0, len(data)) == 0
    assert raw[run_end(bytes_of(raw), 0, len(raw)) :][:2] == raw[:2]


@pytest.mark.parametrize(
    ("head", "length"),
    [
        ("fffb9000", 417),  # MPEG-1, layer 3: 144 * 128000 / 44100
        ("fffb9200", 418),  # with a byte of padding
        ("fff38400", 192),  # MPEG-2, layer 3: 72 * 64000 / 24000
        ("ffff9000", 312),  # MPEG-1, layer 1: 4 * (12 * 288000 / 44100)
        ("fffbf000", 0),  # no such bit rate
        ("fffb0000", 0),  # free format
        ("fffb9c00", 0),  # no such rate
        ("ffeb9000", 0),  # no such version
        ("ffe2", 0),
        ("0b77000000", 0),
        ("0b7700003f40", 0),  # no such size of AC-3
        ("0b770000c040", 0),  # no such rate
        ("ff", 0),
        ("", 0),
    ],
)
def test_heads_by_hand(head, length):
    assert frame_bytes(bytes.fromhex(head)) == length
