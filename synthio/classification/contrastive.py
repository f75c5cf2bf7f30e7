"""Supervised contrastive learning in two stages, as its paper has it (Khosla et al. 2020, section 3.2).

The contrastive loss alone trains the body; then cross-entropy alone trains body and head.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from synthio.batching import Halving
from synthio.classification.optimisation import make_optimizer
from synthio.classification.options import Recipe
from synthio.classification.supcon import SupConAst
from synthio.classification.training import Split, train_step
from synthio.training import loop
from synthio.training.loop import Checkpoint, Parts, State
from synthio.training.processes import ALONE, Processes


def first_stage(
    model: SupConAst,
    train: Split,
    recipe: Recipe,
    device: str,
    checkpoint: Checkpoint,
    processes: Processes = ALONE,
) -> Recipe:
    """Train by the contrastive loss for the recipe's `supcon_epochs`.

    Args:
        model: on `device`; the head of its AST stays as it is.
        train: training clips.
        recipe: of the whole training.
        device: torch device.
        checkpoint: written on the way, and gone on from; when it is at the end, nothing is done.
        processes: that train together.

    Returns:
        The recipe of the second stage.

    Raises:
        UserError: the loss is not finite.
    """
    num_steps = recipe.steps_of(recipe.supcon_epochs, len(train.features))
    alone = replace(recipe, num_steps=num_steps, cross_entropy=False)
    optimizer = make_optimizer(model.parameters(), recipe)
    state = State()
    parts: Parts = {"model": model, "optimizer": optimizer}
    checkpoint.load(state, parts)
    size = Halving(recipe.batch_size)

    def take_step(step: int) -> float:
        return train_step(model, optimizer, train, step, alone, device, size, processes)

    with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        every = max(1, num_steps // 20)
        loop.train(state, parts, checkpoint, num_steps, every, take_step, what="contrastive steps", processes=processes)
    return replace(recipe, supcon_weight=0.0)
