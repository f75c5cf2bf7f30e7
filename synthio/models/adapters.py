"""What can be trained on the transformer of a text-to-audio model, and the folders that keep it.

    lora     low-rank updates of the attention projections   peft's own folder
    prefix   gated prefixes (see prefix_adapter)             synthio_adapter.json, prefix.safetensors
    all      every weight                                    synthio_adapter.json, config.json and the weights

`load_adapter` tells them apart. A folder that has its weights is whole: they are written last.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from synthio.cli import UserError, first_line
from synthio.errors import trouble
from synthio.files import atomic_path, fingerprint, is_temporary, read_object, scratch_folder, sweep, write_json
from synthio.models.base import Network, TextToAudio
from synthio.models.prefix_adapter import PrefixModel
from synthio.models.strict import State, check_finite, compare, read_safetensors

# every attention projection of the transformer's self- and cross-attention: Stable Audio Open's in diffusers, Stable
# Audio 3's and stable-audio-tools'
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "to_qkv", "to_kv", "to_out")
# The frequencies of a time embedding are constants, though Stable Audio Open and stable-audio-tools keep them as a
# parameter. Of Stable Audio 3, what stands for padding belongs to the condition, and the layers for inpainting get
# nothing but zeros.
NOT_TRAINED = ("time_proj.", "timestep_features.", "prompt_padding_embedding", "to_local_embed.")
MARKER = "synthio_adapter.json"
# the files of each kind, weights last
FILES = {
    "lora": ("adapter_config.json", "adapter_model.safetensors"),
    "prefix": (MARKER, "prefix.safetensors"),
    "all": (MARKER, "config.json", "diffusion_pytorch_model.safetensors"),
}


@contextmanager
def swapped(parameters: Mapping[str, torch.nn.Parameter], values: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Let the parameters have other values for the length of a block. Pointers change, no number is copied."""
    own = {name: parameter.data for name, parameter in parameters.items()}
    try:
        for name, parameter in parameters.items():
            parameter.data = values[name]
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.data = own[name]


@dataclass(frozen=True)
class Trainable:
    """The trained part of a model.

    Attributes:
        kind: "lora", "prefix" or "all".
        module: the network with the trained part in it.
        parameters: what the optimiser changes, by name.
        start: their values before this training; None for a new adapter, which can be switched off instead.
    """

    kind: str
    module: Network
    parameters: dict[str, torch.nn.Parameter]
    start: dict[str, torch.Tensor] | None

    def reference(self) -> AbstractContextManager:
        """The network as it was before this training, for the length of a block.

        A new adapter is switched off. Otherwise the trained part's first values are put in its place: for an adapter
        they are small, and for all weights one frozen copy of the transformer without gradients and moments (a fifth
        of what is held for training it) is cheaper than the alternative, running every step's reference before the
        training and keeping the errors, which costs the same passes and has to be repeated for any other schedule.
        """
        return self.module.disable_adapter() if self.start is None else swapped(self.parameters, self.start)


def make_trainable(
    model: TextToAudio, kind: str, *, adapter: str = "", lora_rank: int = 16, prefix_tokens: int = 20, seed: int = 0
) -> Trainable:
    """Put a new adapter on the model's frozen transformer, or go on with the one it has.

    Args:
        model: loaded with `adapter`, if that is given; `model.module` is replaced.
        kind: "lora", "prefix" or "all".
        adapter: folder of the adapter that the training goes on from; empty: a new one that changes nothing.
        lora_rank, prefix_tokens: size of a new adapter.
        seed: of its first values.

    Raises:
        UserError: the adapter is of another kind.
    """
    if adapter and adapter_kind(adapter) != kind:
        raise UserError(f"{adapter} is a '{adapter_kind(adapter)}' adapter, but '{kind}' is to be trained")
    if not adapter and kind == "lora":
        model.module = new_lora(model, lora_rank, seed)
    # a model that was published with prefixes in it: they are trained on
    goes_on = bool(adapter) or kind == "all" or (kind == "prefix" and isinstance(model.module, PrefixModel))
    if kind == "prefix" and not goes_on:
        model.module = prefix_model(model.module, prefix_tokens, seed)
    parameters = {name: p for name, p in model.module.named_parameters() if _is_trained(kind, name)}
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    start = None if not goes_on else {name: p.detach().clone() for name, p in parameters.items()}
    return Trainable(kind, model.module, parameters, start)


