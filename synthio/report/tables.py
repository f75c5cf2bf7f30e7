"""Numbers and tables in print."""

from __future__ import annotations


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
