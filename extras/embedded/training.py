"""What the recipes share: their options, and a training loop that is seeded by step, resumable to the same weights,
logged, and averages the weights."""

from __future__ import annotations

import csv
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthio.cli import in_range, new_parser, pick_device
from synthio.files import atomic_path
from synthio.options import Device, add_options

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parents[2]
# (step) -> what the loss needs: CPU tensors in tuples, lists or dicts. All randomness of a step is drawn here.
BatchFunction = Callable[[int], Any]
# (batch, on the device) -> {"loss": scalar tensor, other names: scalar tensors to log}
LossFunction = Callable[[Any], "dict[str, torch.Tensor]"]


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
    add("--workers", type=in_range(int, 0), default=0, help="processes that make batches; 0: none, they wait for each")
    add_options(parser, Device)
    return parser


def learning_rate(step: int, steps: int, peak: float, warmup: int = 200) -> float:
    """Linear warm-up, then a cosine to a twentieth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return peak * (0.05 + 0.95 * (0.5 + 0.5 * math.cos(math.pi * share)))


def update_average(average: dict[str, torch.Tensor], module: torch.nn.Module, step: int, decay: float) -> None:
    """Exponential moving average of the weights; it forgets faster at the start, where the weights are worst."""
    import torch

    rate = max(1 - decay, 1 / (1 + step / 10))
    state = module.state_dict()
    torch._foreach_lerp_(list(average.values()), [state[name] for name in average], rate)


def save_checkpoint(path: Path, module, optimizer, average, step: int) -> None:
    """Write everything that a resumed training needs."""
    import torch

    record = {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "average": average, "step": step}
    with atomic_path(path) as temporary:
        torch.save(record, temporary)


def load_checkpoint(path: Path, module, optimizer, average, device: str) -> int:
    """Take up what `save_checkpoint` wrote, if anything; returns the number of steps that are done."""
    import torch

    if not path.exists():
        return 0
    record = torch.load(path, weights_only=True, map_location=device)
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


def batches(batch_of: BatchFunction, first: int, steps: int, workers: int):
    """The batches of the steps from `first` on, in order, made ahead by `workers` processes."""
    from torch.utils.data import DataLoader

    class Batches:
        def __len__(self):
            return steps - first

        def __getitem__(self, i):
            return batch_of(first + i)

    ahead = {"prefetch_factor": 4, "multiprocessing_context": "fork"} if workers else {}
    return DataLoader(Batches(), batch_size=None, num_workers=workers, **ahead)


def to_device(batch, device: str):
    """A batch with its tensors on the device."""
    import torch
    from torch.utils._pytree import tree_map

    return tree_map(lambda x: x.to(device, non_blocking=True) if isinstance(x, torch.Tensor) else x, batch)


def fit(
    name: str,
    module: torch.nn.Module,
    batch_of: BatchFunction,
    loss_of: LossFunction,
    *,
    args,
    export: Callable[[], None],
    weight_decay: float = 0.01,
    decay: float = 0.999,
    every: int = 100,
    export_every_s: float = 480.0,
) -> None:
    """Train `module` on the device and leave the averaged weights in it, on the CPU.

    Args:
        name: of the checkpoint `<name>.pt` and the log `<name>.csv` in the scratch folder.
        module: everything that is trained.
        batch_of: makes the batch of a step; must depend on the step number alone.
        loss_of: gives the loss of a batch; must depend on it and the weights alone.
        args: of `recipe_parser`.
        export: called with the averaged weights in `module`, on the CPU, now and then and at the end.
        every: steps between log lines and checkpoints.
    """
    import torch

    device, steps, scratch = pick_device(args.device), args.steps, args.scratch
    torch.set_float32_matmul_precision("high")  # TF32 where there is a GPU
    module.to(device)
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=args.learning_rate, weight_decay=weight_decay, betas=(0.9, 0.98))
    average = {k: v.clone() for k, v in module.state_dict().items() if v.is_floating_point()}
    checkpoint = scratch / f"{name}.pt"
    first = load_checkpoint(checkpoint, module, optimizer, average, device)
    started = exported = time.monotonic()
    sums: dict[str, torch.Tensor] = {}
    for step, batch in enumerate(batches(batch_of, first, steps, args.workers), first):
        losses = loss_of(to_device(batch, device))
        train_step(optimizer, losses, learning_rate(step, steps, args.learning_rate))
        update_average(average, module, step, decay)
        # summed on the device: a number asked for at each step would make the GPU wait
        sums = {key: sums.get(key, 0.0) + value.detach() / every for key, value in losses.items()}
        if (step + 1) % every:
            continue
        means = {key: round(float(value), 5) for key, value in sums.items()}
        if not math.isfinite(means["loss"]):
            sys.exit(f"{name}: the loss is not finite in the steps before {step + 1}")
        log_row(scratch / f"{name}.csv", {"step": step + 1, **means, "seconds": round(time.monotonic() - started, 1)})
        save_checkpoint(checkpoint, module, optimizer, average, step + 1)
        sums = {}
        if time.monotonic() - exported > export_every_s:
            with_average(module, average, export)
            exported = time.monotonic()
    module.load_state_dict(average, strict=False)
    module.cpu()
    export()


def with_average(module, average: dict[str, torch.Tensor], action: Callable[[], None]) -> None:
    """Run `action` with the averaged weights, on the CPU, then put the current ones back."""
    current = {k: v.clone() for k, v in module.state_dict().items()}
    device = next(module.parameters()).device
    module.load_state_dict(average, strict=False)
    module.cpu()
    action()
    module.to(device)
    module.load_state_dict(current)


def save_half(part, folder: Path) -> None:
    """save_pretrained in float16 (half the size; it is loaded as float32), leaving `part` as it was."""
    import copy

    copy.deepcopy(part).half().save_pretrained(folder)
