"""The training of the embedded models: the same weights after an interruption."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from training import fit

from synthio.cli import UserError
from tests.extras.embedded.recipes import HERE
from tests.running import check_workers_end
from tests.scripts import ROOT


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


ENDLESS = {
    "training": """
from training import batches
made = iter(batches(lambda step: time.sleep(1000) if step else 0, 0, 9, 2))
next(made)
print("ready", flush=True)
next(made)
""",
    "corpus": """
import corpus
def procedural(job):
    time.sleep(1000)
procedural.__module__, corpus.procedural = "corpus", procedural
sys.argv[1:] = ["--data", "x", "--cache", sys.argv[1], "--notes", "0", "--words", "0", "--workers", "2"]
corpus.jobs = lambda args: [(procedural, [0] * 9, 1)]
print("ready", flush=True)
corpus.main()
""",
}


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("name", ENDLESS)
def test_workers_end_with_a_recipe_that_is_killed(tmp_path, name):
    """Also those that are at work, which ask nobody whether the recipe is still there."""
    head = f"import sys, time; sys.path[:0] = [{str(HERE)!r}, {str(ROOT)!r}]; sys.argv[1:] = [{str(tmp_path)!r}]"
    check_workers_end(head + ENDLESS[name], 2)


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path):
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step 2; lower --learning_rate"):
        train(tmp_path, learning_rate=1e38, steps=4)
