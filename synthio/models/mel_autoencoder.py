"""A cheap autoencoder for sound, in place of the waveform autoencoder of the big models.

What listens to the embedded model's clips (CLAP, AST) hears log-mel spectrograms, so it is the log-mel spectrogram
that is compressed here, and the waveform comes from Griffin-Lim. Such a model trains in minutes on two CPU cores,
where a waveform autoencoder takes days. Its interface is that of diffusers' AutoencoderOobleck, so a pipeline
folder may hold either.

    waveform [B, 1, T] -> log-mel [B, M, 4 L] -> encoder -> latents [B, D, L] -> decoder -> log-mel -> waveform
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

FRAMES_PER_LATENT = 4
LOG_FLOOR = 1e-5


@dataclass(frozen=True)
class Posterior:
    """The latent of a clip; the encoder is deterministic, so mode and sample are the same."""

    mean: torch.Tensor

    def mode(self) -> torch.Tensor:
        """Latents [B, D, L]."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> torch.Tensor:
        """Latents [B, D, L]; `generator` is not needed."""
        return self.mean


@dataclass(frozen=True)
class EncoderOutput:
    """As diffusers' autoencoders give it."""

    latent_dist: Posterior


@dataclass(frozen=True)
class DecoderOutput:
    """As diffusers' autoencoders give it; sample [B, 1, T]."""

    sample: torch.Tensor


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a channel mixer, with a residual (Liu et al. 2022), on [B, C, T]."""

    def __init__(self, channels: int, expansion: int = 3):
        super().__init__()
        self.depthwise = nn.Conv1d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.up = nn.Linear(channels, channels * expansion)
        self.down = nn.Linear(channels * expansion, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.depthwise(x).transpose(1, 2))
        return x + self.down(F.gelu(self.up(y))).transpose(1, 2)


def _mel_filters(num_mels: int, n_fft: int, sample_rate: int) -> torch.Tensor:
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(n_fft // 2 + 1, num_mels, 0.0, sample_rate / 2, sample_rate, "slaney", "slaney")
    return torch.from_numpy(filters).float()


class MelAutoencoder(ModelMixin, ConfigMixin):
    """Log-mel autoencoder with Griffin-Lim.

    Args:
        sampling_rate: in Hz.
        audio_channels: always 1.
        num_mels: mel bands M.
        n_fft, hop: of the spectrogram, in samples.
        hidden_size: channels of the networks.
        latent_channels: D.
        mel_mean, mel_std: of log-mels over the training corpus.
        griffin_lim_steps: iterations of phase recovery.
    """

    @register_to_config
    def __init__(
        self,
        sampling_rate: int = 16000,
        audio_channels: int = 1,
        num_mels: int = 80,
        n_fft: int = 1024,
        hop: int = 256,
        hidden_size: int = 192,
        latent_channels: int = 64,
        mel_mean: float = -5.0,
        mel_std: float = 2.5,
        griffin_lim_steps: int = 32,
    ):
        super().__init__()
        h = hidden_size
        self.encoder = nn.Sequential(
            nn.Conv1d(num_mels, h, 7, padding=3),
            *(ConvNeXtBlock(h) for _ in range(2)),
            nn.Conv1d(h, h, 4, stride=2, padding=1),
            *(ConvNeXtBlock(h) for _ in range(2)),
            nn.Conv1d(h, h, 4, stride=2, padding=1),
            *(ConvNeXtBlock(h) for _ in range(2)),
            nn.Conv1d(h, latent_channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv1d(latent_channels, h, 3, padding=1),
            *(ConvNeXtBlock(h) for _ in range(2)),
            nn.ConvTranspose1d(h, h, 4, stride=2, padding=1),
            *(ConvNeXtBlock(h) for _ in range(2)),
            nn.ConvTranspose1d(h, h, 4, stride=2, padding=1),
            *(ConvNeXtBlock(h) for _ in range(3)),
            nn.Conv1d(h, 2 * num_mels, 1),  # median and log of the mean absolute deviation
        )
        filters = _mel_filters(num_mels, n_fft, sampling_rate)
        self.register_buffer("mel_filters", filters, persistent=False)
        self.register_buffer("mel_inverse", torch.linalg.pinv(filters), persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        # Measured after training, so that the latents handed out have zero mean and unit variance per channel.
        self.register_buffer("latent_mean", torch.zeros(latent_channels))
        self.register_buffer("latent_std", torch.ones(latent_channels))
        # Per band, measured likewise: with it the decoded log-mel changes from frame to frame as much as the true one.
        self.register_buffer("texture_gain", torch.ones(num_mels))

    @property
    def hop_length(self) -> int:
        """Samples per latent frame."""
        return self.config.hop * FRAMES_PER_LATENT

    def log_mel(self, audio: torch.Tensor) -> torch.Tensor:
        """Audio [B, 1, T] -> normalised log-mel [B, M, T / hop]; T is a multiple of `hop_length`."""
        spectrum = self._stft(audio[:, 0]).abs()[:, :, : audio.shape[2] // self.config.hop]
        mel = torch.einsum("bft,fm->bmt", spectrum, self.mel_filters)
        return (mel.clamp_min(LOG_FLOOR).log() - self.config.mel_mean) / self.config.mel_std

    def _stft(self, audio: torch.Tensor) -> torch.Tensor:
        c = self.config
        return torch.stft(audio, c.n_fft, c.hop, window=self.window, return_complex=True, pad_mode="constant")

    def encode_mel(self, log_mel: torch.Tensor) -> torch.Tensor:
        """Normalised log-mel [B, M, 4 L] -> raw latents [B, D, L]."""
        return self.encoder(log_mel)

    def decode_mel(self, raw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Raw latents [B, D, L] -> (median, deviation) of the normalised log-mel, each [B, M, 4 L].

        The deviation is the mean absolute distance of the true log-mel to the median: near 0 for a tone, and for
        noise the size of its random texture, which no latent of this size could hold.
        """
        median, log_deviation = self.decoder(raw).chunk(2, dim=1)
        return median, log_deviation.clamp(-5.0, 1.0).exp()

    def texture(self, frames: int) -> torch.Tensor:
        """The log-mel of white noise [M, frames], per band with median 0 and mean absolute deviation 1.

        It has the right correlation between neighbouring frames and bands, and the long tail towards silence, of all
        noise. Drawn from a fixed seed for the frame grid alone: a clip does not depend on its batch.
        """
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn(1, 1, frames * self.config.hop, generator=generator) * 0.1
        mel = self.log_mel(noise.to(self.window.device))[0]
        mel = mel - mel.median(dim=1, keepdim=True).values
        return mel / mel.abs().mean(dim=1, keepdim=True).clamp_min(1e-6)

    def encode(self, audio: torch.Tensor) -> EncoderOutput:
        """Audio [B, 1, T] -> latents [B, D, ceil(T / hop_length)] of zero mean and unit variance."""
        audio = F.pad(audio, (0, -audio.shape[2] % self.hop_length))
        raw = self.encode_mel(self.log_mel(audio))
        return EncoderOutput(Posterior((raw - self.latent_mean[:, None]) / self.latent_std[:, None]))

    def decode(self, latents: torch.Tensor) -> DecoderOutput:
        """Latents [B, D, L] -> audio [B, 1, L * hop_length]."""
        median, deviation = self.decode_mel(latents * self.latent_std[:, None] + self.latent_mean[:, None])
        log_mel = median + self.texture_gain[:, None] * deviation * self.texture(median.shape[2])
        mel = (log_mel * self.config.mel_std + self.config.mel_mean).clamp(max=8.0).exp()
        mel = torch.where(mel <= 1.5 * LOG_FLOOR, 0.0, mel)  # the floor means silence
        magnitude = torch.einsum("bmt,mf->bft", mel, self.mel_inverse).clamp_min(0.0)
        return DecoderOutput(self._griffin_lim(magnitude)[:, None])

    def _griffin_lim(self, magnitude: torch.Tensor) -> torch.Tensor:
        """Fast Griffin-Lim (Perraudin et al. 2013), magnitude [B, F, N] -> audio [B, N * hop].

        The starting phase is drawn from a fixed seed for the frame grid alone: a clip does not depend on its batch.
        """
        c = self.config
        magnitude = torch.cat([magnitude, magnitude[:, :, -1:]], dim=2)  # the centred STFT has one frame more
        samples = (magnitude.shape[2] - 1) * c.hop
        start = torch.rand(magnitude.shape[1:], generator=torch.Generator().manual_seed(0)) * (2 * torch.pi)
        angles = torch.polar(torch.ones_like(start), start).to(magnitude.device)
        previous = torch.zeros_like(angles)
        for _ in range(c.griffin_lim_steps):
            audio = torch.istft(magnitude * angles, c.n_fft, c.hop, window=self.window, length=samples)
            rebuilt = self._stft(audio)
            angles = rebuilt - (0.99 / 1.99) * previous
            angles = angles / angles.abs().clamp_min(1e-8)
            previous = rebuilt
        return torch.istft(magnitude * angles, c.n_fft, c.hop, window=self.window, length=samples)
