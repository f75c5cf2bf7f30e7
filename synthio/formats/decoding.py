"""Decoders: libsndfile (soundfile) and FFmpeg (PyAV) behind one interface, which hands a sound over in blocks.

libsndfile decodes WAV, FLAC, AIFF, AU, CAF, W64, RF64, NIST and Ogg (Vorbis, FLAC), whose length it can tell. All
else, and what it cannot tell, goes to FFmpeg, by frames: MP3 (of which libsndfile hears only what a header that may be
missing declares), AAC, Opus, WMA and what lies in MP4 or Matroska. docs/audio.md has the reasons and what each costs.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthio.formats.containers import BadAudio, Container, read_container, unsaid_bytes

BLOCK = 1 << 18  # samples (of all channels) that are decoded at once

Source = str | io.BufferedReader


@dataclass(frozen=True)
class Stream:
    """An open sound: rate in Hz, channels, samples a channel (None: told by decoding alone), float32 blocks [C, n]."""

    sample_rate: int
    channels: int
    frames: int | None
    blocks: Iterator[np.ndarray]


@contextmanager
def open_sound(path: Path) -> Iterator[Stream]:
    """Open a sound file. Sounds that were joined in one file come one after the other.

    Raises:
        BadAudio: as `read_container`; no decoder can read it; its parts differ in rate or channels; while blocks are
            read: the sound is damaged, or ends before the file says.
    """
    container = read_container(path)
    sources = container.sources(path)
    with _open(next(sources), container) as first:
        if len(container.parts) == 1:
            yield first
        else:
            yield Stream(first.sample_rate, first.channels, None, _joined(first, sources, container))


def _joined(first: Stream, others: Iterator[Source], container: Container) -> Iterator[np.ndarray]:
    yield from first.blocks
    for source in others:
        with _open(source, container) as part:
            if (part.sample_rate, part.channels) != (first.sample_rate, first.channels):
                raise BadAudio("holds joined sounds of other rates or channels; split them")
            yield from part.blocks


@contextmanager
def _open(source: Source, container: Container) -> Iterator[Stream]:
    """Open one sound with the decoder that can tell its length."""
    if container.kind not in _BY_SNDFILE:
        with _open_av(source) as stream:
            yield stream
        return
    with _open_sndfile(source) as (file, reason):
        if file is not None and 0 < file.frames < 1 << 62 and not file.subtype.startswith(("OPUS", "MPEG")):
            yield Stream(file.samplerate, file.channels, file.frames, _sndfile_blocks(file))
            return
        if file is not None and file.frames == 0:
            with Path(source).open("rb") if isinstance(source, str) else nullcontext(source) as stream:
                more = unsaid_bytes(stream, container.kind)
            if not more:
                raise BadAudio("empty: 0 samples")
            reason = f"its header says 0 samples, though {more} bytes follow; mend it"
    if isinstance(source, io.BufferedReader):
        source.seek(0)
    with _open_av(source, reason) as stream:
        yield stream


# ---- libsndfile

_BY_SNDFILE = ("WAV", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "NIST")


@contextmanager
def _open_sndfile(source: Source) -> Iterator[tuple[Any, str]]:  # Any: soundfile has no types
    """(open file, "") or (None, why libsndfile cannot open it)."""
    import soundfile

    try:
        file = soundfile.SoundFile(os.fsencode(source) if isinstance(source, str) else source)
    except (soundfile.SoundFileError, RuntimeError) as error:
        yield None, f"unreadable: {_reason(error)}"
        return
    with file:
        yield file, ""


def _sndfile_blocks(file: Any) -> Iterator[np.ndarray]:  # Any: as above
    import soundfile

    done, size = 0, max(1, BLOCK // file.channels)
    while done < file.frames:
        try:
            block = file.read(min(size, file.frames - done), dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise BadAudio(f"unreadable: {_reason(error)}") from None
        if not len(block):
            raise BadAudio(f"truncated: {done} of {file.frames} samples could be decoded")
        done += len(block)
        yield np.ascontiguousarray(block.T)


def _reason(error: Exception) -> str:
    """The end of a decoder's message; libsndfile blames the path for what it cannot recognise."""
    text = " ".join(str(error).split(":")[-1].split()).strip("'\" ")
    return "unknown or damaged format" if not text or "does not exist" in text else text


# ---- FFmpeg

