"""Two trained classifiers on the same clips."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from synthio.classification import metrics, script
from synthio.classification.scored import drawn_score, pair, read_scores, truth_and_probabilities
from synthio.cli import UserError

LABELS = ["a", "b"]


def save(folder, wrong, clips=8, metric="accuracy"):
    """NAME=FILE of a classifier with chosen mistakes."""
    folder.mkdir()
    truth = np.eye(2)[np.arange(clips) % 2]
    chances = np.where(truth > 0, 0.9, 0.1)
    chances[sorted(wrong)] = 1 - chances[sorted(wrong)]
    table = pd.DataFrame({"path": [f"/{i}.wav" for i in range(clips)], "label": [LABELS[i % 2] for i in range(clips)]})
    script.write_predictions(table, LABELS, chances, False, folder / "predictions.csv")
    record = {**metrics.score_predictions(truth, chances, LABELS, False), "labels": LABELS} | {"metric": metric}
    (folder / "scores.json").write_text(json.dumps(record))
    return f"{folder.name}={folder / 'scores.json'}"


def test_what_was_written_is_read(tmp_path):
    scores = read_scores(save(tmp_path / "x", {1}))
    truth, chances = truth_and_probabilities(scores)
    assert scores["name"] == "x" and scores["accuracy"] == 7 / 8
    assert truth.tolist() == np.eye(2)[np.arange(8) % 2].tolist()
    assert chances[0].tolist() == [0.9, 0.1] and chances[1].tolist() == [0.9, 0.1]


def test_draws_are_counts_of_clips(tmp_path):
    """Of the first clip alone, of all, and of the first two, one of them three times; it has the first wrong."""
    scores = read_scores(save(tmp_path / "x", {0}))
    draws = np.zeros((3, 8), int)
    draws[0, 0], draws[1], draws[2, :2] = 8, 1, (3, 1)
    assert drawn_score(scores, draws) == pytest.approx([0, 7 / 8, 1 / 4])


def test_the_difference_is_that_of_paired_draws(tmp_path):
    new, old = read_scores(save(tmp_path / "new", {0})), read_scores(save(tmp_path / "old", {0, 1}))
    found = pair(new, old, seed=0, resamples=400)
    assert found.difference == pytest.approx(1 / 8) and found.units.count == 8
    assert len(found.drawn) == 400 and found.drawn.min() >= 0  # no draw favours the one that knows less
    assert found.drawn.mean() == pytest.approx(1 / 8, abs=4 * (7 / 64 / 8 / 400) ** 0.5)
    assert np.array_equal(pair(new, old, seed=0, resamples=400).drawn, found.drawn)


def test_what_cannot_be_compared_is_refused(tmp_path):
    one = read_scores(save(tmp_path / "one", {0}))
    with pytest.raises(UserError, match="'one' and 'more' were not tested on the same clips"):
        pair(one, read_scores(save(tmp_path / "more", {0}, clips=10)), 0)
    with pytest.raises(UserError, match="have different metrics, accuracy and mAP"):
        pair(one, read_scores(save(tmp_path / "other", {0}, metric="mAP")), 0)


def test_scores_that_are_no_json_are_named(tmp_path):
    (tmp_path / "scores.json").write_text("{")
    with pytest.raises(UserError, match=r"scores\.json: damaged, for it is no JSON"):
        read_scores(f"x={tmp_path / 'scores.json'}")
