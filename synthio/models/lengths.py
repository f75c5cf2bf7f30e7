"""From seconds to latent frames: plain arithmetic, which `--check` does without a network, too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from synthio.cli import AUTO
from synthio.options import WHOLE


@dataclass(frozen=True)
class Grid:
    """The latent frames of a model as its checkpoint has them.

    Attributes:
        frames: of the longest clip.
        seconds: length of all of them.
        reach: how many frames away a latent still changes an instant of the decoded sound; None: any.
        step: the network takes multiples of so many frames.
    """

    frames: int
    seconds: float
    reach: int | None = None
    step: int = 1

    def filled(self, seconds: float) -> int:
        """Frames that a clip of this length fills, at least one."""
        needed = math.ceil(round(seconds / self.seconds * self.frames, 6))  # of floats, 3 may be 3 + 1e-16
        return min(max(1, needed), self.frames)

    def taken(self, frames: int) -> int:
        """So many frames, rounded up to what the network takes."""
        return min(self.frames, math.ceil(frames / self.step) * self.step)

    def chosen(self, asked: float | str, longest_s: float) -> int:
        """Frames of a run's latents.

        auto: those that the longest clip fills, and those beyond it that its last sample is decoded from. A decoder
        that hears all frames, as the embedded one, gets all of them.

        Args:
            asked: `LatentLength.latent_seconds`.
            longest_s: length of the longest clip.
        """
        if asked == WHOLE or (asked == AUTO and self.reach is None):
            return self.frames
        beyond = self.reach or 0
        return self.taken(self.filled(longest_s) + beyond if asked == AUTO else self.filled(float(asked)))


def oobleck_reach(strides: Sequence[int]) -> int:
    """How many latent frames Oobleck's decoder hears, to each side.

    Args:
        strides: by which it raises the rate, from the latents on. A convolution of width 7 stands before and after
            them; at each there is a transposed one of twice its width, and three residual ones of 7 with dilations 1,
            3 and 9.
    """
    reach, rate = 3.0, 1
    for stride in strides:
        reach += 2 / rate
        rate *= stride
        reach += 3 * (1 + 3 + 9) / rate
    return math.ceil(reach + 3 / rate)
