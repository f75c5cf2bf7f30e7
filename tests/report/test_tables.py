"""Numbers and tables in print."""

from __future__ import annotations

from synthio.report.tables import percent, plain_table


def test_columns_are_as_wide_as_their_longest_cell():
    assert plain_table(["method", "n"], [["AST", "1000"], ["a long name", "2"]]) == (
        "method          n\nAST          1000\na long name     2"
    )


def test_a_share_is_percent_with_its_sign_if_asked():
    assert (percent(0.4567), percent(0.05, "+"), percent(-0.05, "+")) == ("45.7", "+5.0", "-5.0")
