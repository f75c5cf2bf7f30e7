"""`prepare.py csv`: any table of clips becomes the three CSVs, and nothing in it is passed over in silence."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from synthio.data.any_table import join_groups, seconds
from tests.scripts import call_script

SCRIPT = Path(__file__).resolve().parent.parent.parent / "dataset_csvs" / "prepare.py"
SPLITS = ("train", "valid", "test")


def rows_of(path):
    with Path(path).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def prepare(tmp_path, make_wav):
    """prepare(text, *options) -> (rows of each split, what stderr says); sounds s/0.wav to s/11.wav are there."""
    for i in range(12):
        make_wav(f"s/{i}.wav", 1.0, sample_rate=8000, seed=i)

    def call(text, *options, ok=True):
        (tmp_path / "mine.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        words = ["--source", tmp_path / "mine.csv", "--output_folder", tmp_path / "out", *options]
        done = call_script(SCRIPT, "csv", *words)
        assert done.returncode == (0 if ok else 2), done.stderr
        if not ok:
            return done.stderr
        paths = [tmp_path / f"out/{split}.csv" for split in SPLITS]
        return {path.stem: rows_of(path) for path in paths if path.is_file()}, done.stderr

    return call


def twelve(columns="", cells=""):
    return f"path,label{columns}\n" + "".join(f"s/{i}.wav,{'dog cat'.split()[i % 2]}{cells}\n" for i in range(12))


def everywhere(tables):
    return [row for rows in tables.values() for row in rows]


def test_one_path_is_one_clip(prepare):
    """A path that is listed twice was in two splits, and stage 0 refused what prepare.py had made."""
    tables, said = prepare(twelve() + "s/0.wav,dog\ns/5.wav,cat\n./s/0.wav,dog\n", "--test_share", 0.4)
    paths = [row["path"] for row in everywhere(tables)]
    assert len(paths) == len(set(paths)) == 12
    assert "3 rows with a clip that is listed already, taken once" in said and "mine.csv row 13" in said


def test_one_path_with_two_labels(prepare):
    text = twelve() + "s/0.wav,siren\n"
    said = prepare(text, ok=False)
    assert "mine.csv row 13" in said and "'siren' here and 'dog' in" in said and "--multi_label true" in said
    tables, _ = prepare(text, "--multi_label", "true")
    assert [row["label"] for row in everywhere(tables) if row["path"].endswith("s/0.wav")] == ["dog;siren"]
    tables, _ = prepare(twelve() + "s/1.wav,rain;cat\n")  # a table that has several labels in a cell
    assert [row["label"] for row in everywhere(tables) if row["path"].endswith("/1.wav")] == ["cat;rain"]


def test_one_path_in_two_splits_stays_in_the_test_set(prepare, tmp_path):
    parts = ["train"] * 6 + ["valid"] * 3 + ["test"] * 3
    text = "path,label,split\n" + "".join(f"s/{i}.wav,{'ab'[i % 2]},{parts[i]}\n" for i in range(12))
    tables, _ = prepare(text + "s/0.wav,a,test\n", "--split_column", "split")
    assert [len(tables[split]) for split in SPLITS] == [5, 3, 4]
    (dropped,) = rows_of(tmp_path / "out/train.dropped.csv")
    assert dropped["reason"] == "its group is also in the test set"


def test_parts_of_recordings_are_cut(prepare, tmp_path):
    """Each row is a part of its file; the parts of a file are in one split."""
    parts = ("0,0.25", '"0,5",')
    lines = [f"s/{i}.wav,{'dog cat'.split()[i % 2]},{part}" for i in range(12) for part in parts]
    text = "file,class,onset,offset\n" + "\n".join(lines)
    tables, said = prepare(text, "--start_column", "onset", "--end_column", "offset")
    rows = everywhere(tables)
    assert len(rows) == 24 and said == ""
    for row in rows:
        path = tmp_path / "out" / row["path"]
        assert path.parent == tmp_path / "out/audio"
        source, _ = soundfile.read(row["group"])
        audio, _ = soundfile.read(path)
        start = float(path.stem.split("_")[1])
        want = source[round(8000 * start) :][: 2000 if start == 0 else 4000]
        assert np.allclose(audio, want, atol=1 / 32768) and len(audio) == len(want)
    groups = [{row["group"] for row in tables[split]} for split in SPLITS]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ("x", "1", "start 'x' is no time in seconds"),
        ("0.5", "0.2", "ends at 0.2 s, and starts at 0.5 s"),
        ("5", "6", "no sound from 5 to 6 s"),
    ],
)
def test_parts_that_cannot_be_cut(prepare, start, end, words):
    lines = [f"s/{i}.wav,{'ab'[i % 2]},0,1" for i in range(11)]
    text = "\n".join(["path,label,start,end", *lines, f"s/11.wav,a,{start},{end}"])
    said = prepare(text, "--start_column", "start", "--end_column", "end", ok=False)
    assert words in said and "mine.csv row 12" in said


def test_parts_by_their_duration(prepare, tmp_path):
    """A manifest of NeMo: JSON Lines whose offset is a start."""
    rows = [{"audio_filepath": f"s/{i}.wav", "label": "ab"[i % 2], "offset": 0.25, "duration": 0.5} for i in range(12)]
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    assert "--start_column offset --duration_column duration cuts the clips" in prepare(text)[1]
    tables, said = prepare(text, "--start_column", "offset", "--duration_column", "duration")
    assert len(everywhere(tables)) == 12 and said == ""
    for row in everywhere(tables):
        source, _ = soundfile.read(tmp_path / f"s/{Path(row['path']).stem.split('_')[0]}.wav")
        audio, _ = soundfile.read(tmp_path / "out" / row["path"])
        assert np.allclose(audio, source[2000:6000], atol=1 / 32768) and len(audio) == 4000
    words = ["--start_column", "offset", "--duration_column", "duration", "--end_column", "duration"]
    assert "both say where a clip ends; give one" in prepare(text, *words, ok=False)
    assert "--duration_column needs --start_column" in prepare(text, "--duration_column", "duration", ok=False)


def test_all_that_is_wrong_is_told_at_once(prepare):
    """At most 20 lines, some of each kind, and a count."""
    rows = [f"s/{i % 12}.wav,{'dog cat'.split()[i % 2]},0,1" for i in range(6)]
    rows += [",dog,0,1", "s/7.wav,,0,1", "s/8.wav,dog,x,1", "s/9.wav,dog,2,1"]
    words = ["--start_column", "start", "--end_column", "end"]
    said = prepare("\n".join(["path,label,start,end", *rows]), *words, ok=False)
    assert said.startswith("error: 4 problems:\n") and said.count("\n") == 5
    for line in ("row 7: the path is empty", "row 8: the label is empty", "row 9: start 'x' is no time", "row 10: the"):
        assert line in said
    said = prepare("\n".join(["path,label", *["s/0.wav,"] * 30, *[",dog"] * 5]), ok=False)
    assert said.startswith("error: 35 cells are empty:\n") and "and 15 more: 15 cells are empty" in said
    assert said.count("\n") == 22
    said = prepare(
        "\n".join(["path,label,part", *[f"s/{i}.wav,a,{i}" for i in range(3)]]), "--split_column", "part", ok=False
    )
    assert said.startswith("error: 3 splits are unknown:\n")
    torn = [f"s/{i}.wav,{label}" for i in range(3) for label in ("dog", "cat")]
    assert prepare("\n".join(["path,label", *torn]), ok=False).startswith("error: 3 clips have two labels:\n")


def test_times():
    cells = ("1.5", "1,5", " 2 ", "1:30", "1:00:00.5", ".5")
    assert [seconds(cell, "row 1", "start") for cell in cells] == [1.5, 1.5, 2, 90, 3600.5, 0.5]


def test_columns_that_are_not_named_are_pointed_out(prepare):
    text = twelve(",Subset,start,end", ",train,0,1")
    tables, said = prepare(text)
    assert "column 'Subset' ('train') is not read; --split_column Subset" in said
    assert "columns 'start' and 'end' are not read, whole files are used; --start_column start --end_column end" in said
    assert {row["Subset"] for row in everywhere(tables)} == {"train"}, "own columns are kept"
    assert "Subset" not in prepare(text, "--as_split", "train")[1]


def test_own_columns_are_kept(prepare):
    tables, _ = prepare(twelve(",note,reason,dataset", ",n,r,d"))
    for row in everywhere(tables):
        assert (row["note"], row["input_reason"], row["input_dataset"], row["dataset"]) == ("n", "r", "d", "csv")


def test_a_table_of_one_split(prepare):
    tables, _ = prepare(twelve(), "--as_split", "valid")
    assert list(tables) == ["valid"] and len(tables["valid"]) == 12
    said = prepare(twelve(), "--as_split", "test", "--split_column", "label", ok=False)
    assert "--as_split and --split_column both name the splits" in said


def test_labels_are_stripped(prepare):
    tables, _ = prepare("path,label\n" + "".join(f"s/{i}.wav,{['dog ', ' cat', 'dog'][i % 3]}\n" for i in range(12)))
    assert {row["label"] for row in everywhere(tables)} == {"dog", "cat"}


def test_an_encoding_can_be_named(prepare):
    text = "path,label\n" + "".join(f"s/{i}.wav,{'犬猫'[i % 2]}\n" for i in range(12))
    tables, _ = prepare(text.encode("cp932"), "--encoding", "cp932")
    assert {row["label"] for row in everywhere(tables)} == {"犬", "猫"}
    tables, said = prepare(text.encode("cp932"))
    assert "not UTF-8; read as " in said and "if wrong, give --encoding" in said


def test_a_quote_that_swallows_rows_is_refused(prepare):
    said = prepare('path,label,n\ns/0.wav,dog,"12\ns/1.wav,cat,ok\ns/2.wav,dog,6" m\ns/3.wav,cat,ok\n', ok=False)
    assert "1 cell with a line break: " in said and "mine.csv row 1: a line break within n" in said


def test_no_usual_name_for_the_label(prepare):
    assert "no column 'label'; the columns found are 'path', 'what'; name it by --label_column" in prepare(
        "path,what\ns/0.wav,dog\n", ok=False
    )


def test_groups_that_share_a_file_are_one():
    rows = [
        {"path": path, "group": group}
        for path, group in (("a", "x"), ("a", "y"), ("b", "y"), ("b", "z"), ("c", "z"), ("d", ""), ("e", ""), ("e", ""))
    ]
    join_groups(rows)
    assert [row["group"] for row in rows] == ["x"] * 5 + ["", "e", "e"]


def test_a_column_of_groups_is_read_without_being_named(prepare):
    """It went on as `input_group`: clips of a speaker were dealt out to all splits, where stage 0 would refuse them."""
    for name in ("group", "Group"):
        text = f"path,label,{name}\n" + "".join(f"s/{i}.wav,{'dog cat'.split()[i % 2]},g{i // 2}\n" for i in range(12))
        tables, said = prepare(text)
        groups = [{row["group"] for row in tables[split]} for split in SPLITS]
        assert len(set.union(*groups)) == sum(map(len, groups)) == 6 and not said
    tables, _ = prepare(text, "--group_regex", r"s/(\d)", "--test_share", 0.3)
    assert {row["input_Group"] if "input_Group" in row else row["Group"] for row in everywhere(tables)} == {
        f"g{i}" for i in range(6)
    }


def test_folds_and_speakers_that_are_not_read_are_pointed_out(prepare):
    _, said = prepare(twelve(",fold,Speaker ID", ",1,x"))
    assert "column 'fold' is not read; --fold_column fold --test_fold FOLD makes splits" in said
    assert "column 'Speaker ID' is not read; if it names the recording or speaker: --group_column 'Speaker ID'" in said


def test_folds_are_counted(prepare):
    """The fold before fold10 is fold9; a row without a fold was validated on, or trained on."""
    text = "path,label,fold\n" + "".join(f"s/{i}.wav,{'dog cat'.split()[i % 2]},fold{i % 11}\n" for i in range(12))
    tables, _ = prepare(text, "--fold_column", "fold", "--test_fold", "fold10")
    assert [row["fold"] for row in tables["valid"]] == ["fold9"]
    said = prepare(text.replace("fold3", " "), "--fold_column", "fold", "--test_fold", "fold10", ok=False)
    assert "mine.csv row 4: the fold is empty" in said


def test_an_encoding_that_it_does_not_have(prepare):
    """It ended in a traceback."""
    said = prepare(twelve(), "--encoding", "utf-16", ok=False)
    assert "not a text of the encoding utf-16" in said and "Traceback" not in said and len(said.splitlines()) == 1


def test_a_folder_in_place_of_a_table(tmp_path):
    done = call_script(SCRIPT, "csv", "--source", tmp_path, "--output_folder", tmp_path / "out")
    assert done.returncode == 2 and done.stderr.count("is a folder") == 1
