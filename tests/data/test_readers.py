"""Readers of known datasets and of common forms, each on a small tree in the layout in which the data comes."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from synthio.audio import read_audio
from synthio.data.common import cut_groups, cut_recording
from synthio.data.music import MUSDB_VALID
from tests.encoders import encode, tone
from tests.scripts import call_script

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "dataset_csvs" / "prepare.py"
SPLITS = ("train", "valid", "test")


@pytest.fixture
def prepare(tmp_path):
    """prepare("us8k", source, ...) -> {split: rows}; with ok=False, what was printed to stderr."""

    def call(name, source, *options, ok=True):
        out = tmp_path / "out"
        done = call_script(SCRIPT, name, "--source", source, "--output_folder", out, *options)
        assert done.returncode == (0 if ok else 2), done.stderr
        if not ok:
            assert not (out / "train.csv").exists() and "error: " in done.stderr
            return done.stderr
        tables = {split: rows_of(out / f"{split}.csv") for split in SPLITS}
        for row in (row for rows in tables.values() for row in rows):
            assert (out / row["path"]).is_file()
        assert_groups_apart(tables)
        return tables

    return call


@pytest.fixture
def make_wavs(make_wav):
    """make_wavs(folder, names): a short sound of its own for each name."""

    def make(folder, names):
        for i, name in enumerate(names):
            make_wav(f"{folder}/{name}", 0.02, seed=i)

    return make


def rows_of(path):
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def dropped(tmp_path, split):
    """[(file name, reason)] of a split's dropped clips."""
    return [(Path(row["path"]).name, row["reason"]) for row in rows_of(tmp_path / f"out/{split}.dropped.csv")]


def assert_groups_apart(tables):
    groups = [{row.get("group") for row in tables[split]} - {"", None} for split in SPLITS]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])


def names(rows):
    return [Path(row["path"]).name for row in rows]


def labels(rows):
    return Counter(row["label"] for row in rows)


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


# ---- splitting


def test_a_cut_is_stratified_and_leaves_groups_whole():
    clips = [(label, f"{label}{i // 4}") for label in "abcde" for i in range(80)]
    chosen = cut_groups([[label] for label, _ in clips], [group for _, group in clips], 0.1, seed=3)
    taken = Counter(label for label, group in clips if group in chosen)
    assert taken == dict.fromkeys("abcde", 8)


def test_a_cut_depends_on_its_seed_alone():
    cells, groups = [["a"], ["b"]] * 50, [str(i) for i in range(100)]
    first = cut_groups(cells, groups, 0.2, seed=0)
    assert first == cut_groups(cells, groups, 0.2, seed=0) != cut_groups(cells, groups, 0.2, seed=1)
    back = cut_groups(cells[::-1], groups[::-1], 0.2, seed=0)
    assert first == back and len(first) == 20


def test_a_cut_takes_of_every_label_and_leaves_some():
    """Rare labels, large groups and several labels a clip."""
    cells = [["a"]] * 90 + [["b"]] * 6 + [["c", "a"]] * 2 + [["d"]]
    groups = [f"a{i % 9}" for i in range(90)] + ["b0"] * 3 + ["b1"] * 3 + ["c0", "c1", "d0"]
    chosen = cut_groups(cells, groups, 0.1, seed=0)
    inside = {label for cell, group in zip(cells, groups, strict=True) if group in chosen for label in cell}
    outside = {label for cell, group in zip(cells, groups, strict=True) if group not in chosen for label in cell}
    assert inside == set("abc") and outside == set("abcd")


# ---- everyday sounds


