"""Diffusion over the `TextToAudio` interface: noising, sampling, and preference optimisation.

Both objectives are written through one pair of coefficients, x_t = alpha(t) * data + sigma(t) * noise with t from 0
(data) to 1 (noise):

* "v" (Salimans and Ho 2022, the angle form used by Stable Audio): alpha = cos(pi t / 2), sigma = sin(pi t / 2), the
  network predicts v = alpha * noise - sigma * data;
* "rectified_flow" (Liu et al. 2022): alpha = 1 - t, sigma = t, the network predicts noise - data.

Given x_t and a prediction, data and noise can be solved for in both cases, so one sampler serves both.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from synthio.models.base import Condition, Objective, TextToAudio

SAMPLERS = ("euler", "heun", "dpmpp_2m")
# Stable Audio's noise range for v models: sigma_min .03, sigma_max 500 in x = data + sigma * noise.
V_SIGMA_RANGE = (0.03, 500.0)


def alpha_sigma(objective: Objective, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients (alpha, sigma) of data and noise at times t [B] (or a scalar tensor)."""
    if objective == "v":
        return torch.cos(t * math.pi / 2), torch.sin(t * math.pi / 2)
    if objective == "rectified_flow":
        return 1 - t, t
    raise ValueError(f"unknown objective '{objective}'; expected 'v' or 'rectified_flow'")


