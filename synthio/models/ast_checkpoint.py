"""Checkpoints of the AST repository (`.pth`, timm's DeiT names) in the terms of transformers.

    config, weights = read_ast_checkpoint("audioset_10_10_0.4593.pth")
    model = ASTForAudioClassification.from_pretrained(None, config=config, state_dict=weights)

The network is a DeiT with two special tokens, whose mean after the last norm goes through a norm and a linear layer
(Gong, Chung and Glass 2021, section 2.1). Sizes are read from the shapes. The strides are in no shape: the number of
patches tells them for every recipe of the repository, and where it does not, they must be given.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from synthio.cli import UserError
from synthio.models.checkpoint_file import read_checkpoint

HEAD_WIDTH = 64  # of one attention head, in every DeiT
NORM_EPSILON = 1e-6  # of timm's vision transformers
NUM_MEL_BINS = 128
STRIDES = (10, 12, 14, 16)  # published with AudioSet weights; the same in frequency and time
RECIPE_FRAMES = (1024, 512, 128)  # input lengths for AudioSet, ESC-50 and Speech Commands
UNUSED = ("v.head.", "v.head_dist.")  # DeiT's ImageNet classifiers, which AST does not call

BODY = "audio_spectrogram_transformer."
NAMES = {
    "v.cls_token": f"{BODY}embeddings.cls_token",
    "v.dist_token": f"{BODY}embeddings.distillation_token",
    "v.pos_embed": f"{BODY}embeddings.position_embeddings",
    "v.patch_embed.proj": f"{BODY}embeddings.patch_embeddings.projection",
    "v.norm": f"{BODY}layernorm",
    "mlp_head.0": "classifier.layernorm",
    "mlp_head.1": "classifier.dense",
}
BLOCK_NAMES = {
    "norm1": "layernorm_before",
    "attn.proj": "attention.o_proj",
    "norm2": "layernorm_after",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def read_ast_checkpoint(path: str | Path, frequency_stride: int = 0, time_stride: int = 0):
    """(ASTConfig, weights float32 by transformers' names) of a checkpoint.

    Args:
        path: the file; its names may begin with DataParallel's `module.`.
        frequency_stride: of the patches, in mel bands; 0 finds it from the number of patches.
        time_stride: the same, in frames.

    Raises:
        UserError: no such file, or not such a checkpoint; a key is unknown, missing or of a wrong shape.
    """
    state = _read_tensors(Path(path))
    config = _read_config(state, path, frequency_stride, time_stride)
    weights = _translate(state, path)
    _check_shapes(weights, config, path)
    return config, weights


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by their names, without DataParallel's prefix and without what AST does not use."""
    content = read_checkpoint(path)
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise UserError(f"{path}: not a state dict (names and tensors); save model.state_dict() alone with torch.save")
    state = {key.removeprefix("module."): value.float() for key, value in content.items()}
    return {key: value for key, value in state.items() if not key.startswith(UNUSED)}


def _read_config(state: dict[str, torch.Tensor], path, frequency_stride: int, time_stride: int):
    """ASTConfig from the shapes and strides."""
    from transformers import ASTConfig

    def shape(key: str) -> torch.Size:
        if key not in state:
            raise UserError(f"{path}: has no {key}, so it is no checkpoint of the AST repository")
        return state[key].shape

    hidden, patch = shape("v.cls_token")[-1], shape("v.patch_embed.proj.weight")[-1]
    if hidden % HEAD_WIDTH:
        raise UserError(f"{path}: width {hidden} is no whole number of attention heads of {HEAD_WIDTH}")
    numbers = [int(match[1]) for key in state if (match := re.match(r"v\.blocks\.(\d+)\.", key))]
    patches = shape("v.pos_embed")[1] - 2  # of the two special tokens
    strides = _find_strides(patches, patch, frequency_stride, time_stride, path)
    return ASTConfig(
        hidden_size=hidden,
        num_hidden_layers=max(numbers, default=0) + 1,
        num_attention_heads=hidden // HEAD_WIDTH,
        intermediate_size=shape("v.blocks.0.mlp.fc1.weight")[0],
        layer_norm_eps=NORM_EPSILON,
        patch_size=patch,
        frequency_stride=strides[0],
        time_stride=strides[1],
        max_length=_input_frames(patches, patch, *strides),
        num_mel_bins=NUM_MEL_BINS,
        num_labels=shape("mlp_head.1.weight")[0],
    )


def _bands(patch: int, stride: int) -> int:
    """Rows of the grid of patches."""
    return (NUM_MEL_BINS - patch) // stride + 1


def _input_frames(patches: int, patch: int, frequency_stride: int, time_stride: int) -> int:
    """A recipe's input length if it gives that many patches, else the shortest that does."""
    shortest = patch + (patches // _bands(patch, frequency_stride) - 1) * time_stride
    return next((n for n in RECIPE_FRAMES if shortest <= n < shortest + time_stride), shortest)


def _find_strides(patches: int, patch: int, frequency_stride: int, time_stride: int, path) -> tuple[int, int]:
    """(frequency, time) strides: those given; else those that fit a recipe's length; else the only ones that fit."""
    pairs = [(s, s) for s in STRIDES]
    if frequency_stride or time_stride:
        pairs = [(frequency_stride or time_stride, time_stride or frequency_stride)]
    fitting = [pair for pair in pairs if patches % _bands(patch, pair[0]) == 0]
    usual = [pair for pair in fitting if _input_frames(patches, patch, *pair) in RECIPE_FRAMES]
    for found in (usual, fitting):
        if len(found) == 1:
            return found[0]
    which = f"fit all of {_listed(fitting)}" if fitting else f"fit none of {_listed(pairs)}"
    raise UserError(
        f"{path}: {patches} patches {which} as (frequency, time) strides; convert it with ast/convert.py, "
        "which takes --frequency_stride and --time_stride"
    )


def _listed(pairs: list[tuple[int, int]]) -> str:
    return ", ".join(map(str, pairs))


def _translate(state: dict[str, torch.Tensor], path) -> dict[str, torch.Tensor]:
    """Weights by transformers' names; every key is taken."""
    weights: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        names = _new_names(key)
        if not names:
            raise UserError(f"{path}: the key '{key}' ({list(value.shape)}) is no part of AST")
        weights |= dict(zip(names, value.chunk(len(names)), strict=True))
    return weights


def _new_names(key: str) -> list[str]:
    """transformers' names of a key: three for timm's joint query, key and value; none for an unknown key."""
    if key in NAMES:
        return [NAMES[key]]
    part, _, kind = key.rpartition(".")
    if kind not in ("weight", "bias"):
        return []
    if part in NAMES:
        return [f"{NAMES[part]}.{kind}"]
    block = re.fullmatch(r"v\.blocks\.(\d+)\.(.+)", part)
    if not block:
        return []
    layer = f"{BODY}layers.{block[1]}"
    if block[2] == "attn.qkv":
        return [f"{layer}.attention.{name}_proj.{kind}" for name in "qkv"]
    return [f"{layer}.{BLOCK_NAMES[block[2]]}.{kind}"] if block[2] in BLOCK_NAMES else []


def _check_shapes(weights: dict[str, torch.Tensor], config, path) -> None:
    """Compare with the network that the config describes."""
    from transformers import ASTForAudioClassification

    with torch.device("meta"):
        wanted = {key: list(value.shape) for key, value in ASTForAudioClassification(config).state_dict().items()}
    found = {key: list(value.shape) for key, value in weights.items()}
    for key, shape in wanted.items():
        if key not in found:
            raise UserError(f"{path}: lacks the weights that transformers calls {key} {shape}")
        if found[key] != shape:
            raise UserError(f"{path}: {key} (transformers' name) is {found[key]}, should be {shape}")
