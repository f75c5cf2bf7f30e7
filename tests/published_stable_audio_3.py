"""A small Stable Audio 3 in the layout that its makers publish, by the keys and shapes of their library.

Every weight is drawn by its own name, so that the files are the same everywhere. Their library (Stability-AI's
stable-audio-3, commit 636f906) was run on them once, with the noise that its decoder adds set to zero: what its
transformer, encoder and decoder gave is in `tests/models/stable_audio_3_reference.safetensors`. It fits itself the text
encoder's width: its table says 768 for T5Gemma, and this one has 24.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import torch

from tests.tiny_models import T5GEMMA_TEXT, word_tokenizer

RATE, HOP, LATENT, WIDTH, HEAD = 16000, 512, 16, 64, 64
TEXT = 24
REFERENCE = Path(__file__).with_name("models") / "stable_audio_3_reference.safetensors"
PROMPTS, SECONDS = ["sound of a dog bark", "rain"], [0.12, 1.5]


def values(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The weight of this name."""
    if name.endswith("inv_freq"):
        return torch.from_numpy((10000.0 ** (-np.arange(shape[0]) / shape[0])).astype(np.float32))
    drawn = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith(("gamma", "alpha", "scaling_factor", "running_std")):
        drawn = 1 + 0.2 * drawn
    elif len(shape) > 1 and shape[-1] * shape[-2] > 1 and not name.endswith("tokens"):
        drawn = drawn / np.sqrt(shape[1])
    else:
        drawn = 0.3 * drawn
    return torch.from_numpy(drawn.astype(np.float32))


def attention(start: str, width: int, head: int, differential: bool, norms: tuple[str, ...]) -> dict:
    """Self-attention: [q | k | v | q2 | k2]."""
    many = 5 if differential else 3
    shapes = {f"{start}to_qkv.weight": (many * width, width), f"{start}to_out.weight": (width, width)}
    return shapes | norm(f"{start}q_norm.", head, norms) | norm(f"{start}k_norm.", head, norms)


def norm(start: str, width: int, names: tuple[str, ...]) -> dict:
    return {f"{start}{name}": (1,) if name == "alpha" else (width,) for name in names}


def feed_forward(start: str, width: int, mult: int) -> dict:
    inner = mult * width
    return {
        f"{start}ff.0.proj.weight": (2 * inner, width),
        f"{start}ff.0.proj.bias": (2 * inner,),
        f"{start}ff.2.weight": (width, inner),
        f"{start}ff.2.bias": (width,),
    }


def linear(start: str, out: int, width: int, bias: bool = True) -> dict:
    return {f"{start}weight": (out, width)} | ({f"{start}bias": (out,)} if bias else {})


