"""Linear probe: logistic regression (scikit-learn) on the embeddings of a frozen model.

    probe, best, history = choose_probe((x, targets), (valid_x, valid_targets), multi_label=False)
    probe.logits(x)  # softmax or sigmoid makes them probabilities
    chances, labels = probe_probabilities(folder, ["clip.wav"], cache_folder="embeddings")  # of a saved one

Inputs are standardised by the training clips; in the result that is folded into weight and bias.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from synthio.cli import UserError

KIND = "linear probe"  # in config.json
C_GRID = tuple(10.0**power for power in range(-5, 3))  # inverse strengths of the L2 penalty
# For a few clips, where validation clips are too few to choose it: they may choose next to no penalty, and from an AST
# head that fits every training clip nothing more is learnt. On 24 splits as good as any choice (docs/results).
FEW_CLIPS_C = 0.03
MAX_ITERATIONS = 2000
CERTAIN = 30.0  # logit of a class that every training clip has; its negative, of one that none has


@dataclass(frozen=True)
class LinearProbe:
    """weight float32 [C, E] and bias float32 [C]."""

    weight: np.ndarray
    bias: np.ndarray

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Embeddings [N, E] -> float64 [N, C]."""
        return x.astype(np.float64) @ self.weight.T.astype(np.float64) + self.bias

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

    scaler = StandardScaler().fit(x)
    z = scaler.transform(x)
    weight, bias = np.zeros((targets.shape[1], x.shape[1])), np.full(targets.shape[1], -CERTAIN)
    if multi_label:
        for column, truth in enumerate(targets.T):
            if truth.all():
                bias[column] = CERTAIN
            elif truth.any():
                rows, offsets = _regression(z, truth, c, weights)
                weight[column], bias[column] = rows[1], offsets[1]
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


def choose_probe(
    train: tuple[np.ndarray, np.ndarray],
    valid: tuple[np.ndarray, np.ndarray],
    multi_label: bool,
    weights: np.ndarray | None = None,
) -> tuple[LinearProbe, dict[str, float], list[dict[str, float]]]:
    """The probe whose penalty does best on the validation clips; it is fitted to the training clips alone.

    Best is the lowest validation loss, then the strongest penalty. On few clips the score says less: on ESC-10 and the
    demo it chose a probe that is up to a point worse (50 and 100 training clips, 80 and 100 validation clips).

    Args:
        train: embeddings [N, E] and targets 0/1 [N, C].
        valid: the same of the validation clips.
        multi_label: clips may have several labels.
        weights: of the training clips in the loss [N]; None: all the same.

    Returns:
        (probe, its row of the history, history: C, train_loss, valid_loss and valid_score of each penalty).

    Raises:
        UserError: all training clips have one label.
    """
    history, probes = [], []
    for c in C_GRID:
        probes.append(fit_probe(*train, c, multi_label, weights))
        train_loss, _ = evaluate_probe(probes[-1], *train, multi_label)
        valid_loss, score = evaluate_probe(probes[-1], *valid, multi_label)
        history.append({"C": c, "train_loss": train_loss, "valid_loss": valid_loss, "valid_score": score})
    best = min(range(len(history)), key=lambda i: history[i]["valid_loss"])
    return probes[best], history[best], history


def evaluate_probe(probe: LinearProbe, x: np.ndarray, targets: np.ndarray, multi_label: bool) -> tuple[float, float]:
    """(loss, score), as for AST."""
    import torch

    from synthio.classifier import loss_of, score_of

    logits, truth = torch.from_numpy(probe.logits(x)), torch.from_numpy(targets).double()
    return float(loss_of(logits, truth, multi_label)), score_of(logits, truth, multi_label)


def save_probe(probe: LinearProbe, folder: Path, config: dict[str, Any]) -> None:
    """model.safetensors (weight, bias) and config.json."""
    from safetensors.numpy import save_file

    from synthio.files import atomic_path, write_json

    with atomic_path(folder / "model.safetensors") as temporary:
        save_file({"weight": probe.weight, "bias": probe.bias}, temporary)
    write_json(folder / "config.json", config)


def is_probe(folder: str | Path) -> bool:
    """Whether `save_probe` wrote the folder."""
    from synthio.files import read_json

    config = Path(folder) / "config.json"
    return config.is_file() and read_json(config).get("kind") == KIND


def load_probe(folder: str | Path) -> tuple[LinearProbe, dict[str, Any]]:
    """What `save_probe` wrote.

    Raises:
        UserError: the folder holds no linear probe.
    """
    from safetensors.numpy import load_file

    from synthio.files import read_json

    if not is_probe(folder):
        raise UserError(f"{folder}: no linear probe (its config.json does not say so); give a model/ of ast/probe.py")
    weights = load_file(Path(folder) / "model.safetensors")
    return LinearProbe(weights["weight"], weights["bias"]), read_json(Path(folder) / "config.json")


def make_embed(
    models: Sequence[tuple[str, str]], cache_folder: str | Path, device: str, batch_size: int = 16
) -> Callable[[Sequence[str], str | Path], np.ndarray]:
    """A function from (paths, where they come from) to the embeddings float32 [N, E], those of all models side by side.

    Args:
        models: (kind, model) of each, kind being clap or ast.
        cache_folder: keeps embeddings by content.
        device: torch device.
        batch_size: clips embedded at once.
    """
    from synthio.embeddings import EmbeddingCache, embed_clips
    from synthio.models import load_scorer
    from synthio.models.ast_model import AstEmbedder

    load = {"clap": load_scorer, "ast": AstEmbedder}
    sources = [
        (EmbeddingCache(cache_folder, kind, model), partial(load[kind], model, device=device)) for kind, model in models
    ]

    def embed(paths: Sequence[str], csv: str | Path) -> np.ndarray:
        parts = [embed_clips(cache, loader, paths, csv, batch_size) for cache, loader in sources]
        return np.concatenate(parts, axis=1)

    return embed


def probe_probabilities(
    folder: str | Path,
    paths: Sequence[str],
    cache_folder: str | Path,
    csv: str | Path = "the clips",
    models: Mapping[str, str] | None = None,
    device: str = "cpu",
) -> tuple[np.ndarray, list[str]]:
    """(probabilities float64 [N, C], labels) of clips by a saved probe.

    Args:
        folder: the model/ of ast/probe.py.
        paths: sound files.
        cache_folder: keeps embeddings by content.
        csv: where the paths come from, for messages.
        models: kind -> where that model is now, if it was moved.
        device: torch device.

    Raises:
        UserError: no probe there; a model is not the one it was trained with; a clip cannot be read.
    """
    import torch

    from synthio.classifier import probabilities
    from synthio.files import fingerprint

    probe, config = load_probe(folder)
    sources = []
    for part in config["embeddings"]:
        model = (models or {}).get(part["kind"], part["model"])
        if fingerprint(model) != part["sha256"]:
            raise UserError(f"{folder}: its {part['kind']} model is not at {model} (any more); say where it is")
        sources.append((part["kind"], model))
    x = make_embed(sources, cache_folder, device)(paths, csv)
    return probabilities(torch.from_numpy(probe.logits(x)), config["multi_label"]), config["labels"]
