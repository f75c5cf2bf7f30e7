"""Tables as people have them: stage 0 says all that is wrong at once, and its mend, done as it stands, mends it."""

from __future__ import annotations

import csv
import json
import shlex
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from synthio.cli import UserError
from synthio.data.any_table import read_any
from synthio.data.check_inputs import check_all
from synthio.data.check_tables import label_key, read_split
from synthio.data.options import CheckOptions
from synthio.data.problems import Findings
from synthio.manifest import OWN_COLUMNS, clean_labels, read_manifest
from tests.scripts import call_script

ROOT = Path(__file__).resolve().parent.parent.parent
PREPARE, CHECK = ROOT / "dataset_csvs/prepare.py", ROOT / "synthio/data/check_inputs.py"
SPLITS = ("train", "valid", "test")


def rows_of(path):
    with Path(path).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def data(make_wav, tmp_path):
    """data.write("train", text or bytes) in place of a good CSV; data.check() -> (problems, warnings)."""

    class Data:
        def __init__(self):
            for k, split in enumerate(SPLITS):
                for i in range(4):
                    make_wav(f"a/{split}{i}.wav", 0.1, sample_rate=8000, seed=10 * k + i)
                self.write(
                    split, "path,label\n" + "".join(f"a/{split}{i}.wav,{'dog cat'.split()[i % 2]}\n" for i in range(4))
                )

        def write(self, split, text, suffix=".csv"):
            path = tmp_path / f"{split}{suffix}"
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            return path

        def check(self, n=0, train=None, **options):
            csvs = {split: str(tmp_path / f"{split}.csv") for split in SPLITS}
            if train:
                csvs["train"] = str(train)
            findings = check_all(csvs, n, CheckOptions(**options), augment_only=True).findings
            return findings.lines(), findings.warnings

        def refused(self, *parts, **options):
            lines, _ = self.check(**options)
            assert len(lines) == 1 and all(part in lines[0] for part in parts), lines
            return lines[0]

    return Data()


def do_mend(line, tmp_path):
    """Run the command that a problem ends with; the CSV it writes."""
    words = shlex.split(
        line.split("this makes a CSV of it: ")[-1].split("let prepare.py do it: ")[-1].split("at another: ")[-1]
    )
    assert words[0] == "python"
    done = call_script(PREPARE, *words[2:])
    assert done.returncode == 0, done.stderr
    return tmp_path / "prepared/train.csv"


ROWS = [("a/train0.wav", "größe"), ("a/train1.wav", "cat"), ("a/train2.wav", "größe"), ("a/train3.wav", "cat")]


def table(separator=",", header=("path", "label"), end="\n"):
    return end.join(separator.join(row) for row in ([header] if header else []) + ROWS) + end


