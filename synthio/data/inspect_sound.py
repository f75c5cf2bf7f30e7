"""What decoding a clip once tells: its hash and size, why it cannot be used, and what is odd about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthio.audio import BadAudio, ContentHash, Stream, mix_down, open_audio
from synthio.cli import progress
from synthio.data.workers import available_cores, spread

SHORT_S = 0.1
LOUD_DB = 20.0  # over full scale: more than recorders of floats leave as headroom
CANCELLED_DB, SILENT_DB = 40.0, 80.0  # the mono mix is so far below the channels, on average
_CHUNK = 32  # clips that are handed to a worker at once
_FEW = 2000  # clips: below that, starting processes costs more than it saves


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
    """Decode a clip once, in blocks: the memory that it takes does not depend on its length."""
    try:
        with open_audio(path) as stream:
            return _listen(stream)
    except BadAudio as error:
        return Sound(reason=" ".join(str(error).split()))


def _listen(stream: Stream) -> Sound:
    """Hash the mono mix of a stream, and see what is odd about it."""
    digest, frames = ContentHash(stream.sample_rate, 1), 0
    low = high = 0.0  # of the mix
    peak = mix_energy = energy = 0.0
    for block in stream.blocks:
        mix = mix_down(block)
        digest.update(mix)
        if not frames:
            low = high = float(mix[0, 0])
        frames += mix.shape[1]
        low, high = min(low, float(mix.min())), max(high, float(mix.max()))
        peak = max(peak, float(block.max()), -float(block.min()))
        if stream.channels > 1:
            mix_energy += float(np.vdot(mix, mix))
            energy += float(np.vdot(block, block)) / stream.channels
    if energy > 0 and mix_energy <= energy * 10 ** (-CANCELLED_DB / 10):
        below = 10 * np.log10(energy / mix_energy) if mix_energy else np.inf
        mixed = "silent" if below > SILENT_DB else f"{below:.0f} dB below them"
        return Sound(reason=f"the channels cancel: the mono mix is {mixed}; keep one channel, or turn one over")
    # at 16 bits, as the hash has it: floats below its last step would all be one sound
    seconds, silent = frames / stream.sample_rate, round(low * 32768) == round(high * 32768)
    odd = (
        "digital silence" if silent else "",
        f"{seconds:.3g} s long, shorter than {SHORT_S:g} s" if seconds < SHORT_S else "",
        f"a peak of {20 * np.log10(peak):+.0f} dB over full scale" if peak > 10 ** (LOUD_DB / 20) else "",
    )
    return Sound(
        digest.hexdigest(), seconds, stream.sample_rate, stream.channels, silent, warnings=tuple(filter(None, odd))
    )


def inspect_all(paths: Sequence[str]) -> list[Sound]:
    """Decode clips on all cores; the order stays. Threads do for few clips.

    Raises:
        UserError: a process that decodes was killed.
    """
    from concurrent.futures import ThreadPoolExecutor

    cores = available_cores()
    if len(paths) >= _FEW and cores > 1:  # what Python does for a short clip holds its lock as long as decoding
        return list(progress(spread(inspect, paths, _CHUNK), "listening", total=len(paths)))
    with ThreadPoolExecutor(cores) as pool:
        return list(progress(pool.map(inspect, paths), "listening", total=len(paths)))
