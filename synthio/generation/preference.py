"""Training a text-to-audio model on preference pairs, step by step, and going on after a kill.

Everything random of a step comes from (seed, step) alone, so a resumed training repeats what an unbroken one draws.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import torch

from synthio.batching import Halving
from synthio.cli import UserError, progress
from synthio.files import atomic_path, stable_seed
from synthio.generation.diffusion import add_noise, dpo_loss, squared_errors, stratified_times
from synthio.generation.options import PreferenceOptions
from synthio.generation.pairs import TrainingData
from synthio.models.adapters import Trainable
from synthio.models.base import Condition, TextToAudio

MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class Draw:
    """What one optimiser step sees, one row a pair. Winner and loser, policy and reference all see the same noise,
    time and condition; the dropout of the condition is in it already.

    Attributes:
        winners, losers: latents [B, D, L]; losers is None where there are none.
        noise: [B, D, L].
        t: [B].
        condition: B rows.
    """

    winners: torch.Tensor
    losers: torch.Tensor | None
    noise: torch.Tensor
    t: torch.Tensor
    condition: Condition

    def rows(self, index: torch.Tensor) -> Draw:
        """Some of the rows."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        cut = {name: part[index] for name, part in parts.items() if isinstance(part, torch.Tensor)}
        return replace(self, **cut, condition=self.condition.rows(index))


def batch_rows(count: int, batch_size: int, seed: int, step: int) -> torch.Tensor:
    """Rows of a step's batch: every epoch is a new shuffle of all rows, known from (seed, step) alone."""
    batch_size = min(batch_size, count)
    rows: list[int] = []
    position = step * batch_size
    while len(rows) < batch_size:
        epoch, offset = divmod(position + len(rows), count)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(stable_seed(seed, "dpo epoch", epoch)))
        rows += order[offset : offset + batch_size - len(rows)].tolist()
    return torch.tensor(rows)


def count_steps(options: PreferenceOptions, count: int) -> int:
    """Optimiser steps of the whole training: --num_epochs passes over `count` pairs, or --num_steps."""
    step_size = min(options.batch_size * options.gradient_accumulation, count)
    return math.ceil(options.num_epochs * count / step_size) if options.num_epochs else options.num_steps


def draw(data: TrainingData, options: PreferenceOptions, step: int) -> Draw:
    """The whole batch of a step, whatever number of passes it is then cut into."""
    generator = torch.Generator().manual_seed(stable_seed(options.seed, "dpo step", step))
    index = batch_rows(len(data), options.batch_size * options.gradient_accumulation, options.seed, step)
    count, device = len(index), data.latents.device
    t = stratified_times(count, generator, options.timestep_distribution).to(device)
    noise = torch.randn(count, *data.latents.shape[1:], generator=generator).to(device)
    dropped = (torch.rand(count, generator=generator) < options.condition_dropout).to(device)
    losers = None if data.losers is None else data.latents[data.losers[index]]
    condition = data.condition.rows(data.prompts[index]).dropped(dropped)
    return Draw(data.latents[data.winners[index]], losers, noise, t, condition)


def diffusion_errors(model: TextToAudio, draw: Draw) -> tuple[torch.Tensor, ...]:
    """Squared errors [B] of the winners and, where there are losers, theirs, in one pass over both."""
    sides = [draw.winners] if draw.losers is None else [draw.winners, draw.losers]
    t, noise = draw.t.repeat(len(sides)), draw.noise.repeat(len(sides), 1, 1)
    noisy, target = add_noise(model.objective, torch.cat(sides), noise, t)
    prediction = model.predict(noisy, t, Condition.joined([draw.condition] * len(sides)))
    return squared_errors(prediction, target).chunk(len(sides))


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
    policy = diffusion_errors(model, draw)
    (winner, loser), (reference_winner, reference_loser) = policy, reference
    result = dpo_loss(winner, loser, reference_winner, reference_loser, options.beta)
    record = {"loss": result.loss.item(), "accuracy": result.accuracy, "margin": result.margin}
    for name, now, before in zip(("winner_change", "loser_change"), policy, reference, strict=True):
        record[name] = (now.detach() - before).mean().item()
    return result.loss + options.winner_weight * policy[0].mean(), record


def optimiser_step(
    model, trainable: Trainable, data: TrainingData, options: PreferenceOptions, optimizer, step: int, fitting: Halving
) -> dict[str, float]:
    """One step over batch_size x gradient_accumulation pairs, as many at a time as fit; returns its record.

    Raises:
        UserError: loss or gradient are not finite; the weights are still those of the step before.
    """
    for group in optimizer.param_groups:
        group["lr"] = options.learning_rate * min(1.0, (step + 1) / max(1, options.warmup_steps))
    whole = draw(data, options, step)
    record = fitting.retry(partial(set_gradient, model, trainable, whole, options, step), len(whole.t))
    norm = torch.nn.utils.clip_grad_norm_(trainable.parameters.values(), MAX_GRADIENT_NORM)
    _check_finite("gradient", norm, step)
    optimizer.step()
    return record


