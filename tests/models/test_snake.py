"""Snake in pieces against diffusers' own, byte for byte."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderOobleck
from diffusers.models.autoencoders.autoencoder_oobleck import Snake1d

from synthio.models import snake
from synthio.models.snake import SnakeInPieces, in_pieces, pieces


def own(channels: int, logscale: bool = True) -> Snake1d:
    module = Snake1d(channels, logscale)
    generator = torch.Generator().manual_seed(0)
    for parameter in (module.alpha, module.beta):
        parameter.data = torch.rand(parameter.shape, generator=generator) + 0.1
    return module.requires_grad_(False)


@pytest.mark.parametrize("shape", [(2, 7, 40), (1, 3, 1000), (3, 5, 1), (1, 1, 0)])
@pytest.mark.parametrize("logscale", [True, False])
def test_it_is_that_of_diffusers_to_the_byte(monkeypatch, shape, logscale):
    """Pieces of several rows, of parts of a row, and ones that do not come out even."""
    monkeypatch.setattr(snake, "PIECE", 96)
    module = own(shape[1], logscale)
    x = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    wanted, before = module(x), x.clone()
    found = in_pieces(torch.nn.Sequential(module))[0]
    assert type(found) is SnakeInPieces
    assert torch.equal(found(x), wanted) and torch.equal(x, before)
    crossed = x.transpose(1, 2).contiguous().transpose(1, 2)  # as a convolution may leave it
    assert torch.equal(found(crossed), wanted)


@pytest.mark.parametrize(("channels", "samples"), [(1, 1), (5, 300), (700, 3), (1, 1000), (9, 96)])
def test_pieces_cover_everything_once_and_are_small(monkeypatch, channels, samples):
    monkeypatch.setattr(snake, "PIECE", 96)
    seen = torch.zeros(channels, samples)
    for rows, times in pieces(channels, samples):
        assert seen[rows, times].numel() <= 96
        seen[rows, times] += 1
    assert (seen == 1).all()


def test_gradients_are_those_of_diffusers():
    x = torch.randn(1, 4, 50, requires_grad=True)
    found = []
    for change in (lambda network: network, in_pieces):
        x.grad = None
        change(torch.nn.Sequential(own(4)))(x).square().sum().backward()
        found.append(x.grad)
    assert torch.equal(*found)


def test_an_autoencoder_decodes_and_encodes_the_same_bytes():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = AutoencoderOobleck(
            encoder_hidden_size=8, downsampling_ratios=[2, 4], channel_multiples=[1, 2], decoder_channels=8,
            decoder_input_channels=4, audio_channels=2,
        ).eval()  # fmt: skip
    audio = torch.randn(2, 2, 640, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        latents = vae.encode(audio).latent_dist.mode()
        sound = vae.decode(latents).sample
        state = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
        in_pieces(vae)
        assert sum(type(module) is SnakeInPieces for module in vae.modules()) > 10
        assert torch.equal(vae.encode(audio).latent_dist.mode(), latents)
        assert torch.equal(vae.decode(latents).sample, sound)
    assert all(torch.equal(state[name], tensor) for name, tensor in vae.state_dict().items())
