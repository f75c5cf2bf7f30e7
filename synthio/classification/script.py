"""What the classifiers' scripts share: their three CSVs, the targets of each, and what they write about the test."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthio.cli import UserError, pick_device, quiet_libraries, set_threads
from synthio.files import sweep
from synthio.options import Device, option

if TYPE_CHECKING:
    import numpy as np

    from synthio.classification.options import Scoring

SPLITS = ("train", "valid", "test")
FINISHED = "finished.pt"  # what is left of a training for another one that is the same
VALID_PREDICTIONS = "valid_predictions.csv"  # by which one classifier is chosen among several


@dataclass(frozen=True)
class Evaluation(Device):
    """Data, outputs, classes and device of a classifier's script."""

    train_csv: str = option("", "CSV with path and label of the training clips", required=True)
    valid_csv: str = option("", "CSV with path and label of the validation clips", required=True)
    test_csv: str = option("", "CSV with path and label of the test clips", required=True)
    output_folder: str = option("", "folder for model, scores and predictions", required=True)
    classes_csv: str = option("", "CSV whose labels are the classes; empty takes those of the training data")

    @property
    def csvs(self) -> dict[str, str]:
        """Split -> its CSV."""
        return {split: getattr(self, f"{split}_csv") for split in SPLITS}


@dataclass(frozen=True)
class Hearing:
    """What a script that listens through frozen models takes besides."""

    cache_folder: str = option("", "folder that keeps embeddings; empty: <output_folder>/embeddings")
    batch_size: int = option(16, "clips embedded at once", low=1)

    def cache(self, output_folder: str) -> Path:
        """The folder that keeps the embeddings."""
        return Path(self.cache_folder or Path(output_folder) / "embeddings")


def read_splits(data: Evaluation, multi_label: bool):
    """The three manifests, the classes, and the targets [N, C] of each; every mistake in the labels shows here."""
    from synthio.classification.labels import encode_labels
    from synthio.data.contents import check_contents
    from synthio.manifest import LABEL, all_labels, read_manifest, read_table

    csvs = data.csvs
    tables = {split: read_manifest(csv) for split, csv in csvs.items()}
    for split, table in tables.items():
        check_contents(table, csvs[split])
        if table.empty:
            raise UserError(f"{csvs[split]}: no clips; the {split} data needs at least one")
    source = read_table(data.classes_csv, [LABEL]) if data.classes_csv else tables["train"]
    labels = all_labels(source[LABEL])
    if len(labels) < 2:
        raise UserError(f"{data.classes_csv or data.train_csv}: {len(labels)} class; a classifier needs at least 2")
    targets = {s: encode_labels(t[LABEL], labels, csvs[s], multi_label) for s, t in tables.items()}
    return tables, labels, targets


def start_clean(data: Evaluation, is_main: bool = True) -> tuple[str, Path]:
    """Set up the libraries and, in the main process of a training, the output folder; returns (torch device, folder).

    What an earlier run left there goes, so that scores never stand beside another model; its checkpoint stays.
    """
    quiet_libraries()
    set_threads()
    device, folder = pick_device(data.device), Path(data.output_folder)
    if not is_main:
        return device, folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("scores.json", "predictions.csv", VALID_PREDICTIONS, "history.csv", "penalties.csv", FINISHED):
        (folder / name).unlink(missing_ok=True)
    if (folder / "model").is_dir():
        shutil.rmtree(folder / "model")
    sweep([folder])
    return device, folder


def write_history(path: Path, history: list[dict[str, Any]], multi_label: bool) -> None:
    """A row for each evaluation on the validation clips, its `valid_score` by the name of the metric."""
    import pandas as pd

    from synthio.manifest import write_table

    metric = "mAP" if multi_label else "accuracy"
    write_table(pd.DataFrame(history).rename(columns={"valid_score": f"valid_{metric}"}), path)


def write_predictions(table, labels, chances, multi_label: bool, path: Path, threshold: float | None = None) -> None:
    """path, label, group where there is one, predicted, and `probability_<label>` of each class."""
    import pandas as pd

    from synthio.classification.labels import decode_labels
    from synthio.classification.metrics import PROBABILITY_PREFIX, predicted_matrix
    from synthio.manifest import GROUP, LABEL, PATH, write_table

    kept = [name for name in (PATH, LABEL, GROUP) if name in table.columns]
    out = table[kept].assign(predicted=decode_labels(predicted_matrix(chances, multi_label, threshold), labels))
    columns = {f"{PROBABILITY_PREFIX}{label}": [f"{p:.9f}" for p in chances[:, i]] for i, label in enumerate(labels)}
    write_table(pd.concat([out, pd.DataFrame(columns)], axis=1), path)


def is_synthetic(table):
    """Which clips of a manifest are synthetic, bool [N]: these name the gold clip that they were made for."""
    import numpy as np

    from synthio.manifest import SOURCE

    return (table[SOURCE] != "").to_numpy() if SOURCE in table.columns else np.zeros(len(table), bool)