def _column(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(-1, 1, 1)


def add_noise(
    objective: Objective, data: torch.Tensor, noise: torch.Tensor, t: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy latents and the network's target.

    Args:
        objective: "v" or "rectified_flow".
        data: latents [B, D, L].
        noise: standard normal [B, D, L].
        t: times [B] in [0, 1].

    Returns:
        (x_t [B, D, L], target [B, D, L]).
    """
    alpha, sigma = map(_column, alpha_sigma(objective, t))
    target = alpha * noise - sigma * data if objective == "v" else noise - data
    return alpha * data + sigma * noise, target


def solve(
    objective: Objective, x_t: torch.Tensor, prediction: torch.Tensor, t: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimates of (data, noise), each [B, D, L], from noisy latents and the network's output at times t [B]."""
    alpha, sigma = map(_column, alpha_sigma(objective, t))
    if objective == "v":
        return alpha * x_t - sigma * prediction, sigma * x_t + alpha * prediction
    return x_t - sigma * prediction, x_t + alpha * prediction


def time_steps(objective: Objective, num_steps: int, start: float = 1.0) -> torch.Tensor:
    """Times from `start` down to 0, num_steps + 1 of them.

    Rectified flow: evenly spaced. v: evenly spaced in log sigma/alpha over Stable Audio's range (the "exponential"
    schedule of k-diffusion), in the angle form t = 2/pi * atan(sigma); the last step goes to exactly 0.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    if objective == "rectified_flow":
        return torch.linspace(start, 0.0, num_steps + 1)
    low, high = V_SIGMA_RANGE
    top = min(high, math.tan(start * math.pi / 2)) if start < 1 else high
    sigmas = torch.logspace(math.log10(max(top, low)), math.log10(low), num_steps, dtype=torch.float64)
    times = torch.atan(sigmas) * 2 / math.pi
    return torch.cat([times, torch.zeros(1, dtype=torch.float64)]).float()


def clip_noise(seeds: Sequence[int], latent_shape: tuple[int, int]) -> torch.Tensor:
    """Standard normal [B, D, L], row b from seeds[b] alone, drawn on the CPU.

    A clip's noise depends on neither its batch, its shard nor the device.
    """
    rows = [torch.randn(latent_shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows)


def guided(
    model: TextToAudio, condition: Condition, cfg_scale: float
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The network with classifier-free guidance (Ho and Salimans 2022): u + scale * (c - u); scale 1 = plain."""
    if cfg_scale == 1.0:
        return lambda x, t: model.predict(x, t, condition)
    both = Condition.joined([condition.unconditional(), condition])

    def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        without, with_ = model.predict(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)
        return without + cfg_scale * (with_ - without)

    return predict


@torch.no_grad()
def sample(
    model: TextToAudio,
    condition: Condition,
    seeds: Sequence[int],
    *,
    num_steps: int,
    cfg_scale: float,
    sampler: str = "euler",
    init_latents: torch.Tensor | None = None,
    init_noise_level: float = 1.0,
) -> torch.Tensor:
    """Draw one clip per seed.

    Args:
        model: any backend.
        condition: B rows.
        seeds: B seeds; clip b depends on seeds[b] only.
        num_steps: network evaluations (heun: twice as many).
        cfg_scale: guidance; 1 is none.
        sampler: "euler" (for v models this is DDIM), "heun" (rectified flow) or "dpmpp_2m" (DPM-Solver++ 2M).
        init_latents: [B, D, L] latents of a sound to start from instead of pure noise.
        init_noise_level: the time to start at with `init_latents`: near 0 keeps the sound, 1 forgets it.

    Returns:
        Latents [B, D, L].
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"unknown sampler '{sampler}'; choose from {', '.join(SAMPLERS)}")
    noise = clip_noise(seeds, model.latent_shape).to(model.device)
    start = 1.0 if init_latents is None else init_noise_level
    times = time_steps(model.objective, num_steps, start).to(model.device)
    x = noise
    if init_latents is not None:
        x, _ = add_noise(model.objective, init_latents, noise, times[0].expand(len(seeds)))
    step = {"euler": _euler, "heun": _heun, "dpmpp_2m": _dpmpp_2m}[sampler]
    return step(model.objective, guided(model, condition, cfg_scale), x, times)


def _euler(objective, predict, x, times):
    """Solve for data and noise, then mix them anew for the next time: Euler for a flow, DDIM (eta 0) for v."""
    for now, then in itertools.pairwise(times):
        t = now.expand(len(x))
        data, noise = solve(objective, x, predict(x, t), t)
        alpha, sigma = alpha_sigma(objective, then)
        x = alpha * data + sigma * noise
    return x


def _heun(objective, predict, x, times):
    """Second-order Heun on dx/dt = velocity; the last step is Euler."""
    if objective != "rectified_flow":
        raise ValueError("sampler 'heun' is for rectified-flow models; use 'dpmpp_2m' with a v model")
    for now, then in itertools.pairwise(times):
        slope = predict(x, now.expand(len(x)))
        ahead = x + (then - now) * slope
        if then > 0:
            slope = (slope + predict(ahead, then.expand(len(x)))) / 2
        x = x + (then - now) * slope
    return x


def _dpmpp_2m(objective, predict, x, times):
    """DPM-Solver++(2M), Lu et al. 2022 (algorithm 2), on the half log-SNR lambda = log(alpha / sigma)."""
    last_data, last_h = None, None
    for now, then in itertools.pairwise(times):
        t = now.expand(len(x))
        data, _ = solve(objective, x, predict(x, t), t)
        (alpha, sigma), (next_alpha, next_sigma) = alpha_sigma(objective, now), alpha_sigma(objective, then)
        if next_sigma == 0:
            return data
        # At pure noise alpha is 0 and lambda is -inf: the first step from there is first order.
        h = torch.log(next_alpha / next_sigma) - torch.log(alpha.clamp_min(1e-8) / sigma)
        guess = data
        if last_data is not None and alpha > 1e-6 and math.isfinite(last_h):
            ratio = last_h / h
            guess = data + (data - last_data) / (2 * ratio)
        x = next_sigma / sigma * x - next_alpha * torch.expm1(-h) * guess
        last_data, last_h = data, float(h) if alpha > 1e-6 else math.inf
    return x


@dataclass(frozen=True)
class PreferenceLoss:
    """Diffusion-DPO of one batch.

    Attributes:
        loss: scalar, mean over pairs.
        accuracy: share of pairs whose implicit reward prefers the winner; ties count one half.
        margin: mean implicit reward margin, winner over loser.
    """

    loss: torch.Tensor
    accuracy: float
    margin: float


def dpo_loss(
    policy_winner: torch.Tensor,
    policy_loser: torch.Tensor,
    reference_winner: torch.Tensor,
    reference_loser: torch.Tensor,
    beta: float,
) -> PreferenceLoss:
    """Diffusion-DPO (Wallace et al. 2023, eq. 14): -log sigmoid(-beta/2 * ((Lw - Ll) - (Rw - Rl))).

    Args:
        policy_winner, policy_loser: mean squared errors [B] of the model being trained.
        reference_winner, reference_loser: those of the frozen reference, at the same times, noise, crop and
            condition dropout.
        beta: strength of the preference (the paper: 2000).
    """
    gap = (policy_winner - policy_loser) - (reference_winner - reference_loser)
    margin = -beta / 2 * gap
    wins = (gap < 0).float() + 0.5 * (gap == 0).float()
    return PreferenceLoss(-F.logsigmoid(margin).mean(), float(wins.mean()), float(margin.detach().mean()))


def squared_errors(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error of each row, [B, D, L] -> [B]."""
    return (prediction - target).square().mean(dim=(1, 2))


TIME_DISTRIBUTIONS = ("uniform", "logit_normal")


def stratified_times(count: int, generator: torch.Generator, distribution: str = "uniform") -> torch.Tensor:
    """Training times [count] in [0, 1], stratified: one draw in each of `count` equally likely bins, shuffled.

    Stratification leaves the distribution of every time as it is and lowers the variance of the batch's loss.

    Args:
        count: how many.
        generator: of everything random.
        distribution: "uniform", or "logit_normal" (Esser et al. 2024): the sigmoid of a standard normal, which
            favours the middle of the path, where the network's task is hardest.
    """
    bins = torch.randperm(count, generator=generator)
    uniform = (bins + torch.rand(count, generator=generator)) / count
    if distribution == "uniform":
        return uniform
    if distribution == "logit_normal":
        return torch.special.ndtri(uniform).sigmoid()  # ndtri: the standard normal's quantile function
    raise ValueError(f"unknown distribution '{distribution}'; choose from {', '.join(TIME_DISTRIBUTIONS)}")
