"""Gated prefix adapters for the transformer of Stable Audio, as in LLaMA-Adapter (Zhang et al. 2023).

Every attention layer, self and cross, gets K learned tokens. The layer's own frozen projections turn them into keys
and values that every query attends to with a softmax of its own; tanh of a gate per head scales what comes of it:

    out = W_o [ softmax(q k^T / sqrt(d)) v + tanh(gate) * softmax(q k_p^T / sqrt(d)) v_p ]

The gates start at zero, so an untrained adapter changes nothing, to the last bit. The prefix has no place in the
clip, so its keys are not rotated. In Stable Audio 3 attention is the difference of two, and so is what a prefix adds;
there the queries for it are not rotated either. Everything goes through torch's scaled_dot_product_attention: no other
attention kernel is needed, and key/value heads that several query heads share (grouped) are repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

from synthio.models.base import Network


def _heads(x: torch.Tensor, head_dim: int) -> torch.Tensor:
    """[B, T, H * d] -> [B, H, T, d]."""
    return x.unflatten(-1, (-1, head_dim)).transpose(1, 2)


def _rotate(x: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotary position embedding (cos, sin), each [T, r], of the first r numbers of every head, [B, H, T, d]."""
    from diffusers.models.embeddings import apply_rotary_emb

    size = rotary[0].shape[-1]
    return torch.cat([apply_rotary_emb(x[..., :size], rotary, use_real_unbind_dim=-2), x[..., size:]], dim=-1)


def keys_and_values(attention: Network, source: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The layer's keys and values of `source` [B, S, E], each [B, H, S, d] with H the number of query heads."""
    head_dim = attention.to_q.out_features // attention.heads
    both = (_heads(project(source), head_dim) for project in (attention.to_k, attention.to_v))
    key, value = (part.repeat_interleave(attention.heads // part.shape[1], dim=1) for part in both)
    return key, value


def fused_weights(attention: Network) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a Stable Audio 3 layer, the weights of the queries and those of the keys and the value."""
    if hasattr(attention, "to_kv"):
        return attention.to_q.weight, attention.to_kv.weight
    queries = attention.heads * attention.dim_heads * (2 if attention.use_differential else 1)
    return attention.to_qkv.weight[:queries], attention.to_qkv.weight[queries:]


class GatedPrefix(nn.Module):
    """The learned part of one attention layer.

    Attributes:
        tokens: [K, E], where E is the width of what the layer's keys are made from; standard normal at the start.
        gate: [H], one a query head; zero at the start.
    """

    def __init__(self, attention: Network, num_tokens: int, generator: torch.Generator):
        super().__init__()
        keys = attention.to_k.weight if hasattr(attention, "to_k") else fused_weights(attention)[1]
        self.tokens = nn.Parameter(torch.randn(num_tokens, keys.shape[1], generator=generator))
        self.gate = nn.Parameter(torch.zeros(attention.heads))

    def forward(self, attention: Network, query: torch.Tensor) -> torch.Tensor:
        """What the layer's queries [B, H, T, d] find in the prefix, gated, [B, H, T, d]."""
        tokens = self.tokens[None].to(query.dtype)
        key, value = (part.expand(len(query), -1, -1, -1) for part in keys_and_values(attention, tokens))
        return self._gated(F.scaled_dot_product_attention(query, key, value))

    def of_fused(self, attention: Network, hidden_states: torch.Tensor) -> torch.Tensor:
        """The same for a layer of Stable Audio 3, from its input [B, T, E]: [B, H, T, d]."""
        queries, keys_value = fused_weights(attention)
        tokens = self.tokens[None].to(hidden_states.dtype)
        query = [attention.q_norm(part) for part in _parts(F.linear(hidden_states, queries), attention)]
        *keys, value = _parts(F.linear(tokens, keys_value).expand(len(hidden_states), -1, -1), attention)
        found = [
            F.scaled_dot_product_attention(q, attention.k_norm(k), value) for q, k in zip(query, keys, strict=True)
        ]
        return self._gated(found[0] - found[1] if len(found) == 2 else found[0])

    def _gated(self, found: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.gate).to(found.dtype)[:, None, None] * found


def _parts(fused: torch.Tensor, attention: Network) -> list[torch.Tensor]:
    """[B, T, n * H * d] -> n of [B, H, T, d]."""
    return [_heads(part, attention.dim_heads) for part in fused.split(attention.heads * attention.dim_heads, dim=-1)]


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


class FusedPrefixAttnProcessor:
    """The attention of a Stable Audio 3 layer with a prefix, around diffusers' own.

    What is added is added after the output projection, which is linear and has no bias.
    """

    def __init__(self, model: PrefixModel, prefix: GatedPrefix, own):
        self.model, self.prefix, self.own = model, prefix, own

    def __call__(self, attn, hidden_states, **places):
        out = self.own(attn, hidden_states, **places)
        if not self.model.enabled:
            return out
        return out + attn.to_out(self.prefix.of_fused(attn, hidden_states).transpose(1, 2).flatten(2))


class PrefixModel(nn.Module):
    """A transformer with a gated prefix in each attention layer; the counterpart of peft's PeftModel.

    Args:
        transformer: StableAudioDiTModel or StableAudio3DiTModel; its attention layers are changed in place.
        num_tokens: length K of each prefix.
        seed: of the tokens.
    """

    gate: str = "tanh"  # how a gate scales its prefix
    prefixes: Network  # a ModuleList, one for each layer

    def __init__(self, transformer: Network, num_tokens: int, seed: int = 0):
        super().__init__()
        self.num_tokens, self.enabled = num_tokens, True
        self.transformer = transformer
        generator = torch.Generator().manual_seed(seed)
        blocks = transformer.transformer_blocks
        layers = [layer for block in blocks for layer in block.children() if hasattr(layer, "set_processor")]
        self.prefixes = nn.ModuleList(GatedPrefix(layer, num_tokens, generator) for layer in layers)
        self.prefixes.to(transformer.device)
        for layer, prefix in zip(layers, self.prefixes, strict=True):
            layer.set_processor(self._processor(layer, prefix))

    def _processor(self, layer: Network, prefix: GatedPrefix):
        if hasattr(layer, "to_k"):
            return PrefixAttnProcessor(self, prefix)
        return FusedPrefixAttnProcessor(self, prefix, layer.processor)

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
