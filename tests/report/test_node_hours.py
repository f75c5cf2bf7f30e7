"""How long an experiment would take, by hand."""

from __future__ import annotations

import pytest

from synthio.report.node_hours import describe, expected_seconds, measured_seconds

JOURNAL = """method,cell,key,status,seconds
gold_only,n50_seed0,1,0,100
gold_only,n50_seed1,1,0,140
synthio,n50_seed0,1,1,5
synthio,n50_seed0,1,0,1000
synthio,n100_seed0,1,0,1800
"""


def plan(*ns: int, seeds: int = 2, methods=("gold_only", "synthio")) -> list[dict[str, str]]:
    return [
        {"method": method, "n": str(n), "cell": f"n{n}_seed{seed}"}
        for n in ns
        for seed in range(seeds)
        for method in methods
    ]


@pytest.fixture
def journal(tmp_path):
    (tmp_path / "jobs.csv").write_text(JOURNAL)
    return tmp_path / "jobs.csv"


def test_seconds_are_means_of_what_ended_well(journal):
    n_of = {"n50_seed0": 50, "n50_seed1": 50}
    assert measured_seconds(journal, n_of) == {("gold_only", 50): 120, ("synthio", 50): 1000}


def test_another_n_is_taken_from_the_nearest():
    measured = {("synthio", 50): 1000.0, ("synthio", 400): 6000.0, ("synthio", 0): 9.0}
    assert expected_seconds(("synthio", 50), measured) == 1000
    assert expected_seconds(("synthio", 100), measured) == 2000
    assert expected_seconds(("synthio", 200), measured) == 3000
    assert expected_seconds(("synthio", 0), measured) == 9
    assert expected_seconds(("gold_only", 50), measured) is None


def test_a_plan_is_told_in_node_hours(journal):
    """4 cells: twice 120 + 1000, twice 240 + 1800 s; 6320 s in all, and two at once take half of it."""
    lines = describe(plan(50, 100), journal, at_once=2).splitlines()
    assert lines == [
        "8 runs: 4 tasks of 2 methods each",
        "about 1.8 node hours; the longest task, n100_seed0: 34 min",
        "about 53 min with 2 tasks at once, without the time in the queue",
    ]


def test_what_was_not_measured_is_named(tmp_path):
    lines = describe(plan(50), tmp_path / "none.csv", at_once=0).splitlines()
    assert lines[1:] == ["not measured yet: gold_only, synthio; do one cell first: --only_cell n50_seed0"]
