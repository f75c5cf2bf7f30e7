#!/usr/bin/env python3
"""Write the three CSVs (train, valid, test) of a dataset.

    python dataset_csvs/prepare.py demo --output_folder dataset_csvs/demo --seed 0
    python dataset_csvs/prepare.py esc10 --source ../shared/data/esc10 --output_folder dataset_csvs/esc10_fold5 \\
        --test_fold 5
    python dataset_csvs/prepare.py csv --source mine.csv --path_column file --label_column class \\
        --group_column speaker --output_folder dataset_csvs/mine

`prepare.py DATASET --help` says where the dataset comes from and under which licence. Paths in the CSVs are relative
to them. Audio of existing datasets stays where it is, except parts of longer recordings, which are cut to WAV.
Official splits and folds are kept; no group (recording, speaker, song, ...) is in two splits; clips left out are
listed with a reason in the .dropped.csv beside each CSV.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from synthio.cli import in_range, new_parser, run_main
from synthio.data import demo as datasets_demo
from synthio.data import generic as datasets_generic
from synthio.data import music as datasets_music
from synthio.data import sound as datasets_sound
from synthio.data.check_inputs import SPLITS, refuse_own_output
from synthio.data.common import Dataset, make_tables

DEMO = datasets_demo.DATASETS
DOWNLOADED = datasets_sound.DATASETS | datasets_music.DATASETS
GENERIC = datasets_generic.DATASETS
DATASETS = DEMO | DOWNLOADED | GENERIC


def add_dataset(commands, name: str, dataset: Dataset) -> None:
    """A subcommand with the options of the dataset, and those that all that have a source share."""

    class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
        pass

    short = dataset.text.split(".")[0].split(":")[0]
    sub = commands.add_parser(name, help=short, description=dataset.text, formatter_class=Formatter, allow_abbrev=False)
    sub.add_argument("--output_folder", required=True, help="output: train.csv, valid.csv, test.csv")
    dataset.add_options(sub)
    if name in DEMO:
        return
    sub.add_argument("--source", required=True, help="the dataset, as above")
    sub.add_argument("--dataset_name", default=name, help="what the column `dataset` says")
    sub.add_argument(
        "--missing",
        choices=["stop", "drop"],
        default="stop",
        help="what to do about clips that are missing or cannot be cut",
    )
    share = in_range(float, 0.01, 0.9)
    if dataset.official_test:
        sub.set_defaults(test_share=0)
    else:
        sub.add_argument("--test_share", type=share, default=0.2, help="share to cut where there is no test set")
    sub.add_argument(
        "--valid_share", type=share, default=0.1, help="share of the training data to cut where no set validates"
    )
    sub.add_argument("--seed", type=in_range(int, 0), default=0, help="decides which groups are cut")


def get_parser():
    parser = new_parser(__doc__)
    commands = parser.add_subparsers(dest="dataset", required=True, metavar="DATASET")
    for name, dataset in DATASETS.items():
        add_dataset(commands, name, dataset)
    return parser


def write_csvs(tables, files: Sequence[Path], args) -> None:
    """Write the CSVs and print a line a split."""
    from synthio.manifest import all_labels, write_manifest

    for split, (table, dropped) in tables.items():
        path = Path(args.output_folder) / f"{split}.csv"
        rows_in = len(table) + len(dropped)
        write_manifest(table, path, rows_in=rows_in, dropped=dropped, options=vars(args), inputs=files)
        left_out = f", {len(dropped)} dropped ({path.with_suffix('.dropped.csv').name})" if len(dropped) else ""
        print(f"{path}: {len(table)} clips, {len(all_labels(table['label']))} classes{left_out}", flush=True)


def main() -> int:
    args = get_parser().parse_args()
    listing = DATASETS[args.dataset].read(args)
    for path in listing.files:
        for split in SPLITS:
            refuse_own_output(path, Path(args.output_folder) / f"{split}.csv")
    write_csvs(make_tables(listing, args), listing.files, args)
    return 0


if __name__ == "__main__":
    run_main(main)
