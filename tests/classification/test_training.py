"""The classifier: features, AST with other input lengths, training, selection, resuming, scores and their table."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, ASTModel, pipeline

from synthio import cards
from synthio.audio import read_audio, write_wav
from synthio.classification import metrics, scored
from synthio.classification import script as evaluation
from synthio.classification import training as classifier
from synthio.classification.intervals import score_interval, units_of
from synthio.classification.labels import decode_labels, encode_labels
from synthio.classification.options import ALPHAS
from synthio.classification.pool import fit_weights
from synthio.classification.probe import FEW_CLIPS_C, LinearProbe, fit_probe
from synthio.classification.supcon import SupConAst
from synthio.classification.weighting import TOTALS, draw_rates
from synthio.cli import UserError
from synthio.models import ast_model
from synthio.models.fbank import kaldi_fbank, num_frames, num_samples
from synthio.report import results
from synthio.training import Checkpoint, batch_rows

ROOT = Path(__file__).resolve().parent.parent.parent
TRAIN = ROOT / "ast" / "train.py"
RATE = 16000
PITCHES = {"NA": 300, "001": 900, "Hund, laut": 2700}


def load_script():
    spec = importlib.util.spec_from_file_location("ast_train", TRAIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save_tiny_ast(folder: Path, head: bool = False, dtype=torch.float16) -> Path:
    """An AST folder as the real ones, 32 mel bins and up to 100 frames; without a head by default, in float16."""
    config = ASTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        patch_size=8,
        time_stride=8,
        frequency_stride=8,
        max_length=100,
        num_mel_bins=32,
        hidden_dropout_prob=0.1,
        initializer_range=0.1,  # livelier than the usual .02, so that 60 steps are enough
        num_labels=len(PITCHES),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = (ASTForAudioClassification if head else ASTModel)(config)
        body = model.audio_spectrogram_transformer if head else model
        torch.nn.init.normal_(body.embeddings.position_embeddings, std=0.1)
    model.to(dtype).save_pretrained(folder)
    return folder


def save_named_ast(folder: Path, names: Sequence[str] = tuple(PITCHES)) -> Path:
    """A tiny AST whose own head has three names and a LayerNorm with scale and shift; a feature extractor beside it."""
    model = ASTForAudioClassification.from_pretrained(save_tiny_ast(folder, head=True), dtype=torch.float32)
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: i for i, name in enumerate(names)}
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for part in (model.classifier.layernorm.weight, model.classifier.layernorm.bias, model.classifier.dense.bias):
            part.normal_()
    model.save_pretrained(folder)
    ASTFeatureExtractor(max_length=100, num_mel_bins=32, mean=-6.0, std=3.0).save_pretrained(folder)
    return folder


def save_tones(folder: Path, name: str, clips: int, seed: int, pitches=PITCHES, swap: bool = False) -> Path:
    """A CSV of noisy tones, one pitch a label; `swap` gives wrong labels."""
    rng = np.random.default_rng(seed)
    rows, labels = [], list(pitches)
    for i in range(clips):
        label = labels[i % len(labels)]
        seconds = np.arange(int(RATE * rng.uniform(0.4, 0.8))) / RATE
        tone = 0.3 * np.sin(2 * np.pi * pitches[label] * rng.uniform(0.95, 1.05) * seconds)
        write_wav(folder / name / f"{i}.wav", (tone + 0.02 * rng.normal(size=len(seconds)))[None], RATE)
        rows.append((f"{name}/{i}.wav", labels[(i + swap) % len(labels)]))
    table = pd.DataFrame(rows, columns=["path", "label"])
    table.to_csv(folder / f"{name}.csv", index=False)
    return folder / f"{name}.csv"


def add_mislabelled(folder: Path, clips: int, seed: int) -> Path:
    """train.csv of the folder and synthetic clips whose labels are wrong."""
    csvs = (folder / "train.csv", save_tones(folder, "mislabelled", clips, seed, swap=True))
    gold, wrong = (pd.read_csv(path, dtype=str, keep_default_na=False) for path in csvs)
    pd.concat([gold.assign(source_path=""), wrong.assign(source_path="x.wav")]).to_csv(
        folder / "mixed.csv", index=False
    )
    return folder / "mixed.csv"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Model and train, valid, test CSVs of a separable toy problem."""
    folder = tmp_path_factory.mktemp("tones")
    save_tiny_ast(folder / "model")
    for seed, (name, clips) in enumerate([("train", 24), ("valid", 12), ("test", 15)]):
        save_tones(folder, name, clips, seed)
    return folder


def options(data: Path, out: Path, **changes) -> list[str]:
    chosen = {f"{split}_csv": data / f"{split}.csv" for split in ("train", "valid", "test")}
    chosen |= {"output_folder": out, "model": data / "model", "num_steps": 60, "batch_size": 8, "seed": 3}
    chosen |= {"head_init": "random", "wise_ft_alpha": 1, "synthetic_weight": 1}  # the plainest training
    chosen |= {"learning_rate": 3e-3, "device": "cpu", **changes}
    return [part for name, value in chosen.items() for part in (f"--{name}", str(value))]


def train(monkeypatch, data: Path, out: Path, **changes) -> dict:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(sys, "argv", [str(TRAIN), *options(data, out, **changes)])
    assert load_script().main() == 0
    return json.loads((out / "scores.json").read_text())


