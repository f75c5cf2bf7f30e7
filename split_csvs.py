#!/usr/bin/env python3
"""Deal a CSV out to shards, one for each process that will work on it.

    python split_csvs.py --input_csv prompts.csv --output_folder shards --num_shards 4 --block_size 16

Blocks of `block_size` rows are dealt in turn, so the rows of one batch stay together and are the same whatever the
number of shards: the results do not depend on it. A column `row` keeps the place of each row for merge_csv.py.
Shards that would be empty are not written (of an empty table, one is), and those of an earlier split are removed.
"""

from __future__ import annotations

from synthio.cli import UserError, in_range, new_parser, run_main
from synthio.manifest import ROW


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--input_csv", required=True, help="any CSV")
    parser.add_argument("--output_folder", required=True, help="folder for shard_000.csv, ..., shard_1000.csv, ...")
    parser.add_argument("--num_shards", type=in_range(int, 1), required=True, help="most shards to make")
    parser.add_argument(
        "--block_size", type=in_range(int, 1), default=1, help="rows that stay together: the batch size"
    )
    return parser


def deal(rows: int, num_shards: int, block_size: int) -> list[list[int]]:
    """Row numbers of each shard, none of them empty unless there are no rows at all."""
    shards: list[list[int]] = [[] for _ in range(num_shards)]
    for row in range(rows):
        shards[row // block_size % num_shards].append(row)
    return [shard for shard in shards if shard] or [[]]


def main() -> int:
    args = get_parser().parse_args()
    from pathlib import Path

    from synthio.manifest import read_manifest, write_table

    table = read_manifest(args.input_csv, required=(), check_files=False)
    if ROW in table.columns:
        raise UserError(f"{args.input_csv}: has a column '{ROW}', which the shards need themselves; rename it")
    shards = deal(len(table), args.num_shards, args.block_size)
    for number, rows in enumerate(shards):
        shard = table.iloc[rows].assign(**{ROW: [str(row) for row in rows]})
        write_table(shard, Path(args.output_folder) / f"shard_{number:03d}.csv")
    for old in Path(args.output_folder).glob("shard_*.csv"):
        number = old.stem.removeprefix("shard_")
        if number.isdigit() and int(number) >= len(shards):
            old.unlink()
    return 0


if __name__ == "__main__":
    run_main(main)
