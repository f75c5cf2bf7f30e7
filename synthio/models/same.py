"""SAME-S, the autoencoder of Stable Audio 3 small: attention within chunks.

diffusers' AutoencoderSAME is SAME-L, of Stable Audio 3 medium: every token attends to a window around it. The small
models are published with another one, which its class cannot hold: tokens attend within chunks of `chunk_size` input
frames and what was added to them, the second half of the layers within chunks that are shifted by half; and the decoder
ends in a convolution of width 3. Everything else is diffusers' own.

    waveform [B, C, T] -> patches [B, C P, T / P] -> latents [B, D, T / P / S] and back

What is added to the tokens of the decoder as noise in training is left out, as in its makers' own fast versions, so
that decoding is a function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from diffusers import AutoencoderSAME
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.autoencoder_same import (
    PatchEmbed,
    SAMETransformerResamplingBlock,
    SoftNormBottleneck,
)
from torch import nn
from torch.nn.utils import weight_norm


class ChunkedBlock(SAMETransformerResamplingBlock):
    """A resampling block of diffusers whose tokens attend within chunks.

    Args:
        chunk_size: frames at the higher rate in a chunk, a multiple of the stride.
        is_shifted: the second half of the layers has chunks shifted by half of one.
        kernel: width of the convolution that changes the channels.
        options: of the block.
    """

    # the library's options
    def __init__(self, chunk_size: int, is_shifted: bool, kernel: int, **options):
        super().__init__(**options)
        if chunk_size % self.stride:
            raise ValueError(f"chunks of {chunk_size} frames hold no whole number of strides of {self.stride}")
        self.chunk_size, self.is_shifted = chunk_size, is_shifted
        if kernel > 1:
            self.mapping = weight_norm(nn.Conv1d(self.in_channels, self.out_channels, kernel, padding="same"))

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens [B, N, C] through all layers; N is a multiple of a chunk's tokens."""
        chunk = self.chunk_size + self.chunk_size // self.stride
        half, middle = chunk // 2, len(self.transformers) // 2
        for number, layer in enumerate(self.transformers):
            if self.is_shifted and number == middle:
                x = torch.cat([x[:, :half], x, x[:, -half:]], dim=1)
            x = layer(x.reshape(-1, chunk, x.shape[2])).reshape(x.shape)
        return x[:, half:-half] if self.is_shifted else x

    def _encode(self, x: torch.Tensor) -> torch.Tensor:
        """Frames [B, C, T] -> [B, C', N], N a multiple of the chunk; what is lacking is silence."""
        x = nn.functional.pad(x, (0, -x.shape[2] % self.chunk_size))
        x = self.mapping(x).transpose(1, 2)
        batch, frames, width = x.shape
        count = frames // self.stride
        x = x.reshape(batch * count, self.stride, width)
        x = torch.cat([x, self.new_tokens.expand(batch * count, 1, -1)], dim=1)
        x = self._attend(x.reshape(batch, -1, width))
        return x.reshape(batch, count, self.stride + 1, width)[:, :, -1].transpose(1, 2)

    def _decode(self, x: torch.Tensor) -> torch.Tensor:
        """Latent frames [B, C, N] -> [B, C', N * stride]."""
        given = x.shape[2]
        x = nn.functional.pad(x, (0, -given % (self.chunk_size // self.stride))).transpose(1, 2)
        batch, count, width = x.shape
        x = torch.cat([x.unsqueeze(2), self.new_tokens.unsqueeze(1).expand(batch, count, self.stride, -1)], dim=2)
        x = self._attend(x.reshape(batch, -1, width))
        x = x.reshape(batch, count, self.stride + 1, width)[:, :, 1:].reshape(batch, -1, width)
        return self.mapping(x.transpose(1, 2))[:, :, : given * self.stride]


class Encoder(nn.Module):
    """Blocks, then a projection: [B, C, T] -> [B, D, N]."""

    def __init__(self, blocks: Sequence[ChunkedBlock], width: int, latent_dim: int):
        super().__init__()
        self.blocks, self.proj = nn.ModuleList(blocks), nn.Linear(width, latent_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return self.proj(x.transpose(1, 2)).transpose(1, 2)


class Decoder(nn.Module):
    """A projection, then blocks: [B, D, N] -> [B, C, T]."""

    def __init__(self, blocks: Sequence[ChunkedBlock], width: int, latent_dim: int):
        super().__init__()
        self.blocks, self.proj = nn.ModuleList(blocks), nn.Linear(latent_dim, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.proj(x.transpose(1, 2)).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return x


class ChunkedSAME(AutoencoderSAME):
    """AutoencoderSAME with attention within chunks.

    Args:
        chunk_size, is_shifted: see `ChunkedBlock`.
        decoder_kernel: width of the decoder's last convolution.
        The rest: as AutoencoderSAME.
    """

    @register_to_config
    def __init__(
        self,
        audio_channels: int = 2,
        patch_size: int = 256,
        encoder_channels: int = 128,
        encoder_c_mults: tuple[int, ...] = (6,),
        encoder_strides: tuple[int, ...] = (16,),
        encoder_transformer_depths: tuple[int, ...] = (6,),
        latent_dim: int = 256,
        use_differential_attention: bool = True,
        dim_heads: int = 64,
        ff_mult: int = 3,
        chunk_size: int = 32,
        is_shifted: bool = True,
        decoder_kernel: int = 3,
        sampling_rate: int = 44100,
    ):
        super(AutoencoderSAME, self).__init__()  # not that of SAME-L, which would write its own options into the config
        self.downsampling_ratio = patch_size * math.prod(encoder_strides)
        widths = [audio_channels * patch_size, *(encoder_channels * factor for factor in encoder_c_mults)]
        layers = {"dim_heads": dim_heads, "use_differential": use_differential_attention, "ff_mult": ff_mult}

        def block(level: int, mode: str) -> ChunkedBlock:
            low, high = widths[level], widths[level + 1]
            return ChunkedBlock(
                chunk_size,
                is_shifted,
                decoder_kernel if mode == "decoder" else 1,
                in_channels=low if mode == "encoder" else high,
                out_channels=high if mode == "encoder" else low,
                stride=encoder_strides[level],
                mode=mode,
                transformer_depth=encoder_transformer_depths[level],
                **layers,
            )

        levels = range(len(encoder_strides))
        self.patch_embed = PatchEmbed(patch_size)
        self.encoder = Encoder([block(level, "encoder") for level in levels], widths[-1], latent_dim)
        self.bottleneck = SoftNormBottleneck(latent_dim)
        self.decoder = Decoder([block(level, "decoder") for level in reversed(levels)], widths[-1], latent_dim)

    @property
    def frame_step(self) -> int:
        """Latents come in multiples of so many frames: those of the widest chunk."""
        return max(self.config.chunk_size // stride for stride in self.config.encoder_strides)