def test_esc50_has_all_classes(prepare, tmp_path, make_wavs):
    clips = [
        (f"{fold}-{fold}0{j}-A-{j}.wav", fold, name) for fold in range(1, 6) for j, name in enumerate(["dog", "cat"])
    ]
    make_wavs("esc/audio", [name for name, _, _ in clips])
    lines = [f"{name},{fold},0,{category},{category == 'dog'},1,A" for name, fold, category in clips]
    write(tmp_path / "esc/meta/esc50.csv", "filename,fold,target,category,esc10,src_file,take", *lines)
    tables = prepare("esc50", tmp_path / "esc", "--test_fold", 1)
    assert [(row["fold"], row["label"], row["group"]) for row in tables["test"]] == [
        ("1", "dog", "100"),
        ("1", "cat", "101"),
    ]
    assert {row["fold"] for row in tables["valid"]} == {"5"} and len(tables["train"]) == 6
    assert {row["dataset"] for row in tables["train"]} == {"esc50"}


def us8k_tree(tmp_path, make_wavs):
    header = "slice_file_name,fsID,start,end,salience,fold,classID,class"
    clips = [
        (f"{100 + fold}-{k}-0-{fold}.wav", fold, k, name)
        for fold in range(1, 11)
        for k, name in enumerate(["siren", "drilling"])
    ]
    for name, fold, _, _ in clips:
        make_wavs(f"us8k/UrbanSound8K/audio/fold{fold}", [name])
    lines = [f"{name},{100 + fold},0.0,0.02,1,{fold},{k},{label}" for name, fold, k, label in clips]
    write(tmp_path / "us8k/UrbanSound8K/metadata/UrbanSound8K.csv", header, *lines)
    return tmp_path / "us8k"


def test_us8k_keeps_its_folds(prepare, tmp_path, make_wavs):
    source = us8k_tree(tmp_path, make_wavs)
    tables = prepare("us8k", source)
    assert {split: {row["fold"] for row in rows} for split, rows in tables.items()} == {
        "train": set("12345678"),
        "valid": {"9"},
        "test": {"10"},
    }
    assert [(row["label"], row["group"]) for row in tables["test"]] == [("siren", "110"), ("drilling", "110")]
    record = json.loads((tmp_path / "out/test.json").read_text())
    assert list(map(Path, record["inputs"])) == [source / "UrbanSound8K/metadata/UrbanSound8K.csv"]


def test_a_missing_clip_is_named_with_its_row_or_dropped(prepare, tmp_path, make_wavs):
    source = us8k_tree(tmp_path, make_wavs)
    (source / "UrbanSound8K/audio/fold2/102-1-0-2.wav").unlink()
    error = prepare("us8k", source, ok=False)
    assert "UrbanSound8K.csv row 4: no such file: " in error and "fold2/102-1-0-2.wav" in error
    assert "--missing drop" in error
    assert len(prepare("us8k", source, "--missing", "drop")["train"]) == 15
    assert dropped(tmp_path, "train") == [("102-1-0-2.wav", "missing file")]


def test_a_missing_dataset_says_where_to_get_it(prepare, tmp_path):
    for name in ("us8k", "tut2018", "vocalsound", "fsd50k", "gtzan", "medley", "nsynth", "musdb18", "dcase2017"):
        assert f"see {name} --help" in prepare(name, tmp_path, ok=False)


def tut_tree(tmp_path, make_wavs, place_of_test="lyon-9"):
    """Two scenes; 10 places train, one tests. The lists have no header, as those of 2018."""
    train = [
        (f"audio/{scene}-oslo-{p}-{s}-a.wav", scene, f"oslo-{p}")
        for scene in ("bus", "park")
        for p in range(10)
        for s in range(2)
    ]
    test = [(f"audio/{scene}-lyon-9-0-a.wav", scene, place_of_test) for scene in ("bus", "park")]
    folder = tmp_path / "TUT-urban-acoustic-scenes-2018-development"
    make_wavs(folder.name, [name for name, _, _ in train + test])
    meta = [f"{name}\t{scene}\t{place}\ta" for name, scene, place in train + test]
    write(folder / "meta.csv", "filename\tscene_label\tidentifier\tsource_label", *meta)
    write(folder / "evaluation_setup/fold1_train.txt", *(f"{name}\t{scene}" for name, scene, _ in train))
    write(folder / "evaluation_setup/fold1_evaluate.txt", *(f"{name}\t{scene}" for name, scene, _ in test))
    write(folder / "evaluation_setup/fold1_test.txt", *(name for name, _, _ in test))
    return folder


