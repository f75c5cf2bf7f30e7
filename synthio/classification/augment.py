"""Classical augmentation of waveforms: noise, pitch and a chain of small changes (the paper's baselines), and speed.

    audio = augment(audio, 16000, "chain", rng)  # [T] -> [T]

Ranges are those of audiomentations where it has the same transform. Everything random comes from the generator.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from synthio.audio import fit_length
from synthio.classification.options import WAVEFORM_AUGMENTS

SNR_DB = (5.0, 40.0)
GAIN_DB = (-12.0, 12.0)
SEMITONES = (-4.0, 4.0)
MAX_SPEED = 2 ** (SEMITONES[1] / 12)  # so much more sound than it returns can `speed` use
VOCODER_FFT, VOCODER_HOP = 1024, 256  # samples; at 16 kHz 64 and 16 ms
SHIFT_SHARE = (-0.5, 0.5)  # of the clip's length
LOW_PASS_HZ, HIGH_PASS_HZ = (1000.0, 7500.0), (20.0, 2400.0)
FILTER_ORDER = 2  # 12 dB an octave
CHANCE = 0.5  # of each change in a chain


def noise(audio: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Add white Gaussian noise at a random signal-to-noise ratio. Silence stays silence."""
    level = np.sqrt(np.mean(np.square(audio, dtype=np.float64))) * 10 ** (-rng.uniform(*SNR_DB) / 20)
    return audio + level * rng.standard_normal(len(audio))


def gain(audio: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Change the level."""
    return audio * 10 ** (rng.uniform(*GAIN_DB) / 20)


def speed(audio: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Shift pitch and tempo together, by resampling: like a tape at another speed. The length changes."""
    return _resampled(audio, sample_rate, 2 ** (rng.uniform(*SEMITONES) / 12))


def pitch(audio: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Shift the pitch and keep tempo, length and level: stretched by a phase vocoder, then resampled."""
    factor = 2 ** (rng.uniform(*SEMITONES) / 12)
    shifted = fit_length(_resampled(stretch(audio, factor), sample_rate, factor)[None], len(audio))[0]
    # the phases of noise do not fit together any more, which costs it some 4 dB
    before, after = (float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) for x in (audio, shifted))
    return shifted * (before / after) if after > 0 else shifted


def _resampled(audio: np.ndarray, sample_rate: int, speed: float) -> np.ndarray:
    """Audio [T] played at `speed` times its speed, [T / speed]."""
    import soxr

    return soxr.resample(audio, sample_rate * speed, sample_rate, quality="HQ")


def stretch(audio: np.ndarray, factor: float) -> np.ndarray:
    """Make a sound last `factor` times as long at its pitch, [T] -> float32 [round(factor * T)].

    The phase vocoder (Flanagan and Golden 1966; Laroche and Dolson 1999, section II): magnitudes are interpolated
    between frames, and the phase of a bin advances from frame to frame by what it does in the sound. Frames are as far
    apart as before, so the advance is the difference of two phases and needs no unwrapping.
    """
    import torch

    window, signal = torch.hann_window(VOCODER_FFT), torch.from_numpy(np.asarray(audio, np.float32))
    spectrum = torch.stft(signal, VOCODER_FFT, VOCODER_HOP, window=window, return_complex=True, pad_mode="constant")
    places = torch.arange(0, spectrum.shape[1], 1 / factor)
    first, share = places.long(), places.frac()
    magnitude, angle = (torch.nn.functional.pad(part, (0, 2)) for part in (spectrum.abs(), spectrum.angle()))
    advance = angle[:, first + 1] - angle[:, first]
    phase = torch.cat([angle[:, :1], advance[:, :-1]], dim=1).cumsum(dim=1)
    stretched = torch.polar(torch.lerp(magnitude[:, first], magnitude[:, first + 1], share), phase)
    length = round(factor * len(audio))
    return torch.istft(stretched, VOCODER_FFT, VOCODER_HOP, window=window, length=length).numpy()


def shift(audio: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Move in time; what leaves at one end comes in at the other."""
    return np.roll(audio, round(rng.uniform(*SHIFT_SHARE) * len(audio)))


def filter_band(audio: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """A Butterworth low-pass or high-pass at a random frequency, uniform in octaves."""
    from scipy.signal import butter, sosfilt

    kind, limits = (("lowpass", LOW_PASS_HZ), ("highpass", HIGH_PASS_HZ))[rng.integers(2)]
    cutoff = np.exp(rng.uniform(*np.log(limits)))
    return sosfilt(butter(FILTER_ORDER, cutoff, kind, fs=sample_rate, output="sos"), audio)


def chain(audio: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Each of the changes with a chance of one half, like a Compose of audiomentations."""
    for change in (gain, noise, pitch, shift, filter_band):
        if rng.random() < CHANCE:
            audio = change(audio, sample_rate, rng)
    return audio


METHODS: dict[str, Callable] = {name: globals()[name] for name in WAVEFORM_AUGMENTS}


def augment(audio: np.ndarray, sample_rate: int, method: str, rng: np.random.Generator) -> np.ndarray:
    """A changed copy of a clip.

    Args:
        audio: [T] float, full scale 1.0.
        sample_rate: in Hz.
        method: a key of METHODS.
        rng: the only source of chance.

    Returns:
        float32 [T'], T' >= 1; only `speed` makes it differ from T.
    """
    return METHODS[method](audio, sample_rate, rng).astype(np.float32)
