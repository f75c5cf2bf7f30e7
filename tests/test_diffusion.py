"""The diffusion mathematics against analytic results, hand-computed values and diffusers' own schedulers."""

from __future__ import annotations

import math

import pytest
import torch

from synthio import diffusion
from synthio.models.base import Condition, TextToAudio

OBJECTIVES = ["v", "rectified_flow"]


class GaussianModel(TextToAudio):
    """The exact network for data ~ N(mean, std^2): every sampler's true answer is then known.

    The posterior mean of data given x_t = alpha * data + sigma * noise is
    mean + alpha std^2 / (alpha^2 std^2 + sigma^2) * (x_t - alpha * mean).
    The condition shifts the mean by its first number, so that guidance has something to act on.
    """

    name, sample_rate, channels, latent_shape, max_seconds = "gaussian", 16000, 1, (4, 8), 1.0
    device = torch.device("cpu")
    std = 0.5

    def __init__(self, objective):
        self.objective = objective

    def encode(self, audio):
        return audio

    def decode(self, latents):
        return latents

    def condition(self, prompts, seconds):
        cross = torch.tensor([[[float(len(p))]] for p in prompts])
        return Condition(cross, None)

    def predict(self, latents, t, condition):
        mean = condition.cross[:, :, :1]
        alpha, sigma = (c.reshape(-1, 1, 1) for c in diffusion.alpha_sigma(self.objective, t))
        gain = alpha * self.std**2 / (alpha**2 * self.std**2 + sigma**2)
        data = mean + gain * (latents - alpha * mean)
        noise = (latents - alpha * data) / sigma.clamp_min(1e-6)
        return alpha * noise - sigma * data if self.objective == "v" else noise - data


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


@pytest.mark.parametrize(
    ("objective", "sampler", "steps", "tolerance"),
    [
        ("rectified_flow", "euler", 400, 0.01),
        ("rectified_flow", "heun", 40, 0.002),
        ("rectified_flow", "dpmpp_2m", 200, 0.01),
        ("v", "euler", 400, 0.03),
        ("v", "dpmpp_2m", 100, 0.03),
    ],
)
def test_samplers_reach_the_exact_flow_of_a_gaussian(objective, sampler, steps, tolerance):
    """The probability flow of a Gaussian maps noise z to mean + std * z."""
    model = GaussianModel(objective)
    condition = model.condition(["ab", "abcd"], [1, 1])
    out = diffusion.sample(model, condition, [1, 2], num_steps=steps, cfg_scale=1.0, sampler=sampler)
    noise = diffusion.clip_noise([1, 2], model.latent_shape)
    exact = torch.tensor([2.0, 4.0]).reshape(2, 1, 1) + model.std * noise
    assert (out - exact).abs().max() < tolerance


def test_second_order_beats_first_at_equal_steps():
    model = GaussianModel("v")
    condition = model.condition(["ab"], [1])
    exact = 2 + model.std * diffusion.clip_noise([1], model.latent_shape)
    errors = {
        sampler: (diffusion.sample(model, condition, [1], num_steps=20, cfg_scale=1.0, sampler=sampler) - exact)
        .abs()
        .max()
        for sampler in ("euler", "dpmpp_2m")
    }
    assert errors["dpmpp_2m"] < errors["euler"] / 2


def test_flow_euler_equals_diffusers_scheduler():
    from diffusers import FlowMatchEulerDiscreteScheduler

    model, steps = GaussianModel("rectified_flow"), 10
    condition = model.condition(["abc"], [1])
    ours = diffusion.sample(model, condition, [7], num_steps=steps, cfg_scale=1.0)
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
    scheduler.set_timesteps(sigmas=diffusion.time_steps("rectified_flow", steps)[:-1].tolist())
    x = diffusion.clip_noise([7], model.latent_shape)
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        x = scheduler.step(model.predict(x, sigma.reshape(1), condition), t, x).prev_sample
    torch.testing.assert_close(ours, x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])
def test_a_clip_depends_on_its_seed_alone(objective, sampler):
    model = GaussianModel(objective)
    condition = model.condition(["ab", "abc", "abcd"], [1, 1, 1])
    options = {"num_steps": 5, "cfg_scale": 2.0, "sampler": sampler}
    together = diffusion.sample(model, condition, [5, 6, 7], **options)
    alone = diffusion.sample(model, condition.rows(torch.tensor([1])), [6], **options)
    torch.testing.assert_close(together[1:2], alone)
    assert not torch.allclose(together[0], together[1])


def test_guidance_formula():
    model = GaussianModel("rectified_flow")
    condition = model.condition(["abc"], [1])
    x, t = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0.5])
    with_, without = model.predict(x, t, condition), model.predict(x, t, condition.unconditional())
    torch.testing.assert_close(diffusion.guided(model, condition, 3.0)(x, t), without + 3 * (with_ - without))
    torch.testing.assert_close(diffusion.guided(model, condition, 1.0)(x, t), with_)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_init_audio_is_kept_at_a_low_noise_level_and_lost_at_a_high_one(objective):
    model = GaussianModel(objective)
    condition = model.condition(["ab"], [1])
    start = torch.linspace(-1, 1, 32).reshape(1, 4, 8) + 2
    options = {"num_steps": 50, "cfg_scale": 1.0, "init_latents": start}
    near = diffusion.sample(model, condition, [3], init_noise_level=0.02, **options)
    far = diffusion.sample(model, condition, [3], init_noise_level=1.0, **options)
    assert (near - start).abs().mean() < 0.1
    correlation = torch.corrcoef(torch.stack([far.flatten(), start.flatten()]))[0, 1]
    assert correlation.abs() < 0.5


def test_sampler_errors():
    model = GaussianModel("v")
    condition = model.condition(["a"], [1])
    with pytest.raises(ValueError, match="plms"):
        diffusion.sample(model, condition, [1], num_steps=2, cfg_scale=1.0, sampler="plms")
    with pytest.raises(ValueError, match="heun"):
        diffusion.sample(model, condition, [1], num_steps=2, cfg_scale=1.0, sampler="heun")
    with pytest.raises(ValueError, match="at least 1"):
        diffusion.time_steps("v", 0)


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
