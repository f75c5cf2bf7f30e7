"""Tables as people have them: what a file is, told from its bytes and its first line, and how to read it.

    form = recognise("mine.csv")        # UTF-16, semicolons, no header ...
    table = load("mine.csv", form)      # text, in the columns of the file

The stages read one form (`CANONICAL`): UTF-8, commas, a header. `Form.deviations` says what a file has in its place,
and `mend_command` the call of prepare.py that reads it nevertheless.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
import shlex
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthio.cli import UserError
from synthio.files import ROOT, Json
from synthio.formats.containers import is_sound_name, why_no_file

if TYPE_CHECKING:
    import pandas as pd

# What columns are usually called, by what they hold; the first that a table has is taken. Names before numbers.
USUAL_NAMES = {
    "path": "path file filename file_name filepath file_path audio audio_path audio_file audio_filename "
    "audio_filepath audiofile fname wav wav_path wav_file wavfile sound sound_path sound_file soundfile clip clip_path "
    "slice_file_name relative_path full_path begin_path begin_file recording uri",
    "label": "label labels class class_name classname class_label category categories label_name primary_label tag "
    "tags species sound_class event_label scene_label event scene genre instrument emotion command keyword target y",
    "start": "start start_s start_sec start_seconds start_time begin begin_s begin_time begin_time_(s) onset onset_s",
    "end": "end end_s end_sec end_seconds end_time end_time_(s) stop offset offset_s",
    "duration": "duration duration_s duration_sec duration_seconds dur length_s length_sec length_seconds",
    "split": "split subset partition set data_split dataset_split",
}
# What no two splits may share is often called so
_GROUP_NAMES = frozenset(
    "group_id groups speaker speaker_id speakerid spk spk_id recording_id recordist subject subject_id session "
    "session_id participant participant_id patient patient_id individual source_id source_recording src_file fsid "
    "user_id client_id song_id track_id".split()
)
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars", "^": "carets"}
MAX_SHOWN = 60  # letters of a cell in a message
_HEAD_BYTES = 1 << 16
_TITLE_LINES = 20  # at most so many lines stand above a header
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# First bytes of what is no text -> (kind, what a person calls it); a kind that `load` does not know cannot be read
_BINARY = {
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("xls", "an Excel file (.xls)"),
    b"PAR1": ("parquet", "a Parquet file"),
    b"ARROW1": ("feather", "an Arrow file"),
    b"SQLite format 3\0": ("", "an SQLite database; export the table as CSV"),
    b"%PDF": ("", "a PDF; export the table as CSV"),
    b"{\\rtf": ("", "a text with a layout (RTF); save it as plain text"),
    b"\x89HDF": ("", "an HDF5 file; export the table as CSV"),
    b"\x1f\x8b": ("", "compressed by gzip; unpack it with gunzip"),
    b"BZh": ("", "compressed by bzip2; unpack it with bunzip2"),
    b"\xfd7zXZ": ("", "compressed by xz; unpack it with unxz"),
    b"\x28\xb5\x2f\xfd": ("", "compressed by zstd; unpack it with unzstd"),
    b"RIFF": ("", "a sound file, not a table"),
    b"OggS": ("", "a sound file, not a table"),
    b"fLaC": ("", "a sound file, not a table"),
    b"ID3": ("", "a sound file, not a table"),
}
_ZIPPED = {
    "xl/workbook.xml": ("xlsx", "an Excel file (.xlsx)"),
    "content.xml": ("ods", "an OpenDocument sheet (.ods)"),
    "Index/Document.iwa": ("", "a file of Apple's Numbers or Pages; export the table as CSV"),
    "word/document.xml": ("", "a Word document; save the table as CSV"),
}
_SHEETS = ("xlsx", "xls", "ods")
_LIBRARIES = {"xlsx": "openpyxl", "xls": "xlrd", "ods": "odfpy", "parquet": "pyarrow", "feather": "pyarrow"}


@dataclass(frozen=True)
class Form:
    """How a table is written; the names of its columns are made up where it has no header."""

    kind: str = "csv"
    what: str = "a CSV"
    encoding: str = "utf-8"
    separator: str = ","
    skipped: int = 0  # lines before the header
    header: tuple[str, ...] = ()
    has_header: bool = True

    def deviations(self) -> list[str]:
        """What the stages do not read, a clause each."""
        if self.kind != "csv":
            return [f"it is {self.what}, not a CSV"]
        found = []
        if self.encoding not in ("utf-8", "utf-8-sig"):
            found.append(f"not a readable UTF-8 CSV (it looks like {self.encoding.upper()})")
        if self.skipped:
            found.append("above its header stands 'sep=', which only Excel knows, or a comment or a title")
        if self.separator != ",":
            found.append(
                f"its cells are separated by {SEPARATORS.get(self.separator, repr(self.separator))}, not commas"
            )
        if not self.has_header:
            first = ", ".join(map(shown, self.header))
            found.append(f"it has no header: its first line is a clip already ({first})")
        return found


@dataclass(frozen=True)
class BrokenRow:
    """A row of a CSV that cannot be read, counted from 1 without the header."""

    row: int
    text: str


def shown(cell: str) -> str:
    """A cell as messages show it."""
    return repr(cell if len(cell) <= MAX_SHOWN else cell[: MAX_SHOWN - 1] + "…")


def names_of(cells: Sequence[str]) -> str:
    """Names in quotes, the first twelve."""
    more = f" and {len(cells) - 12} more" if len(cells) > 12 else ""
    return ", ".join(map(shown, cells[:12])) + more


def column_key(name: str) -> str:
    """A column's name without case, and with one kind of space."""
    return re.sub(r"[\s_\-]+", "_", name.strip().strip("\ufeff").casefold())


