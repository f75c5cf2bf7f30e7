"""Readers of data of one's own: folders, audiofolder, Kaldi and CSVs."""

from __future__ import annotations

import json
import os
from collections import Counter

import numpy as np
import pytest
import soundfile

from synthio.audio import read_audio
from synthio.data.common import cut_recording
from tests.data.toy import SCRIPT, SPLITS, dropped, labels, rows_of, write
from tests.encoders import encode, tone
from tests.scripts import call_script

# ---- common forms


def folder_tree(make_wavs, source, classes=("dog", "cat"), speakers=10):
    for name in classes:
        make_wavs(f"{source}/{name}", [f"s{i}_{k}.wav" for i in range(speakers) for k in range(2)])


def test_a_folder_per_class_is_cut_by_seed_and_group(prepare, tmp_path, make_wavs):
    folder_tree(make_wavs, "mine")
    (tmp_path / "mine/dog/notes.txt").write_text("no sound")
    (tmp_path / "mine/dog/._s0_0.wav").write_bytes(b"")
    tables = prepare("folder", tmp_path / "mine", "--group_regex", r"/(s\d+)_", "--dataset_name", "pets")
    assert {split: len(rows) for split, rows in tables.items()} == {"train": 28, "valid": 4, "test": 8}
    assert all(set(labels(rows)) == {"dog", "cat"} for rows in tables.values())
    assert tables["train"][0]["dataset"] == "pets" and "group" in tables["train"][0]
    assert "group" not in prepare("folder", tmp_path / "mine")["train"][0]


def test_split_folders_are_kept(prepare, tmp_path, make_wavs):
    for split, speakers in (("train", 5), ("dev", 1), ("test", 2)):
        folder_tree(make_wavs, f"mine/{split}", ("train", "bus"), speakers)
    tables = prepare("folder", tmp_path / "mine")
    assert {split: len(rows) for split, rows in tables.items()} == {"train": 20, "valid": 4, "test": 8}
    assert labels(tables["valid"]) == {"train": 2, "bus": 2}


def test_a_class_called_train_is_a_class(prepare, tmp_path, make_wavs):
    folder_tree(make_wavs, "mine", ("train", "bus"))
    assert labels(prepare("folder", tmp_path / "mine")["test"]) == {"train": 4, "bus": 4}


def test_folder_mistakes(prepare, tmp_path, make_wavs):
    assert "no such folder" in prepare("folder", tmp_path / "none", ok=False)
    assert "no audio in class folders" in prepare("folder", tmp_path, ok=False)
    folder_tree(make_wavs, "mine")
    assert "--group_regex" in prepare("folder", tmp_path / "mine", "--group_regex", "(nowhere)", ok=False)
    for split in ("train", "valid", "val"):
        folder_tree(make_wavs, f"two/{split}")
    assert "two folders of one split" in prepare("folder", tmp_path / "two", ok=False)


def test_audiofolder_reads_its_metadata(prepare, tmp_path, make_wavs):
    for split, count in (("train", 10), ("validation", 2), ("test", 2)):
        make_wavs(f"hf/{split}", [f"{i}.wav" for i in range(count)])
        lines = [f"{i}.wav,{'cat' if i % 2 else 'dog'}" for i in range(count)]
        write(tmp_path / f"hf/{split}/metadata.csv", "file_name,label", *lines)
    tables = prepare("audiofolder", tmp_path / "hf")
    assert {split: dict(labels(rows)) for split, rows in tables.items()} == {
        "train": {"dog": 5, "cat": 5},
        "valid": {"dog": 1, "cat": 1},
        "test": {"dog": 1, "cat": 1},
    }
    (tmp_path / "hf/test/metadata.csv").unlink()
    (tmp_path / "out/train.csv").unlink()
    assert "test: no metadata.csv" in prepare("audiofolder", tmp_path / "hf", ok=False)


