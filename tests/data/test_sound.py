"""Readers of sound: ESC-50, UrbanSound8K, TUT, VocalSound, DCASE and FSD50K, as their archives unpack."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.data.toy import SPLITS, dropped, labels, names, us8k_tree, write


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


def test_fsd50k_parts_uploaders(prepare, tmp_path, make_wavs):
    source = fsd50k_tree(tmp_path, make_wavs)
    people = {"64760": "ann", "16399": "bob", "7": "ann", "8": "eve"}
    info = {clip: {"title": "x", "uploader": person} for clip, person in people.items()}
    write(source / "FSD50K.metadata/dev_clips_info_FSD50K.json", json.dumps(info))
    write(source / "FSD50K.metadata/eval_clips_info_FSD50K.json", json.dumps({"37199": {"uploader": "dan"}}))
    tables = prepare("fsd50k", source)
    assert [row["group"] for split in SPLITS for row in tables[split]] == ["ann", "bob", "eve", "dan"]
    assert dropped(tmp_path, "valid") == [("7.wav", "its group is also in the training or validation set")]


@pytest.mark.real
def test_us8k_part_by_its_folds(prepare, real_data):
    """The CSV of the real clips, with the recording read from the file name (fsID-class-occurrence-slice)."""
    source = real_data / "us8k_part/us8k_part.csv"
    tables = prepare("csv", source, "--fold_column", "fold", "--test_fold", 10, "--group_regex", r"(\d+)-\d+-\d+-\d+\.")
    assert {split: len(rows) for split, rows in tables.items()} == {"train": 1744, "valid": 381, "test": 824}
    assert len(labels(tables["test"])) == 10


def test_fsd50ks_leaves_are_those_of_the_ontology_where_it_is_there(prepare, tmp_path, make_wavs):
    source = fsd50k_tree(tmp_path, make_wavs)
    classes = {"/m/04rlf": ["/m/0x"], "/m/0x": ["/m/0342h"], "/m/0342h": ["/m/02sgy"], "/m/0bt9lr": ["/m/05tny_"]}
    entries = [{"id": key, "name": key, "child_ids": below} for key, below in classes.items()]
    write(source / "ontology/ontology.json", json.dumps(entries))
    tables = prepare("fsd50k", source)  # /m/0x lies between two labels and is none itself
    assert [row["leaf_labels"] for row in tables["train"]] == ["Electric_guitar", "Bark"]
    assert [row["leaf_labels"] for row in tables["valid"]] == ["Rain", "Rain"]