def find_column(columns: Sequence[str], role: str) -> str | None:
    """The column that holds the path, label, start, end, duration or split, by its usual names; None if none does."""
    if role in columns:
        return role
    keys = {column_key(name): name for name in reversed(columns)}
    return next((keys[name] for name in USUAL_NAMES[role].split() if name in keys), None)


def group_column(columns: Sequence[str]) -> str | None:
    """The column `group`, or one whose name differs from that in case and spaces alone; None if there is none."""
    return next((name for name in ("group", *columns) if name in columns and column_key(name) == "group"), None)


def is_group_name(name: str) -> bool:
    """Whether a column is called as those that name the recording or speaker of a clip are."""
    return column_key(name) in _GROUP_NAMES


def find_parts(columns: Sequence[str]) -> dict[str, str]:
    """Option of prepare.py -> column, where columns say which part of its file a row is; else none.

    A start with an end or with a duration. Beside a duration, `offset` is a start, as in NeMo's manifests; beside an
    onset it is the end.
    """
    start, end, duration = (find_column(columns, role) for role in ("start", "end", "duration"))
    if start and end:
        return {"--start_column": start, "--end_column": end}
    start = start or (end if end and column_key(end).startswith("offset") else None)
    return {"--start_column": start, "--duration_column": duration} if start and duration else {}


def mend_command(path: str | Path, *words: str) -> str:
    """The call of prepare.py that makes the stages' CSVs of a table of another form."""
    script, folder = ROOT / "dataset_csvs/prepare.py", Path(path).parent / "prepared"
    if Path.cwd() in script.parents:
        script = script.relative_to(Path.cwd())
    call = ["python", str(script), "csv", "--source", str(path), *words, "--output_folder", str(folder)]
    return shlex.join(call)


# ---- what a file is


def recognise(path: str | Path, encoding: str | None = None) -> Form:
    """What form a table has.

    Args:
        path: the file.
        encoding: of a text; None: found out.

    Raises:
        UserError: there is no such file, or it is nothing that holds a table.
    """
    path = Path(path)
    head = _read_head(path)
    for mark, (kind, what) in _BINARY.items():
        if head.startswith(mark):
            return _known(path, kind, what)
    if head.startswith(b"PK\x03\x04"):
        return _zipped(path)
    encoding = encoding or _encoding(path, head)
    text = head.decode(encoding, errors="ignore").lstrip("\ufeff")
    _refuse_other_text(path, text)
    if text.lstrip()[:1] in ("{", "["):
        lines = [line for line in text.splitlines() if line.strip()]
        is_lines = len(lines) > 1 and lines[0].strip().endswith("}") and lines[0].lstrip().startswith("{")
        return Form("jsonl", "JSON Lines", encoding) if is_lines else Form("json", "JSON", encoding)
    form = _text_form(text, encoding)
    _refuse_other_layout(path, form)
    return form


