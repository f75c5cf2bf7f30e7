"""Stable Audio 3 as its makers publish it, converted once into the folder that `StableAudio3` reads.

    model_config.json     what the networks are
    model.safetensors     transformer, autoencoder and length, in one file
    t5gemma-b-b-ul2/      what reads the prompt: tokenizer and T5Gemma, of which the encoder alone is needed

The converted folder is diffusers' StableAudio3Pipeline, but for the autoencoder of the small models (see
`synthio.models.same`). It lies in `HF_HOME/synthio`, under the commit of the hub's snapshot or the content of a local
folder. It is made under a temporary name and renamed when it is whole, so that a kill leaves nothing that counts; what
it was made from stays in the hub's cache. Of processes that want it at once, one makes it.

No weight may be left over and none may lack; what a config says that weights do not show is looked at, and refused
where these networks would do something else.
"""

from __future__ import annotations

import fcntl
import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from synthio.cli import UserError, first_line
from synthio.files import atomic_folder, fingerprint, read_object, sweep
from synthio.models.base import Network
from synthio.models.hub import snapshot
from synthio.models.model_ids import is_hub_id
from synthio.models.strict import compare, refuse_misfits, refusing

FORMAT = 1  # raise it when the same files are converted to something else
CONFIG, WEIGHTS = "model_config.json", "model.safetensors"
PATTERNS = (CONFIG, WEIGHTS, "t5gemma*/*")
DIT, COND, SAME = "model.model.", "conditioner.conditioners.", "pretransform.model."
# What a network computes by itself, or what only training wants.
COMPUTED = re.compile(r"(\.rope\.inv_freq|bottleneck\.noise_scaling_factor)$")
RENAMED: dict[str, tuple[tuple[str, str], ...]] = {
    "transformer": (
        (r"^transformer\.project_(in|out)\.", r"proj_\1."),
        (r"^transformer\.layers\.", "transformer_blocks."),
        (r"^transformer\.", ""),
        (r"\.ff\.ff\.0\.proj\.", ".ff.proj_in."),
        (r"\.ff\.ff\.2\.", ".ff.proj_out."),
    ),
    "vae": (
        (r"\.pre_norm\.", ".norm_attn."),
        (r"\.self_attn\.", ".attn."),
        (r"\.ff_norm\.", ".norm_ff."),
        (r"\.ff\.ff\.0\.proj\.", ".ff.proj_in."),
        (r"\.ff\.ff\.2\.", ".ff.proj_out."),
        (r"^bottleneck\.scaling_factor$", "bottleneck.scale"),
    ),
}
# By its place in the config, what changes the sound and shows in no weight: the values that the networks here have.
ONLY: dict[str, tuple[object, ...]] = {
    "model.diffusion.type": ("dit",),
    "model.diffusion.diffusion_objective": ("rectified_flow", "rf_denoiser"),
    "model.diffusion.config.transformer_type": (None, "continuous_transformer"),
    "model.diffusion.config.global_cond_type": ("adaLN",),
    "model.diffusion.config.timestep_cond_type": (None, "global"),
    "model.diffusion.config.timestep_features_type": ("expo",),
    "model.diffusion.config.timestep_features_logsnr": (None, False),
    "model.diffusion.config.norm_type": ("rms_norm",),
    "model.diffusion.config.attn_kwargs.qk_norm": ("rms",),
    "model.diffusion.config.ff_kwargs.sinusoidal": (None, False),
    "model.diffusion.config.patch_size": (None, 1),
    "model.diffusion.config.causal": (None, False),
    "model.diffusion.config.sliding_window": (None,),
    "model.diffusion.config.rotary_pos_emb": (None, True),
    "model.diffusion.config.cross_attn_rotary_pos_emb": (None, False),
    "model.diffusion.config.use_sinusoidal_emb": (None, False),
    "model.pretransform.config.decoder.soft_clip": (None, False),
    "model.pretransform.config.pretransform.config.oversampling": (None, 1),
    "model.pretransform.config.encoder.config.dyt": (None, True),
    "model.pretransform.config.encoder.config.conv_mapping": (None, False),
}
# What encoder and decoder have in common here.
COMMON: tuple[str, ...] = (
    "channels",
    "c_mults",
    "strides",
    "transformer_depths",
    "latent_dim",
    "dim_heads",
    "differential",
    "dyt",
)
COMMON += ("chunk_size", "chunk_midpoint_shift", "sliding_window", "ff_mult")
Config = Mapping[str, Any]  # JSON of a library


