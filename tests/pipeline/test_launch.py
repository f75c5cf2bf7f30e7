"""What starts several processes of one training: how it ends, and what is heard of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from synthio.cli import UserError
from synthio.pipeline import launch as launching
from tests.running import wait_until
from tests.scripts import ROOT, call_script, launch, launched

LAUNCH = ROOT / "synthio/pipeline/launch.py"
PROGRAM = """
import os
import signal
import sys
import time
from pathlib import Path

from synthio.cli import UserError, run_main
from synthio.training.processes import join


def main():
    folder, how = Path(sys.argv[1]), sys.argv[2]
    p = join("cpu")
    (folder / f"pid.{p.rank}").write_text(str(os.getpid()))
    p.sum_values({"here": 1.0})
    if how == "user":
        raise UserError("row 3: no such clip")
    if p.rank == 1:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "fault":
            raise AssertionError("a fault of ours")
    if how == "waits":
        time.sleep(300)
    p.sum_values({"there": 1.0})
    print("all are there" if how == "well" else "never")
    p.leave()


run_main(main)
"""


@pytest.fixture
def program(tmp_path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def pids(folder: Path) -> list[int]:
    return [int(path.read_text()) for path in folder.glob("pid.*") if path.stat().st_size]


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_two_processes_end_well(program, tmp_path):
    done = launch(2, program, tmp_path, "well")
    assert (done.returncode, done.stdout, done.stderr) == (0, "all are there\n", "")


@pytest.mark.parametrize(
    ("how", "status", "said"),
    [
        ("user", 2, ["error: row 3: no such clip"]),
        ("killed", 137, ["error: process 2 of 2 was killed (signal 9, SIGKILL), and the others with it"]),
        ("fault", 1, ["Traceback (most recent call last):", "AssertionError: a fault of ours"]),
    ],
)
def test_a_process_that_ends_ends_the_others_and_what_happened_is_said_once(program, tmp_path, how, status, said):
    began = time.monotonic()
    done = launch(2, program, tmp_path, how)
    lines = done.stderr.splitlines()
    assert (done.returncode, [lines[0], lines[-1]]) == (status, [said[0], said[-1]]), done.stderr
    assert len(lines) == 1 or how == "fault"
    assert time.monotonic() - began < 60 and not any(map(alive, pids(tmp_path)))
    assert done.stdout == ""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_no_process_outlives_who_started_it(program, tmp_path, number, status):
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    command = launched(2, program, tmp_path, "waits")
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as started:
        wait_until(lambda: len(pids(tmp_path)) == 2, "two processes")
        started.send_signal(number)
        assert started.wait(60) == status
        wait_until(lambda: not any(map(alive, pids(tmp_path))), "the end of both", 10)
        assert started.stderr.read() == ""


@pytest.mark.parametrize(
    ("asked", "device", "gpus", "count"),
    [
        ("auto", "auto", 4, 4),
        ("auto", "cuda", 2, 2),
        ("auto", "auto", 0, 1),
        ("auto", "cpu", 4, 1),
        (3, "auto", 4, 3),
        (3, "cpu", 4, 3),
        (2, "auto", 0, 2),
    ],
)
def test_how_many_are_started(monkeypatch, asked, device, gpus, count):
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert launching.count_processes(asked, device) == count


def test_more_than_there_are_gpus_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(UserError, match="3 devices are asked for, and there are 2 GPUs; take fewer, or auto"):
        launching.count_processes(3, "auto")
    refused = call_script(LAUNCH, "0", "x.py")
    assert refused.returncode == 2 and "0 is outside [1, inf]" in refused.stderr


def test_an_environment_without_accelerate_is_told_how_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="-m pip install accelerate`, or take train_devices=1"):
        launching.launch(2, "x.py", [])


def test_one_process_takes_the_place_of_what_starts_it(program, tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(os, "execv", lambda *words: called.append(words) or sys.exit(0))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    call_script(LAUNCH, "auto", "dpo_train.py", "--gold_csv", "a b.csv")
    assert called == [(sys.executable, [sys.executable, "dpo_train.py", "--gold_csv", "a b.csv"])]


def test_the_value_of_an_option_is_found():
    words = ["--model", "m", "--device", "cpu"]
    assert launching.option_of(words, "--device", "auto") == "cpu"
    assert launching.option_of(words[:2], "--device", "auto") == "auto"
    assert launching.option_of(["--device"], "--device", "auto") == "auto"
