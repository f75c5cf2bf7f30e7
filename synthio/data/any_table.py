"""Reader of any table of clips: columns of any names, CSV of any kind, Excel, JSON, Parquet."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthio.cli import UserError
from synthio.data.check_inputs import SPLITS, listed, number, warn
from synthio.data.check_tables import SPLIT_WORDS, empty_cells, free_name, headers_again, line_breaks, repeated_headers
from synthio.data.common import SEGMENT, TRAIN, WHERE, Listing, PrepareOptions, fold_splits, list_clips, where
from synthio.data.find_clips import find_clip
from synthio.data.problems import Findings
from synthio.formats.tables import (
    column_key,
    doubled,
    find_column,
    find_parts,
    group_column,
    is_group_name,
    load,
    names_of,
    recognise,
)
from synthio.manifest import (
    DATASET,
    FOLD,
    GROUP,
    LABEL,
    LABEL_SEPARATOR,
    PATH,
    REASON,
    SPLIT,
    clean_labels,
    resolve_paths,
    split_labels,
)
from synthio.options import Value, option

if TYPE_CHECKING:
    import pandas as pd

TAKEN = (PATH, LABEL, DATASET, FOLD, GROUP, SPLIT, REASON, SEGMENT, WHERE)  # columns of a listing
HELP = """A CSV with columns of any names, or another table.

--source is the file; paths start at its folder or at --audio_root. Besides UTF-8 with commas it may be UTF-16 or
cp1252, have semicolons or tabs, no header, a title above it, or be JSON, JSON Lines, Excel or Parquet (for these two a
library has to be installed; the error names it). Paths may have backslashes, `~`, $HOME, file://, %20, another Unicode
form than the file's name, or no suffix, as long as one file alone is meant.

Splits come from --split_column (train, valid or validation, test, ...), or from --fold_column with --test_fold and
--valid_fold (not given: the one before); what is not there is cut from the training data by --seed, so that no group is
in two splits. With --as_split the whole table is one split, and only that CSV is written. With --start_column, and
--end_column or --duration_column, each row is a part of its file, and is cut to WAV. The parts of a file are one group.
What is wrong with the rows is told at once, at most 20 lines and a count. The licence is that of your data."""


def group_of(path: Path, pattern: str | None) -> str:
    """What --group_regex finds in the path of a clip."""
    if pattern is None:
        return ""
    found = re.search(pattern, path.as_posix())
    if not found or not found.groups():
        raise UserError(f"{path}: --group_regex {pattern!r} has to match, with a group in parentheses")
    return found[1]


def regex(text: str) -> str:
    """Argument type: a regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a regular expression ({error})") from None
    return text


def encoding(text: str) -> str:
    """Argument type: the name of an encoding."""
    try:
        "".encode(text)
    except LookupError:
        raise argparse.ArgumentTypeError(f"'{text}' is no encoding that Python knows, such as cp932") from None
    return text


def group_option() -> Value:
    """The option --group_regex, for `group_of`."""
    return option(
        None,
        "regular expression on the path of a clip, from --source on; what its parentheses match names the recording "
        "or speaker, and no split shares it",
        reads=regex,
    )


@dataclass(frozen=True)
class TableOptions(PrepareOptions):
    """Which columns are read, and what their cells mean."""

    path_column: str | None = option(
        None, "column of the sound files; not given: path, file, filename, or what else is usual"
    )
    label_column: str | None = option(
        None, "column of the labels; not given: label, class, category, or what else is usual"
    )
    label_separator: str | None = option(None, "what joins several labels, if it is not ;")
    multi_label: bool = option(False, "clips have several labels: a clip that is listed again brings another one")
    group_column: str | None = option(
        None, "column of the recording, speaker or source; no split shares one; not given: group, if there is one"
    )
    group_regex: str | None = group_option()
    split_column: str | None = option(None, "column that names the split")
    as_split: str | None = option(
        None, "the whole table is this split; the CSVs of the others are not written", choices=SPLITS
    )
    fold_column: str | None = option(None, "column that names the fold")
    test_fold: str | None = option(None, "fold to test on")
    valid_fold: str | None = option(None, "fold to validate on; not given: the one before the test fold")
    start_column: str | None = option(None, "column of the time in s at which a clip starts within its file")
    end_column: str | None = option(
        None, "column of the time in s at which a clip ends; not given, or an empty cell: with the file"
    )
    duration_column: str | None = option(None, "column of a clip's length in s, in place of --end_column")
    audio_root: str | None = option(None, "where relative paths start; not given: the folder of the table")
    encoding: str | None = option(None, "encoding of a text, such as cp932; not given: found out", reads=encoding)


