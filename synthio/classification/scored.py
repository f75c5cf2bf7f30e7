"""What trained classifiers left behind: their scores, and two of them on the same clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthio.cli import UserError

if TYPE_CHECKING:
    import numpy as np


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


def paired_statistic(
    scores: Mapping[str, Any], baseline: Mapping[str, Any]
) -> tuple[Callable[[np.ndarray], float], int]:
    """(difference of the main metric on some rows of the predictions, how many rows there are).

    Raises:
        UserError: the two were not tested on the same clips, or not by the same metric.
    """
    from synthio.classification.metrics import main_statistic
    from synthio.manifest import LABEL, PATH

    names = f"'{scores['name']}' and '{baseline['name']}'"
    if scores["metric"] != baseline["metric"]:
        raise UserError(f"{names} have different metrics, {scores['metric']} and {baseline['metric']}")
    tables = [s["predictions"][[PATH, LABEL]] for s in (scores, baseline)]
    if not tables[0].equals(tables[1]):
        raise UserError(f"{names} were not tested on the same clips in the same order; test both on one CSV")
    multi_label = scores["metric"] == "mAP"
    truth, chances = truth_and_probabilities(scores)
    old_truth, old_chances = truth_and_probabilities(baseline)
    new = main_statistic(truth, chances, multi_label)
    old = main_statistic(old_truth, old_chances, multi_label)
    return lambda rows: new(rows) - old(rows), len(tables[0])


def paired_difference(scores: dict[str, Any], baseline: dict[str, Any], seed: int) -> dict[str, Any]:
    """Difference of the main metric and its 95 % interval over the same test clips; raises as `paired_statistic`."""
    from synthio.classification.metrics import bootstrap_interval

    low, high = bootstrap_interval(*paired_statistic(scores, baseline), seed)
    metric = scores["metric"]
    return {"difference": scores[metric] - baseline[metric], "interval_95": [low, high]}
