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

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthio.cli import UserError, progress
from synthio.data.check_inputs import SPLITS, listed, number, warn
from synthio.data.check_tables import SPLIT_WORDS as SPLIT_WORDS
from synthio.data.check_tables import is_there
from synthio.manifest import DATASET, FOLD, GROUP, LABEL, LEAVES, PATH, REASON, SPLIT, all_labels, split_labels
from synthio.options import option

if TYPE_CHECKING:
    import pandas as pd

    from synthio.audio import BadAudio
    from synthio.files import Json

TRAIN, VALID, TEST = SPLITS
WHERE, SEGMENT = "where", "segment"  # "LIST row N"; (start, end) in seconds within the recording, or None
OPTIONAL = (FOLD, GROUP, LEAVES)  # columns that are written where the dataset has them


@dataclass(frozen=True)
class Listing:
    """All clips of a dataset, one row each, and the files that list them (their hashes are recorded)."""

    table: pd.DataFrame
    files: tuple[Path, ...] = ()
    own: tuple[str, ...] = ()  # columns of the user's that are kept
    only: str = ""  # the one split that is written; "": all three


@dataclass(frozen=True)
class PrepareOptions:
    """What every reader can be told; that of a dataset is of a class that adds its own options."""

    dataset: str  # the subcommand
    output_folder: str = option("", "output: train.csv, valid.csv, test.csv", required=True)
    source: str = option("", "the dataset, as above", required=True)
    dataset_name: str = option("", "what the column `dataset` says")  # not given: the subcommand
    missing: str = option("stop", "what to do about clips that are missing or cannot be cut", choices=("stop", "drop"))
    test_share: float = option(0.2, "share to cut where there is no test set", low=0.01, high=0.9)
    valid_share: float = option(0.1, "share of the training data to cut where no set validates", low=0.01, high=0.9)
    seed: int = option(0, "decides which groups are cut", low=0)


@dataclass(frozen=True)
class OfficialTest(PrepareOptions):
    """Of a dataset with an official test set: none is ever cut."""

    test_share: float = 0


@dataclass(frozen=True)
class Dataset:
    """A subcommand of prepare.py: its help, its reader and the options that it takes."""

    text: str
    read: Callable[[Any], Listing]  # Any: each takes an object of its own class, `options`
    options: type[PrepareOptions] = OfficialTest


def list_clips(rows: Iterable[Mapping[str, Any]], files: Sequence[Path] = ()) -> Listing:
    """A listing of mappings: path, label, where; split_name, fold, group, leaves, segment, reason if known."""
    import pandas as pd

    defaults = {SPLIT: TRAIN, FOLD: "", GROUP: "", LEAVES: "", SEGMENT: None, REASON: ""}
    records = [{**defaults, **row, PATH: str(row[PATH])} for row in rows]
    if not records:
        raise UserError(f"no clips found in {', '.join(map(str, files)) or 'the source folder'}")
    for record in records:
        if fault := unfit_name(record[PATH]):
            raise UserError(f"{record[PATH]!a}: the name {fault}, which a CSV cannot hold; rename the file")
    return Listing(pd.DataFrame(records).astype({SEGMENT: object}), tuple(files))


# ---- finding and reading what a dataset ships


def find_root(options: PrepareOptions, marker: str, *subfolders: str) -> Path:
    """The source folder, or one of its subfolders, that holds `marker` (a relative path)."""
    source = Path(options.source).absolute()
    for folder in (source, *(source / name for name in subfolders)):
        if (folder / marker).exists():
            return folder
    raise UserError(f"{source}: {marker} is not there; get the dataset (see {options.dataset} --help)")


def unfit_name(name: str) -> str:
    """Why a file's name cannot stand in a CSV, or "". Python hands bytes that are no text over as surrogates."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "is not UTF-8"
    return "holds a line break" if len(name.splitlines()) > 1 else ""


# What file systems and unpackers put beside the files of a user; names that begin with a dot are passed over as well.
NOT_THE_USERS = ("__MACOSX", "@eaDir", "lost+found", "System Volume Information")


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none that a user put there."""
    return name.startswith(".") or name in NOT_THE_USERS


