"""Optimisers and learning rates of the classifier, against arithmetic and AST's recipe in torch's own classes."""

from __future__ import annotations

import pytest
import torch

from synthio.classification.optimisation import make_optimizer, rate_at
from synthio.classification.options import Recipe


def test_the_stepwise_rate_is_that_of_asts_recipe():
    """MultiStepLR with a milestone at each epoch from the fifth on; 4 steps of 12 clips are an epoch of 48."""
    recipe = Recipe(schedule="step", learning_rate=1e-3, batch_size=12, num_steps=48)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, range(5, 50), gamma=0.85)
    for epoch in range(12):
        for step in range(4 * epoch, 4 * epoch + 4):
            assert rate_at(step, 48, recipe) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rate_at(47, 48, recipe) == pytest.approx(1e-3 * 0.85**7)


def test_the_cosine_does_not_depend_on_the_number_of_clips():
    recipe = Recipe(learning_rate=1.0, num_steps=100)
    assert rate_at(0, 10, recipe) == rate_at(0, 1000, recipe) == pytest.approx(1 / 11)
    assert rate_at(10, 10, recipe) == 1


@pytest.mark.parametrize(("name", "moved"), [("adamw", 0.01), ("adam", 0.1)])
def test_weight_decay_is_beside_the_gradient_or_within_it(name, moved):
    """Without a gradient: AdamW takes rate x decay of a weight; for Adam the decay is a gradient like any other, and
    its first step has the length of the rate."""
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = make_optimizer([weight], Recipe(optimizer=name, learning_rate=0.1, weight_decay=0.1))
    assert optimizer.defaults["betas"] == (0.95, 0.999)
    weight.grad = torch.zeros(1)
    optimizer.step()
    assert 1 - weight.item() == pytest.approx(moved, rel=1e-5)