def _known(path: Path, kind: str, what: str) -> Form:
    if not kind:
        raise UserError(f"{path}: it is {what}")
    return Form(kind, what)


def _read_head(path: Path) -> bytes:
    if os.path.isdir(path):  # noqa: PTH112  # a name that is too long is none, where Path.is_dir raises
        raise UserError(f"{path}: is a folder, not a CSV file; prepare.py folder reads a folder per class")
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113  # as above
        raise UserError(
            f"{path}: {why_no_file(path)}, which is read once alone; write the table to a file, and give that"
        )
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
            while b"\n" not in head and b"\r" not in head and (more := stream.read(_HEAD_BYTES)):
                head += more  # a header may have many thousand columns
            return head
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such CSV file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _zipped(path: Path) -> Form:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        raise UserError(f"{path}: it is a damaged archive or Excel file; save it again") from None
    found = next((form for name, form in _ZIPPED.items() if name in names), None)
    if found is None:
        raise UserError(f"{path}: it is an archive, not a table; unpack it with unzip")
    return _known(path, *found)


def _refuse_other_text(path: Path, text: str) -> None:
    start = text.lstrip()[:200].lower()
    if start.startswith("version https://git-lfs"):
        raise UserError(f"{path}: it is a Git LFS pointer, not the file itself; run git lfs pull")
    if start.startswith(("<!doctype", "<html", "<?xml")):
        raise UserError(f"{path}: it is a web page or XML, not a table; download the file itself")
    if re.match(r"(---\s+)?- *[\w ]+: ", start):
        raise UserError(f"{path}: it looks like YAML, which is not read; save it as CSV or JSON")
    line = next(iter(text.strip().splitlines()), "")
    if re.match(r"\d+([.,]\d+)?\t\d+([.,]\d+)?(\t|$)", line) and not any(map(_is_sound, line.split("\t"))):
        raise UserError(
            f"{path}: it looks like a label track of Audacity, which names no sound file; write a CSV with path, "
            "start, end and label"
        )


def _refuse_other_layout(path: Path, form: Form) -> None:
    """Name what separates the columns where it is nothing that is read."""
    if len(form.header) != 1:
        return
    line = form.header[0].strip()
    words = re.split(r"(\W+)", line)
    if form.has_header and all(find_column(words[::2], role) for role in ("path", "label")):
        raise UserError(
            f"{path}: its columns seem to be separated by {words[1]!r}, which is not read; save it with commas"
        )
    if not form.has_header and re.fullmatch(r"\S+\s+\S+", line):
        raise UserError(
            f"{path}: it looks like Kaldi's wav.scp ({shown(line)}); prepare.py kaldi reads it, with utt2label "
            "beside it"
        )


def _encoding(path: Path, head: bytes) -> str:
    """The encoding of a text: by its mark, by where its zero bytes are, or the first that reads all of it."""
    for mark, name in _MARKS.items():
        if head.startswith(mark):
            return name
    zeros = [head[side::2].count(0) for side in (0, 1)]
    if max(zeros) > len(head) // 8 and min(zeros) * 4 < max(zeros):
        return "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
    codes, reader = set(), codecs.getincrementaldecoder("utf-8")()
    is_utf8, line = True, 1
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            if 0 in chunk:
                line += chunk[: chunk.index(0)].count(b"\n")
                raise UserError(
                    f"{path}: line {line} holds a zero byte, so the file is damaged or no text; export it again"
                )
            line += chunk.count(b"\n")
            codes |= set(chunk) if not chunk.isascii() else set()
            try:
                is_utf8 = is_utf8 and reader.decode(chunk) is not None
            except UnicodeDecodeError:
                is_utf8 = False
    if is_utf8 and not reader.getstate()[0]:
        return "utf-8"
    _refuse_two_encodings(path)
    return "latin-1" if codes & {0x81, 0x8D, 0x8F, 0x90, 0x9D} else "cp1252"


def _refuse_two_encodings(path: Path) -> None:
    """Name the line that is no UTF-8 where most lines beyond ASCII are: read as cp1252, these would be garbled."""
    good, bad = 0, []
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.isascii():
                continue
            try:
                line.decode()
                good += 1
            except UnicodeDecodeError:
                bad.append(number)
    if bad and good >= len(bad):
        more = f" (and {len(bad) - 1} more such lines)" if len(bad) > 1 else ""
        raise UserError(
            f"{path}: line {bad[0]} is not UTF-8, as the others are{more}; write it anew, or export the table again"
        )