def test_audiofolder_reads_jsonl_at_the_top(prepare, tmp_path, make_wavs):
    clips = {f"train/{i}.wav": ["dog", "rain"] if i % 2 else 7 for i in range(20)} | {"test/0.wav": 7}
    make_wavs("hf", clips)
    lines = [json.dumps({"file_name": name, "sound": label}) for name, label in clips.items()]
    write(tmp_path / "hf/metadata.jsonl", *lines)
    tables = prepare("audiofolder", tmp_path / "hf", "--label_column", "sound")
    assert labels(tables["train"]) == {"dog;rain": 9, "7": 9} and labels(tables["test"]) == {"7": 1}
    (tmp_path / "out/train.csv").unlink()
    assert "metadata.jsonl row 1: no label" in prepare("audiofolder", tmp_path / "hf", ok=False)
    write(tmp_path / "hf/metadata.jsonl", *lines, "{")
    assert "metadata.jsonl row 22: not JSON" in prepare("audiofolder", tmp_path / "hf", ok=False)


def test_audiofolder_takes_files_from_elsewhere(prepare, tmp_path, make_wavs):
    make_wavs("elsewhere", [f"{i}.wav" for i in range(20)])
    lines = [json.dumps({"file_name": f"{tmp_path}/elsewhere/{i}.wav", "label": "ab"[i % 2]}) for i in range(20)]
    write(tmp_path / "hf/metadata.jsonl", *lines)
    assert labels(prepare("audiofolder", tmp_path / "hf")["test"]) == {"a": 2, "b": 2}
    write(tmp_path / "hf/metadata.jsonl", *lines, "[1]")
    (tmp_path / "out/train.csv").unlink()
    assert "metadata.jsonl row 21: not a JSON object: '[1]'" in prepare("audiofolder", tmp_path / "hf", ok=False)


def test_folders_beside_the_splits_are_told(tmp_path, make_wavs):
    for name in ("train", "test", "extra"):
        folder_tree(make_wavs, f"mine/{name}")
    done = call_script(SCRIPT, "folder", "--source", tmp_path / "mine", "--output_folder", tmp_path / "out")
    assert done.returncode == 0 and done.stderr.endswith("because their names are no splits: extra\n")


def test_audiofolder_without_metadata_is_a_folder_per_class(prepare, tmp_path, make_wavs):
    folder_tree(make_wavs, "hf")
    assert labels(prepare("audiofolder", tmp_path / "hf")["test"]) == {"dog": 4, "cat": 4}


def kaldi_tree(tmp_path, make_wavs):
    for split, speakers in (("train", range(10)), ("test", range(20, 22))):
        utterances = [f"s{s}-u{k}" for s in speakers for k in range(2)]
        make_wavs("kaldi/audio", [f"{name}.wav" for name in utterances])
        folder = tmp_path / "kaldi" / split
        write(folder / "wav.scp", *(f"{name} audio/{name}.wav" for name in utterances))
        write(folder / "utt2label", *(f"{name}\t{'car horn' if name.endswith('0') else 'dog'}" for name in utterances))
        write(folder / "utt2spk", *(f"{name} {name.split('-')[0]}" for name in utterances))
    return tmp_path / "kaldi"


def test_kaldi_folders_and_speakers(prepare, tmp_path, make_wavs):
    tables = prepare("kaldi", kaldi_tree(tmp_path, make_wavs))
    assert labels(tables["test"]) == {"car horn": 2, "dog": 2}
    assert labels(tables["valid"]) == {"car horn": 1, "dog": 1} and len(tables["train"]) == 18
    assert {row["group"] for row in tables["test"]} == {"s20", "s21"}


def test_kaldi_segments_are_cut(prepare, tmp_path, make_wav):
    ramp = np.arange(16000) / 16000
    for name in ("rec1", "rec2", "rec3"):
        make_wav(f"kaldi/{name}.wav", audio=ramp)
    write(tmp_path / "kaldi/wav.scp", *(f"{name}\t{name}.wav" for name in ("rec1", "rec2", "rec3")))
    parts = [
        f"{rec}-{k} {rec} {start} {end}"
        for rec in ("rec1", "rec2", "rec3")
        for k, start, end in ((0, 0.25, 0.5), (1, 0.5, -1))
    ]
    write(tmp_path / "kaldi/segments", *parts)
    write(tmp_path / "kaldi/utt2label", *(f"{part.split()[0]} {'dog' if '-0' in part else 'cat'}" for part in parts))
    tables = prepare("kaldi", tmp_path / "kaldi")
    assert {split: len(rows) for split, rows in tables.items()} == dict.fromkeys(SPLITS, 2)  # a recording stays whole
    for row in tables["test"]:
        audio, _ = soundfile.read(tmp_path / "out" / row["path"])
        assert np.allclose(audio, ramp[4000:8000] if row["label"] == "dog" else ramp[8000:], atol=2**-15)