def count_clips(table) -> dict[str, int]:
    """How many clips are real and how many synthetic; how many are none of the labels, where any are."""
    synthetic, other = int(is_synthetic(table).sum()), int(is_other(table).sum())
    counts = {"clips": len(table), "gold": len(table) - synthetic - other, "synthetic": synthetic}
    return counts | ({"other": other} if other else {})


def is_other(table):
    """Which clips of a manifest are there as none of the labels, bool [N] (synthio.classification.other)."""
    import numpy as np

    from synthio.classification.other import ORIGIN

    return (table[ORIGIN] != "").to_numpy() if ORIGIN in table.columns else np.zeros(len(table), bool)


@dataclass(frozen=True)
class Result:
    """What a classifier says.

    Attributes:
        valid, test: its probabilities of the validation and test clips [N, C], calibrated on the former.
        test_before: those of the test clips before calibration.
        temperature: what the logits were divided by; None where it is not one number.
    """

    valid: np.ndarray
    test: np.ndarray
    test_before: np.ndarray
    temperature: float | None = None


def write_test_results(
    folder: Path, options: Scoring, tables, labels, targets, result: Result, details: Mapping[str, Any]
) -> dict:
    """predictions.csv, valid_predictions.csv, the model's card and scores.json; returns what the last says.

    Args:
        folder: of the outputs.
        options: how it is scored.
        tables: the manifest of each split.
        labels: the C classes.
        targets: 0/1 [N, C] of each split.
        result: the probabilities.
        details: what else scores.json says; `best_valid` is (score, loss) of the chosen model.
    """
    from synthio.classification.card import classifier_card
    from synthio.classification.intervals import score_interval, units_of
    from synthio.classification.metrics import calibration, choose_threshold, score_predictions
    from synthio.files import read_json, write_json, write_text
    from synthio.manifest import versions

    multi_label = options.multi_label
    threshold = choose_threshold(targets["valid"], result.valid) if multi_label else None
    scores = score_predictions(targets["test"], result.test, labels, multi_label, threshold)
    scores |= score_interval(targets["test"], result.test, multi_label, units_of(tables["test"]), options.seed)
    write_predictions(tables["test"], labels, result.test, multi_label, folder / "predictions.csv", threshold)
    write_predictions(tables["valid"], labels, result.valid, multi_label, folder / VALID_PREDICTIONS, threshold)
    score, loss = details["best_valid"]
    record = {
        **scores,
        "calibration": {
            "temperature": result.temperature,
            "before": calibration(targets["test"], result.test_before, multi_label),
            "after": calibration(targets["test"], result.test, multi_label),
        },
        "labels": labels,
        **details,
        "best_valid": {scores["metric"]: score, "loss": loss},
        "splits": {split: count_clips(table) for split, table in tables.items()},
        "versions": versions(),
    }
    if (folder / "model").is_dir():
        write_text(folder / "model/README.md", classifier_card(record))
        write_listening(folder / "model", tables["valid"], labels, targets["valid"], result.valid, multi_label, details)
    if multi_label and (folder / "model/config.json").is_file():
        config = folder / "model/config.json"
        write_json(config, {**read_json(config), "threshold": threshold})
    write_json(folder / "scores.json", record)
    return record


def write_listening(folder: Path, table, labels, truth, chances, multi_label: bool, details: Mapping[str, Any]) -> None:
    """What listen.py asks of a classifier besides its weights: how long a window is, and its operating points.

    Args:
        folder: of the model.
        table: manifest of the validation clips.
        labels: the C classes.
        truth: 0/1 [N, C] of the validation clips.
        chances: their probabilities [N, C].
        multi_label: clips may have several labels.
        details: see `write_test_results`; `input` has the frames that an AST hears.
    """
    from synthio.audio import probe
    from synthio.classification.operating import LISTENING, operating_points, window_of
    from synthio.classification.other import OTHER
    from synthio.files import write_json
    from synthio.manifest import DURATION, PATH

    def duration_s(path: str) -> float:
        rate, _, frames = probe(path)
        return frames / rate

    if "frames" in details.get("input", {}):
        window_s = details["input"]["frames"] / 100
    elif DURATION in table.columns and all(table[DURATION]):
        window_s = window_of(table[DURATION].astype(float))
    else:
        window_s = window_of([duration_s(path) for path in table[PATH]])
    points = operating_points(truth, chances, labels, multi_label)
    ignored = [OTHER] if is_other(table).any() else []  # no event
    write_json(folder / LISTENING, {"window_s": round(window_s, 2), "ignored": ignored, "labels": points})


def print_score(record: Mapping[str, Any]) -> None:
    """The main score on one line."""
    low, high = record["interval_95"]
    print(f"test {record['metric']} {record[record['metric']]:.3f} ({low:.3f} to {high:.3f})")
