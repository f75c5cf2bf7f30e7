"""Faults on demand: a kill at a chosen system call, a disk that is full, damaged files."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

# Python imports it at the start of every process that has its folder on PYTHONPATH.
SITE_CUSTOMIZE = '''
import errno, fnmatch, os, signal

call, pattern, wanted, when = os.environ["FAULT"].split("|")
real, seen = getattr(os, call), 0

def faulty(*paths, **options):
    """The n-th call onto a name that fits."""
    global seen
    names = [os.path.basename(os.fsdecode(path)) for path in paths[:2] if isinstance(path, (str, bytes, os.PathLike))]
    if not any(fnmatch.fnmatch(name, pattern) for name in names):
        return real(*paths, **options)
    seen += 1
    if seen != int(wanted):
        return real(*paths, **options)
    if when == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if when == "after":
        real(*paths, **options)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(os, call, faulty)
'''


def kill_at(folder: Path, call: str, pattern: str, n: int = 1, when: str = "before") -> dict[str, str]:
    """Environment in which every Python process is killed (-9) at its n-th call of os.<call> onto a name.

    Args:
        folder: a place for the code that does it.
        call: "replace", "rename", "unlink", "link", "rmdir", "mkdir", "fsync" and so on; of a call with two paths,
            either may have the name.
        pattern: of the last part of the path, with * and ?.
        n: which of these calls, from 1.
        when: "before" or "after" it; "full": it fails in place of a kill, as on a full disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(SITE_CUSTOMIZE, encoding="utf-8")
    root = str(Path(__file__).resolve().parent.parent)
    return {"PYTHONPATH": os.pathsep.join([str(folder), root]), "FAULT": f"{call}|{pattern}|{n}|{when}"}


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """A disk of that size; where none may be mounted, one on which no file may be larger.

    Both refuse a large file at the system call. The second holds for this process and those it starts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if mounted:
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield folder
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def _span(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(len(data), start + rng.choice([1, 2, 8, 64, 512]))


def cut(data: bytes, rng: random.Random) -> bytes:
    """The end is missing."""
    return data[: rng.randrange(len(data))]


def flip(data: bytes, rng: random.Random) -> bytes:
    """One bit is another."""
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def noise(data: bytes, rng: random.Random) -> bytes:
    """Some bytes are others, as a bad block gives them."""
    start, end = _span(data, rng)
    return data[:start] + rng.randbytes(end - start) + data[end:]


def zeros(data: bytes, rng: random.Random) -> bytes:
    """Some bytes are zero, as a file that was not synced has them."""
    start, end = _span(data, rng)
    return data[:start] + bytes(end - start) + data[end:]


def gap(data: bytes, rng: random.Random) -> bytes:
    """Some bytes are missing."""
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def repeat(data: bytes, rng: random.Random) -> bytes:
    """Some bytes are there twice."""
    start, end = _span(data, rng)
    return data[:end] + data[start:]


def tail(data: bytes, rng: random.Random) -> bytes:
    """More bytes follow."""
    return data + rng.randbytes(rng.choice([1, 16, 512]))


def empty(data: bytes, rng: random.Random) -> bytes:
    """Nothing is left."""
    return b""


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (cut, flip, noise, zeros, gap, repeat, tail, empty)


def mutate(path: Path, rng: random.Random) -> str:
    """Damage a file in place, under a new inode, as a copy from a bad disk has it; what was done, for the report.

    The bytes are always others than before.
    """
    data = path.read_bytes()
    while True:
        how = rng.choice(MUTATIONS)
        damaged = how(data, rng) if data else rng.randbytes(8)
        if damaged != data:
            break
    path.unlink()
    path.write_bytes(damaged)
    return how.__name__
