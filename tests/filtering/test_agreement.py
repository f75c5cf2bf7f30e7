"""The classifier's say in the filter."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from synthio.manifest import AGREEMENT, JOINT
from tests.classification.toy_clips import save_tiny_ast
from tests.filtering.toy import RATE, SCORE, TRAIN, encoded, run_filter
from tests.rows import rows_of, write_rows
from tests.scripts import call_script
from tests.tiny_models import save_clap


@pytest.fixture(scope="module")
def clap(tmp_path_factory):
    """A tiny CLAP."""
    return save_clap(tmp_path_factory.mktemp("models") / "clap")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """An output folder of ast/train.py on tones of two labels, tested on clips.csv; and the folder of these CSVs."""
    folder = tmp_path_factory.mktemp("classifier")
    save_tiny_ast(folder / "ast")
    for name, count in {"train": 8, "valid": 4, "clips": 9}.items():
        rows = []
        for i in range(count):
            label = ["low", "high"][i % 2]
            tone = np.sin(2 * np.pi * (300 if label == "low" else 2500) * np.arange(8000) / RATE)
            noise = np.random.default_rng(i).normal(size=8000)
            encoded(folder, 0.2 * tone + 0.03 * (i + 1) * noise, f"{name}{i}.wav")
            rows.append({"path": f"{name}{i}.wav", "label": label})
        write_rows(folder / f"{name}.csv", rows)
    csvs = [
        word
        for s, c in zip(("train", "valid", "test"), ("train", "valid", "clips"), strict=True)
        for word in (f"--{s}_csv", folder / f"{c}.csv")
    ]
    options = ["--model", folder / "ast", "--num_steps", 12, "--learning_rate", 1e-3]
    assert call_script(TRAIN, *csvs, "--output_folder", folder / "out", *options).returncode == 0
    return folder


def test_the_classifier_mixes_its_rank_with_claps(classifier, clap):
    words = ["--threshold_kind", "rank", "--keep_percent", 50, "--classifier", classifier / "out"]
    chances = {
        Path(row["path"]).name: float(row[f"probability_{row['label']}"])
        for row in rows_of(classifier / "out/predictions.csv")
    }
    kept_by_weight = {}
    for weight in (0, 0.5, 1):
        good, rejected, _ = run_filter(classifier, clap, *words, "--classifier_weight", weight)
        rows = good + rejected
        assert {Path(row["path"]).name: float(row[AGREEMENT]) for row in rows} == pytest.approx(chances, abs=1e-6)
        assert Counter(row["label"] for row in good) == {"low": 3, "high": 2}  # of 5 and 4
        kept_by_weight[weight] = {Path(row["path"]).name for row in good}
        column = {0: SCORE, 0.5: JOINT, 1: AGREEMENT}[weight]
        for label in ("low", "high"):
            lowest = min(float(row[column]) for row in good if row["label"] == label)
            assert all(float(row[column]) <= lowest for row in rejected if row["label"] == label)
    assert kept_by_weight[0] != kept_by_weight[1]


def test_a_classifier_of_synthetic_clips_or_other_labels_is_refused(classifier, clap, tmp_path):
    words = ["--threshold_kind", "rank", "--classifier"]
    write_rows(tmp_path / "clips.csv", [{"path": str(classifier / "clips0.wav"), "label": "siren"}])
    assert "does not know the label 'siren'" in run_filter(tmp_path, clap, *words, classifier / "out", ok=False)
    shutil.copytree(classifier / "out", tmp_path / "out")
    record = (tmp_path / "out/scores.json").read_text()
    (tmp_path / "out/scores.json").write_text(record.replace('"synthetic": 0', '"synthetic": 5'))
    assert "was trained on 5 synthetic clips" in run_filter(tmp_path, clap, *words, tmp_path / "out", ok=False)
