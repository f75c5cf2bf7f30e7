"""Thresholds that validation clips choose: cases by hand, and scikit-learn's curve."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve

from synthio.classification.operating import Threshold, choose_thresholds, operating_points, window_of


def test_multi_label_points_are_those_of_the_precision_recall_curve():
    rng = np.random.default_rng(0)
    truth = (rng.random((60, 2)) < 0.4).astype(np.float32)
    chances = np.round(rng.random((60, 2)), 1)  # with ties
    points = operating_points(truth, chances, ["a", "b"], multi_label=True)
    for c, label in enumerate("ab"):
        precision, recall, thresholds = precision_recall_curve(truth[:, c], chances[:, c])
        known = {round(t, 9): (p, r) for p, r, t in zip(precision[:-1], recall[:-1], thresholds, strict=True)}
        found = points[label]
        assert len(found["threshold"]) == len(set(found["threshold"])) >= 8
        for t, p, r in zip(found["threshold"], found["precision"], found["recall"], strict=True):
            assert known[round(t, 9)] == pytest.approx((p, r))


def test_single_label_counts_the_most_probable_label_alone():
    truth = np.eye(3)[[0, 0, 0, 1, 2]]
    chances = np.array([[0.9, 0.1, 0], [0.6, 0.4, 0], [0.3, 0.7, 0], [0.8, 0.1, 0.1], [0.1, 0.5, 0.4]])
    points = operating_points(truth, chances, ["a", "b", "c"], multi_label=False)
    # of `a` the answers are .9 (right), .8 (wrong), .6 (right): the clip with .3 is called b
    assert points["a"] == {"threshold": [0.9, 0.6], "precision": [1.0, 2 / 3], "recall": [1 / 3, 2 / 3]}
    assert points["b"] == points["c"] == {"threshold": [], "precision": [], "recall": []}
    chosen = choose_thresholds(points, 0.6)
    assert chosen["a"] == Threshold(0.6, 2 / 3, 2 / 3) and chosen["b"] == Threshold(0.5)
    assert choose_thresholds(points, 0.9)["a"] == Threshold(0.9, 1.0, 1 / 3)


def test_where_no_threshold_has_the_precision_the_best_is_taken():
    points = {"a": {"threshold": [0.9, 0.5, 0.2], "precision": [0.5, 0.75, 0.6], "recall": [0.1, 0.5, 0.9]}}
    assert choose_thresholds(points, 0.95)["a"] == Threshold(0.5, 0.75, 0.5)


def test_a_threshold_lets_the_clip_pass_that_it_comes_from():
    chances = np.array([[1 / 3, 2 / 3]])
    (threshold,) = operating_points(np.eye(2)[[1]], chances, ["a", "b"], False)["b"]["threshold"]
    assert chances[0, 1] >= threshold > chances[0, 1] - 1e-8


def test_a_window_is_as_long_as_nearly_all_clips():
    assert window_of([1.0] * 99 + [60.0]) == pytest.approx(1.0)
    assert window_of([0.1]) == 0.5 and window_of([100.0]) == 10.0
