"""How much the clips of a training set count: synthetic against real ones, and class against class.

weight, history = choose_synthetic_weight((x, y), (valid_x, valid_y), is_synthetic, multi_label=False)
weights = class_weights(y, draw_rates(is_synthetic, weight))
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synthio.cli import UserError

# What the synthetic clips together may count for 1 of the real ones together. At all sizes of the training set and any
# number of synthetic clips a total does about the same (docs/results).
TOTALS = (0.1, 0.2, 0.4, 0.8, 1.6)

LEAST_GAIN = 1e-3  # nats; what is less may be the solver's


def draw_rates(is_synthetic: np.ndarray, synthetic_weight: float) -> np.ndarray:
    """How often each training clip comes, float64 [N]: a synthetic one `synthetic_weight` times as often as a real one.

    A synthetic clip that counts less comes less often, at the full loss: weighted in the loss instead, it would take
    its whole place in the batch, and the few real ones would be seen in fewer steps, each with a large weight.

    The sum is the number of the real clips (of all, if none is real). A linear probe then has the same penalty for
    each real clip with few and with many synthetic ones. With a sum that grows, `choose_synthetic_weight` takes a
    weaker penalty, which alone lowers the loss, for the merit of the synthetic clips (docs/results).

    Raises:
        UserError: no clip would come.
    """
    rates = np.where(is_synthetic, synthetic_weight, 1.0)
    if not rates.any():
        raise UserError("--synthetic_weight 0 leaves no training clip, for all are synthetic; raise it")
    return rates * ((~is_synthetic).sum() or len(rates)) / rates.sum()


def class_weights(targets: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Weights in the loss, float32 [N], that give each class the same sum over the clips as they come; mean 1 there.

    A clip of several labels has the mean of theirs.

    Args:
        targets: 0/1 [N, C].
        rates: how often each clip comes [N].
    """
    counts = rates @ targets
    inverse = np.divide(1.0, counts, out=np.zeros(len(counts)), where=counts > 0)
    weights = (targets @ inverse) / np.maximum(targets.sum(axis=1), 1)
    return (weights * rates.sum() / (weights @ rates)).astype(np.float32)


def choose_synthetic_weight(
    train: tuple[np.ndarray, np.ndarray],
    valid: tuple[np.ndarray, np.ndarray],
    is_synthetic: np.ndarray,
    multi_label: bool,
    equal_classes: bool = False,
    known: Sequence[np.ndarray] = (),
) -> tuple[float, list[dict[str, float]]]:
    """The weight of a synthetic clip with which a linear probe has the lowest loss on the validation clips, or 0.

    Clips of sounds that the generator knows are worth much, those of others do harm. Which it is shows on the
    validation clips, and in the loss sooner than in the accuracy. They count at all only where the loss is lower than
    without them by more than its standard error over the validation clips: a lower one than that is chance.

    A classifier that also has what the pretrained models know gains less from them, for the generator knows the same
    sounds as they do. Give what they say as `known`, and the losses are those of the probe and them together.

    Args:
        train: embeddings [N, E] and targets 0/1 [N, C].
        valid: the same of the validation clips.
        is_synthetic: bool [N], of the training clips.
        multi_label: clips may have several labels.
        equal_classes: the classes get `class_weights`.
        known: logits of the validation clips by what no training clip has a part in, each [V, C].

    Returns:
        (weight: one of `TOTALS` shared out among the synthetic clips, or 0; history: synthetic_weight, train_loss,
        valid_loss and valid_score of each). Where all clips are of one kind there is no choice: 1 and an empty history.

    Raises:
        UserError: all training clips have one label.
    """
    from threadpoolctl import threadpool_limits

    from synthio.classification.metrics import accuracy, mean_average_precision
    from synthio.classification.pool import fit_weights
    from synthio.classification.probe import FEW_CLIPS_C, fit_probe, surprise

    synthetic = int(is_synthetic.sum())
    if synthetic in (0, len(is_synthetic)):
        return 1.0, []
    history, losses = [], []
    score = mean_average_precision if multi_label else accuracy
    for total in (0.0, *TOTALS):
        weight = total * (len(is_synthetic) - synthetic) / synthetic
        rates = draw_rates(is_synthetic, weight)
        weights = rates * class_weights(train[1], rates) if equal_classes else rates
        with threadpool_limits(1):
            probe = fit_probe(*train, FEW_CLIPS_C, multi_label, weights)
        train_loss = float(surprise(probe.logits(train[0]), train[1], multi_label).mean())
        logits = probe.logits(valid[0])
        if known:
            shares, offset = fit_weights([logits, *known], valid[1], multi_label)
            logits = np.tensordot(shares, np.stack([logits, *known]), axes=1) + offset
        losses.append(surprise(logits, valid[1], multi_label))
        row = {"train_loss": train_loss, "valid_loss": float(losses[-1].mean()), "valid_score": score(valid[1], logits)}
        history.append({"synthetic_weight": weight, **row})
    best = min(range(1, len(history)), key=lambda i: history[i]["valid_loss"])
    return history[best]["synthetic_weight"] if is_lower(losses[best], losses[0]) else 0.0, history


def is_lower(losses: np.ndarray, others: np.ndarray) -> bool:
    """Whether losses [N] are lower than others of the same clips by more than the standard error of the difference."""
    gains = others - losses
    return len(gains) > 1 and bool(gains.mean() > max(LEAST_GAIN, gains.std(ddof=1) / np.sqrt(len(gains))))


def describe_choice(weight: float, history: Sequence[dict[str, float]]) -> str:
    """A line for the user: what was chosen, and the losses that chose it."""
    losses = ", ".join(f"{row['synthetic_weight']:.3g}: {row['valid_loss']:.3f}" for row in history)
    return (
        f"synthetic_weight auto: a synthetic clip comes {weight:.3g} times as often as a real one "
        f"(validation loss by weight: {losses})"
    )
