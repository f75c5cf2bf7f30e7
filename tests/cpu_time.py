"""CPU time of child processes, which other work on the machine does not stretch as it does the time on the clock."""

from __future__ import annotations

import resource


def children_cpu_s() -> float:
    """CPU seconds of the child processes that have ended and were waited for."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime
