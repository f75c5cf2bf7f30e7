"""Sampling against the exact answers of analytic models, diffusers' schedulers and k-diffusion's samplers."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from synthio.generation import sampling
from synthio.generation.diffusion import alpha_sigma
from synthio.models.base import Condition, TextToAudio
from synthio.models.load import load_text_to_audio
from tests.programs import k_diffusion_clips
from tests.scripts import own_python
from tests.tiny_models import save_text_to_audio

ROOT = Path(__file__).resolve().parent.parent.parent
OBJECTIVES = ["v", "rectified_flow"]
# every sampler with every objective that it is for
PAIRS = [(o, s) for o in OBJECTIVES for s in sampling.SOLVERS if o != "v" or s not in sampling.FLOW_ONLY]


class AnalyticModel(TextToAudio):
    """The exact network for data that is half N(mean - apart, std^2), half N(mean + apart, std^2).

    With s2 = alpha^2 std^2 + sigma^2 and y = x_t - alpha mean, the posterior mean of the data is
    mean + (alpha std^2 y + sigma^2 apart tanh(alpha apart y / s2)) / s2.
    The condition's first number is the mean, so that guidance has something to act on.
    """

    name, sample_rate, channels, latent_shape, max_seconds = "analytic", 16000, 1, (4, 8), 1.0
    device = torch.device("cpu")

    def __init__(self, objective, std=0.5, apart=0.0):
        self.objective, self.std, self.apart = objective, std, apart

    def encode(self, audio):
        return audio

    def decode(self, latents):
        return latents

    def condition(self, prompts, seconds):
        return Condition(torch.tensor([[[float(len(p))]] for p in prompts]), None)

    def predict(self, latents, t, condition):
        mean = condition.cross[:, :, :1]
        alpha, sigma = (c.reshape(-1, 1, 1) for c in alpha_sigma(self.objective, t))
        s2 = alpha**2 * self.std**2 + sigma**2
        y = latents - alpha * mean
        data = mean + (alpha * self.std**2 * y + sigma**2 * self.apart * torch.tanh(alpha * self.apart * y / s2)) / s2
        noise = (latents - alpha * data) / sigma.clamp_min(1e-6)
        return alpha * noise - sigma * data if self.objective == "v" else noise - data


class JumpModel(AnalyticModel):
    """A perfectly distilled flow of N(mean, std^2): its data estimate is where the flow from x_t ends."""

    def predict(self, latents, t, condition):
        mean = condition.cross[:, :, :1]
        alpha, sigma = (c.reshape(-1, 1, 1) for c in alpha_sigma(self.objective, t))
        data = mean + self.std * (latents - alpha * mean) / (alpha**2 * self.std**2 + sigma**2).sqrt()
        return (latents - data) / sigma


def sample(model, prompts, seeds, sampler, num_steps=10, cfg_scale=1.0, **options):
    condition = model.condition(prompts, [1.0] * len(prompts))
    return sampling.sample(
        model, condition, seeds, sampler=sampler, num_steps=num_steps, cfg_scale=cfg_scale, **options
    )


def no_noise():
    raise AssertionError("this sampler is deterministic")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Small real models by objective."""
    folder = tmp_path_factory.mktemp("tiny")
    return {o: load_text_to_audio(str(save_text_to_audio(folder / o, o))) for o in OBJECTIVES}


# ---------------------------------------------------------------- schedules


@pytest.mark.parametrize(("objective", "sampler"), PAIRS)
@pytest.mark.parametrize("start", [1.0, 0.9999, 0.7, 0.1, 0.0192, 0.01])
def test_levels_fall_strictly_within_the_range(objective, sampler, start):
    """A start near data lies under the range of sigma: it once gave equal levels, and so 0 / 0."""
    for num_steps in (1, 2, 8, 250):
        levels = sampling.schedule(objective, sampler, num_steps, start)
        assert len(levels) == num_steps + 1
        assert all(a.time > b.time and a.half_log_snr < b.half_log_snr for a, b in itertools.pairwise(levels))
        assert (levels[-1].alpha, levels[-1].sigma) == (1, 0)
        top = min(start, math.atan(500) * 2 / math.pi) if objective == "v" else start
        assert levels[0].time == pytest.approx(top, rel=1e-12)


def test_v_levels_are_stable_audios_exponential_schedule():
    levels = sampling.schedule("v", "dpmpp_3m_sde", 250)
    sigmas = [level.sigma / level.alpha for level in levels]
    assert (sigmas[0], sigmas[-2], sigmas[-1]) == (pytest.approx(500), pytest.approx(0.03), 0)
    ratios = np.array(sigmas[1:-1]) / np.array(sigmas[:-2])
    np.testing.assert_allclose(ratios, (0.03 / 500) ** (1 / 249), rtol=1e-9)


def test_pingpong_levels_are_those_of_stable_audio_open_small():
    """Eight steps with lambda from -6 to 2, so in ones; the ends are pure noise and data."""
    levels = sampling.schedule("rectified_flow", "pingpong", 8)
    assert [round(level.half_log_snr, 9) for level in levels] == [-math.inf, -5, -4, -3, -2, -1, 0, 1, math.inf]


@pytest.mark.parametrize(("num_steps", "start"), [(0, 1.0), (4, 0.0), (4, 1.1)])
def test_schedule_errors(num_steps, start):
    with pytest.raises(ValueError, match="at least 1" if num_steps == 0 else "start"):
        sampling.schedule("v", "euler", num_steps, start)


# ---------------------------------------------------------------- analytic models


@pytest.mark.parametrize(
    ("objective", "sampler", "num_steps", "tolerance"),
    [
        ("rectified_flow", "euler", 400, 0.01),
        ("rectified_flow", "heun", 40, 0.002),
        ("rectified_flow", "dpmpp_2m", 200, 0.01),
        ("v", "euler", 400, 0.03),
        ("v", "dpmpp_2m", 100, 0.03),
    ],
)
def test_samplers_reach_the_exact_flow_of_a_gaussian(objective, sampler, num_steps, tolerance):
    """The probability flow of a Gaussian maps noise z to mean + std * z."""
    model = AnalyticModel(objective)
    out = sample(model, ["ab", "abcd"], [1, 2], sampler, num_steps)
    exact = torch.tensor([2.0, 4.0]).reshape(2, 1, 1) + model.std * sampling.clip_noise([1, 2], model.latent_shape)()
    assert (out - exact).abs().max() < tolerance


@pytest.mark.parametrize("apart", [0.0, 1.0])
@pytest.mark.parametrize(("objective", "sampler"), [p for p in PAIRS if p[1] != "pingpong"])
def test_samples_have_the_mean_and_variance_of_the_data(objective, sampler, apart):
    """2560 numbers of data with mean 3 and variance std^2 + apart^2; tolerances are four standard errors."""
    model = AnalyticModel(objective, std=0.4, apart=apart)
    out = sample(model, ["abc"] * 80, range(80), sampler, num_steps=60)
    variance = 0.4**2 + apart**2
    kurtosis = (3 * 0.4**4 + 6 * 0.4**2 * apart**2 + apart**4) / variance**2
    assert float(out.mean()) == pytest.approx(3, abs=4 * (variance / out.numel()) ** 0.5)
    assert float(out.var()) == pytest.approx(variance, rel=4 * ((kurtosis - 1) / out.numel()) ** 0.5 + 0.02)
    assert float(((out - 3).abs() < 0.2).float().mean()) < (0.03 if apart else 0.45)  # two heaps, or one


def test_pingpong_of_a_distilled_model_has_the_mean_and_variance_of_the_data():
    model = JumpModel("rectified_flow", std=0.4)
    out = sample(model, ["abc"] * 80, range(80), "pingpong", num_steps=8)
    assert float(out.mean()) == pytest.approx(3, abs=4 * 0.4 / out.numel() ** 0.5)
    assert float(out.std()) == pytest.approx(0.4, rel=4 / (2 * out.numel()) ** 0.5)


def test_pingpong_by_hand():
    """One step from pure noise jumps to the data; a second goes back to lambda -2 (half of -6 .. 2) and jumps again."""
    model = JumpModel("rectified_flow", std=0.4)
    noise = sampling.clip_noise([9], model.latent_shape)
    first, fresh = 3 + 0.4 * noise(), noise()
    torch.testing.assert_close(sample(model, ["abc"], [9], "pingpong", 1), first)
    t = 1 / (1 + math.exp(-2))
    between = (1 - t) * first + t * fresh
    second = 3 + 0.4 * (between - (1 - t) * 3) / math.sqrt((1 - t) ** 2 * 0.16 + t**2)
    torch.testing.assert_close(sample(model, ["abc"], [9], "pingpong", 2), second)


def solve_quietly(objective, sampler, num_steps, **options):
    """A solver without its noise, in double precision, on the flow (or drift) of two heaps; [1, 1, 41]."""
    model = AnalyticModel(objective, std=0.5, apart=1.0)
    condition = Condition(torch.full((1, 1, 1), 0.3, dtype=torch.float64), None)
    levels = sampling.schedule(objective, sampler, num_steps)
    z = torch.linspace(-2, 2, 41, dtype=torch.float64).reshape(1, 1, -1)
    denoise = sampling.denoiser(objective, lambda x, t: model.predict(x, t, condition))
    solver = sampling.SOLVERS[sampler]
    return solver(denoise, levels[0].sigma * z, levels, lambda: torch.zeros_like(z), **options)


@pytest.mark.parametrize(
    ("objective", "sampler", "order", "options"),
    [
        ("rectified_flow", "euler", 1, {}),
        ("rectified_flow", "heun", 2, {}),
        ("v", "euler", 1, {}),
        ("v", "dpmpp_2m", 2, {}),
        ("v", "dpmpp_3m_sde", 2, {}),
        ("v", "dpmpp_3m_sde", 2, {"eta": 0.0}),
    ],
)
def test_order_of_convergence(objective, sampler, order, options):
    """Against 3000 steps: twice the steps, 2^order times less error. 3M as published is of second order (its notes)."""
    fine = solve_quietly(objective, sampler, 3000, **options)
    coarse, finer = ((solve_quietly(objective, sampler, steps, **options) - fine).abs().max() for steps in (160, 320))
    assert math.log2(coarse / finer) == pytest.approx(order, abs=0.15)


def test_more_order_and_more_history_help_at_equal_steps():
    fine = solve_quietly("v", "dpmpp_2m", 3000)
    runs = {"euler": {}, "dpmpp_2m": {}, "dpmpp_3m_sde": {"eta": 0.0}}
    errors = [float((solve_quietly("v", s, 60, **options) - fine).abs().max()) for s, options in runs.items()]
    assert errors[0] > 4 * errors[1] > 8 * errors[2]


# ---------------------------------------------------------------- a clip is its own


@pytest.mark.parametrize("init", [False, True])
@pytest.mark.parametrize(("objective", "sampler"), PAIRS)
def test_a_clip_is_the_same_alone_and_in_a_batch_of_several_lengths(tiny, objective, sampler, init):
    model = tiny[objective]
    condition = model.condition(["dog bark", "rain", "loud siren"], [0.3, 1.28, 0.7])
    latents = torch.randn(3, *model.latent_shape, generator=torch.Generator().manual_seed(0))

    def run(rows, seeds):
        return sampling.sample(
            model,
            condition.rows(torch.tensor(rows)),
            seeds,
            num_steps=5,
            cfg_scale=3.0,
            cfg_rescale=0.5,
            sampler=sampler,
            init_latents=latents[rows] if init else None,
            init_noise_level=0.6,
        )

    together = run([0, 1, 2], [5, 6, 7])
    assert torch.equal(together, run([0, 1, 2], [5, 6, 7]))
    for row in range(3):
        torch.testing.assert_close(run([row], [5 + row]), together[row : row + 1], atol=2e-5, rtol=1e-4)
    assert not torch.allclose(run([1], [8]), together[1:2], atol=1e-2)
    condition = model.condition(["dog bark", "rain", "loud siren"], [0.3, 0.2, 0.7])
    assert not torch.allclose(run([1], [6]), together[1:2], atol=1e-3)  # the length is heard by its own clip


def test_noise_of_a_clip_is_independent_from_step_to_step():
    noise = sampling.clip_noise([3, 4], (64, 128))
    draws = torch.stack([noise() for _ in range(6)]).flatten(2)
    correlation = torch.corrcoef(draws.transpose(0, 1).reshape(12, -1))
    assert (correlation - torch.eye(12)).abs().max() < 5 / draws.shape[2] ** 0.5
    alone = sampling.clip_noise([4], (64, 128))
    assert all(torch.equal(alone().flatten(), draws[k, 1]) for k in range(6))


@pytest.mark.parametrize(("objective", "sampler"), PAIRS)
def test_init_audio_is_kept_at_a_low_noise_level_and_lost_at_a_high_one(objective, sampler):
    """Each clip starts from its own sound, whatever the prompts of the batch."""
    model = AnalyticModel(objective)
    ramps = torch.linspace(-1, 1, 32).reshape(1, 4, 8)
    starts = torch.cat([2 + ramps, 3 - ramps, 4 + ramps.flip(1)])
    options = {"sampler": sampler, "num_steps": 50, "init_latents": starts}
    near = sample(model, ["ab", "abc", "abcd"], [3, 4, 5], init_noise_level=0.01, **options)
    far = sample(model, ["ab", "abc", "abcd"], [3, 4, 5], init_noise_level=1.0, **options)
    assert (near - starts).abs().mean(dim=(1, 2)).max() < 0.1
    for end, start in zip(far, starts, strict=True):
        assert torch.corrcoef(torch.stack([end.flatten(), start.flatten()]))[0, 1].abs() < 0.5


