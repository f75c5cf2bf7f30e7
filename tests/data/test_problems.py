"""Problems are told at once, some of each kind."""

from __future__ import annotations

import pytest

from synthio.cli import UserError
from synthio.data.problems import Findings, listed, number


def test_some_of_each_kind_are_shown_and_the_rest_is_counted():
    findings = Findings()
    findings.add("clips are not there", (f"clip {i}" for i in range(100)))
    findings.add("labels are not in training", ["label a", "label b"])
    lines = findings.lines()
    assert lines[:18] == [f"clip {i}" for i in range(18)] and lines[18:20] == ["label a", "label b"]
    assert lines[20] == "and 82 more: 82 clips are not there" and len(lines) == 21
    assert findings.lines(most=3) == [
        "clip 0",
        "clip 1",
        "label a",
        "and 99 more: 98 clips are not there, 1 labels are not in training",
    ]


def test_one_problem_is_one_line_and_several_have_a_head():
    findings = Findings()
    findings.refuse()
    findings.add("rows", ["one"])
    with pytest.raises(UserError, match=r"^one$"):
        findings.refuse()
    findings.add("rows", ["two"])
    with pytest.raises(UserError, match=r"^2 rows:\n  one\n  two$"):
        findings.refuse()
    findings.add("labels", ["three"])
    with pytest.raises(UserError, match=r"^3 problems:\n  one\n  two\n  three$"):
        findings.refuse()


def test_words():
    assert number(1, "clip") == "1 clip" and number(2, "clip") == "2 clips"
    assert listed(["a"]) == "a" and listed(["a", "b"]) == "\n  a\n  b"
    assert listed([str(i) for i in range(23)]).endswith("\n  19\n  and 3 more")
