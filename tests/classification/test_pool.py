"""Pools: calibration and weights where the answer is known, and the saved form."""

from __future__ import annotations

import json

import numpy as np
import pytest

from synthio.classification.experts import FORMS
from synthio.classification.pool import (
    TEMPERATURE_LIMITS,
    Pool,
    fit_pool,
    fit_temperature,
    fit_weights,
    is_pool,
    load_pool,
    save_pool,
)
from synthio.classification.probe import surprise
from synthio.cli import UserError
from tests.classification.test_experts import example, shares
from tests.classification.toy import make_task


def answers(logits: np.ndarray, multi_label: bool, rng) -> np.ndarray:
    """0/1 targets drawn as the logits say."""
    if multi_label:
        return (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)
    drawn = (rng.random((len(logits), 1)) > shares(logits).cumsum(axis=1)).sum(axis=1)
    return np.eye(logits.shape[1])[drawn]


def loss(logits: np.ndarray, targets: np.ndarray, multi_label: bool) -> float:
    return float(surprise(logits, targets, multi_label).mean())


# Temperature


@pytest.mark.parametrize("wanted", [0.3, 1.0, 4.0])
def test_the_temperature_of_single_label_data_is_found(wanted):
    rng = np.random.default_rng(0)
    logits = 3 * wanted * rng.normal(size=(6000, 4))
    temperature, offset = fit_temperature(logits, answers(logits / wanted, False, rng), False)
    assert temperature == pytest.approx(wanted, rel=0.05) and offset == 0


@pytest.mark.parametrize(("wanted", "move"), [(0.5, -2.0), (3.0, 1.0)])
def test_temperature_and_offset_of_multi_label_data_are_found(wanted, move):
    rng = np.random.default_rng(0)
    logits = 2 * wanted * rng.normal(size=(4000, 4))
    temperature, offset = fit_temperature(logits, answers(logits / wanted + move, True, rng), True)
    assert temperature == pytest.approx(wanted, rel=0.06) and offset == pytest.approx(move, abs=0.1)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e2])
def test_no_temperature_does_better(multi_label, scale):
    """On few clips too, and wherever the logits lie."""
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(40, 3))
    targets, logits = answers(truth, multi_label, rng), scale * (truth + rng.normal(size=(40, 3)))
    temperature, offset = fit_temperature(logits, targets, multi_label)

    def cost(t: float) -> float:
        return loss(logits / t + offset, targets, multi_label) + np.log(t) ** 2 / 320  # the prior of one clip

    assert cost(temperature) <= min(cost(temperature * factor) for factor in (0.5, 0.9, 1.1, 2)) + 1e-6


def test_a_temperature_has_limits():
    targets, logits = np.eye(3)[np.arange(9) % 3], np.random.default_rng(0).normal(size=(9, 3))
    assert fit_temperature(1e9 * logits, targets, False)[0] == pytest.approx(TEMPERATURE_LIMITS[1])


@pytest.mark.parametrize("multi_label", [False, True])
def test_where_all_clips_are_right_the_temperature_stays_finite(multi_label):
    targets = np.eye(3)[np.arange(9) % 3]
    temperature, offset = fit_temperature(5 * (targets - 0.5), targets, multi_label)
    assert 0.2 < temperature < 1 and abs(offset) < 5
    equal, _ = fit_temperature(np.zeros((9, 3)), targets, multi_label)  # logits that say nothing
    assert np.isfinite(equal) and TEMPERATURE_LIMITS[0] <= equal <= TEMPERATURE_LIMITS[1]


@pytest.mark.parametrize("multi_label", [False, True])
def test_one_clip_is_enough_to_go_on(multi_label):
    temperature, offset = fit_temperature(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]]), multi_label)
    assert 0.1 < temperature < 10 and abs(offset) < 10


