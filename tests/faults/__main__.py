"""Faults at random, many times:  sh test.sh faults [--scale 0.1] [--seed 7] [--part kills] [--only 17]

Sound files, CSVs, records, caches, adapters and model folders are damaged; a chat server misbehaves; labels and paths
try to move the cursor; runs and installs are killed, or find the disk full, and are called again. Every trial has one
right end: the right result, or one line that says what is wrong. A table says how many there were of each; the status
is 1 if any was silent, stuck, or ended in a traceback. A trial depends on --seed and its number alone.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from tests.faults.trials import KINDS, RIGHT, STUCK, TRACEBACK, Outcome

PARTS = ("kills", "records", "tables", "install", "disk", "server", "sounds", "terminal")
MAX_SHOWN = 5  # failures of a part, in full
ROOT = Path(__file__).resolve().parent.parent.parent


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sh test.sh faults", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the trials of full size")
    parser.add_argument("--seed", type=int, default=0, help="another one gives other trials")
    parser.add_argument("--part", choices=PARTS, action="append", help="this part alone; may be given again")
    parser.add_argument("--only", type=int, help="this trial alone, of one part")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--folder", type=Path, help="where to work; kept. Without it: a temporary one, removed")
    return parser.parse_args()


class Work:
    """The trials of a part that one process does, started again behind a trial that killed it."""

    def __init__(self, part: str, numbers: list[int], seed: int, folder: Path, shared: Path):
        self.part, self.numbers, self.seed, self.folder, self.shared = part, numbers, seed, folder, shared
        self.wait_s = importlib.import_module(f"tests.faults.{part}").WAIT_S

    def all(self) -> tuple[list[Outcome], float]:
        """All of them, and the seconds that they took."""
        started = time.monotonic()
        return list(self.outcomes()), time.monotonic() - started

    def outcomes(self) -> Iterator[Outcome]:
        """As they come."""
        left = list(self.numbers)
        while left:
            done = 0
            for outcome in self._process(left):
                yield outcome
                done += 1
            left = left[done:]

    def _process(self, numbers: list[int]) -> Iterator[Outcome]:
        words = [self.part, self.seed, self.folder, self.shared, *numbers]
        command = [sys.executable, "-m", "tests.faults.worker", *map(str, words)]
        log = self.folder / "worker.log"
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
        with log.open("ab") as errors:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )
        lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=lambda: [*map(lines.put, chain(process.stdout, [b""]))], daemon=True).start()
        done = 0
        while True:
            try:
                line = lines.get(timeout=self.wait_s)
            except queue.Empty:
                os.killpg(process.pid, 9)
                yield Outcome(numbers[done], STUCK, f"no end within {self.wait_s} s")
                break
            if not line:
                break
            record = json.loads(line)
            if "kind" in record:
                done += 1
                yield Outcome(**record)
        process.wait()
        if done < len(numbers) and process.returncode not in (0, -9):
            tail = log.read_text(encoding="utf-8", errors="replace")[-300:]
            yield Outcome(numbers[done], TRACEBACK, f"the process ended with {process.returncode}: {tail}")


def works_of(part: str, args: argparse.Namespace, folder: Path) -> list[Work]:
    """The trials of a part, dealt out to as many processes as are wanted, and as are worth it."""
    module = importlib.import_module(f"tests.faults.{part}")
    numbers = [args.only] if args.only is not None else list(range(max(1, round(module.COUNT * args.scale))))
    count = max(1, min(args.jobs, len(numbers) // module.LEAST))
    shared = folder / "shared"
    return [Work(part, numbers[k::count], args.seed, folder / part / str(k), shared) for k in range(count)]


def report(part: str, outcomes: list[Outcome], seconds: float) -> None:
    """A row of the table, and below it what went wrong."""
    outcomes = sorted(outcomes, key=lambda outcome: outcome.number)
    counts = Counter(outcome.kind for outcome in outcomes)
    print(f"{part:<10} {len(outcomes):>6} " + " ".join(f"{counts[kind]:>9}" for kind in KINDS) + f" {seconds:>7.0f}")
    wrong = [outcome for outcome in outcomes if outcome.kind != RIGHT]
    for outcome in wrong[:MAX_SHOWN]:
        print(f"    {part} {outcome.number} {outcome.kind}: {outcome.what}")
    if len(wrong) > MAX_SHOWN:
        print(f"    and {len(wrong) - MAX_SHOWN} more")
    sys.stdout.flush()


def run(args: argparse.Namespace, folder: Path) -> int:
    """Do all parts, the longest first, and print a row of each as it ends; how many trials were wrong."""
    parts = args.part or PARTS
    works = {part: works_of(part, args, folder) for part in parts}
    wrong = 0
    with ThreadPoolExecutor(args.jobs) as pool:
        started = {part: [pool.submit(work.all) for work in works[part]] for part in parts}
        for part, futures in started.items():
            found = [future.result() for future in futures]
            outcomes = [outcome for some, _ in found for outcome in some]
            report(part, outcomes, sum(seconds for _, seconds in found))
            wrong += sum(outcome.kind != RIGHT for outcome in outcomes)
    return wrong


def main() -> int:
    args = parse_args()
    folder = (args.folder or Path(tempfile.mkdtemp(prefix="synthio faults "))).absolute()
    started = time.monotonic()
    print(f"{'part':<10} {'tried':>6} " + " ".join(f"{kind:>9}" for kind in KINDS) + f" {'seconds':>7}", flush=True)
    try:
        wrong = run(args, folder)
    finally:
        if not args.folder:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{wrong} wrong, in {time.monotonic() - started:.0f} s; seed {args.seed}, scale {args.scale:g}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
