"""How sure a classifier is that a clip has its label: the second opinion beside CLAP (SynSonic)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synthio.classification.metrics import probabilities
from synthio.classification.saved import load_saved as load
from synthio.classification.training import Input, predict_clips
from synthio.cli import UserError
from synthio.files import read_object
from synthio.manifest import split_labels
from synthio.models.strict import refusing

BATCH = 16


def find_model(folder: str) -> Path:
    """The model in an output folder of ast/train.py.

    Raises:
        UserError: there is none, or it was trained on synthetic clips: it would agree with its own training data.
    """
    model, record = Path(folder) / "model", Path(folder) / "scores.json"
    if not (model / "config.json").is_file() or not record.is_file():
        raise UserError(
            f"--classifier {folder}: no model/ and scores.json in it; give an output folder of ast/train.py"
        )
    with refusing("classifier", folder):
        synthetic = read_object(record)["splits"]["train"]["synthetic"]
    if synthetic:
        raise UserError(f"--classifier {folder}: was trained on {synthetic} synthetic clips; train one on gold alone")
    return model


def class_probabilities(model, norm: Input, paths: Sequence[str], csv: str, device: str) -> np.ndarray:
    """Probabilities float64 [N, C] of N >= 1 clips, classes in the order of the model's config."""
    multi_label = model.config.problem_type == "multi_label_classification"
    return probabilities(predict_clips(model, norm, paths, csv, BATCH, device), multi_label)


def label_probabilities(folder: str, paths: Sequence[str], cells: Sequence[str], csv: str, device: str) -> list[float]:
    """The classifier's probability of each clip's label, the least one where it has several.

    Args:
        folder: output folder of ast/train.py.
        paths: N usable clips.
        cells: their label cells.
        csv: where they come from, for messages.
        device: torch device.

    Raises:
        UserError: as `find_model`; a label that the classifier does not know.
    """
    model, norm = load(find_model(folder), device)
    known = model.config.label2id
    for cell in cells:
        for label in split_labels(cell):
            if label not in known:
                raise UserError(f"{csv}: the classifier {folder} does not know the label '{label}'")
    if not len(paths):
        return []
    chances = class_probabilities(model, norm, paths, csv, device)
    return [
        min(float(row[known[label]]) for label in split_labels(cell)) for row, cell in zip(chances, cells, strict=True)
    ]
