"""Scores of a classifier and their uncertainty, by scikit-learn.

    scores = score_predictions(truth, probabilities, labels, multi_label=False)

Truth is a 0/1 matrix [N, C] in both cases, so that single-label and multi-label data share the code around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

THRESHOLD = 0.5  # from which probability on a label is predicted, in multi-label data, where nothing chose another
THRESHOLDS_TRIED = 200
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


def predicted_matrix(probabilities: np.ndarray, multi_label: bool, threshold: float | None = None) -> np.ndarray:
    """The decision as 0/1 [N, C]: the most probable class, or every class from the threshold (.5) on."""
    if multi_label:
        return (probabilities >= (THRESHOLD if threshold is None else threshold)).astype(int)
    return np.eye(probabilities.shape[1], dtype=int)[probabilities.argmax(axis=1)]


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean F1 over the classes that occur in the truth or the prediction, as scikit-learn has it; both [N, C >= 2]."""
    from sklearn.metrics import f1_score

    seen = truth.any(axis=0) | predicted.any(axis=0)
    return float(f1_score(truth, predicted, average=None, zero_division=0)[seen].mean())


def choose_threshold(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """The probability from which on labels are predicted that gives the highest macro-F1; multi-label data alone.

    A fixed one favours the classifier whose probabilities happen to be large: calibrated ones of rare labels seldom
    reach .5, and then most clips get no label. One threshold for all labels, for a label of three validation clips has
    none of its own that means anything. Of equals it is the middle one.

    Args:
        truth: 0/1 [N, C] of validation clips.
        probabilities: [N, C].
    """
    present = probabilities[truth > 0]
    if not len(present):
        return THRESHOLD
    tried = np.unique(np.quantile(present, np.linspace(0, 1, THRESHOLDS_TRIED)))
    scores = np.array([fast_macro_f1(truth > 0, probabilities >= threshold) for threshold in tried])
    best = np.flatnonzero(scores >= scores.max() - 1e-12)
    return float(tried[best[len(best) // 2]])


def fast_macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """`macro_f1` of bool matrices [N, C] without its checks, which take most of the time of a search."""
    hits, sizes = (truth & predicted).sum(axis=0), truth.sum(axis=0) + predicted.sum(axis=0)
    return float((2 * hits[sizes > 0] / sizes[sizes > 0]).mean()) if sizes.any() else 0.0


def per_class(truth: np.ndarray, predicted: np.ndarray, labels: list[str]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and number of clips of each of C >= 2 classes; 0 where a ratio is undefined."""
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(truth, predicted, average=None, zero_division=0)
    return [
        {"label": label, "precision": float(p), "recall": float(r), "f1": float(f), "clips": int(n)}
        for label, p, r, f, n in zip(labels, *columns, strict=True)
    ]


def score_predictions(
    truth: np.ndarray,
    probabilities: np.ndarray,
    labels: list[str],
    multi_label: bool,
    threshold: float | None = None,
) -> dict[str, Any]:
    """Everything that is reported about a test set.

    Args:
        truth: 0/1 [N, C]; one 1 in each row unless `multi_label`.
        probabilities: [N, C].
        labels: the C class names.
        multi_label: mAP is the main metric, and accuracy and the confusion matrix are left out.
        threshold: from which probability on a label is predicted, for `multi_label`; None: .5.

    Returns:
        metric (name of the main one), accuracy, macro_f1, mAP, per_class, confusion (rows are the true classes, columns
        the predicted ones). The interval of the main metric is that of `synthio.classification.intervals`.
    """
    from sklearn.metrics import confusion_matrix

    predicted = predicted_matrix(probabilities, multi_label, threshold)
    scores: dict[str, Any] = {"metric": "mAP" if multi_label else "accuracy"}
    if multi_label:
        scores["threshold"] = THRESHOLD if threshold is None else threshold
    else:
        scores["accuracy"] = accuracy(truth, probabilities)
    scores["macro_f1"] = macro_f1(truth, predicted)
    scores["mAP"] = mean_average_precision(truth, probabilities)
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
    """The main metric as a function of how often each clip counts, an integer array [N]."""
    if multi_label:
        return ResampledPrecision(truth, probabilities)
    right = (truth.argmax(axis=1) == probabilities.argmax(axis=1)).astype(float)
    return lambda counts: float(right @ counts / counts.sum())


class ResampledPrecision:
    """`mean_average_precision` of draws of clips: the probabilities are sorted once, a draw only counts the clips.

    Args:
        truth: 0/1 [N, C].
        probabilities: [N, C].
    """

    def __init__(self, truth: np.ndarray, probabilities: np.ndarray):
        order = np.argsort(-probabilities, axis=0, kind="stable").T
        classes, clips = order.shape
        values = np.take_along_axis(probabilities.T, order, axis=1)
        # of equal probabilities all are above the threshold or none: each place is judged at the last of its equals
        last = np.where(np.diff(values, axis=1) != 0, np.arange(clips - 1), clips - 1)
        last = np.concatenate([last, np.full((classes, 1), clips - 1)], axis=1)
        last = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]
        # only the places of clips that have the label matter, class by class, the most probable first
        self.class_of, place = np.nonzero(np.take_along_axis(truth.T, order, axis=1))
        self.clip_of = order[self.class_of, place]
        end = self.class_of * clips + last[self.class_of, place]  # of all classes in one row
        self.equal = np.searchsorted(end, end, side="right") - 1
        self.start = np.searchsorted(self.class_of, self.class_of)
        stops, self.part_of = np.unique(end, return_inverse=True)
        self.parts = np.concatenate([[0], stops + 1])[:-1]
        self.order, self.classes = np.ascontiguousarray(order).ravel()[: end.max(initial=-1) + 1], classes
        self.drawn = np.empty(len(self.order), np.int16)

    def __call__(self, counts: np.ndarray) -> float:
        """The mean over the classes that occur; NaN where none does.

        Args:
            counts: how often each clip was drawn [N].
        """
        np.take(counts.astype(np.int16), self.order, out=self.drawn, mode="clip")  # clip: without a copy
        parts = np.add.reduceat(self.drawn, self.parts, dtype=np.int64).cumsum()
        seen = parts[self.part_of] - self.class_of * int(counts.sum())
        found = counts.astype(np.int64)[self.clip_of]
        upto = found.cumsum()
        hits = upto[self.equal] - (upto - found)[self.start]
        precision = np.bincount(self.class_of, found * hits / np.maximum(seen, 1), self.classes)
        total = np.bincount(self.class_of, found, self.classes)
        occurs = total > 0
        return float((precision[occurs] / total[occurs]).mean()) if occurs.any() else float("nan")


def probabilities(logits: torch.Tensor, multi_label: bool) -> np.ndarray:
    """Softmax, or the sigmoid of each class for multi-label data; float64 [N, C], so that ties stay rare."""
    logits = logits.double()
    return (logits.sigmoid() if multi_label else logits.softmax(dim=1)).numpy()


def score_of(logits: torch.Tensor, targets: torch.Tensor, multi_label: bool) -> float:
    """Accuracy, or mAP for multi-label data, of logits and targets [N, C]."""
    metric = mean_average_precision if multi_label else accuracy
    return metric(targets.numpy(), probabilities(logits, multi_label))
