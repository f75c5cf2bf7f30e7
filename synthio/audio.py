"""Reading, resampling, cropping and writing audio: the one place where the project touches sound files.

Arrays are float32 [C, T] (channels, samples), full scale is 1.0. Levels are kept: nothing here normalises. A file
that cannot be trusted (unreadable, empty, NaN, truncated, absurdly long) raises `BadAudio` with the reason, because
libsndfile hands all of these over without a word.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from synthio.cli import UserError
from synthio.files import atomic_path

# A small FLAC can decode to gigabytes; the frame count is checked against this before anything is decoded.
MAX_DURATION_S = 600.0


class BadAudio(UserError):
    """A sound file that must not be used; the message is the reason, without the path."""


# From here on a 32-bit size says "unknown": ffmpeg writes 0xFFFFFFFF to a pipe, SoX 0x7FFFF000 and the header's length.
_UNKNOWN_SIZE = 0x7FFFF000
_W64_GUID = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"


def _declared_size(path: Path) -> int:
    """Bytes that the file must have by its own header (WAV, RF64, W64, AIFF, AU, CAF, Ogg); 0 where it does not say."""
    with path.open("rb") as stream:
        head = stream.read(40).ljust(40, b"\0")
        if head[:4] == b"OggS":
            return _ogg_size(stream)
        if head[:4] == b"caff":
            return _caf_size(stream)
    before = 8  # bytes that the size does not count
    if head[:4] == b"RIFF":
        (size,) = struct.unpack("<I", head[4:8])
    elif head[:4] == b"FORM":
        (size,) = struct.unpack(">I", head[4:8])
    elif head[:4] == b"RF64" and head[12:16] == b"ds64":
        (size,) = struct.unpack("<Q", head[20:28])
    elif head[:16] == _W64_GUID:
        before, (size,) = 0, struct.unpack("<Q", head[16:24])
    elif head[:4] == b".snd":
        before, size = struct.unpack(">II", head[4:12])
    else:
        return 0
    return 0 if size == 0 or size >= _UNKNOWN_SIZE else before + size


def _ogg_size(stream: BinaryIO) -> int:
    """Where the last page of an Ogg file ends: its 27-byte header, the table of segment sizes, the segments."""
    end = stream.seek(0, 2)
    start = max(0, end - (1 << 17))  # a page has at most 65307 bytes
    stream.seek(start)
    tail = stream.read()
    last = tail.rfind(b"OggS")
    if last < 0:
        return 0
    page = tail[last:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return start + last + 27 + (page[26] if len(page) > 26 else 1)
    return start + last + 27 + page[26] + sum(page[27 : 27 + page[26]])


def _caf_size(stream: BinaryIO) -> int:
    """Where the last chunk of a CAF file ends; 0 where a chunk's size is unknown (-1)."""
    end, total = 8, stream.seek(0, 2)
    while end + 12 <= total:
        stream.seek(end)
        _, size = struct.unpack(">4sq", stream.read(12))
        if size < 0:
            return 0
        end += 12 + size
    return end


def _check_size(path: Path) -> None:
    """Refuse a file that ends before its header says. libsndfile would silently give the shorter sound."""
    size, declared = path.stat().st_size, _declared_size(path)
    if size < declared - 1:  # -1: a missing pad byte is harmless
        raise BadAudio(f"truncated: {size} bytes of the {declared} its header declares")


def _reason(error: Exception) -> str:
    """The end of libsndfile's message; for what it cannot recognise it blames the path, which we know is a file."""
    text = str(error).split(":")[-1].strip()
    return "unknown or damaged format" if not text or "does not exist" in text else text


def probe(path: str | Path, max_duration_s: float = MAX_DURATION_S) -> tuple[int, int, int]:
    """Return (sample_rate in Hz, channels, frames) from the header.

    Raises:
        BadAudio: missing, unreadable, empty, truncated (by its header) or longer than `max_duration_s`.
    """
    import soundfile

    path = Path(path)
    if not path.is_file():
        raise BadAudio("no such file")
    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise BadAudio(f"unreadable: {_reason(error)}") from None
    _check_size(path)
    if info.frames <= 0:
        raise BadAudio("empty: 0 samples")
    if info.frames >= 1 << 62:
        raise BadAudio("its header does not tell its length (written to a pipe?); convert it to WAV once")
    if info.frames / info.samplerate > max_duration_s:
        raise BadAudio(f"{info.frames / info.samplerate:.0f} s long, more than the {max_duration_s:.0f} s allowed")
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
        raise BadAudio(f"unreadable: {_reason(error)}") from None
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


def _to_pcm16(audio: np.ndarray) -> np.ndarray:
    """16-bit samples; the inverse of how libsndfile reads them (k / 32768), so that a copy is exact."""
    return np.clip(np.round(audio * 32768.0), -32768, 32767).astype("<i2")


def content_hash(audio: np.ndarray, sample_rate: int) -> str:
    """SHA-256 of the sound itself at 16 bits: the same for a WAV and a FLAC of one recording."""
    pcm = _to_pcm16(audio)
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
    pcm = _to_pcm16(audio)
    with atomic_path(path) as temporary:
        soundfile.write(str(temporary), pcm.T, sample_rate, subtype="PCM_16")
