"""A transformer of the generator's kind, and noise, both small."""

from __future__ import annotations

import torch


def tiny_transformer(heads=4, kv_heads=2):
    """As that of the tiny models; the cross-attention's keys and values are grouped where kv_heads < heads."""
    from diffusers import StableAudioDiTModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return StableAudioDiTModel(
            sample_size=40,
            in_channels=16,
            out_channels=16,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=heads,
            num_key_value_attention_heads=kv_heads,
            cross_attention_dim=24,
            cross_attention_input_dim=32,
            global_states_input_dim=64,
            time_proj_dim=16,
        ).requires_grad_(False)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
