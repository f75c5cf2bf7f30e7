"""Work that is shared out to all cores, by processes that end with the one that asked for it.

for sound in spread(inspect, paths, chunk=32): ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from synthio.cli import UserError

T = TypeVar("T")
R = TypeVar("R")

MOST_WORKERS = 32  # disks are not faster for more


def spread(function: Callable[[T], R], items: Sequence[T], chunk: int) -> Iterator[R]:
    """function(item) of each item, in their order, by a process for each core.

    Args:
        function: of a module, by its name; what it takes and gives can be pickled.
        items: what it is called with.
        chunk: items that are handed to a process at once.

    Raises:
        UserError: a process was killed.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    context = multiprocessing.get_context("forkserver")  # a process that was forked has no threads of ours
    context.set_forkserver_preload([function.__module__])
    try:
        with ProcessPoolExecutor(available_cores(), context, initializer=end_with_parent) as pool:
            yield from pool.map(function, items, chunksize=chunk)
    except BrokenProcessPool:
        raise UserError("a process that works on clips was killed (by the system, for want of memory?)") from None


def end_with_parent() -> None:
    """Let a worker (a process of multiprocessing) end when its parent does, killed or not, without a word at Ctrl-C."""
    import multiprocessing
    import os
    import signal
    import threading
    from multiprocessing.connection import wait

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def available_cores() -> int:
    """Cores that this process may use, and that are worth using."""
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_WORKERS)
