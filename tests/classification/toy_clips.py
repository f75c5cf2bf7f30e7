"""A tiny AST and tones to train it on, one pitch a label."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, ASTModel

from synthio.audio import write_wav
from tests.scripts import ROOT

TRAIN = ROOT / "ast" / "train.py"
RATE = 16000
CLIPS = {"train": 24, "valid": 12, "test": 15}  # of a split
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


def save_problem(folder: Path, sizes: Mapping[str, int] = CLIPS) -> Path:
    """Model and train, valid, test CSVs of a separable toy problem."""
    save_tiny_ast(folder / "model")
    for seed, (name, clips) in enumerate(sizes.items()):
        save_tones(folder, name, clips, seed)
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


def add_mislabelled(folder: Path, clips: int, seed: int) -> Path:
    """train.csv of the folder and synthetic clips whose labels are wrong."""
    csvs = (folder / "train.csv", save_tones(folder, "mislabelled", clips, seed, swap=True))
    gold, wrong = (pd.read_csv(path, dtype=str, keep_default_na=False) for path in csvs)
    pd.concat([gold.assign(source_path=""), wrong.assign(source_path="x.wav")]).to_csv(
        folder / "mixed.csv", index=False
    )
    return folder / "mixed.csv"
