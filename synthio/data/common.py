"""What the dataset preparers share: a reader lists a dataset's clips, and the listing becomes three tables.

A reader gives one row a clip: path, label, the official split ("train" where there is none), group and fold where the
dataset has them, and the list and row it stands in. From that, in this order:

1. A listed clip that is missing is an error that names list and row, or is dropped (`--missing drop`).
2. No group (recording, speaker, song, ...) may be in two splits. The test set stays whole: training and validation
   clips of its groups are dropped. Of a group in both training and validation the smaller part is dropped. An
   official validation set that loses more than half to the test set is not used at all.
3. Where there is no test or validation set, one is cut from the training data: whole groups, in an order drawn from
   the seed, each taken if that brings the share of its labels nearer to the one wanted.
4. Clips that are a part of a longer recording are cut out as WAV files; all other audio stays where it is.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthio.cli import UserError, progress
from synthio.data.check_inputs import SPLITS, listed, number
from synthio.manifest import DATASET, FOLD, GROUP, LABEL, PATH, REASON, SPLIT

if TYPE_CHECKING:
    import pandas as pd

    from synthio.files import Json

TRAIN, VALID, TEST = SPLITS
WHERE, SEGMENT = "where", "segment"  # "LIST row N"; (start, end) in seconds within the recording, or None
OPTIONAL = (FOLD, GROUP)  # columns that are written where the dataset has them
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "tr"), TRAIN),
    **dict.fromkeys(("valid", "validation", "val", "dev"), VALID),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), TEST),
}


@dataclass(frozen=True)
class Listing:
    """All clips of a dataset, one row each, and the files that list them (their hashes are recorded)."""

    table: pd.DataFrame
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """A subcommand of prepare.py: its help, its reader and its own options."""

    text: str
    read: Callable[[argparse.Namespace], Listing]
    add_options: Callable[[argparse.ArgumentParser], None]
    official_test: bool = True


def list_clips(rows: Iterable[Mapping[str, Any]], files: Sequence[Path] = ()) -> Listing:
    """A listing from one mapping a clip: path, label, where; split_name, fold, group, segment, reason if known."""
    import pandas as pd

    defaults = {SPLIT: TRAIN, FOLD: "", GROUP: "", SEGMENT: None, REASON: ""}
    records = [{**defaults, **row, PATH: str(row[PATH])} for row in rows]
    if not records:
        raise UserError(f"no clips found in {', '.join(map(str, files)) or 'the source folder'}")
    return Listing(pd.DataFrame(records).astype({SEGMENT: object}), tuple(files))


# ---- finding and reading what a dataset ships


def find_root(args: argparse.Namespace, marker: str, *subfolders: str) -> Path:
    """The source folder, or one of its subfolders, that holds `marker` (a relative path)."""
    source = Path(args.source).absolute()
    for folder in (source, *(source / name for name in subfolders)):
        if (folder / marker).exists():
            return folder
    raise UserError(f"{source}: {marker} is not there; get the dataset (see {args.dataset} --help)")


def where(path: Path, row: int) -> str:
    """How errors name a row, counted from 1 without the header."""
    return f"{path} row {row}"


def read_lines(path: Path) -> list[str]:
    """The lines of a text list, blank ones included, so that the i-th is row i + 1."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason})") from None


def load_json(path: Path) -> Json:
    """A JSON file of the dataset."""
    from synthio.files import read_json

    try:
        return read_json(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except ValueError as error:
        raise UserError(f"{path}: not readable JSON ({error})") from None


def fold_splits(folds: Sequence[str], test: str, valid: str | None, source: Path) -> list[str]:
    """The split of each clip from its fold; the validation fold is the one before the test fold unless given."""
    known = sorted(set(folds), key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))
    for option, fold in (("--test_fold", test), ("--valid_fold", valid)):
        if fold is not None and fold not in known:
            raise UserError(f"{source}: no fold {fold!r} ({option}); the folds are {', '.join(map(repr, known))}")
    valid = known[known.index(test) - 1] if valid is None else valid
    if valid == test:
        raise UserError(f"--valid_fold {valid} is the test fold; the test data must not be seen before the test")
    names = {test: TEST, valid: VALID}
    return [names.get(fold, TRAIN) for fold in folds]


