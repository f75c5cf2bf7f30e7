"""Labels as cells of a manifest and as a 0/1 matrix, and the groups of clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synthio.cli import UserError
from synthio.manifest import GROUP, LABEL_SEPARATOR, split_labels

if TYPE_CHECKING:
    import pandas as pd


def encode_labels(cells: Sequence[str], labels: Sequence[str], csv: str | Path, multi_label: bool) -> np.ndarray:
    """Label cells as a 0/1 matrix float32 [N, C], columns in the order of `labels`.

    Raises:
        UserError: a label that is not in `labels`, or several labels in a row without `multi_label`.
    """
    number = {label: i for i, label in enumerate(labels)}
    targets = np.zeros((len(cells), len(labels)), np.float32)
    for row, cell in enumerate(cells, 1):
        names = split_labels(cell)
        if len(names) > 1 and not multi_label:
            raise UserError(f"{csv} row {row}: several labels ('{cell}'); use --multi_label true, or give one")
        for name in names:
            if name not in number:
                raise UserError(
                    f"{csv} row {row}: the label '{name}' is not among the {len(labels)} classes, which come "
                    "from the training data or --classes_csv; add training clips of it, or remove the row"
                )
            targets[row - 1, number[name]] = 1
    return targets


def decode_labels(predicted: np.ndarray, labels: Sequence[str]) -> list[str]:
    """The reverse of `encode_labels`: 0/1 [N, C] -> label cells."""
    return [LABEL_SEPARATOR.join(label for label, on in zip(labels, row, strict=True) if on) for row in predicted]


def groups_of(*tables: pd.DataFrame) -> np.ndarray | None:
    """The groups of the clips of several manifests, a clip without one being its own; None where no clip has one."""
    cells: list[str] = [
        cell for table in tables for cell in (table[GROUP] if GROUP in table.columns else [""] * len(table))
    ]
    if not any(cells):
        return None
    return np.array([cell or f"clip {row}" for row, cell in enumerate(cells)])
