"""Decoding no more than is heard, on autoencoders of the real classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthio.batching import Halving
from synthio.files import EMBEDDED
from synthio.generation.decoding import decode_clips, frames_to_decode, samples_of
from synthio.models.base import reach_of
from synthio.models.load import load_text_to_audio
from tests.tiny_models import save_stable_audio_3, save_text_to_audio


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_text_to_audio(str(save_text_to_audio(tmp_path_factory.mktemp("models") / "v", "v", channels=2)))


def latents_of(model, count: int) -> torch.Tensor:
    return torch.randn(count, *model.latent_shape, generator=torch.Generator().manual_seed(0))


def test_a_short_clip_is_decoded_in_part_and_sounds_the_same(model):
    """Of 40 frames those of the clip and the decoder's reach, in steps of 16; the sound depends on no others."""
    seconds, latents, seen, decode = [0.1, 0.3, 1.28, 0.15], latents_of(model, 4), [], model.decode
    whole = decode(latents).numpy()
    model.decode = lambda part: seen.append(part.shape) or decode(part)
    try:
        clips = decode_clips(model, latents, seconds, Halving(4))
    finally:
        del model.decode
    assert model.decoder_reach == 11
    assert [(shape[0], shape[2]) for shape in seen] == [(2, 16), (1, 32), (1, 40)]  # 4, 5, 10 and 40 frames
    for clip, length, expected in zip(clips, seconds, whole, strict=True):
        assert clip.shape == (2, round(length * 16000))
        np.testing.assert_allclose(clip, expected[:, : clip.shape[1]], atol=1e-6)


def test_the_reach_covers_every_frame_that_changes_a_sound(model):
    """One latent is changed after the other: the sound of a clip of four frames moves only for those within reach."""
    latents = latents_of(model, 1)
    plain = model.decode(latents)[:, :, : 4 * 512]
    moved = []
    for frame in range(4, 40):
        other = latents.clone()
        other[:, :, frame] += 10
        moved.append(not torch.allclose(model.decode(other)[:, :, : 4 * 512], plain, atol=1e-7))
    last = max(frame for frame, has_moved in enumerate(moved, 4) if has_moved)
    assert 4 + 2 <= last < 4 + model.decoder_reach


def test_the_reach_of_stable_audio_opens_decoder_by_hand():
    """Strides 8, 8, 4, 4, 2: a first convolution of 7, then at each rate one of 2 s and dilations 1, 3, 9 of 7."""
    from diffusers import AutoencoderOobleck

    expected, rate = 3.0, 1
    for stride in (8, 8, 4, 4, 2):
        expected += 2 / rate
        rate *= stride
        expected += 3 * (1 + 3 + 9) / rate
    expected += 3 / rate
    vae = AutoencoderOobleck(encoder_hidden_size=8, decoder_channels=4, decoder_input_channels=4)
    assert reach_of(vae.decoder) == int(np.ceil(expected))


def test_decoders_that_hear_all_frames_are_given_all(tmp_path):
    """Griffin-Lim and a transformer have no reach."""
    for folder in (EMBEDDED / "text_to_audio", save_stable_audio_3(tmp_path / "three")):
        model = load_text_to_audio(str(folder))
        assert model.decoder_reach is None and frames_to_decode(0.1, model, 17) == 17


def test_a_clip_has_a_sample_at_least(model):
    assert [samples_of(seconds, model) for seconds in (0.0, 1e-6, 0.25)] == [1, 1, 4000]
