"""Which scored clips are kept: pure functions over a table of scores, one row a clip.

A score is better when it is larger. A row with a `reason` is out: it has no part in quantiles and ranks. A class is a
label, of multi-label data a leaf label (`manifest.prompt_cells`): a clip of several has a place in each of them, and
goes on where it is good enough for one. Combinations of labels are no classes: most would have a single clip.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from synthio.filtering.reasons import COPY
from synthio.manifest import (
    AGREEMENT,
    CONTENT,
    LABEL,
    PATH,
    REASON,
    SCORE,
    has_several_labels,
    prompt_cells,
    split_labels,
)

if TYPE_CHECKING:
    import pandas as pd

DECIMALS = 6  # far finer than the scores mean, coarse enough that float rounding cannot change a row
MIN_VALID_CLIPS = 5  # below that a class's own quantile says more about these clips than about the class


@dataclass(frozen=True)
class Limit:
    """The least score of a kept clip, and where it comes from, in words ("" when the user gave it)."""

    value: float
    origin: str = ""


def probability(cosine: float, scale: float, bias: float = 0.0) -> float:
    """The paper's score sigmoid(scale * cosine), in (0, 1); of a model with a bias sigmoid(scale * product + bias)."""
    return 1 / (1 + math.exp(-(scale * cosine + bias)))


def cosine_at(threshold: float, scale: float, bias: float = 0.0) -> float:
    """The cosine, or product, whose probability is `threshold`."""
    if threshold in (0, 1):
        return math.inf if threshold else -math.inf
    return (math.log(threshold / (1 - threshold)) - bias) / scale


def score_cells(values: Sequence[float] | np.ndarray) -> list[str]:
    """Scores as they are written; "" for NaN."""
    return ["" if math.isnan(value) else f"{value:.{DECIMALS}f}" for value in values]


def scores_of(table: pd.DataFrame, column: str) -> np.ndarray:
    """The reverse of `score_cells`: float64 [N], NaN where there is no score."""
    return np.array([float(cell) if cell else math.nan for cell in table[column]], float)


