"""The runner of mutants: what it refuses, that it says which live, and that it leaves the tree alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.mutants import LIST, ROOT, Mutant, examine, read_mutants

CODE = "def double(x):\n    return 2 * x\n"
TESTS = "from code import double\n\n\ndef test_double():\n    assert double({}) == {}\n"


@pytest.fixture
def project(tmp_path) -> Path:
    """A repository of one function and one test, which tells 2 * x from 3 * x."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "double.py").write_text(CODE)
    (folder / "test_double.py").write_text(TESTS.format(3, 6).replace("code", "double"))
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder


def mutant(old="2 * x", new="3 * x", tests=("test_double.py::test_double",)) -> Mutant:
    return Mutant("double.py", old, new, tests)


def run(project, *mutants):
    def pytest_in(folder: Path, tests) -> int:
        # -B: of a file that is changed twice within a second, the old bytecode would be run
        words = ["python", "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
        return subprocess.run(words, cwd=folder, capture_output=True, check=False).returncode

    return examine(project, mutants, pytest_in)


def test_a_fault_that_a_test_notices_is_dead_and_the_tree_is_as_it_was(project, capsys):
    assert run(project, mutant()) == 0
    out = capsys.readouterr().out
    assert "1/1 dead  double.py: 2 * x -> 3 * x" in out and "1 mutants, 0 alive" in out
    assert (project / "double.py").read_text() == CODE


def test_a_fault_that_no_test_notices_is_named(project, capsys):
    assert run(project, mutant(new="x + x"), mutant()) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1/2 ALIVE") and lines[1].startswith("2/2 dead")
    assert "alive: double.py: 2 * x -> x + x" in lines and "2 mutants, 1 alive" in "".join(lines)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"old": "4 * x"}, "the old text is there 0 times, not once: '4 * x'"),
        ({"old": "x"}, "the old text is there 2 times, not once"),
        ({"tests": ("test_gone.py::test_x",)}, "no such test file: test_gone.py::test_x"),
        ({"tests": ()}, "no such test file"),
    ],
)
def test_what_is_no_longer_there_is_refused(project, capsys, changes, message):
    assert run(project, mutant(), mutant(**changes)) == 2
    assert message in capsys.readouterr().err


def test_tests_that_fail_anyway_kill_nothing(project, capsys):
    (project / "test_double.py").write_text(TESTS.format(3, 7).replace("code", "double"))
    assert run(project, mutant()) == 2
    assert "the tests do not pass as they are" in capsys.readouterr().err


def test_a_test_that_is_gone_kills_nothing(project, capsys):
    assert run(project, mutant(), mutant(tests=("test_double.py::test_gone",))) == 2


def test_every_fault_of_the_list_can_be_made():
    mutants = read_mutants(LIST)
    assert len(mutants) >= 40 and len(set(mutants)) == len(mutants)
    assert [problem for one in mutants if (problem := one.problem(ROOT))] == []
