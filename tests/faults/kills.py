"""Runs that are killed, at random moments and at random file commits, by every signal, and called again.

A worker kills one run after the other (a chain) until it ends; its results are then those of the undisturbed run, to
the byte. A chain is ended undisturbed after its last kill.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.faults import runs
from tests.faults.trials import RIGHT, SILENT, STUCK, Outcome, Silent, Stuck, rng_of
from tests.running import processes_of

COUNT, LEAST, WAIT_S = 94, 13, 1200
LONGEST = 26  # kills of one chain

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
MOMENTS_S = (0.3, 9.0)  # after the start
COMMITS = (1, 24)  # file commits after the start, of all processes of the run
# Imported by every Python process of the run: the n-th commit of them all, by a file that grows by a byte each, ends
# the process or the run.
AT_COMMIT = """
import os

def counted(real):
    def call(*paths, **options):
        with open(os.environ["FAULT_COUNT"], "ab") as stream:
            stream.write(b".")
            stream.flush()
            number = os.fstat(stream.fileno()).st_size
        if number != int(os.environ["FAULT_AT"]) or not os.path.exists(os.environ["FAULT_DRIVER"]):
            return real(*paths, **options)
        if os.environ["FAULT_WHEN"] == "after":
            real(*paths, **options)
        pid = os.getpid()
        if os.environ["FAULT_WHOM"] == "driver":
            pid = int(open(os.environ["FAULT_DRIVER"]).read())
        os.kill(pid, int(os.environ["FAULT_SIGNAL"]))
        return None if os.environ["FAULT_WHEN"] == "after" else real(*paths, **options)
    return call

for name in ("replace", "rename", "unlink", "rmdir", "link"):
    setattr(os, name, counted(getattr(os, name)))
"""


class Chain:
    """One results root, killed again and again.

    Args:
        world: see `runs.world_of`.
        folder: of this worker.
        name: of the results root.
    """

    def __init__(self, world: Path, folder: Path, name: str):
        self.world, self.folder, self.name = world, folder, name
        self.root, self.log = world / name, folder / "run.log"
        self.kills: list[str] = []

    def kill_once(self, rng: random.Random) -> tuple[bool, str]:
        """Start the run and kill it; (whether it came to its end first, what was done)."""
        sent = rng.choice(SIGNALS)
        whom, when = rng.choice(["driver", "stage"]), rng.choice(["before", "after"])
        at_commit = rng.random() < 0.5
        environment = self._environment(sent, whom, when, rng.randint(*COMMITS)) if at_commit else {}
        process = runs.start(self.world, self.name, self.log, **environment)
        (self.folder / "driver").write_text(str(process.pid))
        what = f"{sent.name} to {whom} {when if at_commit else 'at'} "
        if at_commit:
            what += f"commit {environment['FAULT_AT']}"
        else:
            moment = rng.uniform(*MOMENTS_S)
            what += f"{moment:.1f} s"
            self._kill_at(process, moment, sent, whom)
        status = runs.finish(process, self.log)
        runs.check_ended(self.root)
        self._check_words(status, what, sent, whom)
        self.kills.append(what)
        return status == 0, what

    def _environment(self, sent: int, whom: str, when: str, commit: int) -> dict[str, str]:
        inject = self.folder / "inject"
        inject.mkdir(exist_ok=True)
        (inject / "sitecustomize.py").write_text(AT_COMMIT)
        for name in ("count", "driver"):
            (self.folder / name).unlink(missing_ok=True)
        return {
            "PYTHONPATH": f"{inject}{os.pathsep}{runs.RUN.parent}",
            "FAULT_COUNT": str(self.folder / "count"),
            "FAULT_DRIVER": str(self.folder / "driver"),
            "FAULT_AT": str(commit),
            "FAULT_WHEN": when,
            "FAULT_WHOM": whom,
            "FAULT_SIGNAL": str(int(sent)),
        }

    def _kill_at(self, process: subprocess.Popen, moment_s: float, sent: int, whom: str) -> None:
        """Send a signal to the run, or to a Python process of it."""
        end = time.monotonic() + moment_s
        while time.monotonic() < end and process.poll() is None:
            time.sleep(0.01)
        pids = [process.pid]
        while whom == "stage" and process.poll() is None:  # between two of them there is none
            if pids := [pid for pid in processes_of(f"{self.root}/", "python") if pid != process.pid]:
                break
            time.sleep(0.01)
        for pid in pids[:1]:
            try:
                os.kill(pid, sent)
            except ProcessLookupError:
                continue

    def _check_words(self, status: int, what: str, sent: int, whom: str) -> None:
        """A run that did not come to its end says so; one that was killed by -9 cannot."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        said = any(word in text for word in ("goes on", "failed", "error: "))
        if status and not said and not (whom == "driver" and sent == signal.SIGKILL):
            raise Silent(f"{what}: ended with status {status} and without a word")
        if "Traceback" in text and "KeyboardInterrupt" not in text:
            raise Silent(f"{what}: a traceback: {runs.tail(self.log)}")

    def end(self) -> None:
        """Let the run come to its end, and compare; what was right is removed."""
        status = runs.run(self.world, self.name, self.log)
        if status:
            raise Stuck(f"after {len(self.kills)} kills, the last {self.kills[-1:]}: {runs.tail(self.log)}")
        runs.compare(self.world, self.name)
        shutil.rmtree(self.root)


def trials(numbers: Iterable[int], seed: int, folder: Path, shared: Path) -> Iterator[Outcome]:
    numbers, world = list(numbers), runs.world_of(shared)
    folder.mkdir(parents=True, exist_ok=True)
    chain: Chain | None = None
    for k, number in enumerate(numbers):
        chain = chain or Chain(world, folder, f"killed {numbers[0]} {number}")
        kind, what = RIGHT, ""
        try:
            is_done, what = chain.kill_once(rng_of(seed, "kills", number))
            if is_done or len(chain.kills) >= LONGEST or k == len(numbers) - 1:
                done, chain = chain, None
                done.end()
        except Silent as error:
            kind, what = SILENT, str(error)
        except Stuck as error:
            kind, what, chain = STUCK, str(error), None
        yield Outcome(number, kind, what)
