"""Which clips sound enough like their label, by each kind of threshold."""

from __future__ import annotations

import pandas as pd
import pytest

from synthio.filtering.decision import decide, threshold_words
from synthio.filtering.options import FilterOptions


class Scorer:
    logit_scale, logit_bias, similarity = 10.0, 0.0, "cosine"


@pytest.fixture
def table() -> pd.DataFrame:
    """Four clips of two labels, and one that was refused before."""
    return pd.DataFrame(
        {
            "path": list("abcde"),
            "label": ["dog", "dog", "rain", "rain", "rain"],
            "clap_score": ["0.100000", "0.300000", "0.200000", "0.000000", "0.900000"],
            "clap_probability": ["0.700000", "0.950000", "0.880000", "0.500000", "0.999000"],
            "reason": ["", "", "", "", "silent"],
        }
    )


def kept(table) -> list[str]:
    return list(table["path"][table["reason"] == ""])


@pytest.mark.parametrize(
    ("options", "expected", "column"),
    [
        ({"threshold": 0.8}, ["b", "c"], "clap_probability"),
        ({"threshold": 0}, ["a", "b", "c", "d"], "clap_probability"),
        ({"threshold_kind": "class_quantile", "keep_percent": 50}, ["b", "c"], "clap_score"),
        ({"threshold_kind": "rank", "keep_percent": 50}, ["b", "c"], "clap_score"),
    ],
)
def test_each_kind_of_threshold_keeps_its_clips(table, options, expected, column):
    decided, score, limits = decide(table, Scorer(), FilterOptions(**options), "x.csv", "cpu")
    assert kept(decided) == expected and score == column
    assert decided["reason"][4] == "silent" and set(limits) == {"dog", "rain"}
    assert all(decided["reason"][~decided["path"].isin(expected)])


def test_a_threshold_is_said_as_a_probability_and_as_a_cosine(table):
    """sigmoid(10 x) is 0.8 at x = ln(4) / 10."""
    options = FilterOptions(threshold=0.8)
    _, column, limits = decide(table, Scorer(), options, "x.csv", "cpu")
    assert threshold_words(limits, column, Scorer(), options) == "threshold 0.8 is cosine 0.139 at scale 10.0"
    options = FilterOptions(threshold_kind="class_quantile", keep_percent=50)
    _, column, limits = decide(table, Scorer(), options, "x.csv", "cpu")
    assert threshold_words(limits, column, Scorer(), options) == (
        "the best 50 % of each class: clap_score 0.100 to 0.200 in 2 classes"
    )


class Sigmoid(Scorer):
    """A model with a bias."""

    logit_scale, logit_bias, similarity = 10.0, -2.0, "product"


def test_a_probability_is_said_as_the_product_that_has_it(table):
    """sigmoid(10 x - 2) is 0.8 at x = (ln(4) + 2) / 10."""
    options = FilterOptions(threshold=0.8)
    _, column, limits = decide(table, Sigmoid(), options, "x.csv", "cpu")
    said = "threshold 0.8 is product 0.339 at scale 10.0 and bias -2.0"
    assert threshold_words(limits, column, Sigmoid(), options) == said