def weights(out: Path) -> bytes:
    return (out / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    """An unbroken run of the script, as a user starts it."""
    out = tmp_path_factory.mktemp("unbroken")
    command = [sys.executable, str(TRAIN), *options(data, out, eval_every=10)]
    run = subprocess.run(
        command, cwd="/", env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "step 60/60: train loss" in run.stderr
    return out


# Features


def test_fbank_equals_transformers():
    rng = np.random.default_rng(0)
    seconds = np.arange(9000) / RATE
    tone = np.sin(2 * np.pi * 1000 * seconds)
    sounds = np.stack([0.1 * rng.normal(size=9000), tone, np.zeros(9000), 1e-4 * rng.normal(size=9000) + 0.3])
    sounds = sounds.astype(np.float32)
    for bins in (128, 32):
        extractor = ASTFeatureExtractor(do_normalize=False, max_length=num_frames(9000), num_mel_bins=bins)
        expected = np.stack(extractor(list(sounds), sampling_rate=RATE)["input_values"])
        found = kaldi_fbank(torch.from_numpy(sounds), bins).numpy()
        assert found.shape == expected.shape == (4, 54, bins)
        np.testing.assert_allclose(found, expected, atol=2e-3)  # of 16: the quiet clip is rounding noise


def test_fbank_edges():
    assert kaldi_fbank(torch.zeros(2, 399)).shape == (2, 0, 128)
    assert [num_frames(n) for n in (0, 399, 400, 559, 560)] == [0, 0, 1, 1, 2]
    assert all(num_frames(num_samples(n)) == n > num_frames(num_samples(n) - 1) for n in (1, 2, 54))
    sound = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(kaldi_fbank(sound), kaldi_fbank(sound + 0.5), atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match=r"\[B, T\]"):
        kaldi_fbank(torch.zeros(400))


def test_input_length_comes_from_the_data():
    config = ASTConfig(patch_size=16, time_stride=10)
    assert classifier.choose_frames([298] * 99 + [900], 1024, config) == 296
    assert classifier.choose_frames([2000] * 9, 1024, config) == 1016
    assert classifier.choose_frames([3], 1024, config) == 16
    assert classifier.choose_frames([100] * 9 + [1000], 1024, config) == 586  # the percentile, 595, in whole patches
    assert classifier.choose_frames([100] * 9 + [1000], 1024, config, "mean") == 186  # of 190


def test_padding_is_that_of_the_feature_extractor(tmp_path):
    audio = 0.1 * np.random.default_rng(0).normal(size=(1, 5000)).astype(np.float32)
    write_wav(tmp_path / "a.wav", audio, RATE)
    clips = classifier.read_features([str(tmp_path / "a.wav")], "x.csv", 32, 1024)
    norm = classifier.Normalisation(40, -5.0, 3.0)
    extractor = ASTFeatureExtractor(max_length=40, num_mel_bins=32, mean=-5.0, std=3.0)
    waveform = read_audio(tmp_path / "a.wav", RATE)[0][0]
    expected = extractor(waveform, sampling_rate=RATE, return_tensors="pt")["input_values"]
    assert len(clips[0]) == 29
    torch.testing.assert_close(classifier.fill(clips, norm), expected, atol=3e-4, rtol=0)
    kept = classifier.make_split(clips, np.zeros((1, 2), np.float32), norm).features
    assert kept.dtype == torch.float16
    torch.testing.assert_close(kept.float(), expected, atol=2e-3, rtol=0)
    cut = classifier.fill(clips, replace(norm, frames=20))
    torch.testing.assert_close(cut, expected[:, :20], atol=3e-4, rtol=0)


def test_a_bad_clip_is_named(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no sound")
    with pytest.raises(UserError, match=r"t\.csv row 1: .*a\.wav: unreadable"):
        classifier.read_features([str(tmp_path / "a.wav")], "t.csv", 32, 100)


def test_a_clip_of_a_few_samples_works(tmp_path):
    write_wav(tmp_path / "a.wav", np.full((1, 10), 0.1, np.float32), RATE)
    assert classifier.read_features([str(tmp_path / "a.wav")], "t.csv", 32, 100)[0].shape == (1, 32)


def test_mixup_blends_features_and_targets_alike():
    features, targets = torch.eye(6)[:, None, :].repeat(1, 2, 1), torch.eye(6)
    blend, mixed = classifier.mixup(0.5, np.random.default_rng(0), features, targets)
    torch.testing.assert_close(blend[:, 0], mixed)
    torch.testing.assert_close(mixed.sum(dim=1), torch.ones(6))
    assert not torch.equal(mixed, targets)
    again, _ = classifier.mixup(0.5, np.random.default_rng(0), features, targets)
    assert torch.equal(blend, again)


def test_spec_augment_masks_one_band_and_one_stretch():
    features = torch.ones(20, 128, 64)
    masked = classifier.spec_augment(features, np.random.default_rng(0))
    assert torch.equal(masked, classifier.spec_augment(features, np.random.default_rng(0)))
    assert features.min() == 1
    gone_frames = (masked == 0).all(dim=2).sum(dim=1)
    gone_bands = (masked == 0).all(dim=1).sum(dim=1)
    assert 0 < gone_frames.max() <= 24
    assert 0 < gone_bands.max() <= 12
    kept = (128 - gone_frames) * (64 - gone_bands)
    assert torch.equal(masked.sum(dim=(1, 2)), kept.float())


# Labels


def test_classes_do_not_depend_on_the_order_of_rows(data, tmp_path):
    rows = pd.read_csv(data / "train.csv", dtype=str, keep_default_na=False)
    script, found = load_script(), []
    for order in (rows, rows.iloc[::-1]):
        order.to_csv(data / "order.csv", index=False)
        args = script.get_parser().parse_args(options(data, tmp_path, train_csv=data / "order.csv"))
        _, labels, targets = script.read_splits(args)
        found.append((labels, [labels[i] for i in targets["train"].argmax(axis=1)], list(order["label"])))
    assert found[0][0] == found[1][0] == ["001", "Hund, laut", "NA"]
    assert all(decoded == cells for _, decoded, cells in found)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_unseen_label_names_file_row_and_label(data, tmp_path, split):
    rows = pd.read_csv(data / f"{split}.csv", dtype=str, keep_default_na=False)
    rows.loc[4, "label"] = "cat"
    rows.to_csv(data / "unseen.csv", index=False)
    script = load_script()
    args = script.get_parser().parse_args(options(data, tmp_path, **{f"{split}_csv": data / "unseen.csv"}))
    with pytest.raises(UserError, match=r"unseen\.csv row 5: the label 'cat' is not among the 3 classes"):
        script.read_splits(args)


def test_label_cells():
    labels = ["a", "b", "c"]
    matrix = encode_labels(["a;c", "b"], labels, "x.csv", multi_label=True)
    assert matrix.tolist() == [[1, 0, 1], [0, 1, 0]]
    assert decode_labels(matrix, labels) == ["a;c", "b"]
    with pytest.raises(UserError, match="row 1: several labels"):
        encode_labels(["a;c", "b"], labels, "x.csv", multi_label=False)


# Model


def test_positions_of_the_same_length_stay():
    positions = torch.randn(1, 2 + 12 * 7, 5)
    assert torch.equal(ast_model.resize_positions(positions, 12, 7), positions)


@pytest.mark.parametrize("time_steps", [3, 4, 20])
def test_positions_keep_bands_and_special_tokens(time_steps):
    special = torch.tensor([[100.0, 200.0]])
    grid = torch.arange(12.0)[:, None] * 1000 + torch.arange(8.0)[None]  # band * 1000 + time
    positions = torch.cat([special, grid.reshape(1, -1)], dim=1)[..., None]
    out = ast_model.resize_positions(positions, 12, time_steps)[0, :, 0]
    assert out[:2].tolist() == [100, 200]
    stretched = ((torch.arange(20.0) + 0.5) * 8 / 20 - 0.5).clamp(0, 7)
    columns = {3: torch.arange(3.0, 6.0), 4: torch.arange(2.0, 6.0), 20: stretched}[time_steps]
    torch.testing.assert_close(out[2:].reshape(12, -1), torch.arange(12.0)[:, None] * 1000 + columns)


def test_positions_that_are_no_grid():
    with pytest.raises(ValueError, match="no grid"):
        ast_model.resize_positions(torch.zeros(1, 2 + 13, 4), 12, 2)


@pytest.mark.parametrize("head", [False, True])
def test_load_ast_is_float32_with_a_new_seeded_head(tmp_path, head):
    folder = str(save_tiny_ast(tmp_path / "m", head))
    model = ast_model.load_ast(folder, ["x", "y", "z"], 56, False, seed=1)
    same = ast_model.load_ast(folder, ["x", "y", "z"], 56, False, seed=1)
    other = ast_model.load_ast(folder, ["x", "y", "z"], 56, False, seed=2)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.config.id2label == {0: "x", 1: "y", 2: "z"}
    assert model(torch.zeros(2, 56, 32)).logits.shape == (2, 3)
    assert torch.equal(model.classifier.dense.weight, same.classifier.dense.weight)
    assert not torch.equal(model.classifier.dense.weight, other.classifier.dense.weight)
    pretrained = ASTModel.from_pretrained(folder, dtype=torch.float32)
    body = model.audio_spectrogram_transformer
    assert torch.equal(body.layers[1].mlp.fc1.weight, pretrained.layers[1].mlp.fc1.weight)
    assert torch.equal(body.embeddings.cls_token, pretrained.embeddings.cls_token)


def test_load_ast_refuses_other_folders(tmp_path):
    with pytest.raises(UserError, match="no AST folder"):
        ast_model.load_ast_config(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "clap"}')
    with pytest.raises(UserError, match="is a 'clap'"):
        ast_model.load_ast_config(str(tmp_path))


# Training


def drawn(weight: float, steps: int = 40) -> list[np.ndarray]:
    is_synthetic = np.array([False, True, True] * 5)
    return [classifier.mixed_rows(is_synthetic, weight, 8, step, seed=0) for step in range(steps)]


@pytest.mark.parametrize("weight", [0.0, 0.1, 0.3, 1.0, 2.0])
def test_a_synthetic_clip_comes_as_often_as_its_weight_says(weight):
    counts = np.bincount(np.concatenate(drawn(weight)), minlength=15)
    real, synthetic = counts[::3], np.delete(counts, np.s_[::3])
    assert counts.sum() == 320
    assert np.ptp(real) <= 1
    assert np.ptp(synthetic) <= 1
    assert synthetic.mean() == pytest.approx(weight * real.mean(), abs=0.5)


def test_all_batches_have_the_same_share_of_synthetic_clips():
    shares = [int(np.sum(rows % 3 > 0)) for rows in drawn(0.3)]
    assert set(shares) == {3}  # 8 * .3 * 10 / (5 + .3 * 10)


def test_without_synthetic_clips_the_rows_are_those_of_one_kind():
    rows = classifier.mixed_rows(np.zeros(5, bool), 0.3, 12, 3, seed=0)
    np.testing.assert_array_equal(rows, batch_rows(5, 12, 3, seed=0))
    only = classifier.mixed_rows(np.ones(5, bool), 0.3, 10, 0, seed=0)
    assert np.bincount(only).tolist() == [2] * 5


def test_script_learns_and_writes_everything(data, trained):
    scores = json.loads((trained / "scores.json").read_text())
    assert scores["accuracy"] > 0.9
    assert scores["interval_95"][0] <= scores["accuracy"] <= scores["interval_95"][1]
    assert scores["splits"]["train"] == {"clips": 24, "gold": 24, "synthetic": 0}
    assert scores["input"]["frames"] <= 80 and scores["head"] == "ast"
    assert {"options", "versions", "seconds", "best_step", "per_class", "confusion", "macro_f1"} <= scores.keys()
    matrix = np.array(scores["confusion"]["rows_true_columns_predicted"])
    assert matrix.sum() == 15
    assert np.trace(matrix) / 15 == pytest.approx(scores["accuracy"])
    history = pd.read_csv(trained / "history.csv")
    assert list(history["step"]) == [10, 20, 30, 40, 50, 60]
    assert set(history["alpha"]) == {1} and history["valid_loss"].nunique() == 6
    assert scores["best_step"] == history["step"][history["valid_loss"].idxmin()]
    names = ["history.csv", "model", "predictions.csv", "scores.json", "valid_predictions.csv"]
    assert sorted(p.name for p in trained.iterdir()) == names
    heard = pd.read_csv(trained / "valid_predictions.csv", dtype=str, keep_default_na=False)
    assert [Path(path).name for path in heard["path"]] == [f"{i}.wav" for i in range(12)]
    assert (heard["label"] == heard["predicted"]).mean() == scores["best_valid"]["accuracy"]


def assert_pipeline_gives_the_predictions(folder: Path) -> None:
    """Each probability of each test clip."""
    predictions = scored.read_scores(f"x={folder / 'scores.json'}")["predictions"]
    listen = pipeline("audio-classification", model=str(folder / "model"), top_k=None)
    for row in predictions.to_dict("records"):
        found = {answer["label"]: answer["score"] for answer in listen(read_audio(row["path"], RATE)[0][0])}
        expected = {
            name.partition("_")[2]: float(cell) for name, cell in row.items() if name.startswith("probability_")
        }
        assert found == pytest.approx(expected, abs=1e-4)


def test_pipeline_gives_the_same_probabilities(data, trained):
    assert_pipeline_gives_the_predictions(trained)


def test_the_temperature_is_in_the_weights(trained):
    """Probabilities at the temperature that was divided by are those before calibration."""
    scores = scored.read_scores(f"x={trained / 'scores.json'}")
    truth, chances = scored.truth_and_probabilities(scores)
    record = scores["calibration"]
    assert record["temperature"] != pytest.approx(1, abs=0.05)
    before = torch.from_numpy(np.log(chances) * record["temperature"]).softmax(dim=1).numpy()
    for name, found in (("before", before), ("after", chances)):
        assert metrics.calibration(truth, found, False)["brier"] == pytest.approx(record[name]["brier"], abs=1e-6)
    assert record["after"]["ece"] < record["before"]["ece"] and record["after"]["brier"] < record["before"]["brier"]


def test_scaled_logits_are_divided_and_moved(data):
    model = ast_model.load_ast(str(data / "model"), ["x", "y"], 56, True, seed=1).eval()
    clips = torch.randn(2, 56, 32, generator=torch.Generator().manual_seed(0))
    before = classifier.predict(model, clips, 2, "cpu")
    classifier.scale_logits(model, 2.5, -0.7)
    torch.testing.assert_close(classifier.predict(model, clips, 2, "cpu"), before / 2.5 - 0.7)


def test_the_model_has_a_card(data, trained):
    card = (trained / "model/README.md").read_text(encoding="utf-8")
    head, _, text = card.removeprefix("---\n").partition("\n---\n")
    assert head.splitlines() == [
        *("library_name: transformers", "pipeline_tag: audio-classification"),
        *("tags:", "- audio-classification", "- synthio"),
    ]
    scores = json.loads((trained / "scores.json").read_text())
    assert "Labels: 001, Hund, laut, NA\n" in text and "| train | 24 | 24 | 0 |" in text
    assert f"| accuracy | {scores['accuracy']:.3f} |" in text and "| optimiser steps | 60 |" in text
    assert f"| step chosen on the validation clips | {scores['best_step']} |" in text
    after, before = (scores["calibration"][when]["ece"] for when in ("after", "before"))
    assert f"| expected calibration error | {after:.3f}, before calibration {before:.3f} |" in text
    assert f"| temperature, already in the weights | {scores['calibration']['temperature']:.3g} |" in text
    assert "| base model | model |" in text and "| its licence | not known here |" in text
    assert text.count("| 5 |") == 3  # test clips of each label
    assert str(data) not in card and "\n\n\n" not in card
    assert 'pipeline("audio-classification", model="this folder", top_k=None)' in text


def test_a_card_names_models_without_folders_of_the_machine(tmp_path):
    assert cards.licence_of(str(cards.EMBEDDED / "ast")).startswith("CC BY-NC")
    assert cards.model_name(str(cards.EMBEDDED / "ast")) == "Synthio's embedded ast"
    assert cards.licence_of("MIT/ast") == "see https://huggingface.co/MIT/ast"
    assert cards.model_name("MIT/ast") == "MIT/ast" and cards.model_name("/home/me/ast") == "ast"
    assert cards.licence_of(str(tmp_path)) == "not known here"
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    assert cards.licence_of(str(tmp_path)) == "apache-2.0"
    assert cards.escape("a|b\n<img> `x` *_") == "a\\|b \\<img\\> \\`x\\` \\*\\_"


def test_test_clips_do_not_touch_the_weights(data, trained, tmp_path, monkeypatch):
    save_tones(data, "wrong", 9, 9, swap=True)
    scores = train(monkeypatch, data, tmp_path / "out", test_csv=data / "wrong.csv", eval_every=10)
    assert scores["accuracy"] < 0.1
    assert weights(tmp_path / "out") == weights(trained)


def test_a_killed_run_goes_on_to_the_same_weights(data, trained, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, str(TRAIN), *options(data, out, eval_every=10)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not (out / "checkpoint.pt").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        process.kill()
    assert (out / "checkpoint.pt").exists()
    assert not (out / "scores.json").exists()
    step = torch.load(out / "checkpoint.pt", weights_only=True)["state"]["step"]
    assert 10 <= step < 60
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert f"step {step}/60" not in run.stderr, "it must not repeat what the checkpoint holds"
    assert weights(out) == weights(trained)
    for name, paths in (("predictions", ["path"]), ("history", [])):
        tables = [pd.read_csv(folder / f"{name}.csv").drop(columns=paths) for folder in (out, trained)]
        pd.testing.assert_frame_equal(*tables)
    assert not (out / "checkpoint.pt").exists()


def test_a_run_that_was_killed_after_its_last_evaluation_writes_its_history(data, tmp_path, monkeypatch):
    """What is left to do is only the test, and no evaluation comes any more that would write history.csv."""
    script, words = load_script(), options(data, tmp_path / "out", num_steps=4, eval_every=2)
    monkeypatch.setattr(sys, "argv", [str(TRAIN), *words])
    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(script, "test_once", Mock(side_effect=KeyboardInterrupt))
        script.main()
    written = (tmp_path / "out/history.csv").read_bytes()
    assert script.main() == 0
    assert (tmp_path / "out/history.csv").read_bytes() == written
    assert pd.read_csv(tmp_path / "out/history.csv")["step"].tolist() == [2, 4]


def test_the_key_follows_data_and_options_but_not_paths(data, tmp_path):
    script = load_script()

    def key(folder, **changes):
        args = script.get_parser().parse_args(options(folder, tmp_path, **changes))
        tables, labels, _ = script.read_splits(args)
        return script.run_key(args, script.make_recipe(args, len(tables["train"])), "cpu", tables, labels)

    first = key(data)
    shutil.copytree(data, tmp_path / "moved")
    assert key(tmp_path / "moved") == first
    assert len({first, key(data, seed=4), key(data, max_length_s=0.5), key(data, mixup=0.3)}) == 4
    write_wav(tmp_path / "moved/train/0.wav", np.ones((1, 8000)) * 0.1, RATE)
    assert key(tmp_path / "moved") != first


def test_the_step_of_the_lowest_loss_is_kept_and_of_several_shares_the_best_is_noted():
    model, state = torch.nn.Linear(1, 1), classifier.Fitting()
    losses = {1: [0.9], 2: [0.5, 0.3, 0.4], 3: [0.6, 0.7, 0.31], 4: [0.3]}
    for step, row in losses.items():
        state.step = step
        for alpha, loss in enumerate(row):
            torch.nn.init.constant_(model.weight, 10 * step + alpha)
            classifier._record(state, model, 1.0, loss, 1 - loss, alpha)
    assert [(row["step"], row["valid_loss"], row["alpha"]) for row in state.history] == [
        *((1, 0.9, 0), (2, 0.3, 1), (3, 0.31, 2), (4, 0.3, 0))
    ]
    assert state.best_step == 2 and state.best_loss == 0.3 and state.best_row()["valid_score"] == 0.7
    assert state.best_state["weight"].item() == 21


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_loss_of_an_evaluation_is_that_after_calibration(data, multi_label):
    """Logits that are ten times as sure, or as modest, are worth the same."""
    model = ast_model.load_ast(str(data / "model"), ["x", "y", "z"], 56, multi_label, seed=1)
    train, valid = noise_splits()
    recipe = recipe_of(data, multi_label=multi_label)
    classifier.fit_head(model, train, valid, recipe, "cpu")
    losses = []
    for temperature in (1.0, 0.1, 100.0):
        classifier.scale_logits(model, temperature, 0.0)
        losses.append(classifier.evaluate(model, valid, recipe, "cpu"))
    logits = classifier.predict(model, valid.features, 8, "cpu")
    assert [loss for loss, _ in losses] == pytest.approx([losses[0][0]] * 3, rel=0.12)  # but for the prior of one clip
    assert losses[0][0] < classifier.loss_of(logits, valid.targets, multi_label)
    assert losses[0][1] == classifier.score_of(logits, valid.targets, multi_label)


def test_multi_label_with_augmentation(data, tmp_path, monkeypatch):
    pitches = {"low": 300, "high": 2700}
    rows = {}
    for name, seed in (("train", 5), ("valid", 6), ("test", 7)):
        table = pd.read_csv(save_tones(tmp_path, name, 24, seed, pitches), dtype=str)
        for i in range(0, 24, 3):  # every third clip holds both sounds
            low, high = (read_audio(tmp_path / name / f"{j}.wav")[0][:, :6400] for j in (i - i % 2, i - i % 2 + 1))
            write_wav(tmp_path / name / f"both{i}.wav", (low + high) / 2, RATE)
            table.loc[len(table)] = [f"{name}/both{i}.wav", "high;low"]
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        rows[name] = len(table)
    shutil.copytree(data / "model", tmp_path / "model")
    scores = train(monkeypatch, tmp_path, tmp_path / "out", multi_label="true", mixup=0.3, spec_augment="true")
    assert scores["metric"] == "mAP"
    assert scores["mAP"] > 0.95
    assert scores["macro_f1"] > 0.8
    assert "accuracy" not in scores
    predictions = pd.read_csv(tmp_path / "out/predictions.csv", keep_default_na=False)
    assert len(predictions) == rows["test"]
    assert set(predictions["predicted"]) <= {"", "high", "low", "high;low"}
    assert "high;low" in set(predictions["predicted"])
    assert ASTConfig.from_pretrained(tmp_path / "out/model").problem_type == "multi_label_classification"
    assert_pipeline_gives_the_predictions(tmp_path / "out")
    # said in words, because transformers before 5.23 applies softmax unless it is told
    assert 'function_to_apply="sigmoid"' in (tmp_path / "out/model/README.md").read_text()
    assert "a probability of its own" in (tmp_path / "out/model/README.md").read_text()


@pytest.mark.parametrize(("head_init", "steps"), [("probe", [0, 1]), ("random", [1])])
def test_a_head_that_starts_at_a_probe_knows_the_classes_untrained(data, tmp_path, monkeypatch, head_init, steps):
    words = {"head_init": head_init, "num_steps": 1, "learning_rate": 1e-9, "wise_ft_alpha": "auto"}
    scores = train(monkeypatch, data, tmp_path / "out", **words)
    assert scores["options"]["wise_ft_alpha"] in ALPHAS  # a number: what was chosen
    assert list(pd.read_csv(tmp_path / "out/history.csv")["step"]) == steps
    assert (scores["accuracy"] > 0.9) == (head_init == "probe")


@pytest.mark.parametrize("multi_label", [True, False])
def test_weighted_loss_is_that_of_a_clip_that_comes_twice(multi_label):
    rng = np.random.default_rng(0)
    logits, targets = torch.from_numpy(rng.normal(size=(3, 4))), torch.eye(4, dtype=torch.float64)[:3]
    twice = torch.cat([logits, logits[:1]]), torch.cat([targets, targets[:1]])
    weighted = classifier.loss_of(logits, targets, multi_label, torch.tensor([2.0, 1.0, 1.0]) * 3 / 4)
    assert weighted.item() == pytest.approx(classifier.loss_of(*twice, multi_label).item())


@pytest.fixture(scope="module")
def mislabelled(data) -> dict:
    """Options for 24 real clips and 45 synthetic ones whose labels are wrong."""
    return {"train_csv": add_mislabelled(data, 45, 11), "num_steps": 80, "eval_every": 80}


def test_synthetic_clips_of_weight_0_are_as_if_they_had_no_label(data, mislabelled, tmp_path, monkeypatch):
    """Wrong labels on synthetic clips do harm at weight 1, none at weight 0."""
    ignored = train(monkeypatch, data, tmp_path / "ignored", synthetic_weight=0, **mislabelled)
    trusted = train(monkeypatch, data, tmp_path / "trusted", synthetic_weight=1, **mislabelled)
    assert ignored["accuracy"] > 0.9 > trusted["accuracy"]
    assert ignored["synthetic_weights"] == []


def test_auto_lets_wrong_synthetic_clips_count_little(data, mislabelled, tmp_path, monkeypatch, capsys):
    scores = train(monkeypatch, data, tmp_path, synthetic_weight="auto", **mislabelled)
    chosen, tried = scores["options"]["synthetic_weight"], scores["synthetic_weights"]
    assert [row["synthetic_weight"] for row in tried] == [pytest.approx(total * 24 / 45) for total in (0, *TOTALS)]
    assert chosen == 0 and scores["accuracy"] > 0.9
    assert f"synthetic_weight auto: a synthetic clip comes {chosen:.3g} times as often as a real one" in (
        capsys.readouterr().err
    )
    assert f"| synthetic clips for a real one | {chosen} |" in (tmp_path / "model/README.md").read_text()


def test_settled_weights_are_those_of_the_rates_that_were_chosen(data):
    """Synthetic clips of noise are worth nothing, so they do not come; the classes of the others count the same."""
    model = ast_model.load_ast(str(data / "model"), ["x", "y", "z"], 56, False, seed=1)
    train, valid = noise_splits()
    train = replace(train, is_synthetic=np.arange(16) % 2 == 0)
    recipe = recipe_of(data, synthetic_weight="auto", class_weights=True)
    weighed, settled, history = classifier.settle_weights(model, train, valid, recipe, "cpu")
    assert settled == replace(recipe, synthetic_weight=0.0) and len(history) == 1 + len(TOTALS)
    assert torch.equal(weighed.features, train.features[1::2]) and not weighed.is_synthetic.any()
    given, same, _ = classifier.settle_weights(model, train, valid, replace(recipe, synthetic_weight=0.5), "cpu")
    assert same.synthetic_weight == 0.5 and len(given.features) == 16
    for split, weight in ((weighed, 0.0), (given, 0.5)):
        rates = draw_rates(split.is_synthetic, weight)
        sums = (split.weights.numpy() * rates) @ split.targets.numpy()
        np.testing.assert_allclose(sums, sums.mean(), rtol=1e-5)
    plain, same, history = classifier.settle_weights(model, train, valid, recipe_of(data), "cpu")
    assert plain is train and same == recipe_of(data) and history == []


def noise_splits() -> tuple[classifier.Split, classifier.Split]:
    """16 training and 8 validation clips of noise whose level is the class."""
    rng = np.random.default_rng(0)
    targets = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 24)]
    features = torch.from_numpy(rng.normal(size=(24, 56, 32)) + targets.argmax(1)[:, None, None]).half()
    norm = classifier.Normalisation(56, 0.0, 0.5)
    parts = (slice(0, 16), slice(16, 24))
    return tuple(classifier.Split(features[part], torch.from_numpy(targets[part]), norm) for part in parts)


def recipe_of(data: Path, **changes) -> classifier.Recipe:
    """For 16 training clips."""
    return load_script().make_recipe(load_script().get_parser().parse_args(options(data, data, **changes)), 16)


def test_the_fitted_head_is_the_probe_of_the_pooled_output(data):
    model = ast_model.load_ast(str(data / "model"), ["x", "y", "z"], 56, False, seed=1)
    train, valid = noise_splits()
    train = replace(train, is_synthetic=np.arange(16) % 2 == 0)
    classifier.fit_head(model, train, valid, recipe_of(data, synthetic_weight=0.5), "cpu")
    features = torch.cat([train.features, valid.features])
    with torch.no_grad():
        pooled = model.audio_spectrogram_transformer(features.float()).pooler_output
        x = torch.nn.functional.layer_norm(pooled, pooled.shape[1:], eps=1e-12).numpy()
    probe = fit_probe(x[:16], train.targets.numpy(), FEW_CLIPS_C, False, np.tile([1 / 3, 2 / 3], 8))
    logits = classifier.predict(model, features, 8, "cpu")
    np.testing.assert_allclose(logits, probe.logits(x), atol=1e-3)


@pytest.mark.parametrize("multi_label", [False, True])
def test_what_the_pretrained_head_says_is_added_as_the_validation_clips_weigh_it(data, multi_label):
    model = ast_model.load_ast(str(data / "model"), ["x", "y", "z"], 56, multi_label, seed=1)
    train, valid = noise_splits()
    rng = np.random.default_rng(3)
    known = LinearProbe(*(rng.normal(size=size).astype(np.float32) for size in ((3, 32), 3)))
    recipe = recipe_of(data, multi_label=multi_label)
    classifier.fit_head(model, train, valid, recipe, "cpu")
    pair = [classifier.predict(model, split.features, 8, "cpu").double().numpy() for split in (train, valid)]
    classifier.fit_head(model, train, valid, recipe, "cpu", known)
    found = classifier.predict(model, valid.features, 8, "cpu")
    with torch.no_grad():
        pooled = model.audio_spectrogram_transformer(valid.features.float()).pooler_output
        x = torch.nn.functional.layer_norm(pooled, pooled.shape[1:], eps=1e-12).numpy()
    shares, offset = fit_weights([pair[1], known.logits(x)], valid.targets.numpy(), multi_label)
    np.testing.assert_allclose(found, shares[0] * pair[1] + shares[1] * known.logits(x) + offset, atol=2e-3)


def test_rows_of_labels_are_those_of_their_names():
    """Of several names of a label the mean; a head that does not know every label is of no use."""
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(4, 5)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    head = ast_model.OwnHead(["rain", "dog_bark", "siren", "dog_whine"], weight, bias)
    rows = classifier.rows_of_labels(head, ["dog", "rain"])
    np.testing.assert_allclose(rows.weight, [(weight[1] + weight[3]) / 2, weight[0]], rtol=1e-6)
    np.testing.assert_allclose(rows.bias, [(bias[1] + bias[3]) / 2, bias[0]], rtol=1e-6)
    assert classifier.rows_of_labels(head, ["dog", "cat"]) is None
    assert classifier.rows_of_labels(None, ["dog"]) is None


@pytest.mark.parametrize(("head_init", "is_right"), [("names", True), ("probe", False)])
def test_a_head_that_starts_at_names_knows_what_the_pretrained_one_knew(
    data, trained, mislabelled, tmp_path, monkeypatch, head_init, is_right
):
    """All training labels are wrong, so a probe learns nothing; validation clips show that the old head is right."""
    words = {"model": trained / "model", "train_csv": data / "mislabelled.csv", "num_steps": 1, "learning_rate": 1e-9}
    scores = train(monkeypatch, data, tmp_path, head_init=head_init, **words)
    assert (scores["accuracy"] > 0.9) == is_right
    assert scores["options"]["head_init"] == head_init


def test_names_of_other_labels_start_at_the_probe(data, tmp_path, monkeypatch):
    """Byte for byte, and so does an AST without a head."""
    for model in (save_named_ast(tmp_path / "named", ["dog", "rain", "siren"]), data / "model"):
        outs = [tmp_path / f"{model.name} {head_init}" for head_init in ("names", "probe")]
        for out in outs:
            train(monkeypatch, data, out, head_init=out.name.split()[1], num_steps=1, model=model)
        assert weights(outs[0]) == weights(outs[1])


def test_the_result_is_the_mean_of_start_and_trained_weights(data, tmp_path):
    """Training goes on from the trained weights, not from the mean: step 4 of both runs is the same."""
    states, history = {}, {}
    for alpha in (0.25, 1.0, "auto"):
        recipe = recipe_of(data, head_init="probe", num_steps=4, eval_every=2, wise_ft_alpha=alpha)
        recipe = replace(recipe, learning_rate=1e-6)  # too little to change a score, so that the last step is kept
        ast = ast_model.load_ast(str(data / "model"), ["x", "y", "z"], 56, False, seed=1)
        train, valid = noise_splits()
        state = classifier.fit(ast, train, valid, recipe, "cpu", Checkpoint(tmp_path / str(alpha), "key"))
        assert state.best_step == 4
        assert classifier.evaluate(ast, valid, recipe, "cpu")[0] == pytest.approx(state.best_row()["valid_loss"])
        states[alpha], history[alpha] = ast.state_dict(), state.history
        chosen = state.best_row()["alpha"]
        assert chosen == alpha or (alpha == "auto" and chosen in ALPHAS)
    start = ast_model.load_ast(str(data / "model"), ["x", "y", "z"], 56, False, seed=1)
    classifier.fit_head(start, train, valid, recipe, "cpu")
    for name, tensor in start.state_dict().items():
        for alpha, share in ((0.25, 0.25), ("auto", chosen)):
            torch.testing.assert_close(states[alpha][name], tensor.lerp(states[1.0][name], share), rtol=0, atol=1e-7)
    assert not torch.equal(states[0.25]["classifier.dense.weight"], states[1.0]["classifier.dense.weight"])
    assert [row["train_loss"] for row in history[0.25]] == [row["train_loss"] for row in history[1.0]]
    losses = {}
    for share in ALPHAS:
        mixed = {name: tensor.lerp(states[1.0][name], share) for name, tensor in start.state_dict().items()}
        ast.load_state_dict(mixed)
        losses[share] = classifier.evaluate(ast, valid, recipe, "cpu")[0]
    assert losses[chosen] == pytest.approx(min(losses.values()), abs=1e-6)
    assert recipe_of(data, head_init="random", wise_ft_alpha=0.25).wise_ft_alpha == 1


@pytest.mark.parametrize("is_supcon", [False, True])
def test_a_training_that_goes_on_does_not_fit_its_head_again(data, tmp_path, monkeypatch, is_supcon):
    changes = {"head_init": "probe", "wise_ft_alpha": 0.5, "num_steps": 4, "eval_every": 2, "supcon": is_supcon}
    recipe, splits = recipe_of(data, **changes), noise_splits()
    fit_head, fitted = classifier.fit_head, []
    monkeypatch.setattr(classifier, "fit_head", lambda *words: (fitted.append(words), fit_head(*words)))

    def run(name: str, on_eval=None) -> dict[str, torch.Tensor]:
        ast = ast_model.load_ast(str(data / "model"), ["x", "y", "z"], 56, False, seed=1)
        model = SupConAst(ast, 1) if is_supcon else ast
        state = classifier.fit(model, *splits, recipe, "cpu", Checkpoint(tmp_path / name, "key"), on_eval)
        assert [row["step"] for row in state.history] == [0, 2, 4]
        return ast.state_dict()

    def stop(state):
        raise KeyboardInterrupt

    unbroken = run("unbroken")
    with pytest.raises(KeyboardInterrupt):
        run("broken", stop)
    assert len(fitted) == 2
    resumed = run("broken")
    assert len(fitted) == 2
    assert all(torch.equal(resumed[name], tensor) for name, tensor in unbroken.items())


def test_a_loss_that_is_not_finite_stops_with_advice(data, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="lower --learning_rate"):
        train(monkeypatch, data, tmp_path / "out", learning_rate=1e30, num_steps=4)


# Scores


def test_scores_by_hand():
    truth = np.eye(3)[[0, 0, 1, 1]]
    chances = np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]])
    scores = metrics.score_predictions(truth, chances, ["a", "b", "c"], False)
    assert scores["accuracy"] == 0.75
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)  # c occurs nowhere, so it does not count
    assert scores["mAP"] == pytest.approx(1.0)
    assert scores["confusion"]["rows_true_columns_predicted"] == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert scores["per_class"][1] == {
        "label": "b",
        "precision": pytest.approx(2 / 3),
        "recall": 1.0,
        "f1": pytest.approx(0.8),
        "clips": 2,
    }


