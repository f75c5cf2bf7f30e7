"""Template prompts in equal numbers for each label: what a generator knows of labels can be heard in their clips.

    python -m synthio.captions.samples --input_csv W/train_50.csv --output_csv W/advise/prompts.csv --clips 10

A row is a gold clip of the label, whose length is generated, with `prompt` and `seed`. A label with fewer gold clips
than --clips has some of them again, with other seeds. Of clips with several labels each label is asked for by itself.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthio.cli import new_parser, run_main
from synthio.options import Seed, add_options, option

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SampleOptions(Seed):
    """For which clips, and how many prompts."""

    input_csv: str = option("", "gold clips: path, label", required=True)
    output_csv: str = option("", "output: path, label, prompt, seed", required=True)
    clips: int = option(10, "prompts for each label", low=1)


def get_parser():
    parser = new_parser(__doc__)
    add_options(parser, SampleOptions)
    return parser


def sample_rows(table: pd.DataFrame, keys: Sequence[str], clips: int, seed: int) -> Iterator[Mapping[str, str]]:
    """Rows of a manifest with prompt and seed, `clips` a label; `keys` name the table's clips."""
    from synthio.captions.pools import label_prompt
    from synthio.files import stable_seed
    from synthio.manifest import LABEL, PROMPT, SEED, all_labels, prompt_cells, split_labels

    records, named = table.to_dict("records"), [split_labels(cell) for cell in prompt_cells(table)]
    for label in all_labels(prompt_cells(table)):
        rows = [row for row, labels in enumerate(named) if label in labels]
        random.Random(stable_seed(seed, "order", label)).shuffle(rows)
        for i in range(clips):
            row = rows[i % len(rows)]
            start = str(stable_seed(seed, "sample", label, i, keys[row]))
            yield records[row] | {LABEL: label, PROMPT: label_prompt(label), SEED: start}


def main() -> int:
    args = get_parser().parse_args()
    import pandas as pd

    from synthio.manifest import LEAVES, clip_keys, read_manifest, write_manifest

    table = read_manifest(args.input_csv, check_files=False)
    rows = list(sample_rows(table, clip_keys(table, args.input_csv), args.clips, args.seed))
    prompts = pd.DataFrame(rows, dtype=str).drop(columns=LEAVES, errors="ignore")  # a row has one label now
    write_manifest(prompts, args.output_csv, rows_in=len(rows), options=vars(args), inputs=[args.input_csv])
    print(f"{len(rows)} prompts, {args.clips} a label", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_main(main)
