"""Say how long an experiment would take, from the seconds of those of its runs that were done.

    python -m synthio.report.node_hours --journal W/jobs.csv --at_once 8 < plan.csv

The plan has the columns method, n, seed, fold, cell and scores; the journal method, cell, key, status and seconds. A
stage that several methods of a cell share is done by the first, so that the seconds of a cell are those of its runs.
Those of a method with another n are taken as proportional to n, from the nearest n that was measured.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from synthio.cli import in_range, new_parser, run_main

Run = tuple[str, int]  # method, n


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--journal", required=True, help="jobs.csv of the experiment; it may be absent")
    parser.add_argument("--at_once", type=in_range(int, 0), default=0, help="tasks that run at once; 0: not known")
    return parser


def measured_seconds(journal: Path, n_of: Mapping[str, int]) -> dict[Run, float]:
    """Mean seconds of each method and n that was done.

    Args:
        journal: one that is absent measures nothing.
        n_of: n of each cell of the plan.
    """
    found: dict[Run, list[float]] = defaultdict(list)
    if journal.is_file():
        with journal.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                if row["status"] == "0" and row["cell"] in n_of and row["seconds"]:
                    found[row["method"], n_of[row["cell"]]].append(float(row["seconds"]))
    return {run: sum(values) / len(values) for run, values in found.items()}


def expected_seconds(run: Run, measured: Mapping[Run, float]) -> float | None:
    """Seconds of a method with n clips; None where it was measured with no n. n of 0, all clips, is like no other."""
    method, n = run
    if run in measured or n == 0:
        return measured.get(run)
    known = [other for name, other in measured if name == method and other]
    if not known:
        return None
    nearest = min(known, key=lambda other: max(other / n, n / other))
    return measured[method, nearest] * n / nearest


def in_words(seconds: float) -> str:
    """'12 min', '3.5 h' or '4.2 days'."""
    if seconds < 5400:
        return f"{max(1, round(seconds / 60))} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"


def describe(plan: Iterable[Mapping[str, str]], journal: Path, at_once: int) -> str:
    """The lines that are printed."""
    rows = list(plan)
    n_of = {row["cell"]: int(row["n"]) for row in rows}
    measured = measured_seconds(journal, n_of)
    cells: dict[str, float] = dict.fromkeys(n_of, 0.0)
    unknown: list[str] = []
    for row in rows:
        seconds = expected_seconds((row["method"], int(row["n"])), measured)
        if seconds is None:
            unknown.append(row["method"])
        cells[row["cell"]] += seconds or 0.0
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines = [f"{len(rows)} runs: {len(cells)} tasks of {len(methods)} methods each"]
    total, longest = sum(cells.values()), max(cells, key=lambda cell: cells[cell])
    if total:
        lines.append(f"about {total / 3600:.1f} node hours; the longest task, {longest}: {in_words(cells[longest])}")
    if total and at_once:
        waves = max(total / min(at_once, len(cells)), cells[longest])
        lines.append(f"about {in_words(waves)} with {at_once} tasks at once, without the time in the queue")
    if unknown:
        names = ", ".join(name for name in methods if name in unknown)
        lines.append(f"not measured yet: {names}; do one cell first: --only_cell {longest}")
    return "\n".join(lines)


def main() -> int:
    args = get_parser().parse_args()
    print(describe(csv.DictReader(sys.stdin), Path(args.journal), args.at_once))
    return 0


if __name__ == "__main__":
    run_main(main)
