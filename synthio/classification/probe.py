"""Linear probe: logistic regression (scikit-learn) on the embeddings of a frozen model.

    probe = fit_probe(x, targets, c, multi_label=False)
    probe.logits(x)  # softmax or sigmoid makes them probabilities

Inputs are standardised by the training clips; in the result that is folded into weight and bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthio.cli import UserError

C_GRID = tuple(10.0**power for power in range(-5, 3))  # inverse strengths of the L2 penalty
# For a few clips, where validation clips are too few to choose it: they may choose next to no penalty, and from an AST
# head that fits every training clip nothing more is learnt. On 24 splits as good as any choice (docs/results).
FEW_CLIPS_C = 0.03
MAX_ITERATIONS = 2000
TOLERANCE = 1e-4  # of the gradient, as scikit-learn's
CERTAIN = 30.0  # logit of a class that every training clip has; its negative, of one that none has


@dataclass(frozen=True)
class LinearProbe:
    """weight float32 [C, E] and bias float32 [C]."""

    weight: np.ndarray
    bias: np.ndarray

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Embeddings [N, E] -> float64 [N, C]."""
        return x.astype(np.float64) @ self.weight.T.astype(np.float64) + self.bias

    def chances(self, x: np.ndarray, multi_label: bool) -> np.ndarray:
        """Embeddings [N, E] -> probabilities, float64 [N, C]."""
        from scipy.special import expit, softmax

        logits = self.logits(x)
        return expit(logits) if multi_label else softmax(logits, axis=1)

    @classmethod
    def summed(
        cls, probes: Sequence[LinearProbe], shares: Sequence[float] | np.ndarray, offset: float = 0.0
    ) -> LinearProbe:
        """The probe whose logits are the sum of those of others, each times its share, and an offset."""
        pairs = list(zip(shares, probes, strict=True))
        weight, bias = sum(s * p.weight for s, p in pairs), sum(s * p.bias for s, p in pairs) + offset
        return cls(np.asarray(weight, np.float32), np.asarray(bias, np.float32))

    @classmethod
    def unscaled(cls, weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> LinearProbe:
        """From weights for (x - mean) / scale to weights for x."""
        weight = weight / scale
        return cls(weight.astype(np.float32), (bias - weight @ mean).astype(np.float32))


def fit_probe(
    x: np.ndarray, targets: np.ndarray, c: float, multi_label: bool, weights: np.ndarray | None = None
) -> LinearProbe:
    """Softmax regression, or one regression for each class against the rest.

    A class that no training clip has (or, for multi-label data, every one) gets a constant logit.

    Args:
        x: embeddings [N, E].
        targets: 0/1 [N, C].
        c: inverse strength of the L2 penalty.
        multi_label: clips may have several labels.
        weights: of the clips in the loss [N]; None: all the same.

    Raises:
        UserError: all training clips have one label.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(x, sample_weight=weights)
    z = scaler.transform(x)
    weight, bias = np.zeros((targets.shape[1], x.shape[1])), np.full(targets.shape[1], -CERTAIN)
    if multi_label:
        bias[targets.all(axis=0)] = CERTAIN
        some = targets.any(axis=0) & ~targets.all(axis=0)
        weight[some], bias[some] = _regressions(z, targets[:, some], c, weights)
    else:
        seen = np.flatnonzero(targets.any(axis=0))
        if len(seen) < 2:
            raise UserError("all training clips have the same label; a linear probe needs clips of at least 2")
        weight[seen], bias[seen] = _regression(z, targets.argmax(axis=1), c, weights)
    return LinearProbe.unscaled(weight, bias, scaler.mean_, scaler.scale_)


def _regression(
    z: np.ndarray, classes: np.ndarray, c: float, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Weights [K, E] and biases [K] of the K classes that occur, in their order; of two, the first has zeros."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=c, max_iter=MAX_ITERATIONS).fit(z, classes, sample_weight=weights)
    if len(model.classes_) == 2:
        return np.vstack([0 * model.coef_, model.coef_]), np.append(0.0, model.intercept_)
    return model.coef_, model.intercept_


def _regressions(
    z: np.ndarray, targets: np.ndarray, c: float, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Weights [K, E] and biases [K] of K labels, each against the rest: scikit-learn's problem, all labels at once.

    One label after the other, 200 of them take ten times as long.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    rows = np.ones(len(z)) if weights is None else weights
    signs, (labels, size) = 2.0 * targets - 1, (targets.shape[1], z.shape[1])
    total = c * rows.sum()
    scale = 1 / np.sqrt(0.25 + 1 / total)  # about one curvature for weights and biases, however strong the penalty

    def parts(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return scale * flat[: labels * size].reshape(labels, size), flat[labels * size :]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = parts(flat)
        margins = signs * (z @ weight.T + bias)
        value = c * float(rows @ np.logaddexp(0, -margins).sum(axis=1)) + 0.5 * float((weight**2).sum())
        slopes = -c * rows[:, None] * signs * expit(-margins)
        gradient = np.concatenate([scale * (slopes.T @ z + weight).ravel(), slopes.sum(axis=0)])
        return value / total, gradient / total

    share = rows @ targets / rows.sum()
    start = np.concatenate([np.zeros(labels * size), np.log(share / (1 - share))])  # the best without any weight
    options = {
        "maxiter": MAX_ITERATIONS,
        "maxfun": 2 * MAX_ITERATIONS,
        "gtol": TOLERANCE,
        "ftol": 64 * np.finfo(float).eps,
    }
    return parts(minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x)


def surprise(logits: np.ndarray, targets: np.ndarray, multi_label: bool) -> np.ndarray:
    """Cross-entropy of each clip, float64 [N]; of multi-label data the mean over its labels (binary)."""
    from scipy.special import log_softmax

    if multi_label:
        return (np.logaddexp(0, logits) - targets * logits).mean(axis=1)
    return -(targets * log_softmax(logits, axis=1)).sum(axis=1)
