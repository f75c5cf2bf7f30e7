"""The README's promises that a program can check: variables, files, commands."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def driver_variables() -> dict[str, tuple[str, str]]:
    """name -> (default, help) of the block in run.sh."""
    block = (ROOT / "run.sh").read_text(encoding="utf-8").split("# ==== variables")[1].split("# ==== end")[0]
    found = re.findall(r'^([a-z_]+)=("[^"]*"|\S*) +# [^:]+: (.*)$', block, re.MULTILINE)
    return {name: (default.strip('"'), text) for name, default, text in found}


def table_rows(heading: str) -> list[list[str]]:
    """Cells of the table under a heading."""
    part = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows[2:]]


def test_the_table_of_variables_is_that_of_the_driver():
    shown = {name.strip("`"): (default.strip("`"), text) for name, default, text in table_rows("Variables")}
    assert shown == {name: (default, text.replace("|", "/")) for name, (default, text) in driver_variables().items()}


def test_the_tree_names_what_is_there():
    tree = README.split("\n## What is where\n")[1].split("\n## ")[0]
    names = re.findall(r"^ {4}(\S+) ", tree, re.MULTILINE)
    assert [name for name in names if not (ROOT / name).exists()] == []
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not tracked:
        pytest.skip("not a git checkout")
    top = {name.split("/")[0] for name in tracked.split()} - {".ci", ".gitignore", "LICENSE", "README.md"}
    assert {name for name in top if not any(shown.split("/")[0] == name for shown in names)} == set()


def test_every_script_that_is_named_is_there():
    named = set(re.findall(r"(?:python|bash|sh) ((?:[\w-]+/)*[\w-]+\.(?:py|sh))", README))
    assert len(named) > 9
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []
