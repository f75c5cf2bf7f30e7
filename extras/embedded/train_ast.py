#!/usr/bin/env python3
"""Pretrain the embedded AST: transformers' ASTForAudioClassification, 1.8 million parameters.

    python extras/embedded/train_ast.py --cache .scratch/corpus --output weights/ast

Two losses: the events of each clip, mixtures among them, and the statistics of its log-mel spectrogram. The second
makes the pooled output keep what a plain classifier on such statistics reads, which few real labels would teach it.
Prints and stores the accuracy on the held-out fold of us8k_part and on held-out procedural clips.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

import numpy as np
from training import recipe_parser

from synthio.cli import pick_device, progress, quiet_libraries, run_main, set_threads
from synthio.manifest import all_labels, split_labels

FRAMES = 496  # 31 patches of 16 frames, 4.97 s
BANDS = 64  # half of AudioSet's AST, for half the patches
SHORTEST = 96  # frames of the shortest training input


def get_parser():
    return recipe_parser(__doc__, "ast", steps=4000, batch_size=64)


def new_model(names: list[str], seed: int):
    """A small AST with patches that do not overlap: 4 x 31 of them."""
    import torch
    from transformers import ASTConfig, ASTForAudioClassification

    torch.manual_seed(seed)
    config = ASTConfig(
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=768,
        patch_size=16,
        frequency_stride=16,
        time_stride=16,
        max_length=FRAMES,
        num_mel_bins=BANDS,
        num_labels=len(names),
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
    )
    return ASTForAudioClassification(config)


def fbank(waveforms, device: str) -> np.ndarray:
    """Waveforms [B, 80000] -> log-mels [B, FRAMES, BANDS], as ASTFeatureExtractor gives them before normalisation."""
    import torch

    from synthio.fbank import kaldi_fbank

    return kaldi_fbank(torch.as_tensor(waveforms).to(device), BANDS)[:, :FRAMES].cpu().numpy()


def encode_corpus(corpus, path: Path, device: str) -> np.ndarray:
    """Log-mels of every clip, float16 [N, FRAMES, BANDS], computed once and kept in `path`.

    Short clips are repeated, not padded: in training on real clips the input is as long as they are.
    """
    from synthio.files import atomic_path

    if not path.exists():
        count = len(corpus.table)
        out = np.empty((count, FRAMES, BANDS), np.float16)
        for start in progress(range(0, count, 64), "log-mels: batches"):
            rows = np.arange(start, min(start + 64, count))
            out[rows] = fbank(corpus.filled(rows), device)
        with atomic_path(path) as temporary:
            np.save(temporary, out)
    return np.load(path)


def label_matrix(corpus, names: list[str]) -> np.ndarray:
    """Which events are in which clip, float32 [N, labels]."""
    place = {name: i for i, name in enumerate(names)}
    out = np.zeros((len(corpus.table), len(names)), np.float32)
    for row, cell in enumerate(corpus.table["events"]):
        for name in split_labels(cell):
            out[row, place[name]] = 1
    return out


def draw(corpus, mels, matrix, rng, count: int):
    """Log-mels [B, F, BANDS] and the share of each event [B, K]; half of the clips are the sum of two.

    All clips of a batch have the same random length. Sums are taken of energies, as if phases were independent.
    """
    rows, others = corpus.balanced_rows(rng, count), corpus.balanced_rows(rng, count)
    frames = int(rng.choice([FRAMES, FRAMES, 400, 304, 208, SHORTEST]))
    out, labels = np.empty((count, frames, BANDS), np.float32), matrix[rows].copy()
    for i in range(count):
        mel = np.roll(mels[rows[i]], rng.integers(FRAMES), axis=0)[:frames].astype(np.float32)
        if rng.random() < 0.5:
            second = np.roll(mels[others[i]], rng.integers(FRAMES), axis=0)[:frames].astype(np.float32)
            level = np.log(np.exp(mel).mean() / np.exp(second).mean()) - np.log(10) * rng.uniform(0, 0.9)
            mel = np.logaddexp(mel, second + level)
            labels[i] = np.maximum(labels[i], matrix[others[i]])
        out[i] = mel + np.log(10) * rng.uniform(-2.0, 0.6)
    return out, labels / labels.sum(axis=1, keepdims=True)


def describe(mels):
    """Statistics of normalised log-mels [B, F, BANDS] over time, [B, 5 * BANDS].

    Mean, deviation, deviation of the change from frame to frame, and the quietest and loudest tenth.
    """
    import torch

    low, high = torch.quantile(mels, torch.tensor([0.1, 0.9]), dim=1)
    return torch.cat([mels.mean(1), mels.std(1), mels.diff(dim=1).std(1), low, high], dim=1)


def mask_stripes(x, rng):
    """SpecAugment: up to a sixth of the frames and up to 12 bands of each clip set to zero (the mean)."""
    x = x.clone()
    for clip in x:
        for axis, most in ((0, x.shape[1] // 6), (1, 12)):
            width = int(rng.integers(0, most + 1))
            clip.narrow(axis, int(rng.integers(0, clip.shape[axis] - width + 1)), width).zero_()
    return x


def pooled_output(model, x):
    """Output of the two special tokens [B, H] for an input [B, F, BANDS] of any length.

    The position embedding is cut as fine-tuning on shorter clips cuts it, so that such inputs are known to the model.
    """
    from torch.func import functional_call

    from synthio.models.ast_model import resize_positions

    body, config = model.audio_spectrogram_transformer, model.config
    positions = resize_positions(
        body.embeddings.position_embeddings, BANDS // config.patch_size, x.shape[1] // config.patch_size
    )
    return functional_call(body, {"embeddings.position_embeddings": positions}, (x,)).pooler_output


def predict(model, mels) -> np.ndarray:
    """Logits [N, K] of normalised log-mels [N, FRAMES, BANDS]."""
    import torch

    with torch.no_grad():
        return torch.cat([model(part).logits for part in torch.as_tensor(mels).split(32)]).numpy()


def evaluate(model, corpus, mels, names, scale) -> dict[str, float]:
    """Accuracy on held-out clips: among us8k_part's labels on its fold, and among all labels on procedural clips."""
    sources, labels = corpus.table["source"].to_numpy(), corpus.table["label"].to_numpy()
    scores = {}
    for source in ("us8k_part", "procedural"):
        rows = corpus.heldout[sources[corpus.heldout] == source]
        kept = [names.index(name) for name in sorted(set(labels[rows]))]
        best = predict(model, scale(mels[rows].astype(np.float32)))[:, kept].argmax(axis=1)
        scores[f"accuracy_{source}"] = float(
            np.mean([names[kept[i]] == labels[r] for i, r in zip(best, rows, strict=True)])
        )
    return scores


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
    mels = encode_corpus(corpus, args.scratch / "log_mels.npy", pick_device(args.device))
    sample = draw(corpus, mels, matrix, np.random.default_rng([args.seed, 5]), 512)[0]
    mean, std = round(float(sample.mean()), 4), round(float(sample.std()), 4)
    ASTFeatureExtractor(mean=mean, std=std, max_length=FRAMES, num_mel_bins=BANDS).save_pretrained(args.output)

    def scale(x):
        return (torch.as_tensor(x) - mean) / (2 * std)

    targets = describe(scale(sample))
    centre, spread = targets.mean(0), targets.std(0)
    model = new_model(names, args.seed)
    parts = torch.nn.ModuleDict({"ast": model, "describe": torch.nn.Linear(model.config.hidden_size, len(centre))})

    def batch_of(step: int):
        rng = np.random.default_rng([args.seed, 6, step])
        drawn, labels = draw(corpus, mels, matrix, rng, args.batch_size)
        x = scale(drawn)
        return mask_stripes(x, rng), torch.from_numpy(labels), (describe(x) - centre) / spread

    def loss_of(batch):
        x, labels, statistics_of_x = batch
        pooled = pooled_output(model, x)
        events = F.cross_entropy(model.classifier(pooled), labels)
        statistics = F.mse_loss(parts["describe"](pooled), statistics_of_x)
        return {"loss": events + statistics, "events": events, "statistics": statistics}

    def export():
        model.eval()
        save_half(model, args.output)
        scores = evaluate(model, corpus, mels, names, scale)
        write_json(args.output / "metrics.json", scores)
        print(scores, flush=True)
        model.train()

    fit("ast", parts, batch_of, loss_of, args=args, export=export, weight_decay=0.05)
    return 0


if __name__ == "__main__":
    run_main(main)
