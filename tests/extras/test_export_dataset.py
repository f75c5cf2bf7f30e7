"""The folder of synthetic clips: its layout, its card, and that Hugging Face datasets reads it as it is meant."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest

from synthio.cli import printable
from synthio.files import EMBEDDED, sha256_file, write_json
from synthio.manifest import read_manifest
from synthio.publish.provenance import read_tags
from tests.faults_tools import kill_at
from tests.report.test_page import CAPTIONS, LABELS, save_run
from tests.scripts import ROOT, call_script, own_python

FILES = {"audio", "metadata.jsonl", "README.md", "records.json", "croissant.json"}
SCRIPT = ROOT / "extras/export_dataset.py"
CROISSANT = ROOT / "tests/programs/read_croissant.py"
LOADER = ROOT / "tests/programs/load_audiofolder.py"


def export(csv_path, folder, *more):
    return call_script(SCRIPT, "--input_csv", csv_path, "--output_folder", folder, *more)


def read_raw(path) -> tuple[np.ndarray, np.ndarray]:
    """(samples, rate) by FFmpeg, which did not write them."""
    with av.open(str(path)) as sound:
        frames = [frame.to_ndarray() for frame in sound.decode(audio=0)]
        return np.concatenate(frames, axis=1), np.array(sound.streams.audio[0].rate)


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").split("\n") if line]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A run's folder with two rounds; its labels and captions try to be more than text."""
    return save_run(tmp_path_factory.mktemp("export") / "w", "hub/clap")


@pytest.fixture
def dataset(work):
    done = export(work / "train_8_synthetic.csv", work / "dataset")
    assert done.returncode == 0, done.stderr
    return work / "dataset"


def test_the_synthetic_clips_and_nothing_else(work, dataset):
    rows, merged = rows_of(dataset), read_manifest(work / "train_8_synthetic.csv")
    made = merged[merged["source_path"] != ""]
    assert len(rows) == len(made) == 12 and len(merged) == 20
    assert [(row["label"], row["caption"]) for row in rows] == list(zip(made["label"], made["prompt"], strict=True))
    assert {path.name for path in dataset.iterdir()} == FILES
    assert sorted(f"audio/{path.name}" for path in (dataset / "audio").iterdir()) == sorted(
        r["file_name"] for r in rows
    )
    for row, path in zip(rows, made["path"], strict=True):
        clip = dataset / row["file_name"]
        assert not clip.samefile(path) and row["sha256"] == sha256_file(clip) != sha256_file(path)
        assert [part.tobytes() for part in read_raw(clip)] == [part.tobytes() for part in read_raw(path)]
        assert row["source"].endswith(".wav") and "/" not in row["source"].replace("</svg", "")
    assert (rows[0]["seed"], rows[0]["clap_score"], rows[0]["duration_s"]) == (0, 0.2, 0.5)
    record = json.loads((work / "dataset.json").read_text())
    assert (record["rows_in"], record["rows_out"], record["recordings_left_out"]) == (20, 12, 8)
    assert (record["copied"], record["rows_out"]) == (0, 12) and record["inputs"] and record["versions"]


