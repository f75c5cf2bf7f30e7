"""Suggestions: margins by hand, and what is nearest to a label."""

from __future__ import annotations

import numpy as np
import pytest

from synthio.report.suggestions import chances_of, label_similarity, least_sure, margins_of


def test_margins_by_hand():
    chances = np.array([[0.5, 0.3, 0.2], [0.34, 0.33, 0.33], [0.9, 0.05, 0.05]])
    np.testing.assert_allclose(margins_of(chances, multi_label=False), [0.2, 0.01, 0.85])
    np.testing.assert_allclose(margins_of(chances, multi_label=True), [0.0, 0.16, 0.4])


def test_a_label_is_as_near_as_its_nearest_gold_clip():
    similarity = np.array([[0.1, 0.9], [0.5, 0.2], [0.3, 0.4]])
    targets = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    assert label_similarity(similarity, targets).tolist() == [[0.3, 0.9], [0.5, 0.4]]


def test_the_least_sure_come_first_and_each_sound_once():
    chances = np.array([[0.9, 0.1], [0.5, 0.5], [0.55, 0.45], [0.52, 0.48], [0.6, 0.4]])
    hashes = ["h0", "h1", "h2", "h1", "h4"].__getitem__
    found = least_sure(chances, ["a", "b"], hashes, {"h2"}, 2, multi_label=False)
    assert [one.row for one in found] == [1, 4] and found[1].doubt == "a (0.60) or b (0.40)"
    assert found[0].label == "a" and found[0].kind == "unsure"
    assert len(least_sure(chances, ["a", "b"], hashes, set(), 9, multi_label=False)) == 4


@pytest.mark.parametrize("multi_label", [False, True])
def test_clips_between_two_labels_are_the_least_sure(multi_label):
    rng = np.random.default_rng(0)
    gold = np.repeat(np.eye(2, 6), 8, axis=0) * 4 + 0.3 * rng.normal(size=(16, 6))
    targets = np.repeat(np.eye(2, dtype=np.float32), 8, axis=0)
    others = np.array([[4, 0], [2, 2], [0, 4]]) @ np.eye(2, 6)
    chances = chances_of(gold, targets, others, multi_label)
    assert margins_of(chances, multi_label).argmin() == 1 and chances[0, 0] > 0.55 < chances[2, 1]
