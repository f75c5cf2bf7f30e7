"""Checkpoints that other libraries wrote with torch.save: read as plain data, and never loaded in part."""

from __future__ import annotations

import contextlib
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import numpy as np
import torch

from synthio.cli import UserError, first_line

T = TypeVar("T")
# Buffers that older transformers saved and newer ones compute.
OBSOLETE = re.compile(r"(position_ids|attn\.bias|attn\.masked_bias)$")


def read_checkpoint(path: Path) -> object:
    """Content of a file that torch.save wrote: tensors, numbers, text, lists and dicts of them.

    Raises:
        UserError: no such file; not such a file; or it holds objects that only pickle can read, which may run any code.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with torch.serialization.safe_globals(_numpy_numbers()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(
            f"{path}: not a checkpoint of plain tensors ({_reason(error)}); in the environment that wrote it, and if "
            "you trust it, load it and save model.state_dict() alone with torch.save"
        ) from None


def _reason(error: Exception) -> str:
    """What torch found that is no data."""
    found = re.search(r"(?:GLOBAL|Unsupported class) (\S+)", str(error))
    return f"reading its '{found[1]}' could run code" if found else str(error).split(". ")[0].splitlines()[0]


def _numpy_numbers() -> list:
    """What numpy's numbers are made of. Trainers save a best score so; building a number runs no code."""
    scalar = np.float64(0).__reduce__()[0]
    names = [f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")]  # before and since numpy 2
    return [*((scalar, name) for name in names), np.dtype, *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8"))]


def state_dict_of(content: object, key: str, path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, bare or under `key`, without DataParallel's `module.`.

    Raises:
        UserError: there are none.
    """
    state = content.get(key, content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{path}: holds no state dict (names and tensors), neither bare nor under '{key}'")
    return {name.removeprefix("module."): value for name, value in state.items()}


def fill(module: torch.nn.Module, weights: dict[str, torch.Tensor], path: Path, kind: str) -> None:
    """Fill every place of a network from a checkpoint; what is left over is said.

    Args:
        module: the network, of the `kind` that messages name.
        weights: tensors by name.
        path: where they come from.

    Raises:
        UserError: a tensor is missing or of another shape. Loose loading would leave random weights.
    """
    own = module.state_dict()
    missing = sorted(own.keys() - weights.keys())
    left_over = sorted(name for name in weights.keys() - own.keys() if not OBSOLETE.search(name))
    if missing:
        raise UserError(f"{path}: lacks {len(missing)} of the {len(own)} tensors of {kind}, such as {missing[0]}")
    if left_over:
        print(f"{path}: {len(left_over)} tensors are no part of {kind}, such as {left_over[0]}", file=sys.stderr)
    for name, tensor in own.items():
        if weights[name].shape != tensor.shape:
            raise UserError(
                f"{path}: {name} has shape {list(weights[name].shape)}, should be {list(tensor.shape)} in {kind}"
            )
    module.load_state_dict({name: weights[name] for name in own})


def from_hub(load: Callable[[str], T], name: str) -> T:
    """What a `from_pretrained` of transformers gives for a text model's name.

    Raises:
        UserError: it is neither in the cache nor to be had from the hub.
    """
    try:
        return load(name)
    except OSError as error:
        raise UserError(f"text model '{name}': {first_line(error)}") from None


class _Untrained:
    """Stands for a class of transformers whose pretrained weights a checkpoint replaces anyway."""

    @staticmethod
    def from_pretrained(name: str) -> torch.nn.Module:
        from transformers import AutoConfig, AutoModel

        return AutoModel.from_config(from_hub(AutoConfig.from_pretrained, name))


@contextlib.contextmanager
def untrained_text_model(module: ModuleType, name: str) -> Iterator[None]:
    """Within it, class `name` of a library's module makes text models from their configuration alone.

    This saves a download of half a gigabyte, and it keeps pretrained weights from hiding what a checkpoint lacks.
    """
    original = getattr(module, name)
    setattr(module, name, _Untrained)
    try:
        yield
    finally:
        setattr(module, name, original)
