"""What decoding a clip once tells: its hash and size, why it cannot be used, and what is odd about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synthio.cli import progress

MAX_THREADS = 8


@dataclass(frozen=True)
class Sound:
    """What decoding a clip told: its hash and size, or why it cannot be used (`reason`, else "")."""

    sha256: str = ""
    duration_s: float = 0.0
    sample_rate: int = 0
    channels: int = 0
    silent: bool = False
    reason: str = ""
    warnings: tuple[str, ...] = ()  # what is odd about a clip that can be used, with values

    @property
    def identity(self) -> str:
        """What two clips of the same sound share; "" of a clip that has none, because it is silent."""
        return "" if self.silent else self.sha256


def inspect(path: str) -> Sound:
    """Decode a clip once."""
    import numpy as np

    from synthio.audio import BadAudio, content_hash, read_audio

    try:
        audio, sample_rate = read_audio(path, mono=False)
    except (BadAudio, OSError) as error:
        return Sound(reason=" ".join(str(error).split()))
    mix = audio.mean(axis=0, keepdims=True, dtype=np.float32)
    return Sound(
        sha256=content_hash(mix, sample_rate),
        duration_s=audio.shape[1] / sample_rate,
        sample_rate=sample_rate,
        channels=audio.shape[0],
        silent=not audio.any(),
        warnings=() if audio.any() else ("digital silence",),
    )


def inspect_all(paths: Sequence[str]) -> list[Sound]:
    """Decode clips on a few threads (libsndfile works outside the GIL); the order stays."""
    from concurrent.futures import ThreadPoolExecutor
    from os import cpu_count

    with ThreadPoolExecutor(min(MAX_THREADS, cpu_count() or 1)) as pool:
        return list(progress(pool.map(inspect, paths), "listening", total=len(paths)))
