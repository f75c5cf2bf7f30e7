"""Kaldi's log-mel filterbank in torch, for whole batches: the input of AST.

    features = kaldi_fbank(waveform)  # [B, T] at 16 kHz -> [B, frames, 128], one frame each 10 ms

It equals transformers' ASTFeatureExtractor without padding and normalisation, but takes batches on any device.
"""

from __future__ import annotations

from functools import lru_cache

import torch

SAMPLE_RATE = 16000
WINDOW, HOP, FFT_SIZE = 400, 160, 512  # 25 ms, 10 ms, the next power of two
PREEMPHASIS = 0.97
LOWEST_HZ = 20
# float32's epsilon, Kaldi's least mel energy; its logarithm, -15.94, is the value of digital silence.
ENERGY_FLOOR = 1.192092955078125e-07
FRAMES_AT_ONCE = 512  # on a CPU: what is computed of them stays in its cache, four times as fast as a minute at once


@lru_cache(maxsize=8)
def mel_filters(num_mel_bins: int, device: str) -> torch.Tensor:
    """Triangular filters [257, num_mel_bins], evenly spaced on Kaldi's mel scale from 20 Hz to 8 kHz."""
    import warnings

    from transformers.audio_utils import mel_filter_bank

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # at 128 bins the lowest filter meets no FFT bin; AST has it so
        filters = mel_filter_bank(
            num_frequency_bins=FFT_SIZE // 2 + 1,
            num_mel_filters=num_mel_bins,
            min_frequency=LOWEST_HZ,
            max_frequency=SAMPLE_RATE // 2,
            sampling_rate=SAMPLE_RATE,
            norm=None,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )
    return torch.from_numpy(filters).to(device=device, dtype=torch.float64)


def num_frames(samples: int) -> int:
    """How many frames `samples` give: a frame must lie wholly inside the sound (Kaldi's snip_edges)."""
    return max(0, 1 + (samples - WINDOW) // HOP)


def num_samples(frames: int) -> int:
    """The least number of samples that give `frames` frames."""
    return WINDOW + (frames - 1) * HOP if frames > 0 else 0


@torch.no_grad()
def kaldi_fbank(waveform: torch.Tensor, num_mel_bins: int = 128) -> torch.Tensor:
    """Log-mel energies with Kaldi's conventions and AST's settings.

    Frames of 25 ms every 10 ms that lie inside the sound; per frame the mean is removed, pre-emphasis .97, symmetric
    Hann window, power spectrum of 512 points, triangular mel filters, natural logarithm with a floor.
    It computes in float64: in float32 the FFT's rounding shows in the quiet bands of loud tones.

    Args:
        waveform: float [B, T], full scale 1.0, 16 kHz.
        num_mel_bins: number of mel bands.

    Returns:
        float32 [B, num_frames(T), num_mel_bins].

    Raises:
        ValueError: the waveform is not [B, T].
    """
    if waveform.ndim != 2:
        raise ValueError(f"expected a waveform [B, T], got shape {list(waveform.shape)}")
    if waveform.shape[1] < WINDOW:
        return waveform.new_zeros((waveform.shape[0], 0, num_mel_bins), dtype=torch.float32)
    frames = waveform.unfold(1, WINDOW, HOP)
    size = max(1, FRAMES_AT_ONCE // len(waveform)) if waveform.device.type == "cpu" else frames.shape[1]
    return torch.cat([_log_mel(part, num_mel_bins) for part in frames.split(size, dim=1)], dim=1)


def _log_mel(frames: torch.Tensor, num_mel_bins: int) -> torch.Tensor:
    """Frames [B, F, WINDOW] -> log-mel energies float32 [B, F, num_mel_bins]; a frame's are its own alone."""
    frames = frames.double()
    frames = frames - frames.mean(dim=-1, keepdim=True)
    previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
    window = torch.hann_window(WINDOW, periodic=False, dtype=frames.dtype, device=frames.device)
    spectrum = torch.fft.rfft((frames - PREEMPHASIS * previous) * window, n=FFT_SIZE)
    power = spectrum.real.square() + spectrum.imag.square()
    energies = power @ mel_filters(num_mel_bins, str(frames.device))
    return energies.clamp(min=ENERGY_FLOOR).log().float()
