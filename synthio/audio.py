"""Reading, resampling, cropping and writing audio: the one place where the project touches sound files.

Arrays are float32 [C, T] (channels, samples), full scale is 1.0. Levels are kept: nothing here normalises. A file
that cannot be trusted (unreadable, empty, NaN, garbage, truncated, absurdly long) raises `BadAudio` with the reason,
because decoders hand all of these over without a word. The length that counts is that of the decoded samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from synthio.files import atomic_path
from synthio.formats.containers import AUDIO_SUFFIXES, BadAudio, is_sound_name
from synthio.formats.decoding import Stream, open_sound

__all__ = [
    "AUDIO_SUFFIXES",
    "BadAudio",
    "ContentHash",
    "Stream",
    "check_samples",
    "content_hash",
    "cut_windows",
    "fit_length",
    "is_sound_name",
    "mix_down",
    "open_audio",
    "peak_db",
    "probe",
    "read_audio",
    "resample",
    "write_wav",
]

MAX_DURATION_S = 600.0
MAX_SAMPLES_PER_S = 2 * 96000  # of all channels, over the longest duration that is allowed
MIN_RATE, MAX_RATE = 2000, 1_000_000  # Hz
MAX_PEAK = 1e3  # +60 dB over full scale: no recording, but numbers that were taken for samples


@contextmanager
def open_audio(path: str | Path, max_duration_s: float = MAX_DURATION_S) -> Iterator[Stream]:
    """Open a sound file, to be read in blocks: memory does not grow with its length.

    Args:
        path: any format of `containers.AUDIO_SUFFIXES`; the bytes tell which, not the name.
        max_duration_s: refuse longer files, and those with more samples than this long a stereo sound at 96 kHz. If
            the file declares its length, before anything is decoded.

    Yields:
        The stream: sample_rate in Hz, channels, frames (None where only decoding tells), blocks (float32 [C, n]).

    Raises:
        BadAudio: missing, no sound, unreadable, empty, truncated, too long or too wide, of a rate that nothing can be
            heard at, holding NaN, infinity or garbage; there is no memory for it. Also while blocks are read.
    """
    try:
        with open_sound(Path(path)) as stream:
            if not MIN_RATE <= stream.sample_rate <= MAX_RATE:
                raise BadAudio(
                    f"a sample rate of {stream.sample_rate} Hz, outside {MIN_RATE} to {MAX_RATE} Hz; resample it, or "
                    "mend its header"
                )
            if stream.frames is not None:
                _check_extent(stream, stream.frames, max_duration_s)
            yield replace(stream, blocks=_checked(stream, max_duration_s))
    except MemoryError:
        raise BadAudio("there is not enough memory to read it; cut it, or mix it down") from None


def _check_extent(stream: Stream, frames: int, max_duration_s: float) -> None:
    """Bound length and samples: a small FLAC can decode to gigabytes."""
    seconds, samples = frames / stream.sample_rate, frames * stream.channels
    if seconds > max_duration_s:
        raise BadAudio(f"{seconds:.7g} s long, more than the {max_duration_s:g} s allowed")
    if samples > max_duration_s * MAX_SAMPLES_PER_S:
        raise BadAudio(
            f"{seconds:.0f} s of {stream.channels} channels at {stream.sample_rate} Hz: {samples / 1e6:.0f} million "
            f"samples, more than the {max_duration_s * MAX_SAMPLES_PER_S / 1e6:.0f} million allowed; cut it, mix it "
            "down or resample it"
        )


def _checked(stream: Stream, max_duration_s: float) -> Iterator[np.ndarray]:
    """The blocks of a stream, each looked at before it is handed on."""
    frames = 0
    for block in stream.blocks:
        frames += block.shape[1]
        _check_extent(stream, frames, max_duration_s)
        check_samples(block)
        yield block
    if not frames:
        raise BadAudio("empty: 0 samples")


def check_samples(audio: np.ndarray) -> None:
    """Refuse samples that no recording holds.

    Raises:
        BadAudio: NaN, infinity, or a peak of more than `MAX_PEAK`.
    """
    peak = max(float(audio.max(initial=0)), -float(audio.min(initial=0)))
    if not np.isfinite(peak):
        raise BadAudio("holds NaN or infinite samples")
    if peak > MAX_PEAK:
        cause = "16-bit numbers in a file of floats? divide them by 32768" if peak <= 32768 else "it is damaged"
        raise BadAudio(f"a peak of {20 * np.log10(peak):+.0f} dB over full scale ({cause})")


def probe(path: str | Path, max_duration_s: float = MAX_DURATION_S) -> tuple[int, int, int]:
    """Return (sample_rate in Hz, channels, frames): from the header if that can be trusted, else by decoding.

    Raises:
        BadAudio: as `open_audio`; what only decoding finds, of formats that have to be decoded alone.
    """
    with open_audio(path, max_duration_s) as stream:
        frames = stream.frames
        if frames is None:
            frames = sum(block.shape[1] for block in stream.blocks)
        return stream.sample_rate, stream.channels, frames


def mix_down(audio: np.ndarray) -> np.ndarray:
    """The mean of the channels: [C, T] -> [1, T]."""
    return audio if len(audio) == 1 else audio.mean(axis=0, keepdims=True, dtype=np.float32)


def read_audio(
    path: str | Path,
    sample_rate: int | None = None,
    mono: bool = True,
    max_duration_s: float = MAX_DURATION_S,
) -> tuple[np.ndarray, int]:
    """Read a whole sound file. It is mixed down while it is decoded, so that memory holds only what is returned.

    Args:
        path: as in `open_audio`.
        sample_rate: resample to this rate in Hz; None keeps the file's own.
        mono: average the channels, else keep them all.
        max_duration_s: as in `open_audio`.

    Returns:
        (audio float32 [C, T], sample_rate in Hz); C is 1 when `mono`.

    Raises:
        BadAudio: as `open_audio`.
    """
    with open_audio(path, max_duration_s) as stream:
        blocks = (mix_down(block) if mono else block for block in stream.blocks)
        audio = _gather(blocks, 1 if mono else stream.channels, stream.frames)
        own_rate = stream.sample_rate
        if sample_rate is None or sample_rate == own_rate:
            return audio, own_rate
        return resample(audio, own_rate, sample_rate), sample_rate


def _gather(blocks: Iterator[np.ndarray], channels: int, frames: int | None) -> np.ndarray:
    """Blocks [C, n] as one array [C, T], without a second copy where T is known."""
    if frames is None:
        return np.concatenate(list(blocks), axis=1)
    audio = np.empty((channels, frames), np.float32)
    done = 0
    for block in blocks:
        audio[:, done : done + block.shape[1]] = block
        done += block.shape[1]
    return audio


def resample(audio: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample [C, T] from `from_rate` to `to_rate` in Hz with soxr (high quality); at least one sample remains."""
    import soxr

    if from_rate == to_rate:
        return audio
    out = soxr.resample(audio.T, from_rate, to_rate, quality="HQ").T
    if out.shape[1] == 0:  # a clip shorter than one output sample
        out = audio[:, :1]
    return np.ascontiguousarray(out, dtype=np.float32)