def rows_by_class(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Class -> numbers of its rows that are not out, classes in sorted order."""
    return rows_of_classes(prompt_cells(table), (table[REASON] == "").to_numpy(bool))


def rows_of_classes(cells: Sequence[str], is_in: np.ndarray) -> dict[str, np.ndarray]:
    """Label -> rows, in sorted order, of the label cells that have it; rows that are not in (bool [N]) are left out."""
    found: dict[str, list[int]] = {}
    for row, (cell, included) in enumerate(zip(cells, is_in, strict=True)):
        for label in dict.fromkeys(split_labels(cell)) if included else ():
            found.setdefault(label, []).append(row)
    return {label: np.array(found[label]) for label in sorted(found)}


def reject(table: pd.DataFrame, reasons: Sequence[str]) -> pd.DataFrame:
    """The table with these reasons ("" for none) where a row had none yet."""
    return table.assign(**{REASON: [old or new for old, new in zip(table[REASON], reasons, strict=True)]})


# Thresholds


def quantile(scores: np.ndarray, share: float) -> float:
    """The `share` quantile, linear between two scores, rounded as scores are: on a score it is that score."""
    return round(float(np.quantile(scores, share)), DECIMALS)


def quantile_limits(table: pd.DataFrame, column: str, keep_percent: float) -> dict[str, Limit]:
    """Per class the quantile of its clips' scores that keeps `keep_percent` of them, and all that tie with the last.

    A label of multi-label data with few clips takes the quantile of all: of a single clip every quantile is its score.
    """
    scores, classes = scores_of(table, column), rows_by_class(table)
    share, least = 1 - keep_percent / 100, MIN_VALID_CLIPS if has_several_labels(table[LABEL]) else 0
    everything = np.flatnonzero((table[REASON] == "").to_numpy(bool))
    limits = {}
    for name, rows in classes.items():
        own = rows if len(rows) >= least else everything
        whose = f"its {len(rows)}" if own is rows else f"all {len(everything)}"
        limits[name] = Limit(quantile(scores[own], share), f"the {share:.3g} quantile of {whose} clips")
    return limits


def auto_limits(valid: pd.DataFrame, column: str, share: float, classes: Sequence[str]) -> dict[str, Limit]:
    """Per class the `share` quantile of the scores of real clips: what scores like those is kept.

    A class with fewer than MIN_VALID_CLIPS real clips takes the quantile of the real clips of all classes.

    Args:
        valid: scored validation clips.
        column: the score.
        share: quantile in [0, 1].
        classes: those that need a limit.

    Raises:
        ValueError: there is no usable validation clip.
    """
    scores, rows = scores_of(valid, column), rows_by_class(valid)
    if not rows:
        raise ValueError("no validation clip can be used")
    everything = np.concatenate(list(rows.values()))
    pooled = quantile(scores[everything], share)
    limits = {}
    for name in classes:
        own = rows.get(name, everything[:0])
        if len(own) < MIN_VALID_CLIPS:
            origin = f"the {share:g} quantile of all {len(everything)} validation clips, as the class has {len(own)}"
            limits[name] = Limit(pooled, origin)
        else:
            limits[name] = Limit(
                quantile(scores[own], share), f"the {share:g} quantile of its {len(own)} validation clips"
            )
    return limits


def below_limits(table: pd.DataFrame, column: str, limits: Mapping[str, Limit]) -> list[str]:
    """A reason for each row whose score is below the limit of its class, of several the lowest; else ""."""
    lowest: dict[int, Limit] = {}
    for name, rows in rows_by_class(table).items():
        for row in rows:
            lowest[row] = min(lowest.get(row, limits[name]), limits[name], key=lambda limit: limit.value)
    reasons = [""] * len(table)
    for row, limit in lowest.items():
        cell = table[column].iloc[row]
        if float(cell) < limit.value:
            origin = f", {limit.origin}" if limit.origin else ""
            reasons[row] = f"{column} {cell} is below {limit.value:g}{origin}"
    return reasons


# Ranks


def ranks(scores: np.ndarray) -> np.ndarray:
    """Rank of each score [N], 1 for the largest; equal scores share the mean of their ranks."""
    larger = (scores[None] > scores[:, None]).sum(axis=1)
    equal = (scores[None] == scores[:, None]).sum(axis=1)
    return larger + (equal + 1) / 2


def joint_scores(table: pd.DataFrame, weight: float) -> np.ndarray:
    """CLAP and classifier mixed by rank within each class (SynSonic), float64 [N], NaN for rows that are out.

    The sum of the ranks, (1 - weight) * CLAP's + weight * the classifier's, on a scale from 0 (last in both) to 1
    (first in both). Ranks can be added where the scores cannot: a cosine and a probability have different units. A clip
    of several classes has the mean over them.
    """
    cosines, agreements = scores_of(table, SCORE), scores_of(table, AGREEMENT)
    total, classes = np.zeros(len(table)), np.zeros(len(table))
    for rows in rows_by_class(table).values():
        mixed = (1 - weight) * ranks(cosines[rows]) + weight * ranks(agreements[rows])
        total[rows] += 1 - (mixed - 1) / max(1, len(rows) - 1)
        classes[rows] += 1
    return np.divide(total, classes, out=np.full(len(table), math.nan), where=classes > 0)


def best_first(table: pd.DataFrame, column: str, rows: np.ndarray) -> list[int]:
    """Row numbers from the best score to the worst. Ties are decided by the cosine, then by the clip itself.

    The clip's content hash (or path) as the last word makes the order independent of that of the rows.
    """
    scores, cosines = (np.nan_to_num(scores_of(table, name), nan=-math.inf) for name in (column, SCORE))
    names = table[CONTENT if CONTENT in table.columns else PATH].to_numpy(object)
    return sorted(map(int, rows), key=lambda row: (-scores[row], -cosines[row], names[row]))


def best_of_each(
    table: pd.DataFrame, column: str, room: Mapping[str, int], least: int = 0
) -> tuple[set[int], dict[str, list[int]]]:
    """(rows that stay, class -> its rows from the best to the worst): of each class the best `room` of it.

    A row of several classes stays where one of them has room, and takes a place in all. So each class has what its room
    says, and one that mostly comes with others may have more. Of such rows the one is looked at first whose places,
    each over the clips of its class, are the best in the mean. Where fewer than `least` rows stay, the next ones do.
    """
    order = {name: best_first(table, column, rows) for name, rows in rows_by_class(table).items()}
    places: dict[int, list[float]] = {}
    classes: dict[int, list[str]] = {}
    for name, rows in order.items():
        for place, row in enumerate(rows, 1):
            places.setdefault(row, []).append((place - 0.5) / len(rows))  # .5 of the only one: it says nothing
            classes.setdefault(row, []).append(name)
    stay, left = set(), Counter({name: room.get(name, 0) for name in order})
    turn = {row: number for number, row in enumerate(best_first(table, column, np.array(list(places), int)))}
    in_turn = sorted(places, key=lambda row: (float(np.mean(places[row])), turn[row]))
    for row in in_turn:
        if any(left[name] > 0 for name in classes[row]):
            stay.add(row)
            left.subtract(classes[row])
    others = (row for row in in_turn if row not in stay)
    stay.update(itertools.islice(others, max(0, least - len(stay))))
    return stay, order


def outranked(table: pd.DataFrame, column: str, keep_percent: float) -> tuple[list[str], dict[str, Limit]]:
    """A reason for each row that is not among the best `keep_percent` of its class, else ""; and the last kept score.

    The number kept is rounded up, so that a class with a usable clip keeps one. Of multi-label data it is rounded down,
    and what is then missing of the share of all clips are the next best ones: most labels have a clip or two, so that,
    rounded up, every clip would stay.
    """
    counts = {name: len(rows) for name, rows in rows_by_class(table).items()}
    clips, share = int((table[REASON] == "").sum()), keep_percent / 100
    if has_several_labels(table[LABEL]):
        room, least = {name: math.floor(count * share + 1e-9) for name, count in counts.items()}, clips * share
    else:
        room, least = {name: math.ceil(count * share - 1e-9) for name, count in counts.items()}, 0
    stay, order = best_of_each(table, column, room, math.ceil(least - 1e-9))
    reasons, limits = [""] * len(table), {}
    for name, rows in order.items():
        for place, row in enumerate(rows, 1):
            if row not in stay:
                text = f"number {place} of {len(rows)} in its class, of which {room[name]} are kept"
                reasons[row] = f"{column} {table[column].iloc[row]} is {text}"  # of several, the last
        kept = [row for row in rows if row in stay]
        if kept:
            limits[name] = Limit(float(table[column].iloc[kept[-1]]), f"the best {len(kept)} of {len(rows)}")
    return reasons, limits


# Near-duplicates


def copies(table: pd.DataFrame, cosines: np.ndarray, names: Sequence[str], most: float) -> list[str]:
    """A reason for each row that is more alike than `most` to a reference, else "".

    Args:
        table: N rows.
        cosines: [N, R] to the references.
        names: the R references, as the reason calls them.
        most: a cosine above it makes a near-duplicate.
    """
    if not len(names):
        return [""] * len(table)
    nearest = cosines.argmax(axis=1)
    return [
        f"{COPY} of {names[j]} (cosine {cosines[i, j]:.3f})" if cosines[i, j] > most else ""
        for i, j in enumerate(nearest)
    ]


def repeats(table: pd.DataFrame, column: str, cosines: np.ndarray, most: float) -> dict[int, int]:
    """Row -> the better row that it is a near-duplicate of, among those that are not out.

    Best scores first, each clip is compared with those that stay.

    Args:
        table: N rows.
        column: the score that says which one is better.
        cosines: [N, N] between them.
        most: a cosine above it makes a near-duplicate.
    """
    stay: list[int] = []
    found = {}
    for row in best_first(table, column, np.flatnonzero((table[REASON] == "").to_numpy(bool))):
        same = [other for other in stay if cosines[row, other] > most]
        if same:
            found[row] = same[0]
        else:
            stay.append(row)
    return found
