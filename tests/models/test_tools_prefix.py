"""Prefixes of stable-audio-tools' layers, on layers that have their attributes and nothing of the library."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from synthio.cli import UserError
from synthio.models.tools_prefix import ToolsPrefix, ToolsPrefixModel, attention_layers

HEADS, WIDTH, SOURCE = 4, 3, 6


class Attention(nn.Module):
    """Cross-attention of HEADS query heads on SOURCE // WIDTH key heads; `apply_attn` finds nothing."""

    def __init__(self, qk_norm: str = "none", differential: bool = False):
        super().__init__()
        self.to_kv = nn.Linear(SOURCE, 2 * SOURCE, bias=False)
        self.num_heads, self.dim_heads, self.qk_norm, self.differential = HEADS, WIDTH, qk_norm, differential

    def apply_attn(self, query, key, value, **options):
        return torch.zeros_like(query)


def transformer(*layers: nn.Module) -> nn.Module:
    module = nn.Module()
    module.transformer = SimpleNamespace(layers=[SimpleNamespace(cross_attn=layer) for layer in layers])
    module.held = nn.ModuleList(layers)
    return module


def test_layers_have_the_names_of_their_blocks():
    assert list(attention_layers(transformer(Attention(), Attention()))) == ["0.cross_attn", "1.cross_attn"]


@pytest.mark.parametrize("gate", ["tanh", "linear"])
def test_a_prefix_adds_a_gated_softmax_over_its_tokens(gate):
    """Written out head by head; two query heads share a key head."""
    torch.manual_seed(0)
    layer = Attention()
    model = ToolsPrefixModel(transformer(layer), num_tokens=5, gate=gate)
    prefix, query = model.prefixes[0], torch.randn(2, HEADS, 7, WIDTH)
    with torch.no_grad():
        prefix.gate.copy_(torch.tensor([0.0, 0.5, -1.0, 2.0]))
        found = layer.apply_attn(query, None, None)
        keys, values = (prefix.tokens @ layer.to_kv.weight.T).chunk(2, dim=1)
        for head in range(HEADS):
            part = slice(WIDTH * (head // 2), WIDTH * (head // 2 + 1))
            weights = (query[:, head] @ keys[:, part].T / math.sqrt(WIDTH)).softmax(dim=2)
            strength = prefix.gate[head] if gate == "linear" else torch.tanh(prefix.gate[head])
            torch.testing.assert_close(found[:, head], strength * (weights @ values[:, part]))
        model.enabled = False
        assert not layer.apply_attn(query, None, None).any()


def test_keys_are_normalised_as_the_layers_own():
    prefix = ToolsPrefix(Attention(), 5, torch.Generator().manual_seed(0))
    keys = torch.tensor([[3.0, 4.0, 0.0]])
    assert torch.equal(prefix._normalised(Attention("none"), keys), keys)
    torch.testing.assert_close(prefix._normalised(Attention("l2"), keys), keys / 5)


def test_a_differential_transformer_is_refused():
    with pytest.raises(UserError, match="not for a transformer with differential attention"):
        ToolsPrefixModel(transformer(Attention(differential=True)), num_tokens=5)


def test_the_seed_decides_the_tokens_and_the_gates_are_closed():
    models = [ToolsPrefixModel(transformer(Attention()), 5, seed) for seed in (0, 0, 1)]
    first, same, other = (model.prefixes[0].tokens for model in models)
    assert torch.equal(first, same) and not torch.equal(first, other)
    assert not models[0].prefixes[0].gate.any()
