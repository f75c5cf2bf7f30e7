"""Inputs of clips that are of several lengths, used as a tensor [N, ...] is.

    clips = Ragged([torch.zeros(16000), torch.zeros(8000)])
    clips[torch.tensor([1, 0])].to("cuda")
    over_shapes(network, clips)  # [2, K]

Clips of one shape go through a network together and nothing is padded: several of these networks hear padding, so
that a clip would be another one in other company, and than in transformers' pipeline, which hears one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch


class Ragged:
    """N tensors, of any shapes."""

    def __init__(self, clips: Sequence[torch.Tensor]):
        self.clips = list(clips)

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self.clips)

    def __getitem__(self, rows: slice | torch.Tensor | np.ndarray) -> Ragged:
        """Some of them: a slice, numbers, or a bool for each."""
        if isinstance(rows, slice):
            return Ragged(self.clips[rows])
        return Ragged([self.clips[row] for row in torch.arange(len(self))[rows].tolist()])

    def to(self, device: str | torch.device) -> Ragged:
        """The same on a device."""
        return Ragged([clip.to(device) for clip in self.clips])

    def float(self) -> Ragged:
        """The same in float32."""
        return Ragged([clip.float() for clip in self.clips])


Features = torch.Tensor | Ragged


def rows_by_shape(clips: Ragged) -> list[list[int]]:
    """Which rows are of one shape, shorter shapes first."""
    found: dict[tuple[int, ...], list[int]] = {}
    for row, clip in enumerate(clips):
        found.setdefault(tuple(clip.shape), []).append(row)
    return [found[shape] for shape in sorted(found)]


def over_shapes(function: Callable[[torch.Tensor], torch.Tensor], clips: Features) -> torch.Tensor:
    """function(batch of one shape [B, ...]) -> [B, K], of all clips in their order [N, K]."""
    if isinstance(clips, torch.Tensor):
        return function(clips)
    rows = rows_by_shape(clips)
    parts = [function(torch.stack([clips.clips[row] for row in some])) for some in rows]
    order = torch.tensor([row for some in rows for row in some], device=parts[0].device)
    return torch.cat(parts)[order.argsort()]
