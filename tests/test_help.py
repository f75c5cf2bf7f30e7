"""`--help` of every script is instant and says what the script is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cpu_time import children_cpu_s

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("*.py", "ast/*.py", "stable-audio-tools/*.py", "dataset_csvs/*.py", "extras/*.py", "synthio/*.py")
PLACES += ("synthio/*/*.py",)
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
        "ast/heads.py",
        "synthio/classification/choose.py",
        "stable-audio-tools/generate.py",
        "synthio/report/results.py",
    }
    assert stages <= set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_instant(run_script, script):
    words = ["-m", script.removesuffix(".py").replace("/", ".")] if script.startswith("synthio/") else [script]
    before = children_cpu_s()
    done = run_script(*words, "--help")
    spent = children_cpu_s() - before
    assert done.returncode == 0 and "usage:" in done.stdout, done.stderr
    assert spent < 0.3
