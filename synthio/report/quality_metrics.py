"""How good a set of synthetic clips is: pure functions over embeddings, scores, counts and captions.

value, error = kernel_distance(synthetic, real, median_distance(real))  # of embeddings [N, E] and [M, E]
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

MIN_CLIPS = 2  # a covariance needs two
MIN_CLIPS_KERNEL = 3  # the error is of sets without one clip, which needs two others
KAD_SCALE = 100.0  # as its authors report it
HALVINGS = 10  # random splits into halves that the extrapolation averages over
DRAWS = 10  # random subsets that make two sets equally large


def _deviations(x: np.ndarray) -> np.ndarray:
    """R [min(N, E), E] with R.T @ R the covariance (N - 1 in the denominator) of the rows of x [N, E]."""
    x = x.astype(np.float64)
    # numpy's stubs say that qr returns both factors whatever the mode.
    return np.asarray(np.linalg.qr((x - x.mean(axis=0)) / np.sqrt(len(x) - 1), mode="r"))


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Squared Fréchet distance of the Gaussians of two sets of embeddings [N, E] and [M, E] (FAD, Kilgour et al. 2019).

    |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2)), where with C = R.T R the last trace is the sum of the singular
    values of R1 R2.T, because the eigenvalues of C1 C2 are their squares. So no root of a matrix is taken that fewer
    clips than dimensions leave without full rank.

    Raises:
        ValueError: a set has fewer than two rows.
    """
    from scipy.linalg import svdvals

    if min(len(x), len(y)) < MIN_CLIPS:
        raise ValueError(f"a Fréchet distance needs {MIN_CLIPS} clips on either side, not {len(x)} and {len(y)}")
    shift = x.mean(axis=0, dtype=np.float64) - y.mean(axis=0, dtype=np.float64)
    rx, ry = _deviations(x), _deviations(y)
    spread = (rx**2).sum() + (ry**2).sum() - 2 * svdvals(rx @ ry.T).sum()
    return float(shift @ shift + max(spread, 0.0))


def at_equal_size(x: np.ndarray, y: np.ndarray, size: int, rng: np.random.Generator) -> float:
    """The Fréchet distance of `size` clips of either set, a mean over random ones where there are more.

    What few clips add to it depends on their numbers, so that only distances of the same numbers can be compared.
    """
    draws = 1 if len(x) == len(y) == size else DRAWS
    return float(np.mean([frechet_distance(*(rng.permutation(z)[:size] for z in (x, y))) for _ in range(draws)]))


