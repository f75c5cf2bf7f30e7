"""Classifiers that are fitted in seconds to what frozen models hear: the baselines of every gain.

    pool = fit_head("fusion", task)
    pool.logits(features)  # [N, C]

Each is a `Pool` of experts, so each is calibrated, saved and read in the same way. Strengths of penalties and the like
are chosen by the loss on the validation clips. Only `gold_and_valid` is fitted to the validation clips themselves, by
cross-validation: what the labels that choose a step are worth as training clips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from synthio.classification.experts import CacheExpert, Expert, Features, LinearExpert, NamingExpert, beside
from synthio.classification.pool import Pool, fit_pool, fit_temperature, fit_weights
from synthio.classification.probe import C_GRID, CERTAIN, LinearProbe, fit_probe, surprise
from synthio.cli import UserError

BOTH = ("ast", "clap")
FOLDS = 5
# Tip-Adapter: what the training clips say beside the prompts, and how fast it fades, for the median distance of clips.
ALPHAS = (0.3, 1.0, 3.0, 10.0, 30.0)
SHARPNESS = (0.5, 1.0, 2.0, 4.0, 8.0)
KEY_STEPS, KEY_RATE, KEY_EVERY = 100, 1e-3, 10  # of its trained form


@dataclass(frozen=True, eq=False)  # the same object or another one: what was chosen for it is kept
class Task:
    """What heads are fitted to.

    Attributes:
        train, valid: embeddings by kind, [N, E] each.
        targets, valid_targets: 0/1 [N, C].
        rates: how much each training clip counts [N]; the sum is the number of real ones.
        sources: the training clip that each was made from, row numbers [N]; a real one's own, -1: not among them.
        members: which names of AST's own head mean which label, bool [C, K]; None without such a head.
        texts: unit vectors of the labels' prompts [C, E].
        scale: of CLAP's cosines.
        multi_label: clips may have several labels.
        groups: what belongs together among training and validation clips, in this order [N + V]; None: nothing does.
        seed: of the folds of cross-validation.
    """

    train: Features
    valid: Features
    targets: np.ndarray
    valid_targets: np.ndarray
    rates: np.ndarray
    sources: np.ndarray
    members: np.ndarray | None
    texts: np.ndarray
    scale: float
    multi_label: bool
    groups: np.ndarray | None = None
    seed: int = 0

    @property
    def real(self) -> np.ndarray:
        """Rows of the training clips that are not synthetic."""
        return np.flatnonzero(self.sources == np.arange(len(self.sources)))

    @property
    def names_labels(self) -> bool:
        """Whether AST's own head has names for the labels: for all of multi-label data, else for one at least."""
        if self.members is None:
            return False
        known = self.members.any(axis=1)
        return bool(known.all() if self.multi_label else known.any())


def valid_loss(expert: Expert, task: Task) -> float:
    """Mean cross-entropy on the validation clips at the best temperature: what chooses between settings."""
    logits = expert.logits(task.valid)
    temperature, offset = fit_temperature(logits, task.valid_targets, task.multi_label)
    return float(surprise(logits / temperature + offset, task.valid_targets, task.multi_label).mean())


def nearest_mean(task: Task) -> Expert:
    """The class whose mean is nearest, on standardised embeddings; as a linear classifier, m.x - |m|^2 / 2."""
    from sklearn.preprocessing import StandardScaler

    x = beside(task.train, BOTH)
    scaler = StandardScaler().fit(x, sample_weight=task.rates)
    counts = task.rates @ task.targets
    sums = (task.targets * task.rates[:, None]).T @ scaler.transform(x)
    means = sums / np.maximum(counts, 1e-12)[:, None] / np.sqrt(x.shape[1])
    bias = np.where(counts > 0, -(means**2).sum(axis=1) / 2, -CERTAIN)
    means = means / np.sqrt(x.shape[1])
    return LinearExpert(BOTH, LinearProbe.unscaled(means, bias, scaler.mean_, scaler.scale_))


@lru_cache(maxsize=8)
def best_c(task: Task, kinds: tuple[str, ...]) -> float:
    """The penalty (inverse) of a probe on some kinds of embeddings, by the loss on the validation clips."""
    x = beside(task.train, kinds)

    def loss(c: float) -> float:
        return valid_loss(LinearExpert(kinds, fit_probe(x, task.targets, c, task.multi_label, task.rates)), task)

    return min(C_GRID, key=loss)


def probe_on(*kinds: str) -> Callable[[Task], Expert]:
    """Logistic regression on some kinds of embeddings, its penalty chosen on the validation clips."""

    def fit(task: Task) -> Expert:
        x = beside(task.train, kinds)
        return LinearExpert(kinds, fit_probe(x, task.targets, best_c(task, kinds), task.multi_label, task.rates))

    return fit


def own_names(task: Task) -> Expert:
    assert task.members is not None, "asked for only where AST's classes have names"
    return NamingExpert(task.members)


