"""Clips of several lengths in the place of a tensor."""

from __future__ import annotations

import numpy as np
import torch

from synthio.classification.ragged import Ragged, over_shapes, rows_by_shape

CLIPS = [torch.full((size,), float(value)) for value, size in enumerate((3, 5, 3, 2, 5))]


def test_rows_are_chosen_as_those_of_a_tensor():
    clips = Ragged(CLIPS)
    for rows in (slice(1, 4), torch.tensor([4, 0, 4]), np.array([True, False, False, True, True])):
        wanted = torch.arange(5)[rows].tolist()
        assert [int(clip[0]) for clip in clips[rows]] == wanted
    assert len(clips) == 5 and {clip.dtype for clip in Ragged([c.half() for c in CLIPS]).float()} == {torch.float32}


def test_each_shape_is_asked_once_and_the_order_stays():
    asked = []

    def network(batch):
        asked.append(tuple(batch.shape))
        return torch.stack([batch.sum(dim=1), batch[:, 0]], dim=1)

    out = over_shapes(network, Ragged(CLIPS))
    assert rows_by_shape(Ragged(CLIPS)) == [[3], [0, 2], [1, 4]] and asked == [(1, 2), (2, 3), (2, 5)]
    assert out.tolist() == [[float(clip.sum()), float(clip[0])] for clip in CLIPS]
    whole = torch.ones(2, 3)
    assert over_shapes(lambda batch: batch, whole) is whole


def test_gradients_come_back_to_each_clip():
    clips = [clip.clone().requires_grad_() for clip in CLIPS]
    weights = torch.arange(1.0, 6.0)
    (over_shapes(lambda batch: batch.sum(dim=1, keepdim=True), Ragged(clips))[:, 0] * weights).sum().backward()
    assert [clip.grad.unique().tolist() for clip in clips] == [[weight] for weight in weights.tolist()]
