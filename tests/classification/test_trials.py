"""What left-out clips say: by hand, without a look at them, and of clips that help or do harm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from synthio.classification import trials
from synthio.classification.heads import fit_head, with_valid
from synthio.classification.trials import (
    SHARES,
    Made,
    few,
    folds_of,
    measure,
    named_right,
    sureness,
    told_right,
    with_made,
)
from synthio.cli import AUTO, UserError
from tests.classification.toy import CLASSES, hear, make_task


def made_clips(clips: int = 24, seed: int = 7, wrong: bool = False, noise: float = 1.8) -> Made:
    """Clips like the task's own, or all of them with the label of another."""
    rng = np.random.default_rng(seed)
    targets = np.eye(CLASSES, dtype=np.float32)[np.arange(clips) % CLASSES]
    return Made(hear(targets, rng, noise=noise), np.roll(targets, 1, axis=1) if wrong else targets)


def test_told_right_by_hand():
    logits, targets = np.array([[2.0, 1, 0], [0, 1, 2]]), np.eye(3)[[0, 1]]
    np.testing.assert_array_equal(told_right(logits, targets, False), [[1, 0, 0], [0, 0, 0]])
    chance = 1 / (1 + np.exp([-1.0, 1.0]))  # against the strongest rival: 2 to 1, 1 to 2
    np.testing.assert_allclose(sureness(logits, targets, False), [[chance[0], 0, 0], [0, chance[1], 0]])


def test_of_several_labels_the_mean_is_the_area_under_the_curve():
    rng = np.random.default_rng(0)
    targets = (rng.random((40, 3)) < 0.4).astype(float)
    targets[:, 2] = 1  # a label that all have cannot be told
    logits = np.round(targets + rng.normal(size=(40, 3)), 1)  # with ties
    right = told_right(logits, targets, True)
    for c in range(2):
        area = roc_auc_score(targets[:, c], logits[:, c])
        assert right[targets[:, c] > 0, c].mean() == pytest.approx(area)
    assert (right[:, 2] == 0).all() and (right[targets == 0] == 0).all()
    np.testing.assert_array_equal(sureness(logits, targets, True), right)


def test_a_share_of_the_clips_has_every_class():
    targets = np.eye(3)[[0] * 10 + [1] * 4 + [2]]
    rows = few(np.arange(15), targets, 0.4, np.random.default_rng(0))
    assert len(rows) == 6 and np.bincount(targets[rows].argmax(axis=1)).tolist() == [3, 2, 1]
    assert len(few(np.arange(15), targets, 0.01, np.random.default_rng(0))) == 3
    assert few(np.arange(15), targets, 1.0, np.random.default_rng(0)).tolist() == list(range(15))


def test_every_clip_is_held_out_once_a_draw_with_its_group():
    task = make_task(clips=18, valid=24)
    groups = np.array([f"recording {row // 3}" for row in range(42)])
    task = replace(task, groups=groups)
    for draw in (0, 1):
        folds = [fold for fold in folds_of(task, 2) if fold.draw == draw]
        assert sorted(row for fold in folds for row in fold.held) == list(range(42))
        for fold in folds:
            assert sorted([*fold.held, *fold.train, *fold.valid]) == list(range(42))
            assert fold.train.max() < 18 <= fold.valid.min()
            assert not {*groups[fold.held]} & {*groups[fold.train], *groups[fold.valid]}


def test_too_few_recordings_are_refused():
    """Gold clips in two groups, a label each but for one clip: without the one there is no second label."""
    task = make_task(clips=18, valid=24)
    rows = np.flatnonzero(task.targets.argmax(axis=1) < 2)
    two = replace(task, targets=task.targets[rows], train={kind: x[rows] for kind, x in task.train.items()})
    two = replace(two, rates=np.ones(len(rows)), sources=np.arange(len(rows)))
    two = replace(two, groups=np.array([*(f"g{c}" for c in two.targets.argmax(axis=1)), *(f"v{i}" for i in range(24))]))
    with pytest.raises(UserError, match="give more clips, or more groups"):
        folds_of(two, 1)