def test_tut_keeps_its_fold_and_cuts_validation_by_place(prepare, tmp_path, make_wavs):
    folder = tut_tree(tmp_path, make_wavs)
    tables = prepare("tut2018", tmp_path)
    assert names(tables["test"]) == ["bus-lyon-9-0-a.wav", "park-lyon-9-0-a.wav"]
    assert labels(tables["valid"]) == {"bus": 2, "park": 2} and len(tables["train"]) == 36
    again = prepare("tut2018", folder, "--seed", 1)
    assert names(again["valid"]) != names(tables["valid"]) and len(again["valid"]) == 4
    assert len(prepare("tut2018", folder, "--valid_share", 0.3)["valid"]) == 12


def test_training_clips_of_a_test_group_are_dropped(prepare, tmp_path, make_wavs):
    tables = prepare("tut2018", tut_tree(tmp_path, make_wavs, place_of_test="oslo-3"))
    assert len(tables["test"]) == 2 and len(tables["train"]) + len(tables["valid"]) == 36
    assert {reason for _, reason in dropped(tmp_path, "train")} == {"its group is also in the test set"}


def test_tut_mistakes(prepare, tmp_path, make_wavs):
    folder = tut_tree(tmp_path, make_wavs)
    write(folder / "evaluation_setup/fold1_evaluate.txt", "audio/bus-lyon-9-0-a.wav\tbus", "audio/new.wav\tbus")
    assert "fold1_evaluate.txt row 2: expected a file of meta.csv" in prepare("tut2018", folder, ok=False)


def test_vocalsound_uses_names_alone_and_groups_speakers(prepare, tmp_path, make_wavs):
    lists = {"tr": ("f0003", "m0004"), "val": ("f0005",), "te": ("m0006",)}
    mids = {"laughter": "/m/01j3sz", "throatclearing": "/m/0dl9sf8"}
    for name, speakers in lists.items():
        files = [(f"{speaker}_0_{sound}.wav", mid) for speaker in speakers for sound, mid in mids.items()]
        make_wavs("vs/audio_16k", [file for file, _ in files])
        data = [{"wav": f"/data/sls/elsewhere/audio_16k/{file}", "labels": mid} for file, mid in files]
        write(tmp_path / f"vs/datafiles/{name}.json", json.dumps({"data": data}))
    classes = ["index,mid,display_name", '0,/m/01j3sz,"Laughter"', '1,/m/0dl9sf8,"Throat clearing"']
    write(tmp_path / "vs/class_labels_indices_vs.csv", *classes)
    tables = prepare("vocalsound", tmp_path / "vs")
    assert labels(tables["train"]) == {"Laughter": 2, "Throat clearing": 2}
    assert {split: {row["group"] for row in rows} for split, rows in tables.items()} == {
        "train": {"f0003", "m0004"},
        "valid": {"f0005"},
        "test": {"m0006"},
    }
    write(tmp_path / "vs/class_labels_indices_vs.csv", *classes[:2])
    (tmp_path / "out/train.csv").unlink()
    assert "tr.json row 2: expected wav and one of the labels" in prepare("vocalsound", tmp_path / "vs", ok=False)