FORMS = {
    "utf16": (table().encode("utf-16"), "it looks like UTF-16"),
    "utf16 without a mark": (table().encode("utf-16-le"), "it looks like UTF-16-LE"),
    "utf16 big": (table().encode("utf-16-be"), "it looks like UTF-16-BE"),
    "cp1252": (table().encode("cp1252"), "it looks like CP1252"),
    "semicolons": (table(";").encode(), "separated by semicolons"),
    "tabs": (table("\t").encode(), "separated by tabs"),
    "excel's German": (table(";", end="\r\n").encode("cp1252"), "CP1252); its cells are separated by semicolons"),
    "sep=": (b"sep=;\r\n" + table(";", end="\r\n").encode(), "above its header stands 'sep='"),
    "a comment": (b"# of 2024\n# by us\n" + table().encode(), "or a comment"),
    "no header": (table(header=None).encode(), "it has no header: its first line is a clip already ('a/train0.wav'"),
    "capitals": (table(header=("Path", "Label")).encode(), "'Path' seems to be 'path', 'Label' seems to be 'label'"),
    "other names": (table(header=("filename", "class")).encode(), "no column 'path', 'label'"),
    "one name": (
        table(header=("path", "category")).encode(),
        "no column 'label'; the columns found are 'path', 'category'",
    ),
    "old Mac": (table(";", end="\r").encode(), "separated by semicolons"),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_mend_of_another_form_mends_it(data, tmp_path, name):
    content, part = FORMS[name]
    train = data.write("train", content)
    for split in SPLITS[1:]:
        data.write(split, f"path,label\na/{split}0.wav,größe\na/{split}1.wav,cat\n")
    line = data.refused(f"{train}: ", part)
    assert data.check(train=do_mend(line, tmp_path)) == ([], [])
    assert [row["label"] for row in rows_of(tmp_path / "prepared/train.csv")] == [label for _, label in ROWS]
    with pytest.raises(UserError, match="this makes CSVs of it: python "):
        read_manifest(train)


@pytest.mark.parametrize("kind", ["json", "jsonl", "columns", "wrapped"])
def test_json(data, tmp_path, kind):
    records = [{"file": path, "labels": [label]} for path, label in ROWS]
    texts = {
        "json": json.dumps(records),
        "jsonl": "\n".join(map(json.dumps, records)),
        "columns": json.dumps({"file": [path for path, _ in ROWS], "label": [label for _, label in ROWS]}),
        "wrapped": json.dumps({"data": [{"audio": {"path": path}, "labels": label} for path, label in ROWS]}, indent=1),
    }
    train = data.write("train", texts[kind])
    for split in SPLITS[1:]:
        data.write(split, f"path,label\na/{split}0.wav,größe\na/{split}1.wav,cat\n")
    line = data.refused("it is JSON", "not a CSV")
    assert data.check(train=do_mend(line, tmp_path)) == ([], [])
    with pytest.raises(UserError, match="it is JSON"):
        read_manifest(train)


@pytest.mark.parametrize(("suffix", "library"), [(".xlsx", "openpyxl"), (".parquet", "pyarrow")])
def test_what_needs_a_library(data, tmp_path, suffix, library):
    pandas = pytest.importorskip("pandas")
    frame, path = pandas.DataFrame(ROWS, columns=["File", "Class"]), tmp_path / f"train{suffix}"
    try:
        frame.to_excel(path, index=False) if suffix == ".xlsx" else frame.to_parquet(path)
    except ImportError:
        head = {".parquet": b"PAR1 and what follows"}
        if suffix in head:
            path.write_bytes(head[suffix])
        else:
            import zipfile

            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("xl/workbook.xml", "<workbook/>")
        lines, _ = data.check(train=path)
        assert len(lines) == 1 and f"install {library} " in lines[0] and "or save it as CSV (UTF-8)" in lines[0]
        return
    for split in SPLITS[1:]:
        data.write(split, f"path,label\na/{split}0.wav,größe\na/{split}1.wav,cat\n")
    (line, *others), _ = data.check(train=path)
    assert not others and data.check(train=do_mend(line, tmp_path)) == ([], [])


@pytest.fixture
def workbook(tmp_path):
    """Writes sheets, name -> (first row of the table, table), and gives the path."""
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("openpyxl")

    def write(**sheets):
        path = tmp_path / "train.xlsx"
        with pandas.ExcelWriter(path) as book:
            for name, (row, table) in sheets.items():
                pandas.DataFrame(table).to_excel(book, sheet_name=name, index=False, startrow=row)
        return path

    return write


CLIPS = {"File": ["a/train0.wav", "a/train1.wav"], "Class": ["dog", "cat"]}


@pytest.mark.parametrize("sheets", [{"clips": (3, CLIPS)}, {"notes": (0, {"a": ["b"]}), "clips": (0, CLIPS)}])
def test_the_sheet_and_the_row_at_which_a_table_begins(data, tmp_path, workbook, sheets):
    (line,), _ = data.check(train=workbook(**sheets))
    assert data.check(train=do_mend(line, tmp_path)) == ([], [])


def test_a_workbook_of_which_one_sheet_cannot_be_told(data, workbook):
    lines, _ = data.check(train=workbook(train=(0, CLIPS), test=(0, CLIPS)))
    assert lines[0].endswith("several sheets hold clips ('train', 'test'); save each as a CSV (UTF-8)")
    lines, _ = data.check(train=workbook(train=(0, {"a/train0.wav": ["a/train1.wav"], "dog": ["cat"]})))
    assert "if its first line is a clip, write a header above it" in lines[0]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "the file is empty; a header with path, label is needed"),
        (b"\n\n", "the file is empty"),
        (b"path,label\n", "no rows; list at least one train clip"),
        (b"path,label\na/train0.wav,d\0g\n", "line 2 holds a zero byte"),
        (b"path,label,label\na/train0.wav,dog,cat\n", "the header has 'label' more than once; rename or remove one"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer, not the file itself"),
        (b"<!DOCTYPE html><html></html>", "a web page or XML"),
        (b"RIFF....WAVE", "it is a sound file, not a table"),
        (b"\x1f\x8b\x08\0", "compressed by gzip; unpack it with gunzip"),
        (b"PK\x03\x04 and no more", "a damaged archive"),
        (b"{\\rtf1\\ansi path,label}", "a text with a layout (RTF); save it as plain text"),
        (
            b'path,label\na/train0.wav,dog\n"a/train1.wav,cat\na/train2.wav,dog\n',
            "row 2: not a readable UTF-8 CSV: a quote",
        ),
        (
            b'path,label,n\na/train0.wav,dog,"12\na/train1.wav,cat,ok\na/train2.wav,dog,6" m\n',
            "row 1: a line break within n '12",
        ),
    ],
)
def test_what_is_no_table_of_clips(data, content, part):
    train = data.write("train", content)
    lines, _ = data.check()
    assert part in lines[0] and str(train) in lines[0], lines