# ---------------------------------------------------------------- guidance


def test_guidance_and_its_rescaling_equal_their_formulas(tiny):
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    model = tiny["v"]
    condition = model.condition(["dog bark", "rain"], [1.0, 0.5])
    x = torch.randn(2, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.9, 0.5])
    with torch.no_grad():
        with_, without = model.predict(x, t, condition), model.predict(x, t, condition.unconditional())
        plain = without + 5 * (with_ - without)
        close = {"atol": 1e-5, "rtol": 1e-5}
        torch.testing.assert_close(sampling.guided(model, condition, 1.0)(x, t), with_)
        torch.testing.assert_close(sampling.guided(model, condition, 5.0)(x, t), plain, **close)
        for rescale in (0.3, 1.0):
            ours = sampling.guided(model, condition, 5.0, rescale)(x, t)
            torch.testing.assert_close(ours, rescale_noise_cfg(plain, with_, rescale), **close)
            assert not torch.allclose(ours, plain, atol=1e-3)
    torch.testing.assert_close(ours.std(dim=(1, 2)), with_.std(dim=(1, 2)), **close)


def test_sampler_errors(tiny):
    model = tiny["v"]
    condition = model.condition(["rain"], [1.0])
    options = {"num_steps": 2, "cfg_scale": 1.0}
    for sampler in ("plms", *sampling.FLOW_ONLY):
        with pytest.raises(ValueError, match=f"'{sampler}'"):
            sampling.sample(model, condition, [1], sampler=sampler, **options)
    with pytest.raises(ValueError, match="one row for each clip"):
        sampling.sample(model, condition, [1, 2], sampler="euler", **options)
    latents = torch.zeros(1, *model.latent_shape)
    with pytest.raises(ValueError, match="one row for each clip"):
        sampling.sample(
            model, Condition.joined([condition] * 2), [1, 2], sampler="euler", init_latents=latents, **options
        )


# ---------------------------------------------------------------- parity: diffusers' schedulers


@pytest.fixture
def task(tiny):
    """task(objective) -> (guided network of a small real model, standard normal [2, D, L])."""

    def make(objective):
        model = tiny[objective]
        predict = sampling.guided(model, model.condition(["dog bark", "rain"], [1.0, 0.5]), 3.0, 0.3)
        return torch.no_grad()(predict), sampling.clip_noise([1, 2], model.latent_shape)()

    return make


def assert_same_numbers(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_flow_euler_equals_diffusers(task):
    from diffusers import FlowMatchEulerDiscreteScheduler

    predict, z = task("rectified_flow")
    levels = sampling.schedule("rectified_flow", "euler", 12)
    ours = sampling.euler(sampling.denoiser("rectified_flow", predict), z, levels, no_noise)
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=[level.time for level in levels[:-1]])
    x = z
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        x = scheduler.step(predict(x, sigma.expand(2)), t, x).prev_sample
    assert_same_numbers(ours, x)


def test_flow_heun_equals_diffusers(task):
    """On the times of diffusers' scheduler, which go from 1 evenly to .001 and then to 0."""
    from diffusers import FlowMatchHeunDiscreteScheduler

    predict, z = task("rectified_flow")
    scheduler = FlowMatchHeunDiscreteScheduler()
    scheduler.set_timesteps(12)
    x = z
    for t in scheduler.timesteps:
        x = scheduler.step(predict(x, (t / 1000).expand(2)), t, x).prev_sample
    times = [*np.linspace(1, 0.001, 12), 0.0]
    levels = [sampling.level_at("rectified_flow", time) for time in times]
    assert_same_numbers(sampling.heun(sampling.denoiser("rectified_flow", predict), z, levels, no_noise), x)


def diffusers_v_clips(scheduler, predict, z, num_steps, **options):
    """The loop of diffusers' pipeline with the v network; x is data + sigma * noise there."""
    scheduler.set_timesteps(num_steps)
    x = z * scheduler.sigmas[0]
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        v = predict(x / (sigma**2 + 1).sqrt(), (torch.atan(sigma) * 2 / math.pi).expand(2))
        x = scheduler.step(v, t, x, **options).prev_sample
    return x


STABLE_AUDIO = {"sigma_min": 0.03, "sigma_max": 500, "sigma_data": 1.0, "prediction_type": "v_prediction"}


