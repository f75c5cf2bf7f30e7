"""Training a text-to-audio model on preference pairs, step by step, and going on after a kill.

Everything random of a step comes from (seed, step) alone, so a resumed training repeats what an unbroken one draws.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
import torch

from synthio.batching import Halving
from synthio.files import stable_seed
from synthio.generation.diffusion import add_noise, dpo_loss, squared_errors, stratified_times
from synthio.generation.options import PreferenceOptions
from synthio.generation.pairs import TrainingData
from synthio.models.adapters import Trainable
from synthio.models.base import Condition, TextToAudio
from synthio.training.loop import (
    Checkpoint,
    Parts,
    State,
    Tensors,
    check_finite,
    limit_gradient,
    rows_at,
    set_learning_rate,
    train,
)
from synthio.training.processes import ALONE, Processes

MEND = "lower --learning_rate or --beta"  # a loss that is not finite


@dataclass(frozen=True)
class Draw:
    """What one optimiser step sees, one row a pair. Winner and loser, policy and reference all see the same noise,
    time and condition; the dropout of the condition is in it already.

    Attributes:
        winners, losers: latents [B, D, L]; losers is None where there are none.
        frames: how many of the L count in each pair [B]: those that both clips fill.
        noise: [B, D, L].
        t: [B].
        condition: B rows.
        anchors: latents [B, D, L] of the winners as they were recorded; None where `winners` are that.
    """

    winners: torch.Tensor
    losers: torch.Tensor | None
    frames: torch.Tensor
    noise: torch.Tensor
    t: torch.Tensor
    condition: Condition
    anchors: torch.Tensor | None = None

    def rows(self, index: torch.Tensor) -> Draw:
        """Some of the rows."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        cut = {name: part[index] for name, part in parts.items() if isinstance(part, torch.Tensor)}
        return replace(self, **cut, condition=self.condition.rows(index))


def pair_rows(count: int, batch_size: int, seed: int, step: int) -> torch.Tensor:
    """Rows of a step's batch, which has at most `count`: every epoch is a new shuffle of all, by (seed, step) alone."""
    batch_size = min(batch_size, count)

    def order(epoch: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(stable_seed(seed, "dpo epoch", epoch))
        return torch.randperm(count, generator=generator).numpy()

    return torch.from_numpy(rows_at(np.arange(step * batch_size, (step + 1) * batch_size), count, order))


def count_steps(options: PreferenceOptions, count: int) -> int:
    """Optimiser steps of the whole training: --num_epochs passes over `count` pairs, or --num_steps."""
    step_size = min(options.batch_size * options.gradient_accumulation, count)
    return math.ceil(options.num_epochs * count / step_size) if options.num_epochs else options.num_steps


def draw(data: TrainingData, options: PreferenceOptions, step: int) -> Draw:
    """The whole batch of a step, whatever number of passes it is then cut into."""
    generator = torch.Generator().manual_seed(stable_seed(options.seed, "dpo step", step))
    index = pair_rows(len(data), options.batch_size * options.gradient_accumulation, options.seed, step)
    return draw_rows(data, index, generator, options.timestep_distribution, options.condition_dropout)


def draw_rows(
    data: TrainingData, index: torch.Tensor, generator: torch.Generator, distribution: str, dropout: float
) -> Draw:
    """Times, noise and dropped conditions for some pairs."""
    count, device = len(index), data.latents.device
    t = stratified_times(count, generator, distribution).to(device)
    noise = torch.randn(count, *data.latents.shape[1:], generator=generator).to(device)
    dropped = (torch.rand(count, generator=generator) < dropout).to(device)
    sides = [data.winners[index]] if data.losers is None else [data.winners[index], data.losers[index]]
    latents = [data.latents[side] for side in sides]
    frames = torch.stack([data.frames[side] for side in sides]).amin(dim=0)
    condition = data.condition.rows(data.prompts[index]).dropped(dropped)
    anchors = None if data.anchors is None else data.latents[data.anchors[index]]
    return Draw(latents[0], None if len(latents) == 1 else latents[1], frames, noise, t, condition, anchors)


def buckets(model: TextToAudio, draw: Draw) -> list[torch.Tensor]:
    """Rows that one pass of the network may hold: all, or those of equally many frames where its length is variable."""
    if not model.variable_length:
        return [torch.arange(len(draw.t))]
    return [(draw.frames == length).nonzero()[:, 0].cpu() for length in draw.frames.unique()]


def diffusion_errors(model: TextToAudio, draw: Draw, anchored: bool = False) -> tuple[torch.Tensor, ...]:
    """Squared errors [B] of the winners and, where there are losers, theirs, in one pass over both; `anchored`: those
    of the anchors, too, where there are some.

    Only the frames that a clip fills count, and a model of variable length is given no others.
    """
    present = (draw.winners, draw.losers, draw.anchors if anchored else None)
    sides, noise = [side for side in present if side is not None], draw.noise
    if model.variable_length:
        length = int(draw.frames[0])  # of all rows: see `buckets`
        sides, noise = [side[:, :, :length] for side in sides], noise[:, :, :length]
    t, count = draw.t.repeat(len(sides)), len(sides)
    noisy, target = add_noise(model.objective, torch.cat(sides), noise.repeat(count, 1, 1), t)
    prediction = model.predict(noisy, t, Condition.joined([draw.condition] * count))
    return squared_errors(prediction, target, draw.frames.repeat(count)).chunk(count)


def batch_loss(
    model: TextToAudio, trainable: Trainable, draw: Draw, options: PreferenceOptions
) -> tuple[torch.Tensor, dict[str, float]]:
    """What is minimised, and what is written down of it: all of these are means over the rows.

    Supervised fine-tuning: the winners' diffusion error. Preference: the DPO loss, plus --winner_weight times that
    error; `winner_change` and `loser_change` say by how much the errors differ from the reference's. A winner's error
    that rises means that the loss falls only because the loser's rises faster.
    """
    if options.loss == "sft":
        loss = diffusion_errors(model, draw)[0].mean()
        return loss, {"loss": loss.item()}
    with torch.no_grad(), trainable.reference():
        reference = diffusion_errors(model, draw)
    winner, loser, *anchor = policy = diffusion_errors(model, draw, anchored=options.winner_weight > 0)
    reference_winner, reference_loser = reference
    result = dpo_loss(winner, loser, reference_winner, reference_loser, options.beta)
    record = {"loss": result.loss.item(), "accuracy": result.accuracy, "margin": result.margin}
    for name, now, before in zip(("winner_change", "loser_change"), policy, reference, strict=False):
        record[name] = (now.detach() - before).mean().item()
    return result.loss + options.winner_weight * (anchor[0] if anchor else winner).mean(), record


def optimiser_step(
    model,
    trainable: Trainable,
    data: TrainingData,
    options: PreferenceOptions,
    optimizer,
    step: int,
    fitting: Halving,
    processes: Processes = ALONE,
) -> dict[str, float]:
    """One step over batch_size x gradient_accumulation pairs, as many at a time as fit; returns its record.

    The pairs are shared out to the processes.

    Raises:
        UserError: loss or gradient are not finite; the weights are still those of the step before.
    """
    set_learning_rate(optimizer, options.learning_rate * min(1.0, (step + 1) / max(1, options.warmup_steps)))
    whole = draw(data, options, step)
    mine = processes.share(len(whole.t))
    share = partial(set_gradient, model, trainable, whole, options, step, mine)
    record = processes.sum_values(fitting.retry(share, max(1, len(mine))))
    processes.sum_gradients(trainable.parameters.values())
    check_finite(limit_gradient(trainable.parameters.values()), "gradient", step, MEND)
    optimizer.step()
    return record


def set_gradient(
    model, trainable: Trainable, whole: Draw, options: PreferenceOptions, step: int, mine: torch.Tensor, size: int
) -> dict[str, float]:
    """Give the parameters the gradient of a step's loss, computed `size` pairs at a time; returns the step's record.

    Of some rows, `mine`: their part of both, which are means over the whole draw.
    """
    record: dict[str, float] = {}
    for parameter in trainable.parameters.values():
        parameter.grad = None
    own = whole.rows(mine)
    for rows in (part for bucket in buckets(model, own) for part in bucket.split(size) if len(part)):
        loss, part = batch_loss(model, trainable, own.rows(rows), options)
        check_finite(loss, "loss", step, MEND)
        share = len(rows) / len(whole.t)
        (share * loss).backward()
        record = {name: record.get(name, 0.0) + share * value for name, value in part.items()}
    return record


def update_average(average: dict[str, torch.Tensor], trainable: Trainable, decay: float, step: int) -> None:
    """Exponential moving average of the weights, in place; over the first steps it forgets its start faster."""
    decay = min(decay, (1 + step) / (10 + step))
    for name, parameter in trainable.parameters.items():
        average[name].lerp_(parameter.detach(), 1 - decay)


def new_optimizer(trainable: Trainable, options: PreferenceOptions) -> torch.optim.Optimizer:
    """AdamW over what is trained."""
    parameters = trainable.parameters.values()
    return torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=options.weight_decay)


