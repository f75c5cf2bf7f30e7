"""Tones in folds, and tiny models: what experiment.sh and retrieval work on."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.classification.toy_clips import save_tiny_ast
from tests.driver.test_run import rows_of
from tests.driver.test_run import save_tones as save_tones_of
from tests.tiny_models import save_clap, save_text_to_audio


def save_world(folder: Path) -> Path:
    """Tones in three folds, and tiny models."""
    rows = []
    for fold, clips in {"1": 9, "2": 6, "3": 6}.items():
        save_tones_of(folder, f"fold {fold}", clips)
        rows += [[row["path"], row["label"], fold] for row in rows_of(folder / f"fold {fold}.csv")]
    with (folder / "clips.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["path", "label", "fold"], *rows])
    save_text_to_audio(folder / "t2a")
    save_clap(folder / "clap")
    save_tiny_ast(folder / "ast")
    return folder
