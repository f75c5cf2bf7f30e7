"""A saved AST with its feature extraction as one network from waveforms to probabilities, for export.

    network = PortableAst(model, norm, multi_label)
    network(waveform)  # [B, T] at 16 kHz, any T -> [B, C]

It has fixed shapes behind its first lines and no FFT: what Kaldi does to a frame before the power spectrum (mean,
pre-emphasis, window, DFT) is linear, so that it is one matrix.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from synthio.classification.training import Normalisation
from synthio.models.fbank import ENERGY_FLOOR, FFT_SIZE, HOP, PREEMPHASIS, WINDOW, mel_filters, num_samples


def frame_matrix() -> torch.Tensor:
    """float64 [WINDOW, 2 x 257]: a frame times it is the real and the imaginary part of what `kaldi_fbank` squares."""
    steps = torch.eye(WINDOW, dtype=torch.float64)
    centred = steps - 1 / WINDOW
    previous = torch.cat([centred[:, :1], centred[:, :-1]], dim=1)
    window = torch.hann_window(WINDOW, periodic=False, dtype=torch.float64)
    spectrum = torch.fft.rfft((centred - PREEMPHASIS * previous) * window, n=FFT_SIZE)
    return torch.cat([spectrum.real, spectrum.imag], dim=1)


class PortableFbank(nn.Module):
    """`kaldi_fbank` of the first `frames` frames; those that the sound does not fill are 0, as in training.

    In float64 as there: in float32 the rounding of loud tones shows in quiet bands.
    """

    places: torch.Tensor
    matrix: torch.Tensor
    filters: torch.Tensor

    def __init__(self, frames: int, num_mel_bins: int):
        super().__init__()
        self.frames, self.samples = frames, num_samples(frames)
        places = torch.arange(frames)[:, None] * HOP + torch.arange(WINDOW)
        self.register_buffer("places", places)
        self.register_buffer("matrix", frame_matrix())
        self.register_buffer("filters", mel_filters(num_mel_bins, "cpu"))

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """[B, T] -> [B, frames, num_mel_bins]."""
        samples = waveform.shape[1]
        filled = torch.cat([waveform, waveform.new_zeros(waveform.shape[0], self.samples)], dim=1)[:, : self.samples]
        spectrum = filled[:, self.places].double() @ self.matrix
        real, imaginary = spectrum.split(FFT_SIZE // 2 + 1, dim=-1)
        energies = (real * real + imaginary * imaginary) @ self.filters
        features = energies.clamp(min=ENERGY_FLOOR).log().float()
        is_heard = torch.arange(self.frames) * HOP + WINDOW <= torch.sym_max(samples, WINDOW)
        return features * is_heard[:, None]


class PortableAst(nn.Module):
    """See above.

    Args:
        model: ASTForAudioClassification as ast/train.py saves it.
        norm: its input.
        multi_label: sigmoid, not softmax.
    """

    def __init__(self, model: Any, norm: Normalisation, multi_label: bool):  # Any: transformers' classes are not read
        super().__init__()
        self.model, self.norm, self.multi_label = model, norm, multi_label
        self.fbank = PortableFbank(norm.frames, model.config.num_mel_bins)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """[B, T] -> probabilities [B, C]."""
        logits = self.model(self.norm.apply(self.fbank(waveform))).logits
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=1)
