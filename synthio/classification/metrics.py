"""Scores of a classifier and their uncertainty, by scikit-learn.

    scores = score_predictions(truth, probabilities, labels, multi_label=False, seed=0)
    low, high = bootstrap_interval(lambda rows: (truth == predicted)[rows].mean(), len(truth), seed=0)

Truth is a 0/1 matrix [N, C] in both cases, so that single-label and multi-label data share the code around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

THRESHOLD = 0.5  # a label is predicted, in multi-label data, when its probability is above this
RELIABILITY_BINS = 15
PROBABILITY_PREFIX = "probability_"  # columns of predictions.csv


def mean_average_precision(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over the classes that occur in `truth` of the average precision, one class against the rest.

    Args:
        truth: 0/1 [N, C].
        probabilities: [N, C].

    Raises:
        ValueError: no class occurs in `truth`.
    """
    from sklearn.metrics import average_precision_score

    present = np.flatnonzero(truth.any(axis=0))
    if not len(present):
        raise ValueError("average precision needs at least one clip with a label")
    return float(np.mean([average_precision_score(truth[:, c], probabilities[:, c]) for c in present]))


def accuracy(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of clips whose most probable class is the true one; truth 0/1 [N, C], probabilities [N, C]."""
    return float((truth.argmax(axis=1) == probabilities.argmax(axis=1)).mean())


def predicted_matrix(probabilities: np.ndarray, multi_label: bool) -> np.ndarray:
    """The decision as 0/1 [N, C]: the most probable class, or every class above the threshold."""
    if multi_label:
        return (probabilities > THRESHOLD).astype(int)
    return np.eye(probabilities.shape[1], dtype=int)[probabilities.argmax(axis=1)]


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean F1 over the classes that occur in the truth or the prediction, as scikit-learn has it; both [N, C >= 2]."""
    from sklearn.metrics import f1_score

    seen = truth.any(axis=0) | predicted.any(axis=0)
    return float(f1_score(truth, predicted, average=None, zero_division=0)[seen].mean())


def per_class(truth: np.ndarray, predicted: np.ndarray, labels: list[str]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and number of clips of each of C >= 2 classes; 0 where a ratio is undefined."""
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(truth, predicted, average=None, zero_division=0)
    return [
        {"label": label, "precision": float(p), "recall": float(r), "f1": float(f), "clips": int(n)}
        for label, p, r, f, n in zip(labels, *columns, strict=True)
    ]


def score_predictions(
    truth: np.ndarray, probabilities: np.ndarray, labels: list[str], multi_label: bool, seed: int
) -> dict:
    """Everything that is reported about a test set.

    Args:
        truth: 0/1 [N, C]; one 1 in each row unless `multi_label`.
        probabilities: [N, C].
        labels: the C class names.
        multi_label: mAP is the main metric, and accuracy and the confusion matrix are left out.
        seed: of the bootstrap.

    Returns:
        metric (name of the main one), accuracy, macro_f1, mAP, interval_95 of the main metric, per_class, confusion
        (rows are the true classes, columns the predicted ones).
    """
    from sklearn.metrics import confusion_matrix

    predicted = predicted_matrix(probabilities, multi_label)
    scores: dict[str, Any] = {"metric": "mAP" if multi_label else "accuracy"}
    if not multi_label:
        scores["accuracy"] = accuracy(truth, probabilities)
    scores["macro_f1"] = macro_f1(truth, predicted)
    scores["mAP"] = mean_average_precision(truth, probabilities)
    scores["interval_95"] = bootstrap_interval(main_statistic(truth, probabilities, multi_label), len(truth), seed)
    scores["per_class"] = per_class(truth, predicted, labels)
    if not multi_label:
        classes = range(len(labels))
        matrix = confusion_matrix(truth.argmax(axis=1), predicted.argmax(axis=1), labels=classes)
        scores["confusion"] = {"labels": labels, "rows_true_columns_predicted": matrix.tolist()}
    return scores


def reliability(truth: np.ndarray, probabilities: np.ndarray, multi_label: bool) -> list[dict[str, float]]:
    """How often answers of about the same confidence are right, in 15 bins of equal width (Guo et al. 2017, section 2).

    An answer is the most probable class of a clip; of multi-label data each label of each clip is one, and "right"
    means that the clip has the label.

    Args:
        truth: 0/1 [N, C].
        probabilities: [N, C].
        multi_label: see above.

    Returns:
        confidence (mean), right (share) and answers (number) of each bin that has any.
    """
    if multi_label:
        confidence, right = probabilities.ravel(), truth.ravel()
    else:
        confidence = probabilities.max(axis=1)
        right = truth[np.arange(len(truth)), probabilities.argmax(axis=1)]
    bins = np.minimum((confidence * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
    return [
        {"confidence": float(confidence[rows].mean()), "right": float(right[rows].mean()), "answers": int(rows.sum())}
        for rows in (bins == number for number in range(RELIABILITY_BINS))
        if rows.any()
    ]


def calibration(truth: np.ndarray, probabilities: np.ndarray, multi_label: bool) -> dict[str, Any]:
    """How far probabilities can be believed; arguments as in `reliability`.

    Returns:
        ece: expected calibration error, the mean distance of confidence and share of right answers.
        brier: mean squared error of the probabilities, summed over the classes (Brier 1950); 0 to 2.
        reliability: see there.
    """
    rows = reliability(truth, probabilities, multi_label)
    answers = sum(row["answers"] for row in rows)
    ece = sum(row["answers"] * abs(row["confidence"] - row["right"]) for row in rows) / answers
    brier = float(((probabilities - truth) ** 2).sum(axis=1).mean())
    return {"ece": ece, "brier": brier, "reliability": rows}


def main_statistic(truth: np.ndarray, probabilities: np.ndarray, multi_label: bool) -> Callable[[np.ndarray], float]:
    """The main metric as a function of row numbers, as the bootstrap wants it."""
    if multi_label:
        return ResampledPrecision(truth, probabilities)
    right = truth.argmax(axis=1) == probabilities.argmax(axis=1)
    return lambda rows: float(right[rows].mean())


class ResampledPrecision:
    """`mean_average_precision` of draws of clips: the probabilities are sorted once, a draw only counts the clips.

    Args:
        truth: 0/1 [N, C].
        probabilities: [N, C].
    """

    def __init__(self, truth: np.ndarray, probabilities: np.ndarray):
        self.order = np.argsort(-probabilities, axis=0, kind="stable").T
        values = np.take_along_axis(probabilities.T, self.order, axis=1)
        self.truth = np.take_along_axis(truth.T, self.order, axis=1) > 0
        # of equal probabilities all are above the threshold or none: each place is judged at the last of its equals
        last = np.where(np.diff(values, axis=1) != 0, np.arange(values.shape[1] - 1), values.shape[1] - 1)
        last = np.concatenate([last, np.full((len(last), 1), values.shape[1] - 1)], axis=1)
        self.last = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]
        self.has_equals = bool((self.last != np.arange(values.shape[1])).any())

    def __call__(self, rows: np.ndarray) -> float:
        """The mean over the classes that occur among some rows, drawn with replacement."""
        drawn = np.bincount(rows, minlength=self.order.shape[1]).astype(np.int32)[self.order]
        found = drawn * self.truth
        hits, seen = (x.cumsum(axis=1, dtype=np.int32) for x in (found, drawn))
        if self.has_equals:
            hits, seen = (np.take_along_axis(x, self.last, axis=1) for x in (hits, seen))
        total = found.sum(axis=1)
        precision = (found * hits / np.maximum(seen, 1)).sum(axis=1)
        return float((precision[total > 0] / total[total > 0]).mean())


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float], clips: int, seed: int, resamples: int = 1000
) -> list[float]:
    """Percentile bootstrap interval (95 %) of a statistic over clips.

    A difference of two statistics on the same rows gives the paired interval.

    Args:
        statistic: number from an array of row numbers, drawn with replacement from range(clips).
        clips: how many clips there are.
        seed: of the draws.
        resamples: how many draws.

    Returns:
        [low, high].
    """
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(0, clips, clips)) for _ in range(resamples)]
    low, high = np.percentile(values, [2.5, 97.5])
    return [float(low), float(high)]


def probabilities(logits: torch.Tensor, multi_label: bool) -> np.ndarray:
    """Softmax, or the sigmoid of each class for multi-label data; float64 [N, C], so that ties stay rare."""
    logits = logits.double()
    return (logits.sigmoid() if multi_label else logits.softmax(dim=1)).numpy()


def score_of(logits: torch.Tensor, targets: torch.Tensor, multi_label: bool) -> float:
    """Accuracy, or mAP for multi-label data, of logits and targets [N, C]."""
    metric = mean_average_precision if multi_label else accuracy
    return metric(targets.numpy(), probabilities(logits, multi_label))
