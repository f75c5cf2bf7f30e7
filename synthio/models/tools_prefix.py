"""Gated prefix adapters (see `prefix_adapter`) for the transformer of stable-audio-tools.

The formula is the same, but the layers are other classes, with one projection of keys and values. Prefixes that were
trained by Synthio's released code lie in the checkpoints of such models; they have `gate` in place of `tanh(gate)`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from synthio.cli import UserError
from synthio.models.base import Network
from synthio.models.prefix_adapter import PrefixModel


def attention_layers(transformer: Network) -> dict[str, Network]:
    """Every attention layer by its name ("0.self_attn", ...), self-attention before cross-attention in each block."""
    names = [(i, name) for i in range(len(transformer.transformer.layers)) for name in ("self_attn", "cross_attn")]
    found = {f"{i}.{name}": getattr(transformer.transformer.layers[i], name, None) for i, name in names}
    return {name: layer for name, layer in found.items() if layer is not None}


def _projection(attention: Network) -> Network:
    """What makes keys and values; in self-attention it makes queries, too."""
    return attention.to_kv if hasattr(attention, "to_kv") else attention.to_qkv


class ToolsPrefix(nn.Module):
    """The learned part of one attention layer.

    Attributes:
        tokens: [K, E], where E is the width of what the layer's keys are made from; standard normal at the start.
        gate: [H], one a query head; zero at the start.
    """

    def __init__(self, attention: Network, num_tokens: int, generator: torch.Generator):
        super().__init__()
        if attention.differential:
            raise UserError(
                "prefixes are not for a transformer with differential attention; train a lora, or all of it"
            )
        self.tokens = nn.Parameter(torch.randn(num_tokens, _projection(attention).in_features, generator=generator))
        self.gate = nn.Parameter(torch.zeros(attention.num_heads))

    def forward(self, attention: Network, query: torch.Tensor, is_linear: bool) -> torch.Tensor:
        """What the layer's queries [B, H, T, d] find in the prefix, gated, [B, H, T, d]."""
        width = self.tokens.shape[1]
        joint = _projection(attention)(self.tokens)[:, -2 * width :]  # keys and values are as wide as their source
        key, value = (part.unflatten(-1, (-1, attention.dim_heads)).transpose(0, 1) for part in joint.chunk(2, -1))
        key, repeats = self._normalised(attention, key), attention.num_heads // len(key)
        key, value = (part.repeat_interleave(repeats, dim=0).expand(len(query), -1, -1, -1) for part in (key, value))
        strength = self.gate if is_linear else torch.tanh(self.gate)
        return strength[:, None, None] * F.scaled_dot_product_attention(query, key, value)

    @staticmethod
    def _normalised(attention: Network, key: torch.Tensor) -> torch.Tensor:
        """Keys as the layer normalises its own."""
        if attention.qk_norm == "none":
            return key
        return F.normalize(key, dim=-1) if attention.qk_norm == "l2" else attention.k_norm(key)


class PrefixedHeads:
    """What the heads of a layer find; in place of its `apply_attn`, with queries rotated and normalised already."""

    def __init__(self, model: ToolsPrefixModel, prefix: ToolsPrefix, attention: Network):
        self.model, self.prefix, self.attention, self.plain = model, prefix, attention, attention.apply_attn

    def __call__(self, query, key, value, **options):
        out = self.plain(query, key, value, **options)
        if not self.model.enabled:
            return out
        return out + self.prefix(self.attention, query, self.model.gate == "linear")


class ToolsPrefixModel(PrefixModel):
    """As `PrefixModel`, for the DiffusionTransformer of stable-audio-tools.

    Args:
        transformer: its attention layers are changed in place.
        num_tokens: length K of each prefix.
        seed: of the tokens.
        gate: "tanh", or "linear" for prefixes of Synthio's released code.
    """

    def __init__(self, transformer: Network, num_tokens: int, seed: int = 0, gate: str = "tanh"):
        nn.Module.__init__(self)
        self.num_tokens, self.gate, self.enabled = num_tokens, gate, True
        self.transformer = transformer
        generator, layers = torch.Generator().manual_seed(seed), attention_layers(transformer).values()
        self.prefixes = nn.ModuleList(ToolsPrefix(layer, num_tokens, generator) for layer in layers)
        self.prefixes.to(next(transformer.parameters()).device)
        for layer, prefix in zip(layers, self.prefixes, strict=True):
            layer.apply_attn = PrefixedHeads(self, prefix, layer)
