"""A classifier of one or several experts: their logits, weighed so that validation clips find it least surprising.

    pool = fit_pool(experts, valid_features, valid_targets, multi_label=False)
    pool.logits(features)  # softmax or sigmoid makes them calibrated probabilities

Single-label data: a logarithmic opinion pool, log p = sum of w_k log p_k + constant (Genest & Zidek 1986). Of one
expert that is temperature scaling with w = 1 / T (Guo et al. 2017). Multi-label data: the logits of a label are
sum of w_k z_k + b, for one expert Platt scaling with one slope and offset for all labels.

Weights are never negative, and few: an expert that knows nothing of the labels gets next to none, so pooling does no
harm, which a fixed weight does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from synthio.classification.experts import FORMS, Expert, Features
from synthio.classification.probe import surprise
from synthio.cli import UserError

KIND = "pool of experts"  # in config.json
TEMPERATURE_LIMITS = (1e-3, 1e3)
WEIGHT_DEVIATION = 1.0  # of the prior of the weights, around equal shares
OFFSET_LIMIT = 30.0


@dataclass(frozen=True)
class Pool:
    """Experts and what each counts.

    Attributes:
        experts: K of them.
        weights: [K], not negative; each is a share divided by the expert's own temperature.
        offset: added to every logit of multi-label data.
        multi_label: how the logits of the experts are joined.
    """

    experts: Sequence[Expert]
    weights: np.ndarray = field(default_factory=lambda: np.ones(1))
    offset: float = 0.0
    multi_label: bool = False

    @property
    def kinds(self) -> set[str]:
        """The embeddings that its experts read."""
        return {kind for expert in self.experts for kind in expert.kinds}

    @property
    def temperature(self) -> float | None:
        """What the logits of a single expert were divided by."""
        return float(1 / self.weights[0]) if len(self.experts) == 1 else None

    def uncalibrated(self) -> Pool:
        """The same experts in equal parts, their logits as they are."""
        return replace(self, weights=np.full(len(self.experts), 1 / len(self.experts)), offset=0.0)

    def logits(self, features: Features) -> np.ndarray:
        """Float64 [N, C]."""
        parts = [opinion(expert.logits(features), self.multi_label) for expert in self.experts]
        return np.tensordot(self.weights, np.stack(parts), axes=1) + self.offset


def opinion(logits: np.ndarray, multi_label: bool) -> np.ndarray:
    """Logits [N, C] as the pool adds them: log probabilities, of multi-label data the logits themselves."""
    from scipy.special import log_softmax

    return logits if multi_label else log_softmax(logits, axis=1)


def fit_temperature(logits: np.ndarray, targets: np.ndarray, multi_label: bool) -> tuple[float, float]:
    """(temperature T, offset b) with which logits / T + b have the least cross-entropy; b is 0 for single-label data.

    Args:
        logits: of clips that the classifier was not fitted to [N, C].
        targets: 0/1 [N, C].
        multi_label: sigmoid, not softmax.
    """
    from scipy.optimize import minimize

    def objective(x: np.ndarray) -> float:
        scaled = np.exp(-x[0]) * logits + (x[1] if multi_label else 0.0)
        # a prior of one clip: where all are right, no temperature is low enough
        return float(surprise(scaled, targets, multi_label).mean() + x[0] ** 2 / (8 * len(logits)))

    limits = [tuple(np.log(TEMPERATURE_LIMITS)), (-OFFSET_LIMIT, OFFSET_LIMIT)]
    start = np.array([np.log(max(logits.std(), 1e-6)), 0.0])[: 1 + multi_label]
    start = np.clip(start, *np.array(limits[: len(start)]).T)
    found = minimize(objective, start, method="L-BFGS-B", bounds=limits[: len(start)])
    return float(np.exp(found.x[0])), float(found.x[1]) if multi_label else 0.0


def fit_pool(experts: Sequence[Expert], features: Features, targets: np.ndarray, multi_label: bool) -> Pool:
    """Weigh experts by clips that none of them was fitted to.

    Args:
        experts: K of them.
        features: embeddings of the validation clips.
        targets: 0/1 [N, C].
        multi_label: clips may have several labels.
    """
    logits = [expert.logits(features) for expert in experts]
    weights, offset = fit_weights(logits, targets, multi_label)
    return Pool(experts, weights, offset, multi_label)


def fit_weights(logits: Sequence[np.ndarray], targets: np.ndarray, multi_label: bool) -> tuple[np.ndarray, float]:
    """(weights [K], offset) of experts by their logits, each [N, C], on the same clips.

    Each expert is given its temperature, then the weights are those of the highest posterior: normal around 1 / K.
    """
    from scipy.optimize import minimize

    scales = [fit_temperature(one, targets, multi_label) for one in logits]
    parts = np.stack([opinion(one / t + b, multi_label) for one, (t, b) in zip(logits, scales, strict=True)])
    temperatures, offsets = (np.array(column) for column in zip(*scales, strict=True))
    if len(logits) == 1:
        return 1 / temperatures, float(offsets[0])
    share = 1 / len(logits)

    def objective(w: np.ndarray) -> float:
        loss = surprise(np.tensordot(w, parts, axes=1), targets, multi_label)
        return float(loss.mean() + ((w - share) ** 2).sum() / (2 * WEIGHT_DEVIATION**2 * len(targets)))

    found = minimize(objective, np.full(len(logits), share), method="L-BFGS-B", bounds=[(0, None)] * len(logits)).x
    return found / temperatures, float(found @ offsets)


def save_pool(pool: Pool, folder: Path, config: dict[str, Any]) -> None:
    """model.safetensors and config.json; `config` says labels, models and the like."""
    from safetensors.numpy import save_file

    from synthio.files import atomic_path, write_json

    tensors = {
        f"{i}.{name}": np.ascontiguousarray(a) for i, e in enumerate(pool.experts) for name, a in e.arrays().items()
    }
    parts = [
        {"form": expert.form, "weight": float(weight), **expert.settings()}
        for expert, weight in zip(pool.experts, pool.weights, strict=True)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "model.safetensors") as temporary:
        save_file(tensors, temporary)
    settings = {"kind": KIND, "multi_label": pool.multi_label, "offset": pool.offset, "experts": parts}
    write_json(folder / "config.json", settings | config)


def is_pool(folder: str | Path) -> bool:
    """Whether `save_pool` wrote the folder."""
    from synthio.files import read_object

    config = Path(folder) / "config.json"
    return config.is_file() and read_object(config).get("kind") == KIND


def load_pool(folder: str | Path) -> tuple[Pool, dict[str, Any]]:
    """What `save_pool` wrote: (pool, config).

    Raises:
        UserError: the folder holds no such model.
    """
    from safetensors.numpy import load_file

    from synthio.files import read_object
    from synthio.models.strict import refusing

    if not is_pool(folder):
        raise UserError(f"{folder}: no classifier of ast/heads.py (its config.json does not say so); give its model/")
    with refusing("classifier", folder):
        tensors, config = load_file(Path(folder) / "model.safetensors"), read_object(Path(folder) / "config.json")
        experts, weights = [], []
        for i, part in enumerate(config["experts"]):
            own = {name.split(".", 1)[1]: array for name, array in tensors.items() if name.startswith(f"{i}.")}
            settings = {name: value for name, value in part.items() if name not in ("form", "weight")}
            experts.append(FORMS[part["form"]].restored(own, settings))
            weights.append(part["weight"])
        return Pool(experts, np.array(weights, float), config["offset"], config["multi_label"]), config
