"""How often foreign sounds are taken for a label: by hand, by scikit-learn, and from saved classifiers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from synthio.classification.false_alarms import compare, drawn_alarms, false_alarms, lines_of, scores_of
from synthio.classification.intervals import Units
from tests.classification.listeners import save_world
from tests.scripts import ROOT, call_script

SCRIPT, HEADS = ROOT / "synthio/classification/false_alarms.py", ROOT / "ast/heads.py"


def test_false_alarms_by_hand():
    inside = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.1])
    outside = np.array([0.95, 0.2, 0.15, 0.05])
    assert false_alarms(inside, outside, 0.9) == 0.5  # nine of ten reach .2
    assert false_alarms(inside, outside, 1.0) == 0.75 and false_alarms(inside, outside, 0.1) == 0.25


def test_they_are_the_roc_curves():
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(1, 1, 200), rng.normal(0, 1, 300)
    rate, recall, _ = roc_curve([1] * 200 + [0] * 300, np.concatenate([inside, outside]), drop_intermediate=False)
    for wanted in (0.5, 0.9, 0.95):
        assert false_alarms(inside, outside, wanted) == pytest.approx(rate[np.argmax(recall >= wanted - 1e-9)])


def test_a_draw_counts_each_clip_as_often_as_it_came():
    inside, outside = np.array([0.9, 0.5]), np.array([0.6, 0.2])
    draws = (np.array([[1, 1], [2, 0]]), np.array([[1, 1], [0, 2]]))
    assert drawn_alarms(inside, outside, 1.0, draws).tolist() == [0.5, 0.0]


def test_the_label_itself_is_no_alarm():
    assert scores_of(np.array([[0.1, 0.6, 0.3]]), ["a", "other", "b"]).tolist() == [0.3]


def test_fewer_alarms_are_told_where_the_interval_says_so():
    rng = np.random.default_rng(0)
    inside, outside = rng.uniform(0.5, 1, 100), rng.uniform(0.5, 1, 150)
    units = (Units(np.arange(100), "clips"), Units(np.arange(150), "clips"))
    found = compare([inside, inside], [outside, outside - 0.4], units, 0.9, 0)
    assert found["before"]["false_alarms"] > 0.8 and found["after"]["false_alarms"] < 0.4
    low, high = found["difference"]["interval_95"]
    assert low < found["difference"]["false_alarms"] < high < 0 and found["difference"]["told"] == "fewer"
    same = compare([inside, inside], [outside, outside], units, 0.9, 0)
    assert same["difference"] == {"false_alarms": 0, "interval_95": [0, 0], "told": "not to be told"}
    found |= {"metric": "accuracy", "cost": {"difference": -0.01, "interval_95": [-0.03, 0.01]}}
    first, second = lines_of(found)
    assert first.startswith("false alarms at 90 % recall, on 150 foreign sounds: ") and first.endswith("; fewer")
    assert second == "accuracy on the test clips with it: -1.0 points (-3.0 to +1.0)"


def test_saved_heads_are_asked_about_the_foreign_sounds(tmp_path):
    world = save_world(tmp_path / "w")
    words = [w for s in ("train", "valid") for w in (f"--{s}_csv", world / f"{s}.csv")]
    words += ["--test_csv", world / "valid.csv", "--ast_model", world / "ast", "--clap_model", world / "clap"]
    words += ["--cache_folder", world / "cache", "--device", "cpu", "--heads", "probe_ast"]
    assert call_script(HEADS, *words, "--output_folder", tmp_path / "heads").returncode == 0
    asked = [w for name in ("before", "after") for w in (f"--{name}", tmp_path / "heads/probe_ast")]
    asked += ["--foreign_csv", world / "train.csv", "--cache_folder", world / "cache", "--device", "cpu"]
    done = call_script(SCRIPT, *asked, "--output_json", tmp_path / "alarms.json")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "alarms.json").read_text())
    assert record["clips"] == {"test": 9, "foreign": 12} and record["cost"]["difference"] == 0
    assert 0 < record["before"]["false_alarms"] == record["after"]["false_alarms"] <= 1
    assert done.stdout.splitlines() == lines_of(record)
