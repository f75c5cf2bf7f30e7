"""What a file is, told from its bytes and its first line. How each mends: tests/data/test_check_tables.py."""

from __future__ import annotations

import os
import zipfile

import pytest

from synthio.cli import UserError
from synthio.formats.tables import broken_rows, cell_text, find_column, load, made_up_names, mend_command, recognise

TEXT = "path,label\na.wav,größe\nb.wav,b\n"


@pytest.mark.parametrize(
    ("content", "encoding", "separator", "skipped"),
    [
        (TEXT.encode(), "utf-8", ",", 0),
        (TEXT.encode("utf-8-sig"), "utf-8-sig", ",", 0),
        (TEXT.encode("utf-16"), "utf-16", ",", 0),
        (TEXT.encode("utf-16-be"), "utf-16-be", ",", 0),
        (TEXT.encode("utf-32"), "utf-32", ",", 0),
        (TEXT.encode("cp1252"), "cp1252", ",", 0),
        (TEXT.encode("latin-1") + b"c.wav,\x81\n", "latin-1", ",", 0),
        (TEXT.replace(",", ";").encode(), "utf-8", ";", 0),
        (b"sep=|\n" + TEXT.replace(",", "|").encode(), "utf-8", "|", 1),
        (b"# one\n# two\n" + TEXT.encode(), "utf-8", ",", 2),
    ],
)
def test_texts(tmp_path, content, encoding, separator, skipped):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    form = recognise(path)
    assert (form.encoding, form.separator, form.skipped) == (encoding, separator, skipped)
    assert form.header == ("path", "label") and form.has_header
    table = load(path, form)
    assert table["path"].tolist()[:2] == ["a.wav", "b.wav"] and table["label"].tolist()[:2] == ["größe", "b"]
    odd = not encoding.startswith("utf-8") or separator != "," or skipped > 0
    assert bool(form.deviations()) == odd


def test_broken_rows(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n\n1,2,3\n1\n1,2,3,4\n")
    rows = broken_rows(path, recognise(path))
    assert [row.row for row in rows] == [2, 4] and "(3, not 2)" in rows[0].text
    path.write_text('a,b\n1,2\n1,"2\n3,4\n')
    (row,) = broken_rows(path, recognise(path))
    assert row.row == 2 and "is opened and never closed" in row.text
    path.write_text('a,b\n"1"x,2\n')  # odd, but every row can be read
    assert broken_rows(path, recognise(path)) == []


def test_names():
    assert find_column(["id", "Start Time", "END_TIME", "File Name"], "path") == "File Name"
    assert find_column(["filename", "fold", "target", "category"], "label") == "category"
    assert find_column(["Path", "path"], "path") == "path"
    assert find_column(["a", "b"], "label") is None
    assert made_up_names(["dog", "a.wav"]) == ["label", "path"]
    assert made_up_names(["x", "a.wav", "y"]) == ["column_1", "path", "column_3"]


def test_values_as_text():
    assert [cell_text(value) for value in (None, float("nan"), ["a", "b"], 3, {"path": "a.wav", "bytes": None})] == [
        "",
        "",
        "a;b",
        "3",
        "a.wav",
    ]


def test_the_command_can_be_given_to_a_shell(tmp_path):
    assert mend_command("my data/a.csv", "--as_split", "test").endswith(
        "prepare.py csv --source 'my data/a.csv' --as_split test --output_folder 'my data/prepared'"
    )


def test_no_such_table(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(UserError, match=r"no such CSV file|cannot be read"):
            recognise(path)
    with pytest.raises(UserError, match="is a folder"):
        recognise(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path):
    """A table is read more than once, and a pipe once alone: the second time nothing comes, for ever."""
    os.mkfifo(tmp_path / "t.csv")
    for pipe in (tmp_path / "t.csv", "/dev/null"):
        with pytest.raises(
            UserError, match="a pipe, a socket or a device, which is read once alone; write the table to"
        ):
            recognise(pipe)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ("Index/Document.iwa", "Numbers or Pages; export the table"),
        ("word/document.xml", "Word document"),
        ("a", "unzip"),
    ],
)
def test_archives_that_hold_no_table(tmp_path, held, said):
    with zipfile.ZipFile(tmp_path / "t", "w") as archive:
        archive.writestr(held, "x")
    with pytest.raises(UserError, match=said):
        recognise(tmp_path / "t")
