"""How much clips count: synthetic against real ones, class against class."""

from __future__ import annotations

import numpy as np
import pytest

from synthio.classification.weighting import (
    TOTALS,
    choose_synthetic_weight,
    class_weights,
    describe_choice,
    draw_rates,
    is_lower,
)
from synthio.cli import UserError


def test_class_weights_by_hand():
    targets = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)
    synthetic = np.array([False, True, True, False])
    balanced = class_weights(targets, draw_rates(synthetic, 1.0))
    np.testing.assert_allclose(balanced, np.array([1, 1, 1, 3]) / 1.5, rtol=1e-6)
    rare = class_weights(targets, draw_rates(synthetic, 0.5))  # as if 2 clips against 1
    np.testing.assert_allclose(rare, np.array([1, 1, 1, 2]) * 3 / 4, rtol=1e-6)
    both = class_weights(np.array([[1, 1], [1, 0]], np.float32), np.ones(2))
    np.testing.assert_allclose(both, np.array([0.75, 0.5]) / 0.625, rtol=1e-6)
    with pytest.raises(UserError, match="raise it"):
        draw_rates(np.ones(4, bool), 0.0)


@pytest.mark.parametrize("synthetic", [[False] * 4, [True] * 4, [False, True, True, True]])
def test_rates_keep_their_ratio_and_add_up_to_the_real_clips(synthetic):
    rates = draw_rates(np.array(synthetic), 0.5)
    assert rates.sum() == pytest.approx(synthetic.count(False) or 4)
    assert (rates / rates[0]).tolist() == [0.5 if kind and not synthetic[0] else 1.0 for kind in synthetic]


def test_clips_that_teach_nothing_are_not_chosen_for_a_weaker_penalty():
    """Copies of the real clips make the same probe at any weight."""
    rng = np.random.default_rng(0)
    x, targets = draw(rng, 30)
    train = np.tile(x, (3, 1)), np.tile(targets, (3, 1))
    _, history = choose_synthetic_weight(train, draw(rng, 60), np.arange(90) >= 30, False)
    losses = [row["valid_loss"] for row in history]
    np.testing.assert_allclose(losses, [losses[0]] * (1 + len(TOTALS)), rtol=1e-4)


def test_a_gain_within_its_standard_error_is_chance():
    others = np.array([1.0, 2.0, 3.0, 4.0])
    gains = np.array([0.5, -0.1, 0.4, -0.2])  # mean 0.15, standard error 0.176
    assert gains.mean() < gains.std(ddof=1) / 2
    assert not is_lower(others - gains, others) and is_lower(others - gains - 0.05, others)
    assert not is_lower(others, others) and not is_lower(others + 1, others) and is_lower(others - 1, others)
    assert not is_lower(np.array([0.0]), np.array([9.0]))  # of one clip there is no standard error


def test_a_gain_of_a_few_clips_leaves_the_synthetic_clips_out():
    """A loss that is lower on 120 validation clips is one; on the first 6 of them it may be chance."""
    rng = np.random.default_rng(0)
    gold, synthetic, valid = draw(rng, 9), draw(rng, 90), draw(rng, 120)
    train = tuple(np.concatenate(pair) for pair in zip(gold, synthetic, strict=True))
    chosen, best = {}, {}
    for clips in (6, 120):
        some = valid[0][:clips], valid[1][:clips]
        chosen[clips], history = choose_synthetic_weight(train, some, np.arange(99) >= 9, False)
        best[clips] = min(history, key=lambda row: row["valid_loss"])["synthetic_weight"]
    assert chosen[120] == best[120] > 0
    assert chosen[6] == 0 < best[6]


def draw(rng, clips: int, turn: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Clips of 3 classes whose embeddings overlap; `turn` other than 0 gives wrong labels."""
    truth = np.arange(clips) % 3
    centres = np.random.default_rng(5).normal(size=(3, 20))
    x = 0.8 * centres[truth] + rng.normal(size=(clips, 20))
    return x.astype(np.float32), np.eye(3, dtype=np.float32)[(truth + turn) % 3]


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("equal_classes", [False, True])
def test_good_synthetic_clips_count_much_and_wrong_ones_little(multi_label, equal_classes):
    chosen = {}
    for turn in (0, 1):
        rng = np.random.default_rng(0)
        gold, synthetic, valid = draw(rng, 9), draw(rng, 90, turn), draw(rng, 60)
        x, targets = (np.concatenate(pair) for pair in zip(gold, synthetic, strict=True))
        is_synthetic = np.arange(99) >= 9
        weight, history = choose_synthetic_weight((x, targets), valid, is_synthetic, multi_label, equal_classes)
        assert [row["synthetic_weight"] * 90 / 9 for row in history] == pytest.approx((0, *TOTALS))
        assert {"train_loss", "valid_loss", "valid_score"} < history[0].keys()
        assert f"comes {weight:.3g} times" in describe_choice(weight, history)
        chosen[turn] = weight * 90 / 9
    assert chosen[0] == pytest.approx(TOTALS[-1]) and chosen[1] == 0


@pytest.mark.parametrize("kind", [True, False])
def test_clips_of_one_kind_leave_no_choice(kind):
    train = draw(np.random.default_rng(0), 9)
    assert choose_synthetic_weight(train, train, np.full(9, kind), False) == (1.0, [])


def test_clips_that_teach_what_is_known_already_do_not_count():
    """They are worth much to a probe alone, and nothing beside a model that has learnt from the same sounds."""
    rng = np.random.default_rng(0)
    gold, synthetic, valid = draw(rng, 9), draw(rng, 90), draw(rng, 60)
    train = tuple(np.concatenate(pair) for pair in zip(gold, synthetic, strict=True))
    alone, _ = choose_synthetic_weight(train, valid, np.arange(99) >= 9, False)
    known = 8 * valid[1] + rng.normal(size=valid[1].shape)
    beside, history = choose_synthetic_weight(train, valid, np.arange(99) >= 9, False, known=[known])
    assert alone > 0 and beside == 0
    assert max(row["valid_loss"] for row in history) < 0.3