def _text_form(text: str, encoding: str) -> Form:
    """Separator and header of a text, from its first lines."""
    lines = re.split(r"\r\n|\r|\n", text)
    first = next((i for i, line in enumerate(lines) if line.strip()), None)
    if first is None:
        return Form(encoding=encoding)
    told = re.fullmatch(r'"?sep=(.)"?', lines[first], re.I)
    form = Form(encoding=encoding, separator=told[1] if told else ",")
    above = first + 1 if told else first
    while above < len(lines) and lines[above].startswith("#"):
        above += 1
    if above > first and any(line.strip() for line in lines[above:]):
        form = replace(form, skipped=above)
        first = next(i for i in range(above, len(lines)) if lines[i].strip())
    choices = [form.separator] if told else list(SEPARATORS)
    parsed = {separator: _cells(lines[first], separator) for separator in choices}
    best = max(choices, key=lambda separator: _likeness(parsed[separator]))
    form = replace(form, separator=best, header=tuple(parsed[best]))
    if not told and not _likeness(form.header)[0] and not _is_clip(form.header):
        form = _below_a_title(form, lines, first)
    return replace(form, has_header=not _is_clip(form.header))


def _below_a_title(form: Form, lines: Sequence[str], first: int) -> Form:
    """The form of a table whose header stands a few lines below a title; as it is where there is none."""
    for i, line in enumerate(lines[first + 1 : first + _TITLE_LINES], first + 1):
        for separator in SEPARATORS:
            header = _cells(line, separator)
            if _likeness(header)[0] == 2:
                return replace(form, separator=separator, header=tuple(header), skipped=i)
    return form


def _cells(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return [line]


def _likeness(header: Sequence[str]) -> tuple[int, int]:
    """How much the cells of a first line are those of a table of clips."""
    known = sum(find_column(header, role) is not None for role in ("path", "label"))
    return known, min(len(header), 2) if not known else len(header)


def _is_clip(header: Sequence[str]) -> bool:
    """Whether a first line is a row already."""
    return not any(find_column(header, role) for role in ("path", "label")) and any(map(_is_sound, header))


def _is_sound(cell: str) -> bool:
    return is_sound_name(Path(cell.strip()))


# ---- reading it


def load(path: str | Path, form: Form) -> pd.DataFrame:
    """Read a table as text, its columns in order; a cell that is missing is empty.

    Raises:
        UserError: it cannot be read; the message says why, and which package is missing if that is the reason.
    """
    if form.kind == "csv":
        return _load_csv(Path(path), form)
    if form.kind in ("json", "jsonl"):
        return _load_json(Path(path), form)
    return _load_binary(Path(path), form)


def _load_csv(path: Path, form: Form) -> pd.DataFrame:
    import pandas as pd

    if not form.header:
        raise UserError(f"{path}: the file is empty; a header with path, label is needed")
    header = None if form.has_header else made_up_names(form.header)
    try:
        with warnings.catch_warnings():
            # more cells than columns: pandas would make an index of the first, or leave the last out
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                path,
                sep=form.separator,
                encoding="utf-8-sig" if form.encoding == "utf-8" else form.encoding,
                skiprows=form.skipped,
                names=header,
                header="infer" if form.has_header else None,
                dtype=str,
                keep_default_na=False,
                index_col=False,
                compression=None,
            )
    except (pd.errors.ParserWarning, pd.errors.ParserError, UnicodeError, ValueError) as error:
        broken = broken_rows(path, form)
        if broken:
            more = f" (and {len(broken) - 1} more such rows)" if len(broken) > 1 else ""
            raise UserError(f"{path} row {broken[0].row}: {broken[0].text}{more}") from None
        if isinstance(error, (pd.errors.ParserWarning, pd.errors.ParserError)):
            return _load_narrow(path, form)
        reason = " ".join(str(error).split())
        if isinstance(error, UnicodeError):
            raise UserError(f"{path}: not a text of the encoding {form.encoding} ({reason}); name another") from None
        raise UserError(f"{path}: not a readable UTF-8 CSV ({reason}); quote cells that hold commas") from None


