"""Distances of distributions, diversity and agreement: closed forms and other libraries."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from synthio.report import quality_metrics


def gaussian(rng, rows: int, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Rows whose own mean and covariance are exactly these."""
    z = rng.normal(size=(rows, len(mean)))
    z -= z.mean(axis=0)
    z = z @ np.linalg.inv(np.linalg.cholesky(np.cov(z.T))).T
    return z @ np.linalg.cholesky(covariance).T + mean


def test_frechet_distance_of_gaussians_is_the_closed_form():
    """Of commuting covariances: |m1 - m2|^2 + sum (sqrt a - sqrt b)^2."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.1, 3, 6), rng.uniform(0.1, 3, 6)
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    x = gaussian(rng, 40, np.zeros(6), turn @ np.diag(a) @ turn.T)
    y = gaussian(rng, 70, np.arange(6.0), turn @ np.diag(b) @ turn.T)
    expected = 55 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert quality_metrics.frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("rows_x", "rows_y"), [(50, 90), (5, 90), (4, 7)])
def test_frechet_distance_is_that_of_scipys_matrix_root(rows_x, rows_y):
    """Also where fewer clips than dimensions leave the covariances singular."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(rows_x, 12)), 2 * rng.normal(size=(rows_y, 12)) @ rng.normal(size=(12, 12))
    c, d = np.cov(x.T), np.cov(y.T)
    root = sqrtm(c) @ d @ sqrtm(c)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(c + d - 2 * sqrtm(root)).real
    assert quality_metrics.frechet_distance(x, y) == pytest.approx(expected, rel=1e-5)


def test_frechet_distance_is_a_squared_distance():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(9, 20)), rng.normal(size=(30, 20)) + 1
    turn, _ = np.linalg.qr(rng.normal(size=(20, 20)))
    found = quality_metrics.frechet_distance(x, y)
    assert quality_metrics.frechet_distance(y, x) == pytest.approx(found)
    assert quality_metrics.frechet_distance(x @ turn + 5, y @ turn + 5) == pytest.approx(found)
    assert quality_metrics.frechet_distance(3 * x, 3 * y) == pytest.approx(9 * found)
    assert quality_metrics.frechet_distance(rng.permutation(x), y) == pytest.approx(found)
    assert quality_metrics.frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="2 clips on either side, not 1 and 30"):
        quality_metrics.frechet_distance(x[:1], y)


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_extrapolation_takes_away_most_of_what_few_clips_add(shift):
    """Two samples of unit Gaussians in 48 dimensions, whose true distance is 48 shift^2."""
    plain, better = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(60, 48)), rng.normal(size=(90, 48)) + shift
        plain.append(quality_metrics.frechet_distance(x, y) - 48 * shift**2)
        better.append(quality_metrics.frechet_extrapolated(x, y, rng) - 48 * shift**2)
    assert min(plain) > 5
    assert abs(np.mean(better)) < np.mean(plain) / 4


def test_diversity_by_hand_and_by_another_library():
    from sklearn.metrics.pairwise import cosine_distances

    rng = np.random.default_rng(3)
    x = rng.normal(size=(7, 5)) + 1
    expected = cosine_distances(x)[np.triu_indices(7, 1)].mean()
    assert quality_metrics.mean_pairwise_distance(x) == pytest.approx(expected)
    assert quality_metrics.vendi_score(np.ones((6, 4))) == pytest.approx(1)
    assert quality_metrics.vendi_score(5 * np.eye(6)) == pytest.approx(6)
    two_kinds = np.repeat(np.eye(2), 4, axis=0)
    assert quality_metrics.vendi_score(two_kinds) == pytest.approx(2)
    assert quality_metrics.vendi_pair(np.eye(9), np.eye(9)[:3], rng) == pytest.approx((3, 3))  # at equal sizes


def test_agreement_counts_as_many_answers_as_labels():
    scores = np.array([[0.1, 0.7, 0.2], [0.4, 0.3, 0.2], [0.5, 0.1, 0.4], [0.9, 0.8, 0.1]])
    targets = np.array([[0, 1, 0], [0, 1, 0], [1, 0, 1], [0, 1, 1]])
    assert list(quality_metrics.agreement(scores, targets)) == [1, 0, 1, 0.5]


def test_evenness_and_distinct_by_hand():
    assert quality_metrics.evenness([5, 5, 5]) == pytest.approx(1)
    assert quality_metrics.evenness([7, 0]) == 0 == quality_metrics.evenness([])
    assert quality_metrics.evenness([3, 1]) == pytest.approx(0.8113, abs=1e-4)  # bits of a coin of 3/4
    texts = ["A dog barks", "a dog, a dog"]
    assert quality_metrics.distinct_ngrams(texts, 1) == 3 / 7
    assert quality_metrics.distinct_ngrams(texts, 2) == 3 / 5  # a dog, dog barks, dog a
    assert quality_metrics.distinct_ngrams(texts, 9) == 0