def dcase_tree(tmp_path, make_wav):
    """Training: one cut clip with a leading Y, one whole video; testing and evaluation: one cut clip each."""
    lists = tmp_path / "dcase/groundtruth_release"
    fire = "Fire engine, fire truck (siren)"
    write(
        lists / "groundtruth_weak_label_training_set.csv",
        "-5QrBL6MzLg_60.000_70.000.wav\t60.000\t70.000\tTrain horn",
        f"AbCdEfGhIjK_0.100_0.300.wav\t0.100\t0.300\t{fire}",
        "-5QrBL6MzLg_60.000_70.000.wav\t60.000\t70.000\tTrain",
    )
    write(lists / "groundtruth_weak_label_testing_set.csv", "YtEsTtEsTtE_30.000_40.000.wav\t30.000\t40.000\tTrain\r")
    write(lists / "groundtruth_weak_label_evaluation_set.csv", f"eVaLeVaLeVa_0.000_10.000.wav\t0.000\t10.000\t{fire}")
    make_wav("dcase/training_audio_formatted_and_segmented_downloads/Y-5QrBL6MzLg_60.000_70.000.wav", 0.1)
    ramp = np.arange(8000) / 16000
    make_wav("dcase/training_audio_formatted_downloaded/YAbCdEfGhIjK.wav", audio=np.stack([ramp, -ramp], 1))
    make_wav("dcase/testing/YYtEsTtEsTtE_30.000_40.000.wav", 0.1, seed=1)
    make_wav("dcase/evaluation/eVaLeVaLeVa_0.000_10.000.wav", 0.1, seed=2)
    return tmp_path / "dcase"


def test_dcase_joins_labels_and_cuts_whole_videos(prepare, tmp_path, make_wav):
    tables = prepare("dcase2017", dcase_tree(tmp_path, make_wav))
    cut, whole = tables["train"][1], tables["train"][0]
    assert whole["label"] == "Train horn;Train" and names([whole]) == ["Y-5QrBL6MzLg_60.000_70.000.wav"]
    assert cut["label"] == "Fire engine, fire truck (siren)" and cut["group"] == "AbCdEfGhIjK"
    audio, sample_rate = soundfile.read(tmp_path / "out" / cut["path"])
    ramp = np.arange(1600, 4800) / 16000  # 0.1 to 0.3 s
    assert sample_rate == 16000 and np.allclose(audio, np.stack([ramp, -ramp], 1), atol=2**-15)
    assert names(tables["valid"]) == ["YYtEsTtEsTtE_30.000_40.000.wav"] and tables["valid"][0]["label"] == "Train"
    assert tables["test"][0]["group"] == "eVaLeVaLeVa"


def test_dcase_clips_are_cut_once(prepare, tmp_path, make_wav):
    source = dcase_tree(tmp_path, make_wav)
    first = tmp_path / "out" / prepare("dcase2017", source)["train"][1]["path"]
    before = first.stat().st_mtime_ns
    assert tmp_path / "out" / prepare("dcase2017", source)["train"][1]["path"] == first
    assert first.stat().st_mtime_ns == before


def test_dcase_mistakes(prepare, tmp_path, make_wav):
    source = dcase_tree(tmp_path, make_wav)
    short = source / "training_audio_formatted_downloaded/YAbCdEfGhIjK.wav"
    soundfile.write(short, np.zeros(800), 16000)
    error = prepare("dcase2017", source, ok=False)
    assert "training_set.csv row 2: " in error and "no sound from 0.1 to 0.3 s; it lasts 0.05 s" in error
    assert len(prepare("dcase2017", source, "--missing", "drop")["train"]) == 1
    assert dropped(tmp_path, "train") == [("YAbCdEfGhIjK.wav", "no sound from 0.1 to 0.3 s; it lasts 0.05 s")]
    (tmp_path / "out/train.csv").unlink()
    short.unlink()
    assert "training_set.csv row 2: no such file: " in prepare("dcase2017", source, ok=False)
    assert len(prepare("dcase2017", source, "--missing", "drop")["train"]) == 1
    (tmp_path / "out/train.csv").unlink()
    write(source / "groundtruth_release/groundtruth_weak_label_testing_set.csv", "a.wav 0 10 Train")
    assert "testing_set.csv row 1: expected name, start, end" in prepare("dcase2017", source, ok=False)


def fsd50k_tree(tmp_path, make_wavs):
    make_wavs("fsd/FSD50K.dev_audio", ["64760.wav", "16399.wav", "7.wav", "8.wav"])
    make_wavs("fsd/FSD50K.eval_audio", ["37199.wav"])
    write(
        tmp_path / "fsd/FSD50K.ground_truth/dev.csv",
        "fname,labels,mids,split",
        '64760,"Electric_guitar,Guitar,Music","/m/02sgy,/m/0342h,/m/04rlf",train',
        '16399,"Bark,Dog","/m/05tny_,/m/0bt9lr",train',
        "7,Rain,/m/06mb1,val",
        "8,Rain,/m/06mb1,val",
    )
    write(tmp_path / "fsd/FSD50K.ground_truth/eval.csv", "fname,labels,mids", "37199,Rain,/m/06mb1")
    return tmp_path / "fsd"