# ---- the columns


def read_any(source: Path, encoding: str | None) -> pd.DataFrame:
    """The table as text; a line break within a cell of a CSV is refused, because a stray quote makes such cells."""
    form = recognise(source, encoding)
    if twice := doubled(source, form):
        raise UserError(twice[0])
    table = load(source, form)
    if form.kind == "csv" and form.encoding in ("cp1252", "latin-1") and not encoding:
        cells = (cell for name in table.columns for cell in table[name].tolist() if not cell.isascii())
        warn(f"{source}: not UTF-8; read as {form.encoding}, such as {next(cells, '')!r}; if wrong, give --encoding")
    if broken := list(line_breaks(str(source), form, table)):
        raise UserError(f"{number(len(broken), 'cell')} with a line break: {listed(broken)}")
    if again := list(headers_again(str(source), repeated_headers(form, table))):
        raise UserError(f"{number(len(again), 'header')} within the table: {listed(again)}")
    return table


def column(table: pd.DataFrame, name: str | None, source: Path) -> list[str]:
    """The cells of an optional column."""
    if name is None:
        return [""] * len(table)
    if name not in table.columns:
        raise UserError(f"{source}: no column {name!r}; the columns found are {names_of(list(table.columns))}")
    return table[name].tolist()


def needed_column(table: pd.DataFrame, name: str | None, role: str, source: Path) -> str:
    """The column of the path or label: the one that is named, else the one with a usual name."""
    found = name or find_column(list(table.columns), role)
    if found is None:
        raise UserError(
            f"{source}: no column {role!r}; the columns found are {names_of(list(table.columns))}; name it by "
            f"--{role}_column"
        )
    column(table, found, source)
    return found


def warn_of_unnamed(table: pd.DataFrame, options: TableOptions, source: Path) -> None:
    """Point out columns that an option would read."""
    split, parts = find_column(list(table.columns), "split"), find_parts(list(table.columns))
    if split and not (options.split_column or options.fold_column or options.as_split):
        held = names_of(sorted(set(table[split].tolist()))[:3])
        words = shlex.join(("--split_column", split))
        warn(f"{source}: column {split!r} ({held}) is not read; {words} keeps these splits")
    if parts and not (options.start_column or options.end_column):
        columns = " and ".join(map(repr, parts.values()))
        words = shlex.join(word for part in parts.items() for word in part)
        warn(f"{source}: columns {columns} are not read, whole files are used; {words} cuts the clips")
    fold = next((name for name in table.columns if column_key(name) == FOLD), None)
    if fold and not (options.fold_column or options.split_column or options.as_split):
        words = shlex.join(("--fold_column", fold))
        warn(f"{source}: column {fold!r} is not read; {words} --test_fold FOLD makes splits of these folds")
    group = next(filter(is_group_name, table.columns), None)
    if group and not (options.group_regex or group_of_table(table, options)):
        words = shlex.join(("--group_column", group))
        warn(f"{source}: column {group!r} is not read; if it names the recording or speaker: {words}")


def group_of_table(table: pd.DataFrame, options: TableOptions) -> str | None:
    """The column of groups: the one that is named, else `group`, unless they are read from paths."""
    return options.group_column or (None if options.group_regex else group_column(list(table.columns)))


