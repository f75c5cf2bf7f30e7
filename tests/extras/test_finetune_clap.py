"""The script extras/finetune_clap.py: it learns, keeps its scale, and goes on after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from synthio.filtering.finetune import evaluate, read_clips
from synthio.models.clap import ClapScorer
from tests.filtering.toy import FINETUNE, SCORE, run_filter, save_tones
from tests.rows import rows_of, write_rows
from tests.scripts import call_script
from tests.tiny_models import save_clap


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """train.csv and valid.csv of noisy tones, one pitch a label."""
    return save_tones(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="module")
def clap(tmp_path_factory):
    """A tiny CLAP."""
    return save_clap(tmp_path_factory.mktemp("models") / "clap")


def finetune_words(tones, clap, folder, *words):
    csvs = ["--train_csv", tones / "train.csv", "--valid_csv", tones / "valid.csv"]
    return [*csvs, "--model", clap, "--output_folder", folder, "--learning_rate", 3e-4, "--batch_size", 6, *words]


def finetune(tones, clap, folder, *words, ok=True):
    done = call_script(FINETUNE, *finetune_words(tones, clap, folder, *words))
    assert (done.returncode == 0) == ok, done.stderr
    return rows_of(folder.with_name(folder.name + "_history.csv")) if ok else done.stderr


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_the_tuned_clap_knows_the_gold_classes_better_and_keeps_its_scale(tones, clap, tmp_path):
    from synthio.models.load import load_scorer

    history = finetune(tones, clap, tmp_path / "tuned", "--num_steps", 40)
    losses = [float(row["valid_loss"]) for row in history]
    assert min(losses) < losses[0] - 0.3
    assert load_scorer(str(tmp_path / "tuned")).logit_scale == load_scorer(str(clap)).logit_scale
    assert not (tmp_path / "tuned/checkpoint.pt").exists()
    rows = [{"path": str(tones / row["path"]), "label": row["label"]} for row in rows_of(tones / "valid.csv")]
    write_rows(tmp_path / "clips.csv", rows)
    before, after = (run_filter(tmp_path, model)[0] for model in (clap, tmp_path / "tuned"))
    assert sum(float(row[SCORE]) for row in after) > sum(float(row[SCORE]) for row in before) + 0.3


def test_step_0_wins_when_nothing_is_better(tones, clap, tmp_path):
    words = ["--num_steps", 40, "--eval_every", 1, "--patience", 2, "--learning_rate", 0]
    history = finetune(tones, clap, tmp_path / "same", *words)
    assert [row["step"] for row in history] == ["0", "1", "2"]  # patience ends it
    old, new = weights(clap), weights(tmp_path / "same")
    assert old.keys() == new.keys() and all((old[name] == new[name]).all() for name in old)


def test_the_weights_are_those_of_the_best_validation_step(tones, clap, tmp_path):
    long = finetune(tones, clap, tmp_path / "long", "--num_steps", 30, "--eval_every", 5, "--learning_rate", 3e-3)
    best = min(long, key=lambda row: float(row["valid_loss"]))
    assert best["step"] not in ("0", long[-1]["step"])  # else this test would show nothing
    tuned = ClapScorer(str(tmp_path / "long"))
    loss, _ = evaluate(tuned, read_clips(tones / "valid.csv", tuned))
    assert loss == pytest.approx(float(best["valid_loss"]), abs=1e-6)


@pytest.mark.slow
def test_a_killed_tuning_goes_on_to_the_same_weights(tones, clap, tmp_path):
    options = ["--num_steps", 40, "--eval_every", 2, "--patience", 999]
    finetune(tones, clap, tmp_path / "whole", *options)
    command = [sys.executable, FINETUNE, *finetune_words(tones, clap, tmp_path / "cut", *options)]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "cut/checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut/model.safetensors").exists()
    done = call_script(FINETUNE, *finetune_words(tones, clap, tmp_path / "cut", *options))
    assert "going on after step" in done.stderr
    name = "model.safetensors"
    assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert rows_of(tmp_path / "cut_history.csv") == rows_of(tmp_path / "whole_history.csv")


def test_tuning_mistakes(tones, clap, tmp_path):
    assert "lower --learning_rate" in finetune(tones, clap, tmp_path / "x", "--learning_rate", 1e30, ok=False)
    write_rows(tmp_path / "none.csv", [])
    assert "no clips to fine-tune on" in finetune(
        tones, clap, tmp_path / "x", "--train_csv", tmp_path / "none.csv", ok=False
    )
