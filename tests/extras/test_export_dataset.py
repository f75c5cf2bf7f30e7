"""The folder of synthetic clips: its layout, its card, and that Hugging Face datasets reads it as it is meant."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from synthio.manifest import read_manifest
from tests.faults_tools import kill_at
from tests.report.test_page import CAPTIONS, LABELS, save_run
from tests.scripts import ROOT, call_script, own_python

SCRIPT = ROOT / "extras/export_dataset.py"
LOADER = ROOT / "tests/programs/load_audiofolder.py"


def export(csv_path, folder, *more):
    return call_script(SCRIPT, "--input_csv", csv_path, "--output_folder", folder, *more)


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
    assert {path.name for path in dataset.iterdir()} == {"audio", "metadata.jsonl", "README.md"}
    assert sorted(f"audio/{path.name}" for path in (dataset / "audio").iterdir()) == sorted(
        r["file_name"] for r in rows
    )
    for row, path in zip(rows, made["path"], strict=True):
        assert (dataset / row["file_name"]).samefile(path)  # a second name, no second copy
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


def test_copies_where_there_are_no_links(work, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    done = export(work / "train_8_synthetic.csv", tmp_path / "out", "--work", work)
    assert done.returncode == 0 and "12 of them copies" in done.stderr
    assert all((tmp_path / "out" / row["file_name"]).stat().st_nlink == 1 for row in rows_of(tmp_path / "out"))


def test_a_clip_that_is_a_link_comes_along_as_a_file(tmp_path, make_manifest, make_wav):
    make_wav("far/a.wav")
    (tmp_path / "a.wav").symlink_to("far/a.wav")
    columns = ["path", "label", "prompt", "source_path"]
    csv_path = make_manifest("w/merged.csv", [("../a.wav", "../../x", "p", "../../../etc/passwd")], columns)
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
