"""Files a block at a time: what is read and found is what `bytes` and `re` say, and memory does not grow."""

from __future__ import annotations

import io
import re
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from synthio.audio import open_audio
from synthio.formats.containers import read_container
from synthio.formats.file_bytes import BLOCK, LONGEST, FileBytes, FileRange
from tests.encoders import encode, id3, join, tone


@pytest.fixture
def data():
    """Two blocks and a half, with words at the seams."""
    raw = bytearray(np.random.default_rng(0).integers(0, 64, 5 * BLOCK // 2, np.uint8).tobytes())
    for at in (0, 3, BLOCK - 2, BLOCK + 2, 2 * BLOCK - 4, 2 * BLOCK, len(raw) - 4, 1234567):
        raw[at : at + 4] = b"Xing"
    return bytes(raw)


def test_it_is_read_like_bytes(data):
    whole = FileBytes(io.BytesIO(data))
    assert len(whole) == len(data) and whole[BLOCK] == data[BLOCK] and whole[0] == data[0]
    rng = np.random.default_rng(1)
    for start in [0, BLOCK - 1, 2 * BLOCK, len(data) - 3, len(data), *rng.integers(0, len(data), 50).tolist()]:
        for length in (0, 4, 100, BLOCK + 9):
            assert whole[start : start + length] == data[start : start + length]


def test_places_are_those_of_finditer(data):
    for pattern in (rb"Xing", rb"ng.{3}", rb"X.{1000}", rb"Xing|[\x05\x06]{3}", rb"nowhere"):
        found = re.compile(pattern, re.DOTALL)
        for start in (0, 1, BLOCK - 1, BLOCK, len(data) - 1):
            expected = [match.start() for match in found.finditer(data, start)]
            assert list(FileBytes(io.BytesIO(data)).places(found, start)) == expected
    assert LONGEST >= 1001


def test_a_range_is_a_file(data):
    part = io.BufferedReader(FileRange(io.BytesIO(data), 100, 9100))
    assert part.read() == data[100:9100] and part.read(1) == b""
    assert part.seek(-10, 2) == 8990 and part.read(20) == data[9090:9100]
    assert part.seek(50) == 50 and part.seek(7, 1) == 57 and part.read(4) == data[157:161]


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(("name", "codec"), [("x.flac", "flac"), ("x.opus", "libopus"), ("x.mp3", "libmp3lame")])
def test_memory_does_not_grow_with_the_size_of_a_file(tmp_path, name, codec):
    """Of files that are searched; a mapped one would show in the resident memory, where its pages count."""
    path = encode(tmp_path / name, codec, tone(5.0, 44100), 44100)
    tail = np.random.default_rng(0).integers(0, 64, 40 * BLOCK, np.uint8).tobytes()
    parts = [path] * (1 + 40 * BLOCK // path.stat().st_size) if name == "x.opus" else [path, tail]
    join(path, *parts)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = peak()
    tracemalloc.start()
    container = read_container(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(container.parts) == (len(parts) if name == "x.opus" else 1)
    assert most < 6 * BLOCK and peak() < before + 12 * BLOCK


def test_a_sound_that_is_joined_behind_another_is_not_read_at_once(tmp_path):
    path = encode(tmp_path / "x.mp3", "libmp3lame", tone(5.0, 44100), 44100)
    join(path, path, id3(20 * BLOCK), path)
    tracemalloc.start()
    with open_audio(path) as stream:
        frames = sum(block.shape[1] for block in stream.blocks)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert frames == 2 * 5 * 44100 and most < 8 * BLOCK


def peak() -> int:
    """Most bytes of this process in memory so far, with the pages of files that were mapped."""
    said = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert said
    return int(said[1]) * 1024
