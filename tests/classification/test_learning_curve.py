"""The power law against curves whose law is known."""

from __future__ import annotations

import numpy as np
import pytest

from synthio.classification.learning_curve import MOST_EXPONENT, fit_curve, more_clips, shrunk_error

SIZES = [10, 20, 40]


@pytest.mark.parametrize(("scale", "exponent"), [(1.2, 0.3), (0.8, 0.5), (0.5, 0.05), (2.0, 1.0)])
def test_an_exact_power_law_is_found_and_goes_on(scale, exponent):
    curve = fit_curve(SIZES, scale * np.array([SIZES], float) ** -exponent)
    assert curve.exponent[0] == pytest.approx(exponent) and np.exp(curve.log_scale[0]) == pytest.approx(scale)
    assert curve.error(400)[0] == pytest.approx(scale * 400**-exponent)
    assert curve.clips_for(scale * 123**-exponent)[0] == pytest.approx(123)


def test_each_draw_has_its_own_line():
    errors = np.array([[0.4, 0.2, 0.1], [0.3, 0.3, 0.3]])
    curve = fit_curve(SIZES, errors)
    np.testing.assert_allclose(curve.exponent, [1, 0], atol=1e-12)
    np.testing.assert_allclose(curve.error(80), [0.05, 0.3])


def test_a_curve_that_rises_is_flat_and_one_too_steep_is_held():
    rising = fit_curve(SIZES, np.array([[0.1, 0.2, 0.4]]))
    assert rising.exponent[0] == 0 and rising.error(1000)[0] == pytest.approx(0.4)  # the last
    assert np.isinf(rising.clips_for(0.1)[0])
    steep = fit_curve(SIZES, np.array([[0.9, 0.1, 0.01]]))
    assert steep.exponent[0] == MOST_EXPONENT
    assert steep.error(40)[0] == pytest.approx(0.01)  # the line begins at the last size


def test_a_slope_that_is_unsure_is_drawn_towards_the_usual_one():
    """Draws of slope 0 and 1 about an estimate of 1/2: their variance is 1/4 (unbiased, of three)."""
    slopes = np.array([0.5, 0.0, 0.5, 1.0])
    errors = 0.1 * (np.array([[10, 20, 40]]) / 40.0) ** -slopes[:, None]
    variance = 0.25
    curve = fit_curve(SIZES, errors, (0.2, 0.5))
    assert curve.exponent[0] == pytest.approx((0.5 * 0.25 + 0.2 * variance) / (0.25 + variance))
    assert curve.exponent[3] - curve.exponent[0] == pytest.approx(0.5 * 0.5**0.5)
    np.testing.assert_allclose(curve.error(40), 0.1)
    sure = fit_curve(SIZES, np.repeat(errors[:1], 3, axis=0), (0.2, 0.1))
    np.testing.assert_allclose(sure.exponent, 0.5)


def test_noise_about_a_power_law_is_within_the_spread_of_the_draws():
    """Binomial errors of 400 clips at three sizes: the truth at four times the clips lies in the interval, mostly."""
    rng, truth, inside = np.random.default_rng(0), 0.9 * np.array(SIZES) ** -0.4, 0
    for _ in range(100):
        seen = rng.binomial(400, truth) / 400
        drawn = rng.binomial(400, seen, (200, 3)) / 400
        errors = fit_curve(SIZES, np.concatenate([seen[None], drawn])).error(160)
        low, high = np.percentile(errors[1:], [2.5, 97.5])
        inside += low <= 0.9 * 160**-0.4 <= high
    assert inside >= 85  # 95 less four standard deviations of a binomial of 100


def test_what_has_no_place_on_a_power_law_is_refused():
    with pytest.raises(ValueError, match="two sizes"):
        fit_curve([10, 10], np.array([[0.3, 0.2]]))
    with pytest.raises(ValueError, match="error of 0"):
        fit_curve(SIZES, np.array([[0.3, 0.1, 0.0]]))


def test_more_clips_by_hand():
    """error ~ 1 / sqrt(n): half the error takes four times the clips; nothing takes all of it away."""
    assert more_clips(0.4, 0.2, 25, 0.5) == pytest.approx(75)
    assert more_clips(0.4, 0.4, 25, 0.5) == float("inf") == more_clips(0.4, 0.1, 25, 0.0)
    assert more_clips(0.4, 0.3999, 25, 1e-4) == float("inf")


def test_few_clips_are_drawn_towards_the_rest():
    np.testing.assert_allclose(shrunk_error(np.array([0.0, 1.0]), np.array([4, 4]), 0.5, 4.0), [0.25, 0.75])
    assert shrunk_error(np.array([0.0]), np.array([99]), 0.5, 1.0)[0] == pytest.approx(0.005)
