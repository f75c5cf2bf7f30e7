"""Small tasks for heads, their clips clouds of points around a centre for each label."""

from __future__ import annotations

import numpy as np

from synthio.classification.heads import Task
from synthio.classification.weighting import draw_rates

SIZES = {"ast": 6, "clap": 5}
CLASSES = 3
NAMES = 5  # of AST's own head; the first three are the labels'


def unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def centres(kind: str) -> np.ndarray:
    """A point for each label [C, E]."""
    return 1.5 * np.random.default_rng(len(kind)).normal(size=(CLASSES, SIZES[kind]))


def draw_targets(clips: int, multi_label: bool, rng) -> np.ndarray:
    """0/1 float32 [N, C]: the labels in turn, of multi-label data at times another one besides."""
    targets = np.eye(CLASSES, dtype=np.float32)[np.arange(clips) % CLASSES]
    return np.maximum(targets, rng.random(targets.shape) < 0.25).astype(np.float32) if multi_label else targets


def hear(targets: np.ndarray, rng, noise: float = 1.8, own_head: bool = True) -> dict[str, np.ndarray]:
    """What an AST with its own head and a CLAP make of clips."""
    x = {kind: targets @ centres(kind) + noise * rng.normal(size=(len(targets), size)) for kind, size in SIZES.items()}
    found = {"ast": (5 + 3 * x["ast"]).astype(np.float32), "clap": unit(x["clap"])}
    if own_head:
        found["ast_logits"] = np.zeros((len(targets), NAMES), np.float32)
        found["ast_logits"][:, :CLASSES] = 2 * targets + noise * rng.normal(size=targets.shape)
    return found


def make_task(
    multi_label: bool = False,
    clips: int = 18,
    valid: int = 24,
    synthetic: int = 0,
    seed: int = 0,
    own_head: bool = True,
    weight: float = 0.5,
) -> Task:
    """`clips` real training clips, then `synthetic` ones of that weight, each made from one of the real in turn."""
    rng = np.random.default_rng(seed)
    real = draw_targets(clips, multi_label, rng)
    made_from = np.arange(synthetic) % max(clips, 1)
    targets = np.concatenate([real, real[made_from]])
    valid_targets = draw_targets(valid, multi_label, rng)
    is_synthetic = np.arange(clips + synthetic) >= clips
    return Task(
        train=hear(targets, rng, own_head=own_head),
        valid=hear(valid_targets, rng, own_head=own_head),
        targets=targets,
        valid_targets=valid_targets,
        rates=draw_rates(is_synthetic, weight),
        sources=np.concatenate([np.arange(clips), made_from]),
        members=np.eye(CLASSES, NAMES, dtype=bool) if own_head else None,
        texts=unit(centres("clap")),
        scale=10.0,
        multi_label=multi_label,
        seed=seed,
    )
