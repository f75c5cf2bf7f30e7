"""Intervals hold: by formulas, by scipy, and by how often they hold the truth in simulations."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from synthio.classification import intervals
from synthio.classification.intervals import (
    NOT_TOLD,
    Units,
    basis,
    draw_counts,
    interval,
    p_value,
    resampled,
    told,
    units_of,
    widening,
)
from synthio.classification.metrics import mean_average_precision

CLIPS = Units(np.arange(100), "clips")


def right_and_wrong(right: np.ndarray):
    """(truth, probabilities) of a classifier that is right on some clips, bool [N]."""
    truth = np.eye(2)[np.arange(len(right)) % 2]
    return truth, np.where(right[:, None], truth, 1 - truth) * 0.8 + 0.1


def accuracy_interval(right: np.ndarray, units: Units, seed: int = 0) -> tuple[float, float]:
    draws = draw_counts(units, 1000, seed)
    return interval([right.mean()], [resampled(*right_and_wrong(right), False, draws)], [units])


# Units


def test_clips_of_a_group_are_one_unit():
    table = pd.DataFrame({"path": list("abcd"), "group": ["r2", "r1", "r2", ""]})
    units = units_of(table)
    assert units.kind == "groups" and units.count == 3 and units.of_clip[0] == units.of_clip[2]
    assert len(set(units.of_clip[[0, 1, 3]])) == 3  # a clip without a group is its own
    assert units.record() == {"unit": "groups", "units": 3, "clips": 4}
    for without in (table[["path"]], table.assign(group="")):
        assert units_of(without).record() == {"unit": "clips", "units": 4, "clips": 4}


def test_a_draw_takes_groups_whole():
    units = Units(np.array([0, 1, 1, 2, 2, 2]), "groups")
    draws = draw_counts(units, 200, 0)
    assert draws.shape == (200, 6) and (draws[:, 1] == draws[:, 2]).all() and (draws[:, 3] == draws[:, 5]).all()
    assert (draws[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert (draws == draw_counts(units, 200, 0)).all() and (draws != draw_counts(units, 200, 1)).any()


# One set of test clips


def test_the_interval_of_clips_is_that_of_the_binomial():
    low, high = accuracy_interval(np.arange(100) < 70, CLIPS)
    spread = 1.96 * np.sqrt(0.7 * 0.3 / 100)
    assert (low, high) == pytest.approx((0.7 - spread, 0.7 + spread), abs=0.02)


def test_the_interval_of_clips_is_scipys_basic_one():
    right = np.random.default_rng(3).random(400) < 0.7
    units = Units(np.arange(400), "clips")
    theirs = stats.bootstrap((right.astype(float),), np.mean, method="basic", rng=np.random.default_rng(0))
    assert accuracy_interval(right, units) == pytest.approx(tuple(theirs.confidence_interval), abs=0.008)


def test_clips_of_one_recording_are_no_hundred_observations():
    """20 recordings of 5 clips that are all right or all wrong: the spread is that of 20 answers."""
    right, units = np.repeat(np.arange(20) < 14, 5), Units(np.repeat(np.arange(20), 5), "groups")
    low, high = accuracy_interval(right, units)
    half = stats.t.ppf(0.975, 19) * np.sqrt(0.7 * 0.3 / 19)
    assert (high - low) / 2 == pytest.approx(half, rel=0.1)
    by_clip = accuracy_interval(right, CLIPS)
    assert high - low > 1.9 * (by_clip[1] - by_clip[0])


def test_of_one_recording_nothing_can_be_told():
    units = Units(np.zeros(100, int), "groups")
    assert accuracy_interval(np.arange(100) < 70, units) == (0, 1)
    drawn = np.full(1000, 0.4)
    assert interval([0.4], [drawn], [units], -1) == (-1, 1) and p_value([0.4], [drawn], [units]) == 1


def test_all_right_is_not_certain():
    """Of 100 right answers the exact binomial interval begins at .025^(1/100)."""
    low, high = accuracy_interval(np.ones(100, bool), CLIPS)
    exact = stats.binomtest(100, 100).proportion_ci()
    assert (low, high) == pytest.approx((exact.low, exact.high))
    assert accuracy_interval(np.zeros(100, bool), CLIPS) == pytest.approx((0, 1 - exact.low))
    assert interval([0.0], [np.zeros(10)], [CLIPS], -1) == (0, 0)  # of a difference: the same answers


# Average precision


def sounds(rng: np.random.Generator, clips: int, classes: int = 17):
    """Truth and scores of a classifier of multi-label clips: the sizes and shares of DCASE 2017's evaluation set."""
    shares, gains = np.linspace(0.02, 0.1, classes), np.linspace(0, 1.5, classes)
    truth = rng.random((clips, classes)) < shares
    return truth, truth * gains + rng.normal(size=truth.shape) + 0.5 * rng.normal(size=(clips, 1))


def test_intervals_of_map_hold_the_truth_where_percentiles_do_not():
    """The truth is that of 100,000 clips. 95 of 100 intervals should hold it; 60 samples tell .95 from .75."""
    rng = np.random.default_rng(0)
    true = mean_average_precision(*sounds(rng, 100_000))
    clips, samples = 1103, 60
    units = Units(np.arange(clips), "clips")
    holds, percentiles_hold, middles = 0, 0, []
    for seed in range(samples):
        truth, scores = sounds(rng, clips)
        drawn = resampled(truth, scores, True, draw_counts(units, 200, seed))
        low, high = interval([mean_average_precision(truth, scores)], [drawn], [units])
        plain = np.percentile(drawn, [2.5, 97.5])
        holds, percentiles_hold = holds + (low <= true <= high), percentiles_hold + (plain[0] <= true <= plain[1])
        middles.append(((low + high) / 2 - true, plain.mean() - true))
    basic_bias, plain_bias = np.mean(middles, axis=0)
    assert holds >= 0.85 * samples > percentiles_hold
    assert abs(basic_bias) < 0.007 < 0.014 < plain_bias


