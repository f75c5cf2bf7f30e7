"""From latents to the sound of clips: no more is decoded than is heard, in parts that memory holds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from synthio.batching import Halving
from synthio.models.base import TextToAudio

STEP = 16  # frames: clips of nearly the same length are decoded together


def samples_of(seconds: float, model: TextToAudio) -> int:
    """Samples of a clip of this length, at least one."""
    return max(1, round(seconds * model.sample_rate))


def frames_to_decode(seconds: float, model: TextToAudio, available: int) -> int:
    """Latent frames, of the `available` ones, that hold all that the sound of a clip of this length depends on."""
    if model.decoder_reach is None:
        return available
    return min(available, math.ceil((model.sounding_frames(seconds) + model.decoder_reach) / STEP) * STEP)


def decode_clips(
    model: TextToAudio, latents: torch.Tensor, seconds: Sequence[float], fitting: Halving
) -> list[np.ndarray]:
    """The sound [C, T] of each clip, cut to its length.

    Clips are decoded with others of equally many frames, so that a clip does not depend on the lengths of the others.

    Args:
        model: whose decoder is used.
        latents: [B, D, L].
        seconds: length of each clip.
        fitting: how many clips the memory holds. Where it runs out, these alone are decoded again, in smaller parts.
    """
    frames = [frames_to_decode(length, model, latents.shape[2]) for length in seconds]
    clips: list[np.ndarray] = [np.empty(0)] * len(frames)
    for count in sorted(set(frames)):
        rows = [row for row, own in enumerate(frames) if own == count]
        decoded = fitting.run(lambda part: model.decode(part).cpu(), latents[rows, :, :count])
        for row, audio in zip(rows, decoded, strict=True):
            clips[row] = audio.numpy()[:, : samples_of(seconds[row], model)]
    return clips
