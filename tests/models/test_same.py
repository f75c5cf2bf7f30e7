"""SAME-S: chunks, their shift, and lengths that fill none. Its numbers: test_published_stable_audio_3."""

from __future__ import annotations

import pytest
import torch

from synthio.models.same import ChunkedSAME


def network(**more):
    options = {"patch_size": 4, "encoder_channels": 8, "encoder_c_mults": (2,), "encoder_strides": (4,)}
    options |= {"encoder_transformer_depths": (2,), "latent_dim": 6, "dim_heads": 8, "chunk_size": 8}
    torch.manual_seed(0)
    same = ChunkedSAME(**options | more).eval().requires_grad_(False)
    for parameter in same.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return same


def heard(run, x, place):
    """Which outputs [.., T] change when the input at a place of the last axis does."""
    other = x.clone()
    other[..., place] += 1
    return (run(other) - run(x)).abs().amax(dim=(0, 1)) > 1e-6


def test_a_latent_is_heard_within_its_chunk_and_with_a_shift_in_half_of_the_next():
    latents = torch.randn(1, 6, 8)  # chunks of two latents, of 16 samples each
    alone = network(is_shifted=False, decoder_kernel=1)
    changed = heard(lambda x: alone.decode(x).sample, latents, 2).reshape(8, 16).any(dim=1)
    assert changed.tolist() == [False, False, True, True, False, False, False, False]
    shifted = network(is_shifted=True, decoder_kernel=1)
    changed = heard(lambda x: shifted.decode(x).sample, latents, 2).reshape(8, 16).any(dim=1)
    assert changed.tolist() == [False, True, True, True, True, False, False, False]


def test_what_fills_no_chunk_is_filled_up_with_silence_and_comes_back_as_long_as_it_was():
    same = network()
    assert same.frame_step == 2
    audio = torch.randn(1, 2, 50)  # 12.5 patches, of 8 a chunk
    assert same.encode(audio).latents.shape == (1, 6, 4)
    padded = torch.nn.functional.pad(audio, (0, 14))
    assert torch.equal(same.encode(audio).latents, same.encode(padded).latents)
    latents = torch.randn(2, 6, 3)
    out = same.decode(latents).sample
    assert out.shape == (2, 2, 48) and out.isfinite().all()


def test_saved_and_loaded_it_is_the_same(tmp_path):
    same = network(decoder_kernel=3)
    same.save_pretrained(tmp_path)
    again = ChunkedSAME.from_pretrained(tmp_path)
    assert again.config.chunk_size == 8 and "sliding_window" not in again.config
    audio = torch.randn(1, 2, 64)
    assert torch.equal(same(audio).sample, again(audio).sample)


def test_chunks_that_hold_no_whole_stride_are_refused():
    with pytest.raises(ValueError, match="chunks of 6 frames hold no whole number of strides of 4"):
        network(chunk_size=6)
