"""Fixtures of the tests of the cluster's launcher."""

from __future__ import annotations

import pytest

from tests.running import processes_of, wait_until
from tests.slurm_driver import Folder, new_cluster


@pytest.fixture(scope="module")
def cluster():
    with new_cluster() as one:
        yield one


@pytest.fixture
def folder(cluster, tmp_path):
    """A folder; after the test the queue is empty and none of its processes lives."""
    one = Folder(tmp_path / "w", cluster)
    yield one
    one.cluster.wait_until_idle()
    wait_until(lambda: not processes_of(one.work), f"the end of all processes in {one.work}", 10)