def test_the_card(work, dataset):
    card = (dataset / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\ntask_categories:\n- audio-classification\ntags:\n")
    assert "| dog\\_bark | 4 | 0 |" in card and "| **all** | 12 | 4 |" in card
    assert "Round 0: 8 generated, 6 kept." in card and "- 2 rejected: clap\\_probability … is below …" in card
    assert "| filter (CLAP) | hub/clap | see https://huggingface.co/hub/clap |" in card
    assert "`t2a@0123456789ab+adapter@" in card and "| beta | 2000.0 |" in card
    assert str(work.parent) not in card and "<script>" not in card and "\n\n\n" not in card


def test_a_second_export_replaces_the_first_and_nothing_else(work, dataset, tmp_path):
    (dataset / "audio/old.wav").write_bytes(b"")
    before = {path.name: path.read_bytes() for path in dataset.rglob("*") if path.is_file() and path.name != "old.wav"}
    assert export(work / "train_8_synthetic.csv", dataset).returncode == 0
    assert {path.name: path.read_bytes() for path in dataset.rglob("*") if path.is_file()} == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("x")
    refused = export(work / "train_8_synthetic.csv", tmp_path / "mine")
    assert refused.returncode == 2 and "is no dataset of this script" in refused.stderr
    assert (tmp_path / "mine/thesis.txt").read_text() == "x"


@pytest.mark.parametrize(
    "at", [("rename", 1, "before"), ("rename", 1, "after"), ("rename", 2, "after"), ("rmdir", 1, "before")]
)
def test_a_kill_while_a_dataset_is_replaced_leaves_one_that_is_whole_again_at_the_next_call(
    work, tmp_path, run_script, at
):
    """Nothing of an earlier folder is taken away before the new one is in its place."""
    words = [SCRIPT, "--input_csv", work / "train_8_synthetic.csv", "--output_folder", tmp_path / "out", "--work", work]
    assert run_script(*words).returncode == 0
    files = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    fault = kill_at(tmp_path.parent / "fault", at[0], "*out*" if at[0] == "rename" else "audio", at[1], at[2])
    assert run_script(*words, env=fault).returncode == -signal.SIGKILL
    again = run_script(*words)
    assert again.returncode == 0, again.stderr
    assert {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files


def test_what_an_earlier_release_left_of_a_dataset_is_replaced(work, dataset):
    """It removed the folder file by file, metadata.jsonl first."""
    (dataset / "metadata.jsonl").unlink()
    assert export(work / "train_8_synthetic.csv", dataset).returncode == 0 and len(rows_of(dataset)) == 12


def test_a_clip_says_in_its_tags_that_it_is_synthetic(work, dataset):
    """FFmpeg reads what libsndfile wrote."""
    made = read_manifest(work / "train_8_synthetic.csv")
    made = made[made["source_path"] != ""]
    for row, model in zip(rows_of(dataset), made["model"], strict=True):
        with av.open(str(dataset / row["file_name"])) as sound:
            said = sound.metadata
        assert said["title"] == f"{printable(row['label'])} (synthetic)"
        assert f"({model}), seed {row['seed']}, in the run w of Synthio" in said["comment"]
        assert "Synthetic, no recording" in said["comment"] and "trainedAlgorithmicMedia" in said["comment"]
        assert said["encoder"].startswith("Synthio ") and "not known here" in said["copyright"]
        assert (row["synthetic"], row["run"], row["model"]) == (True, "w", model)
        assert row["licence"] == "not known here"  # save_run notes no generator


def test_what_is_trained_on_stays_as_it_is(work):
    before = {path: path.read_bytes() for path in work.parent.rglob("*.wav") if "dataset" not in path.parts}
    assert len(before) > 20 and export(work / "train_8_synthetic.csv", work / "dataset").returncode == 0
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("model", "name", "licence", "clause"),
    [
        (str(EMBEDDED / "text_to_audio"), "Synthio's embedded text_to_audio", "CC BY-NC", "use no clip commercially"),
        (
            "stabilityai/stable-audio-open-1.0",
            "stabilityai/stable-audio-open-1.0@0123abc",
            "Stability AI Community License",
            "foundational generative AI model",
        ),
    ],
)
def test_generator_and_licence_stand_in_tags_rows_and_card(tmp_path, model, name, licence, clause):
    work = save_run(tmp_path / "w", "hub/clap", rounds=1)
    source = name if "/" in name else model
    write_json(work / "round_0/generated.json", {"options": {"model": model}, "source": source, "versions": {}})
    assert export(work / "train_8_synthetic.csv", work / "dataset").returncode == 0
    row = rows_of(work / "dataset")[0]
    assert row["generator"] == name and row["licence"].startswith(licence)
    tags = read_tags(work / "dataset" / row["file_name"])
    assert f"generated by {name} (" in tags["comment"] and licence in tags["copyright"]
    card = (work / "dataset/README.md").read_text()
    assert clause in card and "license_name: " in card[:200]
    said = json.loads((work / "dataset/croissant.json").read_text())
    assert said["license"] == row["licence"] and name in said["rai:dataCollection"]


def test_gold_clips_are_there_only_when_asked_for_and_say_nothing(work, tmp_path):
    merged = read_manifest(work / "train_8_synthetic.csv")
    gold = dict(zip(merged["path"], merged["sha256"], strict=True))
    done = export(work / "train_8_synthetic.csv", tmp_path / "all", "--work", work, "--with_gold", "true")
    assert done.returncode == 0 and "20 clips of 4 labels, 8 of them recordings" in done.stderr
    rows = rows_of(tmp_path / "all")
    recordings = [row for row in rows if not row["synthetic"]]
    assert len(rows) == len(gold) == 20 and len(recordings) == 8
    for row in recordings:
        assert read_tags(tmp_path / "all" / row["file_name"]) == {} and row["licence"] == row["generator"] == ""
    assert "8 clips here are recordings" in (tmp_path / "all/README.md").read_text()


def test_a_clip_of_a_corpus_is_no_synthetic_one(tmp_path, make_manifest, make_wav):
    columns = ["path", "label", "prompt", "source_path", "model"]
    csv_path = make_manifest("w/merged.csv", [(make_wav("a.ogg"), "x", "p", "g.wav", "retrieved by clap")], columns)
    assert export(csv_path, tmp_path / "w/dataset").returncode == 0
    (row,) = rows_of(tmp_path / "w/dataset")
    assert not row["synthetic"] and (tmp_path / "w/dataset" / row["file_name"]).samefile(tmp_path / "a.ogg")


def test_a_flac_has_the_tags_too_and_what_would_lose_something_is_refused(tmp_path, make_manifest, make_wav):
    columns = ["path", "label", "prompt", "source_path"]
    csv_path = make_manifest("w/merged.csv", [(make_wav("a.flac", channels=2), "x", "p", "g.wav")], columns)
    assert export(csv_path, tmp_path / "w/dataset").returncode == 0
    (row,) = rows_of(tmp_path / "w/dataset")
    with av.open(str(tmp_path / "w/dataset" / row["file_name"])) as sound:
        assert "Synthetic, no recording" in str(sound.metadata) and sound.metadata["title"] == "x (synthetic)"
    csv_path = make_manifest("v/merged.csv", [(make_wav("a.ogg"), "x", "p", "g.wav")], columns)
    refused = export(csv_path, tmp_path / "v/dataset")
    assert refused.returncode == 2 and "a.ogg: a synthetic clip in OGG (VORBIS) takes no tags" in refused.stderr
    assert not (tmp_path / "v/dataset").exists()


def test_copies_where_there_are_no_links(work, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    done = export(work / "train_8_synthetic.csv", tmp_path / "out", "--work", work, "--with_gold", "true")
    assert done.returncode == 0 and "8 of the recordings are copies" in done.stderr
    assert all((tmp_path / "out" / row["file_name"]).stat().st_nlink == 1 for row in rows_of(tmp_path / "out"))


def test_a_clip_that_is_a_link_comes_along_as_a_file(tmp_path, make_manifest, make_wav):
    make_wav("far/a.wav")
    (tmp_path / "a.wav").symlink_to("far/a.wav")
    columns = ["path", "label", "prompt", "source_path", "model"]
    rows = [("../a.wav", "../../x", "p", "../../../etc/passwd", model) for model in ("retrieved by clap",)]
    csv_path = make_manifest("w/merged.csv", rows, columns)
    assert export(csv_path, tmp_path / "w/dataset").returncode == 0
    (row,) = rows_of(tmp_path / "w/dataset")
    clip = tmp_path / "w/dataset" / row["file_name"]
    assert clip.read_bytes() == (tmp_path / "far/a.wav").read_bytes() and not clip.is_symlink()
    assert clip.parent == tmp_path / "w/dataset/audio" and (row["label"], row["source"]) == ("../../x", "passwd")


def test_a_link_to_what_is_no_sound_is_not_exported(tmp_path, make_manifest):
    (tmp_path / "key").write_text("a secret")
    (tmp_path / "a.wav").symlink_to("key")
    csv_path = make_manifest("merged.csv", [("a.wav", "x", "p", "b.wav")], ["path", "label", "prompt", "source_path"])
    refused = export(csv_path, tmp_path / "dataset")
    assert refused.returncode == 2 and "a.wav cannot be exported" in refused.stderr
    assert not (tmp_path / "dataset").exists()


@pytest.mark.parametrize("column", ["seed", "duration_s", "clap_score"])
def test_a_number_that_is_none_is_named(tmp_path, make_manifest, make_wav, column):
    make_wav("a.wav")
    columns = ["path", "label", "prompt", "source_path", column]
    csv_path = make_manifest("merged.csv", [("a.wav", "x", "p", "b.wav", "=1+1")], columns)
    refused = export(csv_path, tmp_path / "dataset")
    assert refused.returncode == 2 and f"{column} '=1+1' is no number" in refused.stderr


def test_recordings_alone_are_refused(work, tmp_path, make_manifest, make_wav):
    gold = make_manifest("gold.csv", [(make_wav("a.wav"), "a", "", "")], ["path", "label", "prompt", "source_path"])
    refused = export(gold, tmp_path / "out")
    assert refused.returncode == 2 and "none is synthetic" in refused.stderr and not (tmp_path / "out").exists()


# ---------------------------------------------------------------- the real library


@pytest.fixture(scope="module")
def datasets_python():
    """The Python that has Hugging Face datasets."""
    return own_python("datasets")


def load(python, folder: Path, cache: Path) -> dict:
    command = [python, LOADER, folder, cache]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(cache), "PYTHONPATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **offline}, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_datasets_loads_it_with_labels_and_captions(datasets_python, work, dataset, tmp_path):
    loaded = load(datasets_python, dataset, tmp_path / "cache")
    rows = {row["file_name"]: row for row in rows_of(dataset)}
    for way in ("audiofolder", "folder"):
        assert list(loaded[way]) == ["train"] and len(loaded[way]["train"]) == 12
        assert sorted((row["label"], row["caption"]) for row in loaded[way]["train"]) == sorted(
            (row["label"], row["caption"]) for row in rows.values()
        )
        assert all(row["audio"] == [8000, 16000] and row["clap_score"] == 0.2 for row in loaded[way]["train"])
    assert {row["label"] for row in loaded["folder"]["train"]} == set(LABELS[:3])  # the fourth was rejected
    assert any(CAPTIONS[0] in row["caption"] for row in loaded["folder"]["train"])


def croissant_records(python, folder: Path) -> list[dict]:
    """What mlcroissant says of a folder: its warnings must be none; all of its records."""
    done = subprocess.run([python, CROISSANT, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_mlcroissant_reads_all_records(datasets_python, work, dataset):
    found = croissant_records(datasets_python, dataset)
    assert found["issues"] == "" and found["records"] == rows_of(dataset)
    clip = dataset / found["records"][0]["file_name"]
    assert found["records"][0]["sha256"] == sha256_file(clip)
    assert found["citation"].startswith("@inproceedings{synthio2025") and found["licence"] == ["not known here"]
    assert "none of them was recorded" in found["collection"]
    (dataset / "records.json").write_text("[]")  # its hash is in croissant.json
    done = subprocess.run([datasets_python, CROISSANT, dataset], capture_output=True, text=True, check=False)
    assert done.returncode and "is not identical with the reference" in done.stderr


@pytest.mark.slow
def test_mlcroissant_and_the_hub_layout_keep_hard_labels(datasets_python, tmp_path, make_wav, make_manifest):
    """One clip: croissant.json and records.json must not make a set of JSON of the folder."""
    columns = ["path", "label", "prompt", "source_path"]
    csv_path = make_manifest("w/merged.csv", [(make_wav("w/a.wav"), "001", "1e3", "gold.wav")], columns)
    assert export(csv_path, tmp_path / "w/dataset").returncode == 0
    (row,) = croissant_records(datasets_python, tmp_path / "w/dataset")["records"]
    assert (row["label"], row["caption"], row["seed"], row["synthetic"]) == ("001", "1e3", None, True)
    for rows in load(datasets_python, tmp_path / "w/dataset", tmp_path / "cache").values():
        assert [row["label"] for row in rows["train"]] == ["001"] and len(rows["train"][0]["audio"]) == 2


@pytest.mark.slow
def test_datasets_reads_hard_labels_as_they_are(datasets_python, tmp_path, make_wav):
    """Labels that a CSV would lose, file names that would become splits, and that this is why the layout is ours."""
    labels = ["001", "NA", "train", "test"]
    rows = [
        {"path": make_wav(f"w/audio/{label}_1.wav"), "label": label, "prompt": "p", "source_path": "gold.wav"}
        for label in labels
    ]
    with (tmp_path / "w/merged.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert export(tmp_path / "w/merged.csv", tmp_path / "w/dataset").returncode == 0
    loaded = load(datasets_python, tmp_path / "w/dataset", tmp_path / "cache")["audiofolder"]
    assert [row["label"] for row in loaded["train"]] == labels and list(loaded) == ["train"]
    plain = tmp_path / "w/audio"  # the same clips under their names, with a CSV
    (plain / "metadata.csv").write_text("file_name,label\n" + "".join(f"{n}_1.wav,{n}\n" for n in labels[:2]))
    lost = load(datasets_python, plain, tmp_path / "cache_2")["audiofolder"]
    assert [row.get("label") for rows in lost.values() for row in rows] != labels[:2]
