"""How the error of a classifier falls with more training clips, and what that says of clips that are not there yet.

    curve = fit_curve([10, 20, 40], errors)    # errors [R, 3], row 0 the estimate, the others draws of the test clips
    curve.error(80)                            # [R]
    curve.clips_for(0.1)                       # [R]

The error is a * n^-b: a straight line in logarithms (Cortes et al. 1993, "Learning curves: asymptotic values and rate
of convergence"; Hestness et al. 2017, section 2.1). The law of three numbers, with an error that remains, cannot be
told from it by a few sizes within a factor of four. So beyond a few times the clips there are, it promises too much:
where labels are wrong or sounds alike, no number of clips brings the error to zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MOST_EXPONENT = 1.0  # an error does not fall faster than 1 / n: such a slope is chance
# Mean and deviation of what is usual: Hestness et al. 2017 found exponents of .07 to .35 in four fields.
USUAL_EXPONENT = (0.2, 0.1)


@dataclass(frozen=True)
class Curve:
    """error = exp(log_scale) * n ** -exponent, each [R]: row 0 is the estimate, the others say how sure it is."""

    log_scale: np.ndarray
    exponent: np.ndarray

    def error(self, clips: float) -> np.ndarray:
        """The expected error with so many clips [R], at most 1."""
        return np.minimum(1.0, np.exp(self.log_scale - self.exponent * np.log(clips)))

    def clips_for(self, error: float) -> np.ndarray:
        """How many clips it takes to that error [R]; infinite where the curve is flat."""
        with np.errstate(divide="ignore", over="ignore"):
            return np.exp((self.log_scale - np.log(error)) / self.exponent)


def fit_curve(sizes: Sequence[float], errors: np.ndarray, usual: tuple[float, float] | None = None) -> Curve:
    """The slope of least squares through the logarithms, from the error at the last size on.

    It is held within 0 and `MOST_EXPONENT`.

    Args:
        sizes: numbers of training clips, S >= 2 different ones, the last the largest.
        errors: above 0 [R, S].
        usual: mean and deviation of exponents elsewhere, towards which this one is drawn as far as the draws differ.

    Raises:
        ValueError: fewer than two sizes, or an error of 0.
    """
    if len(set(sizes)) < 2:
        raise ValueError(f"a learning curve needs errors at two sizes at least, not at {list(sizes)}")
    if not (errors > 0).all():
        raise ValueError("an error of 0 has no place on a power law; count half a clip more (shrunk_error)")
    x, y = np.log(np.asarray(sizes, float)), np.log(errors)
    centred = x - x.mean()
    slope = (y - y.mean(axis=1, keepdims=True)) @ centred / (centred @ centred)
    exponent = -slope
    if usual:
        mean, deviation = usual
        share = deviation**2 / (deviation**2 + exponent[1:].var(ddof=1))
        expected = share * exponent[0] + (1 - share) * mean
        exponent = expected + np.sqrt(share) * (exponent - exponent[0])
    exponent = np.clip(exponent, 0.0, MOST_EXPONENT)
    return Curve(y[:, -1] + exponent * x[-1], exponent)


def shrunk_error(error: np.ndarray, clips: np.ndarray, towards: np.ndarray | float, worth: float) -> np.ndarray:
    """Errors, each over so many clips, drawn towards another as if `worth` more clips had been wrong at that rate."""
    return (error * clips + worth * towards) / (clips + worth)


def more_clips(error: float, goal: float, clips: float, exponent: float) -> float:
    """How many clips more than `clips` bring the error down by `goal`; infinite where none do."""
    if goal >= error or exponent <= 0:
        return float("inf")
    with np.errstate(over="ignore"):
        return float(clips * (np.exp(np.log(error / (error - goal)) / exponent) - 1))