def _to_pcm16(audio: np.ndarray) -> np.ndarray:
    """16-bit samples; the inverse of how libsndfile reads them (k / 32768), so that a copy is exact."""
    return np.clip(np.round(audio * 32768.0), -32768, 32767).astype("<i2")


class ContentHash:
    """SHA-256 of a sound at 16 bits, block by block: the same for a WAV and a FLAC of one recording."""

    def __init__(self, sample_rate: int, channels: int) -> None:
        self._digest = hashlib.sha256(f"{sample_rate}:{channels}:".encode())

    def update(self, audio: np.ndarray) -> None:
        """Add samples [C, n]."""
        self._digest.update(_to_pcm16(audio).T.tobytes())

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def content_hash(audio: np.ndarray, sample_rate: int) -> str:
    """The `ContentHash` of a whole sound [C, T]."""
    whole = ContentHash(sample_rate, len(audio))
    whole.update(audio)
    return whole.hexdigest()


def fit_length(audio: np.ndarray, samples: int) -> np.ndarray:
    """Cut [C, T] at the end or pad it with zeros to exactly `samples`."""
    if audio.shape[1] >= samples:
        return audio[:, :samples]
    return np.pad(audio, ((0, 0), (0, samples - audio.shape[1])))


def cut_windows(audio: np.ndarray, samples: int) -> np.ndarray:
    """Cut [C, T] into consecutive windows [N, C, samples] that cover all of it.

    The last window ends at the end of the clip (it overlaps the one before). A clip shorter than one window is
    repeated to fill it, which is what CLAP models are trained on.
    """
    length = audio.shape[1]
    if length < samples:
        repeats = -(-samples // length)
        return np.tile(audio, (1, repeats))[None, :, :samples]
    starts = list(range(0, length - samples + 1, samples))
    if starts[-1] + samples < length:
        starts.append(length - samples)
    return np.stack([audio[:, s : s + samples] for s in starts])


def peak_db(audio: np.ndarray) -> float:
    """Peak level in dBFS; -inf for digital silence."""
    peak = float(np.abs(audio).max(initial=0.0))
    return 20 * float(np.log10(peak)) if peak > 0 else float("-inf")


def write_wav(path: str | Path, audio: np.ndarray, sample_rate: int) -> None:
    """Write [C, T] as 16-bit WAV, atomically. A peak above full scale is turned down, never clipped.

    Raises:
        ValueError: NaN or infinite samples, or no samples at all.
    """
    import soundfile

    if audio.ndim != 2 or audio.shape[1] == 0:
        raise ValueError(f"{path}: expected audio [C, T] with T > 0, got shape {list(audio.shape)}")
    if not np.isfinite(audio).all():
        raise ValueError(f"{path}: refusing to write NaN or infinite samples")
    with atomic_path(path) as temporary:
        soundfile.write(str(temporary), _levelled_pcm16(audio).T, sample_rate, subtype="PCM_16")


def as_written(audio: np.ndarray) -> np.ndarray:
    """Finite audio [C, T] as it is read back from a file of `write_wav`, float32 [C, T]."""
    return _levelled_pcm16(audio).astype(np.float32) / 32768


def _levelled_pcm16(audio: np.ndarray) -> np.ndarray:
    return _to_pcm16(audio / max(1.0, float(np.abs(audio).max())))
