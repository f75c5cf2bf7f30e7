"""`--help` of every script is instant and says what the script is for."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("*.py", "ast/*.py", "stable-audio-tools/*.py", "dataset_csvs/*.py", "extras/*.py", "synthio/*.py")
SCRIPTS = [
    path.relative_to(ROOT).as_posix()
    for place in PLACES
    for path in sorted(ROOT.glob(place))
    if "def get_parser(" in path.read_text(encoding="utf-8")
]


def test_the_stages_are_among_them():
    stages = {
        "dpo_train.py",
        "filter_audios.py",
        "ast/train.py",
        "stable-audio-tools/generate.py",
        "synthio/results.py",
    }
    assert stages <= set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_instant(run_script, script):
    """In CPU time, which other work on the machine does not stretch."""
    words = ["-m", script.removesuffix(".py").replace("/", ".")] if script.startswith("synthio/") else [script]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run_script(*words, "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0 and "usage:" in done.stdout, done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
