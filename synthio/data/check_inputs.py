"""Check the three input CSVs and every clip in them before anything is computed.

    python -m synthio.data.check_inputs --train_csv train.csv --valid_csv valid.csv --test_csv test.csv \\
        --output_folder demo/checked --num_samples 100

Each clip is decoded once. The output folder gets train.csv, valid.csv and test.csv with all columns of the input and
two more: `sha256`, a hash of the sound (its mono mix at the file's own rate, 16 bits; WAV and FLAC of one recording
agree), and `duration_s`. A clip that is in two splits, by this hash or by its `group` (if the CSV has that column), is
an error. A resampled, cut or re-encoded (OGG, MP3) copy is another sound to the hash: only a `group` column finds it.

Labels are written without spaces around them, so that every later stage sees the same classes. A column of yours with a
name that the stages use themselves (`source_path`, `caption`, ...) goes on as `input_<name>`.

Rows are counted from 1 without the header. All problems of the tables and of their clips are told at once, and end with
status 2 before anything is written. With `--on_bad_audio drop`, clips that cannot be used, missing ones among them, are
left out and listed in the .dropped.csv beside each output.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthio.cli import UserError, in_range, new_parser, run_main
from synthio.data.check_tables import SPLITS, Split, check_tables, free_name, is_there, missing_clip, read_split, shared
from synthio.data.options import CheckOptions
from synthio.data.problems import MAX_LISTED, Findings, listed, number
from synthio.options import add_options, from_args

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Checked:
    """What was found, and (clips, dropped clips with a reason) of each CSV that could be read."""

    findings: Findings
    results: list[tuple[Split, pd.DataFrame]]


def get_parser():
    parser = new_parser(__doc__)
    for split, use in zip(SPLITS, ("training (gold)", "validation (model selection)", "test"), strict=True):
        parser.add_argument(f"--{split}_csv", required=True, help=f"CSV of the {use} clips: path, label")
    parser.add_argument("--output_folder", required=True, help="output: train.csv, valid.csv, test.csv")
    parser.add_argument(
        "--num_samples", type=in_range(int, 0), default=0, help="training clips that will be drawn; 0: all"
    )
    add_options(parser, CheckOptions)
    parser.add_argument("--retrieval_csv", default="", help="CSV of a corpus (path), of which clips will be taken")
    parser.add_argument("--other_csv", default="", help="CSV (path) or folder of sounds that are none of the labels")
    parser.add_argument(
        "--augment_only",
        action="store_true",
        help="nothing will be generated (augment=false): leave out the advice that concerns prompts",
    )
    return parser


def warn(text: str) -> None:
    """Print a warning to stderr."""
    import sys

    print(f"warning: {text}", file=sys.stderr, flush=True)


# ---- what listening tells


def listen_all(splits: Sequence[Split]) -> list[Split]:
    """The splits with their sounds."""
    from synthio.data.inspect_sound import inspect_all
    from synthio.manifest import PATH

    sounds = inspect_all([path for split in splits for path in split.table[PATH].tolist()])
    out, start = [], 0
    for split in splits:
        end = start + len(split.table)
        out.append(replace(split, sounds=tuple(sounds[start:end])))
        start = end
    return out


def bad_clips(split: Split, kind: str) -> Iterator[str]:
    """The clips of a split that are `missing`, or are there and cannot be `read`."""
    from synthio.manifest import PATH

    said = 0
    for i, sound in enumerate(split.sounds):
        path = split.table[PATH][i] if sound.reason else ""
        if not sound.reason or is_there(path) == (kind == "missing"):
            continue
        said += 1
        if kind == "missing" and said <= MAX_LISTED:  # what may be meant is looked for, and more is not shown
            yield f"{split.where(i)}: {missing_clip(path, split.csv, split.name)}"
        else:
            mend = "repair or remove it, or set on_bad_audio=drop"
            yield f"{split.where(i)}: {split.path_text(i)}: {sound.reason}; {mend}"


def without_bad(split: Split) -> tuple[Split, pd.DataFrame]:
    """The split without the clips that cannot be used, and those with a reason each."""
    from synthio.manifest import REASON

    good = [i for i, sound in enumerate(split.sounds) if not sound.reason]
    bad = [i for i, sound in enumerate(split.sounds) if sound.reason]
    return split.take(good), split.table.iloc[bad].assign(**{REASON: [split.sounds[i].reason for i in bad]})


def say_drops(split: Split, findings: Findings) -> None:
    """Warn of clips that are dropped; refuse a split of which none is left."""

    bad = [i for i, sound in enumerate(split.sounds) if sound.reason]
    if bad and len(bad) == len(split.sounds):
        text = f"{split.csv}: none of its {len(bad)} clips can be used ({split.sounds[bad[0]].reason})"
        findings.add("sets are empty", [text])
    elif bad:
        i = bad[0]
        first = f"row {split.rows[i]}: {split.path_text(i)}: {split.sounds[i].reason}"
        findings.warnings.append(f"{split.csv}: {len(bad)} of {len(split.table)} clips dropped, the first is {first}")


def doubles(split: Split) -> Iterator[str]:
    """One sound in several rows, and one under different labels."""
    from synthio.manifest import LABEL, split_labels

    same: dict[str, list[int]] = defaultdict(list)
    for i, identity in enumerate(split.identities()):
        if identity:
            same[identity].append(i)
    several = [rows for rows in same.values() if len(rows) > 1]
    if several:
        i, j = several[0][:2]
        repeats = number(sum(len(rows) - 1 for rows in several), "clip")
        first = f"the first is row {split.rows[j]} (the same as row {split.rows[i]})"
        yield f"{split.csv}: {repeats} more than once, {first}"
    cells = split.table[LABEL].tolist()
    labels = [frozenset(split_labels(cell)) for cell in cells]
    torn = [rows for rows in several if len({labels[i] for i in rows}) > 1]
    if torn:
        i, j = next((i, j) for i, j in combinations(torn[0], 2) if labels[i] != labels[j])
        yield (
            f"{split.csv}: {number(len(torn), 'sound')} with different labels, the first is "
            f"{cells[i]!r} in row {split.rows[i]} and {cells[j]!r} in row {split.rows[j]}"
        )


def odd_clips(split: Split) -> Iterator[str]:
    """Clips that can be used, but are hardly what was meant: each with its row and the value."""

    odd = [
        f"{split.where(i)}: {split.path_text(i)}: {text}"
        for i, sound in enumerate(split.sounds)
        for text in sound.warnings
    ]
    if odd:
        yield f"used, but look at {'it' if len(odd) == 1 else 'them'}: {listed(odd)}"


def too_long(train: Split, latent_seconds: float | str) -> Iterator[str]:
    """Training clips that the latents of a run do not hold, where their length was given: one line for all of them."""
    if isinstance(latent_seconds, str):
        return
    longer = [i for i, sound in enumerate(train.sounds) if round(sound.duration_s, 3) > latent_seconds]
    if longer:
        i = max(longer, key=lambda row: train.sounds[row].duration_s)
        yield (
            f"{train.csv}: {number(len(longer), 'clip')} longer than latent_seconds {latent_seconds:g}; the longest is "
            f"row {train.rows[i]}: {train.path_text(i)}, {train.sounds[i].duration_s:.2f} s. Raise it, or set auto"
        )


def few_samples(train: Split, n: int) -> Iterator[str]:
    """More labels than clips to be drawn, which only multi-label data may have."""
    labels, clips = len(train.labels()), n or len(train.table)
    if clips < labels:
        yield (
            f"{train.csv}: num_samples {clips} is below the {labels} labels. As many labels as can be are drawn; those "
            "left out get no synthetic clip and are known from pretraining alone. Stage 1 names them"
        )


def wordless_labels(train: Split) -> Iterator[str]:
    """Prompts are made from label names; '001' tells a text-to-audio model nothing."""
    wordless = [label for label in train.labels() if not any(c.isalpha() for c in label)]
    if wordless:
        yield f"{train.csv}: prompts are made from label names, and these hold no word: {', '.join(wordless[:5])}"


# ---- all of it


def check_all(
    csvs: Mapping[str, str], n: int, options: CheckOptions, augment_only: bool = False, most: int | None = None
) -> Checked:
    """Everything that can be known of the three CSVs and their clips.

    Args:
        csvs: of train, valid and test.
        n: training clips that will be drawn; 0: all.
        options: what is done about findings.
        augment_only: nothing will be generated.
        most: how many clips are listened to, evenly spread; None: all.
    """
    findings = Findings()
    read = {name: split for name, csv in csvs.items() if (split := read_split(name, csv, findings))}
    total = sum(len(split.table) for split in read.values())
    is_part = most is not None and total > most
    chosen = [
        thinned(split, most * len(split.table) // total) if most and is_part else split for split in read.values()
    ]
    heard, drop = listen_all(chosen), options.on_bad_audio == "drop"
    results = [without_bad(split) for split in heard]
    kept = {split.name: split for split, _ in results}
    check_tables(kept if drop and not is_part else read, n, options.multi_label, findings)
    for split in heard:
        if drop:
            say_drops(split, findings)
        else:
            findings.add("clips are not there", bad_clips(split, "missing"))
            findings.add("clips cannot be used", bad_clips(split, "read"))
    for a, b in combinations(kept.values(), 2):
        findings.add("sounds are in two sets", shared(a, b, a.identities(), b.identities(), "content"))
    for split in kept.values():
        findings.warnings += [*doubles(split), *odd_clips(split)]
    if "train" in read and options.multi_label:
        findings.warnings += few_samples(read["train"], n)
    if "train" in read and not augment_only:
        findings.warnings += wordless_labels(read["train"])
    if "train" in kept and not augment_only:
        findings.add("clips are longer than the latents", too_long(kept["train"], options.latent_seconds))
    return Checked(findings, results)


def thinned(split: Split, most: int) -> Split:
    """A split of at most so many rows, evenly spread."""
    return split.take(range(0, len(split.table), -(-len(split.table) // max(1, most))))


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


def with_sounds(split: Split) -> pd.DataFrame:
    """The table with hash and duration; what other values the user has under these names goes on as `input_<name>`."""
    from synthio.manifest import CONTENT, DURATION

    table = split.table
    ours = {
        CONTENT: [sound.sha256 for sound in split.sounds],
        DURATION: [f"{sound.duration_s:.3f}" for sound in split.sounds],
    }
    for name, cells in ours.items():
        if name in table.columns and table[name].tolist() != cells:
            table = table.rename(columns={name: free_name(name, table.columns)})
            warn(
                f"{split.csv}: column {name!r} says something else than what is heard; its values are kept as "
                f"{free_name(name, split.table.columns)!r}"
            )
    return table.assign(**ours)


def write_split(split: Split, dropped: pd.DataFrame, folder: Path, options: Mapping[str, Any]) -> None:
    """Write one checked CSV with its record, which tells the options, and its drops."""
    from synthio.manifest import LABEL, write_manifest

    table = with_sounds(split)
    write_manifest(
        table,
        folder / f"{split.name}.csv",
        rows_in=len(table) + len(dropped),
        dropped=dropped,
        options=options,
        inputs=[split.csv],
        notes={"classes": dict(sorted(Counter(table[LABEL]).items())), "summary": summary(split)},
    )


def main() -> int:
    from synthio.data.corpus import check_sounds

    args = get_parser().parse_args()
    csvs, folder = {name: getattr(args, f"{name}_csv") for name in SPLITS}, Path(args.output_folder)
    for name, csv in csvs.items():
        refuse_own_output(Path(csv), folder / f"{name}.csv")
    checked = check_all(csvs, args.num_samples, from_args(CheckOptions, args), args.augment_only)
    sounds = {name: value for name in ("retrieval_csv", "other_csv") if (value := getattr(args, name))}
    check_sounds(sounds, checked.findings)
    for text in checked.findings.warnings:
        warn(text)
    checked.findings.refuse()
    for split, dropped in with_leaves(checked.results):
        write_split(split, dropped, folder, vars(args))
        print(summary(split), flush=True)
    return 0


def refuse_own_output(source: Path, output: Path) -> None:
    """An input is never written over."""
    if source.resolve() == output.resolve():
        raise UserError(f"{source} is an input and would be overwritten; choose another --output_folder")


if __name__ == "__main__":
    run_main(main)
