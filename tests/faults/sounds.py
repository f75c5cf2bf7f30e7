"""Damaged sound files of every format: what is read is what the file says, or is refused in a line."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np

from synthio.audio import BadAudio, probe, read_audio
from tests.encoders import encode
from tests.faults.trials import Outcome, Silent, check_message, judged
from tests.faults_tools import MUTATIONS, cut

COUNT, LEAST, WAIT_S = 2000, 200, 60

RATE = 16000
# (name, soundfile's subtype), then (name, FFmpeg's codec, rate)
LIBSNDFILE = (
    ("a.wav", "PCM_16"), ("b.wav", "PCM_24"), ("c.wav", "FLOAT"), ("d.wav", "PCM_U8"), ("e.wav", "IMA_ADPCM"),
    ("f.flac", "PCM_16"), ("g.flac", "PCM_24"), ("h.ogg", "VORBIS"), ("i.ogg", "OPUS"), ("j.mp3", "MPEG_LAYER_III"),
    ("k.aiff", "PCM_16"), ("l.aiff", "FLOAT"), ("m.au", "PCM_16"), ("n.caf", "PCM_16"), ("o.w64", "PCM_16"),
    ("p.rf64", "PCM_16"),
)  # fmt: skip
FFMPEG = (("q.m4a", "aac", RATE), ("r.webm", "libopus", 48000), ("s.wma", "wmav2", RATE), ("t.mp3", "libmp3lame", RATE))
# Formats whose header says how long they are: a shorter one is cut, and must not be taken for whole.
DECLARING = (".wav", ".flac", ".aiff", ".au", ".caf", ".w64", ".rf64")
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
MAX_LEVEL = 1000.0  # 60 dB above full scale: no recording
PADDING = (
    4700  # samples by which codecs that do not declare their length may be off: two frames and the encoder's delay
)


def tone(rng: np.random.Generator, rate: int) -> np.ndarray:
    """[T] of about 0.4 s: a noisy tone."""
    t = np.arange(round(0.4 * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * 440 * t) + 0.05 * rng.normal(size=len(t))).astype(np.float32)


@cache
def originals(folder: Path) -> dict[str, bytes]:
    """A small file of every format: name -> bytes."""
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name, subtype in LIBSNDFILE:
        sound = tone(rng, 48000 if subtype == "OPUS" else RATE)
        soundfile.write(
            folder / name, sound, 48000 if subtype == "OPUS" else RATE, subtype=subtype,
            format={"rf64": "RF64", "w64": "W64"}.get(name.split(".")[1]),
        )  # fmt: skip
    for name, codec, rate in FFMPEG:
        encode(folder / name, codec, tone(rng, rate), rate)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def length_of(path: Path) -> int:
    """Samples of an undamaged file."""
    try:
        return read_audio(path)[0].shape[1]
    except BadAudio:
        return 0


def header(data: bytes, rng: random.Random) -> bytes:
    """A field of the header is another number."""
    kind = rng.choice(["<B", "<H", "<I", ">H", ">I", "<Q", ">Q"])
    size = struct.calcsize(kind)
    place = rng.randrange(min(len(data), 120) - size)
    return data[:place] + struct.pack(kind, rng.choice(EXTREMES) & (256**size - 1)) + data[place + size :]


def check_sound(path: Path, whole: int, must_be_whole: bool) -> str:
    """Read a file as the stages do.

    Args:
        whole: samples of the undamaged file.
        must_be_whole: it was cut, and its header says how long it was.
    """
    rate, channels, frames = probe(path)
    audio, read_rate = read_audio(path, mono=False)
    got, length = audio.shape
    if rate != read_rate or got != channels or abs(length - frames) > PADDING:
        raise Silent(f"{path.name}: probed {rate} Hz, {channels} x {frames}, read {read_rate} Hz, {got} x {length}")
    if not length or audio.dtype != np.float32 or not np.isfinite(audio).all():
        raise Silent(f"{path.name}: read {length} samples of {audio.dtype}, some of them no numbers")
    if np.abs(audio).max() > MAX_LEVEL:
        raise Silent(f"{path.name}: a level of {np.abs(audio).max():g} times full scale is taken for sound")
    if must_be_whole and length < whole:
        raise Silent(f"{path.name}: {length} of {whole} samples are taken for the whole")
    return f"{path.name}: {length} samples"


def trials(numbers: Iterable[int], seed: int, folder: Path, shared: Path) -> Iterator[Outcome]:
    files = originals(folder / "whole")
    lengths = {name: length_of(folder / "whole" / name) for name in files}
    names = sorted(files)

    def trial(rng: random.Random) -> str:
        name, mutation = rng.choice(names), rng.choice([*MUTATIONS, header, header, header])
        path = folder / name
        path.write_bytes(mutation(files[name], rng))
        try:
            done = check_sound(path, lengths[name], mutation is cut and path.suffix in DECLARING)
        except BadAudio as error:
            check_message(str(error))
            raise
        except Silent as error:
            raise Silent(f"{mutation.__name__}: {error}") from None
        return f"{mutation.__name__}: {done}"

    return judged(numbers, seed, "sounds", trial, (BadAudio,))
