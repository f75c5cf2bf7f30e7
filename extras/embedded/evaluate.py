#!/usr/bin/env python3
"""Measure the embedded text-to-audio model: are its clips what they were asked to be?

    python extras/embedded/evaluate.py

For each label of us8k_part and of the demo, clips are generated from "Sound of a <label>" and
  - scored by CLAP with their own label and with another one drawn at random (the share where the own one wins);
  - named by AST among the labels of their set (an event tagger that was trained apart from CLAP).
The same is measured on held-out recordings or procedural clips, which tells what the judges themselves can do, and
AST's accuracy also on recordings that went through the autoencoder and back.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT)]

import numpy as np

from synthio.cli import in_range, new_parser, progress, quiet_libraries, run_main, set_threads
from synthio.prompts import label_prompt
from synthio.sounds import DEMO_LABELS, SAMPLE_RATE, make_clip


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--cache", type=Path, default=ROOT / ".scratch/corpus", help="folder of corpus.py")
    parser.add_argument("--weights", type=Path, default=HERE / "weights", help="folder of the models")
    parser.add_argument("--clips", type=in_range(int, 1), default=16, help="clips a label")
    parser.add_argument("--seed", type=in_range(int, 0), default=0, help="of generation and of the other labels")
    return parser


def generate(model, labels: list[str], seed: int, batch_size: int = 16) -> tuple[list[np.ndarray], float]:
    """One clip [T] of 4 s for each label, and the seconds that a clip took."""
    from synthio.sampling import sample

    clips, started = [], time.monotonic()
    for start in progress(range(0, len(labels), batch_size), "evaluate: batches"):
        batch = labels[start : start + batch_size]
        condition = model.condition([label_prompt(label) for label in batch], [4.0] * len(batch))
        seeds = [1000 * seed + start + i for i in range(len(batch))]
        latents = sample(model, condition, seeds, num_steps=24, cfg_scale=3.0, sampler="euler")
        clips += list(model.decode(latents)[:, 0, : 4 * SAMPLE_RATE].numpy())
    return clips, (time.monotonic() - started) / len(labels)


def own_label_wins(scorer, clips, labels: list[str], seed: int) -> float:
    """Share of the clips whose cosine with their own label is above that with another label drawn at random."""
    names = sorted(set(labels))
    text = dict(zip(names, scorer.embed_text([label_prompt(name) for name in names]), strict=True))
    audio = np.concatenate([scorer.embed_audio([c[None] for c in clips[i : i + 32]]) for i in range(0, len(clips), 32)])
    rng = np.random.default_rng(seed)
    others = [rng.choice([name for name in names if name != label]) for label in labels]
    wins = [a @ text[own] > a @ text[other] for a, own, other in zip(audio, labels, others, strict=True)]
    return float(np.mean(wins))


def recognised(tagger, clips, labels: list[str]) -> float:
    """Share of the clips that AST names rightly among the labels of the set."""
    import torch

    model, extractor = tagger
    names = sorted(set(labels))
    columns = [model.config.label2id[name] for name in names]
    hits = []
    for clip, label in zip(clips, labels, strict=True):
        clip = np.resize(clip, 5 * SAMPLE_RATE)  # repeated, as in its training
        with torch.no_grad():
            logits = model(**extractor(clip - clip.mean(), sampling_rate=SAMPLE_RATE, return_tensors="pt")).logits
        hits.append(names[int(logits[0, columns].argmax())] == label)
    return float(np.mean(hits))


def decoded(model, clips: list[np.ndarray]) -> list[np.ndarray]:
    """Clips [T] through the autoencoder and back."""
    import torch

    with torch.no_grad():
        return [model.decode(model.encode(torch.from_numpy(c)[None, None]))[0, 0, : len(c)].numpy() for c in clips]


def real_clips(corpus, names: list[str], count: int, seed: int) -> tuple[list[np.ndarray], list[str]]:
    """Up to `count` held-out recordings of each label, each at its length."""
    rng = np.random.default_rng(seed)
    table, rows = corpus.table, []
    for name in names:
        held = corpus.heldout[(table["label"].to_numpy()[corpus.heldout] == name)]
        held = held[table["source"].to_numpy()[held] == "us8k_part"]
        rows += list(rng.choice(held, min(count, len(held)), replace=False))
    audio = corpus.waveforms(np.array(rows))
    return [clip[: corpus.lengths[row]] for clip, row in zip(audio, rows, strict=True)], list(table["label"].iloc[rows])


def procedural_clips(names, count: int, seed: int) -> tuple[list[np.ndarray], list[str]]:
    """`count` procedural clips of each label, from seeds that the corpus does not use."""
    labels = [name for name in names for _ in range(count)]
    return [make_clip(n, np.random.default_rng([seed, 0xE0A1, i]), 4.0).audio for i, n in enumerate(labels)], labels


def main() -> int:
    args = get_parser().parse_args()
    from corpus import Corpus
    from transformers import ASTFeatureExtractor, ASTForAudioClassification

    from synthio.files import write_json
    from synthio.models import load_scorer, load_text_to_audio

    quiet_libraries()
    set_threads()
    corpus = Corpus(args.cache)
    model = load_text_to_audio(str(args.weights / "text_to_audio"))
    scorer = load_scorer(str(args.weights / "clap"))
    ast = args.weights / "ast"
    tagger = (ASTForAudioClassification.from_pretrained(ast).float().eval(), ASTFeatureExtractor.from_pretrained(ast))
    street = sorted(set(corpus.table["label"].to_numpy()[corpus.train_by_source["us8k_part"]]))
    sets = {
        "us8k_part": (street, real_clips(corpus, street, args.clips, args.seed)),
        "demo": (list(DEMO_LABELS), procedural_clips(DEMO_LABELS, args.clips, args.seed)),
    }
    metrics: dict[str, float] = {}
    for name, (names, (true_clips, true_labels)) in sets.items():
        labels = [label for label in names for _ in range(args.clips)]
        clips, seconds = generate(model, labels, args.seed)
        for kind, sounds, words in (("generated", clips, labels), ("true", true_clips, true_labels)):
            metrics[f"{name}_{kind}_own_label_wins"] = own_label_wins(scorer, sounds, words, args.seed)
            metrics[f"{name}_{kind}_recognised"] = recognised(tagger, sounds, words)
        metrics[f"{name}_decoded_recognised"] = recognised(tagger, decoded(model, true_clips), true_labels)
        metrics[f"{name}_seconds_per_clip"] = seconds
    write_json(args.weights / "text_to_audio/metrics_generated.json", metrics)
    for name, value in metrics.items():
        print(f"{name:40} {value:.3f}")
    return 0


if __name__ == "__main__":
    run_main(main)
