"""From the manifests of a run to what heads are fitted to."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from synthio.classification.experts import Features, beside
from synthio.classification.heads import BOTH, Task
from synthio.classification.labels import groups_of
from synthio.classification.listening import Listener
from synthio.classification.naming import match_names
from synthio.classification.script import is_synthetic
from synthio.classification.weighting import choose_synthetic_weight, describe_choice, draw_rates
from synthio.cli import AUTO
from synthio.manifest import PATH, SOURCE

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Prepared:
    """A task, and what was settled on the way.

    Attributes:
        heard: all training clips, those of weight 0 too.
        synthetic_weight: of a synthetic clip.
        choice: how that was chosen.
    """

    task: Task
    heard: Features
    synthetic_weight: float
    choice: list[dict[str, float]]


def prepare(
    listener: Listener,
    tables: Mapping[str, pd.DataFrame],
    csvs: Mapping[str, str],
    targets: Mapping[str, np.ndarray],
    labels: list[str],
    *,
    synthetic_weight: float | str,
    multi_label: bool,
    seed: int,
) -> Prepared:
    """Hear training and validation clips, and settle how much the synthetic ones count.

    Args:
        listener: what hears them.
        tables: manifests of train and valid.
        csvs: where these come from, for messages.
        targets: 0/1 [N, C] of each.
        labels: the C labels.
        synthetic_weight: how often a synthetic clip comes for one time that a real one does, or "auto".
        multi_label: clips may have several labels.
        seed: of what is drawn.

    Raises:
        UserError: a clip cannot be used; all training clips have one label.
    """
    heard: dict[str, Features] = {
        split: listener.hear(tables[split][PATH], csvs[split]) for split in ("train", "valid")
    }
    synthetic = is_synthetic(tables["train"])
    train, valid = ((heard[split], targets[split]) for split in ("train", "valid"))
    weight, choice = settle_weight(train, valid, synthetic, synthetic_weight, multi_label)
    if choice:
        print(describe_choice(weight, choice), file=sys.stderr, flush=True)
    rates = draw_rates(synthetic, weight)
    kept = rates > 0
    task = Task(
        train={kind: x[kept] for kind, x in heard["train"].items()},
        valid=heard["valid"],
        targets=targets["train"][kept],
        valid_targets=targets["valid"],
        rates=rates[kept],
        sources=sources_of(tables["train"][kept]),
        members=match_names(labels, listener.names) if listener.names else None,
        texts=listener.label_vectors(labels),
        scale=listener.logit_scale,
        multi_label=multi_label,
        groups=groups_of(tables["train"][kept], tables["valid"]),
        seed=seed,
    )
    return Prepared(task, heard["train"], weight, choice)


def settle_weight(
    train: tuple[Features, np.ndarray],
    valid: tuple[Features, np.ndarray],
    synthetic: np.ndarray,
    synthetic_weight: float | str,
    multi_label: bool,
) -> tuple[float, list[dict[str, float]]]:
    """(how often a synthetic clip comes for one time that a real one does, how "auto" chose it on validation clips).

    Args:
        train: embeddings by kind and targets 0/1 [N, C].
        valid: the same of the validation clips.
        synthetic: which training clips are, bool [N].
        synthetic_weight: the number, or "auto".
        multi_label: clips may have several labels.
    """
    if synthetic_weight != AUTO:
        return float(synthetic_weight), []
    heard, heard_valid = ((beside(features, BOTH), targets) for features, targets in (train, valid))
    return choose_synthetic_weight(heard, heard_valid, synthetic, multi_label)


def sources_of(table: pd.DataFrame) -> np.ndarray:
    """The row that each clip of a manifest was made from [N]: a real one's own, -1 where the manifest has it not."""
    rows = {path: row for row, path in enumerate(table[PATH])}
    made = is_synthetic(table)
    names = table[SOURCE] if SOURCE in table.columns else table[PATH]
    return np.array([rows.get(name, -1) if made[row] else row for row, name in enumerate(names)])
