"""Which of the clips that can be used sound enough like their label."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from synthio.cli import AUTO, UserError
from synthio.filtering.agreement import label_probabilities
from synthio.filtering.hearing import hear, score
from synthio.filtering.options import FilterOptions
from synthio.filtering.thresholds import (
    Limit,
    auto_limits,
    below_limits,
    cosine_at,
    joint_scores,
    outranked,
    quantile_limits,
    reject,
    rows_by_class,
    score_cells,
)
from synthio.manifest import AGREEMENT, JOINT, LABEL, PATH, PROBABILITY, REASON, SCORE, read_manifest

if TYPE_CHECKING:
    import pandas as pd

    from synthio.models.base import AudioTextScorer


def add_agreement(table: pd.DataFrame, options: FilterOptions, csv: str, device: str) -> pd.DataFrame:
    """Add the classifier's probability of each clip's label, and the score that mixes its rank with CLAP's."""
    good = (table[REASON] == "").to_numpy(bool)
    chances = iter(label_probabilities(options.classifier, table[PATH][good], table[LABEL][good], csv, device))
    table = table.assign(**{AGREEMENT: score_cells([next(chances) if is_good else math.nan for is_good in good])})
    return table.assign(**{JOINT: score_cells(joint_scores(table, options.classifier_weight))})


def absolute_limits(
    table: pd.DataFrame, scorer: AudioTextScorer, options: FilterOptions
) -> tuple[str, dict[str, Limit]]:
    """(score column, limit of each class): the given threshold, or one from the validation clips."""
    classes = list(rows_by_class(table))
    if options.threshold != AUTO:
        return PROBABILITY, {name: Limit(float(options.threshold)) for name in classes}
    valid = read_manifest(options.valid_csv)
    valid = score(valid, hear(valid, scorer, options), scorer)
    try:
        return SCORE, auto_limits(valid, SCORE, options.auto_quantile, classes)
    except ValueError as error:
        raise UserError(f"{options.valid_csv}: {error}, so there is no threshold; give one by --threshold") from None


def decide(
    table: pd.DataFrame, scorer: AudioTextScorer, options: FilterOptions, csv: str, device: str
) -> tuple[pd.DataFrame, str, dict[str, Limit]]:
    """(table with the reason of each clip that is not good enough, score column, limit of each class)."""
    column = SCORE
    if options.threshold_kind == "rank":
        if options.classifier:
            table, column = add_agreement(table, options, csv, device), JOINT
        reasons, limits = outranked(table, column, options.keep_percent)
        return reject(table, reasons), column, limits
    if options.threshold_kind == "class_quantile":
        limits = quantile_limits(table, column, options.keep_percent)
    else:
        column, limits = absolute_limits(table, scorer, options)
    return reject(table, below_limits(table, column, limits)), column, limits


def threshold_words(limits: Mapping[str, Limit], column: str, scorer: AudioTextScorer, options: FilterOptions) -> str:
    """What the threshold is, in a few words."""
    values = sorted(limit.value for limit in limits.values())
    spread = f"{column} {values[0]:.3f} to {values[-1]:.3f} in {len(values)} classes" if values else "no clips"
    if options.threshold_kind != "absolute":
        return f"the best {options.keep_percent:g} % of each class: {spread}"
    if options.threshold == AUTO:
        return f"auto threshold: {spread}"
    threshold = float(options.threshold)
    limit, bias = cosine_at(threshold, scorer.logit_scale, scorer.logit_bias), scorer.logit_bias
    at = f"scale {scorer.logit_scale:.1f}" + (f" and bias {bias:.1f}" if bias else "")
    return f"threshold {threshold:g} is {scorer.similarity} {limit:.3f} at {at}"
