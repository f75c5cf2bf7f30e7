"""Write the prompts of clips that are generated again, to tell what alignment and captions bought.

    python -m synthio.report.again --losers_csv W/dpo/losers.csv --first_csv W/round_0/generated.csv \\
        --output_csv W/again/prompts.csv --attribution_clips 24

Two parts, each of pairs that differ in one thing:
  alignment   prompts and seeds of the losers, which were generated without the adapter; they are made with it now
  captions    seeds of the first round's clips under "Sound of a <label>" in place of the prompts that they had

The rows name gold clips, lengths and seeds as generate.py wants them; the column `part` goes through it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthio.cli import UserError, new_parser, run_main
from synthio.generation.options import AttributionOptions
from synthio.options import add_options, option

if TYPE_CHECKING:
    import pandas as pd

PART = "part"
ALIGNMENT, CAPTIONS = "alignment", "captions"


@dataclass(frozen=True)
class PartsOptions(AttributionOptions):
    """Where the clips of the parts are."""

    losers_csv: str = option("", "generations without the adapter; empty: nothing is said of the alignment")
    first_csv: str = option("", "generated clips of the first round; empty: nothing is said of the captions")
    again_csvs: tuple[str, ...] = option(
        (), "clips of the prompts of synthio.report.again; none: nothing is said of alignment and captions"
    )
    kept_csvs: tuple[str, ...] = option((), "kept clips of each round; none: nothing is said of the filter")


def get_parser():
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--losers_csv", default="", help="generations without the adapter; empty: no alignment")
    add("--first_csv", default="", help="generated clips of the first round; empty: no captions")
    add("--output_csv", required=True, help="output: the prompts")
    add_options(parser, AttributionOptions)
    return parser


def spread_rows(cells: Sequence[str], count: int) -> list[int]:
    """At most `count` rows in their order, of each class as many as of the others as far as it has them."""
    seen: dict[str, int] = {}
    turns = []
    for row, cell in enumerate(cells):
        seen[cell] = seen.get(cell, -1) + 1
        turns.append((seen[cell], row))
    return sorted(row for _, row in sorted(turns)[:count])


def requests(table: pd.DataFrame, part: str, count: int) -> pd.DataFrame:
    """Rows for generate.py of some generated clips: gold clip, labels, length, prompt and seed."""
    from synthio.captions.pools import label_prompt
    from synthio.manifest import DURATION, LABEL, LEAVES, PATH, PROMPT, SEED, SOURCE, prompt_cells

    cells = prompt_cells(table)
    chosen = table.iloc[spread_rows(cells, count)].reset_index(drop=True)
    kept = [name for name in (LABEL, LEAVES, DURATION, PROMPT, SEED) if name in chosen.columns]
    out = chosen[kept].assign(**{PATH: chosen[SOURCE], PART: part})
    if part == CAPTIONS:
        out[PROMPT] = [label_prompt(cell) for cell in prompt_cells(chosen)]
    return out


def main() -> int:
    args = get_parser().parse_args()
    import pandas as pd

    from synthio.manifest import LABEL, PATH, PROMPT, SEED, SOURCE, read_manifest, write_manifest

    wanted = {ALIGNMENT: args.losers_csv, CAPTIONS: args.first_csv}
    inputs = {part: csv for part, csv in wanted.items() if csv}
    if not inputs:
        raise UserError("nothing to generate again; give --losers_csv, --first_csv or both")
    columns = (PATH, LABEL, PROMPT, SEED, SOURCE)
    parts = [
        requests(read_manifest(csv, columns, check_files=False), part, args.attribution_clips)
        for part, csv in inputs.items()
    ]
    out = pd.concat(parts, ignore_index=True).fillna("").astype(str)
    write_manifest(out, args.output_csv, rows_in=len(out), options=vars(args), inputs=list(inputs.values()))
    print(f"{len(out)} clips to be generated again, for {' and '.join(inputs)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_main(main)
