"""From the manifests of a run to what heads are fitted to."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from synthio.classification.centring import centred
from synthio.classification.experts import Features, beside
from synthio.classification.heads import BOTH, HEADS, Task, knowledge
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
class Weighed:
    """A task whose synthetic clips count what they should.

    Attributes:
        synthetic_weight: of a synthetic clip; of weight 0 they are not in the task.
        choice: how that was chosen.
    """

    task: Task
    synthetic_weight: float
    choice: list[dict[str, float]]


@dataclass(frozen=True)
class Prepared:
    """What heads are fitted to, and what was settled on the way.

    Attributes:
        plain: the task of heads that learn from training clips alone.
        informed: that of heads which also have what the models know of the labels (`Head.is_informed`).
        heard: all training clips, those of weight 0 too.
    """

    plain: Weighed
    informed: Weighed
    heard: Features

    @property
    def task(self) -> Task:
        """That of the plain heads."""
        return self.plain.task

    def of(self, head: str) -> Weighed:
        """What a head is fitted to, by its name; `fit_head` refuses one that there is not."""
        return self.informed if head in HEADS and HEADS[head].is_informed else self.plain


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
    """Hear training and validation clips, centre the synthetic ones, and settle how much they count.

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
    whole = Task(
        train=centred(heard["train"], targets["train"], synthetic),
        valid=heard["valid"],
        targets=targets["train"],
        valid_targets=targets["valid"],
        rates=np.ones(len(synthetic)),
        sources=sources_of(tables["train"]),
        members=match_names(labels, listener.names) if listener.names else None,
        texts=listener.label_vectors(labels),
        scale=listener.logit_scale,
        multi_label=multi_label,
        groups=groups_of(tables["train"], tables["valid"]),
        seed=seed,
    )
    plain, informed = (weigh(whole, synthetic, synthetic_weight, is_informed) for is_informed in (False, True))
    for weighed, which in ((plain, ""), (informed, ", where heads have what the models know of the labels")):
        if weighed.choice:
            print(describe_choice(weighed.synthetic_weight, weighed.choice) + which, file=sys.stderr, flush=True)
    if informed.synthetic_weight == plain.synthetic_weight:  # one task: what is chosen for it is chosen once
        informed = replace(informed, task=plain.task)
    return Prepared(plain, informed, whole.train)


def weigh(task: Task, synthetic: np.ndarray, synthetic_weight: float | str, is_informed: bool) -> Weighed:
    """Settle how much synthetic clips count, and leave those out that don't.

    A head that also has what the models know of the labels gains less by them: the generator knows the same sounds. So
    its weight is one with which probe and knowledge together are less surprised by the validation clips.

    Args:
        task: its rates are not looked at.
        synthetic: which training clips are, bool [N].
        synthetic_weight: how often one comes for one time that a real one does; "auto": see `choose_synthetic_weight`.
        is_informed: it is for heads that have what the models know.
    """
    weight, choice = synthetic_weight, list[dict[str, float]]()
    if weight == AUTO:
        sets = ((task.train, task.targets), (task.valid, task.valid_targets))
        train, valid = ((beside(features, BOTH), targets) for features, targets in sets)
        known = [expert.logits(task.valid) for expert in knowledge(task)] if is_informed else []
        weight, choice = choose_synthetic_weight(train, valid, synthetic, task.multi_label, known=known)
    rates = draw_rates(synthetic, float(weight))
    kept = rates > 0
    training = np.concatenate([kept, np.ones(len(task.valid_targets), bool)])
    weighed = replace(
        task,
        train={kind: x[kept] for kind, x in task.train.items()},
        targets=task.targets[kept],
        rates=rates[kept],
        sources=renumbered(task.sources, kept),
        groups=None if task.groups is None else task.groups[training],
    )
    return Weighed(weighed, float(weight), choice)


def renumbered(sources: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The sources [N] of the clips that are kept, by their new rows; -1 for one that is not."""
    rows = np.where(kept, np.cumsum(kept) - 1, -1)
    return np.where(sources < 0, -1, rows[sources])[kept]


def sources_of(table: pd.DataFrame) -> np.ndarray:
    """The row that each clip of a manifest was made from [N]: a real one's own, -1 where the manifest has it not."""
    rows = {path: row for row, path in enumerate(table[PATH])}
    made = is_synthetic(table)
    names = table[SOURCE] if SOURCE in table.columns else table[PATH]
    return np.array([rows.get(name, -1) if made[row] else row for row, name in enumerate(names)])
