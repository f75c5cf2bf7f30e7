"""The windows that frozen models hear of a clip, where its length is not known yet."""

from __future__ import annotations

import torch


def cut_windows(waveform: torch.Tensor, samples: int, is_repeated: bool) -> torch.Tensor:
    """As `synthio.audio.cut_windows`: consecutive windows that cover a clip, of which the last ends with it.

    Args:
        waveform: [B, T].
        samples: of a window.
        is_repeated: a shorter clip is repeated to fill a window; else it is a shorter window.

    Returns:
        [B, N, samples], or [B, 1, T].
    """
    length = waveform.shape[1]
    count = (length + samples - 1) // samples
    size = samples if is_repeated else torch.sym_min(length, samples)
    starts = torch.arange(count) * samples
    starts = (starts - (starts + size - length).clamp(min=0)).clamp(min=0)
    places = starts[:, None] + torch.arange(size)
    return waveform[:, places % torch.full((1,), length)]  # of a number that is not known the exporter has no remainder