def frechet_extrapolated(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> float:
    """The Fréchet distance that sets without end would have; noisy, and below 0 where the sets are alike.

    The distance of samples is too large by about a constant over their size (Chong and Forsyth 2020), here on either
    side. So it is d + c of all clips and d + 2c of halves of both, and d is twice the first less the second. The
    second is a mean over halves that are drawn at random.

    Fewer clips than dimensions leave the covariances without full rank, and their bias is no constant over their size.

    Raises:
        ValueError: a set has no more rows than columns.
    """
    if min(len(x), len(y)) <= x.shape[1]:
        raise ValueError(f"{len(x)} and {len(y)} clips, of which each must be more than {x.shape[1]} dimensions")
    halves = []
    for _ in range(HALVINGS):
        parts = [np.array_split(values[rng.permutation(len(values))], 2) for values in (x, y)]
        halves += [frechet_distance(a, b) for a, b in zip(*parts, strict=True)]
    return 2 * frechet_distance(x, y) - float(np.mean(halves))


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|x_i - y_j|^2 of the rows of two sets [N, E] and [M, E], float64 [N, M]."""
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(x.astype(np.float64), y.astype(np.float64), "sqeuclidean"))


def median_distance(x: np.ndarray) -> float:
    """The median distance of two rows of x [N >= 2, E], which is the bandwidth of `kernel_distance`; never 0."""
    distances = np.sqrt(squared_distances(x, x)[np.triu_indices(len(x), 1)])
    return float(np.median(distances)) or 1.0


def kernel_distance(x: np.ndarray, y: np.ndarray, bandwidth: float) -> tuple[float, float]:
    """Kernel audio distance of two sets of embeddings [N, E] and [M, E], and its standard error.

    100 times the unbiased estimate of the squared maximum mean discrepancy (Gretton et al. 2012, equation 3) with the
    kernel exp(-|x - y|^2 / (2 bandwidth^2)), the bandwidth being the median distance of the reference clips (KAD, Chung
    et al. 2025, arXiv 2502.15602). Its expectation is 0 for two samples of one distribution, however few they are, so
    it may be below 0; and it takes no distribution for a Gaussian. The error is the jackknife's, over the clips of
    both sets.

    Raises:
        ValueError: a set has fewer than three rows.
    """
    n, m = len(x), len(y)
    if min(n, m) < MIN_CLIPS_KERNEL:
        raise ValueError(f"a kernel distance needs {MIN_CLIPS_KERNEL} clips on either side, not {n} and {m}")
    kxx, kxy, kyy = (np.exp(-squared_distances(a, b) / (2 * bandwidth**2)) for a, b in ((x, x), (x, y), (y, y)))
    rows_x, rows_y = kxx.sum(axis=1) - 1, kyy.sum(axis=1) - 1  # without the clip itself, whose kernel is 1
    cross_x, cross_y = kxy.sum(axis=1), kxy.sum(axis=0)
    xx, yy, xy = rows_x.sum(), rows_y.sum(), kxy.sum()
    value = xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)
    without_x = (xx - 2 * rows_x) / ((n - 1) * (n - 2)) + yy / (m * (m - 1)) - 2 * (xy - cross_x) / ((n - 1) * m)
    without_y = (yy - 2 * rows_y) / ((m - 1) * (m - 2)) + xx / (n * (n - 1)) - 2 * (xy - cross_y) / (n * (m - 1))
    variance = (n - 1) * without_x.var() + (m - 1) * without_y.var()
    return KAD_SCALE * float(value), KAD_SCALE * float(np.sqrt(variance))


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Rows of norm 1, float64; a row of zeros stays."""
    x = x.astype(np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def mean_pairwise_distance(x: np.ndarray) -> float:
    """Mean of 1 - cosine over all pairs of different rows of x [N >= 2, E]."""
    u, n = unit_rows(x), len(x)
    total = u.sum(axis=0)
    return float(1 - (total @ total - (u**2).sum()) / (n * (n - 1)))


def vendi_score(x: np.ndarray) -> float:
    """How many different clips a set is worth (Friedman and Dieng 2023): 1 where all are equal, N where all differ.

    exp of the entropy of the eigenvalues of K / N, K being the cosines of x [N, E].
    """
    values = np.linalg.svd(unit_rows(x) / np.sqrt(len(x)), compute_uv=False) ** 2
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def vendi_pair(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Vendi scores of two sets [N, E] and [M, E] at the size of the smaller one, for the score grows with the size."""
    size = min(len(x), len(y))

    def score(values: np.ndarray) -> float:
        if len(values) == size:
            return vendi_score(values)
        return float(np.mean([vendi_score(rng.permutation(values)[:size]) for _ in range(DRAWS)]))

    return score(x), score(y)


def agreement(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Of each clip the share of its labels that are among as many best scored ones; for one label, whether it is best.

    Args:
        scores: [N, C].
        targets: 0/1 [N, C], at least one 1 in each row.

    Returns:
        float64 [N].
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    counts = targets.sum(axis=1).astype(int)
    hits = [targets[i, order[i, :count]].sum() / count for i, count in enumerate(counts)]
    return np.array(hits, np.float64)


def evenness(counts: Sequence[int]) -> float:
    """Entropy of the classes over its largest value: 1 where all have as many clips, 0 where one has all."""
    total = sum(counts)
    if total == 0 or len(counts) < 2:
        return 0.0
    shares = np.array([count / total for count in counts if count])
    return float(-(shares * np.log(shares)).sum() / np.log(len(counts)))


def words_of(text: str) -> list[str]:
    """Lower-case words."""
    return re.findall(r"\w+", text.lower())


def distinct_ngrams(texts: Sequence[str], n: int) -> float:
    """Different n-grams over all n-grams (distinct-n, Li et al. 2016), 0 without any; more texts make it smaller."""
    ngrams = [tuple(words[i : i + n]) for words in map(words_of, texts) for i in range(len(words) - n + 1)]
    return len(set(ngrams)) / len(ngrams) if ngrams else 0.0
