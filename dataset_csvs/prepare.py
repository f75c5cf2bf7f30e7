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

from synthio.cli import new_parser, run_main
from synthio.data import demo as datasets_demo
from synthio.data import generic as datasets_generic
from synthio.data import music as datasets_music
from synthio.data import sound as datasets_sound
from synthio.data.check_inputs import SPLITS, refuse_own_output
from synthio.data.common import Dataset, PrepareOptions, make_tables
from synthio.options import add_options, declared, from_args

DEMO = datasets_demo.DATASETS
DOWNLOADED = datasets_sound.DATASETS | datasets_music.DATASETS
GENERIC = datasets_generic.DATASETS
DATASETS = DEMO | DOWNLOADED | GENERIC


def add_dataset(commands, name: str, dataset: Dataset) -> None:
    """A subcommand: its own options stand between the output folder and those that all that have a source share."""

    class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
        pass

    short = dataset.text.split(".")[0].split(":")[0]
    sub = commands.add_parser(name, help=short, description=dataset.text, formatter_class=Formatter, allow_abbrev=False)
    common = {one.name: said for one, said in declared(PrepareOptions)}
    asked = {one.name: said for one, said in declared(dataset.options)}
    own = [option for option, said in asked.items() if said is not common.get(option)]
    for option in dict.fromkeys(["output_folder", *own, *asked]):
        add_options(sub, dataset.options, only=(option,))
    sub.set_defaults(dataset_name=name)


def get_parser():
    parser = new_parser(__doc__)
    commands = parser.add_subparsers(dest="dataset", required=True, metavar="DATASET")
    for name, dataset in DATASETS.items():
        add_dataset(commands, name, dataset)
    return parser


def write_csvs(tables, files: Sequence[Path], options: PrepareOptions) -> None:
    """Write the CSVs and print a line a split."""
    from synthio.manifest import all_labels, write_manifest

    for split, (table, dropped) in tables.items():
        path = Path(options.output_folder) / f"{split}.csv"
        rows_in = len(table) + len(dropped)
        write_manifest(table, path, rows_in=rows_in, dropped=dropped, options=vars(options), inputs=files)
        left_out = f", {len(dropped)} dropped ({path.with_suffix('.dropped.csv').name})" if len(dropped) else ""
        print(f"{path}: {len(table)} clips, {len(all_labels(table['label']))} classes{left_out}", flush=True)


def main() -> int:
    args = get_parser().parse_args()
    dataset = DATASETS[args.dataset]
    options = from_args(dataset.options, args, dataset=args.dataset)
    listing = dataset.read(options)
    for path in listing.files:
        for split in SPLITS:
            refuse_own_output(path, Path(options.output_folder) / f"{split}.csv")
    write_csvs(make_tables(listing, options), listing.files, options)
    return 0


if __name__ == "__main__":
    run_main(main)