def test_fsd50k_is_multi_label_and_keeps_its_split(prepare, tmp_path, make_wavs):
    tables = prepare("fsd50k", fsd50k_tree(tmp_path, make_wavs))
    assert [row["label"] for row in tables["train"]] == ["Electric_guitar;Guitar;Music", "Bark;Dog"]
    assert names(tables["valid"]) == ["7.wav", "8.wav"] and names(tables["test"]) == ["37199.wav"]
    assert "group" not in tables["train"][0]


def test_fsd50ks_leaves_are_those_of_the_ontology_where_it_is_there(prepare, tmp_path, make_wavs):
    source = fsd50k_tree(tmp_path, make_wavs)
    classes = {"/m/04rlf": ["/m/0x"], "/m/0x": ["/m/0342h"], "/m/0342h": ["/m/02sgy"], "/m/0bt9lr": ["/m/05tny_"]}
    entries = [{"id": key, "name": key, "child_ids": below} for key, below in classes.items()]
    write(source / "ontology/ontology.json", json.dumps(entries))
    tables = prepare("fsd50k", source)  # /m/0x lies between two labels and is none itself
    assert [row["leaf_labels"] for row in tables["train"]] == ["Electric_guitar", "Bark"]
    assert [row["leaf_labels"] for row in tables["valid"]] == ["Rain", "Rain"]


def test_fsd50k_parts_uploaders(prepare, tmp_path, make_wavs):
    source = fsd50k_tree(tmp_path, make_wavs)
    people = {"64760": "ann", "16399": "bob", "7": "ann", "8": "eve"}
    info = {clip: {"title": "x", "uploader": person} for clip, person in people.items()}
    write(source / "FSD50K.metadata/dev_clips_info_FSD50K.json", json.dumps(info))
    write(source / "FSD50K.metadata/eval_clips_info_FSD50K.json", json.dumps({"37199": {"uploader": "dan"}}))
    tables = prepare("fsd50k", source)
    assert [row["group"] for split in SPLITS for row in tables[split]] == ["ann", "bob", "eve", "dan"]
    assert dropped(tmp_path, "valid") == [("7.wav", "its group is also in the training or validation set")]


# ---- music


def gtzan_tree(tmp_path, make_wav, copies=()):
    """Two genres of ten clips and the file that is broken in the Kaggle copy."""
    for genre in ("blues", "jazz"):
        for i in range(50, 60):
            name = f"{genre}.{i:05d}.wav"
            seed = 1000 if name in copies else i + 100 * (genre == "jazz")
            make_wav(f"gtzan/Data/genres_original/{genre}/{name}", 0.02, seed=seed)
    broken = tmp_path / "gtzan/Data/genres_original/jazz/jazz.00054.wav"
    broken.write_bytes(b"\0" * 300)
    return tmp_path / "gtzan"


def test_gtzan_random_drops_the_broken_file_and_keeps_repeats_together(prepare, tmp_path, make_wav):
    source = gtzan_tree(tmp_path, make_wav, copies=[f"blues.{i:05d}.wav" for i in range(50, 55)])
    tables = prepare("gtzan", source)
    assert sum(map(len, tables.values())) == 19
    (name, reason) = dropped(tmp_path, "train")[0]
    assert name == "jazz.00054.wav" and reason.startswith("known to be broken: unreadable")
    assert all(set(labels(rows)) == {"blues", "jazz"} for rows in tables.values())
    repeats = [
        split
        for split, rows in tables.items()
        for name in names(rows)
        if name in {f"blues.{i:05d}.wav" for i in range(50, 55)}
    ]
    assert len(repeats) == 5 and len(set(repeats)) == 1