def test_every_row_with_too_many_cells_is_named(data):
    data.write("train", "path,label\na/train0.wav,dog, big\na/train1.wav,cat\na/train2.wav,dog, small\n")
    lines, _ = data.check()
    assert [line.split("train.csv ")[1][:30] for line in lines] == [
        "row 1: more cells than the hea",
        "row 3: more cells than the hea",
    ]


def test_all_problems_of_all_three_are_told(data):
    data.write("train", "path,label\na/none.wav,dog\na/train1.wav,cat;dog\n,dog\na/train2.wav, \n")
    data.write("valid", "Path;Label\na/valid0.wav;Dog\n")
    data.write("test", "path,label\na/" + "x" * 300 + ".wav,dog\na/test1.wav,bird\n")
    lines, warnings = data.check()
    parts = [
        "row 3: the path is empty",
        "row 4: the label is empty",
        "valid.csv: its cells are separated by semicolons",
        "valid.csv row 1: label 'Dog': no clip in ",
        "test.csv row 2: label 'bird'",
        "train.csv row 2: several labels ('cat;dog'",
        "train.csv row 1: no such file",
        "test.csv row 1: no such file",
    ]
    assert len(lines) == len(parts) and all(part in line for part, line in zip(parts, lines, strict=True)), lines
    assert "(near: 'dog')" in lines[3] and "(305 letters)" not in lines[7] and "letters)" in lines[7]
    assert warnings == []


def test_twenty_lines_and_a_count_of_the_rest(data):
    data.write("train", "path,label\n" + "".join(f"gone{i}.wav,dog\n" for i in range(500)) + "a/train1.wav,cat\n")
    data.write("valid", "path,label\na/valid0.wav,bird\n")
    lines, _ = data.check()
    assert len(lines) == 21 and "label 'bird'" in lines[0] and "gone18.wav" in lines[19]
    assert lines[20] == "and 481 more: 481 clips are not there"


def test_several_labels(data):
    data.write("train", "path,label\na/train0.wav,dog; cat \na/train1.wav,cat;\na/train2.wav,dog;dog\n")
    line = data.refused("row 1: several labels ('dog;cat', joined by ';')", "set multi_label=true, or keep one")
    assert "row 2" not in line
    assert data.check(multi_label=True)[0] == []


def test_labels_that_something_else_joins(data, tmp_path):
    data.write("train", "path,label\na/train0.wav,dog|cat\na/train1.wav,cat\na/train2.wav,dog\n")
    _, warnings = data.check(multi_label=True)
    assert "if '|' joins them, as in 'dog|cat': python " in warnings[0]
    done = call_script(PREPARE, *shlex.split(warnings[0].split("'dog|cat': ")[1])[2:])
    assert done.returncode == 0, done.stderr
    assert [row["label"] for row in rows_of(tmp_path / "prepared/train.csv")] == ["dog;cat", "cat", "dog"]


