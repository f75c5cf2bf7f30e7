"""Typed options, errors in one line, progress, and what is not loaded."""

from __future__ import annotations

import argparse
import time

import pytest

from synthio.cli import in_range, new_parser, printable, progress, str2bool
from synthio.errors import MEMORY


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), (" YES ", True), ("0", False)])
def test_str2bool(text, value):
    assert str2bool(text) is value


@pytest.mark.parametrize("text", ["", "maybe", "2", "none", "truefalse"])
def test_str2bool_refuses(text):
    with pytest.raises(argparse.ArgumentTypeError, match="true or false"):
        str2bool(text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "--input_cvs a",
            "unknown option --input_cvs; did you mean --input_csv?",
        ),  # before that --input_csv is missing
        ("--input_csv a --xyz=1", "unknown option --xyz"),
        ("--input_csv a more", "unrecognized arguments: more"),
        ("--input_csv", "argument --input_csv: expected one argument"),
        ("", "the following arguments are required: --input_csv"),
    ],
)
def test_a_wrong_option_is_told_in_one_line(capsys, words, said):
    parser = new_parser("doc")
    parser.add_argument("--input_csv", required=True)
    for i in range(30):
        parser.add_argument(f"--option_{i}")
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(words.split())
    told = capsys.readouterr().err
    assert stop.value.code == 2 and told.endswith(f": error: {said} (see --help)\n") and told.count("\n") == 1


def test_a_part_of_a_script_has_options_of_its_own(capsys):
    parser = new_parser("doc")
    parser.add_subparsers(dest="kind", required=True).add_parser("csv").add_argument("--source", required=True)
    for words, said in (
        (["csv", "--sorce", "a"], "unknown option --sorce; did you mean --source?"),
        (["csv", "--source", "a", "b"], "unrecognized arguments: b"),
    ):
        with pytest.raises(SystemExit):
            parser.parse_args(words)
        assert f"error: {said} (see --help)" in capsys.readouterr().err


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


CIRCLES = """
import atexit, gc
from synthio.cli import run_main
class Circle:
    there = most = 0
    def __init__(self):
        self.itself = self
        Circle.there += 1
        Circle.most = max(Circle.most, Circle.there)
    def __del__(self):
        Circle.there -= 1
def main():
    for _ in range(100_000):
        Circle()
    print(Circle.most)
atexit.register(lambda: print(gc.get_freeze_count() > 1000))
run_main(main)
"""


def test_circles_of_garbage_are_looked_for_seldom_and_not_at_the_end(run_script):
    """Seldom is not never: of 100,000 that are made and forgotten, some thousand are there at a time."""
    done = run_script("-c", CIRCLES)
    most, frozen = done.stdout.split()
    assert 5_000 < int(most) <= 11_000 and frozen == "True", done.stdout + done.stderr


def test_a_notebook_s_way_to_draw_is_not_ours(run_script):
    """Jupyter and Colab hand their backend on by a variable; matplotlib fails where it does not know it."""
    body = "import matplotlib; print('imported')"
    done = run_script("-c", MAIN.format(body), env={"MPLBACKEND": "module://of_another_environment"})
    assert done.returncode == 0 and done.stdout.strip() == "imported", done.stderr


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


ORDERS = [
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x9b2J",
    "\x00",
    "\x08",
    "\x7f",
    "\u202e",
    "\u2066",
    "\u200b",
    "\ufeff",
    "\u2028",
    "\udc80",
]


@pytest.mark.parametrize("order", [*ORDERS, "\r", "\u00ad", "\U000e0041", "\u200d", "\ufe0f"])
def test_what_a_terminal_would_obey_is_shown_as_an_escape(order):
    shown = printable(f"dog{order}bark")
    assert shown.startswith("dog\\") and shown.endswith("bark") and shown.isascii() and shown.isprintable()


@pytest.mark.parametrize(
    "text", ["a\tb\n", "a\r\nb", "Gebäck", "犬", "كلب", "می\u200cخواهم", "❤\ufe0f", "👩\u200d🚒", "\\x1b"]
)
def test_text_of_any_script_is_shown_as_it_is(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("raise UserError(evil)", 2),
        ("raise ValueError(evil)", 1),
        ("print(evil)", 0),
        ("import logging; logging.getLogger('library').warning(evil)", 0),
        ("import warnings; warnings.warn(evil)", 0),
        ("list(progress([1], evil, every_s=0))", 0),
        ("new_parser('x').parse_args([evil])", 2),
        ("os.system('true'); sys.stderr.writelines([evil])", 0),
    ],
)
def test_nothing_that_a_script_prints_is_an_order(run_script, body, status):
    evil = "".join(ORDERS)
    code = f"import os, sys; evil = {evil!a}; from synthio.cli import new_parser, progress\n" + MAIN.format(body)
    done = run_script("-c", code)
    text = done.stdout + done.stderr
    assert done.returncode == status and "\\x1b[2J" in text
    assert not [char for char in text if not char.isprintable() and char != "\n"]


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_no_encoding_of_the_terminal_ends_a_script(run_script, encoding):
    code = MAIN.format("print('Gebäck', '犬', '\\udc80')")
    done = run_script("-c", code, env={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.endswith("\\udc80\n")


def test_a_bar_goes_back_in_its_own_line_and_nothing_else_does(run_script):
    body = "sys.stderr.write('\\rhalf'); sys.stderr.write('\\rwhole'); print('\\n', 'ok', '\\rno', file=sys.stderr)"
    done = run_script("-c", "import sys\n" + MAIN.format(body))
    assert done.stderr.replace("\r", "\n") == "\nhalf\nwhole\n ok \\rno\n"
