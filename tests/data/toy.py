"""Rows of what a reader wrote."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from tests.scripts import ROOT

SCRIPT = ROOT / "dataset_csvs" / "prepare.py"
SPLITS = ("train", "valid", "test")


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
