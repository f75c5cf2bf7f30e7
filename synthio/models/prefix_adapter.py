"""Gated prefix adapters for the transformer of Stable Audio, as in LLaMA-Adapter (Zhang et al. 2023).

The transformer is diffusers' StableAudioDiTModel or the DiffusionTransformer of stable-audio-tools.

Every attention layer, self and cross, gets K learned tokens. The layer's own frozen projections turn them into keys
and values that every query attends to with a softmax of its own; tanh of a gate per head scales what comes of it:

    out = W_o [ softmax(q k^T / sqrt(d)) v + tanh(gate) * softmax(q k_p^T / sqrt(d)) v_p ]

The gates start at zero, so an untrained adapter changes nothing, to the last bit. The prefix has no place in the
clip, so its keys are not rotated. Prefixes trained by Synthio's released code have `gate` in place of `tanh(gate)`;
this is the "linear" gate. Everything goes through torch's scaled_dot_product_attention: no other attention
kernel is needed, and key/value heads that several query heads share (grouped) are repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

from synthio.cli import UserError


def _heads(x: torch.Tensor, head_dim: int) -> torch.Tensor:
    """[B, T, H * d] -> [B, H, T, d]."""
    return x.unflatten(-1, (-1, head_dim)).transpose(1, 2)


def _rotate(x: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotary position embedding (cos, sin), each [T, r], of the first r numbers of every head, [B, H, T, d]."""
    from diffusers.models.embeddings import apply_rotary_emb

    size = rotary[0].shape[-1]
    return torch.cat([apply_rotary_emb(x[..., :size], rotary, use_real_unbind_dim=-2), x[..., size:]], dim=-1)