def test_gtzan_filtered_reads_the_lists(prepare, tmp_path, make_wav):
    source = gtzan_tree(tmp_path, make_wav)
    lists = {"train": (50, 54, 56), "valid": (51,), "test": (52, 59)}
    for split, numbers in lists.items():
        lines = [f"{genre}/{genre}.{i:05d}.wav" for genre in ("blues", "jazz") for i in numbers]
        write(tmp_path / f"lists/{split}_filtered.txt", *lines)
    tables = prepare("gtzan", source, "--split", "filtered", "--split_folder", tmp_path / "lists")
    assert {split: len(rows) for split, rows in tables.items()} == {"train": 5, "valid": 2, "test": 4}
    assert names(tables["valid"]) == ["blues.00051.wav", "jazz.00051.wav"]
    (tmp_path / "out/train.csv").unlink()
    assert "train_filtered.txt: no such file" in prepare("gtzan", source, "--split", "filtered", ok=False)


def test_medley_keeps_its_subsets_and_songs(prepare, tmp_path, make_wavs):
    rows = [
        ("test", "clarinet", 0, 9, "u0"),
        ("training", "clarinet", 0, 1, "u1"),
        ("training", "violin", 7, 2, "u2"),
        ("validation", "violin", 7, 3, "u3"),
    ]
    write(
        tmp_path / "medley/Medley-solos-DB_metadata.csv",
        "subset,instrument,instrument_id,song_id,uuid4",
        *(",".join(map(str, row)) for row in rows),
    )
    make_wavs("medley/audio", [f"Medley-solos-DB_{subset}-{i}_{uuid}.wav" for subset, _, i, _, uuid in rows])
    tables = prepare("medley", tmp_path / "medley")
    assert names(tables["train"]) == ["Medley-solos-DB_training-0_u1.wav", "Medley-solos-DB_training-7_u2.wav"]
    assert [(row["label"], row["group"]) for row in tables["valid"] + tables["test"]] == [
        ("violin", "3"),
        ("clarinet", "9"),
    ]


def nsynth_tree(tmp_path, make_wavs, valid_instruments):
    instruments = {
        "train": [f"{f}_acoustic_{i:03d}" for f in ("bass", "flute") for i in range(10)],
        "valid": valid_instruments,
        "test": ["bass_acoustic_900", "flute_acoustic_901"],
    }
    for split, found in instruments.items():
        notes = {f"{name}-060-{v:03d}": name for name in found for v in (50, 100)}
        facts = {
            note: {"note_str": note, "instrument_str": name, "instrument_family_str": name.split("_")[0], "pitch": 60}
            for note, name in notes.items()
        }
        write(tmp_path / f"nsynth/nsynth-{split}/examples.json", json.dumps(facts))
        make_wavs(f"nsynth/nsynth-{split}/audio", [f"{note}.wav" for note in notes])
    return tmp_path / "nsynth"


def test_nsynth_labels_families_and_keeps_a_clean_validation_set(prepare, tmp_path, make_wavs):
    tables = prepare(
        "nsynth", nsynth_tree(tmp_path, make_wavs, ["bass_acoustic_800", "flute_acoustic_801", "bass_acoustic_900"])
    )
    assert {row["group"] for row in tables["valid"]} == {"bass_acoustic_800", "flute_acoustic_801"}
    assert labels(tables["train"]) == {"bass": 20, "flute": 20} and len(dropped(tmp_path, "valid")) == 2


def test_nsynth_validation_of_test_instruments_is_replaced(prepare, tmp_path, make_wavs):
    """Validation on the test's instruments would choose the model by them."""
    tables = prepare("nsynth", nsynth_tree(tmp_path, make_wavs, ["bass_acoustic_900", "flute_acoustic_901"]))
    assert labels(tables["valid"]) == {"bass": 2, "flute": 2} and len(tables["test"]) == 4
    assert {row["group"] for row in tables["valid"]} & {"bass_acoustic_900", "flute_acoustic_901"} == set()
    assert len(dropped(tmp_path, "valid")) == 4 and len(tables["train"]) == 36


