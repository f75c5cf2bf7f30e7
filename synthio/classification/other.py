"""A label for what is none of the others: its clips, from what a run rejected and from the user's background.

    python -m synthio.classification.other --train_csv W/train_50_synthetic.csv --valid_csv W/checked/valid.csv \\
        --test_csv W/checked/test.csv --classes_csv W/checked/train.csv --rejected_csvs W/round_*/rejected.csv \\
        --other_csv background.csv --output_folder W/other

A classifier that knows ten labels gives one of them to every sound. With clips of other sounds under a label of their
own it can say that it hears none of them. Half of these clips go to the training data; a quarter to the validation
data, where they calibrate and set thresholds; a quarter is held out, to count how often one is taken for a label. Clips
of one label, group or source stay together, so that what is held out are other sounds, not other clips of the same. Of
training and validation clips the label gets at most as many as others have on average.

Copies of gold, validation or test clips that the filter rejected are left out: they sound like their label.

Outputs: train.csv, valid.csv, classes.csv (the labels), foreign.csv (what is held out), each with its record.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from synthio.cli import UserError, in_range, new_parser, run_main

if TYPE_CHECKING:
    import pandas as pd

OTHER = "other"  # the label
ORIGIN = "origin"  # column: what a clip of that label was
REJECTED, BACKGROUND = "rejected", "background"
SHARES = {"train": 0.5, "valid": 0.25, "foreign": 0.25}
MIN_CLIPS = 6
PER_CLASS = 1.0  # times as many clips as a label has on average: best on validation clips, of 1, 2, 4 and all


def get_parser():
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--train_csv", required=True, help="training clips")
    add("--valid_csv", required=True, help="validation clips")
    add("--test_csv", required=True, help="test clips: no sound of them becomes one of the label other")
    add("--classes_csv", required=True, help="CSV whose labels are the classes")
    add("--rejected_csvs", nargs="*", default=[], help="clips that the filter rejected")
    add("--other_csv", default="", help="CSV (path), or a folder, of sounds that are none of the labels; empty: none")
    add("--output_folder", required=True, help="output: train.csv, valid.csv, classes.csv, foreign.csv")
    add("--seed", type=in_range(int, 0), default=0, help="of the shares")
    return parser


def rejected_clips(csvs: Sequence[str]) -> pd.DataFrame:
    """path and group (the gold clip that they were made for) of rejected clips that are no copies."""
    import pandas as pd

    from synthio.manifest import GROUP, LABEL, PATH, RESEMBLES, SOURCE, read_manifest

    tables = [read_manifest(csv, (PATH, LABEL, SOURCE)) for csv in csvs]
    if not tables:
        return pd.DataFrame(columns=[PATH, GROUP, ORIGIN])
    table = pd.concat(tables, ignore_index=True).fillna("")
    if RESEMBLES in table.columns:
        table = table[table[RESEMBLES] == ""]
    return table[[PATH]].assign(**{GROUP: table[SOURCE], ORIGIN: REJECTED}).reset_index(drop=True)


def background_clips(given: str) -> pd.DataFrame:
    """path and group (the label, else the group, else the clip) of the sounds of a CSV or folder.

    Raises:
        UserError: there are none, or a path does not exist.
    """
    import pandas as pd

    from synthio.manifest import GROUP, LABEL, PATH, sounds_of

    if not given:
        return pd.DataFrame(columns=[PATH, GROUP, ORIGIN])
    table = sounds_of(given)
    if table.empty:
        raise UserError(f"--other_csv {given}: no sounds there")
    column = next((name for name in (LABEL, GROUP, PATH) if name in table.columns and all(table[name])), PATH)
    return table[[PATH]].assign(**{GROUP: table[column], ORIGIN: BACKGROUND})


def without_known(clips: pd.DataFrame, known: set[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(the clips that can be read and are none of the known sounds, with their hash; the others with a reason)."""
    from synthio.audio import BadAudio, content_hash, read_audio
    from synthio.cli import progress
    from synthio.manifest import CONTENT, PATH, REASON

    hashes, reasons = [], []
    for path in progress(clips[PATH].tolist(), "sounds of the label other"):
        try:
            audio, rate = read_audio(path)
            hashes.append(content_hash(audio, rate))
            reasons.append("the same sound is in the data" if hashes[-1] in known else "")
        except BadAudio as error:
            hashes.append("")
            reasons.append(str(error))
    clips = clips.assign(**{CONTENT: hashes, REASON: reasons})
    good = clips[REASON] == ""
    return clips[good].drop(columns=REASON).drop_duplicates(CONTENT).reset_index(drop=True), clips[~good]


