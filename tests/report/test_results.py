"""The table of scores that a run prints."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synthio.classification import metrics, scored
from synthio.classification import script as evaluation
from synthio.classification.intervals import score_interval, units_of
from synthio.cli import UserError
from synthio.report import results


def save_result(folder: Path, wrong: set[int], synthetic: int, clips: int = 40) -> str:
    """What ast/train.py leaves, for chosen mistakes."""
    folder.mkdir(parents=True)
    truth = np.eye(2)[np.arange(clips) % 2]
    chances = np.where(truth > 0, 0.9, 0.1)
    chances[sorted(wrong)] = 1 - chances[sorted(wrong)]
    table = pd.DataFrame({"path": [f"/data/{i}.wav" for i in range(clips)], "label": np.tile(["a", "b"], clips // 2)})
    evaluation.write_predictions(table, ["a", "b"], chances, False, folder / "predictions.csv")
    scores = metrics.score_predictions(truth, chances, ["a", "b"], False)
    scores |= score_interval(truth, chances, False, units_of(table), 0)
    splits = {"train": {"clips": 10 + synthetic, "gold": 10, "synthetic": synthetic}, "test": {"clips": clips}}
    record = {**scores, "labels": ["a", "b"], "splits": splits, "best_step": 1, "num_steps": 2}
    (folder / "scores.json").write_text(json.dumps(record))
    return str(folder / "scores.json")


def test_results_table(tmp_path, monkeypatch, capsys):
    old = save_result(tmp_path / "w/gold", set(range(20)), 0)
    new = save_result(tmp_path / "w/deeper/synthio", set(range(10)), 20)
    (tmp_path / "t.csv").write_text("stage,seconds\nstratify,1.5\nclassify,120.2\n")
    argv = ["results", "--scores", f"gold-only={old}", f"synthio={new}", "--timings", str(tmp_path / "t.csv")]
    monkeypatch.setattr(sys, "argv", [*argv, "--output_json", str(tmp_path / "all.json")])
    assert results.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Test scores in percent, 40 test clips; 1 cell, intervals over 40 test clips"
    assert lines[1].endswith("verdict") and lines[3].endswith("better") and lines[2].split()[-3:] == ["-"] * 3
    assert lines[2].split()[:5] == ["gold-only", "10", "(10", "+", "0)"]
    assert lines[3].split()[:6] == ["synthio", "30", "(10", "+", "20)", "75.0"]
    assert "+25.0 (" in lines[3]
    assert lines[-1].split() == ["total", "122"]
    record = json.loads((tmp_path / "all.json").read_text())
    versus = record["methods"][1]["to_baseline"]
    assert versus["difference"] == pytest.approx(0.25)
    # the pairs are mistakes mended or clips unchanged: sd = sqrt(.25 * .75 / 40)
    spread = 1.96 * math.sqrt(0.25 * 0.75 / 40)
    assert versus["interval_95"] == pytest.approx([0.25 - spread, 0.25 + spread], abs=0.03)
    assert record["seconds"][1] == {"stage": "classify", "seconds": 120.2}


def test_results_refuse_other_test_clips(tmp_path):
    old, new = save_result(tmp_path / "a", {1}, 0), save_result(tmp_path / "b", {1}, 0, clips=30)
    with pytest.raises(UserError, match="not tested on the same clips"):
        results.summarise([scored.read_scores(f"a={old}"), scored.read_scores(f"b={new}")], 0)
    with pytest.raises(UserError, match="NAME=FILE"):
        scored.read_scores(old)
    with pytest.raises(UserError, match="no such file"):
        scored.read_scores("x=/nowhere.json")


def test_a_fine_tuned_network_that_is_no_ast_is_named():
    assert results.method_name({"name": "synthio", "head": "ast", "called": "HuBERT"}) == "synthio: HuBERT"
    assert results.method_name({"name": "synthio", "head": "fusion", "called": "HuBERT"}) == "synthio: fusion"
    for old in ({}, {"called": "AST"}):
        assert results.method_name({"name": "synthio", "head": "ast", **old}) == "synthio: ast"
