"""The bytes of a file of any size, a block of it in memory.

    data = FileBytes(stream)
    data[8:12], list(data.places(re.compile(rb"OggS")))

A mapped file would be shorter to write, but every page of it that was looked at counts as memory of the process: a
recorder's night is gigabytes.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from typing import BinaryIO, overload

BLOCK = 1 << 20
LONGEST = 1 << 10  # bytes of a match of `places`


class FileBytes:
    """An open file, to be read like `bytes`. What was read last is kept, for headers stand close together."""

    def __init__(self, stream: BinaryIO):
        self._stream, self._size = stream, stream.seek(0, os.SEEK_END)
        self._start, self._block = 0, b""

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, where: int) -> int: ...
    @overload
    def __getitem__(self, where: slice) -> bytes: ...
    def __getitem__(self, where: int | slice) -> int | bytes:
        if isinstance(where, int):
            return self._read(where, where + 1)[0]
        start, end, _ = where.indices(self._size)
        return self._read(start, end)

    def _read(self, start: int, end: int) -> bytes:
        if not self._start <= start <= end <= self._start + len(self._block):
            self._start, self._block = start, self._load(start, max(end - start, BLOCK))
        return self._block[start - self._start : end - self._start]

    def _load(self, start: int, length: int) -> bytes:
        self._stream.seek(start)
        return self._stream.read(length)

    def places(self, pattern: re.Pattern[bytes], start: int = 0) -> Iterator[int]:
        """Where a pattern is found from a place on, as `finditer` finds it; a match has at most `LONGEST` bytes."""
        behind = start  # the last match
        for at in range(start, self._size, BLOCK):
            for found in pattern.finditer(self._load(at, BLOCK + LONGEST), max(0, behind - at)):
                if found.start() >= BLOCK:
                    break  # the next block has it, and what follows
                behind = at + found.end()
                yield at + found.start()


class FileRange(io.RawIOBase):
    """A part of an open file, as if it were a file of its own."""

    def __init__(self, stream: BinaryIO, start: int, end: int):
        self._stream, self._start, self._length, self._at = stream, start, end - start, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def readinto(self, buffer) -> int:
        self._stream.seek(self._start + self._at)
        data = self._stream.read(min(len(buffer), max(0, self._length - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
