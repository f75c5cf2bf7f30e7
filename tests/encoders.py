"""Sounds in formats that soundfile does not write: made by FFmpeg's encoders, or by joining bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def encode(
    path: Path, codec: str, audio: np.ndarray, sample_rate: int, form: str | None = None, *, vbr=False, **options: str
) -> Path:
    """Write audio [T] or [C, T] by an encoder of FFmpeg; the suffix names the container, unless `form` does."""
    import av

    audio = np.atleast_2d(audio).astype(np.float32)
    layout = "mono" if len(audio) == 1 else "stereo"
    with av.open(str(path), "w", format=form, options=options) as container:
        rate = 48000 if codec in ("libopus", "ac3") else sample_rate
        coder = {"flags": "+qscale", "global_quality": "236"} if vbr else {"b": "64000"} if codec == "wmav2" else {}
        stream = container.add_stream(codec, rate=rate, options=coder)
        stream.layout = layout
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = sample_rate, 0
        fitter = av.AudioResampler(format=stream.format, layout=layout, rate=stream.rate)
        for part in [*fitter.resample(frame), *fitter.resample(None), None]:
            container.mux(stream.encode(part))
    return path


def tone(seconds: float, sample_rate: int = 16000, freq_hz: float = 440.0, level: float = 0.3) -> np.ndarray:
    """A sine [T]."""
    return level * np.sin(2 * np.pi * freq_hz * np.arange(round(seconds * sample_rate)) / sample_rate)


def join(path: Path, *others: Path | bytes) -> Path:
    """Write the bytes of files behind each other."""
    path.write_bytes(b"".join(part if isinstance(part, bytes) else part.read_bytes() for part in others))
    return path


def id3(size: int) -> bytes:
    """An ID3v2 tag with a picture of `size` bytes of noise."""
    body = b"APIC" + size.to_bytes(4, "big") + b"\0\0" + np.random.default_rng(0).bytes(size)
    length = len(body)
    return b"ID3\x03\0\0" + bytes((length >> shift) & 127 for shift in (21, 14, 7, 0)) + body
