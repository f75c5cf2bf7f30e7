"""Clips of several labels: ranks, thresholds, quotas and balance go by label, not by combination."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from synthio.filtering.rounds import balanced_counts, class_counts, cut, quotas
from synthio.filtering.thresholds import (
    AGREEMENT,
    Limit,
    below_limits,
    best_of_each,
    cosine_at,
    joint_scores,
    outranked,
    probability,
    quantile_limits,
    rows_by_class,
)
from synthio.manifest import LEAVES, REASON, SCORE

NAMES = [f"l{i}" for i in range(25)]


def table_of(cells, scores, **columns) -> pd.DataFrame:
    rows = {"path": [f"/{i:03d}.wav" for i in range(len(cells))], "label": cells, REASON: [""] * len(cells)}
    return pd.DataFrame({**rows, SCORE: [f"{score:.6f}" for score in scores], **columns})


@pytest.fixture
def unique():
    """200 clips of two labels each, no combination twice."""
    pairs = list(itertools.combinations(NAMES, 2))
    rng = np.random.default_rng(0)
    chosen = [pairs[i] for i in rng.permutation(len(pairs))[:200]]
    return table_of([";".join(pair) for pair in chosen], rng.random(200))


def stayed(table, reasons) -> pd.DataFrame:
    return table[[not reason for reason in reasons]]


def test_the_papers_score_has_the_models_scale():
    """sigmoid(2) for a cosine of .1 at a scale of 20; and back."""
    assert probability(0.1, 20) == pytest.approx(0.880797)
    assert cosine_at(0.880797, 20) == pytest.approx(0.1, abs=1e-6)
    assert probability(cosine_at(0.85, 33.3), 33.3) == pytest.approx(0.85)


def test_a_rank_keeps_its_share_of_unique_combinations(unique):
    """By combination each clip would be the only and best of its class, and all 200 would stay."""
    reasons, limits = outranked(unique, SCORE, 70)
    kept, had, has = stayed(unique, reasons), class_counts(unique), class_counts(stayed(unique, reasons))
    assert 140 <= len(kept) <= 155
    assert all(has[name] >= np.floor(0.7 * had[name]) for name in NAMES)
    assert limits.keys() == set(NAMES)
    assert kept[SCORE].astype(float).mean() > unique[SCORE].astype(float).mean() + 0.1  # the better ones
    dropped = next(reason for reason in reasons if reason)
    assert "in its class, of which" in dropped


def test_labels_of_a_single_clip_do_not_keep_all_of_them():
    """50 clips with labels that no other has: the best 70 % of all, for each is the best of its own."""
    table = table_of([f"a{i};b{i}" for i in range(50)], np.linspace(0, 1, 50))
    reasons, limits = outranked(table, SCORE, 70)
    assert [row for row, reason in enumerate(reasons) if not reason] == list(range(15, 50))
    assert limits.keys() == {f"{letter}{i}" for letter in "ab" for i in range(15, 50)}
    limits = quantile_limits(table, SCORE, 70)
    assert {limit.origin for limit in limits.values()} == {"the 0.3 quantile of all 50 clips"}
    assert sum(not reason for reason in below_limits(table, SCORE, limits)) == 35
    alone = table_of([f"a{i}" for i in range(50)], np.linspace(0, 1, 50))  # single-label data: a class keeps one
    assert outranked(alone, SCORE, 70)[0] == [""] * 50


def test_leaf_labels_are_the_classes_where_there_are_any(unique):
    table = unique.assign(**{LEAVES: [cell.split(";")[0] for cell in unique["label"]]})
    assert rows_by_class(table).keys() == {cell.split(";")[0] for cell in unique["label"]}
    counts = Counter(table[LEAVES])
    kept = Counter(stayed(table, outranked(table, SCORE, 50)[0])[LEAVES])
    assert kept.total() == 100 and all(kept[name] >= count // 2 for name, count in counts.items())


def test_who_stays_by_hand():
    """x and y keep one each: the clip of both is second of two in x and first of two in y, and takes both places."""
    table = table_of(["x", "x;y", "y", "x;z"], [0.9, 0.8, 0.1, 0.2])
    stay, order = best_of_each(table, SCORE, {"x": 1, "y": 1, "z": 0})
    assert order == {"x": [0, 1, 3], "y": [1, 2], "z": [3]} and stay == {0, 1}
    assert best_of_each(table, SCORE, {"x": 0, "y": 0, "z": 1})[0] == {3}


def test_a_clip_needs_the_lowest_limit_of_its_labels():
    table = table_of(["x", "y", "x;y"], [0.5, 0.5, 0.5])
    reasons = below_limits(table, SCORE, {"x": Limit(0.6, "of x"), "y": Limit(0.4, "of y")})
    assert reasons == ["clap_score 0.500000 is below 0.6, of x", "", ""]


def test_a_joint_rank_is_the_mean_over_the_labels():
    table = table_of(["x", "x;y", "y"], [0.9, 0.5, 0.1], **{AGREEMENT: ["0.9", "0.5", "0.1"]})
    assert joint_scores(table, 0.5) == pytest.approx([1, (0 + 1) / 2, 0])


def test_quotas_and_balance_are_of_labels(unique):
    quota = quotas(["l0;l1", "l0;l2"] + [f"{name};l0" for name in NAMES[3:]], 2)
    assert quota["l0"] == 48 and quota["l1"] == 2
    gold = quotas(list(unique["label"]), 1)
    assert gold == class_counts(unique)  # so that all have their quota
    fewer = unique[[not cell.startswith("l0;") or row % 4 == 0 for row, cell in enumerate(unique["label"])]]
    fewer = fewer.reset_index(drop=True)
    counts = balanced_counts(gold, class_counts(fewer))
    has = class_counts(stayed(fewer, cut(fewer, counts, gold, 0.0)))
    assert all(has[name] >= counts[name] for name in NAMES) and has.total() < 0.75 * class_counts(fewer).total()
    assert "balance: its class keeps the best" in "".join(cut(fewer, counts, gold, 0.0))
