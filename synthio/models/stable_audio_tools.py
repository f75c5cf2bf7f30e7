"""Text-to-audio models of stable-audio-tools: a `model_config.json` and a checkpoint.

Stable Audio Open 1.0 and Small, Synthio's own checkpoint and what users trained with the library are loaded by the
same code, which needs the environment stable_audio. The network is built by the library from its config;
`tools_checkpoint` reads the weights. Sampling is ours. The objective "rf_denoiser" is that of models distilled
by adversarial post-training (ARC, Novack et al. 2025): the network predicts the velocity of a rectified flow, and is
sampled in a few "pingpong" steps without guidance.

The library runs T5 in float16, which is slow on CPUs and whose range flan-t5 can leave; here it is float32, and so are
all weights. In half precision the transformer alone multiplies, under autocast.
"""

from __future__ import annotations

import contextlib
import copy
import io
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from synthio.cli import UserError, first_line, making_of
from synthio.files import read_object
from synthio.models.adapters import load_adapter
from synthio.models.base import Condition, Network, Objective, Part, Sampling, TextToAudio, reach_of
from synthio.models.pipeline_model import pick_dtype
from synthio.models.strict import fill, listed, refusing
from synthio.models.tools_checkpoint import CONFIG_NAME, Prefixes, find_model, read_state, split_prefixes
from synthio.models.tools_prefix import ToolsPrefixModel, attention_layers

# of distilled models: Stable Audio Open Small's
FEW_STEPS = Sampling("pingpong", 8, 1.0)
OBJECTIVES: dict[str, Objective] = {"v": "v", "rectified_flow": "rectified_flow", "rf_denoiser": "rectified_flow"}
# What a clip is conditioned on, and the type of conditioner that says it.
CONDITIONERS = {"prompt": "t5", "seconds_start": "number", "seconds_total": "number"}
FORK_OPTION = "adapter_present"  # of Synthio's fork: its layers have prefixes


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The library prints what it lacks and its parts warn of deprecations; neither is for our logs."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check_config(config: dict, path: Path) -> None:
    """Refuse a config of a model that is not conditioned on prompt and length alone, or is built of other parts."""
    model = config.get("model", {})
    diffusion, pretransform = model.get("diffusion", {}), model.get("pretransform", {})
    conditioners = {part["id"]: part["type"] for part in model.get("conditioning", {}).get("configs", [])}
    found = {
        "model_type": config.get("model_type") == "diffusion_cond",
        "model.diffusion.type": diffusion.get("type") == "dit",
        "model.diffusion.diffusion_objective": diffusion.get("diffusion_objective", "v") in OBJECTIVES,
        "model.diffusion.cross_attention_cond_ids": bool(diffusion.get("cross_attention_cond_ids")),
        "model.diffusion.input_concat_ids": not diffusion.get("input_concat_ids"),
        "model.diffusion.prepend_cond_ids": not diffusion.get("prepend_cond_ids"),
        "model.pretransform.type": pretransform.get("type") == "autoencoder",
        "model.pretransform.config.bottleneck.type": _bottleneck(pretransform) == "vae",
        "model.conditioning.configs": "prompt" in conditioners and conditioners.items() <= CONDITIONERS.items(),
        "sample_size": isinstance(config.get("sample_size"), int),
    }
    wrong = [name for name, is_right in found.items() if not is_right]
    if wrong:
        raise UserError(
            f"{path}: {listed(wrong)}: not what this backend is for, which is a conditioned diffusion transformer over "
            f"a VAE, conditioned on {', '.join(f'{name} ({kind})' for name, kind in CONDITIONERS.items())}"
        )


def _bottleneck(pretransform: dict) -> str | None:
    return pretransform.get("config", {}).get("bottleneck", {}).get("type")


def text_encoder_config(config: dict) -> dict:
    """The part of a config that says which T5 reads the prompt."""
    return next(part for part in config["model"]["conditioning"]["configs"] if part["id"] == "prompt")["config"]


