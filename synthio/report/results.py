"""Print the test scores of several classifiers side by side, and where the time went.

    python -m synthio.report.results --output_json W/scores.json --timings W/timings.csv \\
        --scores gold-only=W/classifier/gold_only/scores.json synthio=W/classifier/synthio/scores.json \\
        --trained gold-only=W/classifier/gold_only_heads synthio=W/classifier/synthio_heads

The first one is the baseline. Differences to it carry a paired bootstrap interval: both classifiers are scored on the
same resampled test clips (whole groups, where clips have them), from the predictions.csv beside each scores.json. A run
is one cell, one draw of training clips, so no interval says anything of others. --trained adds a table of every method
that was trained, and says what synthetic clips are worth against the best one without them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthio.classification.scored import pair, read_scores
from synthio.cli import UserError, in_range, new_parser, run_main
from synthio.options import add_options, from_args
from synthio.report.tables import TOLD_HEADER, difference_cells, percent, plain_table, with_interval
from synthio.training.tracking import Tracking, open_tracker

if TYPE_CHECKING:
    import pandas as pd


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--scores", nargs="+", required=True, metavar="NAME=FILE", help="scores.json of each method")
    parser.add_argument(
        "--trained", nargs="+", default=[], metavar="NAME=FOLDER", help="all that was trained under a name"
    )
    parser.add_argument("--output_json", default="", help="write the same as JSON; empty for none")
    parser.add_argument("--timings", default="", help="CSV with stage,seconds; empty for none")
    parser.add_argument(
        "--quality", default="", help="JSON of synthio.report.quality, to be summed up in two lines; empty: none"
    )
    parser.add_argument(
        "--false_alarms", default="", help="JSON of synthio.classification.false_alarms, to be shown in two lines"
    )
    parser.add_argument("--seed", type=in_range(int, 0), default=0, help="of the bootstrap of differences")
    add_options(parser, Tracking)
    return parser


def summarise(all_scores: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """One record a method; the first is the baseline of the differences."""
    keys: tuple[str, ...] = ("metric", "accuracy", "mAP", "macro_f1", "threshold", "interval_95", "resampled")
    keys += ("best_step", "num_steps", "head", "called", "choice")
    records = []
    for scores in all_scores:
        record = {"name": scores["name"], "train": scores["splits"]["train"], "test": scores["splits"]["test"]}
        record |= {key: scores[key] for key in keys if key in scores}
        if scores is not all_scores[0]:
            record["to_baseline"] = {
                "baseline": all_scores[0]["name"],
                **pair(scores, all_scores[0], seed).record(),
            }
        records.append(record)
    return records


def read_timings(path: str) -> pd.DataFrame:
    """A table of stage and seconds (float), in file order."""
    from synthio.manifest import read_table

    table = read_table(path, ["stage", "seconds"])
    for row, text in enumerate(table["seconds"], 1):
        try:
            float(text)
        except ValueError:
            raise UserError(f"{path} row {row}: seconds is '{text}', not a number") from None
    return table[["stage", "seconds"]].astype({"seconds": float})


def score_rows(records: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """(header, rows) of the table of scores, in percent."""
    metric, baseline = records[0]["metric"], records[0]["name"]
    header = ["method", "train clips (gold + synthetic)", f"{metric} (95 %)", "macro-F1", f"against {baseline} (95 %)"]
    rows = []
    for record in records:
        train = record["train"]
        rows.append(
            [
                method_name(record),
                f"{train['clips']} ({train['gold']} + {train['synthetic']})",
                with_interval(record[metric], record["interval_95"]),
                f1_cell(record),
                *difference_cells(record.get("to_baseline")),
            ]
        )
    return [*header, *TOLD_HEADER], rows


def method_name(record: Mapping[str, Any]) -> str:
    """'synthio: fusion'; of a fine-tuned network that is no AST its own name."""
    if "head" not in record:
        return record["name"]
    is_other = record["head"] == "ast" and record.get("called", "AST") != "AST"
    return f"{record['name']}: {record['called'] if is_other else record['head']}"


def f1_cell(record: Mapping[str, Any]) -> str:
    """Macro-F1, of multi-label data with the probability from which on a label counts: '36.1 (from 0.27)'."""
    chosen = f" (from {record['threshold']:.2g})" if "threshold" in record else ""
    return percent(record["macro_f1"]) + chosen


def scored_on(record: Mapping[str, Any]) -> str:
    """What the intervals of a run are over, in words: '119 test clips; 1 cell, intervals over the 26 groups of ...'."""
    from synthio.classification.intervals import basis

    units = record.get("resampled", {"unit": "clips", "units": record["test"]["clips"], **record["test"]})
    return f"{record['test']['clips']} test clips; 1 cell, intervals over {basis([units], 1)}"


def score_lines(records: list[dict[str, Any]]) -> str:
    """The table of scores as text."""
    return f"Test scores in percent, {scored_on(records[0])}\n{plain_table(*score_rows(records))}"


def timing_lines(timings: pd.DataFrame) -> str:
    """The table of seconds, with the sum."""
    rows = [[stage, f"{seconds:.0f}"] for stage, seconds in timings.itertuples(index=False)]
    return plain_table(["stage", "seconds"], [*rows, ["total", f"{timings['seconds'].sum():.0f}"]])


def track(records: list[dict[str, Any]], tracking: Tracking, options: Mapping[str, Any]) -> None:
    """Send the main scores of each method to the tracker, with the options that it shows beside them."""
    tracker = open_tracker(tracking, "scores", options)
    row = {f"{r['name']} {name}": r[name] for r in records for name in ("accuracy", "mAP", "macro_f1") if name in r}
    tracker.follow([{"step": 0, **row}])
    tracker.close()


def compare_trained(trained: list[str], scores: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Print the table of every method and the verdict; returns both for the JSON."""
    from synthio.report.comparison import compare, comparison_rows, read_trained, verdict

    if not trained:
        return {}
    methods, baseline = read_trained(trained), scores[0]["name"]
    if baseline not in methods:
        raise UserError(f"--trained names none of '{baseline}', the first of --scores; give its folders too")
    records = compare(methods, baseline, seed)
    said = verdict(methods, baseline, scores[-1] if len(scores) > 1 else None, seed)
    table = plain_table(*comparison_rows(records, scores[0]["metric"]))
    print(f"\nEvery method, {scored_on(scores[0] | {'test': scores[0]['splits']['test']})}\n{table}\n\n{said['line']}")
    return {"trained": records, "verdict": said}