@pytest.mark.slow
def test_fsd50ks_evaluation_set_takes_less_than_a_minute():
    rng = np.random.default_rng(0)
    truth, scores = sounds(rng, 10231, 200)
    units = Units(np.arange(10231), "clips")
    started = time.process_time()
    drawn = resampled(truth, scores, True, draw_counts(units, intervals.RESAMPLES, 0))
    interval([mean_average_precision(truth, scores)], [drawn], [units])
    assert time.process_time() - started < 60


def test_a_hundredth_of_fsd50ks_draws_takes_less_than_a_second():
    truth, scores = sounds(np.random.default_rng(0), 10231, 200)
    draws = draw_counts(Units(np.arange(10231), "clips"), 10, 0)
    started = time.process_time()
    resampled(truth, scores, True, draws)
    assert time.process_time() - started < 4  # half of it sorts, once


# Cells


def simulated(cells: int, groups: int, training: float, shared: bool, seed: int):
    """(values, draws, units) of cells that differ by training draws and by test groups of 4 clips; the truth is 0.

    Differences of two classifiers are continuous here; the mean of a group's clips is what it draws.
    """
    rng = np.random.default_rng(seed)
    units = Units(np.arange(groups), "groups")
    noise = rng.normal(size=(1 if shared else cells, groups)) + np.zeros((cells, 1))
    clips = 0.02 * rng.normal(size=(cells, groups)) + 0.1 * noise + training * rng.normal(size=(cells, 1))
    draws = [draw_counts(units, 200, 0 if shared else seed * cells + cell) / groups for cell in range(cells)]
    return list(clips.mean(axis=1)), [draw @ x for draw, x in zip(draws, clips, strict=True)], [units] * cells


@pytest.mark.parametrize(
    ("cells", "training", "shared"), [(3, 0.04, False), (3, 0.0, False), (5, 0.02, False), (5, 0.03, True)]
)
def test_intervals_over_cells_hold_the_truth(cells, training, shared):
    """Plain percentiles over groups alone do not, where training clips matter."""
    found = [simulated(cells, 25, training, shared, seed) for seed in range(120)]
    holds = np.mean([low <= 0 <= high for low, high in (interval(*one, -1) for one in found)])
    assert holds >= 0.92
    if training >= 0.04:
        groups_alone = [np.percentile(np.mean(drawn, axis=0), [2.5, 97.5]) for _, drawn, _ in found]
        assert np.mean([low <= 0 <= high for low, high in groups_alone]) < 0.85


def test_equal_cells_tell_nothing_new_of_clips():
    drawn = 0.1 + 0.02 * np.random.default_rng(0).normal(size=1000)
    one, three = (interval([0.1] * n, [drawn] * n, [CLIPS] * n, -1) for n in (1, 3))
    assert one == pytest.approx(three)


def test_three_cells_that_differ_are_as_wide_as_students_t():
    """+20, +10 and 0 points with next to no error of the test clips: 10 +- 4.30 * 10 / sqrt(3), about."""
    drawn = [np.full(2000, x) for x in (0.2, 0.1, 0.0)]
    low, high = interval([0.2, 0.1, 0.0], drawn, [CLIPS] * 3, -1)
    half = stats.t.ppf(0.975, 2) * 0.1 / np.sqrt(3)
    assert (low, high) == pytest.approx((0.1 - half, 0.1 + half), abs=0.05) and low < 0
    assert told(low, high) == NOT_TOLD


def test_widening_by_hand():
    assert widening(2) == pytest.approx(12.7062 / 1.95996 * np.sqrt(2), rel=1e-4)
    assert widening(100000) == pytest.approx(1, abs=1e-4)


# p and words


@pytest.mark.parametrize("shift", [0.0, 0.03, 0.05, 0.2])
def test_p_is_below_a_twentieth_where_the_interval_leaves_0_out(shift):
    drawn = shift + 0.02 * np.random.default_rng(0).normal(size=4000)
    low, high = interval([shift], [drawn], [CLIPS], -1)
    p = p_value([shift], [drawn], [CLIPS])
    assert (p < 0.05) == (told(low, high) != NOT_TOLD)
    assert p == pytest.approx(2 * stats.norm.sf(shift / (0.02 * widening(100))), abs=0.03)


def test_what_is_told():
    assert [told(*x) for x in ((0.01, 0.2), (-0.2, -0.01), (-0.1, 0.1), (0.0, 0.2), (0.0, 0.0))] == [
        *("better", "worse"),
        *(NOT_TOLD,) * 3,
    ]


def test_what_it_is_over_in_words():
    clips, groups = CLIPS.record(), Units(np.array([0, 0, 1]), "groups").record()
    assert basis([clips], 1) == "100 test clips" and basis([clips, clips], 6) == "200 test clips and 6 cells"
    assert basis([groups, groups], 2) == "the 4 groups of 6 test clips and 2 cells"
