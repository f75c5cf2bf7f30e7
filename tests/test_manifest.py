"""The data contract."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pandas as pd
import pytest

from synthio.cli import UserError
from synthio.files import sha256_file
from synthio.manifest import (
    all_labels,
    label_words,
    missing_files,
    read_manifest,
    read_table,
    relative_paths,
    resolve_paths,
    sounds_of,
    split_labels,
    write_manifest,
    write_table,
)

ODD = ["NA", "001", "None", "null", "nan", "", "1e3", "TRUE", "Hund, laut", 'say "hi"', " x ", "größe 犬", "two\nlines"]


def test_text_stays_text(tmp_path):
    write_table(pd.DataFrame({"note": ODD, "n": [str(i) for i in range(len(ODD))]}), tmp_path / "t.csv")
    assert list(read_table(tmp_path / "t.csv")["note"]) == ODD


@pytest.mark.parametrize("head", ["path,label\n", "\ufeffpath,label\n", "path,label\r\n", '"path","label"\n'])
def test_byte_order_mark_line_ends_and_quotes(tmp_path, head):
    (tmp_path / "t.csv").write_bytes((head + 'a.wav,"x, y"\n\nb.wav,z').encode())
    table = read_table(tmp_path / "t.csv", ("path", "label"))
    assert table.to_dict("list") == {"path": ["a.wav", "b.wav"], "label": ["x, y", "z"]}
    assert list(table.index) == [0, 1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"file,class\na.wav,x\n", "no column 'path', 'label'; the columns found are 'file', 'class'"),
        (b"", "is empty; a header with path, label"),
        (b"path,label\na.wav,Hund, laut\n", "more cells than the header"),
        (b"path,label\na.wav,x\nb.wav,Hund, laut\n", "quote cells that hold commas"),
        (b"path,label\na.wav,x,\nb.wav,y,z\n", "more cells than the header"),
        (b'path,label\n"a.wav,x\n', "not a readable UTF-8 CSV"),
        (b"path,label\na.wav,gr\xf6\xdfe\n", "not a readable UTF-8 CSV"),
    ],
)
def test_unusable_tables(tmp_path, data, message):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(UserError) as error:
        read_manifest(tmp_path / "t.csv")
    assert message in str(error.value) and "t.csv" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match="no such CSV"):
        read_table(tmp_path / "missing.csv")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("gone.wav", "x"), "row 2: no such file: "),
        (("", "x"), "row 2: the path is empty"),
        (("a.wav", " ; "), "row 2: the label is empty"),
        ((".", "x"), "row 2: no such file: "),
        (("x" * 300, "x"), "row 2: no such file: "),
    ],
)
def test_unusable_rows(make_wav, make_manifest, row, message):
    make_wav("a.wav", 0.1)
    csv = make_manifest("t.csv", [("a.wav", "x"), row])
    with pytest.raises(UserError, match=message):
        read_manifest(csv)


def test_paths_resolve_against_the_csv_and_move_with_it(make_wav, make_manifest, tmp_path, monkeypatch):
    wav = make_wav("set/audio/größe 1.wav", 0.1)
    csv = make_manifest("set/lists/train.csv", [("../audio/größe 1.wav", "x"), (str(wav), "y")])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    table = read_manifest(os.path.relpath(csv))
    assert list(table["path"]) == [str(wav)] * 2
    table["source_path"] = [str(wav), ""]
    write_manifest(table, "deep/out.csv", rows_in=2)  # relative to the current folder
    text = (elsewhere / "deep/out.csv").read_text()
    assert text.splitlines()[1] == "../../set/audio/größe 1.wav,x,../../set/audio/größe 1.wav"
    monkeypatch.chdir(tmp_path)
    again = read_manifest(elsewhere / "deep/out.csv")
    assert again.to_dict("list") == table.to_dict("list")
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("set", "elsewhere"):
        (tmp_path / name).rename(moved / name)
    assert Path(read_manifest(moved / "elsewhere/deep/out.csv")["path"][0]).is_file()


def test_links_keep_the_names_their_owner_gave(make_wav, make_manifest, tmp_path):
    wav = make_wav("store/0123.wav", 0.1)
    (tmp_path / "dog.wav").symlink_to(wav)
    assert read_manifest(make_manifest("t.csv", [("dog.wav", "dog")]))["path"][0] == str(tmp_path / "dog.wav")


def test_rows_drops_and_record(make_wav, make_manifest, tmp_path):
    for name in "abc":
        make_wav(f"{name}.wav", 0.1)
    source = make_manifest("in.csv", [(f"{name}.wav", "NA") for name in "abc"])
    table, out = read_manifest(source), tmp_path / "out" / "x.csv"
    dropped = table.iloc[2:].assign(reason="too short")
    with pytest.raises(AssertionError, match="1 unaccounted for"):
        write_manifest(table.iloc[:2], out, rows_in=3)
    with pytest.raises(AssertionError, match="-1 unaccounted for"):
        write_manifest(table, out, rows_in=3, dropped=dropped)
    with pytest.raises(AssertionError, match="without a reason"):
        write_manifest(table.iloc[:2], out, rows_in=3, dropped=dropped.assign(reason=""))
    assert not out.parent.exists()
    options = {"seed": 3, "folder": Path("a/b")}
    write_manifest(table.iloc[:2], out, rows_in=3, dropped=dropped, options=options, inputs=[source])
    assert pd.read_csv(out.with_suffix(".dropped.csv"))["reason"].tolist() == ["too short"]
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["sha256"] == sha256_file(out)
    assert record["inputs"] == {str(source): sha256_file(source)}
    assert [record[f"rows_{k}"] for k in ("in", "out", "dropped")] == [3, 2, 1]
    assert record["options"] == {"seed": 3, "folder": "a/b"} and record["versions"]["python"]
    write_manifest(table, out, rows_in=3)
    assert not out.with_suffix(".dropped.csv").exists(), "drops of an earlier run"


def test_an_empty_table_passes(make_manifest, tmp_path):
    table = read_manifest(make_manifest("in.csv", []))
    write_manifest(table, tmp_path / "out.csv", rows_in=0)
    assert (tmp_path / "out.csv").read_text() == "path,label\n"


def test_labels():
    assert split_labels("dog; rain ;;Hund, laut") == ["dog", "rain", "Hund, laut"]
    assert all_labels(["b;a", "c", "a"]) == ["a", "b", "c"]
    assert label_words("dog_bark") == "dog bark" and label_words("dog;rain") == "dog and rain"


def test_paths_move_as_one_by_one():
    """A folder is asked once for all its files; what comes out is what os.path gives for each."""
    rng, parts = random.Random(0), ["a", "b", "..", ".", "", "c d", "ü"]
    for _ in range(5000):
        cell = "/" * rng.randint(0, 2) + "/".join(rng.choice(parts) for _ in range(rng.randint(1, 5)))
        folder = "/" + "/".join(rng.choice(["a", "b", "c d"]) for _ in range(rng.randint(0, 3)))
        cells = [cell, f"{cell}x", cell, ""]
        resolved = [os.path.normpath(Path(folder) / one) if one else "" for one in cells]
        assert resolve_paths(cells, folder) == resolved, (cell, folder)
        relative = [os.path.relpath(one, folder) if one else "" for one in resolved]
        assert relative_paths(resolved, folder) == relative, (resolved, folder)


def test_files_that_are_missing(tmp_path):
    (tmp_path / "many").mkdir()
    (tmp_path / "few").mkdir()
    for i in range(600):
        (tmp_path / f"many/{i}").touch()
    (tmp_path / "many/folder").mkdir()
    (tmp_path / "many/link").symlink_to(tmp_path / "many/0")
    (tmp_path / "few/0").touch()
    paths = [f"{tmp_path}/many/{i}" for i in range(601)] + [f"{tmp_path}/few/{i}" for i in range(2)]
    lost = [f"{tmp_path}/many/folder", f"{tmp_path}/none/a", f"{tmp_path}/few/{'x' * 300}", "/nul\0"]
    assert missing_files([*paths, *lost, f"{tmp_path}/many/link"]) == {paths[600], paths[602], *lost}


def test_a_table_is_written_as_pandas_would(tmp_path):
    table = pd.DataFrame({"note": ODD, "n": [str(i) for i in range(len(ODD))]})
    write_table(table, tmp_path / "text.csv")
    assert (tmp_path / "text.csv").read_text(encoding="utf-8") == table.to_csv(index=False, lineterminator="\n")
    mixed = table.assign(x=0.1, y=None, z=7)
    write_table(mixed, tmp_path / "mixed.csv")
    assert (tmp_path / "mixed.csv").read_text(encoding="utf-8") == mixed.to_csv(index=False, lineterminator="\n")
    write_table(table[["n"]].assign(n=""), tmp_path / "empty.csv")
    assert (tmp_path / "empty.csv").read_text() == table[["n"]].assign(n="").to_csv(index=False, lineterminator="\n")


def test_an_input_is_never_written_over(tmp_path):
    """`stratify_dataset.py --input_csv train.csv --output_csv train.csv` left the rows that it drew, and no others."""
    (tmp_path / "mine.csv").write_text("path,label\na.wav,x\n")
    (tmp_path / "link.csv").symlink_to("mine.csv")
    table = read_manifest(tmp_path / "mine.csv", check_files=False)
    for output in ("mine.csv", "link.csv"):
        with pytest.raises(UserError, match=f"{output} is an input and would be overwritten"):
            write_manifest(table[:0], tmp_path / output, rows_in=0, inputs=[tmp_path / "mine.csv"])
    assert (tmp_path / "mine.csv").read_text() == "path,label\na.wav,x\n" and not (tmp_path / "mine.json").exists()


def test_columns_of_a_stage_are_not_made_by_prepare(tmp_path):
    (tmp_path / "mine.csv").write_text("path,label\na.wav,x\n")
    with pytest.raises(UserError, match="a stage of a run writes 'prompt': give the CSV of that"):
        read_manifest(tmp_path / "mine.csv", ("path", "label", "prompt"))


def test_a_folder_where_a_file_is_to_be_written(tmp_path):
    with pytest.raises(IsADirectoryError) as error:
        write_table(read_table_of(tmp_path), tmp_path)
    assert error.value.filename == str(tmp_path) and "tmp" not in Path(str(error.value.filename)).suffix


def read_table_of(tmp_path):
    (tmp_path / "t.csv").write_text("path,label\na.wav,x\n")
    return read_manifest(tmp_path / "t.csv", check_files=False)


def test_a_name_that_is_too_long_is_told_and_no_traceback(tmp_path):
    with pytest.raises(UserError, match=r"no such CSV file|cannot be read"):
        sounds_of(str(tmp_path / ("x" * 300)))
