"""Diffusion over the `TextToAudio` interface: noising and preference optimisation. `sampling` has the solvers.

Both objectives are written through one pair of coefficients, x_t = alpha(t) * data + sigma(t) * noise with t from 0
(data) to 1 (noise):

* "v" (Salimans and Ho 2022, the angle form used by Stable Audio): alpha = cos(pi t / 2), sigma = sin(pi t / 2), the
  network predicts v = alpha * noise - sigma * data;
* "rectified_flow" (Liu et al. 2022): alpha = 1 - t, sigma = t, the network predicts noise - data.

Given x_t and a prediction, data and noise can be solved for in both cases, so one solver serves both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from synthio.models.base import Objective


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
        policy_winner, policy_loser: mean squared errors [B] of the model being trained, over the sounding frames.
        reference_winner, reference_loser: those of the frozen reference, at the same times, noise, crop and
            condition dropout.
        beta: strength of the preference (the paper: 2000).
    """
    gap = (policy_winner - policy_loser) - (reference_winner - reference_loser)
    margin = -beta / 2 * gap
    wins = (gap < 0).float() + 0.5 * (gap == 0).float()
    return PreferenceLoss(-F.logsigmoid(margin).mean(), float(wins.mean()), float(margin.detach().mean()))


def squared_errors(prediction: torch.Tensor, target: torch.Tensor, frames: torch.Tensor | None = None) -> torch.Tensor:
    """Mean squared error of each row over its first frames, [B, D, L] -> [B].

    Args:
        prediction, target: [B, D, L].
        frames: how many frames of each row count, [B], from 1 to L; None: all. What lies beyond a clip's end is
            padding: averaged in, it would make the error of a short clip in a long model small, and the strength of a
            preference with it.
    """
    errors = (prediction - target).square().mean(dim=1)
    if frames is None:
        return errors.mean(dim=1)
    counted = torch.arange(errors.shape[1], device=errors.device) < frames[:, None]
    return (errors * counted).sum(dim=1) / frames


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
