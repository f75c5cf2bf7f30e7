"""The real run.sh on results that a kill, a bad disk or a full one has left: the same command goes on, and says why."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest

from synthio.files import machine
from tests.driver import test_run
from tests.driver.test_run import RUN, call, save_world, stage_answers
from tests.faults_tools import kill_at, small_disk

pytestmark = pytest.mark.slow

CLIPS = "tiny set_synthetic"
WORK = "tiny set"


def options(root, **changes):
    """Of a run in one process and without a second round: up to the data set, which is what is damaged here."""
    return test_run.options(root, **{"cpu_shards": 1, "num_iters": 1, "reflect_rounds": 0, "stop_stage": 9} | changes)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """See `test_run.save_world`."""
    return save_world(tmp_path_factory.mktemp("a world"))


@pytest.fixture(scope="module")
def finished(world):
    """Results root of an undisturbed run."""
    done = call(*options("undisturbed"), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    return world / "undisturbed"


@pytest.fixture
def copy(world, finished, tmp_path):
    """A copy of it, under another name."""
    root = world / f"copy of {tmp_path.name}"
    shutil.copytree(finished, root)
    yield root
    shutil.rmtree(root)


def damage(path) -> None:
    data = bytearray(path.read_bytes())
    data[1000:3000] = os.urandom(2000)
    path.write_bytes(data)


def same_files(ours, theirs, pattern: str) -> None:
    found = {path.relative_to(theirs): path.read_bytes() for path in theirs.glob(pattern)}
    assert found and {path.relative_to(ours): path.read_bytes() for path in ours.glob(pattern)} == found


def test_damaged_clips_are_made_again_and_not_given_away(world, copy, finished):
    made = sorted((copy / CLIPS / "round_0").glob("*.wav"))[0]
    loser = sorted((copy / CLIPS / "dpo_losers").glob("*.wav"))[0]
    for path in (made, loser):
        damage(path)
    refused = call(*options(copy, stage=9, stop_stage=9), cwd=world)
    if refused.returncode:  # it is one that was kept
        assert "is another sound than the one that this CSV was written with" in refused.stdout + refused.stderr
    done = call(*options(copy), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    answers = stage_answers(done.stdout)
    for stage in ("3 losers", "6 generate"):
        assert "names a clip that is not what was written" in answers[stage]
    assert "up to date" in answers["4 dpo"] and "up to date" in answers["7 filter"]
    same_files(copy, finished, f"{CLIPS}/**/*.wav")
    same_files(copy, finished, f"{WORK}/dataset/**/*.wav")


def test_a_kill_while_the_adapter_is_committed(world, copy, finished, tmp_path):
    adapter = copy / WORK / "dpo/adapter"
    shutil.rmtree(adapter)
    (copy / WORK / "stamps/dpo.json").unlink()
    fault = kill_at(tmp_path / "fault", "replace", "adapter_config.json", 2)
    words = options(copy, stage=4, stop_stage=4)
    killed = call(*words, cwd=world, **fault)
    assert killed.returncode == 1 and "it was killed (signal 9)" in killed.stderr
    assert [path.name for path in adapter.iterdir() if not path.name.startswith(".")] == []
    done = call(*words, cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    same_files(copy, finished, f"{WORK}/dpo/adapter/*")


def test_lost_records_are_made_again(world, copy):
    lost = [
        f"{WORK}/{name}" for name in ("round_0/kept.json", "round_0/generated.json", "rounds.csv", "dpo/adapter.json")
    ]
    for name in lost:
        (copy / name).unlink()
    (copy / WORK / "stamps/stratify.json").write_text('{"key": 1}')
    (copy / WORK / "stamps/folders.json").write_text('{"a": 1}')
    done = call(*options(copy), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [name for name in lost if not (copy / name).exists()] == []
    answers = stage_answers(done.stdout)
    assert "stratify.json is damaged" in answers["1 stratify"] and "kept.json is missing" in answers["7 filter"]


def test_a_helper_that_is_killed_is_told(world, copy, tmp_path):
    (copy / WORK / "train_6.csv").unlink()
    fault = kill_at(tmp_path / "fault", "replace", "stratify.begun")
    killed = call(*options(copy, stop_stage=1), cwd=world, **fault)
    assert killed.returncode == 2
    assert "run.sh: a helper (-m synthio.pipeline.stamp) was killed (signal 9)" in killed.stderr
    assert "the same command goes on" in killed.stderr


def test_what_killed_calls_left_behind_is_removed_at_the_next_start(world, copy):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    work = copy / WORK
    files = [f".rounds.{machine()}-{dead.pid}-01234567.tmp.csv", f"stamps/.filter.{dead.pid}.tmp.begun"]
    files.append(f"dpo/cache/.a.{machine()}-{dead.pid}-01234567.tmp.safetensors")
    folder = work / f"dpo/.adapter.{machine()}-{dead.pid}-01234567.tmp"
    folder.mkdir()
    mine = work / f"round_0/.kept.{machine()}-{os.getpid()}-01234567.tmp.csv"
    for path in (*(work / name for name in files), folder / "weights", mine):
        path.write_bytes(b"x")
    assert call(*options(copy, stop_stage=0), cwd=world).returncode == 0
    assert [name for name in files if (work / name).exists()] == [] and not folder.exists() and mine.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted by root")
def test_a_full_disk_is_told_and_the_same_command_goes_on(world, copy, finished, tmp_path):
    shutil.rmtree(copy / CLIPS / "round_0")
    (copy / WORK / "round_0/generated.csv").unlink()
    with small_disk(tmp_path / "disk", 96 * 1024) as disk:
        if not os.path.ismount(disk):
            pytest.skip("nothing may be mounted here")
        (copy / CLIPS / "round_0").symlink_to(disk)
        full = call(*options(copy, stage=6, stop_stage=6), cwd=world)
        assert full.returncode == 1 and "Traceback" not in full.stderr
        assert "the disk is full; free some space, and the same command then goes on" in full.stdout + full.stderr
        (copy / CLIPS / "round_0").unlink()
    done = call(*options(copy, stage=6, stop_stage=6), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    same_files(copy, finished, f"{CLIPS}/round_0/*.wav")


def test_ctrl_c_says_that_the_same_command_goes_on(world, copy):
    (copy / WORK / "round_0/generated.csv").unlink()
    shutil.rmtree(copy / CLIPS / "round_0")
    words = ["bash", RUN, *options(copy, stop_stage=6)]
    process = subprocess.Popen(
        words, cwd=world, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    for line in process.stdout:
        if "running" in line:
            break
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=20)
    assert process.returncode == 130 and text.endswith("run.sh: stopped; the same command goes on from here\n")
