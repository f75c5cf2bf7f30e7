"""Windows of clips of every length, as those that numpy cuts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthio.audio import cut_windows as cut
from synthio.portable.windows import cut_windows

LENGTHS = (1, 3, 6, 7, 8, 13, 14, 15, 20, 21)


@pytest.mark.parametrize("length", LENGTHS)
def test_they_are_those_of_the_embedders(length):
    clips = np.arange(2 * length, dtype=np.float32).reshape(2, length)
    found = cut_windows(torch.from_numpy(clips), 7, is_repeated=True)
    np.testing.assert_array_equal(found.numpy(), np.stack([cut(clip[None], 7)[:, 0] for clip in clips]))


@pytest.mark.parametrize("length", LENGTHS)
def test_a_shorter_clip_may_stay_as_it_is(length):
    clips = np.arange(2 * length, dtype=np.float32).reshape(2, length)
    found = cut_windows(torch.from_numpy(clips), 7, is_repeated=False).numpy()
    wanted = [cut(clip[None], 7)[:, 0] if length >= 7 else clip[None] for clip in clips]
    np.testing.assert_array_equal(found, np.stack(wanted))
