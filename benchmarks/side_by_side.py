#!/usr/bin/env python3
"""Time two ways of doing the same work, turn by turn, each in a process of its own.

    ours, others = compare([command, "ours"], [command, "others"], turns=5)

A command makes ready, prints "ready", does its work once for each line that it is sent, and answers with a line of
JSON: seconds, and the peak of its memory in MB. `serve` is that loop. Turns alternate, so that what else the machine
does meets both sides alike.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TextIO

READY = "ready"
Work = Callable[[], float | None]  # gives its seconds where they are not those between start and end


@dataclass
class Timed:
    """Seconds of each turn, and the highest peak of the memory in MB."""

    seconds: list[float] = field(default_factory=list)
    peak_mb: float = 0.0

    @property
    def median_s(self) -> float:
        return median(self.seconds)


def ratio(ours: Timed, others: Timed) -> float:
    """How many times as long the other side takes: the median over the turns, each of which has both sides."""
    return median(b / a for a, b in zip(ours.seconds, others.seconds, strict=True))


def peak_mb(device: str) -> float:
    """Peak memory in MB: of a GPU what tensors took, else what the process had resident."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated() / 1e6
    status = Path("/proc/self/status")
    if status.is_file():  # what Linux's getrusage says begins with the peak of the process that started this one
        lines = status.read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def clock(device: str) -> float:
    """Seconds: of the processor, all threads of it, which other work on the machine does not stretch; of a GPU, on the
    clock, when it has done what it was given.
    """
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def serve(prepare: Callable[[], Work], device: str) -> None:
    """Make ready, then work once for each line of standard input; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    work = prepare()
    print(READY, file=answers, flush=True)
    for _ in sys.stdin:
        started = clock(device)
        told = work()
        seconds = clock(device) - started if told is None else told
        print(json.dumps({"seconds": seconds, "peak_mb": peak_mb(device)}), file=answers, flush=True)


def take_turn(process: subprocess.Popen[str], timed: Timed) -> None:
    """Let a process work once."""
    sent, answers = streams(process)
    print(file=sent, flush=True)
    answer = json.loads(answer_of(process, answers))
    timed.seconds.append(answer["seconds"])
    timed.peak_mb = max(timed.peak_mb, answer["peak_mb"])


def streams(process: subprocess.Popen[str]) -> tuple[TextIO, TextIO]:
    assert process.stdin and process.stdout, "opened with pipes"
    return process.stdin, process.stdout


def answer_of(process: subprocess.Popen[str], answers: TextIO) -> str:
    """A line of its answers.

    Raises:
        subprocess.CalledProcessError: it ended.
    """
    line = answers.readline()
    if not line:
        raise subprocess.CalledProcessError(process.wait(), process.args)
    return line.strip()


def compare(ours: Sequence[str], others: Sequence[str], turns: int) -> tuple[Timed, Timed]:
    """(ours, the others) over some turns of both. A median is not moved by the first one, which warms them up."""
    with ExitStack() as stack:
        processes = []
        for command in (ours, others):  # one after the other: each makes ready alone
            process = subprocess.Popen(list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert answer_of(process, streams(process)[1]) == READY
            processes.append(process)
        timed = Timed(), Timed()
        for _ in range(turns):
            for process, own in zip(processes, timed, strict=True):
                take_turn(process, own)
    return timed


def machine_words(device: str) -> str:
    """The machine: processor, cores, memory and, where one is used, GPU."""
    import torch

    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    words = f"{model or platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        words += f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.0f} GB"
    if device.startswith("cuda"):
        words += f", {torch.cuda.get_device_name()}"
    return f"{words}; threads: {torch.get_num_threads()}; Python {platform.python_version()}, torch {torch.__version__}"
