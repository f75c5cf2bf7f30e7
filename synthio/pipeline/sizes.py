"""How large a text-to-audio model is, read from its configs and the heads of its weight files, or as published.

Nothing is loaded, and nothing but Python is needed.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from synthio.models import is_published_stable_audio_3
from synthio.models.lengths import Grid, oobleck_reach
from synthio.models.model_ids import split_id

# of the encoders
TEXT_PARAMETERS = {"t5-base": 110_000_000, "google/flan-t5-large": 341_000_000, "google/t5gemma-b-b-ul2": 281_600_000}
STRIDES = (8, 8, 4, 4, 2)  # of Stable Audio Open's decoder
FLOW = "rectified_flow"
Config = Mapping[str, Any]  # JSON of a library


@dataclass(frozen=True)
class Sizes:
    """What memory depends on.

    Attributes:
        family: whose transformer it is: "open" (Stable Audio Open's, in diffusers or stable-audio-tools) or "three".
        parameters, text_parameters, sound_parameters: of the transformer, of what reads texts, of the autoencoder.
        width, layers: of the transformer.
        attended: tokens of text and length, and `context` their width.
        extra: tokens beside the latent frames.
        depth: numbers of a latent frame.
        grid: its latent frames.
        hop: audio samples of a latent frame.
        channels: of the autoencoder at the rate of the sound, in the encoder and in the decoder; 0: not known.
        is_exact: weights are in float32 whatever the precision (stable-audio-tools).
        is_variable: latents are as long as their clip.
        is_small: the embedded model, in float32 unless told otherwise.
        is_distilled: a Stable Audio 3 for few steps without guidance.
        objective: what the transformer gives, "v" or "rectified_flow".
    """

    family: str
    parameters: int
    text_parameters: int
    sound_parameters: int
    width: int
    layers: int
    attended: int
    context: int
    extra: int
    depth: int
    grid: Grid
    hop: int
    channels: tuple[int, int] = (0, 0)
    is_exact: bool = False
    is_variable: bool = False
    is_small: bool = False
    is_distilled: bool = False
    objective: str = FLOW

    @property
    def hop_s(self) -> float:
        """Length of a latent frame."""
        return self.grid.seconds / self.grid.frames


def open_grid(frames: int, hop: int, sample_rate: int, strides: Sequence[int], step: int = 1) -> Grid:
    """The frames of a model with Oobleck's autoencoder; `strides` are the decoder's."""
    return Grid(frames, frames * hop / sample_rate, oobleck_reach(strides), step)


def three_grid(frames: int, hop: int, sample_rate: int, chunk: int = 0, strides: Sequence[int] = (1,)) -> Grid:
    """The frames of a Stable Audio 3, in multiples of what a chunk of its autoencoder holds; 0: it has none."""
    step = max(chunk // stride for stride in strides) if chunk else 1
    frames = frames // step * step
    return Grid(frames, frames * hop / sample_rate, step=step)


SAO = Sizes(
    family="open",
    parameters=1_057_000_000,
    text_parameters=TEXT_PARAMETERS["t5-base"],
    sound_parameters=156_000_000,
    width=1536,
    layers=24,
    attended=130,
    context=768,
    extra=1,
    depth=64,
    grid=open_grid(1024, 2048, 44100, STRIDES),
    hop=2048,
    channels=(128, 128),
    objective="v",
)
# Its small models; max_length of the prompt, memory tokens and frames by the config of the base.
SA3_SMALL = Sizes(
    family="three",
    parameters=459_000_000,
    text_parameters=TEXT_PARAMETERS["google/t5gemma-b-b-ul2"],
    sound_parameters=108_000_000,
    width=1024,
    layers=20,
    attended=257,
    context=1024,
    extra=64,
    depth=256,
    grid=three_grid(1300, 4096, 44100, 32, (16,)),
    hop=4096,
    is_variable=True,
)
SA3_MEDIUM = replace(
    SA3_SMALL,
    parameters=1_453_000_000,
    sound_parameters=852_000_000,
    width=1536,
    layers=24,
    context=1536,
    grid=three_grid(4096, 4096, 44100),
)
# Their papers' and configs' sizes, for what is not on this disk yet.
PUBLISHED = {
    **{
        f"stabilityai/stable-audio-3-{name}{end}": replace(sizes, is_distilled=not end)
        for name, sizes in (("small-sfx", SA3_SMALL), ("small-music", SA3_SMALL), ("medium", SA3_MEDIUM))
        for end in ("", "-base")
    },
    "stabilityai/stable-audio-open-1.0": SAO,
    "sonalkum/synthio-stable-audio-open": replace(
        SAO,
        text_parameters=TEXT_PARAMETERS["google/flan-t5-large"],
        grid=open_grid(215, 2048, 44100, STRIDES),
        is_exact=True,
    ),
    "stabilityai/stable-audio-open-small": replace(
        SAO,
        parameters=341_000_000,
        width=1024,
        layers=16,
        attended=65,
        grid=open_grid(256, 2048, 44100, STRIDES),
        is_exact=True,
        objective=FLOW,
    ),
}


def sizes_of(model: str) -> Sizes | None:
    """The sizes of a folder, file or hub id; None where they cannot be told."""
    path = Path(model)
    try:
        if (path / "transformer/config.json").is_file():
            return _of_pipeline(path)
        folder = path if path.is_dir() else path.parent
        if path.exists() and (folder / "model_config.json").is_file():
            names = [entry.name for entry in folder.iterdir()]
            return _of_published(folder) if is_published_stable_audio_3(names) else _of_tools(folder, path)
    except (OSError, ValueError, KeyError, TypeError, struct.error):  # the stage that loads it says what is wrong
        return None
    return PUBLISHED.get(split_id(model)[0])


def read_json(path: Path) -> Config:
    """A config."""
    return json.loads(path.read_text(encoding="utf-8"))


def _of_pipeline(folder: Path) -> Sizes:
    """A folder of diffusers."""
    network, vae = read_json(folder / "transformer/config.json"), read_json(folder / "vae/config.json")
    tokens = min(int(read_json(folder / "tokenizer/tokenizer_config.json").get("model_max_length", 128)), 512)
    parts = ("transformer", "text_encoder", "vae")
    counts = [sum(map(parameters_in, (folder / part).glob("*.safetensors"))) for part in parts]
    scheduler = read_json(folder / "scheduler/scheduler_config.json")
    if network["_class_name"] == "StableAudio3DiTModel":
        three = _of_three(network, vae, read_json(folder / "duration_embedder/config.json"), counts, tokens)
        return replace(three, is_distilled=bool(scheduler.get("stochastic_sampling")))
    is_small = vae["_class_name"] == "MelAutoencoder"
    hop, grid = _sound_of(vae, network["sample_size"])
    return Sizes(
        family="open",
        parameters=counts[0],
        text_parameters=counts[1],
        sound_parameters=counts[2],
        width=network["num_attention_heads"] * network["attention_head_dim"],
        layers=network["num_layers"],
        attended=tokens + 2,
        context=network["cross_attention_dim"],
        extra=1,
        depth=network["in_channels"],
        grid=grid,
        hop=hop,
        channels=(0, 0) if is_small else (vae["encoder_hidden_size"], vae["decoder_channels"]),
        is_small=is_small,
        objective=FLOW if str(scheduler.get("_class_name")).startswith("FlowMatch") else "v",
    )


def _sound_of(vae: Config, frames: int) -> tuple[int, Grid]:
    """(hop, frames) of an autoencoder's config."""
    rate = vae["sampling_rate"]
    if vae["_class_name"] == "MelAutoencoder":
        hop = vae["hop"] * 4 * vae["codes_per_latent"]
        return hop, Grid(frames, frames * hop / rate)
    hop = prod(vae["downsampling_ratios"])
    return hop, open_grid(frames, hop, rate, vae["downsampling_ratios"][::-1])


def _of_three(network: Config, vae: Config, duration: Config, counts: Sequence[int], tokens: int) -> Sizes:
    """A folder of Stable Audio 3."""
    hop = vae["patch_size"] * prod(vae["encoder_strides"])
    frames = int(duration["max_val"] * vae["sampling_rate"] / hop)
    return Sizes(
        family="three",
        parameters=counts[0],
        text_parameters=counts[1],
        sound_parameters=counts[2],
        width=network["embed_dim"],
        layers=network["depth"],
        attended=min(tokens, 256) + 1,
        context=network["embed_dim"],
        extra=network["num_memory_tokens"],
        depth=network["io_channels"],
        grid=three_grid(frames, hop, vae["sampling_rate"], vae.get("chunk_size", 0), vae["encoder_strides"]),
        hop=hop,
        is_variable=True,
    )


def _of_published(folder: Path) -> Sizes:
    """Stable Audio 3 as it is published."""
    config = read_json(folder / "model_config.json")
    dit, coder = config["model"]["diffusion"]["config"], config["model"]["pretransform"]["config"]
    parts = {part["id"]: part["config"] for part in config["model"]["conditioning"]["configs"]}
    encoder, hop, rate = coder["encoder"]["config"], coder["downsampling_ratio"], config["sample_rate"]
    weights = folder / "model.safetensors"
    sound = parameters_in(weights, "pretransform.")
    text = sum(parameters_in(path, "model.encoder.") for path in folder.glob("t5gemma*/*.safetensors"))
    chunk = 0 if encoder.get("sliding_window") else encoder.get("chunk_size", 128)
    frames = int(parts["seconds_total"].get("max_val", 1) * rate / hop)
    return Sizes(
        family="three",
        parameters=parameters_in(weights, "model."),
        text_parameters=text,
        sound_parameters=sound,
        width=dit["embed_dim"],
        layers=dit["depth"],
        attended=parts["prompt"].get("max_length", 128) + 1,
        context=dit["embed_dim"],
        extra=dit["num_memory_tokens"],
        depth=dit["io_channels"],
        grid=three_grid(frames, hop, rate, chunk, encoder["strides"]),
        hop=hop,
        is_variable=True,
        is_distilled=config["model"]["diffusion"].get("diffusion_objective") == "rf_denoiser",
    )


def _of_tools(folder: Path, path: Path) -> Sizes:
    """A model of stable-audio-tools."""
    config = read_json(folder / "model_config.json")
    model = config["model"]
    dit, coder = model["diffusion"]["config"], model["pretransform"]["config"]
    files = [path] if path.is_file() else [*folder.glob("*.safetensors"), *folder.glob("*.ckpt")]
    sound = parameters_in(files[0], "pretransform.")
    texts = [part for part in model["conditioning"]["configs"] if part["type"] == "t5"]
    name = texts[0]["config"].get("t5_model_name", "t5-base")
    local = sum(map(parameters_in, (folder / name).glob("*.safetensors"))) if (folder / name).is_dir() else 0
    encoder, decoder = coder["encoder"]["config"], coder["decoder"]["config"]
    hop, step = coder["downsampling_ratio"], dit.get("patch_size", 1)
    frames = config["sample_size"] // (hop * step) * step
    return Sizes(
        family="open",
        parameters=parameters_in(files[0]) - sound,
        text_parameters=TEXT_PARAMETERS.get(name, local),
        sound_parameters=sound,
        width=dit["embed_dim"],
        layers=dit["depth"],
        attended=texts[0]["config"].get("max_length", 128) + len(model["conditioning"]["configs"]) - 1,
        context=dit["cond_token_dim"],
        extra=1,
        depth=dit["io_channels"],
        grid=open_grid(frames, hop, config["sample_rate"], decoder["strides"][::-1], step),
        hop=hop,
        channels=(encoder["channels"], decoder["channels"]),
        is_exact=True,
        objective="v" if model["diffusion"].get("diffusion_objective", "v") == "v" else FLOW,
    )


def parameters_in(path: Path, prefix: str = "") -> int:
    """Numbers in a weight file whose names begin so; of one that is not safetensors, a guess from its bytes."""
    if path.suffix != ".safetensors":
        return path.stat().st_size // 4 if not prefix else 0
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        head = json.loads(stream.read(length))
    return sum(
        prod(entry["shape"]) for name, entry in head.items() if name != "__metadata__" and name.startswith(prefix)
    )


def scalar_in(path: Path, name: str) -> float | None:
    """A number of a safetensors file, float16 or float32; None: the file has none of this name, or is damaged."""
    forms = {"F16": "<e", "F32": "<f"}
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            entry = json.loads(stream.read(length))[name]
            stream.seek(8 + length + entry["data_offsets"][0])
            form = forms[entry["dtype"]]
            return float(struct.unpack(form, stream.read(struct.calcsize(form)))[0])
    except (OSError, ValueError, KeyError, TypeError, struct.error):  # the stage that loads it says what is wrong
        return None
