"""The process that answers a run's short questions: as it would be asked by run.sh."""

from __future__ import annotations

import subprocess
import sys

from tests.scripts import ROOT

COMMAND = [sys.executable, "-m", "synthio.pipeline.helpers"]


def asked(*questions: list[str], end: str = "") -> tuple[list[tuple[int, str]], str]:
    """(answers, what was said on stderr) of one process."""
    text = "".join(f"{word}\0" for words in questions for word in (str(len(words)), *words)) + end
    done = subprocess.run(COMMAND, input=text.encode(), capture_output=True, cwd=ROOT, check=True)
    parts = done.stdout.decode().split("\0")[:-1]
    return [(int(status), said) for status, said in zip(parts[::2], parts[1::2], strict=True)], done.stderr.decode()


def test_each_question_has_its_own_answer(tmp_path):
    """One that is refused, one of whose words are empty or of two lines, and one that comes after them."""
    csv = tmp_path / "a\nb.csv"
    csv.write_text("path,label\nx.wav,a\n")
    stamp = ["synthio.pipeline.stamp", "ask", "--stamp", str(tmp_path / "s.json"), "--inputs", str(csv)]
    answers, said = asked(
        ["synthio.pipeline.stamp", "never"],
        [*stamp, "--outputs", str(csv), "--command", "python", "-m", "synthio.some", "--words", ""],
        [
            "synthio.filtering.rounds",
            "balance",
            "--gold_csv",
            "none.csv",
            "--num_iters",
            "1",
            "--kept_csvs",
            "none.csv",
        ],
        [*stamp, "--command", "python", "x.py"],
    )
    assert answers == [(2, ""), (3, "not done yet"), (2, ""), (3, "not done yet")]
    assert "invalid choice: 'never'" in said and "give --output_csv" in said and "Traceback" not in said


def test_what_is_printed_cannot_be_an_order_to_the_terminal(tmp_path):
    stamp = ["--stamp", str(tmp_path / "s.json"), "--command", "python", "x.py", "--a"]
    answers, _ = asked(
        *(["synthio.pipeline.stamp", *words] for words in (["write", *stamp, "1"], ["ask", *stamp, "\x1b[31m"]))
    )
    assert answers == [(0, ""), (3, "changed: --a \\x1b[31m")]


def test_half_a_question_is_none():
    answers, said = asked(end="3\0synthio.pipeline.stamp\0as")
    assert answers == [] and said == ""
