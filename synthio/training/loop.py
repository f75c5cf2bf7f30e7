"""The training loop of everything that is trained here: one that was killed goes on and ends with the same weights.

    state = State()
    parts = {"model": model, "optimizer": optimizer}
    checkpoint = Checkpoint(folder / "checkpoint.pt", key)
    checkpoint.load(state, parts)
    train(state, parts, checkpoint, num_steps, every, take_step, evaluate)
    ...                    # write the results
    checkpoint.remove()

Everything random of a step has to be a function of (seed, step) alone, so that no random state is kept. Several
processes may train together (synthio.training.processes): a step then sums their gradients, and the main process does
all else.
"""

from __future__ import annotations

import math
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import torch

from synthio.cli import UserError, first_line, progress
from synthio.files import atomic_path, stable_seed
from synthio.training.processes import ALONE, Processes

MAX_GRADIENT_NORM = 1.0
Row = TypeVar("Row")


class Part(Protocol):
    """What a checkpoint keeps: a module, an optimizer, `Tensors`."""

    def state_dict(self) -> Any: ...  # Any: torch's own differ

    def load_state_dict(self, state_dict: Any, /) -> Any: ...  # as above


Parts: TypeAlias = Mapping[str, Part]


@dataclass(frozen=True)
class Tensors:
    """Tensors by name as a part: what a checkpoint holds is copied into them, whatever their device and type."""

    tensors: Mapping[str, torch.Tensor]

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach() for name, tensor in self.tensors.items()}

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, torch.Tensor], /) -> None:
        for name, tensor in self.tensors.items():
            tensor.copy_(state_dict[name])


@dataclass
class State:
    """What a training has reached. All of it goes into the checkpoint; a subclass may add numbers, texts and tensors.

    Attributes:
        step: steps that are done.
        history: a record of each step, or of each evaluation.
        seconds: that the steps took, in all processes.
    """

    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """The file that a training goes on from.

    Attributes:
        path: of the file.
        key: hash of all that shapes the result; a checkpoint with another one is not taken up.
    """

    path: Path
    key: str

    def save(self, state: State, parts: Parts) -> None:
        """Write everything that a later process needs to go on; the file is whole or that of before."""
        content = {"key": self.key, "state": vars(state)} | {name: part.state_dict() for name, part in parts.items()}
        with atomic_path(self.path) as temporary:
            torch.save(content, temporary)

    def load(self, state: State, parts: Parts) -> None:
        """`restore`, and say so."""
        if self.restore(state, parts):
            print(f"going on after step {state.step}", file=sys.stderr)

    def restore(self, state: State, parts: Parts) -> bool:
        """Bring state and parts to where the file is. Without a file of this very training they stay as they are."""
        content = self._read()
        if content.get("key") != self.key or content.keys() != {"key", "state", *parts}:
            return False
        if content["state"].keys() != vars(state).keys():
            return False
        for name, part in parts.items():
            part.load_state_dict(content[name])
        for name, value in content["state"].items():
            setattr(state, name, value)
        return True

    def _read(self) -> dict[str, Any]:
        """The content; of a damaged file nothing, after a warning. torch alone passes over a changed bit."""
        if not self.path.exists():
            return {}
        try:
            with zipfile.ZipFile(self.path) as archive:
                damaged = archive.testzip()
            if damaged:
                raise ValueError(f"the checksum of {damaged} is wrong")
            content = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # what reading a damaged file raises depends on where it is damaged
            print(
                f"warning: the checkpoint {self.path} cannot be read ({first_line(error) or type(error).__name__}); "
                "training starts anew",
                file=sys.stderr,
            )
            return {}
        return content if isinstance(content, dict) else {}

    def remove(self) -> None:
        """Once the results are written, nothing is left to go on from."""
        self.path.unlink(missing_ok=True)