def prepare(folder: Path, name: str) -> Path:
    """The converted folder of a published one: what an earlier call made, or made now.

    Args:
        folder: of the published files, the hub's snapshot or a local one.
        name: what the model is called, in messages.

    Raises:
        UserError: a file is missing or damaged, or it is another network than those here.
        OSError: the disk is full.
    """
    target = place_of(folder)
    if target.is_dir():
        return target
    with _alone(target):
        if not target.is_dir():
            sweep([target.parent])
            published = Published.read(folder, name)
            size = (folder / WEIGHTS).stat().st_size / 1e9
            print(f"{name}: converted once, about {size:.1f} GB, into {target}", file=sys.stderr, flush=True)
            with atomic_folder(target) as made:
                published.write(made)
    return target


def place_of(folder: Path) -> Path:
    """Where the converted folder of a published one lies."""
    from huggingface_hub.constants import HF_HOME

    is_snapshot = folder.parent.name == "snapshots"
    name = folder.parent.parent.name.removeprefix("models--") if is_snapshot else folder.name
    content = folder.name if is_snapshot else fingerprint(folder)
    return Path(HF_HOME) / "synthio" / f"{name}-{content[:12]}-{FORMAT}"


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Inside, no other process of this machine makes the same folder. The lock of one that is killed is freed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f"{target.name}.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{target.name}: another process converts it; waiting", file=sys.stderr, flush=True)
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError:  # each makes its own, and the last one stays: right, but in more time and memory
            print(
                f"{stream.name}: this disk has no locks; do not convert in two processes", file=sys.stderr, flush=True
            )
        yield


def place(config: Config, path: str) -> Any:  # JSON
    """A value of a config by its place; None where there is none."""
    value: Any = config  # JSON
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


