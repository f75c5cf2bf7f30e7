#!/usr/bin/env python3
"""How time and memory grow with clips and rows, and what a script needs to start.

    python benchmarks/growth.py --clips 50 100 200 400 --rows 1000 10000 100000 1000000

A slope is d log(seconds) / d log(count) between the two largest counts: 1 is linear, less still has a start in it.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import numpy as np
from loops import LABELS, Size, classify_ours, filter_ours
from side_by_side import clock

from synthio.cli import in_range, new_parser, quiet_libraries, run_main, set_threads

HEAD_WIDTH, HEAD_VALID = 192, 60  # of the embeddings; validation clips


# What a script is run inside of where its memory is asked for.
WATCHED = """
import atexit, pathlib, runpy, sys
sys.path.insert(0, "benchmarks")
from side_by_side import peak_mb
note = pathlib.Path(sys.argv.pop(1))
del sys.argv[0], sys.path[0]
atexit.register(lambda: note.write_text(str(peak_mb("cpu"))))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass(frozen=True)
class Spent:
    """Seconds of the processor and peak memory in MB of a process."""

    cpu_s: float
    peak_mb: float


def slope(counts: Sequence[int], values: Sequence[float]) -> float:
    """d log(value) / d log(count) between the last two."""
    return math.log(values[-1] / values[-2]) / math.log(counts[-1] / counts[-2])


def run_alone(*words: object) -> float:
    """Seconds of the processor that Python takes for some words.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    command = [sys.executable, *map(str, words)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime


def run_watched(note: Path, *words: object) -> Spent:
    """Run a script of ours, which leaves its peak in a note; raises as `run_alone`."""
    cpu_s = run_alone("-c", WATCHED, note, *words)
    return Spent(cpu_s, float(note.read_text()))


def write_rows(path: Path, count: int) -> Path:
    """A table of generated clips."""
    with path.open("w", encoding="utf-8") as stream:
        stream.write("path,label,prompt,seed\n")
        stream.writelines(f"clips/{i:07d}.wav,{LABELS[i % 4]},sound of a {LABELS[i % 4]},{i}\n" for i in range(count))
    return path


def table_stages(count: int, folder: Path) -> dict[str, Spent]:
    """A table of many rows that is shared out to four processes, and what comes back joined."""
    table = write_rows(folder / f"{count}.csv", count)
    shards = folder / f"shards_{count}"
    note, words = folder / "peak", ["--input_csv", table, "--output_folder", shards, "--num_shards", 4]
    found = {"split_csvs.py": run_watched(note, "split_csvs.py", *words)}
    words = ["--input_csvs", *sorted(shards.glob("*.csv")), "--output_csv", folder / f"joined_{count}.csv"]
    found["merge_csv.py"] = run_watched(note, "merge_csv.py", *words, "--expected_csv", table)
    return found


def fit_fusion(count: int) -> float:
    """Seconds of the fusion of heads on random embeddings of four classes."""
    from synthio.classification.heads import Task, fit_head

    rng = np.random.default_rng(0)
    classes = [np.arange(n) % len(LABELS) for n in (count, HEAD_VALID)]
    centres = rng.normal(size=(len(LABELS), HEAD_WIDTH))

    def hear(own: np.ndarray) -> dict[str, np.ndarray]:
        x = {kind: centres[own] + 3 * rng.normal(size=(len(own), HEAD_WIDTH)) for kind in ("ast", "clap")}
        return {kind: (a / np.linalg.norm(a, axis=1, keepdims=True)).astype(np.float32) for kind, a in x.items()}

    train, valid = map(hear, classes)
    targets, valid_targets = (np.eye(len(LABELS), dtype=np.float32)[own] for own in classes)
    rates, sources, texts = np.ones(count), np.arange(count), (centres / np.linalg.norm(centres, axis=1)[:, None])
    task = Task(train, valid, targets, valid_targets, rates, sources, None, texts.astype(np.float32), 10.0, False)
    started = clock("cpu")
    fit_head("fusion", task)
    return clock("cpu") - started


def clip_work(clip_s: float, device: str) -> dict[str, Callable[[int, Path], float]]:
    """What a clip costs, by the name of the work: (clips, folder) -> seconds."""

    def timed(prepare: Callable, field: str) -> Callable[[int, Path], float]:
        def measure(count: int, folder: Path) -> float:
            folder.mkdir()
            work = prepare(Size(clip_s=clip_s, **{field: count}), device, folder)
            started = clock(device)
            told = work()
            return clock(device) - started if told is None else told

        return measure

    return {
        "CLAP filter": timed(filter_ours, "filtered"),
        "classifier, 50 epochs": timed(classify_ours, "trained"),
        "fusion of heads": lambda count, _: fit_fusion(count),
    }


def clip_rows(counts: Sequence[int], clip_s: float, device: str) -> list[list[str]]:
    """A row for each work: seconds by clips, slope."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, measure) in enumerate(clip_work(clip_s, device).items()):
            seconds = [measure(count, Path(folder, f"{number}_{count}")) for count in counts]
            rows.append([name, *(f"{value:.1f}" for value in seconds), f"{slope(counts, seconds):.2f}"])
    return rows


