"""Embeddings of synthetic clips are brought to where the real ones are."""

from __future__ import annotations

import numpy as np
import pytest

from synthio.classification.centring import centred
from synthio.classification.heads import fit_head
from synthio.classification.trials import Made, with_made
from tests.classification.toy import make_task

REAL, MADE = np.array([False] * 4 + [True] * 4), slice(4, None)


def test_the_shift_by_hand_counts_labels_alike():
    """Three of four real clips are of the first label, one of the made ones: a plain mean would be of other labels."""
    targets = np.eye(2)[[0, 0, 0, 1, 0, 1, 1, 1]]
    x = np.array([[0.0], [1], [2], [9], [11], [19], [20], [21]])
    moved = centred({"ast": x}, targets, REAL)["ast"]
    shift = (0.75 * 1 + 0.25 * 9) - (0.75 * 11 + 0.25 * 20)
    assert moved[:4] == pytest.approx(x[:4]) and moved[MADE] == pytest.approx(x[MADE] + shift)
    assert x[4, 0] == 11, "the caller's are as they were"


def test_clips_of_several_labels_and_labels_of_one_kind():
    targets = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]])
    x = np.arange(8.0)[:, None]
    moved = centred({"ast": x}, targets, REAL)["ast"]  # the third label has no real clip
    shift = (0.4 * 0.5 + 0.6 * 2) - (0.4 * 5 + 0.6 * 5.5)
    assert moved[MADE] == pytest.approx(x[MADE] + shift)
    apart = np.eye(2)[[0, 0, 0, 0, 1, 1, 1, 1]]
    assert centred({"ast": x}, apart, REAL)["ast"] is x
    assert centred({"ast": x}, targets, np.zeros(8, bool))["ast"] is x, "there is no synthetic clip"


def test_directions_stay_of_unit_length():
    x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    moved = centred({"clap": x}, np.eye(2)[[0, 1] * 4], REAL)["clap"]
    assert np.linalg.norm(moved, axis=1) == pytest.approx(1, abs=1e-6) and moved.dtype == np.float32
    assert not np.allclose(moved[MADE], x[MADE])


def test_a_generator_with_a_sound_of_its_own_helps_as_much_as_one_without():
    """A shift of all made clips alike, ten times what tells labels apart, has no part in what a head learns."""
    task, rng = make_task(), np.random.default_rng(1)
    rows = rng.integers(0, len(task.targets), 40)
    made = {kind: x[rows] + 0.1 * rng.standard_normal((40, x.shape[1])) for kind, x in task.train.items()}
    shift = rng.standard_normal(made["ast"].shape[1]) * 10
    probes = []
    for x in (made["ast"], made["ast"] + shift):
        mixed, _ = with_made(task, Made(made | {"ast": x}, task.targets[rows]), 1.0, "probe_ast")
        probes.append(fit_head("probe_ast", mixed).logits(task.valid))
    assert probes[1] == pytest.approx(probes[0], abs=1e-4)
