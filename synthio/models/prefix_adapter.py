"""Gated prefix adapters for the transformer of Stable Audio, as in LLaMA-Adapter (Zhang et al. 2023).

Every attention layer, self and cross, gets K learned tokens. The layer's own frozen projections turn them into keys
and values that every query attends to with a softmax of its own; tanh of a gate per head scales what comes of it:

    out = W_o [ softmax(q k^T / sqrt(d)) v + tanh(gate) * softmax(q k_p^T / sqrt(d)) v_p ]

The gates start at zero, so an untrained adapter changes nothing, to the last bit. The prefix has no place in the
clip, so its keys are not rotated. Everything goes through torch's scaled_dot_product_attention: no other attention
kernel is needed, and key/value heads that several query heads share (grouped) are repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn


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
    head_dim = attention.to_q.out_features // attention.heads
    both = (_heads(project(source), head_dim) for project in (attention.to_k, attention.to_v))
    key, value = (part.repeat_interleave(attention.heads // part.shape[1], dim=1) for part in both)
    return key, value


class GatedPrefix(nn.Module):
    """The learned part of one attention layer.

    Attributes:
        tokens: [K, E], where E is the width of what the layer's keys are made from; standard normal at the start.
        gate: [H], one a query head; zero at the start.
    """

    def __init__(self, attention: nn.Module, num_tokens: int, generator: torch.Generator):
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(num_tokens, attention.to_k.in_features, generator=generator))
        self.gate = nn.Parameter(torch.zeros(attention.heads))

    def forward(self, attention: nn.Module, query: torch.Tensor) -> torch.Tensor:
        """What the layer's queries [B, H, T, d] find in the prefix, gated, [B, H, T, d]."""
        key, value = (part.expand(len(query), -1, -1, -1) for part in keys_and_values(attention, self.tokens[None]))
        return torch.tanh(self.gate)[:, None, None] * F.scaled_dot_product_attention(query, key, value)


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


class PrefixModel(nn.Module):
    """A transformer with a gated prefix in each attention layer; the counterpart of peft's PeftModel.

    Args:
        transformer: StableAudioDiTModel; its attention layers are changed in place.
        num_tokens: length K of each prefix.
        seed: of the tokens.
    """

    gate = "tanh"  # how a gate scales its prefix

    def __init__(self, transformer: nn.Module, num_tokens: int, seed: int = 0):
        super().__init__()
        self.num_tokens, self.enabled = num_tokens, True
        self.transformer = transformer
        generator = torch.Generator().manual_seed(seed)
        layers = [layer for block in transformer.transformer_blocks for layer in (block.attn1, block.attn2)]
        self.prefixes = nn.ModuleList(GatedPrefix(layer, num_tokens, generator) for layer in layers)
        self.prefixes.to(transformer.device)
        for layer, prefix in zip(layers, self.prefixes, strict=True):
            layer.set_processor(PrefixAttnProcessor(self, prefix))

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
