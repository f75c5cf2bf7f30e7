"""The launcher of a SLURM cluster where tasks are cut off, a node is lost, or anything is killed."""

from __future__ import annotations

import random
import signal
import subprocess
import time

import pytest

from tests.slurm_cluster import NODES
from tests.slurm_driver import Folder, new_cluster, wants_slurm

pytestmark = wants_slurm


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory):
    """What takes SLURM a minute: (folder, driver) by node.

    The tasks on node1 meet their time limit; node2 loses its power with all that it runs.
    """
    found: dict[str, tuple[Folder, subprocess.Popen[str]]] = {}
    with new_cluster() as own:
        for node, words in (("node1", ("launcher_retries=1",)), ("node2", ())):
            one = Folder(tmp_path_factory.mktemp(node) / "w", own, ms=600_000)
            found[node] = one, one.start(2, f"launcher_options=nodelist={node} time=1", *words)
        for one, _ in found.values():
            one.wait_for_starts(2)
        own.cut_power("node2")
        yield found
        for _, driver in found.values():
            if driver.poll() is None:
                driver.send_signal(signal.SIGTERM)
                driver.wait()


def test_a_node_without_power_is_told(cut_off):
    folder, driver = cut_off["node2"]
    assert driver.wait(90) == 1
    printed = folder.printed()
    assert "status step.1.log NODE_FAIL" in printed and "the task did not end by itself: NODE_FAIL" in printed, printed
    folder.take(300)
    done = folder.call(2, "launcher_options=time=1")
    assert done.returncode == 0 and "submitted 2 tasks: " in done.stdout, done.stdout + done.stderr
    folder.cluster.revive("node2")


def test_tasks_longer_than_their_limit_end_in_steps(cut_off):
    folder, driver = cut_off["node1"]
    assert driver.wait(150) == 0, folder.printed()
    assert [folder.count(word) for word in ("start", "stopped", "end")] == [4, 2, 2], folder.trace()
    assert folder.printed().count("TIMEOUT; it is submitted again (1 of 1)") == 2


@pytest.mark.parametrize(
    ("kills", "victims"),
    [(2, ["driver", "slurmctld"]), pytest.param(20, ["driver", "slurmctld", *NODES], marks=pytest.mark.slow)],
)
def test_kills_at_any_moment_lose_nothing_and_start_nothing_twice(cluster, tmp_path, kills, victims):
    """By -9. The same call ends with all tasks done; what a driver's death left at work is not started again."""
    chance = random.Random(kills)
    for number in range(kills):
        folder = Folder(tmp_path / f"w{number}", cluster, ms=2500)
        victim = victims[number % len(victims)]
        driver = folder.start(3)
        time.sleep(chance.uniform(0, 4))
        if victim == "driver":
            folder.kill(driver)
        elif victim == "slurmctld":
            cluster.kill(victim)
            time.sleep(chance.uniform(0, 3))
            cluster.revive(victim)
        else:
            cluster.cut_power(victim)
            driver.wait(120)
            cluster.revive(victim)
        driver.wait(120)
        cluster.wait_until_answering()
        for _ in range(3):
            done = folder.call(3)
            if done.returncode == 0:
                break
        assert done.returncode == 0, f"{victim}: {done.stdout}{done.stderr}{folder.printed()}"
        assert {f"end {k}" for k in (1, 2, 3)} <= set(folder.trace()), (victim, folder.trace())
        assert folder.count("twice") == 0 and not folder.records(), (victim, folder.trace())
        if victim == "driver":
            assert all(folder.count(f"start {k}") <= 2 for k in (1, 2, 3))
        cluster.wait_until_idle()
