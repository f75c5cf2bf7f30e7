"""Two sides in processes of their own, turn by turn."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.scripts import ROOT, load_script

SIDE = """
import sys
sys.path.insert(0, "benchmarks")
from side_by_side import serve
turns = []
def work():
    print("a library's own words")
    turns.append(len(turns))
    with open(sys.argv[2], "a") as log: log.write(sys.argv[1])
    return float(sys.argv[1]) * (turns[-1] + 1)
serve(lambda: work, "cpu")
"""


@pytest.fixture(scope="module")
def timing():
    return load_script(ROOT / "benchmarks/side_by_side.py")


def test_turns_alternate_and_each_side_tells_its_seconds(timing, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    log = tmp_path / "log"
    ours, others = timing.compare(*([sys.executable, "-c", SIDE, name, str(log)] for name in "26"), turns=3)
    assert log.read_text() == "262626"
    assert (ours.seconds, others.seconds) == ([2, 4, 6], [6, 12, 18])
    assert (ours.median_s, timing.ratio(ours, others)) == (4, 3)
    assert 5 < ours.peak_mb < 100


def test_a_side_that_fails_ends_it(timing):
    fails = [sys.executable, "-c", "raise SystemExit(3)"]
    with pytest.raises(subprocess.CalledProcessError, match="status 3"):
        timing.compare(fails, fails, turns=1)


def test_the_machine_is_named_without_its_paths(timing):
    words = timing.machine_words("cpu")
    assert " cores" in words and "torch " in words and "/" not in words
