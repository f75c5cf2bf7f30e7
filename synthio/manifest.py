"""The data contract: how every stage reads and writes its CSV files. Defined here, once.

A manifest is a CSV with `path` and `label` (several labels joined by `;`) and any further columns. It is read as
text, so the labels `NA` and `001` stay what they are. Relative paths resolve against the CSV's own folder, and are
written that way, so a result folder can be moved as a whole.

A stage never edits a file in place and never loses a row: `write_manifest` wants the number of rows that came in and
the dropped rows with a reason each, and refuses to write when they do not add up. Beside `x.csv` it leaves `x.json`
(options, seed, versions, hashes of the inputs and of the output) and, when rows were dropped, `x.dropped.csv`.
"""

from __future__ import annotations

import csv
import os
import platform
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthio import __version__
from synthio.cli import UserError
from synthio.files import ROOT, atomic_path, files_in, sha256_file, write_json
from synthio.formats.containers import is_sound_name
from synthio.formats.tables import doubled, header_faults, load, mend_command, recognise

if TYPE_CHECKING:
    import pandas as pd

PATH, LABEL, CAPTION, PROMPT = "path", "label", "caption", "prompt"
DATASET, SPLIT, FOLD, GROUP = "dataset", "split_name", "fold", "group"
SOURCE, SEED, MODEL, SCORE, REASON = "source_path", "seed", "model", "clap_score", "reason"
CONTENT, SOURCE_CONTENT, DURATION = "sha256", "source_sha256", "duration_s"
LEAVES = "leaf_labels"  # of multi-label data whose labels hold their parents: the labels that are no parent of others
RETRIEVED = "retrieved by "  # begins `model` of a recording that stands where a generated clip would
UNMATCHED = "unmatched_path"  # a generated clip before it was heard through the gold clips' channel
CHANNEL_SEED = "channel_seed"  # of the noise of that channel
RESEMBLES = "resembles"  # the clip that a generated one is a near-duplicate of
PROBABILITY = "clap_probability"  # sigmoid(scale * clap_score)
AGREEMENT = "classifier_probability"  # of the clip's label
JOINT = "rank_score"  # of both, by rank within the class
NEAREST = "nearest_cosine"  # to the most alike of the clips that must not be copied
REVIEW = "review"  # what a listener decided about a clip
ROW = "row"  # the place of a row in the table that was dealt out to shards
# Columns that stages write and read. Stage 0 moves a user's column of such a name out of the way (`input_<name>`).
OWN_COLUMNS = (
    *(CAPTION, PROMPT, SPLIT, SOURCE, SEED, MODEL, SCORE, REASON, SOURCE_CONTENT, RESEMBLES, PROBABILITY, AGREEMENT),
    *(JOINT, NEAREST, ROW, UNMATCHED, CHANNEL_SEED, REVIEW),
)
PATH_COLUMNS = (PATH, SOURCE, RESEMBLES, UNMATCHED)
LABEL_SEPARATOR = ";"
_MANY_FILES = 500


def split_labels(cell: str) -> list[str]:
    """'dog;rain' -> ['dog', 'rain']. A single label may hold commas and spaces."""
    return [part.strip() for part in cell.split(LABEL_SEPARATOR) if part.strip()]


def label_words(label: str) -> str:
    """A label as a person would say it: underscores become spaces ('dog_bark' -> 'dog bark')."""
    return " ".join(label.replace("_", " ").replace(LABEL_SEPARATOR, " and ").split())


def class_of(cell: str) -> str:
    """The class of a label cell: its labels in sorted order ('rain; dog' -> 'dog;rain')."""
    return LABEL_SEPARATOR.join(sorted(split_labels(cell)))


def clean_labels(cells: Iterable[str]) -> list[str]:
    """Label cells as every stage sees them: no spaces around a label, none empty, none twice ('a ;b;a' -> 'a;b')."""
    known: dict[str, str] = {}
    return [known.get(cell) or known.setdefault(cell, _clean(cell)) for cell in cells]


def _clean(cell: str) -> str:
    return LABEL_SEPARATOR.join(dict.fromkeys(split_labels(cell)))


def all_labels(cells: Iterable[str]) -> list[str]:
    """Every distinct label, sorted: a class's number never depends on the order of the rows."""
    return sorted({label for cell in cells for label in split_labels(cell)})


def prompt_cells(table: pd.DataFrame) -> list[str]:
    """The label cells that prompts, filter and quotas go by: the leaf labels where the column is there."""
    if LEAVES not in table.columns:
        return list(table[LABEL])
    return [leaves or label for leaves, label in zip(table[LEAVES], table[LABEL], strict=True)]


def prompt_cell(record: Mapping[str, str]) -> str:
    """The same of one row."""
    return record.get(LEAVES) or record[LABEL]


