"""Saved classifiers of every kind, on tones, for what listens with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from transformers import ASTForAudioClassification

from synthio.classification.heads import fit_head
from synthio.classification.labels import encode_labels
from synthio.classification.listening import Listener
from synthio.classification.operating import LISTENING, operating_points
from synthio.classification.pool import save_pool
from synthio.classification.saved import sources
from synthio.classification.tasks import prepare
from synthio.files import write_json
from synthio.manifest import LABEL, read_manifest
from tests.classification.toy_clips import PITCHES, save_named_ast, save_tones
from tests.tiny_models import save_clap

LABELS = sorted(PITCHES)
WINDOW_S = 0.8  # of the heads


def save_world(folder: Path) -> Path:
    """Tones, an AST with names for their labels, and a CLAP: what heads are fitted to."""
    save_named_ast(folder / "ast", LABELS)
    save_clap(folder / "clap")
    for seed, (name, clips) in enumerate([("train", 12), ("valid", 9)]):
        save_tones(folder, name, clips, seed)
    return folder


def save_ast(world: Path, folder: Path, multi_label: bool) -> Path:
    """An AST as ast/train.py saves it (its head is not trained), in a run's classifier folder."""
    save_named_ast(folder / "model", LABELS)
    model = ASTForAudioClassification.from_pretrained(folder / "model")
    model.config.problem_type = f"{'multi' if multi_label else 'single'}_label_classification"
    model.save_pretrained(folder / "model")
    return folder


def save_head(world: Path, folder: Path, name: str, multi_label: bool) -> Path:
    """A head of ast/heads.py, with the operating points of the validation clips, in a run's classifier folder."""
    models = {kind: str(world / kind) for kind in ("ast", "clap")}
    csvs = {split: world / f"{split}.csv" for split in ("train", "valid")}
    tables = {split: read_manifest(csv) for split, csv in csvs.items()}
    targets = {s: encode_labels(t[LABEL], LABELS, csvs[s], multi_label) for s, t in tables.items()}
    options = {"synthetic_weight": 1.0, "multi_label": multi_label, "seed": 0}
    listener = Listener(models, world / "cache", "cpu")
    task = prepare(listener, tables, csvs, targets, LABELS, **options).task
    pool = fit_head(name, task)
    save_pool(pool, folder / "model", {"labels": LABELS, "embeddings": sources(pool, models)})
    logits = pool.logits(task.valid)
    chances = 1 / (1 + np.exp(-logits)) if multi_label else np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    points = operating_points(task.valid_targets, chances, LABELS, multi_label)
    write_json(folder / "model" / LISTENING, {"window_s": WINDOW_S, "ignored": [], "labels": points})
    return folder
