"""The label for what is none of the others: which clips it gets, and that none of them is in two uses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synthio.audio import content_hash, read_audio
from synthio.classification.other import MIN_CLIPS, ORIGIN, share_out
from synthio.classification.script import count_clips
from synthio.cli import UserError
from synthio.manifest import read_manifest
from tests.rows import rows_of, write_rows
from tests.scripts import ROOT, call_script, load_script

SCRIPT = ROOT / "synthio/classification/other.py"


@pytest.fixture
def run(tmp_path, make_wav):
    """Call the script on two labels; `rejected` rows, `background` (labels of clips) and options are the test's."""
    for seed in range(60):
        make_wav(f"audio/{seed}.wav", 0.2, seed=seed + 1)
    sounds = [f"audio/{seed}.wav" for seed in range(60)]
    hashes = [content_hash(*read_audio(tmp_path / sound)) for sound in sounds[:6]]
    for place, split in enumerate(("train", "valid", "test")):
        rows = [{"path": sounds[2 * place + k], "label": "ab"[k], "sha256": hashes[2 * place + k]} for k in range(2)]
        write_rows(tmp_path / f"{split}.csv", rows)

    def call(rejected=0, background=(), copies=(), **changes):
        rows = [
            {"path": sounds[10 + k], "label": "a", "source_path": sounds[k % 4], "resembles": ""}
            for k in range(rejected)
        ]
        rows += [rows[0] | {"path": sound, "resembles": sounds[0]} for sound in copies]
        write_rows(tmp_path / "rejected.csv", rows, ("path", "label", "source_path", "resembles"))
        files = {f"{split}_csv": tmp_path / f"{split}.csv" for split in ("train", "valid", "test")}
        files |= {"classes_csv": tmp_path / "train.csv", "output_folder": tmp_path / "out", "seed": 3}
        if background:
            rows = [{"path": sounds[30 + k], "label": label} for k, label in enumerate(background)]
            files["other_csv"] = write_rows(tmp_path / "background.csv", rows)
        words = [word for name, value in (files | changes).items() for word in (f"--{name}", value)]
        return call_script(SCRIPT, *words, "--rejected_csvs", tmp_path / "rejected.csv"), tmp_path / "out"

    return call


def test_its_clips_are_shared_out_by_label_and_source(run, monkeypatch):
    monkeypatch.setattr(load_script(SCRIPT), "PER_CLASS", 50.0)
    done, out = run(rejected=16, background=[f"sound {k % 6}" for k in range(24)])
    assert done.returncode == 0, done.stderr
    tables = {use: rows_of(out / f"{use}.csv") for use in ("train", "valid", "foreign")}
    other = {use: [row for row in table if row["label"] == "other"] for use, table in tables.items()}
    assert {use: len(rows) for use, rows in other.items()} == {"train": 20, "valid": 12, "foreign": 8}
    for origin, first, count in (("rejected", 10, 4), ("background", 30, 6)):  # gold clips, labels
        numbers = [[int(Path(r["path"]).stem) - first for r in rows if r[ORIGIN] == origin] for rows in other.values()]
        groups = [{number % count for number in some} for some in numbers]
        assert all(groups) and sum(map(len, groups)) == count == len(set.union(*groups))  # none in two uses
    assert [row["label"] for row in rows_of(out / "classes.csv")] == ["a", "b", "other"]
    assert [row["label"] for row in tables["train"][:2]] == ["a", "b"] and tables["train"][0][ORIGIN] == ""
    assert count_clips(read_manifest(out / "train.csv")) == {"clips": 22, "gold": 2, "synthetic": 0, "other": 20}
    first = (out / "train.csv").read_bytes()
    assert run(rejected=16, background=[f"sound {k % 6}" for k in range(24)])[0].returncode == 0
    assert (out / "train.csv").read_bytes() == first


def test_it_gets_no_more_clips_than_a_label_has(run):
    done, out = run(rejected=20, background=[f"sound {k % 6}" for k in range(24)])
    assert done.returncode == 0, done.stderr
    for use in ("train", "valid"):
        assert [row["label"] for row in rows_of(out / f"{use}.csv")] == ["a", "b", "other"]
    dropped = rows_of(out / "foreign.dropped.csv")
    assert {row["reason"] for row in dropped} == {"more than 1 for the train clips", "more than 1 for the valid clips"}
    assert len(dropped) + 2 + len(rows_of(out / "foreign.csv")) == 44


def test_copies_and_the_datas_own_sounds_are_left_out(run, tmp_path):
    done, out = run(rejected=20, copies=["audio/50.wav"])
    assert done.returncode == 0, done.stderr
    paths = {row["path"] for use in ("train", "valid", "foreign") for row in rows_of(out / f"{use}.csv")}
    assert not any(path.endswith("/50.wav") for path in paths)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("4.wav", *(f"{k}.wav" for k in range(30, 50))):  # the first is a test clip
        (folder / name).write_bytes((tmp_path / "audio" / name).read_bytes())
    (folder / "broken.wav").write_bytes(b"no sound")
    done, out = run(other_csv=folder)
    assert done.returncode == 0 and "20 clips of the label other" in done.stderr, done.stderr
    reasons = {row["path"].rpartition("/")[2]: row["reason"] for row in rows_of(out / "foreign.dropped.csv")}
    assert reasons["4.wav"] == "the same sound is in the data" and "broken.wav" in reasons
    record = json.loads((out / "foreign.json").read_text())
    assert record["rows_in"] == record["rows_out"] + len(reasons)


def test_too_few_clips_and_a_label_of_that_name(run, tmp_path):
    done, _ = run(rejected=3)
    assert done.returncode == 2 and f"3 clips for the label other, and {MIN_CLIPS} are the least" in done.stderr
    write_rows(tmp_path / "classes.csv", [{"label": "a"}, {"label": "other"}])
    done, _ = run(rejected=20, classes_csv=tmp_path / "classes.csv")
    assert done.returncode == 2 and "a label is called other already" in done.stderr


def test_one_group_cannot_be_shared_out():
    clips = pd.DataFrame({"path": [str(k) for k in range(20)], "group": "g", ORIGIN: "background"})
    with pytest.raises(UserError, match="too few groups: none is left for valid, foreign"):
        share_out(clips, 0)
    parts = share_out(clips.assign(group=np.arange(20) % 4), 0)
    assert {use: len(part) for use, part in parts.items()} == {"train": 10, "valid": 5, "foreign": 5}
