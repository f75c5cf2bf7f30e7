"""The autoencoder's fixed parts: mel analysis, inversion, Griffin-Lim, shapes and file format."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthio.models.mel_autoencoder import MelAutoencoder


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MelAutoencoder(hidden_size=16, latent_channels=8).eval()


def test_shapes_and_hop(model):
    audio = torch.randn(2, 1, 5000, generator=torch.Generator().manual_seed(0)) * 0.1
    latents = model.encode(audio).latent_dist.mode()
    assert model.hop_length == 1024
    assert latents.shape == (2, 8, 5)  # 5000 samples fill five frames of 1024
    assert model.decode(latents).sample.shape == (2, 1, 5 * 1024)


def test_a_tone_survives_mel_inversion_and_griffin_lim(model):
    """Without the networks: log-mel -> magnitude -> phase gives the tone back, at its level and pitch."""
    t = torch.arange(32768) / 16000
    audio = 0.3 * torch.sin(2 * np.pi * 1000 * t)[None, None]
    mel = (model.log_mel(audio) * model.config.mel_std + model.config.mel_mean).exp()
    magnitude = torch.einsum("bmt,mf->bft", mel, model.mel_inverse).clamp_min(0)
    back = model._griffin_lim(magnitude)[0]
    spectrum = torch.fft.rfft(back[4096:-4096]).abs()
    assert float(spectrum.argmax()) * 16000 / (32768 - 8192) == pytest.approx(1000, abs=20)
    level_db = 20 * torch.log10(back[4096:-4096].std() / audio.std())
    assert abs(float(level_db)) < 1.5
    before, after = model.log_mel(audio), model.log_mel(back[None, None])
    heard = (
        before > before.max() - 4.6 / model.config.mel_std
    )  # bands within 40 dB (4.6 in ln of amplitude) of the tone
    assert float((after - before)[heard].abs().mean()) * model.config.mel_std < 0.3


def test_a_clip_does_not_depend_on_its_batch(model):
    latents = torch.randn(3, 8, 6, generator=torch.Generator().manual_seed(1))
    together = model.decode(latents).sample
    torch.testing.assert_close(model.decode(latents[1:2]).sample, together[1:2], atol=1e-4, rtol=1e-4)
    assert torch.equal(model.decode(latents).sample, together)


def test_silence_stays_silent_through_the_analysis(model):
    log_mel = model.log_mel(torch.zeros(1, 1, 4096)) * model.config.mel_std + model.config.mel_mean
    assert torch.allclose(log_mel.exp(), torch.tensor(1e-5), rtol=1e-3)


def test_latent_scale_is_applied_and_undone(model):
    audio = torch.randn(1, 1, 4096, generator=torch.Generator().manual_seed(0)) * 0.1
    plain = model.encode(audio).latent_dist.mode()
    sound = model.decode(plain).sample
    try:
        model.latent_mean.fill_(0.5)
        model.latent_std.fill_(2.0)
        scaled = model.encode(audio).latent_dist.mode()
        torch.testing.assert_close(scaled, (plain - 0.5) / 2)
        torch.testing.assert_close(model.decode(scaled).sample, sound, atol=1e-4, rtol=1e-4)
    finally:
        model.latent_mean.zero_()
        model.latent_std.fill_(1.0)


def test_it_is_saved_and_loaded_like_a_diffusers_model(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = MelAutoencoder.from_pretrained(tmp_path).eval()
    audio = torch.randn(1, 1, 4096, generator=torch.Generator().manual_seed(0)) * 0.1
    torch.testing.assert_close(loaded.encode(audio).latent_dist.mode(), model.encode(audio).latent_dist.mode())
    assert loaded.config.sampling_rate == 16000
