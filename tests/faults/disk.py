"""A disk that is full, at every stage: one line that says so; and when there is room again, the same command goes on.

The results are on a small disk (tmpfs) of their own, which another file fills up but for a few kilobytes.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults import runs
from tests.faults.trials import RIGHT, SILENT, STUCK, TRACEBACK, Outcome, Silent, Stuck, rng_of
from tests.faults_tools import kill_at, small_disk

COUNT, LEAST, WAIT_S = 22, 6, 1200

STAGES = 11
SIZE_BYTES = 96_000_000
LEFT_KB = (0, 4, 8, 16, 40, 100, 200)
SAID = ("is full", "no space left", "not enough space")


def fill(folder: Path, left_kb: int) -> Path:
    """Fill the disk up but for some kilobytes; the file that does it."""
    path = folder / "filler"
    space = os.statvfs(folder)
    size = max(0, space.f_bavail * space.f_frsize - left_kb * 1024)
    with path.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, size)
    return path


@contextmanager
def full(root: Path, rng: random.Random, inject: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(in words, environment of a run) while the disk is full; without a disk of its own, a commit says that it is."""
    if not root.is_mount():
        call, number = rng.choice(["replace", "mkdir", "link"]), rng.randint(1, 3)
        yield f"{call} {number}", kill_at(inject, call, "*", number, "full")
        return
    filler = fill(root, left_kb := rng.choice(LEFT_KB))
    try:
        yield f"{left_kb} KB left", {}
    finally:
        filler.unlink()


def full_at(world: Path, root: str, stage: int, rng: random.Random, log: Path) -> str:
    """Run up to a stage on a full disk, then with room again; what happened."""
    with full(world / root, rng, log.parent / "inject") as (said, environment):
        what = f"stage {stage}, {said}"
        status = runs.run(world, root, log, "--stop_stage", stage, **environment)
    text = log.read_text(encoding="utf-8", errors="replace")
    if status and "Traceback" in text:
        raise AssertionError(f"{what}: {runs.tail(log)}")
    if status and not any(word in text.lower() for word in SAID):
        raise Silent(f"{what}: status {status}, and no word of the disk: {runs.tail(log)}")
    if runs.run(world, root, log, "--stop_stage", stage):
        raise Stuck(f"{what}: with room again: {runs.tail(log)}")
    return f"{what}: status {status}"


def trials(numbers: Iterable[int], seed: int, folder: Path, shared: Path) -> Iterator[Outcome]:
    numbers, world = list(numbers), runs.world_of(shared)
    folder.mkdir(parents=True, exist_ok=True)
    root, log = f"full {numbers[0]}", folder / "run.log"
    with small_disk(world / root, SIZE_BYTES):
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)  # what it sets where it mounts none
        for k, number in enumerate(numbers):
            stage = round(k * (STAGES - 1) / max(1, len(numbers) - 1))
            kind, what = RIGHT, ""
            try:
                what = full_at(world, root, stage, rng_of(seed, "disk", number), log)
                if k == len(numbers) - 1:
                    if runs.run(world, root, log):
                        raise Stuck(f"at the end: {runs.tail(log)}")
                    runs.compare(world, root)
            except Silent as error:
                kind, what = SILENT, str(error)
            except Stuck as error:
                kind, what = STUCK, str(error)
            except AssertionError as error:
                kind, what = TRACEBACK, str(error)
            yield Outcome(number, kind, what)
    shutil.rmtree(world / root, ignore_errors=True)