def zero_shot(task: Task) -> Expert:
    probe = LinearProbe((task.scale * task.texts).astype(np.float32), np.zeros(len(task.texts), np.float32))
    return LinearExpert(("clap",), probe)


@lru_cache(maxsize=1)
def tip_adapter(task: Task) -> CacheExpert:
    """Training-free fusion of prompts and training clips (Zhang et al. 2022, section 3.1), both numbers searched."""
    keys, values = task.train["clap"], task.targets * task.rates[:, None]
    distance = float(np.median(1 - keys @ keys.T))
    distance = distance if distance > 1e-6 else 1.0
    tried = [
        CacheExpert(keys, values, task.texts, task.scale, alpha, sharpness / distance)
        for alpha in ALPHAS
        for sharpness in SHARPNESS
    ]
    return min(tried, key=lambda expert: valid_loss(expert, task))


def tip_adapter_f(task: Task) -> CacheExpert:
    """The same with keys that are learnt (section 3.2), as many steps as is best on the validation clips."""
    import torch

    start = tip_adapter(task)
    keys = torch.tensor(start.keys, requires_grad=True)
    x, values, texts = (torch.from_numpy(np.asarray(a, np.float32)) for a in (start.keys, start.values, start.texts))
    targets, rates = torch.from_numpy(task.targets), torch.from_numpy(task.rates).float()
    optimizer = torch.optim.AdamW([keys], lr=KEY_RATE)
    tried = [start]
    for step in range(1, KEY_STEPS + 1):
        near = torch.exp(-start.beta * (1 - x @ keys.T))
        logits = start.scale * x @ texts.T + start.alpha * near @ values
        losses = (
            torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
            if task.multi_label
            else torch.nn.functional.cross_entropy(logits, targets, reduction="none")
        )
        optimizer.zero_grad()
        (losses * rates / rates.sum()).sum().backward()
        optimizer.step()
        if step % KEY_EVERY == 0:
            tried.append(replace(start, keys=keys.detach().numpy().copy()))
    return min(tried, key=lambda expert: valid_loss(expert, task))


def knowledge(task: Task) -> list[Expert]:
    """What the models know of the labels without a training clip: the names of AST's own head, CLAP's prompts."""
    return [*([own_names(task)] if task.names_labels else ()), zero_shot(task)]


def fusion(task: Task) -> Pool:
    """What the training clips teach by each model's embeddings, and what the models know of the labels.

    The weights are those that suit the validation clips and the real training clips, each of these heard by probes that
    were fitted without it: twice the labels make them less a matter of chance.
    """
    known, real = knowledge(task), task.real
    folds = [real[fold] for fold in held_out(task.targets[real], rows_of(task.groups, real), task.seed)]
    experts: list[Expert] = []
    parts: list[np.ndarray] = []
    for kind in BOTH:
        x, c = task.train[kind], best_c(task, (kind,))
        experts.append(LinearExpert((kind,), fit_probe(x, task.targets, c, task.multi_label, task.rates)))
        outside = unheard(x, task, c, folds)[real]
        parts.append(np.concatenate([experts[-1].logits(task.valid), outside]))
    for expert in known:
        parts.append(np.concatenate([expert.logits(task.valid), expert.logits(task.train)[real]]))
    targets = np.concatenate([task.valid_targets, task.targets[real]])
    weights, offset = fit_weights(parts, targets, task.multi_label)
    return Pool([*experts, *known], weights, offset, task.multi_label)


def gold_and_valid(task: Task) -> Pool:
    """The fusion with the validation clips as training clips; penalties and weights by cross-validation."""
    united = with_valid(task)
    real, known = united.real, knowledge(task)
    folds = [real[fold] for fold in held_out(united.targets[real], rows_of(united.groups, real), task.seed)]
    experts, parts = list(known), [expert.logits(united.train)[real] for expert in known]
    for kind in BOTH:
        x = united.train[kind]
        outside = {c: unheard(x, united, c, folds)[real] for c in C_GRID}
        best = min(C_GRID, key=lambda c: surprise(outside[c], united.targets[real], task.multi_label).mean())
        experts.append(LinearExpert((kind,), fit_probe(x, united.targets, best, task.multi_label, united.rates)))
        parts.append(outside[best])
    weights, offset = fit_weights(parts, united.targets[real], task.multi_label)
    return Pool(experts, weights, offset, task.multi_label)


def with_valid(task: Task) -> Task:
    """The task whose training clips are those of both sets."""
    more = len(task.valid_targets)
    rate = task.rates[task.real].max(initial=0) or 1.0  # as much as a real training clip
    return replace(
        task,
        train={kind: np.concatenate([task.train[kind], task.valid[kind]]) for kind in task.train},
        targets=np.concatenate([task.targets, task.valid_targets]),
        rates=np.concatenate([task.rates, np.full(more, rate)]),
        sources=np.concatenate([task.sources, np.arange(len(task.sources), len(task.sources) + more)]),
    )


