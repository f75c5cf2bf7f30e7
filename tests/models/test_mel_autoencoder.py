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
        return MelAutoencoder(hidden_size=16, code_channels=8, latent_channels=6).eval()


def close_in_sound(model, one, other) -> None:
    """Log-mels agree to 0.2 % of their standard deviation: Griffin-Lim lets the last bits of a magnitude grow."""
    assert (model.log_mel(one) - model.log_mel(other)).abs().mean().item() < 0.002


def test_shapes_and_hop(model):
    audio = torch.randn(2, 1, 5000, generator=torch.Generator().manual_seed(0)) * 0.1
    latents = model.encode(audio).latent_dist.mode()
    assert model.hop_length == 2048
    assert latents.shape == (2, 6, 3)  # 5000 samples fill three frames of 2048
    assert model.decode(latents).sample.shape == (2, 1, 3 * 2048)


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
    before, after = (model.log_mel(x)[:, :, 4:-4] for x in (audio, back[None, None]))  # the ends are half silence
    heard = (
        before > before.max() - 2.3 / model.config.mel_std
    )  # bands within 20 dB (2.3 in ln of amplitude) of the tone
    assert float((after - before)[heard].abs().mean()) * model.config.mel_std < 0.3


@pytest.mark.parametrize("steps", [0, 2])
def test_griffin_lim_is_that_of_the_fourier_transforms_of_torch(steps):
    """A few steps: later ones let rounding grow."""
    model = MelAutoencoder(hidden_size=16, code_channels=8, latent_channels=6, griffin_lim_steps=steps)
    magnitude = torch.rand(2, 513, 12, generator=torch.Generator().manual_seed(0))
    padded = torch.cat([magnitude, magnitude[:, :, -1:]], dim=2)
    start = torch.rand(padded.shape[1:], generator=torch.Generator().manual_seed(0)) * (2 * torch.pi)
    phases, before = torch.polar(torch.ones_like(padded), start.expand_as(padded)), 0.0
    for _ in range(steps):
        audio = torch.istft(padded * phases, 1024, 256, window=model.window, length=12 * 256)
        spectrum = model._stft(audio)
        phases, before = spectrum - 0.99 / 1.99 * before, spectrum
        phases = phases / phases.abs()
    wanted = torch.istft(padded * phases, 1024, 256, window=model.window, length=12 * 256)
    torch.testing.assert_close(model._griffin_lim(magnitude), wanted, atol=1e-4, rtol=1e-3)


def test_a_clip_does_not_depend_on_its_batch(model):
    latents = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(1))
    together = model.decode(latents).sample
    close_in_sound(model, model.decode(latents[1:2]).sample, together[1:2])
    assert torch.equal(model.decode(latents).sample, together)


def test_the_texture_is_that_of_white_noise(model):
    texture = model.texture(400)
    assert texture.median(dim=1).values.abs().max() < 1e-5
    torch.testing.assert_close(texture.abs().mean(dim=1), torch.ones(80))
    noise = torch.randn(1, 1, 400 * 256, generator=torch.Generator().manual_seed(7)) * 0.3
    mel = model.log_mel(noise)[0]
    true = mel.diff(dim=1).std() / (mel - mel.median(dim=1, keepdim=True).values).abs().mean()
    assert float(texture.diff(dim=1).std() / true) == pytest.approx(1, abs=0.05)


def test_without_deviation_the_median_is_decoded(model):
    latents = torch.randn(1, 6, 4, generator=torch.Generator().manual_seed(0))
    try:
        model.texture_gain.zero_()
        median, _ = model.decode_mel(model.to_codes(latents))
        mel = (median * model.config.mel_std + model.config.mel_mean).exp()
        sound = model._griffin_lim(torch.einsum("bmt,mf->bft", mel, model.mel_inverse).clamp_min(0))
        close_in_sound(model, model.decode(latents).sample, sound[:, None])
    finally:
        model.texture_gain.fill_(1.0)


def test_silence_stays_silent_through_the_analysis(model):
    log_mel = model.log_mel(torch.zeros(1, 1, 4096)) * model.config.mel_std + model.config.mel_mean
    assert torch.allclose(log_mel.exp(), torch.tensor(1e-5), rtol=1e-3)


@pytest.fixture
def codes_of_three_directions():
    """Codes [4, 8, 40] of which each two neighbours lie in three of 16 dimensions, away from 0."""
    generator = torch.Generator().manual_seed(0)
    directions, _ = torch.linalg.qr(torch.randn(16, 3, generator=generator))
    pairs = torch.randn(4, 20, 3, generator=generator) * torch.tensor([3.0, 2.0, 1.0]) @ directions.T + 0.5
    return pairs.unflatten(2, (8, 2)).permute(0, 2, 1, 3).flatten(2)


def test_latents_are_principal_components_of_neighbouring_codes(codes_of_three_directions):
    model = MelAutoencoder(hidden_size=16, code_channels=8, latent_channels=3)
    model.set_latents(codes_of_three_directions)
    latents = model.to_latents(codes_of_three_directions)
    assert latents.shape == (4, 3, 20)
    torch.testing.assert_close(model.to_codes(latents), codes_of_three_directions)  # three numbers hold all of it
    variances = latents.var(dim=(0, 2))
    assert variances.tolist() == sorted(variances.tolist(), reverse=True)
    assert float(variances.mean()) == pytest.approx(1, abs=1e-4)
    assert latents.mean(dim=(0, 2)).abs().max() < 1e-5
    correlations = torch.corrcoef(latents.transpose(0, 1).flatten(1))
    torch.testing.assert_close(correlations, torch.eye(3), atol=1e-4, rtol=0)


def test_fewer_components_lose_the_least_variance(codes_of_three_directions):
    model = MelAutoencoder(hidden_size=16, code_channels=8, latent_channels=2)
    model.set_latents(codes_of_three_directions)
    back = model.to_codes(model.to_latents(codes_of_three_directions))
    centred = codes_of_three_directions - codes_of_three_directions.mean()
    lost = (back - codes_of_three_directions).square().sum() / centred.square().sum()
    assert 0.02 < float(lost) < 0.15  # about 1 of 14


def test_it_is_saved_and_loaded_like_a_diffusers_model(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = MelAutoencoder.from_pretrained(tmp_path).eval()
    audio = torch.randn(1, 1, 4096, generator=torch.Generator().manual_seed(0)) * 0.1
    torch.testing.assert_close(loaded.encode(audio).latent_dist.mode(), model.encode(audio).latent_dist.mode())
    assert loaded.config.sampling_rate == 16000
