"""Doubts: labels that were exchanged are found, and nothing is said where nothing can be known."""

from __future__ import annotations

import numpy as np
import pytest

from synthio.classification.doubts import find_doubts
from synthio.classification.probe import FEW_CLIPS_C, fit_probe

LABELS = ["a", "b", "c"]


def world(clips=45, seed=0):
    """Three clouds that touch [N, 8], and whose they are [N]."""
    rng = np.random.default_rng(seed)
    truth = np.arange(clips) % 3
    return np.eye(8)[truth] * 6 + rng.normal(size=(clips, 8)), truth


def targets_of(classes, count=3):
    return np.eye(count, dtype=np.float32)[classes]


def test_exchanged_labels_are_the_most_doubtful_ones():
    x, truth = world()
    given = truth.copy()
    given[[4, 20, 30]] = (truth[[4, 20, 30]] + 1) % 3
    found = find_doubts(x, targets_of(given), LABELS, np.zeros(45, bool), multi_label=False, seed=0)
    assert set(np.argsort(found.confidence)[:3]) == {4, 20, 30}
    assert [found.heard_as[row] for row in (4, 20, 30)] == [LABELS[truth[row]] for row in (4, 20, 30)]
    assert (found.heard_confidence >= found.confidence).all()


def test_synthetic_clips_are_heard_by_the_probe_of_the_gold_ones():
    """The numbers are those of that probe; a synthetic clip teaches nobody."""
    x, truth = world()
    synthetic = np.arange(45) >= 30
    found = find_doubts(x, targets_of(truth), LABELS, synthetic, multi_label=False, seed=0)
    logits = fit_probe(x[:30], targets_of(truth[:30]), FEW_CLIPS_C, False).logits(x[30:])
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(found.confidence[30:], chances[np.arange(15), truth[30:]])
    alone = find_doubts(x[:30], targets_of(truth[:30]), LABELS, synthetic[:30], multi_label=False, seed=0)
    np.testing.assert_allclose(found.confidence[:30], alone.confidence)


def test_clips_of_a_group_are_never_asked_about_each_other():
    """Copies with a wrong label agree with each other, unless they are one group."""
    x, truth = world()
    given = truth.copy()
    x[1::9], given[1::9] = x[1], 2
    groups = np.arange(45)
    groups[1::9] = 1
    options = {"labels": LABELS, "synthetic": np.zeros(45, bool), "multi_label": False, "seed": 0}
    apart = find_doubts(x, targets_of(given), groups=groups, **options)
    mixed = find_doubts(x, targets_of(given), **options)
    assert apart.confidence[1] < 0.5 < mixed.confidence[1]


def test_a_label_of_one_clip_is_not_judged():
    x, truth = world(31)
    given = truth.copy()
    given[given == 2] = 0
    given[30] = 2
    found = find_doubts(x, targets_of(given), LABELS, np.zeros(31, bool), multi_label=False, seed=0)
    assert np.isnan(found.confidence[30]) and not np.isnan(found.confidence[:30]).any()


@pytest.mark.parametrize("classes", [[0], [0, 0, 0], [0, 1]])
def test_too_few_gold_clips_say_nothing(classes):
    x = np.random.default_rng(0).normal(size=(len(classes), 4))
    none = np.zeros(len(classes), bool)
    assert find_doubts(x, targets_of(classes), LABELS, none, multi_label=False, seed=0) is None


def test_several_labels():
    """By hand, of synthetic clips: the least probability that a label is right, and the labels from one half on."""
    x, truth = world(60)
    targets = targets_of(truth)
    targets[::4, 1] = 1
    synthetic = np.arange(60) >= 40
    found = find_doubts(x, targets, LABELS, synthetic, multi_label=True, seed=0)
    chances = 1 / (1 + np.exp(-fit_probe(x[:40], targets[:40], FEW_CLIPS_C, True).logits(x[40:])))
    for row, chance, wanted in zip(range(40, 60), chances, targets[40:], strict=True):
        right = [p if has else 1 - p for p, has in zip(chance, wanted, strict=True)]
        assert found.confidence[row] == pytest.approx(min(right))
        heard = [c for c in range(3) if chance[c] >= 0.5] or [int(chance.argmax())]
        assert found.heard_as[row] == ";".join(LABELS[c] for c in heard)
        assert found.heard_confidence[row] == pytest.approx(min(chance[heard]))
    assert {len(one.split(";")) for one in found.heard_as} >= {1}


def test_without_gold_clips_nothing_is_said():
    """A run that trains on synthetic clips alone."""
    targets = np.eye(2)[[0, 1, 0, 1]]
    assert find_doubts(np.eye(4), targets, ["a", "b"], np.ones(4, bool), multi_label=False, seed=0) is None
