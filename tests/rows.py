"""Plain CSVs, read and written as text."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path


def rows_of(path: str | Path) -> list[dict[str, str]]:
    with Path(path).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write_rows(path: Path, rows: Sequence[dict], columns: Sequence[str] = ("path", "label")) -> Path:
    """Write rows that have the same keys; `columns` are those of a table without rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]) if rows else columns)
        writer.writeheader()
        writer.writerows(rows)
    return path