def has_several_labels(cells: Iterable[str]) -> bool:
    """Whether any clip has more than one label: then the data are multi-label."""
    return any(len(split_labels(cell)) > 1 for cell in cells)


def read_table(path: str | Path, required: Sequence[str] = (), mend: str = "") -> pd.DataFrame:
    """Read any CSV as text.

    Args:
        path: the CSV.
        required: columns it must have.
        mend: what to do about another form of table, for messages; empty: let it be made a CSV of clips.

    Raises:
        UserError: the file is missing, is not a CSV, or lacks a required column (the message lists those found).
    """
    path = Path(path)
    form = recognise(path)
    if form.kind == "csv" and not form.header:
        raise UserError(f"{path}: the file is empty; a header with {', '.join(required) or 'columns'} is needed")
    if twice := doubled(path, form):
        raise UserError(twice[0])
    faults = form.deviations()
    if form.kind == "csv" and form.has_header:
        faults += header_faults(form.header, required)
    if faults:
        written = (*OWN_COLUMNS, CONTENT, DURATION)
        ours = [name for name in required if name in written and name not in form.header]
        if ours and not mend and not form.deviations():
            mend = f"a stage of a run writes {', '.join(map(repr, ours))}: give the CSV of that"
        mend = mend or f"this makes CSVs of it: {mend_command(path)}"
        raise UserError(f"{path}: {'; '.join(faults)}; {mend}")
    return load(path, form)


def read_manifest(path: str | Path, required: Sequence[str] = (PATH, LABEL), check_files: bool = True) -> pd.DataFrame:
    """Read a manifest; the paths in it come back absolute.

    Args:
        path: the CSV.
        required: columns it must have.
        check_files: stat every `path`.

    Returns:
        A table of strings, in file order, index 0..n-1.

    Raises:
        UserError: as `read_table`; an empty path or label; a path that does not exist (file and row named).
    """
    path = Path(path)
    table = read_table(path, required)
    for column in PATH_COLUMNS:
        if column in table.columns:
            table[column] = resolve_paths(table[column].tolist(), path.parent)
    _check_rows(path, table, check_files)
    return table


def sounds_of(given: str | Path, check_files: bool = True) -> pd.DataFrame:
    """The manifest of some sounds without labels: a CSV with `path`, or a folder, of which all sounds are meant.

    Raises:
        UserError: as `read_manifest`.
    """
    import pandas as pd

    if not os.path.isdir(given):  # noqa: PTH112  # a name that is too long is none
        return read_manifest(given, (PATH,), check_files)
    paths = [str(path.absolute()) for path in files_in(Path(given)) if is_sound_name(path)]
    return pd.DataFrame({PATH: paths}, dtype=str)


def clip_keys(table: pd.DataFrame, csv_path: str | Path) -> list[str]:
    """What names each clip in draws and seeds: its content hash if the CSV has it, else its path.

    The path is taken relative to the CSV: so written it is the same for a dataset that was moved.
    """
    if CONTENT in table.columns:
        return table[CONTENT].tolist()
    return relative_paths(table[PATH].tolist(), Path(csv_path).parent)


def resolve_paths(cells: Iterable[str], folder: str | Path) -> list[str]:
    """Absolute paths of cells that start at a folder; an empty cell stays empty."""
    # normpath, not resolve(): a dataset of symbolic links keeps the names its owner gave it
    start = os.fspath(Path(folder).absolute())
    return _by_folder(cells, lambda path: os.path.normpath(os.path.join(start, path)))  # noqa: PTH118


def relative_paths(cells: Iterable[str], folder: str | Path) -> list[str]:
    """The paths as they are seen from a folder; an empty cell stays empty."""
    start = os.fspath(Path(folder).absolute())
    return _by_folder(cells, lambda path: os.path.relpath(path, start))


def _by_folder(cells: Iterable[str], move: Callable[[str], str]) -> list[str]:
    """`move` of every path, asked once for each folder: its files move with it, and there may be a million."""
    known: dict[str, str] = {}
    out = []
    for cell in cells:
        head, slash, tail = cell.rpartition("/")
        head += slash
        if head not in known:
            folder = move(head or ".")
            known[head] = "" if folder == "." else os.path.join(folder, "")  # noqa: PTH118
        moved = known[head]
        if tail in ("", ".", "..") or moved.endswith("../"):  # the path may be a folder above the one it starts at
            out.append(move(cell) if cell else "")
        else:
            out.append(moved + tail)
    return out


