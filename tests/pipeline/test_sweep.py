"""What killed processes left in the folders of a run."""

from __future__ import annotations

import os
import subprocess
import sys

from synthio.files import temporary_name
from tests.scripts import ROOT, call_script

SCRIPT = ROOT / "synthio/pipeline/sweep.py"


def test_what_dead_writers_left_goes_in_folders_within_and_nothing_else(tmp_path):
    """A folder that was being replaced gets its name back."""
    dead = subprocess.Popen([sys.executable, "-S", "-c", ""])
    dead.wait()
    of_ours = temporary_name(tmp_path / "deep/a.csv")
    name = of_ours.name.replace(f"-{os.getpid()}-", f"-{dead.pid}-")
    (tmp_path / "deep").mkdir()
    for path in (of_ours, tmp_path / "deep" / name, tmp_path / ".mine.tmp", tmp_path / "a.csv"):
        path.touch()
    old = temporary_name(tmp_path / "model", "old", is_folder=True)
    old = old.with_name(old.name.replace(f"-{os.getpid()}-", f"-{dead.pid}-"))
    old.mkdir()
    done = call_script(SCRIPT, tmp_path, tmp_path / "not there")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.tmp", "a.csv", "deep", "model"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [of_ours.name]
