"""What the tables alone tell of the three input CSVs: what stands in their way, and what is odd about them."""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations
from pathlib import Path
from typing import TYPE_CHECKING

from synthio.cli import UserError
from synthio.data.find_clips import find_clip, same_end
from synthio.data.problems import MAX_LISTED, Findings, number
from synthio.formats.containers import why_no_file
from synthio.formats.tables import (
    Form,
    broken_rows,
    column_key,
    doubled,
    find_column,
    find_parts,
    group_column,
    header_faults,
    is_group_name,
    load,
    mend_command,
    recognise,
    shown,
)
from synthio.manifest import (
    GROUP,
    LABEL,
    LABEL_SEPARATOR,
    LEAVES,
    OWN_COLUMNS,
    PATH,
    all_labels,
    clean_labels,
    has_several_labels,
    resolve_paths,
    split_labels,
)

if TYPE_CHECKING:
    import pandas as pd

    from synthio.data.inspect_sound import Sound

SPLITS = ("train", "valid", "test")
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
# Soft hyphen, zero-width signs, marks of direction; control characters and separators of lines that no tab is
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2028\u2029\u2060\ufeff\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f]")
QUOTES = "\"'`´‘’“”„«»‹›.,:!?"  # around a label they are no part of its name
# What programs write into a cell that holds nothing, by `label_key`
UNKNOWN = frozenset("nan none null nil na n/a #na #n/a <na> nat undefined #ref #value".split())
LONGEST_LABEL = 1000  # letters


def on_one_line(text: str) -> str:
    """Text with its line breaks as escapes."""
    return text.replace("\r", "\\r").replace("\n", "\\n")


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

    def path_text(self, i: int) -> str:
        """The path of the i-th row on one line, whatever is in it."""
        return on_one_line(self.table[PATH][i])

    def labels(self) -> list[str]:
        """Distinct labels, sorted."""
        return all_labels(set(self.table[LABEL].tolist()))

    def identities(self) -> list[str]:
        """What a clip shares with its copies; of a silent one the file, for other silent files are no copies of it."""
        heard = zip(self.sounds, self.table[PATH].tolist(), strict=True)
        return [sound.identity or ("" if sound.reason else os.path.realpath(path)) for sound, path in heard]

    def take(self, places: Sequence[int]) -> Split:
        """Some of its rows, with their sounds."""
        return replace(
            self,
            table=self.table.iloc[places].reset_index(drop=True),
            rows=tuple(self.rows[i] for i in places),
            sounds=tuple(self.sounds[i] for i in places) if self.sounds else (),
        )


# ---- one table


def read_split(name: str, csv: str, findings: Findings) -> Split | None:
    """Read one CSV in whatever form it has, and say what is wrong with it; None where its rows cannot be had."""
    try:
        form = recognise(csv)
        table = load_as_it_is(name, csv, form, findings)
    except UserError as error:
        findings.add("files cannot be read", [str(error)])
        return None
    if table is None:
        return None
    if not len(table):
        findings.add("files are empty", [f"{csv}: no rows; list at least one {name} clip"])
        return None
    findings.add("cells hold line breaks", line_breaks(csv, form, table))
    again = repeated_headers(form, table)
    findings.add("headers are repeated", headers_again(csv, again))
    findings.add("cells are empty", empty_cells(csv, table))
    findings.warnings += ignored_columns(name, csv, table, findings)
    labels, paths = clean_labels(table[LABEL].tolist()), table[PATH].tolist()
    usable = [i for i, (path, label) in enumerate(zip(paths, labels, strict=True)) if path.strip() and label]
    usable = [i for i in usable if i not in again]
    cells = {LABEL: labels, PATH: resolve_paths(paths, Path(csv).parent)}
    split = Split(name, csv, set_aside(csv, table, findings).assign(**cells), tuple(range(1, len(table) + 1)))
    return split if len(usable) == len(table) else split.take(usable)


