"""Numbers and tables in print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TOLD_HEADER = ["p", "verdict"]  # the columns after a difference


def plain_table(header: list[str], rows: list[list[str]]) -> str:
    """Columns parted by two spaces; the first is flush left, the others flush right."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


def percent(value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f}"


def with_interval(value: float, interval: Sequence[float], sign: str = "") -> str:
    """12.3 (4.5 to 20.1)."""
    return f"{percent(value, sign)} ({percent(interval[0], sign)} to {percent(interval[1], sign)})"


def p_text(p: float | None) -> str:
    """'0.012'; '-' for none."""
    return "-" if p is None else f"{p:.3f}" if p >= 0.001 else "<0.001"


def difference_cells(record: Mapping[str, Any] | None) -> list[str]:
    """A difference with its interval, its p, and what may be said of it; dashes where there is none.

    Args:
        record: of `scored.Paired.record`.
    """
    if not record:
        return ["-"] * (1 + len(TOLD_HEADER))
    return [with_interval(record["difference"], record["interval_95"], "+"), p_text(record["p"]), record["told"]]
