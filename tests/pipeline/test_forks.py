"""Scripts that a fork of one process runs, beside the same scripts run by an interpreter of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.running import wait_until
from tests.scripts import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets and prctl are Linux's")

FORKS = str(ROOT / "synthio/pipeline/forks.py")
TELL = """
import json, os, signal, sys, time
json.dump({"argv": sys.argv, "path": sys.path[0], "folder": os.getcwd(), "name": __name__, "group": os.getpgid(0),
           "more": os.environ.get("MORE"), "has": "selectors" in sys.modules,
           "draws": "matplotlib.figure" in sys.modules, "backend": os.environ.get("MPLBACKEND"),
           "read": sys.stdin.read(),
           "ours": [name for name in sys.modules if name.startswith("synthio")]}, open("told.json", "w"))
print("said"), print("complained", file=sys.stderr)
def act(what="0"):
    if what == "sleep":
        open("pid", "w").write(str(os.getpid()))
        time.sleep(60)
    if what.startswith("signal"):
        os.kill(os.getpid(), int(what[6:]))
    raise ValueError("a fault") if what == "raise" else SystemExit(int(what))
act(*sys.argv[1:2])
"""


@contextmanager
def server(name: str, preloaded: str = "()"):
    """A server that imports nothing, or what is said."""
    code = f"import sys; sys.argv = ['forks', 'serve', {name!r}]; import runpy; "
    code += f"ns = runpy.run_path({FORKS!r}); ns['main'].__globals__['PRELOADED'] = {preloaded}; ns['main']()"
    with subprocess.Popen([sys.executable, "-P", "-c", code], stdin=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def ask(name: str, folder: Path, *words: str) -> list[str]:
    (folder / "tell.py").write_text(TELL)
    return [sys.executable, "-I", "-S", FORKS, "run", name, *words]


def call(name: str, folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ask(name, folder, *words),
        cwd=folder,
        env=os.environ | variables,
        input="given",
        capture_output=True,
        text=True,
        check=False,
        process_group=0,
    )


@contextmanager
def one_server(folder: Path, preloaded: str = "()"):
    """(name, process) of a server that listens."""
    name = f"synthio-test-{folder.name}-{os.getpid()}"
    with server(name, preloaded) as process:
        wait_until(lambda: name in Path("/proc/net/unix").read_text(), "the server")
        yield name, process


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    return False


@pytest.fixture(params=["fork", "alone"])
def name(request, tmp_path):
    """Of a server, and of none."""
    if request.param == "alone":
        yield "synthio-test-none"
    else:
        with one_server(tmp_path) as (found, process):
            yield found
            assert process.poll() is None, "it outlives what becomes of its children"


@pytest.mark.parametrize("words", [("tell.py", "3"), ("-m", "tell", "3")])
def test_a_script_sees_what_it_would_see_alone(name, tmp_path, words):
    done = call(name, tmp_path, *words, MORE="of this call")
    told = json.loads((tmp_path / "told.json").read_text())
    assert done.returncode == 3 and done.stdout == "said\n" and done.stderr == "complained\n"
    assert [Path(told["argv"][0]).name, *told["argv"][1:]] == ["tell.py", "3"]
    assert told["path"] == str(tmp_path) and told["folder"] == str(tmp_path) and told["name"] == "__main__"
    assert told["more"] == "of this call" and told["read"] == "given" and told["ours"] == []
    assert told["group"] != os.getpgid(0), "it is in the group of the job, so that what ends that ends it"


@pytest.mark.parametrize(("what", "status"), [("0", 0), ("signal15", -15), ("signal9", -9), ("signal11", -11)])
def test_how_it_ends_is_how_its_job_ends(name, tmp_path, what, status):
    assert call(name, tmp_path, "tell.py", what).returncode == status


def test_a_notebooks_way_to_draw_does_not_keep_a_library_out(tmp_path, monkeypatch):
    """matplotlib refuses to be imported where its backend is not in this environment, as that of Jupyter is not."""
    monkeypatch.setenv("MPLBACKEND", "no_such")
    with one_server(tmp_path, '("matplotlib.figure",)') as (name, _):
        call(name, tmp_path, "tell.py")
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["draws"] and told["backend"] == "no_such"


def test_a_fault_has_its_traceback(name, tmp_path):
    done = call(name, tmp_path, "tell.py", "raise")
    assert done.returncode == 1 and done.stderr.endswith("ValueError: a fault\n")


@pytest.mark.parametrize("ended", ["job", "group", "server"])
def test_it_ends_with_its_job_and_with_the_server(tmp_path, ended):
    with one_server(tmp_path) as (unique, process):
        words = ask(unique, tmp_path, "tell.py", "sleep")
        with subprocess.Popen(words, cwd=tmp_path, stdin=subprocess.DEVNULL, process_group=0) as job:
            wait_until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text(), "the script")
            pid = int((tmp_path / "pid").read_text())
            if ended == "job":
                job.kill()
            elif ended == "group":
                os.killpg(job.pid, signal.SIGTERM)
            else:
                process.kill()
            wait_until(lambda: not is_alive(pid), "the end of the script", 10)
            assert job.wait(10) == {"job": -9, "group": -15, "server": -9}[ended]
        if ended != "server":
            assert call(unique, tmp_path, "tell.py", "5").returncode == 5, "the server goes on"


def test_a_name_that_another_user_holds_is_not_trusted(tmp_path):
    """The server of this name is of the same user, but the check is told another."""
    with one_server(tmp_path) as (unique, _):
        code = f"import os, runpy, sys; sys.argv = ['forks']; ns = runpy.run_path({FORKS!r}); os.getuid = lambda: -5; "
        code += f"sys.exit(ns['run']({unique!r}, ['-c', 'print(1)']))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.stdout == "1\n" and done.returncode == 0, "run by an interpreter of its own"


def test_what_is_imported_before_is_there_and_what_is_not_installed_is_passed_over(tmp_path):
    with one_server(tmp_path, "('no_such_library', 'colorsys')") as (unique, _):
        (tmp_path / "ask.py").write_text("import sys\nprint('colorsys' in sys.modules)")
        assert call(unique, tmp_path, "ask.py").stdout == "True\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_job_that_is_stopped_while_the_server_imports_ends_and_never_starts(tmp_path, number):
    with one_server(tmp_path, "('time', 'json')") as (name, process):
        process.send_signal(signal.SIGSTOP)  # as if it imported for long
        with subprocess.Popen(ask(name, tmp_path, "tell.py"), cwd=tmp_path, process_group=0) as asking:
            wait_until(lambda: ") S " in Path(f"/proc/{asking.pid}/stat").read_text(), "the question")
            os.killpg(asking.pid, number)
            try:
                assert asking.wait(timeout=10) == -number
            finally:
                asking.kill()
        process.send_signal(signal.SIGCONT)
        assert call(name, tmp_path, "-m", "this").returncode == 0, "the server goes on"
        assert not (tmp_path / "told.json").exists()