def csv_splits(
    options: TableOptions, split_cells: Sequence[str], folds: Sequence[str], source: Path, findings: Findings
) -> list[str]:
    """The split of each row: the one given, by name, by fold, or all training data."""
    given = [name for name in ("as_split", "split_column", "fold_column") if getattr(options, name)]
    if len(given) > 1:
        raise UserError(f"--{given[0]} and --{given[1]} both name the splits; give one")
    if options.as_split:
        return [options.as_split] * len(folds)
    if options.fold_column:
        if options.test_fold is None:
            raise UserError("--fold_column needs --test_fold")
        blank = [i for i, fold in enumerate(folds, 1) if not fold.strip()]
        findings.add(
            "folds are empty", (f"{where(source, i)}: the fold is empty; give one, or remove the row" for i in blank)
        )
        return fold_splits(folds, options.test_fold, options.valid_fold, source)
    if not options.split_column:
        return [TRAIN] * len(folds)
    words = [cell.strip().lower() for cell in split_cells]
    wrong = (i for i, word in enumerate(words) if word not in SPLIT_WORDS)
    findings.add(
        "splits are unknown",
        (f"{where(source, i + 1)}: split {split_cells[i]!r} is none of {', '.join(SPLIT_WORDS)}" for i in wrong),
    )
    return [SPLIT_WORDS.get(word, TRAIN) for word in words]


def seconds(cell: str, at: str, name: str | None) -> float:
    """A time of a cell: '1.5', '1,5' or '0:01.5'."""
    text = cell.strip().replace(",", ".")
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d*)?|\.\d+", text):
        raise UserError(f"{at}: {name} {cell!r} is no time in seconds, such as 1.5")
    value = 0.0
    for part in text.split(":"):
        value = 60 * value + float(part)
    return value


def span_of(options: TableOptions, start: str, end: str, duration: str, at: str) -> tuple[float, float]:
    """(start, end) in s of a row; an end below 0 is that of the file."""
    begin, last = seconds(start, at, options.start_column), -1.0
    if end.strip():
        last = seconds(end, at, options.end_column)
    elif duration.strip():
        last = begin + seconds(duration, at, options.duration_column)
    if 0 <= last <= begin:
        raise UserError(f"{at}: the clip ends at {last:g} s, and starts at {begin:g} s")
    return begin, last


def segments(
    options: TableOptions, cells: Iterable[tuple[str, str, str]], source: Path, findings: Findings
) -> list[tuple[float, float] | None]:
    """(start, end) in s of each row, from the cells of start, end and duration; None where whole files are listed."""
    if options.end_column and options.duration_column:
        raise UserError("--end_column and --duration_column both say where a clip ends; give one")
    for name in ("end_column", "duration_column"):
        if getattr(options, name) and not options.start_column:
            raise UserError(f"--{name} needs --start_column")
    out: list[tuple[float, float] | None] = []
    wrong = []
    for i, texts in enumerate(cells, 1):
        out.append(None)
        if options.start_column:
            try:
                out[-1] = span_of(options, *texts, where(source, i))
            except UserError as error:
                wrong.append(str(error))
    findings.add("times cannot be used", wrong)
    return out


# ---- the rows


def listed_rows(
    options: TableOptions, table: pd.DataFrame, source: Path, findings: Findings
) -> Iterator[dict[str, Any]]:
    """One mapping a row, with the file that is meant."""
    import pandas as pd

    root = Path(options.audio_root or source.parent).absolute()
    path_column, label_column = (
        needed_column(table, getattr(options, f"{role}_column"), role, source) for role in ("path", "label")
    )
    options = replace(options, group_column=group_of_table(table, options))
    names = read_columns(options)
    groups, folds, splits, *times = (column(table, name, source) for name in names)
    splits = csv_splits(options, splits, folds, source, findings)
    parts = segments(options, zip(*times, strict=True), source, findings)
    paths, labels = table[path_column].tolist(), table[label_column].tolist()
    files = [find_clip(path, root) or os.path.normpath(root / path) for path in paths]
    warn_of_other_names(paths, files, root, source)
    own = own_columns(table, (path_column, label_column, *filter(None, names)))
    if options.label_separator:
        labels = [label.replace(options.label_separator, LABEL_SEPARATOR) for label in labels]
    labels = clean_labels(labels)
    findings.add("cells are empty", empty_cells(str(source), pd.DataFrame({PATH: paths, LABEL: labels})))
    for i, (path, label) in enumerate(zip(paths, labels, strict=True)):
        yield {
            PATH: files[i],
            LABEL: label,
            FOLD: folds[i],
            GROUP: groups[i].strip() or group_of(Path(path), options.group_regex),
            SPLIT: splits[i],
            SEGMENT: parts[i],
            WHERE: where(source, i + 1),
            **{ours: cells[i] for ours, cells in own.items()},
        }