def main() -> int:
    args = get_parser().parse_args()
    from synthio.classification.false_alarms import lines_of
    from synthio.files import read_json, write_json
    from synthio.report.quality import lines

    found = [read_scores(argument) for argument in args.scores]
    records = summarise(found, args.seed)
    timings = read_timings(args.timings) if args.timings else None
    print(score_lines(records))
    compared = compare_trained(args.trained, found, args.seed)
    if timings is not None:
        print(f"\n{timing_lines(timings)}")
    if args.quality:
        print("\nSynthetic clips", *lines(read_json(args.quality)), sep="\n")
    if args.false_alarms:
        print("\nOther sounds", *lines_of(read_json(args.false_alarms)), sep="\n")
    if args.output_json:
        stages = [] if timings is None else timings.to_dict("records")
        for record, argument in zip(records, args.scores, strict=True):
            record["file"] = argument.partition("=")[2]
        for record in (*records, *(row for one in compared.get("trained", []) for row in (one, one.get("with", {})))):
            if "file" in record:
                record["file"] = os.path.relpath(record["file"], Path(args.output_json).parent)
        alarms = {"false_alarms": read_json(args.false_alarms)} if args.false_alarms else {}
        write_json(args.output_json, {"methods": records, **compared, **alarms, "seconds": stages})
    track(records, from_args(Tracking, args), vars(args))
    return 0


if __name__ == "__main__":
    run_main(main)
