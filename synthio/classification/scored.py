"""What trained classifiers left behind: their scores, and two of them on the same clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthio.cli import UserError

if TYPE_CHECKING:
    import numpy as np

    from synthio.classification.intervals import Units


def read_scores(argument: str, predictions: str = "predictions.csv") -> dict[str, Any]:
    """NAME=FILE -> the scores with `name` and the table of `predictions`, a file beside them."""
    from synthio.files import read_object
    from synthio.manifest import read_manifest

    name, separator, file = argument.partition("=")
    if not separator or not name:
        raise UserError(f"--scores {argument}: write it as NAME=FILE, for example gold-only=W/scores.json")
    if not Path(file).is_file():
        raise UserError(f"{file}: no such file; has ast/train.py finished?")
    scores = read_object(file, "metric", "labels")
    table = read_manifest(Path(file).with_name(predictions), check_files=False)
    return {**scores, "name": name, "predictions": table}


def truth_and_probabilities(scores: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """(truth 0/1 [N, C], probabilities [N, C]) of a predictions table."""
    from synthio.classification.labels import encode_labels
    from synthio.classification.metrics import PROBABILITY_PREFIX
    from synthio.manifest import LABEL

    table, labels = scores["predictions"], scores["labels"]
    truth = encode_labels(table[LABEL], labels, f"{scores['name']}: predictions.csv", multi_label=True)
    return truth, table[[f"{PROBABILITY_PREFIX}{label}" for label in labels]].to_numpy(float)


@dataclass(frozen=True)
class Paired:
    """Two classifiers on the same test clips: the difference of the main metric, its draws [R], and what was drawn."""

    difference: float
    drawn: np.ndarray
    units: Units

    def record(self) -> dict[str, Any]:
        """Of this one cell, see `gain_record`."""
        return gain_record([self])


def gain_record(pairs: Sequence[Paired]) -> dict[str, Any]:
    """What may be said of a difference over K cells, for a JSON file.

    Returns:
        difference (the mean), interval_95, told (in words), cells, resampled (of the first cell), and p, two-sided: of
        one cell by the same draws of test clips, of several by permuting the cells.
    """
    from synthio.classification.intervals import interval, p_value, permutation_p, told

    values, drawn, units = [one.difference for one in pairs], [one.drawn for one in pairs], [one.units for one in pairs]
    limits = interval(values, drawn, units, -1)
    p = permutation_p(values, [0.0] * len(values)) if len(values) > 1 else p_value(values, drawn, units)
    return {
        "difference": sum(values) / len(values),
        "interval_95": list(limits),
        "p": p,
        "told": told(*limits),
        "cells": len(pairs),
        "resampled": units[0].record(),
    }


def drawn_score(scores: Mapping[str, Any], draws: np.ndarray) -> np.ndarray:
    """The main metric of a classifier on draws of its clips [R, N] -> [R]."""
    from synthio.classification.intervals import resampled

    return resampled(*truth_and_probabilities(scores), scores["metric"] == "mAP", draws)


def pair(scores: Mapping[str, Any], baseline: Mapping[str, Any], seed: int, resamples: int = 0) -> Paired:
    """The gain of one classifier on another, on the clips of their predictions.

    Args:
        scores, baseline: from `read_scores`.
        seed: of the draws.
        resamples: how many; 0: as many as everywhere.

    Raises:
        UserError: the two were not tested on the same clips, or not by the same metric.
    """
    import numpy as np

    from synthio.classification.intervals import RESAMPLES, draw_counts, units_of
    from synthio.manifest import LABEL, PATH

    names = f"'{scores['name']}' and '{baseline['name']}'"
    if scores["metric"] != baseline["metric"]:
        raise UserError(f"{names} have different metrics, {scores['metric']} and {baseline['metric']}")
    tables = [s["predictions"][[PATH, LABEL]] for s in (scores, baseline)]
    if not tables[0].equals(tables[1]):
        raise UserError(f"{names} were not tested on the same clips in the same order; test both on one CSV")
    units = units_of(scores["predictions"])
    draws = draw_counts(units, resamples or RESAMPLES, seed)
    everything = np.ones((1, draws.shape[1]), draws.dtype)
    new, old = (drawn_score(one, np.concatenate([everything, draws])) for one in (scores, baseline))
    return Paired(float(new[0] - old[0]), new[1:] - old[1:], units)