def test_kaldi_commands_are_never_run(prepare, tmp_path, make_wavs):
    source = kaldi_tree(tmp_path, make_wavs)
    lines = (source / "train/wav.scp").read_text().splitlines()
    for command in (f"touch {tmp_path}/ran |", f"| touch {tmp_path}/ran"):
        write(source / "train/wav.scp", lines[0], f"s0-u1 {command}", *lines[2:])
        error = prepare("kaldi", source, ok=False)
        assert "train/wav.scp row 2: 's0-u1' is a command, which is never run" in error
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("file", "line", "words"),
    [
        ("wav.scp", "s0-u0", "wav.scp row 21: 's0-u0' has no value"),
        ("wav.scp", "s0-u0 x.wav", "wav.scp row 21: 's0-u0' is also in row 1"),
        ("wav.scp", "s99-u0 audio/s0-u0.wav", "wav.scp row 21: 's99-u0' has no label"),
        ("utt2label", "s99-u0 dog", "utt2label row 21: 's99-u0' has no sound"),
        ("segments", "s0-u0 s0-u0 0", "segments row 1: expected utterance, recording, start and end"),
    ],
)
def test_kaldi_mistakes(prepare, tmp_path, make_wavs, file, line, words):
    source = kaldi_tree(tmp_path, make_wavs)
    with (source / "train" / file).open("a") as stream:
        stream.write(line + "\n")
    assert words in prepare("kaldi", source, ok=False)


def csv_tree(tmp_path, make_wavs):
    rows = [
        (f"{i}.wav", "dog" if i % 2 else "cat,indoors", i // 4, i % 5 + 1, "eval" if i < 8 else "training")
        for i in range(40)
    ]
    make_wavs("sounds", [row[0] for row in rows])
    lines = [f'{name},"{label}",{who},{fold},{part}' for name, label, who, fold, part in rows]
    write(tmp_path / "lists/mine.csv", "file,class,who,fold no,part", *lines)
    return (
        tmp_path / "lists/mine.csv",
        "--path_column",
        "file",
        "--label_column",
        "class",
        "--audio_root",
        tmp_path / "sounds",
    )


def test_csv_by_fold(prepare, tmp_path, make_wavs):
    options = ("--fold_column", "fold no", "--test_fold", 2, "--label_separator", ",")
    tables = prepare("csv", *csv_tree(tmp_path, make_wavs), *options)
    assert {split: {row["fold"] for row in rows} for split, rows in tables.items()} == {
        "train": set("345"),
        "valid": {"1"},
        "test": {"2"},
    }
    assert labels(tables["test"]) == {"cat;indoors": 4, "dog": 4}


def test_csv_by_split_column_and_group(prepare, tmp_path, make_wavs):
    tables = prepare("csv", *csv_tree(tmp_path, make_wavs), "--split_column", "part", "--group_column", "who")
    assert {row["group"] for row in tables["test"]} == {"0", "1"} and len(tables["valid"]) == 4
    whole = prepare("csv", *csv_tree(tmp_path, make_wavs), "--group_column", "who")
    assert {split: len(rows) for split, rows in whole.items()} == {"train": 28, "valid": 4, "test": 8}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--label_column", "kind"), "no column 'kind'; the columns found are 'file', 'class'"),
        (("--group_column", "speaker"), "no column 'speaker'"),
        (("--fold_column", "fold no"), "--fold_column needs --test_fold"),
        (("--fold_column", "fold no", "--test_fold", "9"), "no fold '9' (--test_fold); the folds are '1', '2'"),
        (("--fold_column", "fold no", "--test_fold", "2", "--valid_fold", "2"), "--valid_fold 2 is the test fold"),
        (("--split_column", "class"), "mine.csv row 1: split 'cat,indoors' is none of train"),
        (("--split_column", "part", "--fold_column", "fold no"), "give one"),
    ],
)
def test_csv_mistakes(prepare, tmp_path, make_wavs, options, words):
    assert words in prepare("csv", *csv_tree(tmp_path, make_wavs), *options, ok=False)


