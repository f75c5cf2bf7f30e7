"""Heads against hand-written ones, what chooses their settings, and every head on every kind of task."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from synthio.classification import heads
from synthio.classification.experts import CacheExpert, LinearExpert, beside
from synthio.classification.heads import BOTH, HEADS, TITLES, UNTRAINED, fit_head, fittable, held_out, title_of, unheard
from synthio.classification.pool import fit_pool
from synthio.classification.probe import C_GRID, fit_probe, surprise
from synthio.cli import UserError
from tests.classification.test_experts import shares
from tests.classification.toy import CLASSES, draw_targets, hear, make_task

UNITED = "gold_and_valid"


def loss_of(pool, task, features, targets) -> float:
    return float(surprise(pool.logits(features), targets, task.multi_label).mean())


def fresh(task, clips: int = 300, seed: int = 99):
    """(embeddings, targets) of clips of the same task that nothing was fitted to."""
    rng = np.random.default_rng(seed)
    targets = draw_targets(clips, task.multi_label, rng)
    return hear(targets, rng, own_head=task.members is not None), targets


# Every head


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", HEADS)
def test_every_head_learns_is_calibrated_and_the_same_again(name, multi_label):
    """Better than saying nothing on clips that it did not hear, where a third or three times as sure would be worse."""
    task = make_task(multi_label, clips=24, valid=60, synthetic=9)
    features, targets = fresh(task)
    pool = fit_head(name, task)
    logits = pool.logits(features)
    assert logits.shape == targets.shape and np.isfinite(logits).all() and (pool.weights >= 0).all()
    nothing = surprise(np.zeros_like(logits), targets, multi_label).mean()
    assert loss_of(pool, task, features, targets) < 0.9 * nothing
    np.testing.assert_array_equal(fit_head(name, task).logits(features), logits)
    scaled = {t: surprise(logits * t, targets, multi_label).mean() for t in (1 / 3, 1, 3)}
    assert scaled[1] == min(scaled.values())
    if len(pool.experts) == 1:
        valid = pool.logits(task.valid)
        best = min(surprise(valid * t, task.valid_targets, multi_label).mean() for t in (0.7, 0.9, 1, 1.1, 1.4))
        assert surprise(valid, task.valid_targets, multi_label).mean() < best + 0.01


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(("clips", "valid"), [(4, 3), (3, 1)])
def test_every_head_can_be_fitted_to_a_clip_or_two_a_label(clips, valid, multi_label):
    task = make_task(multi_label, clips=clips, valid=valid)
    for name in fittable(task):
        assert np.isfinite(fit_head(name, task).logits(task.valid)).all(), name


def test_two_labels_one_of_which_has_a_single_clip():
    """In a cross-validation it is missing from one of the training sets."""
    task = make_task(clips=6, valid=6)
    kept = task.targets[:, 0] > 0
    train = np.flatnonzero(kept)[:2].tolist() + np.flatnonzero(task.targets[:, 1])[:1].tolist()
    valid = np.flatnonzero(task.valid_targets[:, 0])
    part = replace(
        task,
        train={kind: x[train] for kind, x in task.train.items()},
        valid={kind: x[valid] for kind, x in task.valid.items()},
        targets=task.targets[train][:, :2],
        valid_targets=task.valid_targets[valid][:, :2],
        rates=np.ones(3),
        sources=np.arange(3),
        members=task.members[:2],
        texts=task.texts[:2],
    )
    assert np.isfinite(fit_head(UNITED, part).logits(part.valid)).all()


def test_a_label_without_a_training_clip_is_said_by_what_knows_it():
    task = make_task()
    seen, valid = task.targets[:, 2] == 0, task.valid_targets[:, 2] == 0
    part = replace(
        task,
        train={kind: x[seen] for kind, x in task.train.items()},
        valid={kind: x[valid] for kind, x in task.valid.items()},
        targets=task.targets[seen],
        valid_targets=task.valid_targets[valid],
        rates=task.rates[seen],
        sources=np.arange(seen.sum()),
    )
    for name in HEADS:
        chances = shares(fit_head(name, part).logits(task.valid))
        assert np.isfinite(chances).all()
        if name == "nearest_mean" or name.startswith("probe"):
            assert chances[:, 2].max() < 0.01, name
        if name in UNTRAINED:
            assert (chances.argmax(axis=1) == 2).any(), name


def test_untrained_heads_do_not_depend_on_training_clips():
    task = make_task()
    other = replace(make_task(seed=5), valid=task.valid, valid_targets=task.valid_targets)
    for name in (*UNTRAINED, "nearest_mean", "tip_adapter"):
        one, two = (fit_head(name, t).logits(task.valid) for t in (task, other))
        assert np.array_equal(one, two) == (name in UNTRAINED), name


def test_heads_that_know_no_label_are_left_out_or_refused():
    blind, knowing = make_task(own_head=False), make_task()
    assert fittable(knowing) == list(HEADS)
    assert set(HEADS) - set(fittable(blind)) == {"own_names", "probe_names"}
    with pytest.raises(UserError, match="own_names needs an AST whose own head has names"):
        fit_head("own_names", blind)
    with pytest.raises(UserError, match="probe_names needs an AST with a head of its own"):
        fit_head("probe_names", blind)
    with pytest.raises(UserError, match="there is no head 'fusoin'; choose among nearest_mean, "):
        fit_head("fusoin", knowing)
    assert len(fit_head("fusion", blind).experts) == 3 and len(fit_head("fusion", knowing).experts) == 4


def test_names_of_some_labels_are_enough_for_single_label_data_alone():
    some = np.zeros((3, 5), bool)
    some[0, 0] = True
    assert replace(make_task(), members=some).names_labels
    assert not replace(make_task(True), members=some).names_labels
    assert not replace(make_task(), members=np.zeros((3, 5), bool)).names_labels


def test_every_head_has_a_title_of_its_own():
    assert list(TITLES) == ["ast", *HEADS] and len(set(TITLES.values())) == len(TITLES)


# Each head


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_nearest_mean_is_nearest(multi_label):
    """Distances after standardising, per dimension; a clip counts as its rate says."""
    task = make_task(multi_label, clips=15, synthetic=6)
    expert = heads.nearest_mean(task)
    x, valid = (beside(features, BOTH).astype(float) for features in (task.train, task.valid))
    mean = np.average(x, axis=0, weights=task.rates)
    deviation = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=task.rates))
    z, v = (x - mean) / deviation, (valid - mean) / deviation
    means = [np.average(z, axis=0, weights=task.rates * has) for has in task.targets.T]
    distances = np.stack([((v - m) ** 2).sum(axis=1) for m in means], axis=1)
    logits = expert.logits(task.valid)
    assert (logits.argmax(axis=1) == distances.argmin(axis=1)).all()
    gaps = (distances[:, :1] - distances) / 2 / x.shape[1]
    np.testing.assert_allclose(logits - logits[:, :1], gaps, atol=1e-4)


@pytest.mark.parametrize("kinds", [("ast",), ("clap",), ("ast", "clap"), ("ast_logits",)])
def test_a_probes_penalty_is_the_best_on_the_validation_clips(kinds):
    task = make_task(clips=12, synthetic=6)
    name = {1: f"probe_{kinds[0]}", 2: "probe"}[len(kinds)].replace("ast_logits", "names")
    (expert,) = fit_head(name, task).experts
    x = beside(task.train, kinds)
    tried = [LinearExpert(kinds, fit_probe(x, task.targets, c, False, task.rates)) for c in C_GRID]
    losses = [
        surprise(fit_pool([one], task.valid, task.valid_targets, False).logits(task.valid), task.valid_targets, False)
        for one in tried
    ]
    best = tried[int(np.argmin([one.mean() for one in losses]))]
    np.testing.assert_array_equal(expert.probe.weight, best.probe.weight)
    assert expert.kinds == kinds


def test_the_penalty_follows_the_validation_clips():
    """A third of the training labels are wrong: a weak penalty learns the mistakes, and only validation can tell."""
    task = make_task(clips=60, valid=150)
    wrong = np.where((np.arange(60) % 5 < 2)[:, None], np.roll(task.targets, 1, axis=1), task.targets)
    careful, trusting = (
        heads.probe_on(*BOTH)(replace(task, targets=wrong.astype(np.float32), valid_targets=v, valid=f))
        for v, f in ((task.valid_targets, task.valid), (wrong.astype(np.float32), task.train))
    )
    assert np.abs(careful.probe.weight).mean() < 0.5 * np.abs(trusting.probe.weight).mean()


def test_zero_shot_is_claps_cosine():
    task = make_task()
    expert = heads.zero_shot(task)
    np.testing.assert_allclose(expert.logits(task.valid), 10 * task.valid["clap"] @ task.texts.T, atol=1e-4)


@pytest.mark.parametrize("multi_label", [False, True])
def test_tip_adapters_numbers_are_the_best_of_the_grid(multi_label):
    task = make_task(multi_label, clips=12, synthetic=6)
    expert = heads.tip_adapter(task)
    np.testing.assert_array_equal(expert.keys, task.train["clap"])
    np.testing.assert_allclose(expert.values, task.targets * task.rates[:, None])
    distance = np.median(1 - task.train["clap"] @ task.train["clap"].T)
    grid = [(a, b / distance) for a in heads.ALPHAS for b in heads.SHARPNESS]
    losses = {
        pair: heads.valid_loss(CacheExpert(expert.keys, expert.values, task.texts, 10.0, *pair), task) for pair in grid
    }
    assert (expert.alpha, expert.beta) == pytest.approx(min(grid, key=losses.__getitem__))
    assert len(set(losses.values())) > 10


@pytest.mark.parametrize("multi_label", [False, True])
def test_learnt_keys_are_never_worse_on_the_validation_clips(multi_label):
    task = make_task(multi_label, clips=30, valid=60)
    start, learnt = heads.tip_adapter(task), heads.tip_adapter_f(task)
    assert heads.valid_loss(learnt, task) <= heads.valid_loss(start, task)
    assert (learnt.alpha, learnt.beta) == (start.alpha, start.beta)
    trained = replace(task, valid=task.train, valid_targets=task.targets)  # every step is better on its own clips
    again = heads.tip_adapter_f(trained)
    assert heads.valid_loss(again, trained) < heads.valid_loss(heads.tip_adapter(trained), trained)
    assert np.abs(again.keys - task.train["clap"]).max() > 0.01


def test_copies_of_one_clip_make_a_tip_adapter_all_the_same():
    """The distance of their embeddings is 0 but for rounding, which may be below it."""
    task = make_task(clips=6)
    for seed in range(20):
        x = np.random.default_rng(seed).normal(size=(1, 5)).astype(np.float32)
        keys = np.repeat(x / np.linalg.norm(x), 6, axis=0)
        expert = heads.tip_adapter(replace(task, train=task.train | {"clap": keys}))
        assert expert.beta > 0 and np.isfinite(expert.logits(task.valid)).all()


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_fusion_is_no_worse_than_its_best_part(multi_label):
    task = make_task(multi_label, clips=30, valid=150)
    features, targets = fresh(task, 600)
    fused = loss_of(fit_head("fusion", task), task, features, targets)
    heard = [fit_head(name, task) for name in ("probe_ast", "probe_clap", "own_names")]
    assert fused < min(loss_of(pool, task, features, targets) for pool in heard)  # the noise of each is another


def test_the_fusion_does_not_trust_a_model_that_knows_nothing():
    """CLAP hears noise, and its prompts mean nothing."""
    task, rng = make_task(clips=30, valid=150), np.random.default_rng(3)
    features, targets = fresh(task, 600)
    noise = [rng.normal(size=(count, 5)) for count in (30, 150, 600)]
    deaf = [(x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in noise]
    task = replace(task, train=task.train | {"clap": deaf[0]}, valid=task.valid | {"clap": deaf[1]}, members=None)
    features = features | {"clap": deaf[2]}
    fused, alone = (loss_of(fit_head(name, task), task, features, targets) for name in ("fusion", "probe_ast"))
    assert fused < alone + 0.02


def test_the_weights_of_the_fusion_are_not_fooled_by_probes_that_know_their_clips_by_heart():
    """Embeddings of noise: a probe fits its training clips, and yet it gets no weight beside a model that knows."""
    rng = np.random.default_rng(0)
    task = make_task(clips=30, valid=6)
    noise = {split: rng.normal(size=(count, 60)).astype(np.float32) for split, count in (("train", 30), ("valid", 6))}
    task = replace(task, train=task.train | {"ast": noise["train"]}, valid=task.valid | {"ast": noise["valid"]})
    pool = fit_head("fusion", task)
    parts = [weight * expert.logits(task.train) for weight, expert in zip(pool.weights, pool.experts, strict=True)]
    of_ast, of_clap, of_names, _ = (np.ptp(part, axis=1).mean() for part in parts)
    assert of_ast < 0.3 * min(of_clap, of_names)


def test_training_clips_help_to_weigh_the_fusion():
    """With three validation clips the weights are those of all clips, not of the three."""
    losses, features = {"all": [], "three": []}, None
    for seed in range(8):
        task = make_task(clips=30, valid=3, seed=seed)
        features, targets = fresh(task)
        pool = fit_head("fusion", task)
        three = fit_pool(pool.experts, task.valid, task.valid_targets, False)
        for name, one in (("all", pool), ("three", three)):
            losses[name].append(loss_of(one, task, features, targets))
    assert np.mean(losses["all"]) < np.mean(losses["three"])


@pytest.mark.parametrize("multi_label", [False, True])
def test_synthetic_clips_alone_are_enough_for_every_head(multi_label):
    """As with only_synthetic: the clips that they were made from are no training clips."""
    task = make_task(multi_label, clips=18, valid=12)
    task = replace(task, sources=np.full(18, -1))
    assert len(task.real) == 0
    for name in HEADS:
        assert np.isfinite(fit_head(name, task).logits(task.valid)).all(), name


# Validation clips as training clips


def test_gold_and_valid_is_fitted_to_both():
    task = make_task(clips=12, valid=12, synthetic=6)
    pool = fit_head(UNITED, task)
    assert [expert.form for expert in pool.experts] == ["naming", "linear", "linear", "linear"]
    targets = np.concatenate([task.targets, task.valid_targets])
    rates = np.concatenate([task.rates, np.full(12, task.rates[task.real].max())])  # as much as a real training clip
    for kind, expert in zip(BOTH, pool.experts[2:], strict=True):
        x = np.concatenate([task.train[kind], task.valid[kind]])
        probes = [fit_probe(x, targets, c, False, rates) for c in C_GRID]
        assert any(np.array_equal(expert.probe.weight, probe.weight) for probe in probes)


def test_gold_and_valid_judges_by_clips_that_were_left_out():
    """Labels at random: a probe knows those that it heard by heart, so only others show that it knows nothing."""
    rng = np.random.default_rng(0)
    task = make_task(clips=45, valid=45, own_head=False)
    wide = {split: rng.normal(size=(45, 60)).astype(np.float32) for split in ("train", "valid")}
    clap = {split: x[:, :5] / np.linalg.norm(x[:, :5], axis=1, keepdims=True) for split, x in wide.items()}
    task = replace(
        task, train={"ast": wide["train"], "clap": clap["train"]}, valid={"ast": wide["valid"], "clap": clap["valid"]}
    )
    chances = shares(fit_head(UNITED, task).logits(task.train))
    assert np.abs(chances - 1 / 3).max() < 0.25
    believed = shares(LinearExpert(("ast",), fit_probe(wide["train"], task.targets, 1.0, False)).logits(task.train))
    assert believed.max() > 0.9  # this test can fail


def test_synthetic_clips_do_not_judge():
    """Whatever their labels, real clips choose weights and penalties: here no synthetic clip counts in a probe."""
    task = make_task(clips=12, valid=12, synthetic=9, weight=1e-9)
    other = replace(task, targets=np.concatenate([task.targets[:12], np.roll(task.targets[12:], 1, axis=1)]))
    one, two = (fit_head(UNITED, t) for t in (task, other))
    np.testing.assert_allclose(one.weights, two.weights, rtol=1e-3)


def test_a_clip_is_heard_without_what_was_made_from_it():
    """Other labels on its synthetic clips change nothing; on those of other clips they do."""
    task = make_task(clips=12, valid=3, synthetic=24)
    folds = [np.arange(0, 4), np.arange(4, 8), np.arange(8, 12)]
    before = unheard(task.train["ast"], task, 0.1, folds)
    assert not before[12:].any()
    changed = task.targets.copy()
    own = (task.sources < 4) & (np.arange(36) >= 12)
    assert own.sum() == 8
    changed[own] = np.roll(changed[own], 1, axis=1)
    after = unheard(task.train["ast"], replace(task, targets=changed), 0.1, folds)
    np.testing.assert_array_equal(after[:4], before[:4])
    assert np.abs(after[4:12] - before[4:12]).min(axis=1).max() > 0.01
    rest = ~np.isin(task.sources, range(4))
    probe = fit_probe(task.train["ast"][rest], task.targets[rest], 0.1, False, task.rates[rest])
    np.testing.assert_array_equal(before[:4], probe.logits(task.train["ast"][:4]))


@pytest.mark.parametrize("multi_label", [False, True])
def test_folds_have_every_clip_once_and_all_labels(multi_label):
    targets = draw_targets(60, multi_label, np.random.default_rng(0))
    folds = held_out(targets, None, 0)
    assert len(folds) == heads.FOLDS and sorted(np.concatenate(folds)) == list(range(60))
    assert {len(fold) for fold in folds} <= {11, 12, 13}
    if not multi_label:
        assert all(targets[fold].sum(axis=0).tolist() == [4, 4, 4] for fold in folds)
    assert any((a != b).any() for a, b in zip(folds, held_out(targets, None, 1), strict=True) if len(a) == len(b))


@pytest.mark.parametrize("groups", [3, 4, 12])
def test_a_group_is_left_out_as_a_whole(groups):
    """Also where there are fewer groups than folds."""
    of = np.arange(36) % groups
    for fold in held_out(draw_targets(36, False, np.random.default_rng(0)), of.astype(str), 0):
        assert not set(of[fold]) & set(np.delete(of, fold))


@pytest.mark.parametrize("clips", [2, 3, 4, 7, 12])
def test_few_clips_have_folds_too(clips, recwarn):
    folds = held_out(np.eye(CLASSES, dtype=np.float32)[np.arange(clips) % CLASSES], None, 0)
    assert sorted(np.concatenate(folds)) == list(range(clips)) and len(folds) >= 2
    assert not list(recwarn)


@pytest.mark.parametrize("method", TITLES)
def test_a_title_names_the_network_that_stands_in_asts_place(method):
    """Scores of earlier versions do not say it; it was an AST."""
    assert title_of(method, {}) == title_of(method, {"called": "AST"}) == TITLES[method]
    assert title_of(method, {"called": "HuBERT"}) == TITLES[method].replace("AST", "HuBERT")
    assert "AST" not in title_of(method, {"called": "HuBERT"})
