"""How weights get into a network: all of them, as they are wanted, or not at all.

Every backend loads through this. A network that lacks a weight has a random one in its place, which nothing would tell.
"""

from __future__ import annotations

import errno
import logging
import math
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from synthio.cli import UserError, first_line
from synthio.errors import trouble
from synthio.files import read_object
from synthio.models.base import Network
from synthio.models.model_ids import OWN_CODE, auto_source, source

State = Mapping[str, torch.Tensor]
# Buffers that older transformers saved and newer ones compute.
OBSOLETE = re.compile(
    r"(position_ids|token_type_ids|attn\.bias|attn\.masked_bias|num_batches_tracked|relative_position_index|inv_freq)$"
)
UNBOUNDED = re.compile(r"(input|output)_(min|max)$")  # limits of Gemma 4's layers, infinite where there is none
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
MEND = "is it whole? get it again, or name another"
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)


def listed(names: Collection[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(sorted(names)[:most]) + more


@contextmanager
def refusing(what: str, name: str | Path) -> Iterator[None]:
    """Inside, whatever a library raises about the files of a model comes out in one line.

    Which error a damaged file makes depends on where it is damaged; a full disk and used-up memory stay what they are.

    Raises:
        UserError: `what` and `name` of the model, and what the library says.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        is_absent = isinstance(error, OSError) and error.errno in ABSENT
        if trouble(error) and not is_absent:
            raise
        if "trust_remote_code" in str(error):  # what transformers says of a model of another class than its own
            raise UserError(f"{what} '{name}': {OWN_CODE}") from None
        kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
        raise UserError(f"{what} '{name}' could not be loaded ({kind}{first_line(error)}); {MEND}") from None


def load_network(kind: type[Network], name: str | Path | None, what: str, **options: Any) -> Network:  # the library's
    """A network by `from_pretrained` of transformers or diffusers, with all of its weights.

    Args:
        kind: its class.
        name: folder or hub id; None: `state_dict` is among the options.
        what: it is, in messages.
        options: `may_lack`, starts of the names of weights that may be missing and are then random; `may_have_more`,
            whether weights of other networks may lie beside its own; the rest goes to `from_pretrained`.

    Raises:
        UserError: a weight is missing, of another shape, not a number, or has no place; a file is damaged; or all
            weights are pickled.
    """
    return load_reported(kind, name, what, **options)[0]


def load_reported(
    kind: type[Network],
    name: str | Path | None,
    what: str,
    *,
    may_lack: tuple[str, ...] = (),
    may_have_more: bool = False,
    **options: Any,  # the library's
) -> tuple[Network, list[str]]:
    """As `load_network`; also the names of the weights that were missing, or of another shape, and may be."""
    is_published = name is not None and not Path(name).is_dir()  # on the hub, whose client checks what it downloads
    if name is not None and not is_published:
        check_folder(Path(name))
    for library in ("transformers", "diffusers"):  # what they warn of over many lines is refused here in one
        logging.getLogger(library).setLevel(logging.ERROR)
    with refusing(what, name or ""):
        find = auto_source if kind.__name__.startswith("Auto") else source
        named = {"pretrained_model_name_or_path": None} if name is None else find(str(name))
        network, report = kind.from_pretrained(
            **named, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    other = {str(key[0]): f"{list(key[1])} in place of {list(key[2])}" for key in report["mismatched_keys"]}
    lacking = {key for key in report["missing_keys"] if not OBSOLETE.search(key)} - other.keys()
    allowed = [key for key in sorted({*lacking, *other}) if may_lack and key.startswith(may_lack)]
    more = set() if may_have_more else {key for key in report["unexpected_keys"] if not OBSOLETE.search(key)}
    if more and is_published:
        print(f"{what} '{name}': {len(more)} of its weights are not used: {listed(more)}", file=sys.stderr)
        more = set()
    refuse_misfits(f"{what} '{name}'", lacking - {*allowed}, more, {k: v for k, v in other.items() if k not in allowed})
    check_finite(network.state_dict(), f"{what} '{name}'")
    if name is not None and not is_published:
        check_whole_numbers(network.state_dict(), Path(name))
    return network, allowed


def check_whole_numbers(state: State, folder: Path) -> None:
    """Refuse a folder that has fractions where its network has whole numbers: they would be rounded unseen."""
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            whole = [name for name in file.keys() if name in state and not state[name].is_floating_point()]  # noqa: SIM118
            bad = [name for name in whole if file.get_tensor(name).is_floating_point()]
        if bad:
            raise UserError(f"{path}: {len(bad)} of its weights are no whole numbers: {listed(bad)}; {MEND}")


def check_folder(folder: Path) -> None:
    """Refuse a folder whose config.json is damaged, or whose weights are pickled alone."""
    if (folder / "config.json").is_file():
        read_object(folder / "config.json")
    names = sorted(path.name for path in folder.iterdir() if path.suffix in (*PICKLED, ".safetensors"))
    if names and not any(name.endswith(".safetensors") for name in names):
        raise UserError(
            f"{folder}: its weights are pickled alone ({listed(names)}), and what is pickled may run code; where you "
            "trust it, load it with from_pretrained in an environment of its own and save it with save_pretrained, "
            "which writes safetensors"
        )


def refuse_misfits(
    where: str, lacking: Collection[str], more: Collection[str], other: Mapping[str, str], network: str = "the network"
) -> None:
    """Refuse weights that do not fit, all faults at once.

    Args:
        where: the weights come from.
        lacking: names that the network wants.
        more: names that it has no place for.
        other: by name, its shape and the one that is wanted.
        network: what it is.
    """
    faults = []
    if lacking:
        faults.append(f"lacks {len(lacking)} weights of {network}: {listed(lacking)}")
    if more:
        faults.append(f"has {len(more)} weights that {network} has no place for: {listed(more)}")
    if other:
        shapes = [f"{name} {shape}" for name, shape in other.items()]
        faults.append(f"has {len(other)} weights of another shape: {listed(shapes)}")
    if faults:
        raise UserError(f"{where}: {'; '.join(faults)}; {MEND}")


def check_finite(state: State, where: str) -> None:
    """Refuse weights that are no numbers."""

    def is_bad(name: str, tensor: torch.Tensor) -> bool:
        bounded = tensor.nan_to_num(nan=torch.nan, posinf=0, neginf=0) if UNBOUNDED.search(name) else tensor
        return tensor.is_floating_point() and not bool(bounded.isfinite().all())

    bad = [name for name, tensor in state.items() if is_bad(name, tensor)]
    if bad:
        raise UserError(f"{where}: {len(bad)} of its weights hold NaN or infinity: {listed(bad)}; {MEND}")


def compare(wanted: State, found: State, where: str, network: str = "the network") -> None:
    """Refuse weights that are not exactly those of a network, by name and shape, or no numbers."""
    other = {
        name: f"{list(found[name].shape)} in place of {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    }
    other |= {
        name: "fractions in place of whole numbers"
        for name, tensor in wanted.items()
        if name in found and found[name].is_floating_point() and not tensor.is_floating_point()
    }
    refuse_misfits(where, wanted.keys() - found.keys(), found.keys() - wanted.keys(), other, network)
    check_finite(found, where)


def fill(module: torch.nn.Module, weights: State, path: Path, kind: str, may_have_more: bool = False) -> None:
    """Fill every place of a network from a checkpoint.

    Args:
        module: the network, of the `kind` that messages name.
        weights: tensors by name.
        path: where they come from.
        may_have_more: what is left over is said, and not refused.

    Raises:
        UserError: as `compare`.
    """
    own = module.state_dict()
    known = {name: tensor for name, tensor in weights.items() if name in own or not OBSOLETE.search(name)}
    left_over = sorted(known.keys() - own.keys())
    if left_over and may_have_more:
        print(f"{path}: {len(left_over)} tensors are no part of {kind}, such as {left_over[0]}", file=sys.stderr)
        known = {name: known[name] for name in own if name in known}
    compare(own, known, str(path), kind)
    module.load_state_dict(known)


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file.

    Raises:
        UserError: it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({first_line(error)}); get it again") from None


def finite_number(config: Mapping[str, Any], name: str, default: float, path: Path) -> float:
    """A number of a JSON record.

    Raises:
        UserError: it is none.
    """
    value = config.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{path}: {name} is {value!r}, which is no number; {MEND}")
    return value