@dataclass(frozen=True)
class Published:
    """The files of a published model.

    Attributes:
        folder: they lie in.
        name: of the model.
        config: model_config.json.
        weights: of model.safetensors, mapped and not read yet.
    """

    folder: Path
    name: str
    config: Config
    weights: Mapping[str, torch.Tensor] = field(repr=False)

    @classmethod
    def read(cls, folder: Path, name: str) -> Published:
        """Look at the files.

        Raises:
            UserError: one is missing or damaged, or says what the networks here do not do.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        for file in (CONFIG, WEIGHTS):
            if not (folder / file).is_file():
                raise UserError(f"{name}: {folder} has no {file}; get it again")
        config = read_object(folder / CONFIG, "model", "sample_rate")
        try:
            weights = load_file(folder / WEIGHTS)
        except (SafetensorError, ValueError) as error:
            raise UserError(f"{folder / WEIGHTS}: not a whole safetensors file ({first_line(error)})") from None
        published = cls(folder, name, config, weights)
        published._check()
        return published

    def _check(self) -> None:
        """Refuse what the networks here do not do."""
        coder = place(self.config, "model.pretransform.config") or {}
        two = [place(coder, f"{side}.config") or {} for side in ("encoder", "decoder")]
        faults = [
            f"{path} is {json.dumps(place(self.config, path))}"
            for path, values in ONLY.items()
            if place(self.config, path) not in values
        ]
        faults += [f"{key} differs between encoder and decoder" for key in COMMON if two[0].get(key) != two[1].get(key)]
        window = two[0].get("sliding_window")
        if window is not None and (len(set(window)) != 1 or two[1].get("conv_mapping")):
            faults.append(f"the autoencoder has a sliding_window of {window} and conv_mapping {two[1]['conv_mapping']}")
        if faults:
            raise UserError(
                f"{self.folder / CONFIG}: {'; '.join(faults)}; such a Stable Audio 3 is not known here, name another"
            )

    def conditioner(self, name: str) -> Config:
        """The config of what reads the prompt, or of the length.

        Raises:
            UserError: there is none.
        """
        for part in place(self.config, "model.conditioning.configs") or ():
            if part.get("id") == name:
                return part["config"]
        raise UserError(f"{self.folder / CONFIG}: it has no conditioner '{name}'; get it again")

    def write(self, out: Path) -> None:
        """Convert into a folder."""
        from diffusers import AutoencoderSAME, FlowMatchEulerDiscreteScheduler, StableAudio3DiTModel

        from synthio.models.same import ChunkedSAME

        with refusing("model", self.name):
            left = {key: tensor for key, tensor in self.weights.items() if not COMPUTED.search(key)}
            self._save(StableAudio3DiTModel, self.transformer_config(), self._transformer(left), out / "transformer")
            vae = self.vae_config()
            kind = ChunkedSAME if "chunk_size" in vae else AutoencoderSAME
            self._save(kind, vae, self._vae(left, vae), out / "vae")
            self._save_duration(left, out / "duration_embedder")
            self._save_text_encoder(left, out)
            refuse_misfits(str(self.folder / WEIGHTS), (), left, {}, "Stable Audio 3")
            distilled = place(self.config, "model.diffusion.diffusion_objective") == "rf_denoiser"
            scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, stochastic_sampling=distilled)
            scheduler.save_pretrained(out / "scheduler")
            self._write_index(kind.__name__, out)

    def _save(self, kind: type[Network], config: Config, state: Mapping[str, torch.Tensor], out: Path) -> None:
        """Write a network with exactly these weights; they are read from the disk as they are written."""
        with torch.device("meta"):
            network = kind(**config)
        compare(network.state_dict(), state, str(self.folder / WEIGHTS), f"the {out.name.replace('_', ' ')}")
        network.load_state_dict(state, assign=True)
        network.save_pretrained(out)

    def transformer_config(self) -> dict[str, Any]:
        """Options of StableAudio3DiTModel."""
        dit = place(self.config, "model.diffusion.config")
        names = "io_channels embed_dim depth num_heads cond_token_dim global_cond_dim local_add_cond_dim".split()
        return {name: dit[name] for name in names} | {
            "patch_size": 1,
            "timestep_features_dim": dit.get("timestep_features_dim", 256),
            "ff_mult": place(dit, "ff_kwargs.mult") or 4.0,
            "num_memory_tokens": dit.get("num_memory_tokens", 0),
            "use_differential_attention": bool(place(dit, "attn_kwargs.differential")),
        }

    def _transformer(self, left: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Its weights; they are taken out of `left`."""
        state = _take(left, DIT, "transformer")
        padding = f"{COND}prompt.padding_embedding"
        if padding in left:
            state["prompt_padding_embedding"] = left.pop(padding)
        elif self.conditioner("prompt").get("padding_mode", "zero") == "zero":
            state["prompt_padding_embedding"] = torch.zeros(place(self.config, "model.diffusion.config.cond_token_dim"))
        if place(self.config, "model.diffusion.config.attn_kwargs.differential"):
            _reorder(state, ".self_attn.to_qkv.weight")
        return state

    def vae_config(self) -> dict[str, Any]:
        """Options of ChunkedSAME or AutoencoderSAME."""
        coder = place(self.config, "model.pretransform.config")
        two = [coder[side]["config"] for side in ("encoder", "decoder")]
        one = two[0]
        config = {
            "audio_channels": coder["io_channels"],
            "patch_size": coder["pretransform"]["config"]["patch_size"],
            "encoder_channels": one["channels"],
            "encoder_c_mults": one["c_mults"],
            "encoder_strides": one["strides"],
            "encoder_transformer_depths": one["transformer_depths"],
            "latent_dim": one["latent_dim"],
            "use_differential_attention": one.get("differential", True),
            "dim_heads": one.get("dim_heads", 128),
            "ff_mult": one.get("ff_mult", 3),
            "sampling_rate": self.config["sample_rate"],
        }
        sine = [part.get("sinusoidal_blocks") or [0] * len(one["strides"]) for part in two]
        if one.get("sliding_window") is not None:
            sines = {f"{side}_sinusoidal_blocks": n for side, n in zip(("encoder", "decoder"), sine, strict=True)}
            return config | sines | {"sliding_window": one["sliding_window"][0]}
        if any(map(any, sine)):
            raise UserError(
                f"{self.folder / CONFIG}: sinusoidal_blocks go with a sliding_window here, name another model"
            )
        shifted = bool(one.get("chunk_midpoint_shift", False))
        kernel = 3 if two[1].get("conv_mapping") else 1
        return config | {"chunk_size": one.get("chunk_size", 128), "is_shifted": shifted, "decoder_kernel": kernel}

    def _vae(self, left: dict[str, torch.Tensor], config: Config) -> dict[str, torch.Tensor]:
        """Its weights; they are taken out of `left`."""
        levels = len(config["encoder_strides"])
        # encoder: blocks, a transposition, the projection; decoder: a transposition, the projection, another, blocks
        places = {f"encoder.layers.{levels + 1}.": "encoder.proj.", "decoder.layers.1.": "decoder.proj."}
        for level in range(levels):
            places[f"encoder.layers.{level}."] = f"encoder.blocks.{level}."
            places[f"decoder.layers.{level + 3}."] = f"decoder.blocks.{level}."
        state = {}
        for key, tensor in _take(left, SAME, "vae").items():
            old = next((old for old in places if key.startswith(old)), "")
            state[places.get(old, "") + key.removeprefix(old)] = tensor
        if config["use_differential_attention"]:
            _reorder(state, ".attn.to_qkv.weight")
        return state

    def _save_duration(self, left: dict[str, torch.Tensor], out: Path) -> None:
        """What embeds the length, whose Fourier basis is no weight."""
        from diffusers.pipelines.stable_audio_3 import StableAudio3DurationEmbedder

        said = self.conditioner("seconds_total")
        if said.get("fourier_features_type") != "expo":
            raise UserError(f"{self.folder / CONFIG}: fourier_features_type of seconds_total is not expo; name another")
        linear = _take(left, f"{COND}seconds_total.embedder.embedding.1.", "")
        shape = linear["weight"].shape if "weight" in linear else (0, 2)
        network = StableAudio3DurationEmbedder(
            output_dim=shape[0],
            fourier_dim=shape[1],
            min_val=float(said.get("min_val", 0)),
            max_val=float(said.get("max_val", 1)),
        )
        state = {f"linear.{key}": tensor for key, tensor in linear.items()}
        fixed = {key: value for key, value in network.state_dict().items() if not key.startswith("linear.")}
        compare(network.state_dict(), state | fixed, str(self.folder / WEIGHTS), "the duration embedder")
        network.load_state_dict(state | fixed)
        network.save_pretrained(out)

    def text_source(self) -> tuple[str, str]:
        """(folder or hub id, folder in it) of tokenizer and T5Gemma: as a rule beside the weights."""
        said = self.conditioner("prompt")
        inner = said.get("subfolder") or ""
        for candidate in (inner, said.get("model_path") or "", "t5gemma-b-b-ul2"):
            if candidate and (self.folder / candidate).is_dir():
                return str(self.folder / candidate), ""
        source = said.get("repo_id") or said.get("model_name") or "google/t5gemma-b-b-ul2"
        if not is_hub_id(source):
            raise UserError(f"{self.folder / CONFIG}: its text encoder '{source}' is not there; get the folder again")
        return str(snapshot(source, [f"{inner}/*" if inner else "*"])), inner

    def _save_text_encoder(self, left: dict[str, torch.Tensor], out: Path) -> None:
        """The encoder of T5Gemma, with what the checkpoint has of it, and the tokenizer with its longest prompt."""
        from transformers import AutoConfig, AutoTokenizer, T5GemmaEncoderModel

        source, inner = self.text_source()
        named = {"pretrained_model_name_or_path": source, "subfolder": inner, "trust_remote_code": False}
        config = AutoConfig.from_pretrained(**named)
        config.is_encoder_decoder = False
        network, report = T5GemmaEncoderModel.from_pretrained(
            source, subfolder=inner, config=config, dtype="auto", use_safetensors=True, output_loading_info=True
        )
        refuse_misfits(str(Path(source) / inner), {*report["missing_keys"]}, (), {}, "the text encoder")
        trained = _take(left, f"{COND}prompt.model.", "")
        if trained:
            compare(network.state_dict(), trained, str(self.folder / WEIGHTS), "the text encoder")
            network.load_state_dict(trained)
        network.save_pretrained(out / "text_encoder")
        tokenizer = AutoTokenizer.from_pretrained(**named)
        tokenizer.model_max_length = int(self.conditioner("prompt").get("max_length", 128))
        tokenizer.save_pretrained(out / "tokenizer")

    def _write_index(self, vae: str, out: Path) -> None:
        """What the folder is, and what it was made from."""
        library = "diffusers" if vae == "AutoencoderSAME" else "synthio.models.same"
        index = {
            "_class_name": "StableAudio3Pipeline",
            "converted_from": self.name,
            "vae": [library, vae],
            "transformer": ["diffusers", "StableAudio3DiTModel"],
            "duration_embedder": ["diffusers", "StableAudio3DurationEmbedder"],
            "text_encoder": ["transformers", "T5GemmaEncoderModel"],
            "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        }
        (out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _take(left: dict[str, torch.Tensor], prefix: str, part: str) -> dict[str, torch.Tensor]:
    """The weights with a prefix, under the names of diffusers; they are taken out of `left`."""
    found = {}
    for key in [key for key in left if key.startswith(prefix)]:
        name = key.removeprefix(prefix)
        for old, new in RENAMED.get(part, ()):
            name = re.sub(old, new, name)
        found[name] = left.pop(key)
    return found


def _reorder(state: dict[str, torch.Tensor], end: str) -> None:
    """Differential attention: rows [q | k | v | q2 | k2] become [q | q2 | k | k2 | v]."""
    for name in [name for name in state if name.endswith(end)]:
        q, k, v, q2, k2 = state[name].chunk(5)
        state[name] = torch.cat([q, q2, k, k2, v])
