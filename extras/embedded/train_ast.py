#!/usr/bin/env python3
"""Pretrain the embedded AST: transformers' ASTForAudioClassification, 1.6 million parameters, as an event tagger.

    python extras/embedded/train_ast.py --cache .scratch/corpus --output weights/ast

Multi-label tagging over all labels of the corpus, with mixup of waveforms and SpecAugment. Prints and stores the
accuracy on the held-out fold of us8k_part and the mean average precision on held-out procedural clips.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

import numpy as np

from synthio.cli import in_range, new_parser, quiet_libraries, run_main, set_threads
from synthio.manifest import all_labels, split_labels

HERE = Path(__file__).resolve().parent
FRAMES = 496  # 31 patches of 16 frames, 4.97 s


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--cache", type=Path, default=ROOT / ".scratch/corpus", help="folder of corpus.py")
    parser.add_argument("--output", type=Path, default=HERE / "weights/ast", help="output folder")
    parser.add_argument("--scratch", type=Path, default=ROOT / ".scratch", help="checkpoint and log")
    parser.add_argument("--steps", type=in_range(int, 1), default=1500, help="optimiser steps")
    parser.add_argument("--batch_size", type=in_range(int, 2), default=16, help="clips a step")
    parser.add_argument("--learning_rate", type=in_range(float, 0), default=5e-4, help="peak")
    parser.add_argument("--seed", type=in_range(int, 0), default=0, help="of everything random")
    return parser


def new_model(names: list[str], seed: int):
    """A small AST with patches that do not overlap: 8 x 31 of them."""
    import torch
    from transformers import ASTConfig, ASTForAudioClassification

    torch.manual_seed(seed)
    config = ASTConfig(
        hidden_size=144,
        num_hidden_layers=6,
        num_attention_heads=3,
        intermediate_size=576,
        patch_size=16,
        frequency_stride=16,
        time_stride=16,
        max_length=FRAMES,
        num_mel_bins=128,
        num_labels=len(names),
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
        problem_type="multi_label_classification",
    )
    return ASTForAudioClassification(config)


def features(waveforms, mean: float, std: float):
    """Waveforms [B, 80000] -> normalised log-mels [B, FRAMES, 128], as ASTFeatureExtractor gives them."""
    import torch

    from synthio.fbank import kaldi_fbank

    return ((kaldi_fbank(torch.as_tensor(waveforms)) - mean) / (2 * std))[:, :FRAMES]


def centred(audio: np.ndarray) -> np.ndarray:
    """Remove the mean of each waveform."""
    return audio - audio.mean(axis=1, keepdims=True)


def label_matrix(corpus, names: list[str]) -> np.ndarray:
    """Which events are in which clip, float32 [N, labels]."""
    place = {name: i for i, name in enumerate(names)}
    out = np.zeros((len(corpus.table), len(names)), np.float32)
    for row, cell in enumerate(corpus.table["events"]):
        for name in split_labels(cell):
            out[row, place[name]] = 1
    return out


def draw(corpus, matrix, rng, count: int):
    """Waveforms [B, 80000] and labels [B, K]; half of the clips are the sum of two, with the labels of both.

    Short clips are repeated, not padded: in training on real clips the input is as long as they are.
    """
    rows, others = corpus.balanced_rows(rng, count), corpus.balanced_rows(rng, count)
    audio, second, labels = corpus.filled(rows), corpus.filled(others), matrix[rows].copy()
    for i in range(count):
        audio[i] = np.roll(audio[i], rng.integers(audio.shape[1])) * 10 ** (rng.uniform(-15, 6) / 20)
        if rng.random() < 0.5:
            loud = np.sqrt(np.mean(audio[i] ** 2) / (np.mean(second[i] ** 2) + 1e-9))
            audio[i] += np.roll(second[i], rng.integers(second.shape[1])) * loud * 10 ** (-rng.uniform(0, 9) / 20)
            labels[i] = np.maximum(labels[i], matrix[others[i]])
    return centred(audio), labels


def mask_stripes(x, rng):
    """SpecAugment: up to 80 frames and up to 24 bands of each clip set to zero (the mean)."""
    for i in range(len(x)):
        start = rng.integers(0, x.shape[1] - 80)
        x[i, start : start + rng.integers(0, 80)] = 0
        start = rng.integers(0, x.shape[2] - 24)
        x[i, :, start : start + rng.integers(0, 24)] = 0
    return x


def predict(model, corpus, rows, mean: float, std: float) -> np.ndarray:
    """Logits [len(rows), K] of clips as they are."""
    import torch

    with torch.no_grad():
        parts = [
            model(features(centred(corpus.filled(rows[i : i + 32])), mean, std)).logits for i in range(0, len(rows), 32)
        ]
    return torch.cat(parts).numpy()


def evaluate(model, corpus, matrix, names, mean: float, std: float) -> dict[str, float]:
    """Accuracy among us8k_part's labels on its held-out fold; mAP on held-out procedural clips."""
    from sklearn.metrics import average_precision_score

    sources = corpus.table["source"].to_numpy()
    rows = corpus.heldout[sources[corpus.heldout] == "us8k_part"]
    labels = corpus.table["label"].to_numpy()[rows]
    kept = [names.index(name) for name in sorted(set(labels))]
    best = [names[kept[i]] for i in predict(model, corpus, rows, mean, std)[:, kept].argmax(axis=1)]
    made = corpus.heldout[sources[corpus.heldout] == "procedural"]
    seen = matrix[made].any(axis=0)
    precision = average_precision_score(matrix[made][:, seen], predict(model, corpus, made, mean, std)[:, seen])
    accuracy = float(np.mean([b == label for b, label in zip(best, labels, strict=True)]))
    return {"accuracy_us8k_part": accuracy, "map_procedural": float(precision)}


def main() -> int:
    args = get_parser().parse_args()
    import torch
    import torch.nn.functional as F
    from corpus import Corpus
    from training import fit, save_half
    from transformers import ASTFeatureExtractor

    from synthio.files import write_json

    quiet_libraries()
    set_threads()
    corpus = Corpus(args.cache)
    names = all_labels(corpus.table["events"])
    matrix = label_matrix(corpus, names)
    sample = corpus.filled(corpus.balanced_rows(np.random.default_rng([args.seed, 5]), 256))
    raw = features(centred(sample), 0.0, 0.5)
    mean, std = round(float(raw.mean()), 4), round(float(raw.std()), 4)
    model = new_model(names, args.seed)
    extractor = ASTFeatureExtractor(mean=mean, std=std, max_length=FRAMES, num_mel_bins=128)
    extractor.save_pretrained(args.output)

    def loss_of(step: int):
        rng = np.random.default_rng([args.seed, 6, step])
        audio, labels = draw(corpus, matrix, rng, args.batch_size)
        logits = model(mask_stripes(features(audio, mean, std), rng)).logits
        # Most labels are absent from most clips; summing over labels keeps the gradient of the present ones alive.
        loss = F.binary_cross_entropy_with_logits(logits, torch.from_numpy(labels), reduction="none").sum(1).mean()
        return {"loss": loss}

    def export():
        model.eval()
        save_half(model, args.output)
        scores = evaluate(model, corpus, matrix, names, mean, std)
        write_json(args.output / "metrics.json", scores)
        print(scores, flush=True)
        model.train()

    rate = {"steps": args.steps, "peak_lr": args.learning_rate, "weight_decay": 0.05}
    fit("ast", model, loss_of, scratch=args.scratch, export=export, **rate)
    return 0


if __name__ == "__main__":
    run_main(main)
