"""Checkpoints of stable-audio-tools: where they lie, how they are wrapped, and the prefix adapters in them.

A model is a `model_config.json` and a checkpoint. The checkpoint is a safetensors file, or a file of torch.save with
the weights under `state_dict`. It is unwrapped (the network's own names), or as Lightning wrote it in training: then
the names begin with `diffusion.`, an exponential moving average of the diffusion network lies beside them, and this
average is what the model generates with, as in the library's own unwrap_model.py.

Synthio's fork of the library adds LLaMA-Adapter-style prefixes to the attention layers, trained into the checkpoint:
`<layer>.adapter_wte.weight` [K, E] and `<layer>.gating_factor` [1, 1, H, 1]. Unlike LLaMA-Adapter it multiplies by the
gate itself, not by its tanh.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from synthio.cli import UserError
from synthio.models import CHECKPOINT_SUFFIXES
from synthio.models.hub import snapshot
from synthio.models.strict import listed, read_safetensors

CONFIG_NAME = "model_config.json"
CHECKPOINT_NAMES = ("model.safetensors", "model.ckpt")  # of several, the first of these
CONVERTER = "python stable-audio-tools/convert_checkpoint.py --checkpoint {} --output_folder FOLDER"
# What Lightning wraps besides the model: it serves training alone.
EMA = "diffusion_ema.ema_model."
TRAINING_ONLY = ("diffusion_ema.", "discriminator.", "discriminator_head.", "teacher_model.", "losses.")
PREFIX_KEY = re.compile(
    r"model\.model\.transformer\.layers\.(\d+)\.(self|cross)_attn\.(adapter_wte\.weight|gating_factor)"
)

State = dict[str, torch.Tensor]


class ModelFiles(NamedTuple):
    """The two files of a model."""

    config: Path
    checkpoint: Path


class Prefixes(NamedTuple):
    """Prefixes of one checkpoint, by name of their attention layer ("0.self_attn", ...).

    tokens: [K, E] each; gates: [H] each.
    """

    tokens: State
    gates: State


# ---- where a model lies


def find_model(model: str) -> ModelFiles:
    """The files of a folder, of a checkpoint with its config beside it, or of a hub id (downloaded on first use).

    Raises:
        UserError: a file is missing, or it is not clear which of several is meant.
    """
    path = Path(model)
    if path.is_file():
        # Stable Audio Open Small has a base_model.ckpt with a base_model_config.json
        configs = [path.with_name(f"{path.stem}_config.json"), path.with_name(CONFIG_NAME)]
        found = [config for config in configs if config.is_file()]
        if not found:
            raise UserError(f"{path}: has no {CONFIG_NAME} beside it; put the config it was trained with there")
        return ModelFiles(found[0], path)
    if path.is_dir():
        checkpoint = choose_checkpoint([file.name for file in path.iterdir()], model)
        return ModelFiles(path / CONFIG_NAME, path / checkpoint)
    return _from_hub(model)


def choose_checkpoint(names: Collection[str], model: str) -> str:
    """The checkpoint among a model's file names."""
    if CONFIG_NAME not in names:
        raise UserError(f"{model}: has no {CONFIG_NAME}, so it is no model of stable-audio-tools")
    found = sorted(name for name in names if name.endswith(CHECKPOINT_SUFFIXES))
    usual = [name for name in CHECKPOINT_NAMES if name in found]
    if not usual and len(found) != 1:
        listed = f"several checkpoints ({', '.join(found)}); name one of these files" if found else "no checkpoint"
        raise UserError(f"{model}: has {listed}; {' or '.join(CHECKPOINT_NAMES)} is looked for")
    return (usual or found)[0]


def _from_hub(model: str) -> ModelFiles:
    """The files of a hub id; of several checkpoints, one is downloaded."""
    for patterns in ([CONFIG_NAME, CHECKPOINT_NAMES[0]], [CHECKPOINT_NAMES[1]], ["*.safetensors", "*.ckpt"]):
        folder = snapshot(model, patterns)
        names = [file.name for file in folder.iterdir()]
        if any(name.endswith(CHECKPOINT_SUFFIXES) for name in names):
            break
    return ModelFiles(folder / CONFIG_NAME, folder / choose_checkpoint(names, model))


