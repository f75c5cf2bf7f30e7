"""What clips are worth to a head, measured by leaving gold clips out: with and without more of them.

    trial = measure(task, made, ["fusion", "probe"], synthetic_weight="auto", draws=3)
    trial.gain        # [D, P]: how much surer the true label of each held-out clip is with the made clips

Gold and validation clips are dealt into folds together, whole groups at a time. A fold is heard by heads that are
fitted to the gold clips of the other folds and calibrated on the validation clips of the other folds: as in a run, with
a fifth less of either. No test clip has a part in it. With and without the made clips, folds and draws are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from synthio.classification.centring import centred
from synthio.classification.experts import Features
from synthio.classification.heads import HEADS, Task, fit_head, held_out, with_valid
from synthio.classification.pool import Pool
from synthio.classification.probe import surprise
from synthio.classification.tasks import weigh
from synthio.cli import UserError, progress

SHARES = (0.25, 0.5)  # of the gold clips of a fold: the learning curve's sizes besides all of them


@dataclass(frozen=True)
class Made:
    """Synthetic clips that no gold clip was the start of: embeddings by kind [M, E] and targets 0/1 [M, C]."""

    features: Features
    targets: np.ndarray


@dataclass(frozen=True)
class Trial:
    """What was measured; a pair is a clip and one of its labels, of the gold and then of the validation clips.

    Attributes:
        head: the one whose loss without made clips is the lowest.
        losses: cross-entropy of each head without made clips.
        clip: row of each pair's clip [P].
        label: column of its label [P].
        sizes: mean numbers of gold clips that were learnt from, the last all of a fold's [S].
        right: how often each pair was told right at each size, mean over draws [S, P].
        gain: by how much the made clips raise `sureness` of each pair [D, P].
        flips: by how much they raise `told_right` [D, P].
        weights: what a made clip counted in each fold [D * F].
    """

    head: str
    losses: dict[str, float]
    clip: np.ndarray
    label: np.ndarray
    sizes: np.ndarray
    right: np.ndarray
    gain: np.ndarray
    flips: np.ndarray
    weights: np.ndarray


def told_right(logits: np.ndarray, targets: np.ndarray, multi_label: bool) -> np.ndarray:
    """0/1 [N, C], where targets are 1: whether the true label is the first.

    Of multi-label data it is the share of the clips without a label that have a lower logit of it: their mean is the
    area under the curve of the label.
    """
    if not multi_label:
        return targets * (logits.argmax(axis=1) == targets.argmax(axis=1))[:, None]
    out = np.zeros(targets.shape)
    for column in np.flatnonzero(targets.any(axis=0) & ~targets.all(axis=0)):
        has = targets[:, column] > 0
        mine, others = logits[has, column][:, None], logits[~has, column]
        out[has, column] = (mine > others).mean(axis=1) + (mine == others).mean(axis=1) / 2
    return out


def sureness(logits: np.ndarray, targets: np.ndarray, multi_label: bool) -> np.ndarray:
    """The same without the step: the chance of the true label against its strongest rival [N, C].

    The head is calibrated, so that this has the mean of `told_right` over clips, but clips near the border do not count
    as all or nothing: with as few clips as there are, differences are less a matter of chance.
    """
    from scipy.special import expit

    if multi_label:
        return told_right(logits, targets, multi_label)
    true = targets.argmax(axis=1)[:, None]
    rival = logits.copy()
    np.put_along_axis(rival, true, -np.inf, axis=1)
    margin = np.take_along_axis(logits, true, axis=1)[:, 0] - rival.max(axis=1)
    return targets * expit(margin)[:, None]


def with_made(task: Task, made: Made, synthetic_weight: float | str, head: str) -> tuple[Task, float]:
    """(the task with made clips among its training clips, how often one comes for one time that a real one does).

    Args:
        head: by its name, what it is for.
        synthetic_weight: as for `weigh`.
    """
    targets = np.concatenate([task.targets, made.targets])
    synthetic = np.arange(len(targets)) >= len(task.targets)
    heard = {kind: np.concatenate([x, made.features[kind]]) for kind, x in task.train.items()}
    groups = task.groups
    if groups is not None:
        own = np.array([f"made {row}" for row in range(len(made.targets))])
        groups = np.concatenate([groups[: len(task.targets)], own, groups[len(task.targets) :]])
    whole = replace(
        task,
        train=centred(heard, targets, synthetic),
        targets=targets,
        sources=np.concatenate([task.sources, np.full(len(made.targets), -1)]),
        groups=groups,
    )
    weighed = weigh(whole, synthetic, synthetic_weight, HEADS[head].is_informed)
    return (weighed.task if weighed.synthetic_weight else task), weighed.synthetic_weight


@dataclass(frozen=True)
class Fold:
    """A fold of one draw; rows are those of gold and then validation clips.

    Attributes:
        draw: its number.
        held: rows of the fold.
        train, valid: rows of the gold and of the validation clips that are not in it.
    """

    draw: int
    held: np.ndarray
    train: np.ndarray
    valid: np.ndarray


def folds_of(task: Task, draws: int) -> list[Fold]:
    """The folds of all draws: gold and validation clips together, whole groups at a time.

    Raises:
        UserError: without a fold there are gold clips of one label alone, or no validation clip.
    """
    targets, gold = with_valid(task).targets, len(task.targets)
    folds = []
    for draw in range(draws):
        for held in held_out(targets, task.groups, task.seed + draw):
            rest = np.setdiff1d(np.arange(len(targets)), held)
            fold = Fold(draw, held, rest[rest < gold], rest[rest >= gold])
            if targets[fold.train].any(axis=0).sum() < 2 or not len(fold.valid):
                raise UserError(
                    "too few gold or validation clips to leave a fifth of them out: gold clips of two labels and a "
                    "validation clip must be left; give more clips, or more groups (recordings, speakers)"
                )
            folds.append(fold)
    return folds


def task_of_rows(task: Task, united: Task, train: np.ndarray, valid: np.ndarray) -> Task:
    """The task that learns from some rows of gold and validation clips and is calibrated on others."""
    return replace(
        task,
        train=rows_of(united.train, train),
        valid=rows_of(united.train, valid),
        targets=united.targets[train],
        valid_targets=united.targets[valid],
        rates=np.ones(len(train)),
        sources=np.arange(len(train)),
        groups=None if task.groups is None else task.groups[np.concatenate([train, valid])],
    )


def rows_of(features: Features, which: np.ndarray) -> Features:
    """The embeddings of some clips."""
    return {kind: x[which] for kind, x in features.items()}


def few(rows: np.ndarray, targets: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A share of the rows, sorted: the classes in turn, so that each has one at least."""
    classes, shuffled = targets[rows].argmax(axis=1), rng.permutation(len(rows))
    rank = np.empty(len(rows), int)
    for one in np.unique(classes):
        mine = shuffled[classes[shuffled] == one]
        rank[mine] = np.arange(len(mine))
    wanted = max(round(share * len(rows)), len(np.unique(classes)))
    return np.sort(rows[np.argsort(rank, kind="stable")[:wanted]])


