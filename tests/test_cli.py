"""Typed options, errors in one line, progress, and what is not loaded."""

from __future__ import annotations

import argparse
import time

import pytest

from synthio.cli import in_range, progress, str2bool
from synthio.errors import MEMORY


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), (" YES ", True), ("0", False)])
def test_str2bool(text, value):
    assert str2bool(text) is value


@pytest.mark.parametrize("text", ["", "maybe", "2", "none", "truefalse"])
def test_str2bool_refuses(text):
    with pytest.raises(argparse.ArgumentTypeError, match="true or false"):
        str2bool(text)


def test_in_range():
    assert in_range(int, 0)("0") == 0 and isinstance(in_range(int, 0)("7"), int)
    assert in_range(float, 0, 1)("0.5") == 0.5
    for kind, low, high, text in [
        (int, 1, 5, "6"),
        (int, 1, 5, "1.5"),
        (int, 1, 5, "x"),
        (float, 0, 1, "-0.1"),
        (float, 0, 1, "nan"),
        (float, 0, 1, "inf"),
    ]:
        with pytest.raises(argparse.ArgumentTypeError, match=text):
            in_range(kind, low, high)(text)


MAIN = "from synthio.cli import run_main, UserError\ndef main():\n    {}\nrun_main(main)"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("raise UserError('row 3 is odd')", 2, "error: row 3 is odd\n"),
        ("raise KeyboardInterrupt", 130, "stopped by the user; the same command goes on from here\n"),
        (
            "raise OSError(28, 'No space', 'W/a.csv')",
            1,
            "error: W/a.csv: the disk is full; free some space, and the same command then goes on\n",
        ),
        (
            "raise RuntimeError('I/O error: No space left on device (os error 28)')",  # safetensors' words
            1,
            "error: the disk is full; free some space, and the same command then goes on\n",
        ),
        ("raise MemoryError", 1, f"error: {MEMORY}; the same command then goes on\n"),
        (
            'raise RuntimeError("DefaultCPUAllocator: can\'t allocate memory")',  # torch's
            1,
            f"error: {MEMORY}; the same command then goes on\n",
        ),
        ("return 0", 0, ""),
        ("return 3", 3, ""),
    ],
)
def test_run_main(run_script, body, status, message):
    done = run_script("-c", MAIN.format(body))
    assert (done.returncode, done.stderr) == (status, message)


def test_run_main_keeps_the_traceback_of_our_own_faults(run_script):
    done = run_script("-c", MAIN.format("raise ValueError('a fault of ours')"))
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_progress_gives_every_item_once(capsys):
    assert list(progress(range(5), "work", every_s=0)) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err.splitlines()[-1].startswith("work: 5/5 in ")
    assert list(progress(iter("ab"), "work")) == ["a", "b"]


def test_libraries_are_not_loaded_by_the_foundation(run_script):
    """--help of every stage depends on it."""
    code = "import sys, synthio.cli, synthio.files, synthio.manifest; print([m for m in ('torch', 'pandas', 'numpy', "
    started = time.monotonic()
    done = run_script("-c", code + "'soundfile') if m in sys.modules])")
    assert done.stdout == "[]\n", done.stderr
    assert time.monotonic() - started < 2