def _load_narrow(path: Path, form: Form) -> pd.DataFrame:
    """A CSV in which some rows end with more separators than the header: the cells that are too many are empty."""
    import pandas as pd

    width = len(form.header)
    rows = [(cells + [""] * width)[:width] for cells in _rows(path, form)]
    if form.has_header:
        names = [name if name.strip() else f"Unnamed: {i}" for i, name in enumerate(rows.pop(0))]
    else:
        names = made_up_names(form.header)
    return pd.DataFrame(rows, columns=[name.removeprefix("\ufeff") for name in names], dtype=str)


def made_up_names(cells: Sequence[str]) -> list[str]:
    """Names for the columns of a table without a header: `path` holds a sound file; the only other one is `label`."""
    place = next(i for i, cell in enumerate(cells) if is_sound_name(Path(cell.strip())))
    names = [f"column_{i}" for i in range(1, len(cells) + 1)]
    names[place] = "path"
    if len(cells) == 2:
        names[1 - place] = "label"
    return names


def broken_rows(path: Path, form: Form) -> list[BrokenRow]:
    """The rows of a CSV that have more cells than its header has columns; else the one whose quote is never closed."""
    width, first = len(form.header), 0 if form.has_header else 1
    try:
        return _broken_rows(path, form, width, first)
    except UnicodeError:
        return []  # it is of another encoding than it is said to be


def _broken_rows(path: Path, form: Form, width: int, first: int) -> list[BrokenRow]:
    told = f"quote cells that hold {SEPARATORS.get(form.separator, form.separator)}"
    found = [
        BrokenRow(row, f"more cells than the header has columns ({count}, not {width}); {told}")
        for row, count in enumerate(_widths(path, form), first)
        if count > width
    ]
    if found:
        return found
    rows = 0
    try:
        for _ in _widths(path, form, strict=True):
            rows += 1
    except csv.Error as error:
        if "unexpected end" in str(error):
            text = 'not a readable UTF-8 CSV: a quote (") is opened and never closed; close or remove it'
            return [BrokenRow(rows + first, text)]
    return []


def _widths(path: Path, form: Form, strict: bool = False) -> Iterator[int]:
    """How many cells each row of a CSV has, the header first; empty ones behind its columns are none."""
    width = len(form.header)
    for cells in _rows(path, form, strict):
        beyond = [i for i, cell in enumerate(cells[width:], width + 1) if cell.strip()]
        yield beyond[-1] if beyond else min(len(cells), width)


def _rows(path: Path, form: Form, strict: bool = False) -> Iterator[list[str]]:
    """The rows of a CSV that are not blank, the header first."""
    limit = csv.field_size_limit(1 << 30)
    try:
        with path.open(encoding=form.encoding, errors="replace", newline="") as stream:
            lines = islice(stream, form.skipped, None)
            yield from filter(None, csv.reader(lines, delimiter=form.separator, strict=strict))
    finally:
        csv.field_size_limit(limit)