class Heard:
    """What one way of training says of clips that it left out, draw by draw.

    Attributes:
        right, sure: `told_right` and `sureness` of gold and then validation clips [D, N + V, C].
        loss: mean cross-entropy.
        clips: mean number of real training clips.
    """

    def __init__(self, united: Task, folds: Sequence[Fold]):
        self.united, self.folds = united, len(folds)
        shape = (folds[-1].draw + 1, *united.targets.shape)
        self.right, self.sure = np.zeros(shape), np.zeros(shape)
        self.loss = self.clips = 0.0

    def fit(self, head: str, task: Task, fold: Fold) -> None:
        """Fit a head to a task without a fold, and hear the fold."""
        targets, multi_label = self.united.targets[fold.held], task.multi_label
        logits = fit_head(head, task).logits(rows_of(self.united.train, fold.held))
        self.right[fold.draw, fold.held] = told_right(logits, targets, multi_label)
        self.sure[fold.draw, fold.held] = sureness(logits, targets, multi_label)
        self.loss += surprise(logits, targets, multi_label).sum() / self.right[:, :, 0].size
        self.clips += len(task.real) / self.folds


def measure(
    task: Task,
    made: Made,
    heads: Sequence[str],
    synthetic_weight: float | str,
    draws: int,
    shares: Sequence[float] = SHARES,
) -> Trial:
    """Learning curve of the best of several heads on gold clips, and what made clips add to it.

    Args:
        task: its training clips are gold alone.
        made: the clips in question.
        heads: names of `HEADS`.
        synthetic_weight: as for `weigh`.
        draws: how often the clips are dealt into folds anew.
        shares: of a fold's gold clips, for the learning curve.

    Raises:
        UserError: see `folds_of`.
    """
    united, folds = with_valid(task), folds_of(task, draws)
    alone = {head: Heard(united, folds) for head in heads}
    for fold in progress(folds, "gold clips alone: folds"):
        part = task_of_rows(task, united, fold.train, fold.valid)
        for head, heard in alone.items():
            heard.fit(head, part, fold)
    best = min(heads, key=lambda head: alone[head].loss)
    more, weights = Heard(united, folds), []
    fewer = [Heard(united, folds) for _ in shares]
    for fold in progress(folds, f"{best}, with made clips and with fewer gold ones: folds"):
        mixed, weight = with_made(task_of_rows(task, united, fold.train, fold.valid), made, synthetic_weight, best)
        more.fit(best, mixed, fold)
        weights.append(weight)
        rng = np.random.default_rng([task.seed, fold.draw])
        for heard, share in zip(fewer, shares, strict=True):
            subset = few(fold.train, united.targets, share, rng)
            heard.fit(best, task_of_rows(task, united, subset, fold.valid), fold)
    clip, label = np.nonzero(united.targets)
    curve = [*fewer, alone[best]]
    return Trial(
        head=best,
        losses={head: float(heard.loss) for head, heard in alone.items()},
        clip=clip,
        label=label,
        sizes=np.array([heard.clips for heard in curve]),
        right=np.stack([heard.right.mean(axis=0)[clip, label] for heard in curve]),
        gain=(more.sure - alone[best].sure)[:, clip, label],
        flips=(more.right - alone[best].right)[:, clip, label],
        weights=np.array(weights),
    )


def named_right(pool: Pool, made: Made) -> np.ndarray:
    """Which made clips a head that has not heard them gives one of their labels first, bool [M]."""
    first = pool.logits(made.features).argmax(axis=1)
    return made.targets[np.arange(len(first)), first] > 0