def transformer_shapes(differential: bool) -> dict:
    """Of the diffusion transformer, one layer."""
    start, layer, rms = "model.model.", "model.model.transformer.layers.0.", ("gamma",)
    cross = f"{layer}cross_attn."
    return {
        **linear(f"{start}to_timestep_embed.0.", WIDTH, 16),
        **linear(f"{start}to_timestep_embed.2.", WIDTH, WIDTH),
        **linear(f"{start}to_cond_embed.0.", WIDTH, TEXT, bias=False),
        **linear(f"{start}to_cond_embed.2.", WIDTH, WIDTH, bias=False),
        **linear(f"{start}to_global_embed.0.", WIDTH, TEXT, bias=False),
        **linear(f"{start}to_global_embed.2.", WIDTH, WIDTH, bias=False),
        f"{start}transformer.memory_tokens": (4, WIDTH),
        **linear(f"{start}transformer.project_in.", WIDTH, LATENT, bias=False),
        **linear(f"{start}transformer.project_out.", LATENT, WIDTH, bias=False),
        f"{start}transformer.rotary_pos_emb.inv_freq": (16,),
        **linear(f"{start}transformer.global_cond_embedder.0.", WIDTH, WIDTH),
        **linear(f"{start}transformer.global_cond_embedder.2.", 6 * WIDTH, WIDTH),
        f"{start}preprocess_conv.weight": (LATENT, LATENT, 1),
        f"{start}postprocess_conv.weight": (LATENT, LATENT, 1),
        f"{layer}to_scale_shift_gate": (6 * WIDTH,),
        **norm(f"{layer}pre_norm.", WIDTH, rms),
        **attention(f"{layer}self_attn.", WIDTH, HEAD, differential, rms),
        **norm(f"{layer}cross_attend_norm.", WIDTH, rms),
        f"{cross}to_q.weight": ((2 if differential else 1) * WIDTH, WIDTH),
        f"{cross}to_kv.weight": ((3 if differential else 2) * WIDTH, WIDTH),
        f"{cross}to_out.weight": (WIDTH, WIDTH),
        **norm(f"{cross}q_norm.", HEAD, rms),
        **norm(f"{cross}k_norm.", HEAD, rms),
        **norm(f"{layer}ff_norm.", WIDTH, rms),
        **feed_forward(f"{layer}ff.", WIDTH, 4),
        **linear(f"{layer}to_local_embed.0.", WIDTH, LATENT + 1),
        **linear(f"{layer}to_local_embed.2.", WIDTH, WIDTH),
        "conditioner.conditioners.prompt.padding_embedding": (TEXT,),
        **linear("conditioner.conditioners.seconds_total.embedder.embedding.1.", TEXT, 256),
    }


def autoencoder_shapes(layers: int, kernel: int) -> dict:
    """Of SAME: patches of 64 samples in stereo, 8 of them a latent."""
    start, width, patch, tanh = "pretransform.model.", 32, 128, ("alpha", "gamma", "beta")
    shapes: dict = {
        f"{start}bottleneck.scaling_factor": (1, LATENT, 1),
        f"{start}bottleneck.bias": (1, LATENT, 1),
        f"{start}bottleneck.noise_scaling_factor": (1, 0, 1),
        f"{start}bottleneck.running_std": (1,),
        **linear(f"{start}encoder.layers.2.", LATENT, width),
        **linear(f"{start}decoder.layers.1.", width, LATENT),
    }
    for block, sides, span in (("encoder.layers.0.", (width, patch), 1), ("decoder.layers.3.", (patch, width), kernel)):
        out = sides[0]
        shapes |= {
            f"{start}{block}new_tokens": (1, 1, width),
            f"{start}{block}mapping.bias": (out,),
            f"{start}{block}mapping.weight_g": (out, 1, 1),
            f"{start}{block}mapping.weight_v": (*sides, span),
        }
        for i in range(layers):
            layer = f"{start}{block}transformers.{i}."
            shapes |= norm(f"{layer}pre_norm.", width, tanh) | norm(f"{layer}ff_norm.", width, tanh)
            shapes |= attention(f"{layer}self_attn.", width, 16, True, tanh) | feed_forward(f"{layer}ff.", width, 3)
            shapes |= {f"{layer}rope.inv_freq": (4,)}
    return shapes


