"""Environments are made whole or not at all, by one call at a time, and nothing else is ever removed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.running import processes_of, wait_until
from tests.scripts import copy_driver

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "extras/environments/make_env.sh"
needs_setpriv = pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is Linux's")
needs_flock = pytest.mark.skipif(not shutil.which("flock"), reason="the lock is flock's")

# Stands in for Python: an environment is a copy of it, and an install takes two seconds and writes all the while.
PYTHON = """#!/bin/sh
case "$*" in
    *"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && touch "$3/pyvenv.cfg" ;;
    *"-m synthio"*) exit 1 ;;
    *"pip install"*)
        env=${0%/bin/python}
        echo "begin $$" >>"$env/../installs"
        for i in 1 2 3 4 5 6 7 8 9 10; do
            mkdir -p "$env/lib/$i" && touch "$env/lib/$i/module.py" || exit 1
            sleep ${PACE:-0.1}
        done
        echo "end $$" >>"$env/../installs" ;;
esac
"""


@pytest.fixture
def tools(tmp_path):
    """Environment variables whose PATH has the stand-in first, and no uv."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("python3.11", "python3"):
        (folder / name).write_text(PYTHON)
        (folder / name).chmod(0o755)
    (tmp_path / "needs.txt").write_text("x==1\n")
    rest = [part for part in os.environ["PATH"].split(os.pathsep) if not (Path(part) / "uv").exists()]
    return {**os.environ, "PATH": os.pathsep.join([str(folder), *rest])}


def start(tmp_path, tools, **changes):
    command = ["bash", SCRIPT, tmp_path / "env", tmp_path / "needs.txt"]
    return subprocess.Popen(
        command, env={**tools, **changes}, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def installs(folder: Path) -> list[str]:
    path = folder / "installs"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def is_whole(folder: Path) -> bool:
    modules = len(list((folder / "lib").glob("*/module.py")))
    return modules == 10 and (folder / ".installed-needs").exists() and not (folder / ".installing").exists()


@needs_setpriv
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_install_ends_at_once_and_the_same_command_goes_on(tmp_path, tools, number):
    process = start(tmp_path, tools, PACE="1")
    wait_until(lambda: installs(tmp_path) == ["begin"], "install")
    process.send_signal(number)
    process.wait(timeout=1)
    wait_until(lambda: not processes_of(tmp_path / "env"), "end of pip", 1)
    again = start(tmp_path, tools, PACE="0")
    assert again.wait(timeout=10) == 0 and is_whole(tmp_path / "env")
    assert [path.name for path in tmp_path.glob("env*")] == ["env"]


@needs_flock
@pytest.mark.parametrize("delay", [0, 0.3])
def test_of_two_calls_at_once_one_waits(tmp_path, tools, delay):
    first = start(tmp_path, tools)
    time.sleep(delay)
    second = start(tmp_path, tools)
    _, text = second.communicate(timeout=20)
    _, other = first.communicate(timeout=20)
    assert (first.returncode, second.returncode) == (0, 0) and is_whole(tmp_path / "env")
    assert installs(tmp_path) == ["begin", "end"] and "waiting for its end" in text + other


@needs_flock
@needs_setpriv
def test_a_call_while_the_killed_one_before_is_still_writing(tmp_path, tools):
    """Without setpriv, pip outlives its script: the next call waits for its end, and then begins anew."""
    (tmp_path / "tools/setpriv").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "tools/setpriv").chmod(0o755)
    process = start(tmp_path, tools)
    wait_until(lambda: installs(tmp_path) == ["begin"], "install")
    process.kill()
    again = start(tmp_path, tools, PACE="0")
    _, text = again.communicate(timeout=20)
    assert again.returncode == 0 and "waiting for its end" in text and is_whole(tmp_path / "env")
    assert installs(tmp_path) == ["begin", "end", "begin", "end"]


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks at processes in /proc")
def test_what_a_stopped_install_left_at_work_does_not_write_into_the_new_one(tmp_path, tools):
    """venv has pip installed by a process of a process of its own, which outlives both and holds no lock."""
    (tmp_path / "env/bin").mkdir(parents=True)
    for name in ("pyvenv.cfg", ".installing"):
        (tmp_path / "env" / name).touch()
    python = tmp_path / "env/bin/python"
    python.symlink_to(sys.executable)
    orphan = subprocess.Popen([python, "-c", "import time; time.sleep(60)  # pip"], start_new_session=True)
    try:
        assert start(tmp_path, tools, PACE="0").wait(timeout=10) == 0 and is_whole(tmp_path / "env")
        assert orphan.wait(timeout=1) == -signal.SIGKILL
    finally:
        orphan.kill()
        orphan.wait()


def test_what_is_half_removed_is_removed_by_the_next_call(tmp_path, tools):
    assert start(tmp_path, tools, PACE="0").wait(timeout=10) == 0
    (tmp_path / "env/.installing").touch()
    shutil.copytree(tmp_path / "env/lib", tmp_path / "env.old.123/lib")  # a kill in the middle of rm leaves that
    assert start(tmp_path, tools, PACE="0").wait(timeout=10) == 0 and is_whole(tmp_path / "env")
    assert not (tmp_path / "env.old.123").exists()


@pytest.mark.parametrize("works", [True, False])
def test_an_environment_that_was_not_made_here_is_never_removed(tmp_path, tools, works):
    folder = tmp_path / "env"
    (folder / "bin").mkdir(parents=True)
    for name in ("pyvenv.cfg", "mine"):
        (folder / name).touch()
    if works:
        shutil.copy(tmp_path / "tools/python3", folder / "bin/python")
    process = start(tmp_path, tools, PACE="1")
    if works:
        wait_until(lambda: installs(tmp_path) == ["begin"], "install")
        process.kill()
        process.wait()
        (folder / "bin/python").unlink()  # and then its Python is gone, too
        process = start(tmp_path, tools, PACE="0")
    _, text = process.communicate(timeout=10)
    assert process.returncode == 2 and "was not made here, and its Python does not run; remove it" in text
    assert (folder / "mine").exists()


@needs_setpriv
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_while_it_installs(tmp_path, tools, number):
    """Right away, with a word that the same command goes on, and without a process that writes on."""
    clone = tmp_path / "clone"
    clone.mkdir()
    run = copy_driver(clone)
    shutil.copy(SCRIPT, clone / "extras/environments")
    shutil.copy(ROOT / "extras/environments/environments.txt", clone / "extras/environments")
    (clone / "requirements.txt").write_text("x==1\n")
    command = ["bash", run, "--results_root", tmp_path / "results"]
    process = subprocess.Popen(
        command, env={**tools, "PACE": "1"}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    wait_until(lambda: installs(clone) == ["begin"], "install")
    process.send_signal(number)
    _, text = process.communicate(timeout=2)
    wait_until(lambda: not processes_of(clone), "end of all processes", 2)
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number and "run.sh: stopped; the same command goes on from here" in text