def use_local_text_encoder(config: dict, folder: Path, conditioner: type[Network]) -> None:
    """Let the config name a folder (relative to its own) as its T5; the library knows names on the hub alone.

    Args:
        config: changed in place.
        folder: where the config lies.
        conditioner: the library's T5Conditioner; gets to know the folder.
    """
    part = text_encoder_config(config)
    name = part.get("t5_model_name", "t5-base")
    if name in conditioner.T5_MODEL_DIMS:
        return
    local = folder / name
    if not (local / "config.json").is_file():
        raise UserError(f"{folder}: the text encoder '{name}' is neither a T5 that the library knows nor a folder")
    part["t5_model_name"] = str(local)
    if str(local) not in conditioner.T5_MODEL_DIMS:
        conditioner.T5_MODELS.append(str(local))
        conditioner.T5_MODEL_DIMS[str(local)] = read_object(local / "config.json", "d_model")["d_model"]


def build(config: dict, path: Path) -> Network:
    """The library's network of a config, with random weights but for the text encoder, in float32.

    Raises:
        UserError: the library is not in this environment, the config is not for it, or its T5 cannot be had.
    """
    try:
        with quiet():
            from stable_audio_tools.models.conditioners import T5Conditioner
            from stable_audio_tools.models.factory import create_model_from_config
    except ImportError as error:
        raise UserError(
            f"{path.parent} is a model of stable-audio-tools, which is not in this environment ({first_line(error)}); "
            f"make its own ({making_of('stable_audio')}) and run this with "
            ".envs/stable_audio/bin/python, or set stable_audio_env=.envs/stable_audio in run.sh"
        ) from None
    check_config(config, path)
    config = copy.deepcopy(config)
    config["model"]["diffusion"]["config"].pop(FORK_OPTION, None)
    config["model"]["pretransform"] |= {"model_half": False, "chunked": False}
    use_local_text_encoder(config, path.parent, T5Conditioner)
    try:
        with quiet():
            model = create_model_from_config(config)
    except OSError as error:
        name = text_encoder_config(config).get("t5_model_name", "t5-base")
        raise UserError(
            f"{path}: the text encoder '{name}' could not be had ({first_line(error)}); give the config the path of "
            "a folder with that T5 as t5_model_name, or run once with a network"
        ) from None
    except (TypeError, KeyError, AssertionError, NotImplementedError) as error:
        raise UserError(f"{path}: the library cannot build this config ({type(error).__name__}: {error})") from None
    model.conditioner.conditioners["prompt"].model.float()  # it is no submodule, so the next line does not reach it
    return model.float()


def with_prefixes(transformer: Network, prefixes: Prefixes, path: Path) -> ToolsPrefixModel:
    """The transformer with the prefixes of its checkpoint.

    Raises:
        UserError: the prefixes are not those of its layers.
    """
    lengths = {len(tokens) for tokens in prefixes.tokens.values()}
    layers = list(attention_layers(transformer))
    strange = sorted(set(layers) ^ set(prefixes.tokens))
    if strange or len(lengths) != 1:
        raise UserError(f"{path}: prefixes must be of one length, one a layer; {listed(strange) or lengths}")
    state: dict[str, torch.Tensor] = {}
    for i, layer in enumerate(layers):
        state |= {f"{i}.tokens": prefixes.tokens[layer], f"{i}.gate": prefixes.gates[layer]}
    module = ToolsPrefixModel(transformer, lengths.pop(), gate="linear")
    fill(module.prefixes, state, path, "its prefixes")
    return module