def test_a_header_of_many_thousand_columns(tmp_path):
    names = [f"probability_{'x' * 60}_{i}" for i in range(3000)]
    (tmp_path / "t.csv").write_text(",".join(["path", "label", *names]) + "\n")
    assert list(read_manifest(tmp_path / "t.csv").columns) == ["path", "label", *names]


def test_labels_are_normalised_once(data, tmp_path):
    data.write("train", "path,label\na/train0.wav, dog\na/train1.wav,cat \na/train2.wav,\u00a0dog\na/train3.wav,cat;\n")
    words = [word for split in SPLITS for word in (f"--{split}_csv", tmp_path / f"{split}.csv")]
    assert call_script(CHECK, *words, "--output_folder", tmp_path / "out").returncode == 0
    assert [row["label"] for row in rows_of(tmp_path / "out/train.csv")] == ["dog", "cat"] * 2
    assert clean_labels([" a ;b;; a", "x"]) == ["a;b", "x"]


@pytest.mark.parametrize(
    "other", ["Dog_bark", "dog bark", "dog-bark", "dog  bark", "dog\u00a0bark", "dog_\u200bbark", "DOG_BARK\ufeff"]
)
def test_variants_of_a_label(data, other):
    assert label_key("dog_bark") == label_key(other)
    data.write("train", f"path,label\na/train0.wav,dog_bark\na/train1.wav,{other}\na/train2.wav,dog_bark\n")
    for split in SPLITS[1:]:
        data.write(split, f"path,label\na/{split}0.wav,dog_bark\n")
    lines, warnings = data.check()
    assert not lines and len(warnings) == 1
    assert "'dog_bark' (4 clips)" in warnings[0] and "(1 clip); write them alike" in warnings[0]
    data.write("train", "path,label\na/train0.wav,dog_bark\na/train1.wav,cat\n")
    data.write("test", f"path,label\na/test0.wav,{other}\n")
    assert "write it as 'dog_bark' (near: 'dog_bark')" in data.check()[0][0]


def test_unicode_forms_of_a_label_are_told_apart(data):
    both = [unicodedata.normalize(form, "größe") for form in ("NFC", "NFD")]
    data.write("train", f"path,label\na/train0.wav,{both[0]}\na/train1.wav,{both[1]}\n")
    _, warnings = data.check()
    assert "'größe' (1 clip), 'gro\\u0308\\xdfe' (1 clip)" in warnings[0]


@pytest.mark.parametrize("column", OWN_COLUMNS)
def test_own_columns_with_names_of_ours_are_kept_and_harmless(data, tmp_path, column):
    data.write(
        "train", f"path,label,{column},note\n" + "".join(f"a/train{i}.wav,{'ab'[i % 2]},v{i},n\n" for i in range(4))
    )
    for split in SPLITS[1:]:
        data.write(split, f"path,label\na/{split}0.wav,a\n")
    words = [word for split in SPLITS for word in (f"--{split}_csv", tmp_path / f"{split}.csv")]
    done = call_script(CHECK, *words, "--output_folder", tmp_path / "out")
    assert done.returncode == 0 and f"column {column!r} has a name that the stages use" in done.stderr
    rows = rows_of(tmp_path / "out/train.csv")
    assert column not in rows[0] and [row["note"] for row in rows] == ["n"] * 4
    kept = [Path(row[f"input_{column}"]).name for row in rows]
    assert kept == [f"v{i}" for i in range(4)]


def test_a_checked_table_can_be_checked_again(data, tmp_path):
    words = [word for split in SPLITS for word in (f"--{split}_csv", tmp_path / f"{split}.csv")]
    assert call_script(CHECK, *words, "--output_folder", tmp_path / "out").returncode == 0
    again = [word for split in SPLITS for word in (f"--{split}_csv", tmp_path / f"out/{split}.csv")]
    done = call_script(CHECK, *again, "--output_folder", tmp_path / "out2")
    assert done.returncode == 0 and done.stderr == ""
    assert rows_of(tmp_path / "out2/train.csv")[0].keys() == rows_of(tmp_path / "out/train.csv")[0].keys()
    data.write(
        "train",
        "path,label,sha256\n" + "".join(f"a/train{i}.wav,{'dog cat'.split()[i % 2]},mine{i}\n" for i in range(4)),
    )
    done = call_script(CHECK, *words, "--output_folder", tmp_path / "out3")
    assert done.returncode == 0 and "column 'sha256' says something else" in done.stderr
    assert [row["input_sha256"] for row in rows_of(tmp_path / "out3/train.csv")] == [f"mine{i}" for i in range(4)]


