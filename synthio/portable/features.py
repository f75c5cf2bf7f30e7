"""What networks read of a sound, as operators that ONNX Runtime has: the feature extractors of transformers and ours.

    features = features_of(extractor)
    features(waveform)  # [B, T] -> what the network reads [B, ...]

There is no FFT in them: what is done to a frame before its power spectrum (mean, pre-emphasis, window, DFT) is linear,
so that it is one matrix. They compute in float64: in float32 the rounding of loud tones shows in quiet bands.
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


def dft_matrix(frames: torch.Tensor, fft_size: int) -> torch.Tensor:
    """float64 [W, 2 x bins] of what is done to each unit frame, [W, W]: real and imaginary part of their spectra."""
    spectrum = torch.fft.rfft(frames, n=fft_size)
    return torch.cat([spectrum.real, spectrum.imag], dim=1)


def kaldi_frames(window: torch.Tensor) -> torch.Tensor:
    """What Kaldi does to a unit frame before the spectrum: mean, pre-emphasis, window; float64 [W, W]."""
    centred = torch.eye(len(window), dtype=torch.float64) - 1 / len(window)
    previous = torch.cat([centred[:, :1], centred[:, :-1]], dim=1)
    return (centred - PREEMPHASIS * previous) * window


class Mel(nn.Module):
    """Power spectra of frames, through mel filters.

    Args:
        matrix: see `dft_matrix`.
        filters: [bins, bands].
        hop: samples between frames.
        floor: the least energy of a band.
    """

    matrix: torch.Tensor
    filters: torch.Tensor
    offsets: torch.Tensor

    def __init__(self, matrix: torch.Tensor, filters: Any, hop: int, floor: float):  # Any: an array or a tensor
        super().__init__()
        self.hop, self.floor = hop, floor
        self.register_buffer("matrix", matrix)
        self.register_buffer("filters", torch.as_tensor(filters, dtype=torch.float64))
        self.register_buffer("offsets", torch.arange(len(matrix)))

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """[B, T], T at least a frame -> energies, float64 [B, frames, bands], of the frames that lie inside."""
        count = (waveform.shape[1] - len(self.matrix)) // self.hop + 1
        places = torch.arange(count)[:, None] * self.hop + self.offsets
        spectrum = waveform[:, places].double() @ self.matrix
        real, imaginary = spectrum.chunk(2, dim=-1)
        return ((real * real + imaginary * imaginary) @ self.filters).clamp(min=self.floor)


class PortableFbank(nn.Module):
    """`kaldi_fbank` of the first `frames` frames; those that the sound does not fill are 0, as in training."""

    def __init__(self, frames: int, num_mel_bins: int):
        super().__init__()
        self.frames, self.samples = frames, num_samples(frames)
        window = torch.hann_window(WINDOW, periodic=False, dtype=torch.float64)
        matrix = dft_matrix(kaldi_frames(window), FFT_SIZE)
        self.mel = Mel(matrix, mel_filters(num_mel_bins, "cpu"), HOP, ENERGY_FLOOR)

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
        window = torch.from_numpy(np.asarray(extractor.window, np.float64))
        matrix = 2.0**15 * dft_matrix(kaldi_frames(window), FFT_SIZE)
        self.mel = Mel(matrix, extractor.mel_filters, HOP, ENERGY_FLOOR)
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
        self.mel = Mel(dft_matrix(torch.diag(window), fft_size), filters, hop, LEAST_POWER)

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
