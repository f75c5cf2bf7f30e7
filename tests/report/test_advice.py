"""Advice on cases made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from synthio.report.advice import (
    GOAL,
    LEAST,
    MOST,
    PRIOR_DEVIATION,
    Gain,
    about,
    advise,
    class_gains,
    deviation_of_labels,
    interval_of_share,
    label_errors,
    rank_correlation,
    shrunk,
    whole_gain,
)

SURE, UNSURE = Gain(0.04, 0.01), Gain(0.04, 0.05)


@pytest.mark.parametrize(
    ("gain", "error", "clips", "exponent", "text", "reason"),
    [
        (SURE, 0.3, 5, 0.4, "synthesise", "synthetic clips help"),
        (SURE, 0.3, 5, 0.0, "synthesise", "synthetic clips help"),
        # 0.3 / 0.25 = 1.2, 1.2 ** (1 / 0.5) = 1.44: 2.2 more for 5
        (UNSURE, 0.3, 5, 0.5, "record about 3 more", "for 5 points; whether synthetic clips help is not to be told"),
        (Gain(0, 0.001), 0.3, 50, 0.5, "record about 25 more", "for 5 points"),
        # half the error is less than 5 points: 4 times the clips
        (Gain(0, 0.001), 0.06, 20, 0.5, "record about 60 more", "for 3 points"),
        (Gain(0, 0.001), 0.015, 20, 0.5, "nothing to gain", "nearly all is told right"),
        (UNSURE, 0.4, 50, 0.0, "nothing to gain", "the learning curve is flat; whether synthetic clips help is not "),
        (Gain(-0.05, 0.01), 0.4, 50, 0.01, "nothing to gain", "the learning curve is flat; synthetic clips do harm"),
        # surely above 0, but not worth a run
        (Gain(LEAST / 2, 0.0001), 0.3, 5, 0.5, "record about 3 more", "for 5 points"),
    ],
)
def test_the_rules(gain, error, clips, exponent, text, reason):
    advice = advise(gain, error, clips, exponent)
    assert advice.text == text and advice.reason.startswith(reason)


def test_a_label_that_was_not_generated_is_not_to_be_synthesised():
    advice = advise(SURE, 0.3, 5, 0.5, unasked=True)
    assert advice.text == "record about 3 more" and "synthetic" not in advice.reason


def test_no_more_is_advised_than_a_power_law_can_say():
    error, exponent = 0.4, 0.05
    needed = (error / (error - GOAL)) ** (1 / exponent) - 1  # times the clips
    assert needed > MOST and advise(UNSURE, error, 50, exponent).kind == "nothing to gain"
    assert advise(UNSURE, error, 50, 2 * exponent).kind == "record"


def test_numbers_are_said_as_roughly_as_they_are_known():
    assert [about(x) for x in (0.2, 3.0, 3.1, 19, 21, 101, 199.9, 201, 430)] == [1, 3, 4, 19, 25, 105, 200, 250, 450]


def test_a_measured_gain_is_weighed_against_nothing():
    """As sure as what was expected: half of it, and surer by the square root of two."""
    gain = whole_gain(0.04, PRIOR_DEVIATION)
    assert gain.mean == pytest.approx(0.02) and gain.error == pytest.approx(PRIOR_DEVIATION / 2**0.5)
    assert whole_gain(0.04, 1e-6).mean == pytest.approx(0.04) and abs(whole_gain(0.04, 10).mean) < 1e-4
    low, high = Gain(0.02, 0.01).interval
    assert low == pytest.approx(0.02 - 0.0196, abs=1e-5) and high == pytest.approx(0.02 + 0.0196, abs=1e-5)
    assert shrunk(0.5, 0.1, Gain(0.02, 0.0)) == Gain(0.02, 0.0)


def test_labels_that_differ_by_chance_have_the_gain_of_all():
    errors = np.full(4, 0.1)
    gains = class_gains(np.array([0.05, -0.05, 0.02, -0.02]), errors, Gain(0.01, 0.004))
    assert [gain.mean for gain in gains] == [0.01] * 4 and {gain.error for gain in gains} == {0.004}


def test_labels_that_differ_have_their_own():
    means, errors = np.array([0.3, -0.3, 0.3, -0.3]), np.full(4, 0.01)
    # variance of the means .12 less that of the errors .0001
    assert deviation_of_labels(means, errors) == pytest.approx(np.sqrt(0.12 - 0.0001))
    gains = class_gains(means, errors, Gain(0.0, 0.01))
    np.testing.assert_allclose([gain.mean for gain in gains], means, rtol=2e-3)
    assert all(gain.error == pytest.approx(0.01, rel=1e-2) for gain in gains)
    assert deviation_of_labels(np.array([0.3]), np.array([0.01])) == 0


def test_the_error_of_a_label_is_that_of_units_within_labels():
    """Two labels, units of two clips each, means of units 1 apart in both: variance 1/2 over two units a label."""
    labels, units = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 2, 3])
    values = np.array([0.0, 0.0, 1.0, 1.0, 5.0, 6.0])
    np.testing.assert_allclose(label_errors(values, labels, units, 3, 0.0), [0.5, 0.5, np.sqrt(0.5)])
    np.testing.assert_allclose(label_errors(values[:1], labels[:1], units[:1], 1, 0.1), [np.sqrt(0.02)])


def test_shares_and_ranks():
    low, high = interval_of_share(8, 10)
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Wilson's, by hand
    rho, low, high = rank_correlation([1, 2, 3, 4, 5, 6, 7, 8], [2, 4, 6, 8, 10, 12, 14, 99], 0)
    assert rho == pytest.approx(1) and high == pytest.approx(1) and low > 0.9
    assert rank_correlation([1, 2, 3], [3, 2, 1], 0)[0] == pytest.approx(-1)
    assert rank_correlation([0, 0, 0], [3, 2, 1], 0) == (0, 0, 0)
    # ties have their mean rank: 1 - 6 * sum of d^2 / (n (n^2 - 1)) does not hold, Pearson of ranks does
    assert rank_correlation([1, 1, 2], [1, 2, 3], 0)[0] == pytest.approx(np.sqrt(3) / 2)