def walk_files(folder: Path, within: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Every file below a folder in the order of names, but hidden ones. Linked folders are followed.

    A folder that holds one of those that lead to it (`within`, resolved) is not entered: that would be a circle.
    """
    real = folder.resolve()
    if any(outer.is_relative_to(real) for outer in within):
        return
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from None
    for name in names:
        path = folder / name
        if is_hidden(name):
            continue
        if path.is_dir():
            yield from walk_files(path, within | {real})
        else:
            yield path


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


def _in_counting_order(name: str) -> list[tuple[bool, int, str]]:
    """Sorts '2' before '10', and 'fold2' before 'fold10'."""
    return [
        (not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name) if part
    ]


def fold_splits(folds: Sequence[str], test: str, valid: str | None, source: Path) -> list[str]:
    """The split of each clip from its fold; the validation fold is the one before the test fold unless given."""
    known = sorted(set(folds), key=_in_counting_order)
    for flag, fold in (("--test_fold", test), ("--valid_fold", valid)):
        if fold is not None and fold not in known:
            raise UserError(f"{source}: no fold {fold!r} ({flag}); the folds are {', '.join(map(repr, known))}")
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
        if not reason and not is_there(path)
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
    rows = table.index[(table[SPLIT] == TRAIN) & (table[REASON] == "")]
    labels = [split_labels(table[LABEL][i]) for i in rows]
    groups = [f"group {table[GROUP][i]}" if table[GROUP][i] else f"clip {i}" for i in rows]
    chosen = cut_groups(labels, groups, share, seed)
    table.loc[[i for i, group in zip(rows, groups, strict=True) if group in chosen], SPLIT] = split


def cut_recording(path: Path, spans: Sequence[tuple[float, float]], folder: Path) -> list[Path | BadAudio]:
    """Write parts of a recording as WAV files in its own rate and channels, each once; it is decoded once for all.

    Samples from round(start * rate) up to round(end * rate); an end past the recording, or below 0, is its end.

    Args:
        path: the recording, of any length.
        spans: (start, end) in s.
        folder: where the files go.

    Returns:
        For each span its file, or why it cannot be had.
    """
    from synthio.audio import BadAudio, probe
    from synthio.files import sha256_value

    try:
        sample_rate, _, frames = probe(path, max_duration_s=math.inf)
    except BadAudio as error:
        return [error] * len(spans)
    stat = path.stat()
    out: list[Path | BadAudio] = []
    wanted: dict[Path, tuple[int, int]] = {}
    for start_s, end_s in spans:
        first, last = round(start_s * sample_rate), frames if end_s < 0 else min(round(end_s * sample_rate), frames)
        if not 0 <= first < last:
            lasts = f"it lasts {frames / sample_rate:g} s"
            out.append(BadAudio(f"no sound from {start_s:g} to {end_s:g} s; {lasts}"))
            continue
        key = sha256_value([str(path), stat.st_size, stat.st_mtime_ns, first, last])[:12]
        file = folder / f"{path.stem}_{start_s:g}_{key}.wav"
        out.append(file)
        if not file.is_file():
            wanted[file] = first, last
    failed = _write_parts(path, wanted) if wanted else {}
    return [failed.get(result, result) if isinstance(result, Path) else result for result in out]


def _write_parts(path: Path, wanted: Mapping[Path, tuple[int, int]]) -> dict[Path, BadAudio]:
    """Write samples [first, last) of a recording to each file; why not, of those that cannot be had."""
    import numpy as np

    from synthio.audio import BadAudio, check_samples, write_wav
    from synthio.formats.decoding import open_sound

    waiting = sorted(wanted, key=lambda file: wanted[file])
    parts: dict[Path, list[np.ndarray]] = {}
    failed: dict[Path, BadAudio] = {}

    def finish(file: Path, sample_rate: int) -> None:
        audio = np.concatenate(parts.pop(file), axis=1)
        try:
            check_samples(audio)
            write_wav(file, audio, sample_rate)
        except BadAudio as error:
            failed[file] = error

    at = 0
    try:
        with open_sound(path) as stream:
            while waiting or parts:
                block = next(stream.blocks, None)
                if block is None:
                    raise BadAudio(f"truncated: {at} samples could be decoded")
                while waiting and wanted[waiting[0]][0] < at + block.shape[1]:
                    parts[waiting.pop(0)] = []
                for file in list(parts):
                    first, last = wanted[file]
                    parts[file].append(block[:, max(first - at, 0) : last - at])
                    if last <= at + block.shape[1]:
                        finish(file, stream.sample_rate)
                at += block.shape[1]
    except BadAudio as error:
        failed |= dict.fromkeys([*waiting, *parts], error)
    return failed


def cut_segments(table: pd.DataFrame, folder: Path, action: str) -> None:
    """Replace the path of each clip that is a part of a recording by that of the WAV file cut from it.

    A part that cannot be had (the recording is cut short, or unreadable) is treated as a missing file is.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for i, segment in enumerate(table[SEGMENT]):
        if segment is not None and not table[REASON][i]:
            rows[table[PATH][i]].append(i)
    for path, parts in progress(rows.items(), "cutting", total=len(rows)):
        files = cut_recording(Path(path), [table[SEGMENT][i] for i in parts], folder)
        for i, file in zip(parts, files, strict=True):
            if isinstance(file, Path):
                table.loc[i, PATH] = str(file)
            elif action == "stop":
                raise UserError(f"{table[WHERE][i]}: {path}: {file}")
            else:
                table.loc[i, REASON] = str(file)


def warn_of_lost(table: pd.DataFrame, source: str) -> None:
    """Name classes of which all clips were left out, with what became of their first clip."""
    left = set(all_labels(table[LABEL][table[REASON] == ""]))
    lost = [label for label in all_labels(table[LABEL]) if label not in left]
    lines = []
    for label in lost:
        i = next(i for i, cell in enumerate(table[LABEL]) if label in split_labels(cell))
        lines.append(f"{label!r}, first in {table[WHERE][i]}: {table[REASON][i]}")
    if lines:
        warn(f"{source}: labels of which no clip is left: {listed(lines)}")


def make_tables(listing: Listing, options: PrepareOptions) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """(clips, dropped clips with a reason) of each split."""
    table = listing.table.reset_index(drop=True)
    mark_missing(table, options.missing)
    part_groups(table)
    for split, share in () if listing.only else ((TEST, options.test_share), (VALID, options.valid_share)):
        if not ((table[SPLIT] == split) & (table[REASON] == "")).any() and share:
            cut_split(table, split, share, options.seed)
    cut_segments(table, Path(options.output_folder).absolute() / "audio", options.missing)
    splits = (listing.only,) if listing.only else SPLITS
    for split in splits:
        if not ((table[SPLIT] == split) & (table[REASON] == "")).any():
            raise UserError(
                f"{options.source}: no {split} clips are left; see {options.dataset} --help for what is needed"
            )
    warn_of_lost(table, options.source)
    table[DATASET] = options.dataset_name
    columns = [PATH, LABEL, DATASET, *(name for name in OPTIONAL if (table[name] != "").any()), *listing.own]
    kept = table[REASON] == ""
    return {
        split: (table[kept & chosen][columns], table[~kept & chosen][[*columns, REASON]])
        for split, chosen in ((split, table[SPLIT] == split) for split in splits)
    }
