#!/usr/bin/env python3
"""Join CSVs: gold and synthetic clips into one training set, or the shards of one table.

    python merge_csv.py --input_csvs train_100.csv round_0/kept.csv round_1/kept.csv --output_csv train.csv
    python merge_csv.py --input_csvs shard_000.out.csv shard_001.out.csv --output_csv out.csv --expected_csv in.csv

Without --expected_csv the tables are put one below the other, with the columns of all; a new column `split_name`
says gold or synthetic (a synthetic clip names its gold clip in `source_path`). A clip that is in two tables is
refused; a synthetic clip that is twice in one (two gold clips were the same sound) is taken once, and the other row
is listed as dropped.
With --expected_csv the inputs are what split_csvs.py dealt out of that file: the rows go back to their places by
the column `row`, and a missing or doubled row is refused, so a shard that stopped early cannot pass unseen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from synthio.cli import UserError, new_parser, run_main
from synthio.manifest import ROW

GOLD, SYNTHETIC = "gold", "synthetic"


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--input_csvs", nargs="+", required=True, help="tables to join")
    parser.add_argument("--output_csv", required=True, help="output: the joined table")
    parser.add_argument("--expected_csv", default="", help="the table that was split; empty: not a split table")
    return parser


def join(csvs: Sequence[str], tables: Sequence):
    """One table with the columns of all; cells that a table lacks are empty."""
    import pandas as pd

    return pd.concat(tables, ignore_index=True).fillna("") if csvs else pd.DataFrame()


def merge_sets(csvs: Sequence[str]):
    """(gold and synthetic tables one below the other, with `split_name`; the rows that repeat a synthetic clip)."""
    from synthio.data.contents import check_contents
    from synthio.manifest import PATH, REASON, SOURCE, SPLIT, read_manifest

    tables = [read_manifest(csv) for csv in csvs]
    for csv, table in zip(csvs, tables, strict=True):
        check_contents(table, csv)
    refuse_shared(csvs, [set(table[PATH].tolist()) for table in tables])
    table = join(csvs, tables)
    if SOURCE not in table.columns:
        table[SOURCE] = ""
    table[SPLIT] = [SYNTHETIC if source else GOLD for source in table[SOURCE].tolist()]
    repeats = table.duplicated(PATH) & (table[SPLIT] == SYNTHETIC)
    dropped = table[repeats].assign(**{REASON: "the same clip is in an earlier row"})
    return table[~repeats].reset_index(drop=True), dropped


def refuse_shared(csvs: Sequence[str], clips: Sequence[set[str]]) -> None:
    """Refuse a clip that two tables name."""
    seen: dict[str, str] = {}
    for csv, paths in zip(csvs, clips, strict=True):
        shared = sorted(paths & seen.keys())
        if shared:
            raise UserError(f"{csv}: {len(shared)} of its clips are in {seen[shared[0]]} too, such as {shared[0]}")
        seen |= dict.fromkeys(paths, csv)


def read_dropped(csv: str):
    """The rows that a shard dropped, from the file beside it; None when there is none."""
    from synthio.manifest import read_manifest

    path = Path(csv).with_suffix(".dropped.csv")
    return read_manifest(path, [ROW], check_files=False) if path.is_file() else None


def merge_shards(csvs: Sequence[str], expected_csv: str):
    """(rows, dropped rows) of a split table, in the order it had before the split."""
    from synthio.manifest import read_manifest, read_table

    rows_in = len(read_table(expected_csv))
    table = join(csvs, [read_manifest(csv, [ROW], check_files=False) for csv in csvs])
    drops = [dropped for csv in csvs if (dropped := read_dropped(csv)) is not None]
    dropped = join(csvs, drops) if drops else table.iloc[:0]
    check_rows([*table[ROW].tolist(), *dropped[ROW].tolist()], rows_in, csvs, expected_csv)
    return sort_rows(table), sort_rows(dropped)


def check_rows(cells: Sequence[str], rows_in: int, csvs: Sequence[str], expected_csv: str) -> None:
    """Refuse anything but each row of the expected file exactly once."""
    where = f"the shards of {expected_csv} ({', '.join(csvs)})"
    counts = Counter(cells)
    wanted = {str(row) for row in range(rows_in)}
    missing = sorted(wanted - set(counts), key=int)
    if missing:
        raise UserError(
            f"{where}: {len(missing)} of {rows_in} rows are missing, the first is row {missing[0]}; run the shard again"
        )
    doubled = [row for row, count in counts.items() if count > 1]
    if doubled:
        raise UserError(f"{where}: row {doubled[0]} comes {counts[doubled[0]]} times; name each shard once")
    strange = [row for row in counts if row not in wanted]
    if strange:
        raise UserError(f"{where}: row '{strange[0]}' is none of the {rows_in} rows; these shards are of another file")


def sort_rows(table):
    """The table in its first order, without the column `row`."""
    order = table[ROW].astype("int64").argsort(kind="stable")
    return table.drop(columns=ROW).iloc[order].reset_index(drop=True)


def shard_records(csvs: Sequence[str]) -> list[dict]:
    """The records beside the inputs: options, versions and hashes of the stage that made them."""
    from synthio.files import read_json

    paths = [Path(csv).with_suffix(".json") for csv in csvs]
    return [read_json(path) for path in paths if path.is_file()]


def main() -> int:
    args = get_parser().parse_args()
    from synthio.manifest import write_manifest

    if args.expected_csv:
        table, dropped = merge_shards(args.input_csvs, args.expected_csv)
        notes = {"shards": shard_records(args.input_csvs)}
    else:
        table, dropped = merge_sets(args.input_csvs)
        notes = {"clips": dict(Counter(table["split_name"].tolist()))}
    write_manifest(
        table,
        args.output_csv,
        rows_in=len(table) + len(dropped),
        dropped=dropped,
        options=vars(args),
        inputs=[*args.input_csvs, *([args.expected_csv] if args.expected_csv else [])],
        notes=notes,
    )
    return 0


if __name__ == "__main__":
    run_main(main)