def train(
    state: State,
    parts: Parts,
    checkpoint: Checkpoint,
    num_steps: int,
    every: int,
    take_step: Callable[[int], Row],
    *,
    evaluate: Callable[[list[Row]], None] | None = None,
    tell: Callable[[], None] | None = None,
    is_over: Callable[[], bool] | None = None,
    what: str = "training steps",
    processes: Processes = ALONE,
) -> None:
    """Take the steps that are left, with a checkpoint after every `every` of them and after the last.

    Of several processes all take every step; `evaluate`, the checkpoint, `tell` and `is_over` are the main one's.

    Args:
        state: from `Checkpoint.load`; it is kept up to date.
        parts: what changes, by name.
        checkpoint: where both are written.
        num_steps: of the whole training.
        every: steps between checkpoints.
        take_step: takes a step (from 0) and returns its record.
        evaluate: is given the records since the last checkpoint before one is written; what it adds to the state goes
            into it.
        tell: is called after a checkpoint is written.
        is_over: says before a step that no more is to be taken.
        what: is trained, for the line of progress.
        processes: that train together.

    Raises:
        UserError: the processes have not the same checkpoint.
    """
    set_out(state, parts, processes)
    started, rows = time.monotonic() - state.seconds, []
    for step in progress(range(state.step, num_steps), what):
        if is_over and processes.from_main(is_over):
            break
        rows.append(take_step(step))
        if (step + 1) % every and step + 1 < num_steps:
            continue
        state.step = step + 1
        if processes.is_main:
            if evaluate:
                evaluate(rows)
            state.seconds = time.monotonic() - started
            checkpoint.save(state, parts)
            if tell:
                tell()
        rows = []
        processes.wait_for_main()


def set_out(state: State, parts: Parts, processes: Processes) -> None:
    """Let all processes start from the same step and weights: those of the main one."""
    step = processes.from_main(lambda: state.step)
    if step != state.step:
        raise UserError(
            f"process {processes.rank + 1} of {processes.count} goes on after step {state.step}, the first one after "
            f"step {step}: they do not see the same checkpoint"
        )
    for part in parts.values():
        if not isinstance(part, torch.optim.Optimizer):  # it is new, or as it is in the checkpoint
            processes.same_start(part.state_dict().values())


# ---- one step


def batch_rows(count: int, batch_size: int, step: int, seed: int) -> np.ndarray:
    """Rows of step `step` (from 0): `count` items in an endless row of shuffled epochs, cut into equal batches.

    Every item comes equally often, also when the batch size does not divide their number or exceeds it.
    """
    places = np.arange(step * batch_size, (step + 1) * batch_size)
    return rows_at(places, count, partial(epoch_order, count, seed))


def rows_at(places: np.ndarray, count: int, order: Callable[[int], np.ndarray]) -> np.ndarray:
    """The items at some places of the endless row of epochs; order(epoch) is a permutation of all of them, [count]."""
    orders = {int(epoch): order(int(epoch)) for epoch in np.unique(places // max(1, count))}
    return np.array([orders[int(place // count)][place % count] for place in places], int)


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The items of an epoch, shuffled."""
    return np.random.default_rng(stable_seed(seed, "epoch", epoch)).permutation(count)


def learning_rate_factor(step: int, num_steps: int, warmup_fraction: float) -> float:
    """Linear warm-up over the first steps, then a cosine down to 0; the factor is at most 1. `step` counts from 0."""
    warmup = round(num_steps * warmup_fraction)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(1, num_steps - warmup))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The same for all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def limit_gradient(parameters: Iterable[torch.Tensor]) -> torch.Tensor:
    """Scale the gradient down to a norm of at most `MAX_GRADIENT_NORM`; returns what it was."""
    return torch.nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)


def descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor, rate: float) -> None:
    """One step of the optimizer down the limited gradient of a loss."""
    set_learning_rate(optimizer, rate)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    limit_gradient([parameter for group in optimizer.param_groups for parameter in group["params"]])
    optimizer.step()


def check_finite(value: torch.Tensor | float, what: str, step: int, mend: str = "lower --learning_rate") -> None:
    """Stop a training that has gone astray; `step` counts from 0.

    Raises:
        UserError: the value is not finite (what it is, the step from 1 on, and how to mend it).
    """
    number = value.item() if isinstance(value, torch.Tensor) else value
    if not math.isfinite(number):
        raise UserError(f"the {what} is {number} at step {step + 1}; {mend}")
