"""What the recipes share: their options, and a training loop that is seeded by step, resumable to the same weights,
logged, and averages the weights."""

from __future__ import annotations

import csv
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from synthio.cli import in_range, new_parser
from synthio.files import atomic_path

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parents[2]
# A step's loss: (step) -> {"loss": scalar tensor, other names: numbers to log}. All randomness comes from the step.
LossFunction = Callable[[int], "dict[str, torch.Tensor]"]


def recipe_parser(doc: str, output: str, steps: int, batch_size: int):
    """The options of a recipe that writes extras/embedded/weights/<output>."""
    parser = new_parser(doc)
    add, scratch = parser.add_argument, ROOT / ".scratch"
    add("--cache", type=Path, default=scratch / "corpus", help="folder of corpus.py")
    add("--output", type=Path, default=ROOT / "extras/embedded/weights" / output, help="output folder")
    add("--scratch", type=Path, default=scratch, help="checkpoint, log, and what is computed once for every clip")
    add("--steps", type=in_range(int, 1), default=steps, help="optimiser steps")
    add("--batch_size", type=in_range(int, 2), default=batch_size, help="clips a step")
    add("--learning_rate", type=in_range(float, 0), default=1e-3, help="peak")
    add("--seed", type=in_range(int, 0), default=0, help="of everything random")
    return parser


def learning_rate(step: int, steps: int, peak: float, warmup: int = 200) -> float:
    """Linear warm-up, then a cosine to a twentieth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return peak * (0.05 + 0.95 * (0.5 + 0.5 * math.cos(math.pi * share)))


def update_average(average: dict[str, torch.Tensor], module: torch.nn.Module, step: int, decay: float) -> None:
    """Exponential moving average of the weights; it forgets faster at the start, where the weights are worst."""
    rate = max(1 - decay, 1 / (1 + step / 10))
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, rate)


def save_checkpoint(path: Path, module, optimizer, average, step: int) -> None:
    """Write everything that a resumed training needs."""
    import torch

    record = {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "average": average, "step": step}
    with atomic_path(path) as temporary:
        torch.save(record, temporary)


def load_checkpoint(path: Path, module, optimizer, average) -> int:
    """Take up what `save_checkpoint` wrote, if anything; returns the number of steps that are done."""
    import torch

    if not path.exists():
        return 0
    record = torch.load(path, weights_only=True)
    module.load_state_dict(record["module"])
    optimizer.load_state_dict(record["optimizer"])
    average.update(record["average"])
    print(f"{path.stem}: going on after step {record['step']}", flush=True)
    return record["step"]


def log_row(path: Path, row: dict[str, float]) -> None:
    """Append a line to the CSV log, with a header if it is new, and print it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, list(row))
        if is_new:
            writer.writeheader()
        writer.writerow(row)
    print(path.stem, row, flush=True)


def train_step(optimizer, losses: dict[str, torch.Tensor], rate: float) -> None:
    """One step of the optimiser down the gradient of losses["loss"]."""
    import torch

    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    losses["loss"].backward()
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()


def fit(
    name: str,
    module: torch.nn.Module,
    loss_of: LossFunction,
    *,
    steps: int,
    peak_lr: float,
    scratch: Path,
    export: Callable[[], None],
    weight_decay: float = 0.01,
    decay: float = 0.999,
    every: int = 100,
    export_every_s: float = 480.0,
) -> None:
    """Train `module` and leave the averaged weights in it.

    Args:
        name: of the checkpoint and the log in `scratch`.
        module: everything that is trained.
        loss_of: gives the loss of a step; must depend on the step number and the weights alone.
        steps: optimiser steps.
        peak_lr: AdamW's learning rate after warm-up.
        scratch: folder for `<name>.pt` and `<name>.csv`.
        export: called with the averaged weights in `module`, now and then and at the end.
        every: steps between log lines and checkpoints.
    """
    import torch

    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=peak_lr, weight_decay=weight_decay, betas=(0.9, 0.98))
    average = {k: v.clone() for k, v in module.state_dict().items() if v.is_floating_point()}
    checkpoint = scratch / f"{name}.pt"
    first = load_checkpoint(checkpoint, module, optimizer, average)
    started = exported = time.monotonic()
    sums: dict[str, float] = {}
    for step in range(first, steps):
        losses = loss_of(step)
        if not torch.isfinite(losses["loss"]):
            sys.exit(f"{name}: the loss is not finite at step {step}")
        train_step(optimizer, losses, learning_rate(step, steps, peak_lr))
        update_average(average, module, step, decay)
        sums = {key: sums.get(key, 0.0) + float(value.detach()) / every for key, value in losses.items()}
        if (step + 1) % every:
            continue
        means = {key: round(value, 5) for key, value in sums.items()}
        log_row(scratch / f"{name}.csv", {"step": step + 1, **means, "seconds": round(time.monotonic() - started, 1)})
        save_checkpoint(checkpoint, module, optimizer, average, step + 1)
        sums = {}
        if time.monotonic() - exported > export_every_s:
            with_average(module, average, export)
            exported = time.monotonic()
    module.load_state_dict(average, strict=False)
    export()


def with_average(module, average: dict[str, torch.Tensor], action: Callable[[], None]) -> None:
    """Run `action` with the averaged weights, then put the current ones back."""
    current = {k: v.clone() for k, v in module.state_dict().items()}
    module.load_state_dict(average, strict=False)
    action()
    module.load_state_dict(current)


def save_half(part, folder: Path) -> None:
    """save_pretrained in float16 (half the size; it is loaded as float32), leaving `part` as it was."""
    import copy

    copy.deepcopy(part).half().save_pretrained(folder)