def test_parts_of_recordings(data, tmp_path):
    data.write("train", "path,label,onset,offset\na/train0.wav,dog,0,0.05\na/train1.wav,cat,0,0.05\n")
    lines, warnings = data.check()
    assert not lines and "columns 'onset' and 'offset' are not read" in warnings[0]
    assert "--start_column onset --end_column offset" in warnings[0]
    data.write("train", "path,label,onset,offset\na/train0.wav,dog,0,0.05\na/train0.wav,cat,0.05,0.1\n")
    assert "row 2: 'a/train0.wav' again: columns 'onset' and 'offset'" in data.refused("--start_column onset")


def test_offset_and_duration_of_a_manifest_of_nemo(data):
    """There an offset is a start, and not the end that it is beside an onset."""
    head = "audio_filepath,label,offset,duration\n"
    data.write("train", f"{head}a/train0.wav,dog,0.02,0.05\na/train1.wav,cat,0.02,0.05\n")
    (line,), (warning,) = data.check()
    assert "'audio_filepath' seems to be 'path'" in line
    assert "columns 'offset' and 'duration' are not read" in warning
    assert "--start_column offset --duration_column duration" in warning
    data.write("train", f"{head}a/train0.wav,dog,0,0.05\na/train0.wav,cat,0.05,0.05\n")
    lines, _ = data.check()
    assert any("row 2: 'a/train0.wav' again: columns 'offset' and 'duration'" in line for line in lines)


def test_a_column_of_splits_is_pointed_out(data):
    data.write("train", "path,label,subset\na/train0.wav,dog,train\na/train1.wav,cat,test\n")
    _, warnings = data.check()
    assert (
        "column 'subset' names several splits, and is not read" in warnings[0]
        and "--split_column subset" in warnings[0]
    )


@pytest.mark.parametrize("kind", ["backslash", "file", "unicode", "unseen", "suffix", "case", "space", "folder"])
def test_spellings_of_a_path(data, make_wav, tmp_path, monkeypatch, kind):
    make_wav("b/" + unicodedata.normalize("NFD", "größe.wav"), 0.1, sample_rate=8000, seed=77)
    monkeypatch.chdir(tmp_path / "b")
    make_wav("b/only_here.wav", 0.1, sample_rate=8000, seed=78)
    cell = {
        "backslash": "a\\train0.wav",
        "file": (tmp_path / "a/train0.wav").as_uri(),
        "unicode": "b/" + unicodedata.normalize("NFC", "größe.wav"),
        "unseen": "a/train0.wav\u200b",
        "suffix": "a/train0",
        "case": "A/Train0.WAV",
        "space": " a/train0.wav ",
        "folder": "only_here.wav",
    }[kind]
    more = "" if kind == "folder" else "a/train1.wav,cat\n"
    data.write("train", f"path,label\n{cell},dog\n{more}" + ("../a/train1.wav,cat\n" if kind == "folder" else ""))
    lines, _ = data.check()
    assert "train.csv row 1: no such file: " in lines[0], lines
    assert ("looks the same, but has other signs" in lines[0]) == (kind in ("unicode", "unseen"))
    mended = do_mend(lines[0], tmp_path)
    assert data.check(train=mended)[0] == []


def test_an_address_is_no_file(data):
    data.write("train", "path,label\nhttps://example.org/a.wav,dog\na/train1.wav,cat\ns3://b/a.wav,dog\n")
    lines, _ = data.check()
    assert len(lines) == 2 and all("it is an address; download the file" in line for line in lines)


