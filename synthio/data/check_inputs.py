"""Check the three input CSVs and every clip in them before anything is computed.

    python -m synthio.data.check_inputs --train_csv train.csv --valid_csv valid.csv --test_csv test.csv \\
        --output_folder demo/checked --num_samples 100

Each clip is decoded once. The output folder gets train.csv, valid.csv and test.csv with all columns of the input and
two more: `sha256`, a hash of the sound (its mono mix at the file's own rate, 16 bits; WAV and FLAC of one recording
agree), and `duration_s`. A clip that is in two splits, by this hash or by its `group` (if the CSV has that column), is
an error. A resampled, cut or re-encoded (OGG, MP3) copy is another sound to the hash: only a `group` column finds it.

Rows are counted from 1 without the header. A mistake ends with status 2 before anything is written. With
`--on_bad_audio drop`, clips that cannot be used are left out and listed in the .dropped.csv beside each output.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from synthio.cli import UserError, in_range, new_parser, run_main
from synthio.options import add_options, option

if TYPE_CHECKING:
    import pandas as pd

    from synthio.data.inspect_sound import Sound

SPLITS = ("train", "valid", "test")
MAX_LISTED = 10


@dataclass(frozen=True)
class CheckOptions:
    """What is done about findings."""

    on_bad_audio: str = option(
        "stop",
        "what to do with a clip that is missing or cannot be used; drops are listed in a file",
        choices=("stop", "drop"),
        driver="on_bad_audio",
    )


@dataclass(frozen=True)
class Split:
    """One input CSV: its rows, their numbers in the file (from 1), and their sounds (empty until decoded)."""

    name: str
    csv: str
    table: pd.DataFrame
    rows: tuple[int, ...]
    sounds: tuple[Sound, ...] = ()

    def where(self, i: int) -> str:
        """File and row of the i-th row that is left."""
        return f"{self.csv} row {self.rows[i]}"

    def labels(self) -> list[str]:
        """Distinct labels, sorted."""
        from synthio.manifest import LABEL, all_labels

        return all_labels(self.table[LABEL])


def get_parser():
    parser = new_parser(__doc__)
    for split, use in zip(SPLITS, ("training (gold)", "validation (model selection)", "test"), strict=True):
        parser.add_argument(f"--{split}_csv", required=True, help=f"CSV of the {use} clips: path, label")
    parser.add_argument("--output_folder", required=True, help="output: train.csv, valid.csv, test.csv")
    parser.add_argument(
        "--num_samples", type=in_range(int, 0), default=0, help="training clips that will be drawn; 0: all"
    )
    add_options(parser, CheckOptions)
    parser.add_argument("--single_label", action="store_true", help="refuse rows of several labels (multi_label=false)")
    parser.add_argument(
        "--augment_only",
        action="store_true",
        help="nothing will be generated (augment=false): leave out the advice that concerns prompts",
    )
    return parser


def listed(lines: Sequence[str]) -> str:
    """One finding on the same line; several below each other, the first ten and how many more."""
    if len(lines) == 1:
        return lines[0]
    more = [f"and {len(lines) - MAX_LISTED} more"] if len(lines) > MAX_LISTED else []
    return "".join(f"\n  {line}" for line in [*lines[:MAX_LISTED], *more])


def number(count: int, noun: str) -> str:
    """'1 clip', '2 clips'."""
    return f"{count} {noun}{'s' * (count != 1)}"


def warn(text: str) -> None:
    """Print a warning to stderr."""
    import sys

    print(f"warning: {text}", file=sys.stderr, flush=True)


# ---- what the tables alone tell


def read_split(name: str, csv: str) -> Split:
    """Read one CSV; every row has a label. Whether its clips are there is told with all else that is heard of them."""
    from synthio.manifest import read_manifest

    table = read_manifest(csv, check_files=False)
    if not len(table):
        raise UserError(f"{csv}: no rows; list at least one {name} clip")
    return Split(name, csv, table, tuple(range(1, len(table) + 1)))


def check_size(train: Split, n: int) -> None:
    """Refuse a number of samples that the training CSV cannot give."""
    from synthio.manifest import LABEL, has_several_labels

    rows, classes = len(train.table), len(train.labels())
    if classes < 2:
        raise UserError(f"{train.csv}: only one class, {train.labels()[0]!r}; a classifier needs two or more")
    if n > rows:
        raise UserError(f"{train.csv}: {rows} usable rows, fewer than num_samples {n}; set it to {rows} or 0 (all)")
    if (n or rows) < classes and not has_several_labels(train.table[LABEL]):
        raise UserError(
            f"{train.csv}: num_samples {n or rows} is less than the {classes} classes; each needs a clip, "
            f"so set {classes} or more"
        )


def check_labels(train: Split, other: Split) -> None:
    """Refuse a label that no training clip has."""
    import difflib

    from synthio.manifest import LABEL, split_labels

    known = train.labels()
    first: dict[str, int] = {}
    for i, cell in enumerate(other.table[LABEL]):
        for label in split_labels(cell):
            if label not in known:
                first.setdefault(label, i)
    if not first:
        return
    lines = []
    for label, i in first.items():
        near = difflib.get_close_matches(label, known, 1)
        lines.append(f"{other.where(i)}: label {label!r}" + (f" (near: {near[0]!r})" if near else ""))
    raise UserError(f"no clip in {train.csv} has this label of the {other.name} set: {listed(lines)}")


def check_tables(splits: Mapping[str, Split], n: int) -> None:
    """Everything that can be refused without listening."""
    check_size(splits["train"], n)
    for name in SPLITS[1:]:
        check_labels(splits["train"], splits[name])
    for split in splits.values():
        check_leaves(split)
    for a, b in combinations(splits.values(), 2):
        check_groups(a, b)


def check_single(split: Split) -> None:
    """Refuse several labels in a row where the classifiers will be told that there is one."""
    from synthio.manifest import LABEL, split_labels

    cells = [(i, cell) for i, cell in enumerate(split.table[LABEL]) if len(split_labels(cell)) > 1]
    if cells:
        i, cell = cells[0]
        raise UserError(
            f"{split.where(i)}: several labels ({cell!r}), {number(len(cells), 'such row')}, but multi_label is false; "
            "set multi_label=true, or give one label a row"
        )


def check_leaves(split: Split) -> None:
    """Refuse a leaf label (of a column that the user gave) that the clip does not have."""
    from synthio.manifest import LABEL, LEAVES, split_labels

    if LEAVES not in split.table.columns:
        return
    lines = [
        f"{split.where(i)}: leaf label {leaf!r} is not among the labels {labels!r}"
        for i, (leaves, labels) in enumerate(zip(split.table[LEAVES], split.table[LABEL], strict=True))
        for leaf in split_labels(leaves)
        if leaf not in split_labels(labels)
    ]
    if lines:
        raise UserError(f"the column {LEAVES} names some of a clip's labels, or is left out: {listed(lines)}")


def check_groups(a: Split, b: Split) -> None:
    """Refuse a group (recording, speaker, source) that is in both splits."""
    from synthio.manifest import GROUP

    if GROUP not in a.table.columns or GROUP not in b.table.columns:
        return
    refuse_shared(a, b, [g.strip() for g in a.table[GROUP]], [g.strip() for g in b.table[GROUP]], "group")


def refuse_shared(a: Split, b: Split, keys_a: Sequence[str], keys_b: Sequence[str], what: str) -> None:
    """Refuse rows of `b` whose key is also in `a`; an empty key says nothing."""
    held: dict[str, int] = {}
    for i, key in enumerate(keys_a):
        if key:
            held.setdefault(key, i)
    lines = []
    for i, key in enumerate(keys_b):
        if key in held:
            name = f" {key!r}" if what == "group" else ""
            lines.append(f"{b.where(i)} has the same {what}{name} as {a.where(held[key])}")
    if lines:
        raise UserError(
            f"{number(len(lines), f'{b.name} clip')} also in the {a.name} set, which makes scores meaningless; "
            f"remove from one of the two: {listed(lines)}"
        )


# ---- what listening tells


def listen_all(splits: Sequence[Split]) -> list[Split]:
    """The splits with their sounds."""
    from synthio.data.inspect_sound import inspect_all
    from synthio.manifest import PATH

    sounds = inspect_all([path for split in splits for path in split.table[PATH]])
    out, start = [], 0
    for split in splits:
        end = start + len(split.table)
        out.append(Split(split.name, split.csv, split.table, split.rows, tuple(sounds[start:end])))
        start = end
    return out


def stop_at_bad(splits: Sequence[Split]) -> None:
    """Refuse clips that cannot be used; all are counted, the first ten listed."""
    from synthio.manifest import PATH

    lines = [
        f"{split.where(i)}: {split.table[PATH][i]}: {sound.reason}"
        for split in splits
        for i, sound in enumerate(split.sounds)
        if sound.reason
    ]
    if lines:
        raise UserError(
            f"{number(len(lines), 'clip')} cannot be used; repair or remove, or set on_bad_audio=drop: {listed(lines)}"
        )


def without_bad(split: Split) -> tuple[Split, pd.DataFrame]:
    """The split without the clips that cannot be used, and those with a reason each."""
    from synthio.manifest import REASON

    good = [i for i, sound in enumerate(split.sounds) if not sound.reason]
    bad = [i for i, sound in enumerate(split.sounds) if sound.reason]
    dropped = split.table.iloc[bad].assign(**{REASON: [split.sounds[i].reason for i in bad]})
    if bad:
        warn(f"{split.csv}: {len(bad)} of {len(split.table)} clips dropped, the first is row {split.rows[bad[0]]}")
    if not good:
        raise UserError(f"{split.csv}: none of its {len(bad)} clips can be used ({split.sounds[bad[0]].reason})")
    kept = Split(
        split.name,
        split.csv,
        split.table.iloc[good].reset_index(drop=True),
        tuple(split.rows[i] for i in good),
        tuple(split.sounds[i] for i in good),
    )
    return kept, dropped


def check_contents(splits: Sequence[Split]) -> None:
    """Refuse a sound that is in two splits."""
    for a, b in combinations(splits, 2):
        refuse_shared(a, b, [s.identity for s in a.sounds], [s.identity for s in b.sounds], "content")


def warn_of_doubles(split: Split) -> None:
    """Warn of one sound in several rows, and of one under different labels."""
    from synthio.manifest import LABEL, split_labels

    same: dict[str, list[int]] = defaultdict(list)
    for i, sound in enumerate(split.sounds):
        if sound.identity:
            same[sound.identity].append(i)
    doubles = [rows for rows in same.values() if len(rows) > 1]
    if doubles:
        i, j = doubles[0][:2]
        repeats = number(sum(len(rows) - 1 for rows in doubles), "clip")
        warn(
            f"{split.csv}: {repeats} more than once, the first is row {split.rows[j]} (the same as row {split.rows[i]})"
        )
    cells = list(split.table[LABEL])
    labels = [frozenset(split_labels(cell)) for cell in cells]
    torn = [rows for rows in doubles if len({labels[i] for i in rows}) > 1]
    if torn:
        i, j = next((i, j) for i, j in combinations(torn[0], 2) if labels[i] != labels[j])
        warn(
            f"{split.csv}: {number(len(torn), 'sound')} with different labels, the first is "
            f"{cells[i]!r} in row {split.rows[i]} and {cells[j]!r} in row {split.rows[j]}"
        )


def warn_of_odd(split: Split) -> None:
    """Warn of clips that can be used, but are hardly what was meant: each with its row and the value."""
    from synthio.manifest import PATH

    odd = [
        f"{split.where(i)}: {split.table[PATH][i]}: {text}"
        for i, sound in enumerate(split.sounds)
        for text in sound.warnings
    ]
    if odd:
        warn(f"used, but look at {'it' if len(odd) == 1 else 'them'}: {listed(odd)}")


def warn_of_few_samples(train: Split, n: int) -> None:
    """Warn where there are more labels than clips to be drawn, which only multi-label data may have."""
    labels, clips = len(train.labels()), n or len(train.table)
    if clips < labels:
        warn(
            f"{train.csv}: num_samples {clips} is below the {labels} labels. As many labels as can be are drawn; those "
            "left out get no synthetic clip and are known from pretraining alone. Stage 1 names them"
        )


def warn_of_wordless_labels(train: Split) -> None:
    """Prompts are made from label names; '001' tells a text-to-audio model nothing."""
    wordless = [label for label in train.labels() if not any(c.isalpha() for c in label)]
    if wordless:
        warn(f"{train.csv}: prompts are made from label names, and these hold no word: {', '.join(wordless[:5])}")


# ---- output


def summary(split: Split) -> str:
    """One line: rows, classes, minutes, sample rates, channels, shortest and longest clip."""
    seconds = [sound.duration_s for sound in split.sounds]
    rates = sorted(Counter(sound.sample_rate for sound in split.sounds))
    channels = sorted({sound.channels for sound in split.sounds})
    return (
        f"{split.name}: {len(split.table)} rows, {len(split.labels())} classes, {sum(seconds) / 60:.1f} min, "
        f"{'/'.join(map(str, rates))} Hz, {'/'.join(map(str, channels))} channel{'s' * (channels != [1])}, "
        f"{min(seconds):.2f} to {max(seconds):.2f} s"
    )


def with_leaves(results: Sequence[tuple[Split, pd.DataFrame]]) -> list[tuple[Split, pd.DataFrame]]:
    """Add the column of leaf labels where labels of the training CSV have parents, unless it is there already."""
    from dataclasses import replace

    from synthio.data.hierarchy import ancestors_of, leaf_cells
    from synthio.manifest import LABEL, LEAVES

    train = results[0][0].table
    if LEAVES in train.columns:
        return list(results)
    ancestors = ancestors_of(train[LABEL])
    if not ancestors:
        return list(results)
    parents = frozenset().union(*ancestors.values())
    print(f"labels: {len(parents)} are parents of others; prompts, filter and quotas go by the rest", flush=True)
    return [
        (replace(one, table=one.table.assign(**{LEAVES: leaf_cells(one.table[LABEL], ancestors)})), dropped)
        for one, dropped in results
    ]


def write_split(split: Split, dropped: pd.DataFrame, args) -> None:
    """Write one checked CSV with its record and its drops."""
    from synthio.manifest import CONTENT, DURATION, LABEL, write_manifest

    table = split.table.assign(
        **{
            CONTENT: [sound.sha256 for sound in split.sounds],
            DURATION: [f"{sound.duration_s:.3f}" for sound in split.sounds],
        }
    )
    write_manifest(
        table,
        Path(args.output_folder) / f"{split.name}.csv",
        rows_in=len(table) + len(dropped),
        dropped=dropped,
        options=vars(args),
        inputs=[split.csv],
        notes={"classes": dict(sorted(Counter(table[LABEL]).items())), "summary": summary(split)},
    )


def main() -> int:
    args = get_parser().parse_args()
    splits = {name: read_split(name, getattr(args, f"{name}_csv")) for name in SPLITS}
    for split in splits.values():
        refuse_own_output(Path(split.csv), Path(args.output_folder) / f"{split.name}.csv")
    if args.single_label:
        for split in splits.values():
            check_single(split)
    check_tables(splits, args.num_samples)
    heard = listen_all(list(splits.values()))
    if args.on_bad_audio == "stop":
        stop_at_bad(heard)
    results = [without_bad(split) for split in heard]
    kept = {split.name: split for split, _ in results}
    check_tables(kept, args.num_samples)  # again: a class may have lost all its clips
    check_contents(list(kept.values()))
    for split in kept.values():
        warn_of_doubles(split)
        warn_of_odd(split)
    warn_of_few_samples(kept["train"], args.num_samples)
    if not args.augment_only:
        warn_of_wordless_labels(kept["train"])
    for split, dropped in with_leaves(results):
        write_split(split, dropped, args)
        print(summary(split), flush=True)
    return 0


def refuse_own_output(source: Path, output: Path) -> None:
    """An input is never written over."""
    if source.resolve() == output.resolve():
        raise UserError(f"{source} is an input and would be overwritten; choose another --output_folder")


if __name__ == "__main__":
    run_main(main)
