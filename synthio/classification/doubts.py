"""How sure a model that has not seen a clip is of its label: training clips that may have a wrong one.

    rows = find_doubts(features, targets, labels, synthetic, multi_label=False, seed=0)

A linear probe on frozen embeddings is trained on the other gold clips and asked about the clip: gold clips by
cross-validation, synthetic ones by the probe of all gold clips. The probability of the given label, the lower the more
doubtful, is the self-confidence of Northcutt, Jiang and Chuang (2021), "Confident learning", section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthio.classification.probe import FEW_CLIPS_C, fit_probe
from synthio.manifest import LABEL_SEPARATOR

FOLDS = 5
DOUBTS = "doubts.csv"  # of ast/heads.py: path, label, and the columns below
CONFIDENCE, HEARD_AS, HEARD_CONFIDENCE = "label_probability", "heard_as", "heard_probability"


@dataclass(frozen=True)
class Doubts:
    """What the probe says of N clips: the probability of the given label, what it hears instead, how sure.

    `confidence` is NaN where nothing can be said: no other gold clip has one of the labels. Of multi-label data it is
    the least probability that a single label is right about the clip.
    """

    confidence: np.ndarray
    heard_as: list[str]
    heard_confidence: np.ndarray


def find_doubts(
    x: np.ndarray,
    targets: np.ndarray,
    labels: Sequence[str],
    synthetic: np.ndarray,
    multi_label: bool,
    seed: int,
    groups: np.ndarray | None = None,
) -> Doubts | None:
    """The doubts about training clips; None where the gold clips are too few to say anything.

    Args:
        x: embeddings [N, E].
        targets: 0/1 [N, C].
        labels: the C labels.
        synthetic: which clips are, bool [N].
        multi_label: clips may have several labels.
        seed: of the folds.
        groups: of the clips [N], each in one fold; None: every clip by itself.
    """
    gold = np.flatnonzero(~synthetic)
    chances = np.full(targets.shape, np.nan)
    for fit, asked in _folds(targets[gold], seed, None if groups is None else groups[gold]):
        if _can_fit(targets[gold[fit]], multi_label):
            chances[gold[asked]] = _ask(x, targets, gold[fit], gold[asked], multi_label)
    made = np.flatnonzero(synthetic)
    if len(made) and _can_fit(targets[gold], multi_label):
        chances[made] = _ask(x, targets, gold, made, multi_label)
    if np.isnan(chances).all():
        return None
    return _judge(chances, targets, labels, multi_label)


def _can_fit(targets: np.ndarray, multi_label: bool) -> bool:
    return len(targets) > 0 and (multi_label or int(targets.any(axis=0).sum()) > 1)


def _folds(targets: np.ndarray, seed: int, groups: np.ndarray | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """(rows to fit, rows to ask about), as even over the classes as can be; a clip of several labels by its first."""
    import warnings

    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if not len(targets):  # a run trains on synthetic clips alone
        return []
    classes = targets.argmax(axis=1)
    splits = min(FOLDS, len(targets) if groups is None else len(set(groups)), int(np.bincount(classes).max()))
    if splits < 2:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes of fewer clips than folds are dealt out as they are
        if groups is None:
            return list(StratifiedKFold(splits, shuffle=True, random_state=seed).split(classes, classes))
        return list(StratifiedGroupKFold(splits, shuffle=True, random_state=seed).split(classes, classes, groups))


def _ask(x: np.ndarray, targets: np.ndarray, fit: np.ndarray, asked: np.ndarray, multi_label: bool) -> np.ndarray:
    """Probabilities [asked, C]; NaN for clips with a label that no clip of the fit has."""
    chances = fit_probe(x[fit], targets[fit], FEW_CLIPS_C, multi_label).chances(x[asked], multi_label)
    unseen = ~targets[fit].any(axis=0)
    chances[(targets[asked].astype(bool) & unseen).any(axis=1)] = np.nan
    return chances


def _judge(chances: np.ndarray, targets: np.ndarray, labels: Sequence[str], multi_label: bool) -> Doubts:
    if not multi_label:
        known = np.nan_to_num(chances, nan=-1.0)
        best = known.argmax(axis=1)
        rows = np.arange(len(chances))
        return Doubts(chances[rows, targets.argmax(axis=1)], [labels[c] for c in best], chances[rows, best])
    right = np.where(targets > 0, chances, 1 - chances)
    heard = [[c for c in np.argsort(-row) if row[c] >= 0.5] or [int(np.nan_to_num(row).argmax())] for row in chances]
    sure = np.array([chances[row, picked].min() for row, picked in enumerate(heard)])
    return Doubts(right.min(axis=1), [LABEL_SEPARATOR.join(labels[c] for c in sorted(one)) for one in heard], sure)