# Weights


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_pool_of_one_is_temperature_scaling(multi_label):
    task = make_task(multi_label)
    expert, _ = example("linear")
    pool = fit_pool([expert], task.valid, task.valid_targets, multi_label)
    logits = expert.logits(task.valid)
    temperature, offset = fit_temperature(logits, task.valid_targets, multi_label)
    assert pool.temperature == pytest.approx(temperature) and pool.offset == pytest.approx(offset)
    if multi_label:
        np.testing.assert_allclose(pool.logits(task.valid), logits / temperature + offset)
    else:
        np.testing.assert_allclose(shares(pool.logits(task.valid)), shares(logits / temperature), rtol=1e-9)
    before = pool.uncalibrated().logits(task.valid)
    np.testing.assert_allclose(
        before if multi_label else shares(before), logits if multi_label else shares(logits), rtol=1e-9
    )


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_useless_expert_gets_next_to_no_weight(multi_label):
    rng = np.random.default_rng(0)
    good = 2 * rng.normal(size=(800, 4))
    targets, useless = answers(good, multi_label, rng), 3 * rng.normal(size=(800, 4))
    fitted, held = slice(0, 400), slice(400, 800)
    weights, offset = fit_weights([good[fitted], useless[fitted]], targets[fitted], multi_label)
    pooled = weights[0] * good + weights[1] * useless + offset
    alone, [b] = fit_weights([good[fitted]], targets[fitted], multi_label)[0], [0.0]
    assert weights[1] * useless.std() < 0.1 * weights[0] * good.std()
    assert (
        loss(pooled[held], targets[held], multi_label) < loss(alone * good[held] + b, targets[held], multi_label) + 0.01
    )


@pytest.mark.parametrize("multi_label", [False, True])
def test_an_expert_that_says_the_opposite_gets_none(multi_label):
    rng = np.random.default_rng(0)
    good = 2 * rng.normal(size=(400, 3))
    weights, _ = fit_weights([good, -good], answers(good, multi_label, rng), multi_label)
    assert weights[0] > 0.5 and 0 <= weights[1] < 0.05


def test_experts_who_heard_different_things_count_in_full():
    """Of independent evidence the logarithms of the probabilities add up, so both weights are 1."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 4000)
    parts = []
    for _ in range(2):
        x = np.eye(3)[truth] + rng.normal(size=(4000, 3))
        parts.append(x)  # log p(x | class) of unit Gaussians, but for what all classes share
    weights, _ = fit_weights(parts, np.eye(3)[truth], False)
    assert weights == pytest.approx([1, 1], abs=0.1)


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_same_expert_twice_counts_as_once(multi_label):
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(900, 3))
    targets = answers(logits / 2, multi_label, rng)
    once, twice = (fit_weights([logits] * count, targets, multi_label) for count in (1, 2))
    assert twice[0][0] == pytest.approx(twice[0][1], rel=0.02)
    assert twice[0].sum() == pytest.approx(once[0][0], rel=0.05) and twice[1] == pytest.approx(once[1], abs=0.1)


def test_the_pool_is_the_weighted_sum_of_log_probabilities():
    (a, features), (b, _) = example("linear"), example("cache")
    pool = Pool([a, b], np.array([0.7, 0.2]))
    product = shares(a.logits(features)) ** 0.7 * shares(b.logits(features)) ** 0.2
    expected = product / product.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares(pool.logits(features)), expected, rtol=1e-6)
    assert pool.kinds == {"ast", "clap"} and pool.temperature is None
    assert pool.uncalibrated().weights.tolist() == [0.5, 0.5]


def test_logits_of_multi_label_data_are_added():
    (a, features), (b, _) = example("linear"), example("cache")
    pool = Pool([a, b], np.array([0.7, 0.2]), -0.4, multi_label=True)
    expected = 0.7 * a.logits(features) + 0.2 * b.logits(features) - 0.4
    np.testing.assert_allclose(pool.logits(features), expected)


# Saved


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("forms", [["linear"], ["naming"], ["cache"], ["cache", "linear", "naming", "linear"]])
def test_a_saved_pool_gives_the_same_logits(tmp_path, forms, multi_label):
    experts = [example(form)[0] for form in forms]
    pool = Pool(experts, np.linspace(0.3, 1.1, len(forms)), -0.25 * multi_label, multi_label)
    save_pool(pool, tmp_path / "model", {"labels": ["a", "b", "c"]})
    again, config = load_pool(tmp_path / "model")
    _, features = example("linear")
    np.testing.assert_array_equal(again.logits(features), pool.logits(features))
    assert again.multi_label == multi_label and again.kinds == pool.kinds and config["labels"] == ["a", "b", "c"]
    assert [part["form"] for part in config["experts"]] == forms
    assert is_pool(tmp_path / "model") and len(list((tmp_path / "model").iterdir())) == 2


def test_every_form_is_one_of_those():
    assert set(FORMS) == {"linear", "naming", "cache"}


def test_other_folders_are_refused_in_one_line(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "audio-spectrogram-transformer"}))
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert not is_pool(folder)
        with pytest.raises(UserError, match=r"no classifier of ast/heads\.py.*give its model/") as error:
            load_pool(folder)
        assert "\n" not in str(error.value) and str(folder) in str(error.value)
