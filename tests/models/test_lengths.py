"""Latent frames by hand, and what a decoder hears of them by its layers."""

from __future__ import annotations

import pytest
import torch

from synthio.models.base import reach_of
from synthio.models.lengths import Grid, oobleck_reach


@pytest.mark.parametrize(
    ("grid", "asked", "longest_s", "frames"),
    [
        (Grid(40, 4.0, reach=3), "auto", 1.0, 13),
        (Grid(40, 4.0, reach=3), "auto", 1.01, 14),
        (Grid(40, 4.0, reach=3, step=4), "auto", 1.0, 16),
        (Grid(40, 4.0, reach=3), "auto", 3.8, 40),
        (Grid(40, 4.0, reach=3), "model", 1.0, 40),
        (Grid(40, 4.0), "auto", 1.0, 40),
        (Grid(40, 4.0, reach=3), 2.0, 1.0, 20),
        (Grid(40, 4.0, step=16), 2.0, 1.0, 32),
        (Grid(40, 4.0, step=16), 3.5, 1.0, 40),
    ],
)
def test_frames_of_a_run(grid, asked, longest_s, frames):
    assert grid.chosen(asked, longest_s) == frames


@pytest.mark.parametrize("strides", [[8, 8, 4, 4, 2], [8, 8, 8], [2, 3], [16, 8, 4]])
def test_the_reach_of_oobleck_is_that_of_its_layers(strides):
    from diffusers import AutoencoderOobleck

    with torch.device("meta"):
        vae = AutoencoderOobleck(
            downsampling_ratios=strides[::-1],
            channel_multiples=[1] * len(strides),
            encoder_hidden_size=8,
            decoder_channels=4,
            decoder_input_channels=4,
        )
    assert oobleck_reach(strides) == reach_of(vae.decoder)