# ---- from a listing to three tables


def mark_missing(table: pd.DataFrame, action: str) -> None:
    """Refuse clips that are not there, or mark them as dropped."""
    missing = [
        i
        for i, (path, reason) in enumerate(zip(table[PATH], table[REASON], strict=True))
        if not reason and not Path(path).is_file()
    ]
    if missing and action == "stop":
        lines = [f"{table[WHERE][i]}: no such file: {table[PATH][i]}" for i in missing]
        raise UserError(
            f"{number(len(lines), 'listed clip')} missing; get them, or leave them out with --missing drop: "
            f"{listed(lines)}"
        )
    table.loc[missing, REASON] = "missing file"


def shared_groups(table: pd.DataFrame) -> dict[str, Counter]:
    """Groups in more than one split: how many of their clips are in which."""
    held: dict[str, Counter] = defaultdict(Counter)
    for group, split, reason in zip(table[GROUP], table[SPLIT], table[REASON], strict=True):
        if group and not reason:
            held[group][split] += 1
    return {group: splits for group, splits in held.items() if len(splits) > 1}


def drop_split(table: pd.DataFrame, losers: Mapping[str, str | tuple[str, ...]], reason: str) -> None:
    """Mark the clips of each group that lie in its losing splits."""
    lost = [
        not gone and split in losers.get(group, ())
        for group, split, gone in zip(table[GROUP], table[SPLIT], table[REASON], strict=True)
    ]
    table.loc[lost, REASON] = reason


def part_groups(table: pd.DataFrame) -> None:
    """Mark what must go so that no group is in two splits (rule 2 above)."""
    before = Counter(table[SPLIT][table[REASON] == ""])[VALID]
    in_test = {group: (TRAIN, VALID) for group, splits in shared_groups(table).items() if splits[TEST]}
    drop_split(table, in_test, "its group is also in the test set")
    left = (table[SPLIT] == VALID) & (table[REASON] == "")
    if 2 * left.sum() < before:
        table.loc[left, REASON] = "most of the official validation set shares groups with the test set"
    smaller = {
        group: (TRAIN,) if splits[TRAIN] < splits[VALID] else (VALID,) for group, splits in shared_groups(table).items()
    }
    drop_split(table, smaller, "its group is also in the training or validation set")


def cut_groups(labels: Sequence[Sequence[str]], groups: Sequence[str], share: float, seed: int) -> set[str]:
    """Groups that hold about `share` of every label; training keeps some of each label.

    Args:
        labels: of each clip.
        groups: of each clip.
        share: how much of each label is wanted, 0 to 1.
        seed: decides the order in which groups are tried.
    """
    import numpy as np

    held: dict[str, Counter] = defaultdict(Counter)
    for clip, group in zip(labels, groups, strict=True):
        held[group].update(clip)
    total: Counter = Counter()
    for counts in held.values():
        total.update(counts)
    names = sorted(held)
    np.random.default_rng(seed).shuffle(names)
    taken: Counter = Counter()
    chosen: set[str] = set()

    def leaves_some(group: str) -> bool:
        return all(taken[label] + n < total[label] for label, n in held[group].items())

    def gain(group: str) -> float:
        gaps = [(share * total[label] - taken[label], n) for label, n in held[group].items()]
        return sum(abs(gap) - abs(gap - n) for gap, n in gaps)

    def take(group: str) -> None:
        chosen.add(group)
        taken.update(held[group])

    for group in names:
        if leaves_some(group) and gain(group) >= 0:
            take(group)
    for label in sorted(total, key=lambda label: (total[label], label)):
        if taken[label]:
            continue
        options = [group for group in names if label in held[group] and leaves_some(group)]
        if options:
            take(min(options, key=lambda group: held[group].total()))
    return chosen