def cell_text(value: object) -> str:
    """A value as the CSVs want it: a list is joined by `;`, nothing is empty."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, dict) and "path" in value:  # a sound as the library `datasets` writes it
        value = value["path"]
    if value is None or value != value:  # NaN is not itself
        return ""
    return ";".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _records(value: Json) -> list[Json]:
    """The rows of a JSON object: of labels by path, of columns, or one that wraps rows; else it is a row itself."""
    if value and all(map(_is_sound, value)):
        return [{"path": path, **(cell if isinstance(cell, dict) else {"label": cell})} for path, cell in value.items()]
    arrays = {name: part for name, part in value.items() if isinstance(part, list)}
    if len(arrays) == len(value) > 1 and len(set(map(len, arrays.values()))) == 1:
        return [dict(zip(arrays, cells, strict=True)) for cells in zip(*arrays.values(), strict=True)]
    wrapped = (part for part in arrays.values() if part and all(isinstance(row, dict) for row in part))
    if len(value) == 1 and isinstance(inner := next(iter(value.values())), dict):
        return _records(inner)
    return next(wrapped, [value])


def _load_json(path: Path, form: Form) -> pd.DataFrame:
    """Objects in an array, in an object that holds nothing else, or one a line; an object of columns, or of paths."""
    import pandas as pd

    at = ""
    try:
        text = path.read_text(encoding="utf-8-sig" if form.encoding == "utf-8" else form.encoding)
        if form.kind == "json":
            value = json.loads(text)
        else:
            value = []
            for row, line in enumerate(filter(str.strip, io.StringIO(text)), 1):
                at = f" row {row}"
                value.append(json.loads(line))
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", error) if at else error  # of the one line
        raise UserError(f"{path}{at}: not readable {form.what} ({reason})") from None
    value = _records(value) if isinstance(value, dict) else value
    if not isinstance(value, list):
        raise UserError(f"{path}: {form.what} that holds no table; write an array of objects, one a clip")
    odd = next((i for i, record in enumerate(value, 1) if not isinstance(record, dict)), None)
    if odd is not None:
        raise UserError(f"{path} row {odd}: not a JSON object: {shown(str(value[odd - 1]))}")
    columns = list(dict.fromkeys(name for record in value for name in record))
    return pd.DataFrame({name: [cell_text(record.get(name)) for record in value] for name in columns}, dtype=str)


def _load_binary(path: Path, form: Form) -> pd.DataFrame:
    """Excel, OpenDocument, Parquet and Arrow, as far as their libraries are installed."""
    import pandas as pd

    readers = {"parquet": pd.read_parquet, "feather": pd.read_feather}
    try:
        if form.kind in readers:
            table = readers[form.kind](path)
            return pd.DataFrame(
                {str(name): [cell_text(cell) for cell in table[name].tolist()] for name in table}, dtype=str
            )
        return _load_sheet(path)
    except UserError:
        raise
    except ImportError:
        name = _LIBRARIES[form.kind]
        raise UserError(
            f"{path}: it is {form.what}; to read it, install {name} ({ROOT / '.venv/bin/python'} -m pip install "
            f"{name}), or save it as CSV (UTF-8)"
        ) from None
    except Exception as error:  # these libraries raise whatever a damaged file makes of them
        raise UserError(
            f"{path}: {form.what} that cannot be read ({' '.join(str(error).split())}); save it again"
        ) from None


def _load_sheet(path: Path) -> pd.DataFrame:
    """The sheet of a workbook that has a header with path and label, maybe below a title; else the first sheet."""
    import pandas as pd

    as_text: dict[str, Any] = {"dtype": str, "keep_default_na": False}  # Any: each is of another type
    with pd.ExcelFile(path) as book:
        tops = pd.read_excel(book, sheet_name=None, header=None, nrows=_TITLE_LINES, **as_text)
        rows = {name: [list(map(str, cells)) for cells in top.itertuples(index=False)] for name, top in tops.items()}
        found = {name: i for name, top in rows.items() if (i := _header_place(top)) is not None}
        if len(found) > 1:
            raise UserError(f"{path}: several sheets hold clips ({names_of(list(found))}); save each as a CSV (UTF-8)")
        name, place = next(iter(found.items()), (book.sheet_names[0], 0))
        return pd.read_excel(book, sheet_name=name, header=place, **as_text).rename(columns=str)


def _header_place(rows: Sequence[Sequence[str]]) -> int | None:
    """The first row that has names of a path and a label."""
    return next((i for i, cells in enumerate(rows) if _likeness(cells)[0] == 2), None)


# ---- what its header lacks


def doubled(path: str | Path, form: Form) -> list[str]:
    """The names that the header of a CSV has more than once, a sentence each."""
    counts = Counter(form.header if form.has_header else ())
    twice = [name for name, count in counts.items() if count > 1 and name.strip()]
    return [f"{path}: the header has {name!r} more than once; rename or remove one" for name in twice]


def header_faults(header: Sequence[str], required: Sequence[str], kind: str = "csv") -> Iterator[str]:
    """What a header lacks, a clause; a table of this kind may have none."""
    missing = [name for name in required if name not in header]
    if not missing:
        return
    usual = {name: find_column(header, name) for name in missing if name in USUAL_NAMES}
    hint = ", ".join(f"{found!r} seems to be {name!r}" for name, found in usual.items() if found)
    if kind in ("csv", *_SHEETS) and not any(find_column(header, role) for role in USUAL_NAMES):
        hint = "if its first line is a clip, write a header above it"
    text = f"no column {', '.join(map(repr, missing))}; the columns found are {names_of(header)}"
    yield f"{text} ({hint})" if hint else text