def share_out(clips: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    """The clips by their use, `SHARES` of them each as nearly as whole groups allow, of each origin alike.

    Raises:
        UserError: too few clips, or all of one group.
    """
    import numpy as np

    from synthio.manifest import GROUP

    if len(clips) < MIN_CLIPS:
        raise UserError(
            f"{len(clips)} clips for the label {OTHER}, and {MIN_CLIPS} are the least: the filter rejected few; give "
            "--other_csv, a CSV or folder of sounds that are none of your labels"
        )
    rng, uses = np.random.default_rng(seed), np.empty(len(clips), object)
    for origin in sorted(set(clips[ORIGIN])):
        rows = np.flatnonzero(clips[ORIGIN] == origin)
        groups = clips[GROUP].to_numpy()[rows]
        wanted, counts = {use: share * len(rows) for use, share in SHARES.items()}, dict.fromkeys(SHARES, 0)
        for group in rng.permutation(np.unique(groups)):
            use = max(SHARES, key=lambda use: wanted[use] - counts[use])
            uses[rows[groups == group]] = use
            counts[use] += int((groups == group).sum())
    parts = {use: clips[uses == use].reset_index(drop=True) for use in SHARES}
    if empty := [use for use, part in parts.items() if part.empty]:
        raise UserError(f"the clips for the label {OTHER} are of too few groups: none is left for {', '.join(empty)}")
    return parts


def bound(
    parts: dict[str, pd.DataFrame], tables: Mapping[str, pd.DataFrame], classes: int, seed: int
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """(the clips by their use, for training and validation at most as many as `PER_CLASS` labels have; the others).

    Among a few clips of each label, a hundred others teach above all that most sounds are none of the labels.
    """
    import numpy as np
    import pandas as pd

    from synthio.manifest import REASON

    rng, kept, others = np.random.default_rng([seed, 1]), dict(parts), []
    for use, table in tables.items():
        most = max(1, round(PER_CLASS * len(table) / classes))
        chosen = np.isin(np.arange(len(parts[use])), rng.permutation(len(parts[use]))[:most])
        kept[use] = parts[use][chosen].reset_index(drop=True)
        others.append(parts[use][~chosen].assign(**{REASON: f"more than {most} for the {use} clips"}))
    return kept, pd.concat(others, ignore_index=True)


def add_clips(table: pd.DataFrame, clips: pd.DataFrame) -> pd.DataFrame:
    """A manifest with these clips under the label below it."""
    import pandas as pd

    from synthio.manifest import CONTENT, GROUP, LABEL, PATH

    kept = [name for name in (PATH, GROUP, CONTENT, ORIGIN) if name in table.columns or name in (PATH, ORIGIN)]
    return pd.concat([table, clips[kept].assign(**{LABEL: OTHER})], ignore_index=True).fillna("")


def main() -> int:
    args = get_parser().parse_args()
    import pandas as pd

    from synthio.manifest import CONTENT, LABEL, all_labels, read_manifest, read_table, write_manifest

    tables = {split: read_manifest(getattr(args, f"{split}_csv")) for split in ("train", "valid", "test")}
    labels = all_labels(read_table(args.classes_csv, [LABEL])[LABEL])
    if OTHER in labels:
        raise UserError(f"{args.classes_csv}: a label is called {OTHER} already; rename it, or drop other_class")
    known = {cell for table in tables.values() if CONTENT in table.columns for cell in table[CONTENT]}
    found = [rejected_clips(args.rejected_csvs), background_clips(args.other_csv)]
    clips, dropped = without_known(pd.concat(found, ignore_index=True), known)
    splits = {use: tables[use] for use in ("train", "valid")}
    parts, surplus = bound(share_out(clips, args.seed), splits, len(labels), args.seed)
    dropped = pd.concat([dropped, surplus], ignore_index=True)
    made = {use: add_clips(tables[use], parts[use]) for use in ("train", "valid")}
    made |= {"foreign": parts["foreign"].assign(**{LABEL: OTHER})}
    made |= {"classes": pd.DataFrame({LABEL: [*labels, OTHER]})}
    inputs = [path for path in (*args.rejected_csvs, args.other_csv) if Path(path).is_file()]
    for use, table in made.items():
        lost = dropped if use == "foreign" else dropped[:0]
        write_manifest(
            table,
            Path(args.output_folder) / f"{use}.csv",
            rows_in=len(table) + len(lost),
            dropped=lost,
            options=vars(args),
            inputs=inputs,
        )
    counts = ", ".join(f"{len(part)} {use}" for use, part in parts.items())
    print(f"{len(clips)} clips of the label {OTHER}: {counts}; {len(dropped)} dropped", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_main(main)