def cut_split(table: pd.DataFrame, split: str, share: float, seed: int) -> None:
    """Move about `share` of the training clips, in whole groups, to a split that the dataset does not have."""
    from synthio.manifest import split_labels

    rows = table.index[(table[SPLIT] == TRAIN) & (table[REASON] == "")]
    labels = [split_labels(table[LABEL][i]) for i in rows]
    groups = [f"group {table[GROUP][i]}" if table[GROUP][i] else f"clip {i}" for i in rows]
    chosen = cut_groups(labels, groups, share, seed)
    table.loc[[i for i, group in zip(rows, groups, strict=True) if group in chosen], SPLIT] = split


def cut_segment(path: Path, start_s: float, end_s: float, folder: Path) -> Path:
    """Write a part of a recording as a WAV file in its own rate and channels, once.

    Samples from round(start * rate) up to round(end * rate); an end past the recording, or below 0, is its end.
    """
    import math

    import numpy as np
    import soundfile

    from synthio.audio import BadAudio, probe, write_wav
    from synthio.files import sha256_value

    sample_rate, _, frames = probe(path, max_duration_s=math.inf)
    first, last = round(start_s * sample_rate), frames if end_s < 0 else min(round(end_s * sample_rate), frames)
    if not 0 <= first < last:
        raise BadAudio(f"no sound from {start_s:g} to {end_s:g} s; it lasts {frames / sample_rate:g} s")
    stat = path.stat()
    key = sha256_value([str(path), stat.st_size, stat.st_mtime_ns, first, last])[:12]
    out = folder / f"{path.stem}_{start_s:g}_{key}.wav"
    if not out.is_file():
        try:
            audio, _ = soundfile.read(str(path), start=first, stop=last, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise BadAudio(f"unreadable from {start_s:g} s on: {error}") from None
        if len(audio) < last - first or not np.isfinite(audio).all():
            raise BadAudio(f"truncated, or holds NaN or infinite samples, from {start_s:g} to {end_s:g} s")
        write_wav(out, audio.T, sample_rate)
    return out


def cut_segments(table: pd.DataFrame, folder: Path, action: str) -> None:
    """Replace the path of each clip that is a part of a recording by that of the WAV file cut from it.

    A part that cannot be had (the recording is cut short, or unreadable) is treated as a missing file is.
    """
    from synthio.audio import BadAudio

    rows = [i for i, segment in enumerate(table[SEGMENT]) if segment is not None and not table[REASON][i]]
    for i in progress(rows, "cutting"):
        try:
            start_s, end_s = table[SEGMENT][i]
            table.loc[i, PATH] = str(cut_segment(Path(table[PATH][i]), start_s, end_s, folder))
        except BadAudio as error:
            if action == "stop":
                raise UserError(f"{table[WHERE][i]}: {table[PATH][i]}: {error}") from None
            table.loc[i, REASON] = str(error)


def make_tables(listing: Listing, args: argparse.Namespace) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """(clips, dropped clips with a reason) of each split."""
    table = listing.table.reset_index(drop=True)
    mark_missing(table, args.missing)
    part_groups(table)
    for split, share in ((TEST, args.test_share), (VALID, args.valid_share)):
        if not ((table[SPLIT] == split) & (table[REASON] == "")).any() and share:
            cut_split(table, split, share, args.seed)
    cut_segments(table, Path(args.output_folder).absolute() / "audio", args.missing)
    for split in SPLITS:
        if not ((table[SPLIT] == split) & (table[REASON] == "")).any():
            raise UserError(f"{args.source}: no {split} clips are left; see {args.dataset} --help for what is needed")
    table[DATASET] = args.dataset_name
    columns = [PATH, LABEL, DATASET, *(name for name in OPTIONAL if (table[name] != "").any())]
    kept = table[REASON] == ""
    return {
        split: (table[kept & chosen][columns], table[~kept & chosen][[*columns, REASON]])
        for split, chosen in ((split, table[SPLIT] == split) for split in SPLITS)
    }
