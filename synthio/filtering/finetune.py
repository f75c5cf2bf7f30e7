"""Fine-tuning of a CLAP on labelled clips: what a batch is, the loss, and the choice of the step."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from synthio.audio import BadAudio, cut_windows, read_audio
from synthio.captions.pools import label_prompt
from synthio.cli import UserError, progress
from synthio.data.contents import check_contents
from synthio.files import stable_seed
from synthio.filtering.options import FinetuneOptions
from synthio.manifest import PATH, class_of, prompt_cells, read_manifest
from synthio.training.loop import (
    Checkpoint,
    Parts,
    State,
    Tensors,
    batch_rows,
    check_finite,
    descend,
    learning_rate_factor,
    train,
)

MAX_WINDOWS = 6  # of a long clip, evenly spread: a minute of one clip teaches little more
EVAL_BATCH = 16
WARMUP = 0.1


@dataclass(frozen=True)
class Clips:
    """The clips of one CSV, ready for the model.

    Attributes:
        features: of each clip, what CLAP reads of its windows, [W, ...].
        labels: number of each clip's class.
        texts: "Sound of a {label}" of each class.
    """

    features: list[torch.Tensor]
    labels: list[int]
    texts: list[str]


def read_clips(csv: str, scorer) -> Clips:
    """Read and cut every clip; a class is a label cell.

    Raises:
        UserError: no clips, or one that cannot be used.
    """
    table = read_manifest(csv)
    check_contents(table, csv)
    if table.empty:
        raise UserError(f"{csv}: no clips to fine-tune on")
    features = []
    for row, path in enumerate(progress(table[PATH], f"clips of {Path(csv).name}"), 1):
        try:
            audio, _ = read_audio(path, scorer.sample_rate)
        except BadAudio as error:
            raise UserError(f"{csv} row {row}: {path}: {error}") from None
        features.append(window_features(audio, scorer))
    classes = [class_of(cell) for cell in prompt_cells(table)]
    names = sorted(set(classes))
    return Clips(features, [names.index(name) for name in classes], [label_prompt(name) for name in names])


def window_features(audio, scorer) -> torch.Tensor:
    """Mono audio [1, T] -> what CLAP reads of its windows, [W, ...]."""

    windows = cut_windows(audio, round(scorer.window_s * scorer.sample_rate))[:, 0]
    chosen = np.linspace(0, len(windows) - 1, min(len(windows), MAX_WINDOWS)).round().astype(int)
    return scorer.features(windows[chosen])


def contrastive_loss(audio: torch.Tensor, texts: torch.Tensor, labels: torch.Tensor, scale: float) -> torch.Tensor:
    """Symmetric cross-entropy of the scaled cosines, where every clip of a label is right for its text.

    Args:
        audio: unit vectors [B, E].
        texts: unit vectors [K, E], one for each class that occurs in `labels`.
        labels: class of each clip, int64 [B] in 0..K-1.
        scale: of the cosines.

    Returns:
        The mean of clip -> text (one right text) and text -> clip (mean over its right clips).
    """
    logits = scale * audio @ texts.T  # [B, K]
    is_right = functional.one_hot(labels, len(texts)).to(logits.dtype)
    to_clips = -(is_right * logits.log_softmax(dim=0)).sum(dim=0) / is_right.sum(dim=0)
    return (functional.cross_entropy(logits, labels) + to_clips.mean()) / 2


def draw_batch(clips: Clips, options: FinetuneOptions, step: int) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """(a random window of each clip of the batch, their classes, texts of these classes), from (seed, step) alone."""

    rng = np.random.default_rng(stable_seed(options.seed, "clap window", step))
    rows = batch_rows(len(clips.features), options.batch_size, step, options.seed)
    windows = [clips.features[row][rng.integers(len(clips.features[row]))] for row in rows]
    present, labels = np.unique([clips.labels[row] for row in rows], return_inverse=True)
    return torch.stack(windows), torch.from_numpy(labels), [clips.texts[k] for k in present]


def train_step(scorer, optimizer, clips: Clips, options: FinetuneOptions, step: int) -> float:
    """One optimiser step (from 0); returns the loss.

    Raises:
        UserError: the loss is not finite.
    """
    windows, labels, texts = draw_batch(clips, options, step)
    audio, text = scorer.audio_vectors(windows), scorer.text_vectors(texts)
    loss = contrastive_loss(audio, text, labels.to(scorer.device), scorer.logit_scale)
    check_finite(loss, "loss", step)
    descend(optimizer, loss, options.learning_rate * learning_rate_factor(step, options.num_steps, WARMUP))
    return loss.item()


def evaluate(scorer, clips: Clips) -> tuple[float, float]:
    """(loss, zero-shot accuracy) over whole clips, the mean of their windows, as the filter hears them."""
    with torch.no_grad():
        windows = torch.cat(clips.features)
        vectors = torch.cat([scorer.audio_vectors(part) for part in windows.split(EVAL_BATCH)])
        means = [part.mean(dim=0) for part in vectors.split([len(part) for part in clips.features])]
        audio = functional.normalize(torch.stack(means), dim=-1)
        text = scorer.text_vectors(clips.texts)
        labels = torch.tensor(clips.labels, device=audio.device)
        loss = contrastive_loss(audio, text, labels, scorer.logit_scale)
        return loss.item(), ((audio @ text.T).argmax(dim=1) == labels).double().mean().item()


@dataclass
class Tuning(State):
    """A fine-tuning; `history` has its evaluations, `best` the weights of the best one."""

    best: dict[str, torch.Tensor] = field(default_factory=dict)

    def best_row(self) -> dict[str, Any]:
        """The evaluation with the lowest validation loss; the earliest of equal ones."""
        return min(self.history, key=lambda row: row["valid_loss"])

    def is_stuck(self, patience: int) -> bool:
        """Whether the last `patience` evaluations brought nothing better."""
        return len(self.history) - 1 - self.history.index(self.best_row()) >= patience


def record(state: Tuning, scorer, valid: Clips, train_loss: float | None) -> None:
    """Evaluate, and keep the weights if they are the best so far."""
    loss, accuracy = evaluate(scorer, valid)
    row = {"step": state.step, "train_loss": train_loss, "valid_loss": loss, "valid_accuracy": accuracy}
    state.history.append(row)
    if state.best_row() is row:
        state.best = {name: p.detach().cpu().clone() for name, p in scorer.trainable.items()}
    print(f"step {state.step}: validation loss {loss:.4f}, zero-shot accuracy {accuracy:.3f}", file=sys.stderr)


def fit(scorer, clips: Clips, valid: Clips, options: FinetuneOptions, checkpoint: Checkpoint) -> Tuning:
    """Train, and leave the weights of the best validation loss in the model.

    Raises:
        UserError: the loss is not finite.
    """
    weights = Tensors(scorer.trainable)
    for parameter in scorer.trainable.values():
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(scorer.trainable.values(), weight_decay=options.weight_decay)
    state = Tuning()
    parts: Parts = {"weights": weights, "optimizer": optimizer}
    checkpoint.load(state, parts)
    if not state.history:
        record(state, scorer, valid, None)
    train(
        state,
        parts,
        checkpoint,
        options.num_steps,
        options.eval_every,
        lambda step: train_step(scorer, optimizer, clips, options, step),
        evaluate=lambda losses: record(state, scorer, valid, sum(losses) / len(losses)),
        is_over=lambda: state.is_stuck(options.patience),
        what="finetune: steps",
    )
    weights.load_state_dict(state.best)
    return state
