"""Supervised contrastive learning: the loss by hand and in loops, and where training with it starts."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from synthio.classification import supcon
from synthio.cli import UserError
from synthio.models import ast_model
from tests.classification.toy_clips import options, save_problem
from tests.scripts import ROOT, load_script


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Model and train, valid, test CSVs of tones."""
    return save_problem(tmp_path_factory.mktemp("tones"), {"train": 12, "valid": 6, "test": 6})


def naive_supcon(z, targets, temperature: float) -> float:
    """Equation 2 word by word."""
    z, labels = z.tolist(), targets.tolist()
    total, anchors = 0.0, 0
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        positives = [p for p in others if any(x and y for x, y in zip(labels[i], labels[p], strict=True))]
        if not positives:
            continue
        dots = {a: math.exp(sum(x * y for x, y in zip(z[i], z[a], strict=True)) / temperature) for a in others}
        total -= sum(math.log(dots[p] / sum(dots.values())) for p in positives) / len(positives)
        anchors += 1
    return total / anchors


def test_supcon_by_hand():
    """Two clips of one class at right angles to one of another: exp(1) against exp(1) + exp(0) at temperature 1."""
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert supcon.supcon_loss(z, targets, 1.0).item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert supcon.supcon_loss(z, targets, 0.5).item() == pytest.approx(math.log(1 + math.exp(-2)))
    assert supcon.supcon_loss(z[:2], targets[:2], 0.1).item() == pytest.approx(0)


@pytest.mark.parametrize("multi_label", [False, True])
def test_supcon_equals_the_loops(multi_label):
    generator = torch.Generator().manual_seed(0)
    z = functional.normalize(torch.randn(12, 5, generator=generator), dim=1)
    targets = torch.eye(4)[torch.randint(4, (12,), generator=generator)]
    targets[0] = torch.tensor([0.0, 0.0, 0.0, 0.0])  # shares nothing, like a class that comes once
    if multi_label:
        targets = torch.maximum(targets, targets.roll(1, dims=0))
        assert targets.sum(dim=1).max() == 2
    for temperature in (0.07, 1.0):
        expected = naive_supcon(z, targets, temperature)
        assert supcon.supcon_loss(z, targets, temperature).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("clips", [1, 3])
def test_supcon_without_positives_is_zero_with_a_gradient(clips):
    z = torch.eye(clips, 4).requires_grad_()
    loss = supcon.supcon_loss(z, torch.eye(clips), 0.1)
    loss.backward()
    assert loss.item() == 0
    assert z.grad.isfinite().all() and not z.grad.any()


def test_supcon_pulls_classes_together():
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(8, 3, generator=generator).requires_grad_()
    targets = torch.eye(2).repeat(4, 1)
    optimizer = torch.optim.SGD([z], lr=0.5)
    for _ in range(200):
        loss = supcon.supcon_loss(functional.normalize(z, dim=1), targets, 0.2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    cosine = functional.normalize(z.detach(), dim=1) @ functional.normalize(z.detach(), dim=1).T
    same = (targets @ targets.T).bool()
    assert cosine[same].min() > 0.9
    assert cosine[~same].max() < -0.5


def test_supcon_starts_from_the_same_classifier_and_a_seeded_head(data):
    model = ast_model.load_ast(str(data / "model"), ["x", "y", "z"], 56, False, seed=1).eval()
    learner, same = supcon.SupConAst(model, 3), supcon.SupConAst(model, 3)
    x = torch.randn(2, 56, 32, generator=torch.Generator().manual_seed(0))
    output = learner(x)
    torch.testing.assert_close(output.logits, model(x).logits)
    torch.testing.assert_close(output.projected.norm(dim=1), torch.ones(2))
    assert torch.equal(output.projected, same(x).projected)
    assert not torch.equal(output.projected, supcon.SupConAst(model, 4)(x).projected)


def test_supcon_with_mixup_is_refused(data, tmp_path):
    script = load_script(ROOT / "ast/train.py")
    args = script.get_parser().parse_args(options(data, tmp_path, supcon="true", mixup=0.3))
    with pytest.raises(UserError, match="choose one of them"):
        script.make_recipe(args, 12)
