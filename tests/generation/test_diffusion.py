"""The diffusion mathematics against hand-computed values."""

from __future__ import annotations

import math

import pytest
import torch

from synthio.generation import diffusion
from synthio.models.base import Condition

OBJECTIVES = ["v", "rectified_flow"]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_solve_inverts_add_noise(objective):
    generator = torch.Generator().manual_seed(0)
    data, noise = torch.randn(2, 5, 3, 7, generator=generator)
    t = torch.tensor([0.05, 0.3, 0.5, 0.8, 0.99])
    x, target = diffusion.add_noise(objective, data, noise, t)
    found_data, found_noise = diffusion.solve(objective, x, target, t)
    torch.testing.assert_close(found_data, data, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found_noise, noise, atol=1e-5, rtol=1e-5)


def test_targets_are_the_published_ones():
    data, noise, t = torch.full((1, 1, 1), 2.0), torch.full((1, 1, 1), 3.0), torch.tensor([1 / 3])
    x, v = diffusion.add_noise("v", data, noise, t)
    assert x.item() == pytest.approx(2 * math.cos(math.pi / 6) + 3 * math.sin(math.pi / 6))
    assert v.item() == pytest.approx(3 * math.cos(math.pi / 6) - 2 * math.sin(math.pi / 6))
    x, velocity = diffusion.add_noise("rectified_flow", data, noise, t)
    assert (x.item(), velocity.item()) == (pytest.approx(2 * 2 / 3 + 3 / 3), pytest.approx(1.0))


def test_unknown_objective_is_named():
    with pytest.raises(ValueError, match="epsilon"):
        diffusion.alpha_sigma("epsilon", torch.tensor(0.5))


def test_dpo_loss_by_hand():
    """One pair: gap = (1.0 - 1.3) - (1.1 - 1.2) = -0.2; beta 10: margin 1, loss = log(1 + e^-1)."""
    one = torch.tensor
    result = diffusion.dpo_loss(one([1.0]), one([1.3]), one([1.1]), one([1.2]), beta=10.0)
    assert result.margin == pytest.approx(1.0, abs=1e-5)
    assert result.loss.item() == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-5)
    assert result.accuracy == 1.0


def test_dpo_loss_is_log_two_where_policy_equals_reference_and_ties_count_half():
    errors = torch.tensor([0.3, 0.7])
    result = diffusion.dpo_loss(errors, errors * 2, errors, errors * 2, beta=2000.0)
    assert result.loss.item() == pytest.approx(math.log(2))
    assert (result.accuracy, result.margin) == (0.5, 0.0)


def test_dpo_gradient_lowers_the_winners_error_and_raises_the_losers():
    winner, loser = torch.tensor([0.5], requires_grad=True), torch.tensor([0.5], requires_grad=True)
    diffusion.dpo_loss(winner, loser, torch.tensor([0.5]), torch.tensor([0.5]), beta=2.0).loss.backward()
    assert winner.grad.item() > 0 > loser.grad.item()


def test_stratified_times_fill_every_bin_once():
    t = diffusion.stratified_times(64, torch.Generator().manual_seed(0))
    assert sorted((t * 64).long().tolist()) == list(range(64))


def test_condition_dropout_zeroes_only_the_dropped_rows():
    condition = Condition(torch.ones(3, 2, 4), torch.ones(3, 1, 4))
    dropped = condition.dropped(torch.tensor([False, True, False]))
    assert dropped.cross.sum(dim=(1, 2)).tolist() == [8, 0, 8]
    assert dropped.pooled.sum() == 12


def test_logit_normal_times_have_its_quantiles_and_one_draw_a_bin():
    t = diffusion.stratified_times(4096, torch.Generator().manual_seed(0), "logit_normal")
    normal = torch.distributions.Normal(0, 1)
    assert sorted((normal.cdf(torch.logit(t)) * 4096).floor().clamp(0, 4095).unique().tolist())[::4095] == [0, 4095]
    for share in (0.1, 0.25, 0.5, 0.9):
        expected = torch.sigmoid(normal.icdf(torch.tensor(share))).item()
        assert torch.quantile(t, share).item() == pytest.approx(expected, abs=1e-3)
    with pytest.raises(ValueError, match="choose from uniform, logit_normal"):
        diffusion.stratified_times(1, torch.Generator(), "cosine")


def test_errors_are_means_over_the_frames_that_count():
    target, prediction = torch.zeros(2, 2, 3), torch.tensor([[[1.0, 2, 9], [3, 0, 9]], [[2, 9, 9], [4, 9, 9]]])
    found = diffusion.squared_errors(prediction, target, torch.tensor([2, 1]))
    assert found.tolist() == [(1 + 4 + 9 + 0) / 4, (4 + 16) / 2]
    assert diffusion.squared_errors(prediction, target, torch.tensor([3, 3])).tolist() == pytest.approx(
        diffusion.squared_errors(prediction, target).tolist()
    )
