"""Check clips that are to be added to a run: `add_csv` of run.sh.

    python -m synthio.data.add_clips --add_csv more.csv --train_csv W/train_100.csv --valid_csv W/checked/valid.csv \\
        --test_csv W/checked/test.csv --classes_csv W/checked/train.csv --output_csv W/checked/added.csv

They are all trained on: the validation and test clips of the run stay what they are, so that its scores can be compared
with those of before, and no clip moves from one set to another. Refused are a sound, or a group, that is among the
validation or test clips; a sound that the run is trained on already, or that is in two rows; and a label that the run
has not, for no validation or test clip could tell how well it is known. All problems are told at once, with their rows.
The output has the columns that `synthio.data.check_inputs` writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from synthio.cli import new_parser, run_main
from synthio.data.check_inputs import (
    Checked,
    bad_clips,
    listen_all,
    odd_clips,
    say_drops,
    summary,
    thinned,
    too_long,
    warn,
    without_bad,
    write_split,
)
from synthio.data.check_tables import (
    Split,
    odd_leaves,
    read_split,
    several_labels,
    shared,
    shared_groups,
    unknown_labels,
)
from synthio.data.options import CheckOptions
from synthio.data.problems import Findings
from synthio.options import add_options, from_args

if TYPE_CHECKING:
    import pandas as pd

ADDED = "added"
NEW_LABEL = (
    "it would be new to the run, whose validation and test clips cannot tell how well it is known: remove the row, or "
    "start a run under another dataset_name with clips of it in all three CSVs"
)


@dataclass(frozen=True)
class Held:
    """A set of the run: its rows, and a hash of each sound ("" of one without)."""

    split: Split
    hashes: Sequence[str]


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--add_csv", required=True, help="CSV of the clips to be added: path, label")
    parser.add_argument("--train_csv", required=True, help="the training clips that were drawn")
    parser.add_argument("--valid_csv", required=True, help="the checked validation clips")
    parser.add_argument("--test_csv", required=True, help="the checked test clips")
    parser.add_argument("--classes_csv", required=True, help="CSV whose labels are those of the run")
    parser.add_argument("--output_csv", required=True, help="output: the clips that are added")
    add_options(parser, CheckOptions)
    parser.add_argument("--augment_only", action="store_true", help="nothing will be generated (augment=false)")
    return parser


def read_held(name: str, csv: str) -> Held:
    """A set of the run as stage 0 or 1 wrote it."""
    from synthio.manifest import CONTENT, LABEL, PATH, read_manifest

    table = read_manifest(csv, (PATH, LABEL, CONTENT), check_files=False)
    return Held(Split(name, csv, table, tuple(range(1, len(table) + 1))), table[CONTENT].tolist())


def held_of(split: Split) -> Held:
    """A set that was listened to."""
    return Held(split, split.identities())


def repeated(added: Split, train: Held | None) -> Iterator[str]:
    """Rows whose sound the run has already, or an earlier row."""
    from synthio.manifest import PATH

    known = {}
    if train:
        places = train.split.table[PATH].tolist()
        known = {
            digest: f"{path}, which the run is trained on" for digest, path in zip(train.hashes, places, strict=True)
        }
    for i, identity in enumerate(added.identities()):
        if identity in known:
            yield f"{added.where(i)}: {added.path_text(i)}: the same sound as {known[identity]}; remove the row"
        elif identity:
            known[identity] = f"row {added.rows[i]}"


def check_added(
    csv: str,
    train: Held | None,
    others: Sequence[Held],
    classes: Split,
    options: CheckOptions,
    augment_only: bool = False,
    most: int | None = None,
) -> Checked:
    """Everything that stands in the way of adding some clips.

    Args:
        csv: of the clips.
        train: what the run is trained on; None where that is not known yet.
        others: validation and test clips.
        classes: the rows whose labels are those of the run.
        options: what is done about findings.
        augment_only: nothing will be generated.
        most: how many clips are listened to, evenly spread; None: all.
    """
    findings = Findings()
    read = read_split(ADDED, csv, findings)
    if read is None:
        return Checked(findings, [])
    (heard,) = listen_all([read if most is None else thinned(read, most)])
    kept, dropped = without_bad(heard)
    if options.on_bad_audio == "drop":
        say_drops(heard, findings)
    else:
        findings.add("clips are not there", bad_clips(heard, "missing"))
        findings.add("clips cannot be used", bad_clips(heard, "read"))
    findings.add("labels are not in training", unknown_labels(classes, kept, NEW_LABEL))
    if not options.multi_label:
        findings.add("rows have several labels", several_labels(kept))
    findings.add("leaf labels are not labels", odd_leaves(kept))
    for other in others:
        findings.add("sounds are in two sets", shared(other.split, kept, other.hashes, kept.identities(), "content"))
        findings.add("groups are in two sets", shared_groups(other.split, kept))
    findings.add("clips are in the run already", repeated(kept, train))
    if not augment_only:
        findings.add("clips are longer than the latents", too_long(kept, options.latent_seconds))
    findings.warnings += odd_clips(kept)
    return Checked(findings, [(kept, dropped)])


def with_leaves_of(split: Split, classes: pd.DataFrame) -> Split:
    """The split with a column of leaf labels, where the run's labels hold their parents."""
    from synthio.data.hierarchy import ancestors_of, leaf_cells
    from synthio.manifest import LABEL, LEAVES

    if LEAVES not in classes.columns or LEAVES in split.table.columns:
        return split
    cells = leaf_cells(split.table[LABEL], ancestors_of(classes[LABEL]))
    return replace(split, table=split.table.assign(**{LEAVES: cells}))


def write_added(checked: Checked, classes: Split, output: Path, options: Mapping[str, object]) -> None:
    """Write what was found fit."""
    ((split, dropped),) = checked.results
    named = replace(with_leaves_of(split, classes.table), name=output.stem)
    write_split(named, dropped, output.parent, options)
    print(f"{summary(split)}; they are added to the training clips", flush=True)


def main() -> int:
    args = get_parser().parse_args()
    train = read_held("train", args.train_csv)
    others = [read_held("valid", args.valid_csv), read_held("test", args.test_csv)]
    classes = read_held("train", args.classes_csv).split
    checked = check_added(args.add_csv, train, others, classes, from_args(CheckOptions, args), args.augment_only)
    for text in checked.findings.warnings:
        warn(text)
    checked.findings.refuse()
    write_added(checked, classes, Path(args.output_csv), vars(args))
    return 0


if __name__ == "__main__":
    run_main(main)