# FFmpeg could also open playlists, which name other files and addresses. Sounds alone are wanted.
_DEMUXERS = (
    "mp3,aac,mov,matroska,ogg,wav,flac,asf,asf_o,aiff,au,caf,w64,amr,ac3,eac3,wv,tta,ape,voc,nistsphere,avi,mpegts,"
    "mpeg,dsf,flv,rm,iff,loas"
)
# Formats that tell the number of samples. MP4 tells a duration: gaps may be missing from it, so it tells the end alone.
_TELLS_SAMPLES = ("flac", "caf", "wv", "tta", "ape")
_TELLS_END = (*_TELLS_SAMPLES, "mov")
_PADDING = 8192  # samples: at most so many, which fill up an encoder's last frame, lie behind the declared end
_FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63}


def import_av():
    """PyAV.

    Raises:
        BadAudio: it cannot be imported; the message has the command that installs it.
    """
    try:
        import av
    except (ImportError, OSError) as error:
        raise BadAudio(
            f"this format needs PyAV, which cannot be imported ({_reason(error)}); install it: "
            f"{sys.executable} -m pip install av"
        ) from None
    return av


@contextmanager
def _open_av(source: Source, reason: str = "") -> Iterator[Stream]:
    """Open a sound with FFmpeg; `reason` says why libsndfile could not, and stands where FFmpeg cannot either."""
    try:
        av = import_av()
    except BadAudio as error:
        raise BadAudio(reason or str(error)) from None
    try:
        container = av.open(source, options={"format_whitelist": _DEMUXERS}, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise BadAudio(reason or f"unreadable: {_av_reason(error)}") from None
    with container:
        if not container.streams.audio:
            raise BadAudio("unreadable: holds no sound")
        frames = _av_frames(container)
        first = next(frames, None)
        if first is None:
            raise BadAudio(reason or "unreadable: no sound can be decoded")
        rate, channels = first.sample_rate, len(first.layout.channels)
        blocks = _fitted(_coalesced(_alike(first, frames)), container, rate)
        yield Stream(rate, channels, None, blocks)


def _av_reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return "unknown or damaged format" if "Invalid data" in text or text == "Invalid argument" else text


def _av_frames(container: Any) -> Iterator[Any]:  # Any: PyAV is imported where it is used
    """Decoded frames of the first sound. Bytes that are no sound are passed over at both ends, but not between."""
    av = import_av()
    stream, samples, failed = container.streams.audio[0], 0, False
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            frames = [] if packet is None else packet.decode()
        except av.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            if error.errno == errno.EIO:  # of the disk
                raise BadAudio(f"unreadable: {_av_reason(error)}") from None
            failed = failed or samples > 0
            continue
        if packet is None:
            return
        for frame in frames:
            if failed:
                raise BadAudio(f"damaged: it cannot be decoded from {samples / frame.sample_rate:.2f} s on")
            samples += frame.samples
            yield frame


def _alike(first: Any, others: Iterator[Any]) -> Iterator[np.ndarray]:  # Any: as above
    """Frames as float32 [C, n], full scale 1; all of the rate and channels of the first."""
    yield _to_float(first)
    for frame in others:
        if (frame.sample_rate, frame.layout.name) != (first.sample_rate, first.layout.name):
            raise BadAudio("its sample rate or channels change part way; split it")
        yield _to_float(frame)


def _to_float(frame: Any) -> np.ndarray:  # Any: as above
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, len(frame.layout.channels)).T
    full_scale = _FULL_SCALE.get(frame.format.name.removesuffix("p"))
    if full_scale is None:
        return samples.astype(np.float32)
    return ((samples.astype(np.float64) - (128 if samples.dtype == np.uint8 else 0)) / full_scale).astype(np.float32)


def _coalesced(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Join small arrays [C, n] to blocks."""
    held: list[np.ndarray] = []
    size = 0
    for frame in frames:
        held.append(frame)
        size += frame.size
        if size >= BLOCK:
            yield np.concatenate(held, axis=1)
            held, size = [], 0
    if held:
        yield np.concatenate(held, axis=1)


def _fitted(blocks: Iterator[np.ndarray], container: Any, sample_rate: int) -> Iterator[np.ndarray]:  # Any: as above
    """Leave out an encoder's padding behind the end that the file declares.

    Raises:
        BadAudio: there are fewer samples than the file declares.
    """
    stream, name = container.streams.audio[0], container.format.name.split(",")[0]
    if name not in _TELLS_END or not stream.duration:
        yield from blocks
        return
    declared = round(stream.duration * stream.time_base * sample_rate)
    done = 0
    held: list[np.ndarray] = []
    for block in blocks:
        inside = max(0, min(block.shape[1], declared - done))
        if inside:
            yield block[:, :inside]
        if inside < block.shape[1]:
            held.append(block[:, inside:])
        done += block.shape[1]
    if done < declared and name in _TELLS_SAMPLES:
        raise BadAudio(f"truncated: {done} of {declared} samples could be decoded")
    if done - declared > _PADDING:
        yield from held