class StableAudioToolsTextToAudio(TextToAudio):
    """See `TextToAudio`; every part is loaded in float32 and frozen. `dtype` is what the transformer multiplies in.

    Args:
        model: folder, checkpoint with its config beside it, or hub id.
        adapter: folder of an adapter for the transformer (see `synthio.models.adapters`), or None.
        device: torch device.
        dtype: see `PipelineModel`.

    Raises:
        UserError: a part is missing or does not fit, or the adapter belongs to another model.
    """

    _recompute = False

    def __init__(self, model: str, adapter: str | None = None, device: str = "cpu", dtype: str = "auto"):
        files = find_model(model)
        config = read_object(files.config)
        with refusing("model", files.config):
            self.network = build(config, files.config)
        state, prefixes = split_prefixes(read_state(files.checkpoint), files.checkpoint)
        fill(self.network, state, files.checkpoint, f"what its {CONFIG_NAME} describes")
        self.name = Path(model).name if Path(model).exists() else model
        self.device = torch.device(device)
        self.dtype = pick_dtype(dtype, self.device)
        self._read_sizes(config)
        self.module = self.network.model.model
        if prefixes:
            self.module = with_prefixes(self.module, prefixes, files.checkpoint)
        elif config["model"]["diffusion"]["config"].get(FORK_OPTION):
            print(f"{files.checkpoint}: no prefixes in it, though its config speaks of them", file=sys.stderr)
        if adapter:
            self.module = load_adapter(self.module, adapter)
        for part in (self.network, self.module):
            part.requires_grad_(False).eval().to(self.device)

    def _read_sizes(self, config: dict) -> None:
        diffusion = config["model"]["diffusion"]
        objective = diffusion.get("diffusion_objective", "v")
        self.objective, self.distilled = OBJECTIVES[objective], objective == "rf_denoiser"
        self.sampling = FEW_STEPS if self.distilled else None
        hop, patch = self.network.pretransform.downsampling_ratio, diffusion["config"].get("patch_size", 1)
        frames = config["sample_size"] // (hop * patch) * patch
        self.latent_shape = (self.network.io_channels, frames)
        self.sample_rate, self.channels = self.network.sample_rate, self.network.pretransform.io_channels
        self.hop, self.frame_step = hop, patch
        if config["model"]["pretransform"]["config"].get("decoder", {}).get("type") == "oobleck":
            self.decoder_reach = reach_of(self.network.pretransform.model.decoder)

    def parts(self, part: Part) -> Sequence[Network]:
        """See `TextToAudio`."""
        if part == "sound":
            return [self.network.pretransform]
        conditioner = self.network.conditioner
        return [conditioner, conditioner.conditioners["prompt"].model]  # the second is no submodule of the first

    def recompute_activations(self) -> None:
        """By the library's own checkpointing of the transformer's blocks."""
        self._recompute = True

    @torch.no_grad()
    def encode(self, audio: torch.Tensor) -> torch.Tensor:
        """Audio [B, C, T] -> latents [B, D, L], the mean of the posterior (the library draws from it)."""
        short = self.samples - audio.shape[2]
        audio = torch.nn.functional.pad(audio, (0, short)) if short > 0 else audio[:, :, : self.samples]
        if audio.shape[1] != self.channels:
            audio = audio.mean(dim=1, keepdim=True).expand(-1, self.channels, -1)
        pretransform = self.network.pretransform
        both = pretransform.model.encode(audio.to(self.device), skip_bottleneck=True)
        return both.chunk(2, dim=1)[0] / pretransform.scale

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents [B, D, L] -> audio [B, C, L * hop].

        Raises:
            UserError: the latents are not finite.
        """
        self.check_finite(latents)
        return self.network.pretransform.decode(latents)[:, :, : self.samples]

    @torch.no_grad()
    def condition(self, prompts: Sequence[str], seconds: Sequence[float]) -> Condition:
        """Text states (zero where padded), start (always 0 s) and length in seconds, as the config lays them."""
        rows = [
            {"prompt": prompt, "seconds_start": 0.0, "seconds_total": float(length)}
            for prompt, length in zip(prompts, seconds, strict=True)
        ]
        with quiet():
            tensors = self.network.conditioner(rows, self.device)
        inputs = self.network.get_conditioning_inputs(tensors)
        pooled = inputs["global_cond"]
        return Condition(inputs["cross_attn_cond"], None if pooled is None else pooled[:, None])

    def predict(self, latents: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        """The transformer's output [B, D, L] at times t [B]."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            out = self.module(
                latents,
                t,
                cross_attn_cond=condition.cross,
                global_embed=None if condition.pooled is None else condition.pooled[:, 0],
                use_checkpointing=self._recompute and torch.is_grad_enabled(),
            )
        return out.float()
