"""What networks read of a sound, as operators that ONNX Runtime has: the feature extractors of transformers and ours.

    features = features_of(extractor)
    features(waveform)  # [B, T] -> what the network reads [B, ...]

There is no FFT in them, but a product with a matrix of sines, which is made of one turn of them when a file is loaded.
They compute in float64: in float32, of the matrix alone too, the rounding of loud tones shows in quiet bands.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from synthio.models.fbank import ENERGY_FLOOR, FFT_SIZE, HOP, PREEMPHASIS, WINDOW, mel_filters, num_samples
from synthio.models.sound_classifier import LEAST_S

Extractor: TypeAlias = Any  # of transformers, whose classes are not read
LEAST_POWER = 1e-10  # of transformers' spectrograms in decibels and of Whisper's
LEAST_VARIANCE = 1e-7  # that is added before a sound is divided by its deviation, in transformers


def filled(waveform: torch.Tensor, samples: int) -> torch.Tensor:
    """[B, T] with silence up to `samples` at least."""
    more = torch.cat([waveform, waveform.new_zeros(waveform.shape[0], samples)], dim=1)
    return more[:, : torch.sym_max(waveform.shape[1], samples)]


class Mel(nn.Module):
    """Power spectra of frames, through mel filters.

    Args:
        window: [W].
        fft_size: samples that the spectrum is of; silence is behind a frame up to that.
        filters: [bins, bands].
        hop: samples between frames.
        floor: the least energy of a band.
        is_kaldi: a frame has its mean taken off and its high tones raised before the window.
    """

    window: torch.Tensor
    circle: torch.Tensor
    filters: torch.Tensor
    offsets: torch.Tensor

    # Any: arrays or tensors
    def __init__(self, window: Any, fft_size: int, filters: Any, hop: int, floor: float, is_kaldi: bool = False):
        super().__init__()
        self.hop, self.floor, self.is_kaldi = hop, floor, is_kaldi
        angles = 2 * torch.pi * torch.arange(fft_size, dtype=torch.float64) / fft_size
        self.register_buffer("window", torch.as_tensor(window, dtype=torch.float64))
        self.register_buffer("circle", torch.stack([angles.cos(), angles.sin()]))
        self.register_buffer("filters", torch.as_tensor(filters, dtype=torch.float64))
        self.register_buffer("offsets", torch.arange(len(self.window)))

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """[B, T], T at least a frame -> energies, float64 [B, frames, bands], of the frames that lie inside."""
        count = (waveform.shape[1] - len(self.window)) // self.hop + 1
        places = torch.arange(count)[:, None] * self.hop + self.offsets
        frames = waveform[:, places].double()
        if self.is_kaldi:
            centred = frames - frames.mean(dim=-1, keepdim=True)
            frames = centred - PREEMPHASIS * torch.cat([centred[..., :1], centred[..., :-1]], dim=-1)
        real, imaginary = ((frames * self.window) @ self.dft_matrix()).chunk(2, dim=-1)
        return ((real * real + imaginary * imaginary) @ self.filters).clamp(min=self.floor)

    def dft_matrix(self) -> torch.Tensor:
        """Real and imaginary part (its sign apart) of what each sample adds to each bin: float64 [W, 2 x bins].

        A function of few numbers: in a file it would be megabytes.
        """
        places = self.offsets[:, None] * torch.arange(len(self.filters)) % self.circle.shape[1]
        return torch.cat([self.circle[0][places], self.circle[1][places]], dim=1)


class PortableFbank(nn.Module):
    """`kaldi_fbank` of the first `frames` frames; those that the sound does not fill are 0, as in training."""

    def __init__(self, frames: int, num_mel_bins: int):
        super().__init__()
        self.frames, self.samples = frames, num_samples(frames)
        window = torch.hann_window(WINDOW, periodic=False, dtype=torch.float64)
        self.mel = Mel(window, FFT_SIZE, mel_filters(num_mel_bins, "cpu"), HOP, ENERGY_FLOOR, is_kaldi=True)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """[B, T] -> [B, frames, num_mel_bins]."""
        samples = waveform.shape[1]
        features = self.mel(filled(waveform, self.samples)[:, : self.samples]).log().float()
        is_heard = torch.arange(self.frames) * HOP + WINDOW <= torch.sym_max(samples, WINDOW)
        return features * is_heard[:, None]


class Wave(nn.Module):
    """`Wav2Vec2FeatureExtractor`: the waveform, at mean 0 and deviation 1 if it says so."""

    def __init__(self, extractor: Extractor):
        super().__init__()
        self.is_normalised = extractor.do_normalize
        self.least = round(LEAST_S * extractor.sampling_rate)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """[B, T] -> [B, T]."""
        sound = filled(waveform, self.least)
        if not self.is_normalised:
            return sound
        exact = sound.double()
        centred = exact - exact.mean(dim=1, keepdim=True)
        variance = (centred * centred).mean(dim=1, keepdim=True)
        return (centred / (variance + LEAST_VARIANCE).sqrt()).float()


class SeamlessFbank(nn.Module):
    """`SeamlessM4TFeatureExtractor`: Kaldi's filterbank, each band at mean 0 and deviation 1, frames in pairs."""

    def __init__(self, extractor: Extractor):
        super().__init__()
        window = 2.0**15 * np.asarray(extractor.window, np.float64)  # it reads whole numbers of 16 bits
        self.mel = Mel(window, FFT_SIZE, extractor.mel_filters, HOP, ENERGY_FLOOR, is_kaldi=True)
        self.stride, self.least = extractor.stride, round(LEAST_S * extractor.sampling_rate)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """[B, T] -> [B, frames // stride, bands * stride]."""
        bands = self.mel(filled(waveform, self.least)).log()
        centred = bands - bands.mean(dim=1, keepdim=True)
        variance = (centred * centred).sum(dim=1, keepdim=True) / (bands.shape[1] - 1)
        normal = (centred / (variance + LEAST_VARIANCE).sqrt()).float()
        count = bands.shape[1] // self.stride
        return normal[:, : count * self.stride].reshape(bands.shape[0], count, -1)


