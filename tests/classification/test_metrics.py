"""Calibration by hand, and the resampled average precision against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss

from synthio.classification import metrics
from synthio.classification.metrics import (
    ResampledPrecision,
    calibration,
    main_statistic,
    reliability,
)

# Calibration


def test_reliability_of_single_label_data_by_hand():
    """Confidences .9, .9, .62 and .5, of which the second and the last are wrong."""
    truth = np.eye(3)[[0, 1, 2, 0]]
    chances = np.array([[0.9, 0.05, 0.05], [0.9, 0.1, 0], [0.2, 0.18, 0.62], [0.3, 0.5, 0.2]])
    bins = reliability(truth, chances, False)
    assert bins == [
        {"confidence": pytest.approx(0.5), "right": 0, "answers": 1},
        {"confidence": pytest.approx(0.62), "right": 1, "answers": 1},
        {"confidence": pytest.approx(0.9), "right": 0.5, "answers": 2},
    ]
    found = calibration(truth, chances, False)
    assert found["reliability"] == bins
    assert found["ece"] == pytest.approx((0.5 + 0.38 + 2 * 0.4) / 4)
    errors = [0.01 + 2 * 0.0025, 0.81 + 0.81, 0.04 + 0.18**2 + 0.38**2, 0.49 + 0.25 + 0.04]
    assert found["brier"] == pytest.approx(np.mean(errors))


def test_reliability_of_multi_label_data_counts_every_label():
    truth, chances = np.array([[1, 0], [1, 1]]), np.array([[0.95, 0.35], [0.35, 0.0]])
    bins = reliability(truth, chances, True)
    assert [(row["confidence"], row["right"], row["answers"]) for row in bins] == [
        (0, 1, 1),
        (pytest.approx(0.35), 0.5, 2),
        (pytest.approx(0.95), 1, 1),
    ]
    assert calibration(truth, chances, True)["ece"] == pytest.approx((1 + 2 * 0.15 + 0.05) / 4)


def test_certain_answers_have_a_bin():
    truth = np.eye(2)[[0, 1]]
    assert reliability(truth, truth, False) == [{"confidence": 1, "right": 1, "answers": 2}]
    assert calibration(truth, truth, False)["ece"] == calibration(truth, truth, False)["brier"] == 0
    assert calibration(truth, 1 - truth, False)["ece"] == 1 and calibration(truth, 1 - truth, False)["brier"] == 2


def test_the_brier_score_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth, chances = (rng.random((50, 3)) < 0.4).astype(int), rng.random((50, 3))
    expected = sum(brier_score_loss(truth[:, c], chances[:, c]) for c in range(3))
    assert calibration(truth, chances, True)["brier"] == pytest.approx(expected)


@pytest.mark.parametrize("multi_label", [False, True])
def test_answers_that_mean_what_they_say_have_next_to_no_error(multi_label):
    """And those that are too sure or too modest do have one."""
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(20000, 3))
    chances = 1 / (1 + np.exp(-z)) if multi_label else np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    if multi_label:
        truth = (rng.random(z.shape) < chances).astype(float)
    else:
        truth = np.eye(3)[(rng.random((20000, 1)) > chances.cumsum(axis=1)).sum(axis=1)]
    assert calibration(truth, chances, multi_label)["ece"] < 0.01
    for scale in (0.3, 3):
        y = scale * z
        off = 1 / (1 + np.exp(-y)) if multi_label else np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)
        assert calibration(truth, off, multi_label)["ece"] > 0.05
        assert calibration(truth, off, multi_label)["brier"] > calibration(truth, chances, multi_label)["brier"]


# Average precision of draws


def drawn_precision(truth: np.ndarray, chances: np.ndarray):
    """`ResampledPrecision` of rows, in place of how often each comes."""
    statistic = ResampledPrecision(truth, chances)
    return lambda rows: statistic(np.bincount(rows, minlength=len(truth)))


def macro_precision(truth: np.ndarray, chances: np.ndarray) -> float:
    present = np.flatnonzero(truth.any(axis=0))
    return float(np.mean([average_precision_score(truth[:, c], chances[:, c]) for c in present]))


@pytest.mark.parametrize("ties", ["none", "some", "most", "all"])
def test_average_precision_of_draws_is_that_of_scikit_learn(ties):
    rng = np.random.default_rng(0)
    truth = (rng.random((40, 4)) < 0.3).astype(int)
    chances = rng.random((40, 4))
    chances = {"none": chances, "some": chances.round(1), "most": chances.round(0), "all": 0 * chances + 0.5}[ties]
    statistic = drawn_precision(truth, chances)
    assert statistic(np.arange(40)) == pytest.approx(macro_precision(truth, chances))
    assert statistic(np.arange(40)) == pytest.approx(metrics.mean_average_precision(truth, chances))
    for _ in range(50):
        rows = rng.integers(0, 40, 40)
        assert statistic(rows) == pytest.approx(macro_precision(truth[rows], chances[rows]))
    few = rng.integers(0, 40, 5)  # where some classes are missing; another number than there are clips
    assert statistic(few) == pytest.approx(macro_precision(truth[few], chances[few]))


def test_ties_of_some_classes_and_of_other_kinds_of_numbers():
    rng = np.random.default_rng(1)
    truth = rng.random((30, 3)) < 0.4
    chances = np.stack([rng.random(30), rng.random(30).round(1), np.ones(30)], axis=1).astype(np.float32)
    rows = rng.integers(0, 30, 30)
    expected = macro_precision(truth[rows].astype(int), chances[rows])
    for kind in (bool, int, np.float32):
        assert drawn_precision(truth.astype(kind), chances)(rows) == pytest.approx(expected)


def test_one_clip_and_one_class():
    assert drawn_precision(np.array([[1]]), np.array([[0.3]]))(np.array([0, 0])) == 1
    one = drawn_precision(np.array([[1], [0]]), np.array([[0.2], [0.9]]))
    assert one(np.array([0, 1])) == 0.5 and one(np.array([0, 1, 1])) == pytest.approx(1 / 3)


def test_the_main_statistic_is_the_metric_on_some_rows():
    rng = np.random.default_rng(2)
    truth, chances = np.eye(3)[rng.integers(0, 3, 30)], rng.random((30, 3))
    rows = rng.integers(0, 30, 30)
    counts = np.bincount(rows, minlength=30)
    assert main_statistic(truth, chances, False)(counts) == pytest.approx(metrics.accuracy(truth[rows], chances[rows]))
    assert main_statistic(truth, chances, True)(counts) == pytest.approx(macro_precision(truth[rows], chances[rows]))


def test_a_draw_without_any_label_has_no_precision():
    assert np.isnan(ResampledPrecision(np.array([[1], [0]]), np.array([[0.2], [0.9]]))(np.array([0, 2])))


# The threshold of multi-label data


def test_the_threshold_is_the_best_there_is():
    """Against every threshold that could be chosen."""
    rng = np.random.default_rng(0)
    truth = (rng.random((80, 6)) < 0.15).astype(int)
    chances = np.clip(0.2 * truth + 0.3 * rng.random((80, 6)), 0, 1)
    chosen = metrics.choose_threshold(truth, chances)
    found = metrics.macro_f1(truth, metrics.predicted_matrix(chances, True, chosen))
    best = max(metrics.macro_f1(truth, metrics.predicted_matrix(chances, True, t)) for t in np.unique(chances))
    assert found == pytest.approx(best, abs=0.01)
    assert metrics.macro_f1(truth, metrics.predicted_matrix(chances, True)) < found / 2  # at .5 nearly none has a label
    assert metrics.choose_threshold(0 * truth, chances) == 0.5


def test_the_order_of_two_classifiers_is_not_that_of_their_levels():
    """The same ranking, once with probabilities half as large: at .5 one has no label, at its own threshold both do."""
    rng = np.random.default_rng(1)
    truth = (rng.random((60, 4)) < 0.3).astype(int)
    high = np.clip(0.4 * truth + 0.55 * rng.random((60, 4)), 0, 1)
    scores = []
    for chances in (high, high / 2):
        chosen = metrics.choose_threshold(truth, chances)
        scores.append(metrics.macro_f1(truth, metrics.predicted_matrix(chances, True, chosen)))
    assert scores[0] == pytest.approx(scores[1])
    plain = [metrics.macro_f1(truth, metrics.predicted_matrix(chances, True)) for chances in (high, high / 2)]
    assert plain[0] > plain[1] + 0.3


def test_the_fast_f1_is_scikit_learns():
    rng = np.random.default_rng(2)
    for _ in range(20):
        truth, predicted = rng.random((2, 12, 5)) < 0.3
        expected = metrics.macro_f1(truth.astype(int), predicted.astype(int))
        assert metrics.fast_macro_f1(truth, predicted) == pytest.approx(expected)
    nothing = np.zeros((3, 2), bool)
    assert metrics.fast_macro_f1(nothing, nothing) == 0


def test_scores_by_hand():
    truth = np.eye(3)[[0, 0, 1, 1]]
    chances = np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]])
    scores = metrics.score_predictions(truth, chances, ["a", "b", "c"], False)
    assert scores["accuracy"] == 0.75
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)  # c occurs nowhere, so it does not count
    assert scores["mAP"] == pytest.approx(1.0)
    assert scores["confusion"]["rows_true_columns_predicted"] == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert scores["per_class"][1] == {
        "label": "b",
        "precision": pytest.approx(2 / 3),
        "recall": 1.0,
        "f1": pytest.approx(0.8),
        "clips": 2,
    }