def test_made_clips_join_the_gold_ones_unless_they_are_worth_nothing():
    task = replace(make_task(clips=18, valid=24), groups=np.array([f"g{row // 2}" for row in range(42)]))
    mixed, weight = with_made(task, made_clips(6), 0.5, "probe")
    assert weight == 0.5 and len(mixed.targets) == 24 and mixed.sources[18:].tolist() == [-1] * 6
    assert mixed.rates.sum() == pytest.approx(18) and mixed.rates[-1] == pytest.approx(mixed.rates[0] / 2)
    assert len(mixed.groups) == 48 and mixed.groups[24:].tolist() == task.groups[18:].tolist()
    assert len(set(mixed.groups[18:24])) == 6
    assert with_made(task, made_clips(wrong=True), AUTO, "probe") == (task, 0.0)


def test_no_head_hears_what_is_held_out(monkeypatch):
    """Of every fit, neither training nor validation clips are among those that are told by it."""
    task, heard = make_task(clips=18, valid=24), []

    def fit(head, part):
        heard.append({x.tobytes() for x in (*part.train["ast"], *part.valid["ast"])})
        return fit_head(head, part)

    monkeypatch.setattr(trials, "fit_head", fit)
    measure(task, made_clips(6), ["probe"], 1.0, 1)
    folds, united = folds_of(task, 1), with_valid(task).train["ast"]
    alone, more = heard[: len(folds)], heard[len(folds) :]
    assert len(more) == (1 + len(SHARES)) * len(folds)
    for fold, fits in zip(folds, zip(alone, more[0::3], more[1::3], more[2::3], strict=True), strict=True):
        held = {united[row].tobytes() for row in fold.held}
        assert all(not held & clips for clips in fits)


@pytest.mark.slow
def test_clips_that_help_clips_that_harm_and_clips_that_are_left_out():
    task = make_task(clips=12, valid=30, own_head=False)
    good = measure(task, made_clips(60), ["probe"], 1.0, 2)
    assert good.gain.shape == (2, 42) == good.flips.shape and good.gain.mean() > 0.02 and good.flips.mean() > 0
    bad = measure(task, made_clips(60, wrong=True), ["probe"], 1.0, 2)
    assert bad.gain.mean() < -0.1 and bad.flips.mean() < -0.1
    auto = measure(task, made_clips(60, wrong=True), ["probe"], AUTO, 2)
    assert (auto.weights == 0).all() and len(auto.weights) == 10 and not auto.gain.any()
    np.testing.assert_array_equal(auto.right, bad.right)  # gold alone: the made clips have no part in it


def test_the_best_head_is_that_of_the_lowest_loss_and_its_curve_has_three_sizes():
    task = make_task(clips=30, valid=24)
    trial = measure(task, made_clips(), ["probe", "fusion"], AUTO, 1)
    assert trial.losses["fusion"] < trial.losses["probe"] and trial.head == "fusion"
    assert trial.sizes[-1] == pytest.approx(24) and trial.sizes[0] < trial.sizes[1] < trial.sizes[2]
    assert trial.right.shape == (3, 54) and ((trial.right >= 0) & (trial.right <= 1)).all()
    assert trial.clip.tolist() == list(range(54)) and (trial.label == with_valid(task).targets.argmax(axis=1)).all()


def test_several_labels_make_a_pair_each():
    task = make_task(True, clips=20, valid=24)
    trial = measure(task, made_clips(), ["fusion"], 1.0, 1)
    assert len(trial.clip) == with_valid(task).targets.sum() > 44
    assert 0.5 < trial.right[-1].mean() <= 1


def test_which_made_clips_are_named():
    task = make_task(clips=30, valid=30)
    pool, clean = fit_head("fusion", task), made_clips(noise=0.2)
    assert named_right(pool, clean).all()
    assert not named_right(pool, replace(clean, targets=np.roll(clean.targets, 1, axis=1))).any()