def load_as_it_is(name: str, csv: str, form: Form, findings: Findings) -> pd.DataFrame | None:
    """The table with `path` and `label`; what is odd about its form is one problem, whose mend is one command."""
    command, required = mend_command(csv, "--as_split", name), (PATH, LABEL)
    findings.add("headers have a name twice", doubled(csv, form))
    faults = form.deviations()
    try:
        table = load(csv, form)
    except UserError as error:
        broken = broken_rows(Path(csv), form) if form.kind == "csv" and form.header else []
        findings.add("rows cannot be read", [f"{csv} row {row.row}: {row.text}" for row in broken])
        findings.add("files cannot be read", [] if broken else [str(error)])
        return None
    header = form.header if form.kind == "csv" and form.has_header else list(table.columns)
    told = list(header_faults(header, required, form.kind)) if form.has_header else []
    names = {role: find_column(list(table.columns), role) for role in required}
    lost = [role for role, column in names.items() if column is None]
    group = group_column(list(table.columns))
    if group and group != GROUP:
        told.append(f"{group!r} seems to be {GROUP!r}")
        names[GROUP] = group
    if lost:
        command += "".join(f" --{role}_column NAME" for role in lost)
    if faults or told:
        findings.add(
            "files have another form", [f"{csv}: {'; '.join([*faults, *told])}; this makes a CSV of it: {command}"]
        )
    return None if lost else table.rename(columns={column: role for role, column in names.items()})


def line_breaks(csv: str, form: Form, table: pd.DataFrame) -> Iterator[str]:
    """Cells of a CSV that hold a line break: mostly a stray quote that has swallowed the rows below it."""
    if form.kind != "csv":
        return
    for column in table.columns:
        for i in table.index[table[column].str.contains("[\r\n]", regex=True)]:
            yield (
                f'{csv} row {i + 1}: a line break within {column} {shown(table[column][i])}; a quote (") that is not '
                "closed swallows the rows below it: close or remove it, or take the line break out"
            )


def repeated_headers(form: Form, table: pd.DataFrame) -> set[int]:
    """Rows that are the header once more: CSVs that were joined."""
    if form.kind != "csv" or not form.has_header or len(form.header) != table.shape[1]:
        return set()
    header = [column_key(name) for name in form.header]
    first = table.iloc[:, 0].str.strip(" \ufeff").str.casefold() == form.header[0].strip().casefold()
    return {i for i in table.index[first] if [column_key(cell) for cell in table.loc[i]] == header}


def headers_again(csv: str, rows: Collection[int]) -> Iterator[str]:
    """The same as problems."""
    return (f"{csv} row {i + 1}: the header again (files joined?); remove the row" for i in sorted(rows))


