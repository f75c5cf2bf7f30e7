"""Embeddings and their cache, and the regression of a linear probe."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthio.classification import probe
from synthio.cli import UserError

# Regression


def clouds(classes: int, clips: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points around a centre for each class, far from the origin and unequally scaled; targets 0/1."""
    rng = np.random.default_rng(seed)
    truth = np.arange(clips) % classes
    centres = 3 * np.random.default_rng(99).normal(size=(classes, 6))
    x = (centres[truth] + rng.normal(size=(clips, 6))) * [1, 10, 0.1, 1, 1, 1] + 5
    return x.astype(np.float32), np.eye(classes, dtype=np.float32)[truth]


@pytest.mark.parametrize("classes", [2, 4])
def test_weights_give_scikit_learns_probabilities(classes):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, targets = clouds(classes, 60, 0)
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000)).fit(x, targets.argmax(axis=1))
    logits = torch.from_numpy(probe.fit_probe(x, targets, 0.1, False).logits(x))
    np.testing.assert_allclose(logits.softmax(dim=1).numpy(), fitted.predict_proba(x), atol=1e-4)


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_clip_of_weight_2_counts_as_two_clips(multi_label):
    rng = np.random.default_rng(0)
    x, targets = rng.normal(size=(30, 4)), np.eye(3, dtype=np.float32)[np.arange(30) % 3]
    x = (x - x.mean(axis=0)) / x.std(axis=0)  # so that scaling is the same with and without the second copy
    mirrored, doubled = np.concatenate([x, -x]), np.concatenate([targets, targets[::-1]])
    weights = np.ones(60)
    weights[:5] = weights[30:35] = 2
    rows = np.concatenate([np.arange(60), np.arange(5), np.arange(30, 35)])
    weighted = probe.fit_probe(mirrored, doubled, 1.0, multi_label, weights)
    from_copies = probe.fit_probe(mirrored[rows], doubled[rows], 1.0, multi_label)
    plain = probe.fit_probe(mirrored, doubled, 1.0, multi_label)
    np.testing.assert_allclose(weighted.logits(x), from_copies.logits(x), atol=0.15)
    assert np.abs(weighted.logits(x) - from_copies.logits(x)).max() < np.abs(weighted.logits(x) - plain.logits(x)).max()


def test_classes_without_clips_and_with_all_clips():
    x, targets = clouds(2, 20, 0)
    absent = np.insert(targets, 1, 0, axis=1)
    chances = torch.from_numpy(probe.fit_probe(x, absent, 1.0, False).logits(x)).softmax(dim=1)
    assert chances[:, 1].max() < 1e-6 and (chances.argmax(dim=1).numpy() == absent.argmax(axis=1)).all()
    everywhere = np.insert(absent, 0, 1, axis=1)
    chances = torch.from_numpy(probe.fit_probe(x, everywhere, 1.0, True).logits(x)).sigmoid().numpy()
    assert ((chances > 0.5) == everywhere).all()
    with pytest.raises(UserError, match="same label"):
        probe.fit_probe(x, np.tile([0.0, 1.0], (20, 1)), 1.0, False)


def test_the_sum_of_probes_is_a_probe():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 4)).astype(np.float32)
    one, two = (probe.LinearProbe(rng.normal(size=(3, 4)), rng.normal(size=3)) for _ in range(2))
    summed = probe.LinearProbe.summed([one, two], [0.3, 2.0], -0.5)
    np.testing.assert_allclose(summed.logits(x), 0.3 * one.logits(x) + 2 * two.logits(x) - 0.5, atol=1e-5)
    assert summed.weight.dtype == summed.bias.dtype == np.float32


@pytest.mark.parametrize("multi_label", [False, True])
def test_surprise_is_the_cross_entropy_of_each_clip(multi_label):
    x, targets = clouds(3, 30, 0)
    fitted = probe.fit_probe(x, targets, 1.0, multi_label)
    logits, truth = torch.from_numpy(fitted.logits(x)), torch.from_numpy(targets).double()
    if multi_label:
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
    else:
        expected = torch.nn.functional.cross_entropy(logits, truth)
    surprises = probe.surprise(fitted.logits(x), targets, multi_label)
    assert surprises.mean() == pytest.approx(expected.item()) and surprises.shape == (30,)


def test_all_labels_at_once_are_scikit_learns_one_by_one():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(3)
    x, weights = rng.normal(size=(80, 5)), rng.uniform(0.2, 2, 80)
    targets = (x @ rng.normal(size=(5, 4)) + rng.normal(size=(80, 4)) > 1).astype(np.float32)
    mean = np.average(x, axis=0, weights=weights)
    z = (x - mean) / np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weights))
    chances = torch.from_numpy(probe.fit_probe(x, targets, 0.3, True, weights).logits(x)).sigmoid().numpy()
    for column, truth in enumerate(targets.T):
        theirs = LogisticRegression(C=0.3, max_iter=2000).fit(z, truth, sample_weight=weights)
        np.testing.assert_allclose(chances[:, column], theirs.predict_proba(z)[:, 1], atol=2e-3)
