"""Work on all cores: in order, and told when a process was killed."""

from __future__ import annotations

import os
import signal

import pytest

from synthio.cli import UserError
from synthio.data import workers


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(workers, "available_cores", lambda: 2)


def process_of(item: int) -> tuple[int, int]:
    return item, os.getpid()


def end_at_three(item: int) -> int:
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_results_come_in_order_from_other_processes():
    found = list(workers.spread(process_of, range(50), chunk=3))
    assert [item for item, _ in found] == list(range(50))
    assert os.getpid() not in {process for _, process in found}


def test_a_worker_that_is_killed_ends_the_work_with_one_line():
    with pytest.raises(UserError, match="a process that works on clips was killed"):
        list(workers.spread(end_at_three, range(8), chunk=1))


def test_there_are_no_more_workers_than_disks_are_worth(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(128), raising=False)
    assert workers.available_cores() == workers.MOST_WORKERS