@pytest.mark.parametrize(
    ("sampler", "options", "scheduler_options"),
    [
        ("dpmpp_2m", {}, {"solver_order": 2}),
        # Their third-order SDE step has a wrong sign in one coefficient, so the noiseless one is compared.
        ("dpmpp_3m_sde", {"eta": 0.0}, {"solver_order": 3, "solver_type": "heun"}),
    ],
)
def test_v_solvers_equal_diffusers(task, sampler, options, scheduler_options):
    from diffusers import EDMDPMSolverMultistepScheduler

    predict, z = task("v")
    levels = sampling.schedule("v", sampler, 20)
    solver = sampling.SOLVERS[sampler]
    ours = solver(sampling.denoiser("v", predict), levels[0].sigma * z, levels, no_noise, **options)
    scheduler = EDMDPMSolverMultistepScheduler(**STABLE_AUDIO, **scheduler_options, sigma_schedule="exponential")
    assert_same_numbers(ours, diffusers_v_clips(scheduler, predict, z, 20))


def test_v_sde_equals_diffusers_while_it_is_of_second_order(task):
    """Their second-order SDE knows one step before; so do the first two steps of 3M. Both draw by the clips' seeds."""
    from diffusers import EDMDPMSolverMultistepScheduler

    predict, z = task("v")
    levels = sampling.schedule("v", "dpmpp_3m_sde", 3)
    noise = sampling.clip_noise([11, 12], z.shape[1:])
    ours = sampling.dpmpp_3m_sde(sampling.denoiser("v", predict), levels[0].sigma * z, levels, noise)
    options = {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun", "sigma_schedule": "exponential"}
    scheduler = EDMDPMSolverMultistepScheduler(**STABLE_AUDIO, **options)
    generators = [torch.Generator().manual_seed(seed) for seed in (11, 12)]
    assert_same_numbers(ours, diffusers_v_clips(scheduler, predict, z, 3, generator=generators))


# ---------------------------------------------------------------- parity: k-diffusion


@pytest.fixture(scope="module")
def parity_python():
    """The Python that has k-diffusion."""
    return own_python("parity")


def k_diffusion_task(num_steps):
    """Weights of the small network and what the samplers start from."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape, std=1.0):
        return std * torch.randn(shape, generator=generator)

    return {
        "first": normal(32, 6, 3, std=0.4),
        "second": normal(6, 32, 3, std=0.15),
        "time": normal(16, 32, std=0.3),
        "frequencies": normal(8, std=4.0),
        "z": normal(3, 6, 40),
        "seeds": torch.tensor([7, 8, 9]),
        "num_steps": torch.tensor(num_steps),
    }


@pytest.mark.slow
@pytest.mark.parametrize("num_steps", [6, 40, 250])
def test_v_solvers_equal_k_diffusion(parity_python, tmp_path, num_steps):
    given = k_diffusion_task(num_steps)
    np.savez(tmp_path / "in.npz", **{name: value.numpy() for name, value in given.items()})
    command = [parity_python, k_diffusion_clips.__file__, tmp_path / "in.npz", tmp_path / "out.npz"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": ""})
    with np.load(tmp_path / "out.npz", allow_pickle=False) as arrays:
        theirs = {name: torch.from_numpy(array) for name, array in arrays.items()}
    levels = sampling.schedule("v", "dpmpp_3m_sde", num_steps)
    sigmas = torch.tensor([level.sigma / level.alpha for level in levels], dtype=torch.float32)
    torch.testing.assert_close(sigmas, theirs["sigmas"], atol=0, rtol=1e-5)
    denoise = sampling.denoiser("v", lambda x, t: k_diffusion_clips.network(given, x, t))
    x = levels[0].sigma * given["z"]
    drawn = iter(theirs["noise"])
    assert_same_numbers(sampling.dpmpp_3m_sde(denoise, x, levels, lambda: next(drawn)), theirs["dpmpp_3m_sde"])
    assert_same_numbers(sampling.dpmpp_3m_sde(denoise, x, levels, no_noise, eta=0.0), theirs["dpmpp_3m_ode"])
    assert_same_numbers(sampling.dpmpp_2m(denoise, x, levels, no_noise), theirs["dpmpp_2m"])
    # What lets us draw fresh noise instead: over disjoint steps theirs is independent and standard normal, too.
    noise = theirs["noise"].flatten(1)
    assert float(noise.var()) == pytest.approx(1, abs=5 * (2 / noise.numel()) ** 0.5)
    assert float((noise[1:] * noise[:-1]).mean()) == pytest.approx(0, abs=5 / noise[1:].numel() ** 0.5)
