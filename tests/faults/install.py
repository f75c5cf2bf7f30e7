"""An install that is killed at a random moment, alone or beside another, and called again: it ends whole."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.faults.runs import hear
from tests.faults.trials import Outcome, Stuck, judged
from tests.scripts import ROOT
from tests.test_lock import save_wheel

COUNT, LEAST, WAIT_S = 8, 4, 600
INSTALL_S = 300
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def start(environment: Path, requirements: Path, wheels: Path, log: Path) -> subprocess.Popen:
    """make_env.sh as a process, in a group of its own."""
    command = ["bash", str(ROOT / "extras/environments/make_env.sh"), str(environment), str(requirements)]
    known = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": wheels.as_uri()}  # pip parts it at spaces
    with log.open("ab") as stream:
        return subprocess.Popen(
            command, env=known, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True,
            preexec_fn=hear,
        )  # fmt: skip


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for parent in found:
        listed = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=False)
        found += [int(word) for word in listed.stdout.split()]
    return found


def trials(numbers: Iterable[int], seed: int, folder: Path, shared: Path) -> Iterator[Outcome]:
    wheels = folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    for k in range(3):
        save_wheel(wheels, f"tiny{k}", "1.0")
    requirements = folder / "needs.txt"
    requirements.write_text("tiny0==1.0\ntiny1==1.0\ntiny2==1.0\n")

    def trial(rng: random.Random) -> str:
        environment, log = folder / "an env", folder / "install.log"
        shutil.rmtree(environment, ignore_errors=True)
        log.write_text("")
        said = []
        for _ in range(rng.choice([1, 1, 2])):
            first = [start(environment, requirements, wheels, log) for _ in range(rng.choice([1, 1, 2]))]
            moment, sent = rng.uniform(0.1, 8), rng.choice(SIGNALS)
            time.sleep(moment)
            for pid in rng.sample(found := family(first[0].pid), 1 if rng.random() < 0.7 else len(found)):
                try:
                    os.kill(pid, sent)
                except ProcessLookupError:
                    continue
            said.append(f"{sent.name} at {moment:.1f} s")
            if rng.random() < 0.5:
                for process in first:
                    wait(process, said)
        last = start(environment, requirements, wheels, log)
        if status := wait(last, said):
            raise Stuck(f"{said}: status {status}: {log.read_text(errors='replace')[-300:]}")
        check = "import importlib.metadata as m; [m.version(f'tiny{k}') for k in range(3)]"
        done = subprocess.run([environment / "bin/python", "-c", check], capture_output=True, text=True, check=False)
        if done.returncode or list(folder.glob(".an env*")) or list(folder.glob("an env.*")):
            raise Stuck(f"{said}: the environment is not whole: {done.stderr[-200:]}, {sorted(folder.iterdir())}")
        return "; ".join(said)

    return judged(numbers, seed, "install", trial, (), slow_s=4 * INSTALL_S)


def wait(process: subprocess.Popen, said: list[str]) -> int:
    try:
        return process.wait(INSTALL_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise Stuck(f"{said}: no end within {INSTALL_S} s") from None
