"""Options of the filter that do not go together."""

from __future__ import annotations

import pytest

from synthio.cli import UserError
from synthio.filtering.options import FilterOptions


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (
            {"threshold": "auto", "threshold_kind": "rank", "valid_csv": "v"},
            "--threshold auto needs --threshold_kind absolute: it is an absolute threshold",
        ),
        ({"threshold": "auto"}, "give --valid_csv"),
        ({"classifier": "c"}, "--classifier c needs --threshold_kind rank: it mixes ranks"),
        ({"classifier_weight": 0.5}, "--classifier_weight 0.5 needs --threshold_kind rank: it mixes ranks"),
        ({"earlier_csvs": ("a",)}, "goes with --drop_repeats true"),
    ],
)
def test_what_does_not_go_together_is_refused(options, part):
    with pytest.raises(UserError, match=part):
        FilterOptions(**options).check()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"threshold": "auto", "valid_csv": "v"},
        {"classifier": "c", "threshold_kind": "rank"},
        {"earlier_csvs": ("a",), "drop_repeats": True},
    ],
)
def test_what_goes_together_is_taken(options):
    FilterOptions(**options).check()