def unheard(x: np.ndarray, task: Task, c: float, folds: Sequence[np.ndarray]) -> np.ndarray:
    """Logits [N, C] of the clips of each fold by a probe of all others; 0 of clips in no fold.

    A synthetic clip is left out with the clip that it was made from.
    """
    out = np.zeros(task.targets.shape)
    for held in folds:
        rest = ~np.isin(task.sources, held)
        if task.targets[rest].any(axis=0).sum() > 1:
            probe = fit_probe(x[rest], task.targets[rest], c, task.multi_label, task.rates[rest])
            out[held] = probe.logits(x[held])
    return out


def rows_of(groups: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if groups is None else groups[rows]


def held_out(targets: np.ndarray, groups: np.ndarray | None, seed: int) -> list[np.ndarray]:
    """Rows of each fold of a cross-validation [N, C]: classes in even shares, groups whole."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    if len(targets) < 2:
        return []
    classes = targets.argmax(axis=1)
    if groups is None or len(np.unique(groups)) < 2:
        groups = np.arange(len(targets))
    folds = min(FOLDS, len(np.unique(groups)))
    even = np.unique(classes, return_counts=True)[1].min() >= folds
    splitter = (StratifiedGroupKFold if even else GroupKFold)(folds, shuffle=True, random_state=seed)
    return [test for _, test in splitter.split(targets, classes, groups) if len(test)]


def alone(fit: Callable[[Task], Expert]) -> Callable[[Task], Pool]:
    """A head of one expert, calibrated on the validation clips."""
    return lambda task: fit_pool([fit(task)], task.valid, task.valid_targets, task.multi_label)


@dataclass(frozen=True)
class Head:
    """A head of the table.

    Attributes:
        title: its name in print.
        fit: what makes it.
        is_trained: training clips have a part in it.
        is_informed: so has what the models know of the labels without them.
    """

    title: str
    fit: Callable[[Task], Pool]
    is_trained: bool = True
    is_informed: bool = False


HEADS: Mapping[str, Head] = {
    "nearest_mean": Head("nearest class mean, AST + CLAP", alone(nearest_mean)),
    "probe_ast": Head("logistic regression, AST", alone(probe_on("ast"))),
    "probe_clap": Head("logistic regression, CLAP", alone(probe_on("clap"))),
    "probe": Head("logistic regression, AST + CLAP", alone(probe_on(*BOTH))),
    "probe_names": Head("logistic regression, logits of AST's own head", alone(probe_on("ast_logits"))),
    "own_names": Head("AST's own head", alone(own_names), is_trained=False, is_informed=True),
    "zero_shot": Head("CLAP zero-shot, six prompts", alone(zero_shot), is_trained=False, is_informed=True),
    "tip_adapter": Head("Tip-Adapter, CLAP", alone(tip_adapter), is_informed=True),
    "tip_adapter_f": Head("Tip-Adapter-F, CLAP", alone(tip_adapter_f), is_informed=True),
    "fusion": Head("fusion (probes, own head, zero-shot)", fusion, is_informed=True),
    "gold_and_valid": Head("fusion, trained on the validation clips too", gold_and_valid, is_informed=True),
}
UNTRAINED = {name for name, head in HEADS.items() if not head.is_trained}
# of all that is trained, in the order of the table
TITLES = {"ast": "AST, fine-tuned", **{name: head.title for name, head in HEADS.items()}}


def title_of(method: str, scores: Mapping[str, Any]) -> str:
    """A method's name in print, with the network that stands in AST's place.

    Args:
        method: one of `TITLES`.
        scores: a scores.json of the run; `called` is the network's name, of which earlier versions say nothing.
    """
    return TITLES[method].replace("AST", scores.get("called", "AST"))


def fittable(task: Task) -> list[str]:
    """The heads whose models know what they need."""
    return [name for name in HEADS if not problem_with(name, task)]


def problem_with(name: str, task: Task) -> str:
    """Why a head cannot be fitted to a task; "" where it can."""
    if name not in HEADS:
        return f"there is no head '{name}'; choose among {', '.join(HEADS)}"
    if name == "own_names" and not task.names_labels:
        return "own_names needs an AST whose own head has names for the labels; choose another head"
    if name == "probe_names" and "ast_logits" not in task.train:
        return "probe_names needs an AST with a head of its own, whose classes have names; choose another head"
    return ""


def fit_head(name: str, task: Task) -> Pool:
    """A head by its name, calibrated on the validation clips.

    Raises:
        UserError: there is no such head, or its models do not know what it needs.
    """
    from threadpoolctl import threadpool_limits

    if problem := problem_with(name, task):
        raise UserError(problem)
    with threadpool_limits(1):  # matrices of a few clips: threads that wait for each other cost more than they do
        return HEADS[name].fit(task)
