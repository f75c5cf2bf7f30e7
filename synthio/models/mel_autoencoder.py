"""A cheap autoencoder for sound, in place of the waveform autoencoder of the big models.

What listens to the embedded model's clips (CLAP, AST) hears log-mel spectrograms, so it is the log-mel spectrogram
that is compressed here, and the waveform comes from Griffin-Lim. Such a model trains in minutes on two CPU cores,
where a waveform autoencoder takes days. Its interface is that of diffusers' AutoencoderOobleck, so a pipeline
folder may hold either.

    waveform [B, 1, T] -> log-mel [B, M, 4 S L] -> encoder -> codes [B, C, S L] -> latents [B, D, L] and back

Latents are the first principal components of S neighbouring codes together, all divided by the same number. Many
codes of many channels hold little that a listener hears: a fifth of their numbers keeps nine tenths of the variance,
and a network that makes sound from noise learns few numbers, the important ones with the most variance, far sooner.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

FRAMES_PER_CODE = 4
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
        code_channels: C, what the encoder gives for 4 frames of the spectrogram.
        codes_per_latent: S.
        latent_channels: D, at most C * S.
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
        code_channels: int = 128,
        codes_per_latent: int = 2,
        latent_channels: int = 48,
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
            nn.Conv1d(h, code_channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv1d(code_channels, h, 3, padding=1),
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
        # Measured after training: see `set_latents`.
        width = code_channels * codes_per_latent
        self.register_buffer("latent_mean", torch.zeros(width))
        self.register_buffer("latent_scale", torch.ones(()))
        self.register_buffer("components", torch.eye(latent_channels, width))
        # Per band, measured likewise: with it the decoded log-mel changes from frame to frame as much as the true one.
        self.register_buffer("texture_gain", torch.ones(num_mels))

    @property
    def hop_length(self) -> int:
        """Samples per latent frame."""
        return self.config.hop * FRAMES_PER_CODE * self.config.codes_per_latent

    def log_mel(self, audio: torch.Tensor) -> torch.Tensor:
        """Audio [B, 1, T] -> normalised log-mel [B, M, T / hop]; T is a multiple of `hop`."""
        spectrum = self._stft(audio[:, 0]).abs()[:, :, : audio.shape[2] // self.config.hop]
        mel = torch.einsum("bft,fm->bmt", spectrum, self.mel_filters)
        return (mel.clamp_min(LOG_FLOOR).log() - self.config.mel_mean) / self.config.mel_std

    def _stft(self, audio: torch.Tensor) -> torch.Tensor:
        c = self.config
        return torch.stft(audio, c.n_fft, c.hop, window=self.window, return_complex=True, pad_mode="constant")

    def encode_mel(self, log_mel: torch.Tensor) -> torch.Tensor:
        """Normalised log-mel [B, M, 4 N] -> codes [B, C, N]."""
        return self.encoder(log_mel)

    def decode_mel(self, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes [B, C, N] -> (median, deviation) of the normalised log-mel, each [B, M, 4 N].

        The deviation is the mean absolute distance of the true log-mel to the median: near 0 for a tone, and for
        noise the size of its random texture, which no code of this size could hold.
        """
        median, log_deviation = self.decoder(codes).chunk(2, dim=1)
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

    def _stack(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes [B, C, S L] -> S neighbours as one vector, [B, C * S, L]."""
        return codes.unflatten(2, (-1, self.config.codes_per_latent)).transpose(2, 3).flatten(1, 2)

    def _unstack(self, stacked: torch.Tensor) -> torch.Tensor:
        """The inverse of `_stack`."""
        return stacked.unflatten(1, (self.config.code_channels, -1)).transpose(2, 3).flatten(2)

    def set_latents(self, codes: torch.Tensor) -> None:
        """Measure the principal components of codes [B, C, S L], and the scale that gives them unit mean variance."""
        vectors = self._stack(codes).transpose(1, 2).flatten(0, 1).double()
        mean = vectors.mean(dim=0)
        variances, directions = torch.linalg.eigh(torch.cov((vectors - mean).T))  # rising
        kept = self.config.latent_channels
        self.latent_mean.copy_(mean)
        self.components.copy_(directions.T.flip(0)[:kept])
        self.latent_scale.copy_(variances.flip(0)[:kept].mean().sqrt())

    def to_latents(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes [B, C, S L] -> latents [B, D, L] of zero mean and, over all channels, unit variance."""
        centred = self._stack(codes) - self.latent_mean[:, None]
        return torch.einsum("dk,bkl->bdl", self.components, centred) / self.latent_scale

    def to_codes(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents [B, D, L] -> codes [B, C, S L]."""
        stacked = torch.einsum("dk,bdl->bkl", self.components, latents * self.latent_scale)
        return self._unstack(stacked + self.latent_mean[:, None])

    def encode(self, audio: torch.Tensor) -> EncoderOutput:
        """Audio [B, 1, T] -> latents [B, D, ceil(T / hop_length)]."""
        audio = F.pad(audio, (0, -audio.shape[2] % self.hop_length))
        return EncoderOutput(Posterior(self.to_latents(self.encode_mel(self.log_mel(audio)))))

    def decode(self, latents: torch.Tensor) -> DecoderOutput:
        """Latents [B, D, L] -> audio [B, 1, L * hop_length]."""
        median, deviation = self.decode_mel(self.to_codes(latents))
        log_mel = median + self.texture_gain[:, None] * deviation * self.texture(median.shape[2])
        mel = (log_mel * self.config.mel_std + self.config.mel_mean).clamp(max=8.0).exp()
        mel = torch.where(mel <= 1.5 * LOG_FLOOR, 0.0, mel)  # the floor means silence
        magnitude = torch.einsum("bmt,mf->bft", mel, self.mel_inverse).clamp_min(0.0)
        return DecoderOutput(self._griffin_lim(magnitude)[:, None])

    def _griffin_lim(self, magnitude: torch.Tensor) -> torch.Tensor:
        """Fast Griffin-Lim (Perraudin et al. 2013), magnitude [B, F, N] -> audio [B, N * hop].

        The starting phase is drawn from a fixed seed for the frame grid alone: a clip does not depend on its batch.
        Clip by clip, so that what an iteration works on stays in the processor's cache.
        """
        magnitude = torch.cat([magnitude, magnitude[:, :, -1:]], dim=2)  # the centred STFT has one frame more
        start = torch.rand(magnitude.shape[1:], generator=torch.Generator().manual_seed(0)) * (2 * torch.pi)
        phases = torch.polar(torch.ones_like(start), start).to(magnitude.device).T.contiguous()
        return torch.stack([self._with_phases(clip.T.contiguous(), phases) for clip in magnitude])

    def _with_phases(self, magnitude: torch.Tensor, phases: torch.Tensor) -> torch.Tensor:
        """Griffin-Lim on one clip, [N + 1, F] -> [N * hop]; `phases` are those it starts from, of absolute value 1.

        torch.istft takes five times as long as the transform itself; here frames lie one after the other in memory.
        Memory is what an iteration waits for, so each step is one pass over it, in place where it can be.
        """
        c, half = self.config, self.config.n_fft // 2
        ends = (half, half)
        power = overlap_add(self.window.expand(len(magnitude), -1), c.hop, self.window).flatten()
        gain = F.pad(1 / power[half:-half], ends).unflatten(0, (-1, c.hop))  # beyond the ends the clip is silent
        magnitude = magnitude.to(phases.dtype)  # a product with a real number would make it complex each time
        spectrum, previous = magnitude * phases, torch.zeros_like(phases)

        def to_audio(spectrum: torch.Tensor) -> torch.Tensor:
            return overlap_add(torch.fft.irfft(spectrum, c.n_fft), c.hop, self.window).mul_(gain).flatten()

        for _ in range(c.griffin_lim_steps):
            rebuilt = torch.fft.rfft(to_audio(spectrum).unfold(0, c.n_fft, c.hop) * self.window)
            spectrum = torch.sub(rebuilt, previous, alpha=0.99 / 1.99).sgn_().mul_(magnitude)
            previous = rebuilt
        return to_audio(spectrum)[half:-half]


def overlap_add(frames: torch.Tensor, hop: int, window: torch.Tensor) -> torch.Tensor:
    """Frames [N, W] that begin `hop` samples apart, each times a window [W], added up; `hop` divides W.

    Returns:
        Pieces [N + W / hop - 1, hop].
    """
    count, overlap = len(frames), frames.shape[1] // hop
    total = frames.new_zeros(count + overlap - 1, hop)
    parts = frames.unflatten(1, (overlap, hop)).unbind(1)
    for place, (part, weights) in enumerate(zip(parts, window.unflatten(0, (overlap, hop)), strict=True)):
        total[place : place + count].addcmul_(part, weights)
    return total
