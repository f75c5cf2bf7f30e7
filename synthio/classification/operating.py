"""From which probability on an answer can be believed: thresholds of each label, chosen on validation clips.

    points = operating_points(truth, probabilities, labels, multi_label=False)
    thresholds = choose_thresholds(points, precision=0.9)

The points are kept with a classifier, so that whoever listens with it says which precision he wants. They hold for
sounds such as the validation clips: where the labels are rarer, and other sounds are heard, more alarms are false.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from synthio.classification.metrics import predicted_matrix

LISTENING = "listening.json"  # beside a classifier's weights: how long its clips were, and its operating points
WINDOW_LIMITS_S = (0.5, 10.0)  # of what a head on frozen models hears at once
Points = Mapping[str, Mapping[str, Sequence[float]]]
DIGITS = 9


@dataclass(frozen=True)
class Threshold:
    """From which probability on a label is called; its precision and recall on the validation clips.

    `precision` is None where these had no right answer of the label, so that nothing is known.
    """

    probability: float
    precision: float | None = None
    recall: float | None = None


def operating_points(truth: np.ndarray, probabilities: np.ndarray, labels: Sequence[str], multi_label: bool) -> Points:
    """Label -> `threshold`, `precision` and `recall`, each at the probability of one of the clips that have it.

    Of single-label data only the most probable label of a clip counts as an answer.

    Args:
        truth: 0/1 [N, C] of validation clips.
        probabilities: [N, C].
        labels: the C labels.
        multi_label: a clip may have several labels.
    """
    answers = np.ones_like(truth, bool) if multi_label else predicted_matrix(probabilities, False).astype(bool)
    return {
        label: _points(truth[answers[:, c], c], probabilities[answers[:, c], c], int(truth[:, c].sum()))
        for c, label in enumerate(labels)
    }


def _points(right: np.ndarray, probabilities: np.ndarray, positives: int) -> dict[str, list[float]]:
    order = np.argsort(-probabilities, kind="stable")
    right, probabilities = right[order] > 0, probabilities[order]
    # of equal probabilities all are above a threshold or none: each place is judged at the last of its equals
    last = np.searchsorted(-probabilities, -probabilities, side="right") - 1
    hits = right.cumsum()[last] if len(last) else np.zeros(0)
    kept = np.unique(last[right])
    return {
        "threshold": [math.floor(p * 10**DIGITS) / 10**DIGITS for p in probabilities[kept]],
        "precision": (hits[kept] / (kept + 1)).tolist(),
        "recall": (hits[kept] / max(positives, 1)).tolist(),
    }


def choose_thresholds(points: Points, precision: float) -> dict[str, Threshold]:
    """The lowest threshold of each label that has the precision; where none has it, the one of the highest precision.

    Of a label that no validation clip was rightly called by, it is .5: nothing is known.
    """
    return {label: _choose(one, precision) for label, one in points.items()}


def _choose(points: Mapping[str, Sequence[float]], precision: float) -> Threshold:
    if not points["threshold"]:
        return Threshold(0.5)
    wanted = [i for i, found in enumerate(points["precision"]) if found >= precision]
    best = wanted or [i for i, found in enumerate(points["precision"]) if found == max(points["precision"])]
    return Threshold(*(points[name][best[-1]] for name in ("threshold", "precision", "recall")))


def window_of(durations_s: Sequence[float]) -> float:
    """How much a head should hear at once, in s: as much as nearly all of its validation clips have."""
    return float(np.clip(np.percentile(durations_s, 95), *WINDOW_LIMITS_S))