def test_nsynth_validation_that_loses_most_is_replaced(prepare, tmp_path, make_wavs):
    valid = ["bass_acoustic_900", "flute_acoustic_901", "bass_acoustic_800"]
    tables = prepare("nsynth", nsynth_tree(tmp_path, make_wavs, valid))
    assert labels(tables["valid"]) == {"bass": 2, "flute": 2} and len(dropped(tmp_path, "valid")) == 6


def musdb_tree(tmp_path, make_wav):
    for song in (f"train/{MUSDB_VALID[0]}", "train/A - Song", "test/B - Song"):
        for i, stem in enumerate(("bass", "drums", "other", "vocals", "mixture")):
            sound = np.random.default_rng(i).uniform(-0.3, 0.3, (4100, 2))
            sound[:1000] = 1e-4  # the first of four windows of 1000 samples is quiet
            make_wav(f"musdb/{song}/{stem}.wav", audio=sound, sample_rate=8000)
    return tmp_path / "musdb"


def test_musdb_cuts_loud_parts_of_stems(prepare, tmp_path, make_wav):
    source = musdb_tree(tmp_path, make_wav)
    tables = prepare("musdb18", source, "--clip_s", 0.125, "--clips_per_stem", 2)
    assert {row["group"] for row in tables["valid"]} == {MUSDB_VALID[0]}
    assert labels(tables["test"]) == dict.fromkeys(("bass", "drums", "other", "vocals"), 2)
    stem, _ = soundfile.read(source / "test/B - Song/bass.wav", dtype="int16")
    cuts = [soundfile.read(tmp_path / "out" / row["path"], dtype="int16") for row in tables["test"][:2]]
    for (audio, sample_rate), start in zip(cuts, (1000, 3000), strict=True):  # first and last of the three loud ones
        assert sample_rate == 8000 and np.array_equal(audio, stem[start : start + 1000])
    assert len({row["path"] for rows in tables.values() for row in rows}) == 24


def test_musdb_mistakes(prepare, tmp_path, make_wav):
    source = musdb_tree(tmp_path, make_wav)
    (source / "test/B - Song/bass.wav").unlink()
    assert "B - Song/bass.wav" in prepare("musdb18", source, "--clip_s", 0.125, ok=False)
    (source / "train/C - Song.stem.mp4").write_bytes(b"\0")
    assert "musdbconvert" in prepare("musdb18", source, ok=False)


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


def test_bad_samples_are_not_cut(prepare, tmp_path, make_wav):
    sound = np.full(16000, 0.1)
    sound[9000] = np.nan
    for name in ("a", "b", "c", "d", "e", "f"):
        make_wav(f"kaldi/{name}.wav", audio=sound, subtype="FLOAT")
    write(tmp_path / "kaldi/wav.scp", *(f"{name} {name}.wav" for name in "abcdef"))
    write(tmp_path / "kaldi/segments", *(f"{name}-0 {name} 0 {0.6 if name == 'd' else 0.5}" for name in "abcdef"))
    write(tmp_path / "kaldi/utt2label", *(f"{name}-0 dog" for name in "abcdef"))
    error = prepare("kaldi", tmp_path / "kaldi", ok=False)
    assert "segments row 4: " in error and "NaN" in error
    assert sum(map(len, prepare("kaldi", tmp_path / "kaldi", "--missing", "drop", "--seed", 1).values())) == 5


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


@pytest.mark.real
def test_us8k_part_by_its_folds(prepare, real_data):
    """The CSV of the real clips, with the recording read from the file name (fsID-class-occurrence-slice)."""
    source = real_data / "us8k_part/us8k_part.csv"
    tables = prepare("csv", source, "--fold_column", "fold", "--test_fold", 10, "--group_regex", r"(\d+)-\d+-\d+-\d+\.")
    assert {split: len(rows) for split, rows in tables.items()} == {"train": 1744, "valid": 381, "test": 824}
    assert len(labels(tables["test"])) == 10


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