def set_gradient(
    model, trainable: Trainable, whole: Draw, options: PreferenceOptions, step: int, size: int
) -> dict[str, float]:
    """Give the parameters the gradient of a step's loss, computed `size` pairs at a time; returns the step's record."""
    record: dict[str, float] = {}
    for parameter in trainable.parameters.values():
        parameter.grad = None
    for rows in torch.arange(len(whole.t)).split(size):
        loss, part = batch_loss(model, trainable, whole.rows(rows), options)
        _check_finite("loss", loss, step)
        share = len(rows) / len(whole.t)
        (share * loss).backward()
        record = {name: record.get(name, 0.0) + share * value for name, value in part.items()}
    return record


def _check_finite(what: str, value: torch.Tensor, step: int) -> None:
    if not torch.isfinite(value):
        raise UserError(f"the {what} is {value.item()} at step {step}; lower --learning_rate or --beta")


def update_average(average: dict[str, torch.Tensor], trainable: Trainable, decay: float, step: int) -> None:
    """Exponential moving average of the weights, in place; over the first steps it forgets its start faster."""
    decay = min(decay, (1 + step) / (10 + step))
    for name, parameter in trainable.parameters.items():
        average[name].lerp_(parameter.detach(), 1 - decay)


@dataclass
class State:
    """A training after some steps.

    Attributes:
        optimizer: with its moments.
        average: moving average of the weights, by name; empty without --ema_decay.
        history: a record a step.
    """

    optimizer: torch.optim.Optimizer
    average: dict[str, torch.Tensor]
    history: list[dict[str, float]]


def new_state(trainable: Trainable, options: PreferenceOptions) -> State:
    """Before the first step."""
    parameters = trainable.parameters
    optimizer = torch.optim.AdamW(parameters.values(), lr=options.learning_rate, weight_decay=options.weight_decay)
    average = {name: p.detach().clone() for name, p in parameters.items()} if options.ema_decay else {}
    return State(optimizer, average, [])


def save_checkpoint(path: Path, identity: str, trainable: Trainable, state: State) -> None:
    """Everything a rerun needs to go on."""
    weights = {name: p.detach() for name, p in trainable.parameters.items()}
    record = {"identity": identity, "weights": weights, "average": state.average, "history": state.history}
    with atomic_path(path) as temporary:
        torch.save(record | {"optimizer": state.optimizer.state_dict()}, temporary)


def load_checkpoint(path: Path, identity: str, trainable: Trainable, state: State) -> None:
    """Bring weights and state to where the checkpoint is; without one of this very training they stay as they are."""
    if not path.is_file():
        return
    record = torch.load(path, weights_only=True, map_location="cpu")
    if record["identity"] != identity:
        return
    with torch.no_grad():
        for name, parameter in trainable.parameters.items():
            parameter.copy_(record["weights"][name])
        for name, tensor in state.average.items():
            tensor.copy_(record["average"][name])
    state.optimizer.load_state_dict(record["optimizer"])
    state.history += record["history"]
    print(f"going on after step {len(state.history)}", file=sys.stderr)


def train(
    model,
    trainable: Trainable,
    data: TrainingData,
    options: PreferenceOptions,
    checkpoint: Path,
    identity: str,
    on_step=None,
) -> State:
    """All steps that are left; the weights in `trainable` are then the last ones.

    `on_step` is called with the history after each of them.
    """
    state = new_state(trainable, options)
    load_checkpoint(checkpoint, identity, trainable, state)
    started, total = time.monotonic(), count_steps(options, len(data))
    fitting = Halving(options.batch_size, "pair")
    for step in progress(range(len(state.history), total), "dpo: steps"):
        record = optimiser_step(model, trainable, data, options, state.optimizer, step, fitting)
        if state.average:
            update_average(state.average, trainable, options.ema_decay, step)
        state.history.append({"step": step, **record, "seconds": round(time.monotonic() - started, 2)})
        if on_step:
            on_step(state.history)
        if (step + 1) % options.checkpoint_every == 0:
            save_checkpoint(checkpoint, identity, trainable, state)
    return state


def summary(history: list[dict[str, float]]) -> dict[str, float]:
    """Means of the last fifth of the steps (single steps are noisy)."""
    tail = history[-max(1, len(history) // 5) :]
    return {name: sum(row[name] for row in tail) / len(tail) for name in tail[0] if name not in ("step", "seconds")}