def save_result(folder: Path, wrong: set[int], synthetic: int, clips: int = 40) -> str:
    """What ast/train.py leaves, for chosen mistakes."""
    folder.mkdir(parents=True)
    truth = np.eye(2)[np.arange(clips) % 2]
    chances = np.where(truth > 0, 0.9, 0.1)
    chances[sorted(wrong)] = 1 - chances[sorted(wrong)]
    table = pd.DataFrame({"path": [f"/data/{i}.wav" for i in range(clips)], "label": np.tile(["a", "b"], clips // 2)})
    evaluation.write_predictions(table, ["a", "b"], chances, False, folder / "predictions.csv")
    scores = metrics.score_predictions(truth, chances, ["a", "b"], False)
    scores |= score_interval(truth, chances, False, units_of(table), 0)
    splits = {"train": {"clips": 10 + synthetic, "gold": 10, "synthetic": synthetic}, "test": {"clips": clips}}
    record = {**scores, "labels": ["a", "b"], "splits": splits, "best_step": 1, "num_steps": 2}
    (folder / "scores.json").write_text(json.dumps(record))
    return str(folder / "scores.json")


def test_results_table(tmp_path, monkeypatch, capsys):
    old = save_result(tmp_path / "w/gold", set(range(20)), 0)
    new = save_result(tmp_path / "w/deeper/synthio", set(range(10)), 20)
    (tmp_path / "t.csv").write_text("stage,seconds\nstratify,1.5\nclassify,120.2\n")
    argv = ["results", "--scores", f"gold-only={old}", f"synthio={new}", "--timings", str(tmp_path / "t.csv")]
    monkeypatch.setattr(sys, "argv", [*argv, "--output_json", str(tmp_path / "all.json")])
    assert results.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Test scores in percent, 40 test clips; 1 cell, intervals over 40 test clips"
    assert lines[1].endswith("verdict") and lines[3].endswith("better") and lines[2].split()[-3:] == ["-"] * 3
    assert lines[2].split()[:5] == ["gold-only", "10", "(10", "+", "0)"]
    assert lines[3].split()[:6] == ["synthio", "30", "(10", "+", "20)", "75.0"]
    assert "+25.0 (" in lines[3]
    assert lines[-1].split() == ["total", "122"]
    record = json.loads((tmp_path / "all.json").read_text())
    versus = record["methods"][1]["to_baseline"]
    assert versus["difference"] == pytest.approx(0.25)
    # the pairs are mistakes mended or clips unchanged: sd = sqrt(.25 * .75 / 40)
    spread = 1.96 * math.sqrt(0.25 * 0.75 / 40)
    assert versus["interval_95"] == pytest.approx([0.25 - spread, 0.25 + spread], abs=0.03)
    assert record["seconds"][1] == {"stage": "classify", "seconds": 120.2}


def test_results_refuse_other_test_clips(tmp_path):
    old, new = save_result(tmp_path / "a", {1}, 0), save_result(tmp_path / "b", {1}, 0, clips=30)
    with pytest.raises(UserError, match="not tested on the same clips"):
        results.summarise([scored.read_scores(f"a={old}"), scored.read_scores(f"b={new}")], 0)
    with pytest.raises(UserError, match="NAME=FILE"):
        scored.read_scores(old)
    with pytest.raises(UserError, match="no such file"):
        scored.read_scores("x=/nowhere.json")


def test_the_moments_are_those_of_asts_recipe(data, tmp_path, monkeypatch):
    """Decays .95 and .999, not Adam's: the moving averages of a parameter by hand, over three steps."""
    found, first, second = [], 0.0, 0.0

    class Watched(torch.optim.AdamW):
        def step(self, *words):
            parameter = self.param_groups[0]["params"][-1]
            gradient = parameter.grad.clone()
            super().step(*words)
            state = self.state[parameter]
            found.append((gradient, state["exp_avg"].clone(), state["exp_avg_sq"].clone()))

    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    ast = ast_model.load_ast(str(data / "model"), ["x", "y", "z"], 56, False, seed=1)
    recipe = recipe_of(data, head_init="random", num_steps=3)
    classifier.fit(ast, *noise_splits(), recipe, "cpu", Checkpoint(tmp_path / "checkpoint", "key"))
    assert len(found) == 3
    for gradient, average, squares in found:
        first, second = 0.95 * first + 0.05 * gradient, 0.999 * second + 0.001 * gradient**2
        torch.testing.assert_close(average, first, rtol=1e-5, atol=1e-10)
        torch.testing.assert_close(squares, second, rtol=1e-5, atol=1e-12)
