"""The page of what was measured."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.scripts import ROOT, load_script


@pytest.fixture(scope="module")
def speed():
    return load_script(ROOT / "benchmarks/speed.py")


def test_a_row_has_the_ratio_of_both_sides(speed, monkeypatch):
    timed = [
        speed.compare.__globals__["Timed"](seconds, peak) for seconds, peak in (([1, 2, 3], 10.0), ([6, 8, 12], 20.0))
    ]
    monkeypatch.setattr(speed, "compare", lambda *_, **__: timed)
    record = speed.measure_case("filter", "tiny", "cpu", 3)
    assert record["cells"] == ["2.00 s", "8.00 s", "4.0", "1.5", "10 MB", "20 MB"]
    assert speed.measure_case("embedded", "tiny", "cuda", 3)["cells"][3] == "-"


def test_the_page_names_machine_and_command(speed):
    about = {"device": "cpu", "machine": "a processor, 2 cores", "command": "sh benchmarks/run.sh"}
    found = {
        "cpu filter": {"title": "the filter", "other": "clip by clip", "cells": list("abcdef"), "turns": 5} | about,
        "cpu growth": {"tables": {"By rows": (["script", "10"], [["x.py", "1 s"]])}} | about,
    }
    page = speed.page_of(found)
    assert "## CPU\n\na processor, 2 cores. Median of 5 turns.\n\n    sh benchmarks/run.sh\n\n| work |" in page
    assert "| the filter | clip by clip | a | b | c | d | e | f |" in page
    assert "### By rows\n\n| script | 10 |\n| --- | ---: |\n| x.py | 1 s |" in page
    assert "| 24 steps with guidance | not measured |" in page
    assert page.endswith("## GPU\n\nNot measured.\n")
    told = speed.PROFILES["classifier"]
    assert told not in page
    assert told in speed.page_of(found | {"cpu classifier": found["cpu filter"]}), "why its ratio is what it is"


def test_the_command_is_told_without_what_is_the_machines_own(speed):
    assert speed.command_of(SimpleNamespace(device="cpu", demo=False)) == "sh benchmarks/run.sh"
    assert (
        speed.command_of(SimpleNamespace(device="cuda", demo=True)) == "sh benchmarks/run.sh --device cuda --demo true"
    )