def model_config(kind: str) -> dict:
    """As published: "small" (distilled), "small-base" or "medium"."""
    small = kind != "medium"
    coder = {
        "channels": 8,
        "c_mults": [4],
        "strides": [8],
        "latent_dim": LATENT,
        "transformer_depths": [3 if small else 2],
        "checkpointing": False,
        "differential": True,
        "dyt": True,
        "dim_heads": 16,
        "variable_stride": True,
        "chunk_size": 16,
        "chunk_midpoint_shift": small,
        "mask_noise": 0.0,
    } | ({} if small else {"sliding_window": [1, 1]})
    decoder = {"sinusoidal_blocks": [0 if small else 2], "conv_mapping": small, "mask_noise": 0.01}
    return {
        "model_type": "diffusion_cond_inpaint",
        "sample_size": 32768,
        "sample_rate": RATE,
        "audio_channels": 2,
        "model": {
            "pretransform": {
                "type": "autoencoder",
                "iterate_batch": True,
                "config": {
                    "encoder": {"type": "same", "config": {"in_channels": 128} | coder},
                    "decoder": {"type": "same", "config": {"out_channels": 128} | coder | decoder},
                    "bottleneck": {
                        "type": "softnorm",
                        "config": {"dim": LATENT, "noise_augment_dim": 0, "noise_regularize": True, "auto_scale": True},
                    },
                    "pretransform": {"type": "patched", "config": {"patch_size": 64, "channels": 2}},
                    "latent_dim": LATENT,
                    "downsampling_ratio": HOP,
                    "io_channels": 2,
                },
            },
            "conditioning": {
                "configs": [
                    {
                        "id": "prompt",
                        "type": "t5gemma",
                        "config": {
                            "max_length": 16,
                            "padding_mode": "learned",
                            "repo_id": "stabilityai/stable-audio-3-small-sfx",
                            "subfolder": "t5gemma-b-b-ul2",
                        },
                    },
                    {
                        "id": "seconds_total",
                        "type": "number",
                        "config": {"min_val": 0, "max_val": 2.0, "fourier_features_type": "expo"},
                    },
                ],
                "cond_dim": TEXT,
            },
            "diffusion": {
                "type": "dit",
                "diffusion_objective": "rf_denoiser" if kind == "small" else "rectified_flow",
                "cross_attention_cond_ids": ["prompt", "seconds_total"],
                "global_cond_ids": ["seconds_total"],
                "local_add_cond_ids": ["inpaint_mask", "inpaint_masked_input"],
                "config": {
                    "io_channels": LATENT,
                    "embed_dim": WIDTH,
                    "depth": 1,
                    "num_heads": WIDTH // HEAD,
                    "cond_token_dim": TEXT,
                    "global_cond_dim": TEXT,
                    "local_add_cond_dim": LATENT + 1,
                    "transformer_type": "continuous_transformer",
                    "global_cond_type": "adaLN",
                    "timestep_features_type": "expo",
                    "timestep_features_dim": 16,
                    "attn_kwargs": {"qk_norm": "rms"} | ({} if small else {"differential": True}),
                    "norm_type": "rms_norm",
                    "norm_kwargs": {"force_fp32": True},
                    "ff_kwargs": {"mult": 4.0, "no_bias": False},
                    "num_memory_tokens": 4,
                },
            },
            "io_channels": LATENT,
        },
    }


def save_published(folder: Path, kind: str = "small") -> Path:
    """Write the published layout: a config, the weights in one file, T5Gemma in a folder."""
    from safetensors.torch import save_file
    from transformers import T5GemmaConfig, T5GemmaForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    small = kind != "medium"
    shapes = transformer_shapes(not small) | autoencoder_shapes(3 if small else 2, 3 if small else 1)
    save_file({name: values(name, shape) for name, shape in shapes.items()}, folder / "model.safetensors")
    (folder / "model_config.json").write_text(json.dumps(model_config(kind), indent=2))
    text = T5GEMMA_TEXT | {"hidden_size": TEXT}
    reader = T5GemmaForConditionalGeneration(T5GemmaConfig(encoder=text, decoder=text, vocab_size=64))
    with torch.no_grad():
        for name, parameter in reader.named_parameters():
            parameter.copy_(values(name, tuple(parameter.shape)))
    reader.save_pretrained(folder / "t5gemma-b-b-ul2")
    word_tokenizer(16).save_pretrained(folder / "t5gemma-b-b-ul2")
    return folder


def asked() -> dict[str, torch.Tensor]:
    """What the networks are given: latents [2, D, 4], times [2], audio [1, 2, T]."""
    shapes = {"latents": (2, LATENT, 4), "audio": (1, 2, 4 * HOP)}
    given = {
        name: torch.from_numpy(np.random.default_rng(i).standard_normal(shape).astype(np.float32))
        for i, (name, shape) in enumerate(shapes.items())
    }
    return given | {"times": torch.tensor([0.2, 0.9]), "audio": 0.3 * given["audio"]}
