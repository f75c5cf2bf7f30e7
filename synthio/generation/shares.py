"""Share prompts out to several generators, and put what these made together again.

    python -m synthio.generation.shares deal --input_csv W/round_0/prompts.csv \\
        --output_csvs W/round_0/prompts_m1.csv W/round_0/prompts_m2.csv
    python -m synthio.generation.shares gather --input_csv W/round_0/prompts.csv \\
        --made_csvs W/round_0/generated_m1.csv W/round_0/generated_m2.csv --output_csv W/round_0/generated.csv

The rows of each label go to the generators in turn, so that their numbers differ by one at most, and the prompts of one
gold clip go to different ones: what is compared has the same sources. The first label begins with the first generator,
the next one with the second, so that what is over goes round: of labels with a prompt each, as after most rejections,
none has them all. It is told by the table alone, so it depends on neither seed nor shards. Which one made a clip is in
its column `model`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from synthio.cli import UserError, new_parser, run_main

GENERATORS = "generators"  # of the record of the joined table: the records of its parts


def get_parser():
    parser = new_parser(__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="deal|gather")
    deal = actions.add_parser("deal", help="share prompts out")
    gather = actions.add_parser("gather", help="put the clips together in the order of their prompts")
    for action in (deal, gather):
        action.add_argument("--input_csv", required=True, help="prompts: path, label, prompt, seed")
    deal.add_argument("--output_csvs", nargs="+", required=True, help="output: the prompts of each generator")
    gather.add_argument("--made_csvs", nargs="+", required=True, help="clips of each generator, in the same order")
    gather.add_argument("--output_csv", required=True, help="output: all clips")
    return parser


def turns(labels: Sequence[str], number: int) -> list[int]:
    """Which of `number` generators has each row, by its label."""
    following: dict[str, int] = {}
    found = []
    for label in labels:
        place = following.setdefault(label, len(following))
        found.append(place % number)
        following[label] = place + 1
    return found


def read_prompts(csv: str):
    """The table of prompts."""
    from synthio.manifest import LABEL, PATH, PROMPT, SEED, read_manifest

    return read_manifest(csv, (PATH, LABEL, PROMPT, SEED), check_files=False)


def deal(input_csv: str, output_csvs: Sequence[str]) -> None:
    """Write the share of each generator."""
    import numpy as np

    from synthio.manifest import LABEL, write_manifest

    table = read_prompts(input_csv)
    owner = np.array(turns(table[LABEL].tolist(), len(output_csvs)), dtype=int)
    for number, csv in enumerate(output_csvs):
        part = table[owner == number].reset_index(drop=True)
        write_manifest(part, csv, rows_in=len(part), options={"generator": number}, inputs=[input_csv])
    print(f"{len(table)} prompts for {len(output_csvs)} generators", file=sys.stderr)


def gather(input_csv: str, made_csvs: Sequence[str], output_csv: str) -> None:
    """Write the clips of all generators in the order of their prompts.

    Raises:
        UserError: a table has not the clips of its share.
    """
    import pandas as pd

    from synthio.files import read_json
    from synthio.manifest import LABEL, PROMPT, SEED, read_manifest, write_manifest

    prompts = read_prompts(input_csv)
    owner = turns(prompts[LABEL].tolist(), len(made_csvs))
    parts = [read_manifest(csv, (LABEL, PROMPT, SEED), check_files=False) for csv in made_csvs]
    places: list[list[int]] = [[] for _ in parts]
    for row, number in enumerate(owner):
        places[number].append(row)
    key = [LABEL, PROMPT, SEED]
    for csv, part, rows in zip(made_csvs, parts, places, strict=True):
        wanted = prompts.iloc[rows][key].reset_index(drop=True)
        if not wanted.equals(part[key].reset_index(drop=True)):
            raise UserError(
                f"{csv}: its {len(part)} clips are not those of its {len(rows)} prompts; generate them again"
            )
    table = pd.concat([part.set_index(pd.Index(rows)) for part, rows in zip(parts, places, strict=True)]).sort_index()
    records = [Path(csv).with_suffix(".json") for csv in made_csvs]
    write_manifest(
        table.fillna("").reset_index(drop=True),
        output_csv,
        rows_in=len(prompts),
        options={},
        inputs=[input_csv, *made_csvs],
        notes={GENERATORS: [read_json(path) for path in records if path.is_file()]},
    )


def main() -> int:
    args = get_parser().parse_args()
    if args.action == "deal":
        deal(args.input_csv, args.output_csvs)
    else:
        gather(args.input_csv, args.made_csvs, args.output_csv)
    return 0


if __name__ == "__main__":
    run_main(main)
