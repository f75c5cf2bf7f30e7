"""Programs that tests start: stand-ins for them, waiting for what they do, and what of them still runs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


def save_program(path: Path, text: str) -> None:
    """A shell script that stands in for a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 120) -> None:
    """Look every 50 ms; an AssertionError names what did not happen."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen in {timeout_s} s"
        time.sleep(0.05)


def processes_of(root: Path | str, among: str = "") -> dict[int, str]:
    """Number -> command line of the running processes that name this results root, this one left out."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue
        if str(root) in line and among in line and path.parent.name != str(os.getpid()):
            found[int(path.parent.name)] = line
    return found


def session(leader: int) -> list[str]:
    """Living processes of a session, the zombies left out."""
    found = subprocess.run(
        ["ps", "-s", str(leader), "-o", "stat=,pid=,args="], capture_output=True, text=True, check=False
    )
    return [line for line in found.stdout.splitlines() if not line.startswith("Z")]


def check_workers_end(code: str, least: int) -> None:
    """Kill a Python program that prints `ready` and has `least` processes at work: SIGKILL must leave none behind."""
    program = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        assert program.stdout.readline() == b"ready\n"
        wait_until(lambda: len(session(program.pid)) >= least, f"{least} processes")
        program.kill()
        program.wait()
        wait_until(lambda: not session(program.pid), "the end of all workers")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