def align(
    model,
    trainable: Trainable,
    data: TrainingData,
    options: PreferenceOptions,
    checkpoint: Checkpoint,
    on_step: Callable[[list[dict[str, float]]], None] | None = None,
    processes: Processes = ALONE,
) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """Take all steps that are left; the weights in `trainable` are then the last ones.

    `on_step` is called with the history after each of them, in the main one of the `processes` that train together.

    Returns:
        (a record of each step, moving average of the weights by name, empty without --ema_decay).
    """
    optimizer, state = new_optimizer(trainable, options), State()
    average = {name: p.detach().clone() for name, p in trainable.parameters.items()} if options.ema_decay else {}
    weights = Tensors(trainable.parameters)
    parts: Parts = {"weights": weights, "average": Tensors(average), "optimizer": optimizer}
    checkpoint.load(state, parts)
    started, size = time.monotonic() - state.seconds, Halving(options.batch_size, "pair")

    def take_step(step: int) -> None:
        record = optimiser_step(model, trainable, data, options, optimizer, step, size, processes)
        if average:
            update_average(average, trainable, options.ema_decay, step)
        state.history.append({"step": step, **record, "seconds": round(time.monotonic() - started, 2)})
        if on_step and processes.is_main:
            on_step(state.history)

    processes.tell_idle(min(options.batch_size * options.gradient_accumulation, len(data)), "pairs")
    num_steps = count_steps(options, len(data))
    every = options.checkpoint_every
    train(state, parts, checkpoint, num_steps, every, take_step, what="dpo: steps", processes=processes)
    return state.history, average


def summary(history: list[dict[str, float]]) -> dict[str, float]:
    """Means of the last fifth of the steps (single steps are noisy)."""
    tail = history[-max(1, len(history) // 5) :]
    return {name: sum(row[name] for row in tail) / len(tail) for name in tail[0] if name not in ("step", "seconds")}