def test_csv_never_writes_over_its_source(prepare, tmp_path, make_wavs):
    source, *options = csv_tree(tmp_path, make_wavs)
    own = source.rename(source.with_name("train.csv"))
    before = own.read_bytes()
    done = call_script(SCRIPT, "csv", "--source", own, "--output_folder", own.parent, *options)
    assert done.returncode == 2 and "would be overwritten" in done.stderr and own.read_bytes() == before


# ---- what people have in their folders


def test_every_sound_is_taken_and_the_rest_is_named_and_counted(tmp_path, make_wavs):
    folder_tree(make_wavs, "mine", ("dog", "cat"))
    (tmp_path / "mine/phone").mkdir()
    for i in range(12):
        suffix, codec, form = ("M4A", "aac", "mp4") if i % 2 else ("mp3", "libmp3lame", None)
        encode(tmp_path / f"mine/phone/{i}.{suffix}", codec, tone(0.2, freq_hz=300 + i), 16000, form)
    for name in ("dog/notes.txt", "cat/cover.jpg", "cat/deep/list.txt", "README", "__MACOSX/dog/a.xyz"):
        write(tmp_path / "mine" / name, "no sound")
    done = call_script(SCRIPT, "folder", "--source", tmp_path / "mine", "--output_folder", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    tables = {split: rows_of(tmp_path / f"out/{split}.csv") for split in SPLITS}
    assert sum(labels(rows)["phone"] for rows in tables.values()) == 12
    told = done.stderr.splitlines()
    assert told[0].endswith(
        "4 files passed over, no sounds in a class folder by their names (2 .txt, 1 without a suffix, 1 .jpg): "
    )
    assert {line.strip() for line in told[1:]} == {"README", "cat/cover.jpg", "cat/deep/list.txt", "dog/notes.txt"}


def test_a_class_that_would_vanish_stops(prepare, tmp_path, make_wavs):
    folder_tree(make_wavs, "mine")
    for i in range(3):
        write(tmp_path / f"mine/siren/{i}.shn", "no format that is read")
    error = prepare("folder", tmp_path / "mine", ok=False)
    assert "mine/siren: no clip of this class would be left: none of its 3 files is a sound (3 .shn)" in error
    assert "--missing drop" in error
    assert set(labels(prepare("folder", tmp_path / "mine", "--missing", "drop")["train"])) == {"dog", "cat"}
    (tmp_path / "out/train.csv").unlink()
    for path in (tmp_path / "mine/siren").iterdir():
        path.unlink()
    assert "mine/siren: no clip of this class would be left: it holds no files" in prepare(
        "folder", tmp_path / "mine", ok=False
    )


def test_the_output_in_the_source_is_no_class(tmp_path, make_wavs):
    folder_tree(make_wavs, "mine")
    for _ in range(2):
        done = call_script(SCRIPT, "folder", "--source", tmp_path / "mine", "--output_folder", tmp_path / "mine/csvs")
        assert done.returncode == 0 and done.stderr == ""


def test_linked_folders_are_followed_and_circles_are_not(prepare, tmp_path, make_wavs):
    folder_tree(make_wavs, "disk", ("dog", "cat"))
    folder_tree(make_wavs, "mine", ("siren",))
    (tmp_path / "mine/dog").symlink_to(tmp_path / "disk/dog")
    (tmp_path / "mine/cat").mkdir()
    (tmp_path / "mine/cat/more").symlink_to(tmp_path / "disk/cat")
    (tmp_path / "disk/cat/up").symlink_to(tmp_path / "mine")
    (tmp_path / "disk/dog/self").symlink_to(tmp_path / "disk/dog")
    tables = prepare("folder", tmp_path / "mine")
    assert sum((labels(rows) for rows in tables.values()), Counter()) == {"dog": 20, "cat": 20, "siren": 20}
    (tmp_path / "disk/cat/up").unlink()
    (tmp_path / "disk/cat/up").symlink_to(tmp_path)
    assert sum((labels(rows) for rows in prepare("folder", tmp_path / "mine").values()), Counter())["cat"] == 20


def test_a_dangling_link_is_a_missing_clip(prepare, tmp_path, make_wavs):
    folder_tree(make_wavs, "mine")
    (tmp_path / "mine/dog/gone.wav").symlink_to(tmp_path / "nowhere.wav")
    assert "1 listed clip missing" in prepare("folder", tmp_path / "mine", ok=False)
    prepare("folder", tmp_path / "mine", "--missing", "drop")
    assert any(dropped(tmp_path, split) == [("gone.wav", "missing file")] for split in SPLITS)


def test_splits_within_a_class_are_pointed_out(prepare, tmp_path, make_wavs):
    for split in ("train", "test"):
        folder_tree(make_wavs, f"mine/dog/{split}", ("",))
        folder_tree(make_wavs, f"mine/cat/{split}", ("",))
    error = prepare("folder", tmp_path / "mine", ok=False)
    assert "mine/cat: holds folders of splits (test, train)" in error and f"{tmp_path}/mine/train/cat" in error
    assert error.count("\n") == 1


def test_a_name_that_is_not_utf_8_is_told_in_a_line(prepare, tmp_path, make_wavs):
    folder_tree(make_wavs, "mine")
    (tmp_path / "mine/dog/s0_0.wav").rename(os.fsdecode(os.fsencode(tmp_path / "mine/dog") + b"/caf\xe9.wav"))
    error = prepare("folder", tmp_path / "mine", ok=False)
    assert "caf\\udce9.wav': the name is not UTF-8" in error and error.count("\n") == 1
    next((tmp_path / "mine/dog").glob("caf*")).rename(tmp_path / "mine/dog/two\nlines.wav")
    error = prepare("folder", tmp_path / "mine", ok=False)
    assert "two\\nlines.wav': the name holds a line break" in error and error.count("\n") == 1


def test_sounds_that_the_metadata_does_not_list_are_named(tmp_path, make_wavs):
    make_wavs("hf", [f"{i}.wav" for i in range(22)])
    write(tmp_path / "hf/metadata.csv", "file_name,label", *(f"{i}.wav,{'ab'[i % 2]}" for i in range(20)))
    done = call_script(SCRIPT, "audiofolder", "--source", tmp_path / "hf", "--output_folder", tmp_path / "out")
    assert done.returncode == 0
    assert [line.strip() for line in done.stderr.splitlines()] == [
        f"warning: {tmp_path}/hf: 2 files passed over, not listed in metadata.csv (2 .wav):",
        "20.wav",
        "21.wav",
    ]


def test_parts_of_a_recording_that_only_decoding_measures(tmp_path):
    """Two seconds of MP3, cut into parts that overlap; samples are those of the whole."""
    path = encode(tmp_path / "long.mp3", "libmp3lame", tone(2.0), 16000)
    spans = [(1.0, -1), (0.25, 1.5), (0.0, 0.5), (1.75, 9.0), (2.5, 3.0), (0.25, 1.5)]
    files = cut_recording(path, spans, tmp_path / "parts")
    whole, _ = read_audio(path)
    for i in (0, 1, 2, 3, 5):
        start, end = spans[i]
        found, _ = read_audio(files[i])
        part = whole[:, round(16000 * start) : None if end < 0 else round(16000 * end)]
        assert found.shape == part.shape and np.abs(found - part).max() <= 0.51 * 2**-15
    assert str(files[4]) == "no sound from 2.5 to 3 s; it lasts 2 s" and files[1] == files[5]
    assert len(list((tmp_path / "parts").iterdir())) == 4
    path.write_bytes(b"")
    assert [str(reason) for reason in cut_recording(path, spans[:2], tmp_path)] == [
        "unreadable: the file is empty (0 bytes)"
    ] * 2