class CentredMel(nn.Module):
    """Mel energies of a sound of one length, whose frames are centred: it is mirrored at both ends.

    Args:
        fft_size: samples of a frame.
        hop: samples between frames.
        filters: [bins, bands].
    """

    def __init__(self, fft_size: int, hop: int, filters: np.ndarray):
        super().__init__()
        window = torch.hann_window(fft_size, dtype=torch.float64)
        self.margin = fft_size // 2
        self.mel = Mel(window, fft_size, filters, hop, LEAST_POWER)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """[B, T] -> float64 [B, T // hop + 1, bands]."""
        before, after = waveform[:, 1 : self.margin + 1].flip(1), waveform[:, -self.margin - 1 : -1].flip(1)
        return self.mel(torch.cat([before, waveform, after], dim=1))


class WhisperMel(nn.Module):
    """`WhisperFeatureExtractor`: as much as its input holds, the rest silence; the range of the logarithm is cut."""

    def __init__(self, extractor: Extractor):
        super().__init__()
        self.samples = extractor.n_samples
        self.mel = CentredMel(extractor.n_fft, extractor.hop_length, extractor.mel_filters)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """[B, T] -> [B, bands, frames]."""
        bands = self.mel(filled(waveform, self.samples)[:, : self.samples])[:, :-1].log10()
        bands = torch.maximum(bands, bands.amax(dim=(1, 2), keepdim=True) - 8.0)
        return ((bands + 4.0) / 4.0).float().transpose(1, 2)


class ClapMel(nn.Module):
    """`ClapFeatureExtractor` of windows as long as its input: decibels [B, 1, frames, bands].

    A fusion model is given four of the same; of a window that is not longer than its input it reads the first.
    """

    def __init__(self, extractor: Extractor):
        super().__init__()
        fused = extractor.truncation == "fusion"
        filters = extractor.mel_filters if fused else extractor.mel_filters_slaney
        self.mel = CentredMel(extractor.fft_window_size, extractor.hop_length, filters)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """[B, T] -> [B, 1, frames, bands]."""
        return (10 * self.mel(windows).log10()).float()[:, None]


READERS = {
    "Wav2Vec2FeatureExtractor": Wave,
    "SeamlessM4TFeatureExtractor": SeamlessFbank,
    "WhisperFeatureExtractor": WhisperMel,
}


def features_of(extractor: Extractor) -> nn.Module | None:
    """What reads as a feature extractor of a classifier does; None where no such is written, or it draws at random."""
    reader = READERS.get(type(extractor).__name__)
    return None if reader is None or getattr(extractor, "dither", None) else reader(extractor)
