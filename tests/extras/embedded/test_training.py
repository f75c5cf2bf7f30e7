"""The training of the embedded models: the same weights after an interruption."""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
import pytest
import torch
from training import fit

from synthio.cli import UserError


def options(folder, **changed):
    return argparse.Namespace(
        **{"steps": 9, "learning_rate": 0.1, "scratch": folder, "device": "cpu", "workers": 0} | changed
    )


def train(folder, stop_at=None, **changed):
    """Fit a line to seeded batches; the weights afterwards. The step `stop_at` fails, as an interruption would."""
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 1)

    def batch_of(step):
        if step == stop_at:
            raise KeyboardInterrupt
        return {"x": torch.from_numpy(np.random.default_rng(step).standard_normal((4, 3), dtype=np.float32))}

    def loss_of(batch):
        return {"loss": (module(batch["x"]) - batch["x"].sum(1, keepdim=True)).square().mean()}

    fit("line", module, batch_of, loss_of, args=options(folder, **changed), export=lambda: None, every=2)
    return torch.cat([module.weight.detach().flatten(), module.bias.detach()])


def test_a_training_that_was_interrupted_ends_at_the_same_weights(tmp_path):
    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", stop_at=5)
    assert torch.equal(train(tmp_path / "parts"), whole)
    steps = pd.read_csv(tmp_path / "parts/line.csv")["step"]
    assert list(steps) == [2, 4, 6, 8, 9]


def test_batches_that_workers_make_are_the_same(tmp_path):
    assert torch.equal(train(tmp_path / "workers", workers=2), train(tmp_path / "none"))


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path):
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step 2; lower --learning_rate"):
        train(tmp_path, learning_rate=1e38, steps=4)