def test_a_home_folder(data, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "a"))
    data.write("train", "path,label\n~/train0.wav,dog\na/train1.wav,cat\n")
    assert f"there is '{tmp_path / 'a/train0.wav'}'" in data.refused("row 1: no such file")


def test_missing_files_can_be_dropped(data):
    data.write("train", "path,label\na/train0.wav,dog\na/train1.wav,cat\ngone.wav,cat\n" + "x" * 300 + ".wav,dog\n")
    lines, _ = data.check()
    assert len(lines) == 2 and all("no such file" in line for line in lines)
    lines, warnings = data.check(on_bad_audio="drop")
    assert not lines and "2 of 4 clips dropped, the first is row 3" in warnings[0]


@pytest.mark.parametrize("what", ["stop", "drop"])
def test_a_path_with_a_line_break_stays_on_one_line(data, what):
    data.write("train", 'path,label\n"a/train0.wav\r\n",dog\na/train1.wav,cat\n')
    lines, warnings = data.check(on_bad_audio=what)
    assert "row 1: a line break within path" in lines[0]
    assert all("\n" not in line and "\r" not in line for line in (*lines, *warnings)), (lines, warnings)


# ---- any bytes


CELLS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8)


@settings(max_examples=120, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@seed(0)
@given(
    content=st.one_of(
        st.binary(max_size=120),
        st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=5).map(
            lambda rows: "\n".join(",".join(row) for row in [["path", "label"], *rows]).encode()
        ),
        st.lists(
            st.sampled_from(
                [b"path,label\n", b"a.wav", b",", b";", b'"', b"\n", b"dog", b"\xff", b"\r", b"sep=;\n", b"{", b"["]
            ),
            max_size=12,
        ).map(b"".join),
    )
)
def test_no_bytes_give_a_traceback(tmp_path, content):
    path = tmp_path / "any.csv"
    path.write_bytes(content)
    findings = Findings()
    split = read_split("train", str(path), findings)
    assert findings.problems or split is not None
    assert all("\n" not in line.strip() for line in findings.lines()), findings.lines()
    for read in (read_manifest, lambda path: read_any(path, None)):
        try:
            read(path)
        except UserError as error:
            assert str(path) in str(error)


