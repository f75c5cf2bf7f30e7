"""What the recipes share: their options, and a training that averages its weights, logs and exports them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthio.cli import in_range, new_parser, pick_device
from synthio.data.workers import end_with_parent
from synthio.files import EMBEDDED, ROOT, sha256_value
from synthio.options import Device, add_options

if TYPE_CHECKING:
    import torch

    from synthio.training.loop import State

INERT = ("cache", "output", "scratch", "device", "workers")  # options that change no result
# (step) -> what the loss needs: CPU tensors in tuples, lists or dicts. All randomness of a step is drawn here.
BatchFunction = Callable[[int], Any]
# (batch, on the device) -> {"loss": scalar tensor, other names: scalar tensors to log}
LossFunction = Callable[[Any], "dict[str, torch.Tensor]"]


def recipe_parser(doc: str, output: str, steps: int, batch_size: int):
    """The options of a recipe that writes the embedded model of this name."""
    parser = new_parser(doc)
    add, scratch = parser.add_argument, ROOT / ".scratch"
    add("--cache", type=Path, default=scratch / "corpus", help="folder of corpus.py")
    add("--output", type=Path, default=EMBEDDED / output, help="output folder")
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


def batches(batch_of: BatchFunction, first: int, steps: int, workers: int):
    """The batches of the steps from `first` on, in order, made ahead by `workers` processes."""
    from torch.utils.data import DataLoader

    class Batches:
        def __len__(self):
            return steps - first

        def __getitem__(self, i):
            return batch_of(first + i)

    def start(worker: int) -> None:
        end_with_parent()

    ahead = {"prefetch_factor": 4, "multiprocessing_context": "fork", "worker_init_fn": start} if workers else {}
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
    warmup: int = 200,
    every: int = 100,
    export_every_s: float = 480.0,
) -> None:
    """Train `module` on the device and leave the averaged weights in it, on the CPU.

    The checkpoint stays, so that train.sh passes over a recipe that is done.

    Args:
        name: of the checkpoint `<name>.pt` and the log `<name>.csv` in the scratch folder.
        module: everything that is trained.
        batch_of: makes the batch of a step; must depend on the step number alone.
        loss_of: gives the loss of a batch; must depend on it and the weights alone.
        args: of `recipe_parser`.
        export: called with the averaged weights in `module`, on the CPU, now and then and at the end.
        warmup: steps in which the rate rises.
        every: steps between log lines and checkpoints.

    Raises:
        UserError: the loss is not finite.
    """
    from synthio.training.loop import Checkpoint, State, Tensors, descend, train

    device, steps, state = pick_device(args.device), args.steps, State()
    module.to(device)
    optimizer, average = make_optimizer(module, args.learning_rate, weight_decay), floats_of(module)
    parts = {"module": module, "optimizer": optimizer, "average": Tensors(average)}
    identity = sha256_value([name, shaping(args), weight_decay, decay, warmup])
    checkpoint = Checkpoint(args.scratch / f"{name}.pt", identity)
    checkpoint.load(state, parts)
    made = iter(batches(batch_of, state.step, steps, args.workers))

    def take_step(step: int) -> dict[str, torch.Tensor]:
        losses = loss_of(to_device(next(made), device))
        descend(optimizer, losses["loss"], learning_rate(step, steps, args.learning_rate, warmup))
        update_average(average, module, step, decay)
        return {key: value.detach() for key, value in losses.items()}  # a number here would make the GPU wait

    log = logger(state, args.scratch / f"{name}.csv")
    tell = now_and_then(partial(with_average, module, average, export), export_every_s)
    train(state, parts, checkpoint, steps, every, take_step, evaluate=log, tell=tell, what=f"{name}: steps")
    module.load_state_dict(average, strict=False)
    module.cpu()
    export()


def make_optimizer(module: torch.nn.Module, peak: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW over the weights that are trained."""
    import torch

    parameters = [p for p in module.parameters() if p.requires_grad]
    return torch.optim.AdamW(parameters, lr=peak, weight_decay=weight_decay, betas=(0.9, 0.98))


def floats_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the weights and buffers that an average can be taken of."""
    return {k: v.clone() for k, v in module.state_dict().items() if v.is_floating_point()}


def logger(state: State, csv: Path) -> Callable[[list[dict[str, torch.Tensor]]], None]:
    """What notes the rows of the last steps, in a table named as the training is, and prints their means."""
    import pandas as pd

    from synthio.manifest import write_table

    started = time.monotonic() - state.seconds

    def log(rows: list[dict[str, torch.Tensor]]) -> None:
        note(state, rows, time.monotonic() - started)
        write_table(pd.DataFrame(state.history), csv)
        print(csv.stem, state.history[-1], flush=True)

    return log


def now_and_then(action: Callable[[], None], every_s: float) -> Callable[[], None]:
    """What does this when it is called, if so much time has passed since it did so, or since now."""
    done = time.monotonic()

    def act() -> None:
        nonlocal done
        if time.monotonic() - done > every_s:
            action()
            done = time.monotonic()

    return act


def shaping(args) -> dict[str, Any]:
    """The options of `recipe_parser` that shape the weights."""
    return {option: value for option, value in vars(args).items() if option not in INERT}


def note(state: State, rows: list[dict[str, torch.Tensor]], seconds: float) -> None:
    """Add a row to the history: the means of what the last steps gave.

    Raises:
        UserError: the loss is not finite.
    """
    import torch

    from synthio.training.loop import check_finite

    means = {key: float(torch.stack([row[key] for row in rows]).mean()) for key in rows[0]}
    check_finite(means["loss"], "loss", state.step - 1)
    row = {"step": state.step, **{key: round(mean, 5) for key, mean in means.items()}}
    state.history.append(row | {"seconds": round(seconds, 1)})


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
    """save_pretrained in float16 (half the size; it is loaded as float32), leaving `part` as it was.

    Where it was loaded from, which the library notes, is a path of one machine, and goes.
    """
    import copy

    from synthio.files import read_json, write_json

    copy.deepcopy(part).half().save_pretrained(folder)
    config = read_json(folder / "config.json")
    config.pop("_name_or_path", None)
    write_json(folder / "config.json", config)
