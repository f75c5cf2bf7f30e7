"""Optimiser and learning rates of the classifier: ours for a few clips, and those of AST's own recipe.

AST's recipe for ESC-50, which the paper takes, is Adam, whose weight decay is a part of the gradient, and a rate that
is constant for five epochs and then falls by 15 % after each.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from synthio.classification.options import Recipe
from synthio.training.loop import learning_rate_factor

BETAS = (0.95, 0.999)  # AST's
CONSTANT_EPOCHS, DECAY = 5, 0.85  # of AST's recipe for ESC-50


def make_optimizer(parameters: Iterable[torch.nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """The optimiser that the recipe names."""
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[recipe.optimizer]
    return kind(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=BETAS)


def rate_at(step: int, clips: int, recipe: Recipe) -> float:
    """The learning rate of a step (from 0) on so many training clips."""
    if recipe.schedule == "cosine":
        return recipe.learning_rate * learning_rate_factor(step, recipe.num_steps, recipe.warmup_fraction)
    epochs = step * recipe.batch_size // clips  # that are over
    return recipe.learning_rate * DECAY ** max(0, epochs - CONSTANT_EPOCHS + 1)
