"""Advice on labels: what synthetic clips and what more recordings are expected to bring, and which of them is worth it.

    gains = class_gains(measured, counts, whole)        # shrunk, with intervals
    advice = advise(gain, error=.3, clips=5, exponent=.4)
    advice.text                                         # "record about 6 more"

Few numbers, each with its meaning: a gain below `LEAST` is not worth a run, a label whose error is below 2 * `LEAST`
has nothing to gain, and recordings are advised until they bring `GOAL`, or half the error, but never more than `MOST`
times what there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthio.classification.intervals import LEVEL
from synthio.classification.learning_curve import more_clips

# Of the gain of all labels together, before anything is measured: plain synthetic clips brought the paper 4 points from
# 50 gold clips, and 1 from 500; with heads that hear what the models know, docs/results has -1 to +3.
PRIOR_DEVIATION = 0.05
LEAST = 0.01  # a gain that is worth a run
GOAL = 0.05  # what recordings are advised for
MOST = 10.0  # times the clips there are: beyond, a power law promises too much
SYNTHESISE, RECORD, NOTHING = "synthesise", "record", "nothing to gain"


@dataclass(frozen=True)
class Gain:
    """An expected gain and its standard error, as a share: .02 is 2 points."""

    mean: float
    error: float

    @property
    def interval(self) -> tuple[float, float]:
        from scipy.stats import norm

        reach = float(norm.ppf((1 + LEVEL) / 2)) * self.error
        return self.mean - reach, self.mean + reach


@dataclass(frozen=True)
class Advice:
    """What to do: its kind (`SYNTHESISE`, `RECORD`, `NOTHING`), how many clips to record, and why."""

    kind: str
    clips: int
    reason: str

    @property
    def text(self) -> str:
        return f"record about {self.clips} more" if self.kind == RECORD else self.kind


def shrunk(mean: float, error: float, towards: Gain) -> Gain:
    """A measured gain and one that was expected, weighed by their precision: the mean of two normal distributions."""
    if towards.error == 0:
        return towards
    share = towards.error**2 / (towards.error**2 + error**2)
    return Gain(share * mean + (1 - share) * towards.mean, float(np.sqrt(share) * error))


def whole_gain(mean: float, error: float) -> Gain:
    """The gain of all labels together, drawn towards 0 as far as it is unsure."""
    return shrunk(mean, error, Gain(0.0, PRIOR_DEVIATION))


def deviation_of_labels(means: np.ndarray, errors: np.ndarray) -> float:
    """By how much labels differ beyond what chance makes of them, by moments (DerSimonian & Laird 1986); 0 for one."""
    precision = 1 / errors**2
    total = precision.sum()
    mean = precision @ means / total
    excess = precision @ (means - mean) ** 2 - (len(means) - 1)
    scale = total - (precision**2).sum() / total
    return float(np.sqrt(max(0.0, excess / scale))) if scale > 0 else 0.0


def class_gains(means: np.ndarray, errors: np.ndarray, whole: Gain) -> list[Gain]:
    """The gains of C labels, each drawn towards that of all as far as labels do not differ by more than chance.

    Args:
        means: measured [C].
        errors: their standard errors, above 0 [C].
        whole: of all labels together.
    """
    apart = deviation_of_labels(means, errors)
    gains = []
    for mean, error in zip(means, errors, strict=True):
        own = apart**2 / (apart**2 + error**2)  # the rest comes from all labels, and is as unsure as they are
        spread = own * error**2 + (1 - own) ** 2 * whole.error**2
        gains.append(Gain(float(own * mean + (1 - own) * whole.mean), float(np.sqrt(spread))))
    return gains


def label_errors(values: np.ndarray, labels: np.ndarray, units: np.ndarray, count: int, least: float) -> np.ndarray:
    """Standard error of each label's mean [C], from one variance of units within labels: a label alone has too few.

    Args:
        values: of P pairs of clip and label.
        labels: label of each pair [P].
        units: what is drawn as one, of each pair [P].
        count: C.
        least: the smallest error there can be.
    """
    keys, unit_of = np.unique(np.stack([labels, units]), axis=1, return_inverse=True)
    sizes = np.bincount(unit_of)
    means = np.bincount(unit_of, values) / sizes
    number = np.bincount(keys[0], minlength=count)
    centre = np.bincount(keys[0], means, count) / np.maximum(number, 1)
    free = int((number - 1).clip(0).sum())
    variance = float(((means - centre[keys[0]]) ** 2).sum() / free) if free else least**2
    return np.sqrt(variance / np.maximum(number, 1) + least**2)


def advise(gain: Gain, error: float, clips: float, exponent: float, unasked: bool = False) -> Advice:
    """The advice for a label, or for all of them.

    Args:
        gain: of synthetic clips.
        error: expected with the gold clips there are.
        clips: how many these are.
        exponent: of the learning curve; 0: more clips bring nothing.
        unasked: no clip of the label was generated.
    """
    low, high = gain.interval
    if low > 0 and gain.mean >= LEAST and not unasked:
        return Advice(SYNTHESISE, 0, "synthetic clips help")
    unsure = "" if high < LEAST or unasked else "; whether synthetic clips help is not to be told"
    harm = "; synthetic clips do harm" if high < 0 and not unasked else unsure
    if error < 2 * LEAST:
        return Advice(NOTHING, 0, f"nearly all is told right{harm}")
    wanted = more_clips(error, min(GOAL, error / 2), clips, exponent)
    if wanted > MOST * clips:
        return Advice(NOTHING, 0, f"the learning curve is flat{harm}")
    return Advice(RECORD, about(wanted), f"for {100 * min(GOAL, error / 2):.0f} points{harm}")


def about(clips: float) -> int:
    """A number of clips as it is said: at least 1, from 20 on in fives, from 200 on in fifties."""
    step = 1 if clips < 20 else 5 if clips < 200 else 50
    return max(1, step * int(np.ceil(clips / step)))


def interval_of_share(hits: int, of: int) -> tuple[float, float]:
    """The interval (95 %) of a share of so many clips (Wilson 1927)."""
    from scipy.stats import binomtest

    found = binomtest(hits, of).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def rank_correlation(x: Sequence[float], y: Sequence[float], seed: int) -> tuple[float, float, float]:
    """Spearman's correlation of two lists and its interval by drawing their pairs anew; 0 where one is constant."""
    from scipy.stats import rankdata

    def correlation(rows: np.ndarray) -> float:
        a, b = (rankdata(np.asarray(values, float)[rows]) for values in (x, y))
        spread = a.std() * b.std()
        return float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread > 0 else 0.0

    rng = np.random.default_rng(seed)
    drawn = [correlation(rng.integers(0, len(x), len(x))) for _ in range(2000)]
    low, high = np.percentile(drawn, [50 - 50 * LEVEL, 50 + 50 * LEVEL])
    return correlation(np.arange(len(x))), float(low), float(high)