# ---- what is in a checkpoint


def read_state(path: Path, stand_ins: bool = False) -> State:
    """The network's weights by its own names, unwrapped.

    Args:
        path: safetensors, or of torch.save.
        stand_ins: read a checkpoint with pickled objects, too: each becomes an empty object of no behaviour.

    Raises:
        UserError: not such a file, or one that needs pickled code.
    """
    content: object
    if path.suffix == ".safetensors":
        content = read_safetensors(path)
    else:
        content = _read_pickle(path, stand_ins)
        content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise UserError(f"{path}: no state dict (names and tensors), neither at the top nor under 'state_dict'")
    return unwrap(content, path)


def _read_pickle(path: Path, stand_ins: bool):
    """The content of a file of torch.save; no code in it is run."""
    import pickle

    from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

    try:
        code = sorted(get_unsafe_globals_in_checkpoint(path))
        if code and not stand_ins:
            raise UserError(
                f"{path}: holds pickled objects ({', '.join(code[:3])}), whose code is never run; "
                f"take its tensors out: {CONVERTER.format(path)}"
            )
        with safe_globals([(_stand_in(name), name) for name in code]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UserError:
        raise
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, AttributeError, TypeError) as error:
        raise UserError(
            f"{path}: not a checkpoint of plain tensors ({_reason(error)}); in the environment that wrote it, save "
            "{'state_dict': model.state_dict()} with torch.save"
        ) from None


def _reason(error: Exception) -> str:
    """What torch.load says is wrong, without its advice to run the file's code."""
    return str(error).partition("Check the documentation")[0].strip().splitlines()[-1]


def _stand_in(name: str) -> type:
    """An empty class for a pickled object: it takes whatever it is given and keeps nothing."""

    def ignore(self, *args, **kwargs) -> None:
        return None

    def new(cls, *args, **kwargs):
        return object.__new__(cls)

    return type(name.rpartition(".")[2], (), {"__new__": new, "__init__": ignore, "__setstate__": ignore})


def unwrap(state: Mapping[str, torch.Tensor], path: Path) -> State:
    """Lightning's names as the network's own, with averaged weights where there are some; others stay as they are.

    Raises:
        UserError: a name of neither the model nor its training, or an average of another network.
    """
    if not any(key.startswith("diffusion.") for key in state):
        return dict(state)
    own = {key.removeprefix("diffusion."): value for key, value in state.items() if key.startswith("diffusion.")}
    average = {"model." + key.removeprefix(EMA): value for key, value in state.items() if key.startswith(EMA)}
    strange = [key for key in state if not key.startswith(("diffusion.", *TRAINING_ONLY))]
    if average:
        strange += sorted({key for key in own if key.startswith("model.")} ^ set(average))
    if strange:
        raise UserError(f"{path}: of a training, but not one that is known here: {listed(strange)}")
    return own | average


def split_prefixes(state: State, path: Path) -> tuple[State, Prefixes | None]:
    """(the weights without prefixes, the prefixes if there are some).

    Raises:
        UserError: a layer has tokens without a gate, or a gate without tokens.
    """
    tokens, gates = {}, {}
    for key, value in state.items():
        if match := PREFIX_KEY.fullmatch(key):
            layer = f"{match[1]}.{match[2]}_attn"
            if match[3] == "gating_factor":
                gates[layer] = value.flatten()
            else:
                tokens[layer] = value
    if set(tokens) != set(gates):
        raise UserError(f"{path}: prefixes lack tokens or gate in {listed(sorted(set(tokens) ^ set(gates)))}")
    rest = {key: value for key, value in state.items() if not PREFIX_KEY.fullmatch(key)}
    return rest, Prefixes(tokens, gates) if tokens else None