def _is_trained(kind: str, name: str) -> bool:
    if kind == "lora":
        return "lora_" in name
    return name.startswith("prefixes.") if kind == "prefix" else not any(part in name for part in NOT_TRAINED)


def lora_targets(module: torch.nn.Module) -> list[str]:
    """Those of LORA_TARGETS that are linear layers of this transformer."""
    linear = [name for name, part in module.named_modules() if isinstance(part, torch.nn.Linear)]
    return [target for target in LORA_TARGETS if any(name.endswith(f".{target}") for name in linear)]


def prefix_model(transformer: torch.nn.Module, num_tokens: int, seed: int = 0, gate: str = "tanh") -> PrefixModel:
    """The transformer with new prefixes, which change nothing yet; `gate` as in `ToolsPrefixModel`."""
    if hasattr(transformer, "transformer_blocks"):  # of diffusers
        return PrefixModel(transformer, num_tokens, seed)
    from synthio.models.tools_prefix import ToolsPrefixModel

    return ToolsPrefixModel(transformer, num_tokens, seed, gate)


def new_lora(model: TextToAudio, rank: int, seed: int) -> torch.nn.Module:
    """The transformer in a zero-initialised LoRA (Hu et al. 2021); its output is unchanged at the start."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=lora_targets(model.module), lora_dropout=0.0)
    with torch.random.fork_rng():  # peft draws from the global generator
        torch.manual_seed(seed)
        module = get_peft_model(model.module, config)
    # A stable name: a path would make the adapter's hash depend on where the project lies.
    module.peft_config["default"].base_model_name_or_path = model.name
    return module


def check_output(folder: Path) -> None:
    """Refuse to write an adapter among other files, some of which it might replace.

    Raises:
        UserError: the folder holds something, but no adapter.
    """
    names = {path.name for path in folder.iterdir() if not is_temporary(path)} if folder.is_dir() else set()
    if names and not names & {MARKER, "adapter_config.json"}:
        raise UserError(f"{folder} holds files, but no adapter that could be replaced; choose another --output_folder")


def write_adapter(trainable: Trainable, folder: Path) -> None:
    """Save the trained part; files of an earlier adapter in the folder are replaced, other files stay."""
    folder.mkdir(parents=True, exist_ok=True)
    sweep([folder, folder.parent])
    record_of(folder).unlink(missing_ok=True)  # it tells of an earlier one
    for name in {name for names in FILES.values() for name in names}:
        (folder / name).unlink(missing_ok=True)
    with scratch_folder(folder) as temporary:
        {"lora": _save_lora, "prefix": _save_prefix, "all": _save_all}[trainable.kind](trainable, temporary)
        for name in FILES[trainable.kind]:
            with atomic_path(folder / name) as target:
                (temporary / name).replace(target)


def _save_lora(trainable: Trainable, folder: Path) -> None:
    # Without the flag peft asks the hub for the base model's vocabulary size.
    trainable.module.save_pretrained(folder, save_embedding_layers=False)
    config = read_object(folder / "adapter_config.json")
    config["target_modules"] = sorted(config["target_modules"])  # a set: its order changes from run to run
    write_json(folder / "adapter_config.json", config)


def _save_prefix(trainable: Trainable, folder: Path) -> None:
    from safetensors.torch import save_file

    module = trainable.module
    write_json(folder / MARKER, {"kind": "prefix", "num_tokens": module.num_tokens, "gate": module.gate})
    save_file(module.prefixes.state_dict(), folder / "prefix.safetensors")


def _save_all(trainable: Trainable, folder: Path) -> None:
    from safetensors.torch import save_file

    write_json(folder / MARKER, {"kind": "all"})
    if not hasattr(trainable.module, "save_pretrained"):  # of stable-audio-tools
        write_json(folder / "config.json", {"_class_name": type(trainable.module).__name__})
        save_file(trainable.module.state_dict(), folder / "diffusion_pytorch_model.safetensors")
        return
    trainable.module.save_pretrained(folder, max_shard_size="1TB")  # one file, however large
    config = read_object(folder / "config.json")
    config.pop("_name_or_path", None)  # where the model lay
    write_json(folder / "config.json", config)


def adapter_kind(folder: str | Path) -> str:
    """The kind of adapter that a folder holds.

    Raises:
        UserError: it holds none, or not all of one.
    """
    folder = Path(folder)
    if (folder / MARKER).is_file():
        kind = read_object(folder / MARKER).get("kind")
    elif (folder / "adapter_config.json").is_file():
        kind = "lora"
    else:
        raise UserError(f"{folder}: no adapter_config.json and no {MARKER}; give the folder that dpo_train.py wrote")
    if not isinstance(kind, str) or kind not in FILES:
        raise UserError(f"{folder}/{MARKER}: kind '{kind}' is none of {', '.join(FILES)}")
    missing = [name for name in FILES[kind] if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder}: this '{kind}' adapter lacks {', '.join(missing)}; run dpo_train.py again")
    return kind


def load_adapter(module: torch.nn.Module, adapter: str) -> torch.nn.Module:
    """Put what `dpo_train.py` wrote on the transformer.

    Raises:
        UserError: the folder holds no adapter, or one of another model.
    """
    kind = adapter_kind(adapter)
    load = {"lora": _load_lora, "prefix": _load_prefix, "all": _load_all}[kind]
    _check_record(Path(adapter))
    weights = read_safetensors(Path(adapter) / FILES[kind][-1])
    check_finite(weights, adapter)
    try:
        return load(module, Path(adapter), weights)
    except Exception as error:
        if trouble(error):
            raise
        raise UserError(
            f"{adapter}: this adapter does not fit the model ({first_line(error)}); train it on this model"
        ) from None


def _check_record(folder: Path) -> None:
    """Refuse an adapter that is not what the record beside it says, where there is one."""
    record = record_of(folder)
    noted = read_object(record).get("sha256") if record.is_file() else None
    if noted is not None and noted != fingerprint(folder):
        raise UserError(
            f"{folder}: is not what {record.name} beside it says that dpo_train.py wrote; a file was damaged or "
            "changed. Run dpo_train.py again, or remove the record where the change was meant"
        )


def record_of(folder: Path) -> Path:
    """The record that dpo_train.py writes beside an adapter."""
    return folder.with_name(f"{folder.name}.json")


def _load_lora(module: torch.nn.Module, folder: Path, weights: State) -> torch.nn.Module:
    from peft import PeftModel, get_peft_model_state_dict

    with warnings.catch_warnings():  # of what the adapter lacks, which is refused in the next line
        warnings.simplefilter("ignore")
        loaded = PeftModel.from_pretrained(module, str(folder))
    own = get_peft_model_state_dict(loaded, save_embedding_layers=False)  # else it asks the hub for a vocabulary
    compare(own, weights, str(folder), "the adapter that its config describes")
    return loaded


def _load_prefix(module: torch.nn.Module, folder: Path, weights: State) -> torch.nn.Module:
    about = read_object(folder / MARKER, "num_tokens")
    gate = about.get("gate", "tanh")
    if not isinstance(module, PrefixModel):
        module = prefix_model(module, about["num_tokens"], gate=gate)
    if module.gate != gate:
        raise ValueError(f"its gates are {gate}, those in the model {module.gate}")
    compare(module.prefixes.state_dict(), weights, str(folder), "its prefixes")
    module.prefixes.load_state_dict(weights)
    return module


def _load_all(module: torch.nn.Module, folder: Path, weights: State) -> torch.nn.Module:
    compare(module.state_dict(), weights, str(folder), "the model")
    module.load_state_dict(weights)
    return module
