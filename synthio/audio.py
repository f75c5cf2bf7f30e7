"""Reading, resampling, cropping and writing audio: the one place where the project touches sound files.

Arrays are float32 [C, T] (channels, samples), full scale is 1.0. Levels are kept: nothing here normalises. A file
that cannot be trusted (unreadable, empty, NaN, truncated, absurdly long) raises `BadAudio` with the reason, because
libsndfile hands all of these over without a word.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np

from synthio.cli import UserError
from synthio.files import atomic_path

# A small FLAC can decode to gigabytes; the frame count is checked against this before anything is decoded.
MAX_DURATION_S = 600.0


class BadAudio(UserError):
    """A sound file that must not be used; the message is the reason, without the path."""


def _check_riff_size(path: Path) -> None:
    """Refuse a WAV that ends before its header says. libsndfile would silently give the shorter sound.

    Headers written to a pipe hold 0 or the largest number in place of the size; these say nothing.
    """
    with path.open("rb") as stream:
        head = stream.read(8)
    if len(head) < 8 or head[:4] != b"RIFF":
        return
    (declared,) = struct.unpack("<I", head[4:])
    if 0 < declared < 0xFFFFFF00 and path.stat().st_size < declared + 8 - 1:  # -1: a missing pad byte is harmless
        raise BadAudio(f"truncated: {path.stat().st_size} bytes of the {declared + 8} its header declares")


def probe(path: str | Path, max_duration_s: float = MAX_DURATION_S) -> tuple[int, int, int]:
    """Return (sample_rate in Hz, channels, frames) from the header.

    Raises:
        BadAudio: missing, unreadable, empty, truncated (WAV) or longer than `max_duration_s`.
    """
    import soundfile

    path = Path(path)
    if not path.is_file():
        raise BadAudio("no such file")
    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise BadAudio(f"unreadable: {str(error).split(':')[-1].strip() or 'unknown format'}") from None
    if info.frames <= 0:
        raise BadAudio("empty: 0 samples")
    if info.frames / info.samplerate > max_duration_s:
        raise BadAudio(f"{info.frames / info.samplerate:.0f} s long, more than the {max_duration_s:.0f} s allowed")
    _check_riff_size(path)
    return info.samplerate, info.channels, info.frames


def read_audio(
    path: str | Path,
    sample_rate: int | None = None,
    mono: bool = True,
    max_duration_s: float = MAX_DURATION_S,
) -> tuple[np.ndarray, int]:
    """Read a whole sound file.

    Args:
        path: any format libsndfile reads (WAV, FLAC, OGG, MP3, AIFF, ...).
        sample_rate: resample to this rate in Hz; None keeps the file's own.
        mono: average the channels, else keep them all.
        max_duration_s: refuse longer files before decoding them.

    Returns:
        (audio float32 [C, T], sample_rate in Hz); C is 1 when `mono`.

    Raises:
        BadAudio: missing, unreadable, empty, truncated, too long, or holding NaN or infinity.
    """
    import soundfile

    own_rate, _, frames = probe(path, max_duration_s)
    try:
        audio, _ = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise BadAudio(f"unreadable: {str(error).split(':')[-1].strip()}") from None
    if len(audio) < frames:
        raise BadAudio(f"truncated: {len(audio)} of {frames} samples could be decoded")
    if not np.isfinite(audio).all():
        raise BadAudio("holds NaN or infinite samples")
    audio = np.ascontiguousarray(audio.T)
    if mono:
        audio = audio.mean(axis=0, keepdims=True)
    if sample_rate is None or sample_rate == own_rate:
        return audio, own_rate
    return resample(audio, own_rate, sample_rate), sample_rate


def resample(audio: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample [C, T] from `from_rate` to `to_rate` in Hz with soxr (high quality); at least one sample remains."""
    import soxr

    if from_rate == to_rate:
        return audio
    out = soxr.resample(audio.T, from_rate, to_rate, quality="HQ").T
    if out.shape[1] == 0:  # a clip shorter than one output sample
        out = audio[:, :1]
    return np.ascontiguousarray(out, dtype=np.float32)


def content_hash(audio: np.ndarray, sample_rate: int) -> str:
    """SHA-256 of the sound itself at 16 bits: the same for a WAV and a FLAC of one recording."""
    pcm = np.round(np.clip(audio, -1, 1) * 32767).astype("<i2")
    head = f"{sample_rate}:{pcm.shape[0]}:".encode()
    return hashlib.sha256(head + pcm.T.tobytes()).hexdigest()


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
    peak = float(np.abs(audio).max())
    if peak > 1.0:
        audio = audio / peak
    pcm = np.round(audio * 32767).astype(np.int16)
    with atomic_path(path) as temporary:
        soundfile.write(str(temporary), pcm.T, sample_rate, subtype="PCM_16")
