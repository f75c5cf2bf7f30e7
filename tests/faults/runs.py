"""Whole runs of run.sh on a tiny set with tiny models, and what must be the same at their end."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.driver.test_run import RUN, SHELL, options, save_world
from tests.faults.trials import Silent, Stuck
from tests.running import processes_of

RUN_S = 900  # the longest that a tiny run may take, on a slow machine
END_S = 30  # until nothing of a killed run is left
# What may differ between two runs: times, what is known of the machine, and what tells its own folder.
DIFFERENT = ("timings.csv", "jobs.csv", "durations.tsv")
COMPARED = (".csv", ".wav", ".safetensors")
SCORES = ("scores.json", "quality.json", "adapter_config.json", "metadata.jsonl")
CHANGING = ("seconds", "options", "inputs", "versions")  # keys of JSON, columns of CSVs
OWN = ("shards/", "embeddings/", "stamps/")  # folders whose files have the order in which they came


def world_of(shared: Path) -> Path:
    """A folder with data and tiny models, and the results of an undisturbed run in `reference`; made once."""
    shared.mkdir(parents=True, exist_ok=True)
    world = shared / "a world"
    with (shared / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (world / "reference").is_dir():
            shutil.rmtree(world, ignore_errors=True)
            world.mkdir()
            save_world(world)
            done = run(world, "making", shared / "reference.log")
            if done:
                raise AssertionError(f"the undisturbed run ended with {done}: {tail(shared / 'reference.log')}")
            (world / "making").rename(world / "reference")
    return world


def tail(log: Path) -> str:
    """The end of what a run said."""
    return (
        " | ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-4:])[-500:] if log.exists() else ""
    )


def start(world: Path, root: str, log: Path, *words: object, **environment: str) -> subprocess.Popen:
    """A run as a process; what it prints goes to `log`."""
    command = [SHELL, str(RUN), *options(root), "--report_clips", "2", *map(str, words)]
    with log.open("wb") as stream:
        return subprocess.Popen(
            command, cwd=world, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=stream,
            stderr=subprocess.STDOUT, preexec_fn=hear,
        )  # fmt: skip


def hear() -> None:
    """Signals have their usual effect, also where this suite was started by nohup or in the background."""
    for name in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_DFL)


def finish(process: subprocess.Popen, log: Path) -> int:
    """The status of a run.

    Raises:
        Stuck: it does not end.
    """
    try:
        return process.wait(RUN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Stuck(f"the run does not end: {tail(log)}") from None


def run(world: Path, root: str, log: Path, *words: object, **environment: str) -> int:
    """A whole run."""
    return finish(start(world, root, log, *words, **environment), log)


def check_ended(root: Path) -> None:
    """Nothing of a run outlives it.

    Raises:
        Stuck: a process does.
    """
    end = time.monotonic() + END_S
    while left := processes_of(f"{root}/"):
        if time.monotonic() > end:
            raise Stuck(f"{len(left)} processes outlive the run")
        time.sleep(0.05)


def results(root: Path) -> dict[str, object]:
    """Relative path -> content of all that two runs must agree in."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        counts = path.suffix in COMPARED or path.name in SCORES
        if path.is_file() and counts and path.name not in DIFFERENT and not any(own in name for own in OWN):
            found[name] = settled(path)
    return found


def settled(path: Path) -> object:
    """The content of a file, but for times and for what names its own folder."""
    if path.suffix == ".json":
        return without_times(json.loads(path.read_text(encoding="utf-8")))
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as stream:
            return [without_times(row) for row in csv.DictReader(stream)]
    return path.read_bytes()


def without_times(value: object) -> object:
    """A value of JSON without what differs from run to run."""
    if isinstance(value, dict):
        return {key: without_times(one) for key, one in value.items() if key not in CHANGING}
    return [without_times(one) for one in value] if isinstance(value, list) else value


def difference(a: object, b: object) -> str:
    """Where two values of JSON first differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        name = next(name for name in {**a, **b} if a.get(name) != b.get(name))
        return f"{name}: {difference(a.get(name), b.get(name))}"
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return difference(*next(pair for pair in zip(a, b, strict=True) if pair[0] != pair[1]))
    return f"{str(a)[:60]} became {str(b)[:60]}"


def leftovers(root: Path) -> list[str]:
    """Names of temporary files and folders."""
    return [path.relative_to(root).as_posix() for path in root.rglob(".*") if path.name != ".lock"]


def compare(world: Path, root: str) -> None:
    """Compare results with those of the undisturbed run.

    Raises:
        Silent: they differ, or something was left behind.
    """
    wanted, found = results(world / "reference"), results(world / root)
    missing, more = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    others = [name for name in wanted if name in found and wanted[name] != found[name]]
    if missing or others:
        first = f" ({difference(wanted[others[0]], found[others[0]])})" if others else ""
        raise Silent(f"missing: {missing[:5]}; other content: {others[:5]}{first}; too many: {more[:5]}")
    if left := leftovers(world / root):
        raise Silent(f"left behind: {left[:5]}")
