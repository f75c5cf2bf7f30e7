"""Gated prefixes of an attention: what they add, and that they add nothing at first."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from synthio.models.prefix_adapter import PrefixModel
from tests.models.toy import random, tiny_transformer

FRAMES = 10


def rotary_of(frames):
    from diffusers.models.embeddings import get_1d_rotary_pos_embed

    return get_1d_rotary_pos_embed(8, frames, use_real=True, repeat_interleave_real=False)


def transformer_output(module):
    return module(
        random(2, 16, FRAMES),
        torch.tensor([0.2, 0.9]),
        encoder_hidden_states=random(2, 5, 32, seed=1),
        global_hidden_states=random(2, 1, 64, seed=2),
        rotary_embedding=rotary_of(FRAMES + 1),
        return_dict=False,
    )[0]


@pytest.mark.parametrize("layer_name", ["attn1", "attn2"])
def test_prefix_adds_a_gated_softmax_of_its_own(layer_name):
    """Against diffusers' own attention plus the formula, head by head; attn2 has 2 kv heads for 4 query heads."""
    from diffusers.models.attention_processor import StableAudioAttnProcessor2_0

    layer = getattr(tiny_transformer().transformer_blocks[0], layer_name)
    x = random(2, FRAMES, 64)
    source = None if layer_name == "attn1" else random(2, 5, 24, seed=1)
    rotary = rotary_of(FRAMES) if layer_name == "attn1" else None
    own = StableAudioAttnProcessor2_0()
    plain = own(layer, x, source, rotary_emb=rotary)
    query = layer.to_q(x).view(2, FRAMES, 4, 16).transpose(1, 2)
    query = own.apply_partial_rotary_emb(query, rotary) if rotary else query

    model = PrefixModel(tiny_transformer(), num_tokens=20)
    prefix = model.prefixes[0 if layer_name == "attn1" else 1]
    with torch.no_grad():
        prefix.gate.copy_(torch.tensor([0.5, -1.0, 0.0, 2.0]))
    keys, values = layer.to_k(prefix.tokens), layer.to_v(prefix.tokens)
    found = torch.zeros(2, FRAMES, 64)
    for head in range(4):
        own_kv = head * (keys.shape[1] // 16) // 4
        columns = slice(16 * own_kv, 16 * own_kv + 16)
        weights = (query[:, head] @ keys[:, columns].T / 4).softmax(dim=-1)
        found[:, :, 16 * head : 16 * head + 16] = prefix.gate[head].tanh() * weights @ values[:, columns]
    expected = plain + F.linear(found, layer.to_out[0].weight)

    same_layer = getattr(model.transformer.transformer_blocks[0], layer_name)
    out = same_layer(x, encoder_hidden_states=source, rotary_emb=rotary)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    assert (out - plain).abs().max() > 0.01


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_prefix_changes_nothing_to_the_last_bit_while_its_gates_are_zero_or_it_is_off(kv_heads):
    base = transformer_output(tiny_transformer(kv_heads=kv_heads))
    model = PrefixModel(tiny_transformer(kv_heads=kv_heads), num_tokens=20)
    assert torch.equal(transformer_output(model), base)
    for prefix in model.prefixes:
        torch.nn.init.constant_(prefix.gate, 0.3)
    changed = transformer_output(model)
    assert (changed - base).abs().max() > 1e-3
    with model.disable_adapter():
        assert torch.equal(transformer_output(model), base)
    assert torch.equal(transformer_output(model), changed)


def test_prefix_sizes_and_where_its_gradient_goes():
    model = PrefixModel(tiny_transformer(), num_tokens=20)
    sizes = [(tuple(p.tokens.shape), tuple(p.gate.shape)) for p in model.prefixes]
    assert sizes == [((20, 64), (4,)), ((20, 24), (4,))] * 2  # self and cross, in each of two blocks
    transformer_output(model).square().sum().backward()
    assert all((p.gate.grad != 0).all() and (p.tokens.grad == 0).all() for p in model.prefixes)  # gates open first
    assert all(p.grad is None for p in model.transformer.parameters())


def test_prefix_needs_no_fused_attention_kernel():
    from torch.nn.attention import SDPBackend, sdpa_kernel

    model = PrefixModel(tiny_transformer(), num_tokens=20)
    for prefix in model.prefixes:
        torch.nn.init.constant_(prefix.gate, 0.3)
    usual = transformer_output(model)
    with sdpa_kernel(SDPBackend.MATH):
        torch.testing.assert_close(transformer_output(model), usual, atol=1e-5, rtol=1e-5)