def runs(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(first, last) of each run of places that follow each other."""
    starts = [i for k, i in enumerate(places) if not k or places[k - 1] != i - 1]
    ends = [i for k, i in enumerate(places) if k + 1 == len(places) or places[k + 1] != i + 1]
    return zip(starts, ends, strict=True)


def empty_cells(csv: str, table: pd.DataFrame) -> Iterator[str]:
    """Rows without a path or a label; those without both, which spreadsheets leave at the end, together."""
    wordless = {cell for cell in set(table[LABEL].tolist()) if not split_labels(cell)}
    pathless, unlabelled = table[PATH].str.strip() == "", table[LABEL].isin(wordless)
    for first, last in runs(table.index[pathless & unlabelled].tolist()):
        where = f"row {first + 1}" if first == last else f"rows {first + 1} to {last + 1}"
        yield f"{csv} {where}: path and label are empty; give them, or remove {'it' if first == last else 'them'}"
    for name, empty in ((PATH, pathless & ~unlabelled), (LABEL, unlabelled & ~pathless)):
        for i in table.index[empty]:
            yield f"{csv} row {i + 1}: the {name} is empty; give one, or remove the row"


def ignored_columns(name: str, csv: str, table: pd.DataFrame, findings: Findings) -> Iterator[str]:
    """Columns that a person may think are obeyed: parts of recordings, and splits."""
    if named := find_parts(list(table.columns)):
        offer = mend_command(csv, "--as_split", name, *chain(*named.items()))
        columns = " and ".join(map(repr, named.values()))
        text = f"columns {columns} are not read, whole files are used; to cut the clips: {offer}"
        parts = table[[PATH, *named.values()]].drop_duplicates()
        if len(parts) > parts[PATH].nunique():
            row = int(table[PATH].duplicated().to_numpy().argmax())
            findings.add(
                "files list parts of recordings", [f"{csv} row {row + 1}: {shown(table[PATH][row])} again: {text}"]
            )
        else:
            yield f"{csv}: {text}"
    split = find_column(list(table.columns), "split")
    told = {SPLIT_WORDS.get(cell.strip().lower()) for cell in set(table[split].tolist())} if split else set()
    if len(told - {None}) > 1:
        offer = mend_command(csv, "--split_column", str(split))
        yield f"{csv}: column {split!r} names several splits, and is not read; to part its rows by it: {offer}"


def set_aside(csv: str, table: pd.DataFrame, findings: Findings) -> pd.DataFrame:
    """The table with its columns that bear names of ours under other names: all values stay, and harm nothing."""
    names = {column: free_name(column, table.columns) for column in table.columns if column in OWN_COLUMNS}
    findings.warnings += [
        f"{csv}: column {old!r} has a name that the stages use themselves; its values are kept as {new!r}"
        for old, new in names.items()
    ]
    return table.rename(columns=names)


def free_name(column: str, taken: Collection[str]) -> str:
    """A name for a user's column that has one of ours."""
    name = f"input_{column}"
    while name in taken:
        name = f"input_{name}"
    return name


# ---- clips that are not there


def seen(text: str) -> str:
    """Text as a person sees it: in one Unicode form, without signs that cannot be seen."""
    return unicodedata.normalize("NFC", INVISIBLE.sub("", text))


def missing_clip(cell: str, csv: str, name: str) -> str:
    """Why a path is no file, and what mends that."""
    folder, path = Path(os.path.normpath(Path(csv).absolute().parent)), Path(cell)
    shown_path = cell if len(cell) <= 255 else f"{cell[:100]}… ({len(cell)} letters)"
    text = f"no such file: {on_one_line(shown_path)}"
    if path.is_relative_to(folder):
        cell = str(path.relative_to(folder))
    if re.match(r"[a-z][a-z0-9+.-]+:/", cell, re.I) and not cell.lower().startswith("file:"):
        address = re.sub(r":/+", "://", cell, count=1)
        return f"no such file: {on_one_line(address)}: it is an address; download the file, and write its path"
    if os.path.lexists(path):
        return f"{text}: {why_no_file(path)}"
    found = find_clip(cell, folder)
    if found:
        command = mend_command(csv, "--as_split", name)
        if seen(found) == seen(str(path)):
            return (
                f"{text}; there is a file whose name looks the same, but has other signs (another Unicode form, or "
                f"some that cannot be seen); let prepare.py do it: {command}"
            )
        return f"{text}; there is {found!r}: write that, or let prepare.py do it: {command}"
    elsewhere = find_clip(cell, Path.cwd()) if Path.cwd() != folder else None
    if elsewhere:
        root = ["--as_split", name, "--audio_root", str(Path.cwd())]
        return f"{text}; paths start at the folder of the CSV, and this starts at another: {mend_command(csv, *root)}"
    if alike := same_end(cell, folder):
        return (
            f"{text}; below the folder of the CSV, where relative paths start, there is {alike!r}: write that, if it "
            "is meant"
        )
    if re.match(r"[a-z]:[\\/]", cell, re.I):
        return f"{text}: it is a path of Windows; write the path that it has on this machine"
    return f"{text} (a relative path starts at the folder of the CSV); get or remove it, or set on_bad_audio=drop"


# ---- labels


def label_key(label: str) -> str:
    """What two spellings of one label share: no case, one kind of space, no quotes, no sign that cannot be seen.

    Numbers are without the zeros that programs put before or behind them: '1', '01' and '1.0' are one.
    """
    text = INVISIBLE.sub("", unicodedata.normalize("NFKC", label)).casefold()
    text = " ".join(re.sub(r"[\s_\-]+", " ", text).split())
    number_alone = re.fullmatch(r"0*(\d+)(?:\.0*)?", text)
    return number_alone[1] if number_alone else text.strip(QUOTES).strip() or text


def counted_labels(split: Split) -> Counter:
    """Label -> clips that have it."""
    cells = Counter(split.table[LABEL].tolist())
    counts: Counter = Counter()
    for cell, count in cells.items():
        counts.update(dict.fromkeys(split_labels(cell), count))
    return counts


def spelling(label: str) -> str:
    """A label in quotes; what cannot be seen, or looks like a letter it is not, as its number."""
    plain = label if unicodedata.is_normalized("NFC", label) and not INVISIBLE.search(label) else ascii(label)[1:-1]
    return repr(plain).replace("\\\\", "\\")


def label_variants(splits: Sequence[Split]) -> Iterator[str]:
    """Spellings of one label that training clips have, each with all its clips."""
    known = {label for split in splits if split.name == "train" for label in split.labels()}
    found: dict[str, Counter] = defaultdict(Counter)
    for split in splits:
        for label, count in counted_labels(split).items():
            if label in known:
                found[label_key(label)][label] += count
    for spellings in found.values():
        if len(spellings) > 1:
            told = ", ".join(f"{spelling(label)} ({number(count, 'clip')})" for label, count in spellings.most_common())
            yield f"labels that differ only in case, spaces or signs are different classes: {told}; write them alike"


def unknown_values(splits: Sequence[Split]) -> Iterator[str]:
    """Labels that are mostly no names: a program wrote them where it knew none."""
    counts: Counter = Counter()
    for split in splits:
        counts += counted_labels(split)
    for label, count in counts.items():
        if label_key(label) in UNKNOWN:
            yield (
                f"label {spelling(label)} ({number(count, 'clip')}) is taken as the name of a class; if it stands for "
                "a label that is missing, remove these rows"
            )


def long_labels(split: Split) -> Iterator[str]:
    """Labels that are no names: a caption, or what a stray quote has swallowed."""
    long = {label for label in split.labels() if len(label) > LONGEST_LABEL}
    for i, cell in enumerate(split.table[LABEL].tolist() if long else []):
        for label in set(split_labels(cell)) & long:
            yield (
                f"{split.where(i)}: a label of {len(label)} letters ({shown(label)}), at most {LONGEST_LABEL} are "
                "allowed; name the class in a few words"
            )


def several_labels(split: Split) -> Iterator[str]:
    """Rows with several labels where each clip is to have one."""
    several = {cell for cell in set(split.table[LABEL].tolist()) if LABEL_SEPARATOR in cell}
    for i, cell in enumerate(split.table[LABEL].tolist() if several else []):
        if cell in several:
            yield (
                f"{split.where(i)}: several labels ({shown(cell)}, joined by {LABEL_SEPARATOR!r}); set "
                "multi_label=true, or keep one"
            )


def unknown_labels(train: Split, other: Split, mend: str = "add such clips, or remove the row") -> Iterator[str]:
    """Labels of another split that no training clip has, each with its first row and the nearest that is known.

    `mend` is what is told where no label is near.
    """
    known = train.labels()
    held, by_key = set(known), {label_key(label): label for label in known}
    seen = set()
    for i, cell in enumerate(other.table[LABEL].tolist()):
        for label in split_labels(cell):
            if label in held or label in seen:
                continue
            seen.add(label)
            alike = by_key.get(label_key(label))
            near = [alike] if alike else []
            if not near and len(seen) <= MAX_LISTED:  # more are not shown, and each is compared with every label
                near = difflib.get_close_matches(label, known, 1)
            hint = f"write it as {spelling(near[0])} (near: {near[0]!r})" if near else mend
            yield f"{other.where(i)}: label {spelling(label)}: no clip in {train.csv} has this label; {hint}"


def other_separators(splits: Sequence[Split]) -> Iterator[str]:
    """What may join several labels of a cell where nothing else does."""
    labels = sorted({label for split in splits for label in split.labels()})
    cells = {cell for split in splits for cell in split.table[LABEL].tolist()}
    if any(LABEL_SEPARATOR in cell for cell in cells):
        return
    for separator in (",", "|", "/", "+"):
        joined = [label for label in labels if separator in label]
        if joined:
            command = mend_command(splits[0].csv, "--as_split", splits[0].name, "--label_separator", separator)
            yield (
                f"multi_label=true, but no cell has several labels joined by {LABEL_SEPARATOR!r}; if {separator!r} "
                f"joins them, as in {shown(joined[0])}: {command}"
            )
            return


# ---- three tables


def too_few(train: Split, n: int) -> Iterator[str]:
    """Why a number of samples cannot be drawn from the training CSV."""
    rows, labels = len(train.table), train.labels()
    if len(labels) < 2:
        yield f"{train.csv}: only one class, {labels[0]!r}; a classifier needs two or more"
    if n > rows:
        yield f"{train.csv}: {rows} usable rows, fewer than num_samples {n}; set it to {rows} or 0 (all)"
    if (n or rows) < len(labels) and not has_several_labels(set(train.table[LABEL].tolist())):
        yield (
            f"{train.csv}: num_samples {n or rows} is less than the {len(labels)} classes; each needs a clip, "
            f"so set {len(labels)} or more"
        )


def shared(a: Split, b: Split, keys_a: Sequence[str], keys_b: Sequence[str], what: str) -> list[str]:
    """Rows of `b` whose key is also in `a`, which makes scores meaningless; an empty key says nothing."""
    held: dict[str, int] = {}
    for i, key in enumerate(keys_a):
        if key:
            held.setdefault(key, i)
    found = [(i, key) for i, key in enumerate(keys_b) if key in held]
    unknown = "; or empty the cells, if that stands for an unknown group"
    return [
        f"{b.where(i)} has the same {what}{f' {key!r}' if what == 'group' else ''} as {a.where(held[key])}; a clip "
        f"that is also in the {a.name} set makes scores meaningless: remove one"
        f"{unknown if what == 'group' and label_key(key) in UNKNOWN else ''}"
        for i, key in found
    ]


def odd_leaves(split: Split) -> Iterator[str]:
    """Leaf labels (of a column that the user gave) that the clip does not have."""
    if LEAVES not in split.table.columns:
        return
    for i, (leaves, labels) in enumerate(zip(split.table[LEAVES].tolist(), split.table[LABEL].tolist(), strict=True)):
        for leaf in split_labels(leaves):
            if leaf not in split_labels(labels):
                yield (
                    f"{split.where(i)}: leaf label {leaf!r} is not among the labels {labels!r}; the column {LEAVES} "
                    "names some of a clip's labels, or is left out"
                )


def shared_groups(a: Split, b: Split) -> list[str]:
    """Rows whose group (recording, speaker, source) is in both splits."""
    if GROUP not in a.table.columns or GROUP not in b.table.columns:
        return []
    groups_a, groups_b = ([cell.strip() for cell in split.table[GROUP].tolist()] for split in (a, b))
    return shared(a, b, groups_a, groups_b, "group")


def group_variants(a: Split, b: Split) -> Iterator[str]:
    """Groups of two splits that are mostly one, written in two ways: 'Anna' and 'anna', 12 and 12.0."""
    if GROUP not in a.table.columns or GROUP not in b.table.columns:
        return
    of_a, of_b = ({cell.strip() for cell in split.table[GROUP].tolist()} - {""} for split in (a, b))
    by_key = {label_key(group): group for group in of_a}
    alike = sorted((by_key[key], group) for group in of_b - of_a if (key := label_key(group)) in by_key)
    if alike:
        one, other = map(spelling, alike[0])
        yield (
            f"{b.csv}: {number(len(alike), 'group')} differ from one in {a.csv} only in case, spaces or signs, the "
            f"first is {other} (there {one}); if they are the same, write them alike, or test clips are trained on"
        )


def unread_groups(a: Split, b: Split) -> Iterator[str]:
    """A column that seems to name recordings or speakers, is not called `group`, and has values in two splits."""
    columns = [name for name in a.table.columns if is_group_name(name) and name in b.table.columns]
    for name in columns if GROUP not in a.table.columns else []:
        held = {cell.strip() for cell in a.table[name].tolist()}
        cells = [cell.strip() for cell in b.table[name].tolist()]
        both = [i for i, cell in enumerate(cells) if cell and cell in held]
        if both:
            yield (
                f"{b.csv}: column {name!r} is not read, and {number(len(both), 'clip')} in it have a value that clips "
                f"in {a.csv} have too, the first is {shown(cells[both[0]])} in row {b.rows[both[0]]}; if it names the "
                f"recording or speaker, call it {GROUP!r} in all three CSVs, and such clips are refused"
            )


def check_tables(splits: Mapping[str, Split], n: int, multi_label: bool, findings: Findings) -> None:
    """Everything that is told without listening, of the CSVs that could be read."""
    train = splits.get("train")
    if train and len(train.table):
        findings.add("sizes do not fit", too_few(train, n))
        for name, split in splits.items():
            if name != "train":
                findings.add("labels are not in training", unknown_labels(train, split))
    if multi_label:
        findings.warnings += other_separators([*splits.values()])
    else:
        for split in splits.values():
            findings.add("rows have several labels", several_labels(split))
    for split in splits.values():
        findings.add("leaf labels are not labels", odd_leaves(split))
        findings.add("labels are too long", long_labels(split))
    for a, b in combinations(splits.values(), 2):
        findings.add("groups are in two sets", shared_groups(a, b))
        findings.warnings += [*group_variants(a, b), *unread_groups(a, b)]
    findings.warnings += [*label_variants([*splits.values()]), *unknown_values([*splits.values()])]


def is_there(path: str) -> bool:
    """Whether a path names a file; what the system refuses to look up is none."""
    return os.path.isfile(path)  # noqa: PTH113 # it never raises