@settings(max_examples=40, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@seed(0)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("0123x"), st.sampled_from(["dog", "cat", " dog", "dog;cat", "größe,"])),
        min_size=1,
        max_size=8,
    )
)
def test_rows_in_are_rows_out_and_dropped(data, tmp_path, rows):
    with (tmp_path / "train.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("path", "label"), *((f"a/train{i}.wav", label) for i, label in rows)])
    csvs = {split: str(tmp_path / f"{split}.csv") for split in SPLITS}
    checked = check_all(csvs, 0, CheckOptions(multi_label=True, on_bad_audio="drop"))
    split, dropped = checked.results[0]
    assert len(split.table) + len(dropped) == len(rows)
    assert len(dropped) == sum(i == "x" for i, _ in rows)
    assert sorted([*split.rows, *(int(i) + 1 for i in dropped.index)]) == list(range(1, len(rows) + 1))


# ---- groups under other names, and spelled in two ways


def with_column(split, name, values):
    rows = (f"a/{split}{i}.wav,{'dog cat'.split()[i % 2]},{values[i % len(values)]}\n" for i in range(4))
    return f"path,label,{name}\n" + "".join(rows)


@pytest.mark.parametrize("name", ["Group", "GROUP", " group"])
def test_a_column_that_is_nearly_called_group_is_not_passed_over(data, tmp_path, name):
    """`Group` was no group: clips of one speaker were in two sets, and nothing was said."""
    for split in SPLITS:
        data.write(split, with_column(split, name, [f"{split} 1", f"{split} 2"]))
    lines, _ = data.check()
    assert len(lines) == 3 and all(f"{name!r} seems to be 'group'" in line for line in lines)
    assert {row["group"] for row in rows_of(do_mend(lines[0], tmp_path))} == {"train 1", "train 2"}
    data.write("valid", with_column("valid", name, ["train 1"]))
    assert sum("has the same group 'train 1'" in line for line in data.check()[0]) == 4


@pytest.mark.parametrize("name", ["speaker_id", "Recording ID", "fsID", "src_file"])
def test_a_column_of_speakers_that_is_not_read_is_pointed_out(data, name):
    for split in SPLITS:
        data.write(split, with_column(split, name, [split, "anna"]))
    lines, warnings = data.check()
    assert not lines and len(warnings) == 3
    assert all(f"column {name!r} is not read" in text and "'anna' in row 2" in text for text in warnings)
    for split in SPLITS:
        data.write(split, with_column(split, name, [split]))
    assert data.check() == ([], [])


@pytest.mark.parametrize(("one", "other"), [("12", "12.0"), ("Anna", "anna"), ("rec 1", "rec_1"), ("7", "007")])
def test_one_group_in_two_spellings_is_pointed_out(data, one, other):
    """pandas writes 12.0 where a cell of the column is empty, and 12 where none is."""
    data.write("train", with_column("train", "group", [one]))
    data.write("test", with_column("test", "group", [other]))
    lines, warnings = data.check()
    assert not lines and len(warnings) == 1
    assert f"the first is {other!r} (there {one!r})" in warnings[0]


def test_a_group_that_nobody_knows(data):
    data.write("train", with_column("train", "group", ["nan"]))
    data.write("test", with_column("test", "group", ["nan"]))
    assert all("empty the cells" in line for line in data.check()[0])


# ---- labels that are no names


@pytest.mark.parametrize("other", ["dog.", 'dog"', "“dog”", "`dog`", "do\x0cg", "do\u2028g"])
def test_quotes_and_signs_around_a_label(data, other):
    """`dog"` was a class of its own."""
    data.write("train", f"path,label\na/train0.wav,dog\na/train1.wav,cat\na/train2.wav,{other}\na/train3.wav,cat\n")
    lines, warnings = data.check()
    assert not lines and len(warnings) == 1 and "'dog' (" in warnings[0], (lines, warnings)


@pytest.mark.parametrize(("one", "other"), [("1", "1.0"), ("1", "01"), ("0", "0.0")])
def test_numbers_of_classes_that_a_program_wrote_in_another_way(data, one, other):
    for split in SPLITS:
        cells = (other if split == "test" else one, "cat")
        rows = (f"a/{split}{i}.wav,{cells[i % 2]}\n" for i in range(4))
        data.write(split, "path,label\n" + "".join(rows))
    lines, _ = data.check()
    assert len(lines) == 1 and f"write it as {one!r}" in lines[0]
    assert label_key("10") != label_key("1") and label_key("1.5") != label_key("1") and label_key("?") != label_key("!")


@pytest.mark.parametrize("label", ["nan", "None", "#N/A", "<NA>", "null"])
def test_a_missing_value_as_a_label_is_pointed_out(data, label):
    data.write("train", f"path,label\na/train0.wav,dog\na/train1.wav,cat\na/train2.wav,{label}\na/train3.wav,{label}\n")
    lines, warnings = data.check()
    assert not lines and warnings == [
        f"label {label!r} (2 clips) is taken as the name of a class; if it stands for a label that is missing, remove "
        "these rows"
    ]


def test_a_label_that_is_no_name(data):
    """30 million letters passed, after 15 s."""
    data.write("train", f"path,label\na/train0.wav,dog\na/train1.wav,cat\na/train2.wav,{'x' * 1001}\n")
    data.refused("train.csv row 3: a label of 1001 letters ('xxx", "at most 1000")


def test_a_silent_file_in_two_sets_is_one_clip(data, make_wav, tmp_path):
    """Silent clips are no copies of each other, but a file is one of itself, under any path."""
    make_wav("a/train0.wav", audio=[0.0] * 4000)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    rows = "b/train0.wav,dog\na/valid1.wav,cat\na/valid2.wav,dog\n"
    data.write("valid", f"path,label\n{rows}")
    data.refused("valid.csv row 1 has the same content as", "train.csv row 1")


# ---- forms and rows that programs and people make


GOOD = "path,label\n" + "".join(f"a/train{i}.wav,{'dog cat'.split()[i % 2]}\n" for i in range(4))


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace(",", "^"),
        f"My recordings of 2024\n\n{GOOD}",
        f"My recordings;;\n;;\n{GOOD.replace(',', ';')}",
        json.dumps(dict(line.split(",") for line in GOOD.split()[1:])),
        json.dumps({line.split(",")[0]: {"label": line.split(",")[1]} for line in GOOD.split()[1:]}),
        json.dumps(
            {"set": {"clips": [{"path": "a/train0.wav", "label": "dog"}, {"path": "a/train1.wav", "label": "cat"}]}}
        ),
        "Begin File\tSpecies\n" + "".join(f"a/train{i}.wav\t{'dog cat'.split()[i % 2]}\n" for i in range(4)),
        GOOD.replace("a/train0", "\ufeffa/train0"),
        GOOD.replace("a/train0.wav", "'a/train0.wav'"),
        GOOD.replace("a/train0", "a/%74rain0"),
        GOOD.replace("a/train0", "$HERE/train0"),
    ],
    ids=lambda text: text[:30],
)
def test_the_mend_of_more_forms_mends_them(data, tmp_path, text, monkeypatch):
    monkeypatch.setenv("HERE", "a")
    data.write("train", text)
    (line,), _ = data.check()
    assert {Path(row["path"]).name for row in rows_of(do_mend(line, tmp_path))} >= {"train0.wav", "train1.wav"}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (GOOD.replace(",", "   "), ["separated by '   '", "save it with commas"]),
        ("0.0\t1.5\tdog\n1.5\t3.0\tcat\n", ["a label track of Audacity"]),
        ("- path: a/train0.wav\n  label: dog\n", ["looks like YAML"]),
        ("rec1 a/train0.wav\nrec2 a/train1.wav\n", ["Kaldi's wav.scp", "prepare.py kaldi"]),
        ('{"path": "a", "label": "b"}\n{"path": "a"\n', ["train.csv row 2: not readable JSON Lines", "delimiter)"]),
        (
            GOOD.replace("dog", "größe").encode().replace(b"cat", b"caf\xe9", 1),
            ["line 3 is not UTF-8, as the others are"],
        ),
        (GOOD + "path,label\n", ["train.csv row 5: the header again", "remove the row"]),
        (GOOD + "\ufeffPath,Label\n", ["train.csv row 5: the header again"]),
        (GOOD + ",\n,\n,\n", ["train.csv rows 5 to 7: path and label are empty; give them, or remove them"]),
        (GOOD + " ,\n", ["train.csv row 5: path and label are empty; give them, or remove it"]),
        (GOOD + r"C:\Users\me\a\train0.wav,dog", ["below the folder of the CSV", "there is 'a/train0.wav'"]),
        (GOOD + "/home/you/a/train0.wav,dog", ["below the folder of the CSV", "there is 'a/train0.wav'"]),
        (GOOD + r"C:\Users\me\b\x.wav,dog", ["it is a path of Windows"]),
        (GOOD + "s3://mine/a/b.wav,dog", ["no such file: s3://mine/a/b.wav: it is an address"]),
        (GOOD + "a,dog", ["a folder, no sound file"]),
        (GOOD + "link.wav,dog", ["a link to 'gone.wav', which leads to no file"]),
        (GOOD + "/dev/null,dog", ["no file, but a pipe, a socket or a device"]),
    ],
    ids=lambda value: str(value)[-30:],
)
def test_what_people_bring_is_named(data, tmp_path, text, parts):
    (tmp_path / "link.wav").symlink_to("gone.wav")
    data.write("train", text)
    data.refused(*parts)


@pytest.mark.parametrize("text", [GOOD.replace("\n", ",,\n").replace(",,", "", 1), GOOD.replace("cat\n", "cat,\n", 1)])
def test_empty_cells_behind_the_last_column_are_none(data, tmp_path, text):
    """Spreadsheets write them; a comma within a cell is not meant by them."""
    data.write("train", text)
    assert data.check() == ([], [])
    split = read_split("train", str(tmp_path / "train.csv"), Findings())
    assert split.table["label"].tolist() == ["dog", "cat", "dog", "cat"]
    data.write("train", text + "a/train3.wav,dog,more\n")
    data.refused("row 5: more cells than the header has columns (3, not 2)")
