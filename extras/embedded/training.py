"""A training loop for the recipes: seeded by step, resumable to the same weights, logged, with averaged weights."""

from __future__ import annotations

import csv
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from synthio.files import atomic_path

# A step's loss: (step) -> {"loss": scalar tensor, other names: numbers to log}. All randomness comes from the step.
LossFunction = Callable[[int], dict[str, torch.Tensor]]


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
    record = {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "average": average, "step": step}
    with atomic_path(path) as temporary:
        torch.save(record, temporary)


def log_row(path: Path, row: dict[str, float]) -> None:
    """Append a line to the CSV log, with a header if it is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, list(row))
        if is_new:
            writer.writeheader()
        writer.writerow(row)


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
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=peak_lr, weight_decay=weight_decay, betas=(0.9, 0.98))
    average = {k: v.clone() for k, v in module.state_dict().items() if v.is_floating_point()}
    checkpoint = scratch / f"{name}.pt"
    first = 0
    if checkpoint.exists():
        record = torch.load(checkpoint, weights_only=True)
        module.load_state_dict(record["module"])
        optimizer.load_state_dict(record["optimizer"])
        average, first = record["average"], record["step"]
        print(f"{name}: going on after step {first}", flush=True)
    started = exported = time.monotonic()
    sums: dict[str, float] = {}
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak_lr)
        losses = loss_of(step)
        if not torch.isfinite(losses["loss"]):
            sys.exit(f"{name}: the loss is not finite at step {step}")
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        update_average(average, module, step, decay)
        for key, value in losses.items():
            sums[key] = sums.get(key, 0.0) + float(value.detach()) / every
        if (step + 1) % every == 0:
            row = {"step": step + 1, **{k: round(v, 5) for k, v in sums.items()}}
            row["seconds"] = round(time.monotonic() - started, 1)
            log_row(scratch / f"{name}.csv", row)
            print(name, row, flush=True)
            save_checkpoint(checkpoint, module, optimizer, average, step + 1)
            sums = {}
            if time.monotonic() - exported > export_every_s:
                with_average(module, average, export)
                exported = time.monotonic()
    module.load_state_dict(average, strict=False)
    export()


def with_average(module, average, action: Callable[[], None]) -> None:
    """Run `action` with the averaged weights, then put the current ones back."""
    current = {k: v.clone() for k, v in module.state_dict().items()}
    module.load_state_dict(average, strict=False)
    action()
    module.load_state_dict(current)


def save_half(part, folder: Path) -> None:
    """save_pretrained in float16 (half the size; it is loaded as float32), leaving `part` as it was."""
    import copy

    copy.deepcopy(part).half().save_pretrained(folder)
