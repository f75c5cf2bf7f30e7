"""The first of SupCon's two stages: what it trains, what it leaves alone, and going on after a kill."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import ASTConfig, ASTForAudioClassification

from synthio.classification import contrastive
from synthio.classification.options import Recipe
from synthio.classification.supcon import SupConAst, supcon_loss
from synthio.classification.training import Normalisation, Split
from synthio.training.loop import Checkpoint

SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
INPUT = {"patch_size": 8, "time_stride": 8, "frequency_stride": 8, "max_length": 56, "num_mel_bins": 32}
RECIPE = Recipe(batch_size=8, learning_rate=1e-3, supcon_weight=1.0, supcon_epochs=6, num_steps=5)  # 12 and 5 steps


def new() -> SupConAst:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = ASTConfig(**SIZES, **INPUT, initializer_range=0.1, num_labels=3, hidden_dropout_prob=0.1)
        return SupConAst(ASTForAudioClassification(config), 1)


def noise() -> Split:
    """16 clips whose level is the class."""
    rng = np.random.default_rng(0)
    targets = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 16)]
    features = torch.from_numpy(rng.normal(size=(16, 56, 32)) + targets.argmax(1)[:, None, None]).half()
    return Split(features, torch.from_numpy(targets), Normalisation(56, 0.0, 0.5))


def run(path) -> SupConAst:
    model = new()
    left = contrastive.first_stage(model, noise(), RECIPE, "cpu", Checkpoint(path, "key"))
    assert (left.supcon_weight, left.cross_entropy, left.num_steps) == (0, True, 5)
    return model


def loss(model: SupConAst) -> float:
    clips = noise()
    with torch.no_grad():
        return supcon_loss(model.eval()(clips.features.float()).projected, clips.targets, 0.1).item()


def test_it_pulls_classes_together_leaves_the_head_alone_and_goes_on(tmp_path, monkeypatch):
    unbroken, take_step = run(tmp_path / "unbroken"), contrastive.train_step

    def stop(model, optimizer, train, step, *more):
        if step == 6:
            raise KeyboardInterrupt
        return take_step(model, optimizer, train, step, *more)

    assert loss(unbroken) < loss(new()) - 0.1
    assert torch.equal(unbroken.ast.classifier.dense.weight, new().ast.classifier.dense.weight)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(contrastive, "train_step", stop)
        run(tmp_path / "broken")
    for name in ("broken", "unbroken"):  # the second is at its end already
        again = run(tmp_path / name).state_dict()
        assert all(torch.equal(again[key], tensor) for key, tensor in unbroken.state_dict().items())
