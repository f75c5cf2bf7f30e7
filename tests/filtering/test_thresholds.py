"""Thresholds of scores: absolute, by class, by rank, and those of the real clips."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synthio.filtering.rounds import balanced_counts, class_counts, cut, quotas
from synthio.filtering.thresholds import (
    Limit,
    auto_limits,
    below_limits,
    best_first,
    best_of_each,
    copies,
    cosine_at,
    joint_scores,
    outranked,
    probability,
    quantile_limits,
    ranks,
    reject,
    repeats,
    rows_by_class,
    score_cells,
)
from synthio.manifest import AGREEMENT, JOINT, LEAVES, REASON, SCORE
from tests.filtering.toy import scored


def kept(table: pd.DataFrame, reasons) -> str:
    """The names of the clips that no reason rejects: 'ac'."""
    return "".join(Path(p).stem for p, r in zip(table["path"], reject(table, reasons)["reason"], strict=True) if not r)


TEN = [("dog", 0.1 * i) for i in range(10)]


def test_absolute_keeps_what_reaches_the_threshold():
    table = scored(("dog", 0.85), ("dog", 0.849999), ("rain", 1), ("rain", 0), column="clap_probability")
    reasons = below_limits(table, "clap_probability", dict.fromkeys(["dog", "rain"], Limit(0.85)))
    assert kept(table, reasons) == "ac"
    assert reasons[1] == "clap_probability 0.849999 is below 0.85"


@pytest.mark.parametrize(
    ("keep_percent", "rows", "expected"),
    [
        (30, TEN, "hij"),
        (70, TEN, "defghij"),
        (100, TEN, "abcdefghij"),
        (1, TEN, "j"),
        (50, [("dog", 0.2)], "a"),
        (50, [("dog", 0.3)] * 4, "abcd"),  # all tie with the limit
        (50, [("dog", 0.1), ("dog", 0.2), ("rain", 0.8), ("rain", 0.9)], "bd"),
        (50, [("dog", 0.9, "silent"), ("dog", 0.1), ("dog", 0.2)], "c"),  # what is out has no part in the quantile
        (50, [], ""),
    ],
)
def test_class_quantile(keep_percent, rows, expected):
    table = scored(*rows)
    assert kept(table, below_limits(table, SCORE, quantile_limits(table, SCORE, keep_percent))) == expected


def test_a_quantile_that_falls_on_a_score_keeps_it():
    """100 * .07 is a little more than 7 in binary; the clip on the limit must not fall through."""
    table = scored(*[("dog", 0.013 * i) for i in range(11)])
    for keep_percent in range(1, 101):
        limit = quantile_limits(table, SCORE, keep_percent)["dog"].value
        place = 10 * (1 - keep_percent / 100)
        if abs(place - round(place)) < 1e-9:
            assert limit == pytest.approx(0.013 * round(place), abs=1e-9)
            assert kept(table, below_limits(table, SCORE, {"dog": Limit(limit)})) == "abcdefghijk"[round(place) :]


@pytest.mark.parametrize(
    ("keep_percent", "rows", "expected"),
    [
        (30, TEN, "hij"),
        (31, TEN, "ghij"),  # rounded up
        (100, TEN, "abcdefghij"),
        (1, TEN, "j"),
        (50, [("dog", 0.2)], "a"),
        (50, [("dog", 0.3)] * 4, "ab"),  # exactly half, ties decided by the clip
        (50, [("dog", 0.1), ("dog", 0.2), ("rain", 0.8), ("rain", 0.9)], "bd"),
        (50, [("dog", 0.9, "silent"), ("dog", 0.1), ("dog", 0.2)], "c"),
        (50, [], ""),
    ],
)
def test_rank(keep_percent, rows, expected):
    table = scored(*rows)
    reasons, limits = outranked(table, SCORE, keep_percent)
    assert kept(table, reasons) == expected
    assert limits.keys() == {label for label, *_ in rows}


def test_ties_are_decided_the_same_way_in_every_row_order():
    table = scored(("dog", 0.3), ("dog", 0.3), ("dog", 0.5), ("dog", 0.3), ("dog", 0.1))
    for order in itertools.permutations(range(5)):
        turned = table.iloc[list(order)].reset_index(drop=True)
        assert sorted(kept(turned, outranked(turned, SCORE, 60)[0])) == ["a", "b", "c"]
    hashed = table.assign(sha256=["9", "8", "7", "6", "5"])  # the content decides before the path
    assert kept(hashed, outranked(hashed, SCORE, 60)[0]) == "bcd"


def test_a_clip_of_several_labels_is_in_the_class_of_each():
    found = rows_by_class(scored(("rain; dog", 0.1), ("dog;rain", 0.2), ("dog", 0.3)))
    assert {label: list(rows) for label, rows in found.items()} == {"dog": [0, 1, 2], "rain": [0, 1]}


def test_auto_takes_the_quantile_of_the_real_clips_of_the_class():
    valid = scored(*[("dog", 0.1 * i) for i in range(1, 6)], *[("rain", 0.6 + 0.1 * i) for i in range(1, 6)])
    limits = auto_limits(valid, SCORE, 0.25, ["dog", "rain"])
    assert {name: limit.value for name, limit in limits.items()} == {"dog": 0.2, "rain": 0.8}
    assert limits["dog"].origin == "the 0.25 quantile of its 5 validation clips"
    table = scored(("dog", 0.2), ("dog", 0.19), ("rain", 0.79), ("rain", 0.8))
    reasons = below_limits(table, SCORE, limits)
    assert kept(table, reasons) == "ad"
    assert reasons[1] == "clap_score 0.190000 is below 0.2, the 0.25 quantile of its 5 validation clips"


def test_auto_falls_back_to_all_real_clips_and_says_so():
    valid = scored(*[("dog", 0.1 * i) for i in range(5)], *[("rain", 0.5)] * 4, ("rain", 0.9, "silent"))
    limits = auto_limits(valid, SCORE, 0.5, ["dog", "rain", "siren"])
    assert limits["dog"].value == 0.2
    assert limits["rain"].value == limits["siren"].value == 0.4  # the median of 0 .1 .2 .3 .4 .5 .5 .5 .5
    assert limits["rain"].origin == "the 0.5 quantile of all 9 validation clips, as the class has 4"
    assert limits["siren"].origin.endswith("as the class has 0")
    with pytest.raises(ValueError, match="no validation clip can be used"):
        auto_limits(scored(("dog", math.nan, "silent")), SCORE, 0.5, ["dog"])


def test_ranks_share_their_mean_where_scores_are_equal():
    assert ranks(np.array([0.3, 0.9, 0.3, 0.1])).tolist() == [2.5, 1, 2.5, 4]
    assert ranks(np.array([1.0, 1.0])).tolist() == [1.5, 1.5]


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        # CLAP's ranks are 1 2 3, the classifier's 3 1 2; rank 1 of 3 is worth 1, rank 3 is worth 0
        (0, [1, 0.5, 0]),
        (1, [0, 1, 0.5]),
        (0.5, [0.5, 0.75, 0.25]),
        (0.25, [0.75, 0.625, 0.125]),
    ],
)
def test_joint_scores_by_hand(weight, expected):
    table = scored(("dog", 0.9), ("dog", 0.8), ("dog", 0.1), ("rain", 0.5), ("dog", 1.0, "silent"))
    table[AGREEMENT] = score_cells([0.2, 0.99, 0.5, 0.01, math.nan])
    assert joint_scores(table, weight).tolist()[:4] == pytest.approx([*expected, 1])  # alone in its class: 1
    assert math.isnan(joint_scores(table, weight)[4])


def test_a_joint_tie_goes_to_the_clip_that_clap_prefers():
    table = scored(("dog", 0.1), ("dog", 0.9)).assign(**{JOINT: score_cells([0.5, 0.5])})
    assert best_first(table, JOINT, np.array([0, 1])) == [1, 0]


def test_copies_and_repeats_by_hand():
    table = scored(("dog", 0.1), ("dog", 0.2), ("rain", 0.3))
    cosines = np.array([[0.95, 0.91], [0.90, 0.2], [0.1, 0.99]])
    reasons = copies(table, cosines, ["the gold clip x.wav", "the test clip y.wav"], 0.9)
    assert reasons[0] == "near-duplicate of the gold clip x.wav (cosine 0.950)"
    assert reasons[1] == ""  # not above
    assert "the test clip y.wav" in reasons[2]
    assert copies(table, np.zeros((3, 0)), [], 0.9) == ["", "", ""]
    # c is best; b is like c, a is like b alone, and b is gone
    between = np.array([[1, 0.95, 0.1], [0.95, 1, 0.95], [0.1, 0.95, 1]])
    assert repeats(table, SCORE, between, 0.9) == {1: 2}
    assert repeats(reject(table, ["", "", "silent"]), SCORE, between, 0.9) == {0: 1}


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