def missing_files(paths: Iterable[str]) -> set[str]:
    """Those of some absolute paths that are no files. A folder with very many of them is listed once."""
    by_folder: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        folder, slash, name = path.rpartition("/")
        by_folder[folder + slash].add(name)
    absent: set[str] = set()
    for folder, names in by_folder.items():
        if len(names) >= _MANY_FILES and os.path.isdir(folder):  # noqa: PTH112
            with suppress(OSError), os.scandir(folder) as entries:
                names -= {entry.name for entry in entries if entry.is_file()}
        absent.update(path for name in names if not os.path.isfile(path := folder + name))  # noqa: PTH113 # never raises
    return absent


def _check_rows(path: Path, table: pd.DataFrame, check_files: bool) -> None:
    if LABEL in table.columns:
        wordless = {cell for cell in set(table[LABEL].tolist()) if not split_labels(cell)}
        _refuse_row(path, table[LABEL].isin(wordless), "the label is empty; give one, or remove the row")
    if PATH not in table.columns:
        return
    _refuse_row(path, table[PATH] == "", "the path is empty; give one, or remove the row")
    if check_files:
        absent = missing_files(table[PATH].tolist())
        rows = table[PATH].isin(absent)
        clip = table[PATH][rows].iloc[0] if absent else ""
        _refuse_row(path, rows, f"no such file: {clip} (a relative path starts at the folder of the CSV)")


def _refuse_row(path: Path, rows: pd.Series, text: str) -> None:
    """Refuse the first of these rows."""
    if rows.any():
        raise UserError(f"{path} row {int(rows.to_numpy().argmax()) + 1}: {text}")


def write_manifest(
    table: pd.DataFrame,
    path: str | Path,
    *,
    rows_in: int,
    dropped: pd.DataFrame | None = None,
    options: Mapping[str, Any] | None = None,
    inputs: Sequence[str | Path] = (),
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write a stage's output, its dropped rows and its record, each atomically; the CSV comes last.

    Args:
        table: the rows that go on.
        path: the new CSV.
        rows_in: how many rows this stage answers for; must equal rows out + rows dropped.
        dropped: rows that do not go on, with a `reason` each.
        options: resolved options of the stage (seed among them).
        inputs: files whose hashes go into the record.
        notes: anything else worth keeping (counts, scores).

    Raises:
        UserError: it would be written over one of the inputs.
    """
    path = Path(path)
    if path.exists() and any(Path(source).exists() and path.samefile(source) for source in inputs):
        raise UserError(f"{path} is an input and would be overwritten; choose another output")
    lost = rows_in - len(table) - (0 if dropped is None else len(dropped))
    assert lost == 0, f"{path}: {rows_in} rows in, {len(table)} out, {lost} unaccounted for"
    assert dropped is None or not len(dropped) or (dropped[REASON] != "").all(), f"{path}: a drop without a reason"
    dropped_path = path.with_suffix(".dropped.csv")
    if dropped is not None and len(dropped):
        write_table(dropped, dropped_path)
    else:
        dropped_path.unlink(missing_ok=True)
    with atomic_path(path) as temporary:
        _write_cells(_relative(table, path.parent), temporary)
        digest = sha256_file(temporary)
        write_json(path.with_suffix(".json"), _record(path, digest, len(table), rows_in, options, inputs, notes))


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Write a plain CSV atomically, paths relative to it."""
    path = Path(path)
    with atomic_path(path) as temporary:
        _write_cells(_relative(table, path.parent), temporary)


def _relative(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    columns = [name for name in PATH_COLUMNS if name in table.columns]
    return table.assign(**{name: relative_paths(table[name].tolist(), folder) for name in columns})


def _write_cells(table: pd.DataFrame, path: Path) -> None:
    """As `to_csv`, in a third of its time where every cell is text."""
    columns = [table.iloc[:, i].tolist() for i in range(table.shape[1])]
    if not all(_is_text(table.iloc[:, i], cells) for i, cells in enumerate(columns)):
        table.to_csv(path, index=False, lineterminator="\n")
        return
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(table.columns)
        writer.writerows(zip(*columns, strict=True))


def _is_text(column: pd.Series, cells: list) -> bool:
    if column.dtype == "str":
        return not column.hasnans
    return all(isinstance(cell, str) for cell in cells)


def _record(path, digest, rows_out, rows_in, options, inputs, notes) -> dict[str, Any]:
    return {
        "file": path.name,
        "sha256": digest,
        "rows_in": rows_in,
        "rows_out": rows_out,
        "rows_dropped": rows_in - rows_out,
        "options": dict(options or {}),
        "inputs": {str(p): sha256_file(p) for p in inputs},
        "versions": versions(),
        **(notes or {}),
    }


def versions() -> dict[str, str]:
    """Versions of the project, Python and the libraries that shape results; the git commit if there is one."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"synthio": __version__, "python": platform.python_version()}
    for name in ("torch", "transformers", "diffusers", "peft", "numpy", "pandas", "soundfile", "av", "soxr"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    git = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if git.returncode == 0:
        found["git"] = git.stdout.strip()
    return found