def warn_of_other_names(paths: Sequence[str], files: Sequence[str], root: Path, source: Path) -> None:
    """Say which files were taken for paths that do not name them exactly."""
    exact = resolve_paths(paths, root)
    other = [i for i, (one, file) in enumerate(zip(exact, files, strict=True)) if one != file and paths[i].strip()]
    lines = [f"{where(source, i + 1)}: {paths[i]!r} is {files[i]}" for i in other]
    if lines:
        warn(f"{source}: {number(len(lines), 'path')} taken for the one file that is alike: {listed(lines)}")


def read_columns(options: TableOptions) -> tuple[str | None, ...]:
    """The optional columns that the options name: group, fold, split, start, end, duration."""
    roles = ("group", "fold", "split", "start", "end", "duration")
    return tuple(getattr(options, f"{role}_column") for role in roles)


def own_columns(table: pd.DataFrame, read: Sequence[str]) -> dict[str, list[str]]:
    """Name -> cells of the columns that nothing reads: they are kept, under another name where theirs is taken."""
    names = [name for name in table.columns if name not in read]
    return {free_name(name, table.columns) if name in TAKEN else name: table[name].tolist() for name in names}


def once(
    rows: Sequence[Mapping[str, Any]], multi_label: bool, source: Path, findings: Findings
) -> list[dict[str, Any]]:
    """The rows with each clip once: a clip that is listed again brings its labels, or has to have the same."""
    kept: dict[tuple, dict[str, Any]] = {}
    again, torn = [], []
    for row in rows:
        clip = row[PATH], row[SEGMENT], row[SPLIT]
        first = kept.setdefault(clip, dict(row))
        if first[WHERE] == row[WHERE]:
            continue
        again.append(f"{row[WHERE]}: {row[PATH]} is also {first[WHERE]}")
        if multi_label:
            first[LABEL] = clean_labels([f"{first[LABEL]};{row[LABEL]}"])[0]
        elif set(split_labels(first[LABEL])) != set(split_labels(row[LABEL])):
            torn.append(
                f"{row[WHERE]}: {row[PATH]} has the label {row[LABEL]!r} here and {first[LABEL]!r} in {first[WHERE]}; "
                "keep one, or give --multi_label true if clips have several"
            )
        first[GROUP] = first[GROUP] or row[GROUP]
    findings.add("clips have two labels", torn)
    if again and not torn:
        warn(f"{source}: {number(len(again), 'row')} with a clip that is listed already, taken once: {listed(again)}")
    return list(kept.values())


def join_groups(rows: Sequence[dict[str, Any]]) -> None:
    """Make the parts of a file one group, and groups that share a file, so that no file is in two splits."""
    files = Counter(row[PATH] for row in rows)
    of_file: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if files[row[PATH]] > 1:
            of_file[row[PATH]].append(row)
    leader: dict[str, str] = {}

    def find(group: str) -> str:
        while leader.get(group, group) != group:
            group = leader[group]
        return group

    for path, parts in of_file.items():
        names = sorted({row[GROUP] for row in parts} - {""}) or [path]
        for row in parts:
            row[GROUP] = row[GROUP] or names[0]
        for name in names[1:]:
            leader[find(name)] = find(names[0])
    if leader:
        for row in rows:
            row[GROUP] = find(row[GROUP])


def read(options: TableOptions) -> Listing:
    """Any table of clips.

    Raises:
        UserError: all that is wrong with its rows.
    """
    source, findings = Path(options.source).absolute(), Findings()
    table = read_any(source, options.encoding)
    warn_of_unnamed(table, options, source)
    rows = list(listed_rows(options, table, source, findings))
    findings.refuse()
    several = options.multi_label or any(LABEL_SEPARATOR in row[LABEL] for row in rows)
    rows = once(rows, several, source, findings)
    findings.refuse()
    join_groups(rows)
    own = tuple(name for name in rows[0] if name not in TAKEN) if rows else ()
    return replace(list_clips(rows, [source]), own=own, only=options.as_split or "")