def keys_and_values(attention: nn.Module, source: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The layer's keys and values of `source` [B, S, E], each [B, H, S, d] with H the number of query heads."""
    if not hasattr(attention, "to_k"):
        return _joint_keys_and_values(attention, source)
    head_dim = attention.to_q.out_features // attention.heads
    both = (_heads(project(source), head_dim) for project in (attention.to_k, attention.to_v))
    key, value = (part.repeat_interleave(attention.heads // part.shape[1], dim=1) for part in both)
    return key, value


def _joint_keys_and_values(attention: nn.Module, source: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `keys_and_values`, in stable-audio-tools: one projection for keys, values and, in self-attention, queries.

    Keys are normalised as the layer normalises its own.
    """
    joint = attention.to_kv(source) if hasattr(attention, "to_kv") else attention.to_qkv(source)
    key, value = (
        _heads(part, attention.dim_heads) for part in joint.chunk(joint.shape[-1] // source.shape[-1], -1)[-2:]
    )
    if attention.qk_norm == "l2":
        key = F.normalize(key, dim=-1)
    elif attention.qk_norm != "none":
        key = attention.k_norm(key)
    key, value = (part.repeat_interleave(attention.num_heads // part.shape[1], dim=1) for part in (key, value))
    return key, value


def _key_width(attention: nn.Module) -> int:
    """Width E of what the layer's keys are made from."""
    project = next(getattr(attention, name) for name in ("to_k", "to_kv", "to_qkv") if hasattr(attention, name))
    return project.in_features


class GatedPrefix(nn.Module):
    """The learned part of one attention layer.

    Attributes:
        tokens: [K, E], where E is the width of what the layer's keys are made from; standard normal at the start.
        gate: [H], one a query head; zero at the start.
        is_linear: whether the gate itself scales the prefix, instead of its tanh.
    """

    def __init__(self, attention: nn.Module, num_tokens: int, generator: torch.Generator, is_linear: bool = False):
        super().__init__()
        heads = attention.heads if hasattr(attention, "heads") else attention.num_heads
        self.tokens = nn.Parameter(torch.randn(num_tokens, _key_width(attention), generator=generator))
        self.gate = nn.Parameter(torch.zeros(heads))
        self.is_linear = is_linear

    def forward(self, attention: nn.Module, query: torch.Tensor) -> torch.Tensor:
        """What the layer's queries [B, H, T, d] find in the prefix, gated, [B, H, T, d]."""
        key, value = (part.expand(len(query), -1, -1, -1) for part in keys_and_values(attention, self.tokens[None]))
        strength = self.gate if self.is_linear else torch.tanh(self.gate)
        return strength[:, None, None] * F.scaled_dot_product_attention(query, key, value)


class PrefixAttnProcessor:
    """The attention of a Stable Audio layer with a prefix; in place of diffusers' StableAudioAttnProcessor2_0."""

    def __init__(self, model: PrefixModel, prefix: GatedPrefix):
        self.model, self.prefix = model, prefix

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None):
        # diffusers passes on only those arguments that it finds in this signature
        assert attention_mask is None, "Stable Audio attends to all of a clip and of its condition"
        query = _heads(attn.to_q(hidden_states), attn.to_q.out_features // attn.heads)
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        key, value = keys_and_values(attn, source)
        if rotary_emb is not None:  # self-attention alone gets it
            query, key = _rotate(query, rotary_emb), _rotate(key, rotary_emb)
        out = F.scaled_dot_product_attention(query, key, value)
        if self.model.enabled:
            out = out + self.prefix(attn, query)
        return attn.to_out[0](out.transpose(1, 2).flatten(2))


class PrefixedHeads:
    """What the heads of an attention layer of stable-audio-tools find; in place of its `apply_attn`.

    The layer calls it with queries [B, H, T, d] that are rotated and normalised already.
    """

    def __init__(self, model: PrefixModel, prefix: GatedPrefix, attention: nn.Module):
        if attention.differential:
            raise UserError("prefixes are not for a transformer with differential attention; train a lora or all")
        self.model, self.prefix, self.attention, self.plain = model, prefix, attention, attention.apply_attn

    def __call__(self, query, key, value, **options):
        out = self.plain(query, key, value, **options)
        return out + self.prefix(self.attention, query) if self.model.enabled else out


class PrefixModel(nn.Module):
    """A transformer with a gated prefix in each attention layer; the counterpart of peft's PeftModel.

    Args:
        transformer: StableAudioDiTModel, or DiffusionTransformer of stable-audio-tools; its attention layers are
            changed in place.
        num_tokens: length K of each prefix.
        seed: of the tokens.
        gate: "tanh", or "linear" for prefixes of Synthio's released code.
    """

    def __init__(self, transformer: nn.Module, num_tokens: int, seed: int = 0, gate: str = "tanh"):
        super().__init__()
        self.num_tokens, self.gate, self.enabled = num_tokens, gate, True
        self.transformer = transformer
        generator = torch.Generator().manual_seed(seed)
        self.layers = attention_layers(transformer)
        prefixes = (GatedPrefix(layer, num_tokens, generator, gate == "linear") for layer in self.layers.values())
        self.prefixes = nn.ModuleList(prefixes).to(next(transformer.parameters()).device)
        for layer, prefix in zip(self.layers.values(), self.prefixes, strict=True):
            if hasattr(layer, "set_processor"):
                layer.set_processor(PrefixAttnProcessor(self, prefix))
            else:
                layer.apply_attn = PrefixedHeads(self, prefix, layer)

    def forward(self, *args, **kwargs):
        return self.transformer(*args, **kwargs)

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """The transformer as it was, for the length of a block."""
        self.enabled = False
        try:
            yield
        finally:
            self.enabled = True


def attention_layers(transformer: nn.Module) -> dict[str, nn.Module]:
    """Every attention layer by name, self-attention before cross-attention in each block."""
    if hasattr(transformer, "transformer_blocks"):
        blocks, names = transformer.transformer_blocks, ("attn1", "attn2")
    else:
        blocks, names = transformer.transformer.layers, ("self_attn", "cross_attn")
    found = {f"{i}.{name}": getattr(block, name, None) for i, block in enumerate(blocks) for name in names}
    return {name: layer for name, layer in found.items() if layer is not None}
