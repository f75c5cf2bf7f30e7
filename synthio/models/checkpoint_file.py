"""Checkpoints that other libraries wrote with torch.save: read as plain data, and never loaded in part."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import numpy as np
import torch

from synthio.cli import UserError, first_line
from synthio.models.strict import refusing

T = TypeVar("T")


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
    except Exception as error:  # a damaged file makes torch fail in many ways
        raise UserError(
            f"{path}: not a checkpoint of plain tensors ({_reason(error)}); in the environment that wrote it, and if "
            "you trust it, load it and save model.state_dict() alone with torch.save"
        ) from None


def _reason(error: Exception) -> str:
    """What torch found that is no data."""
    found = re.search(r"(?:GLOBAL|Unsupported class) (\S+)", str(error))
    return f"reading its '{found[1]}' could run code" if found else first_line(error).split(". ")[0]


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


def from_hub(load: Callable[[str], T], name: str) -> T:
    """What a `from_pretrained` of transformers gives for a text model's name.

    Raises:
        UserError: it is neither in the cache nor to be had from the hub.
    """
    with refusing("text model", name):
        return load(name)


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
