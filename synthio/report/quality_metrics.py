"""How good a set of synthetic clips is: pure functions over embeddings, scores, counts and captions.

frechet_distance(synthetic, real)  # of embeddings [N, E] and [M, E]
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

MIN_CLIPS = 2  # a covariance needs two
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


def frechet_extrapolated(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> float:
    """The Fréchet distance that sets without end would have; noisy, and below 0 where the sets are alike.

    The distance of samples is too large by about a constant over their size (Chong and Forsyth 2020), here on either
    side. So it is d + c of all clips and d + 2c of halves of both, and d is twice the first less the second. The
    second is a mean over halves that are drawn at random.

    Raises:
        ValueError: a set has fewer than four rows.
    """
    halves = []
    for _ in range(HALVINGS):
        parts = [np.array_split(values[rng.permutation(len(values))], 2) for values in (x, y)]
        halves += [frechet_distance(a, b) for a, b in zip(*parts, strict=True)]
    return 2 * frechet_distance(x, y) - float(np.mean(halves))


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