def table_rows(counts: Sequence[int]) -> list[list[str]]:
    """A row for each script: seconds and memory by rows, slopes of both."""
    with tempfile.TemporaryDirectory() as folder:
        found = [table_stages(count, Path(folder)) for count in counts]
    rows = []
    for name in found[0]:
        spent = [one[name] for one in found]
        slopes = [slope(counts, [getattr(one, part) for one in spent]) for part in ("cpu_s", "peak_mb")]
        rows.append(
            [name, *(f"{one.cpu_s:.1f} s, {one.peak_mb:.0f} MB" for one in spent), *(f"{s:.2f}" for s in slopes)]
        )
    return rows


def start_rows(scripts: Sequence[str], most: int = 5) -> list[list[str]]:
    """The scripts whose --help takes longest, in seconds of the processor."""
    words = {
        name: ["-m", name.removesuffix(".py").replace("/", ".")] if name.startswith("synthio/") else [name]
        for name in scripts
    }
    spent = {name: run_alone(*own, "--help") for name, own in words.items()}
    slowest = sorted(spent, key=lambda name: -spent[name])
    return [[name, f"{spent[name]:.2f}"] for name in slowest[:most]]


def get_parser():
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--clips", nargs="+", type=in_range(int, 1), default=[50, 100, 200, 400], help="numbers of clips, two or more")
    add("--rows", nargs="+", type=in_range(int, 1), default=[10**3, 10**4, 10**5, 10**6], help="likewise, of a table")
    add("--clip_s", type=in_range(float, 0.1), default=4.0, help="length of a clip in seconds")
    add("--device", default="cpu", help="cpu or cuda")
    return parser


def sections(clips: Sequence[int], rows: Sequence[int], clip_s: float, device: str) -> dict[str, tuple]:
    """Title -> (header, rows) of the three tables."""
    from tests.test_help import SCRIPTS

    return {
        "Seconds of the processor by clips": (["work", *map(str, clips), "slope"], clip_rows(clips, clip_s, device)),
        "Tables by rows, seconds of the processor": (
            ["script", *(f"{n:,}" for n in rows), "slope of seconds", "of memory"],
            table_rows(rows),
        ),
        f"--help of {len(SCRIPTS)} scripts, the slowest": (["script", "seconds of the processor"], start_rows(SCRIPTS)),
    }


def main() -> int:
    args = get_parser().parse_args()
    quiet_libraries()
    set_threads()
    from synthio.report.tables import plain_table

    for title, (header, rows) in sections(args.clips, args.rows, args.clip_s, args.device).items():
        print(f"{title}\n{plain_table(header, rows)}\n", flush=True)
    return 0


if __name__ == "__main__":
    run_main(main)
