#!/usr/bin/env python3
"""Measure the embedded text-to-audio model: are its clips what they were asked to be?

    python extras/embedded/evaluate.py

For each label of us8k_part and of the demo, clips are generated from "Sound of a <label>": from noise alone
(`generated`), as run.sh does, and from a held-out clip of the label with noise (`varied`). They are
  - scored by CLAP with their own label and with another one drawn at random (the share where the own one wins);
  - named by AST among the labels of their set (an event tagger that was trained apart from CLAP);
  - compared with the held-out clips by AST's embeddings: Fréchet audio distance, and diversity (mean distance).
The same is measured on the held-out recordings or procedural clips themselves, which tells what the judges can do (the
Fréchet distance of one half to the other is as near as sets of that size come), and on these clips after the
autoencoder.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT)]

import numpy as np

from synthio.audio import fit_length
from synthio.captions.pools import label_prompt
from synthio.cli import in_range, new_parser, progress, quiet_libraries, run_main, set_threads
from synthio.report.quality_metrics import frechet_distance, mean_pairwise_distance
from synthio.sounds import DEMO_LABELS, SAMPLE_RATE, make_clip

INIT_NOISE_LEVEL = 0.6  # run.sh's default


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--cache", type=Path, default=ROOT / ".scratch/corpus", help="folder of corpus.py")
    parser.add_argument("--weights", type=Path, default=HERE / "weights", help="folder of the models")
    parser.add_argument("--clips", type=in_range(int, 1), default=16, help="clips a label")
    parser.add_argument("--seed", type=in_range(int, 0), default=0, help="of generation and of the other labels")
    return parser


def generate(
    model,
    labels: list[str],
    seed: int,
    starts: list[np.ndarray] | None = None,
    batch_size: int = 16,
    clip_seconds: float = 4.0,
):
    """One clip [T] for each label, from noise alone, else of its start's length; the seconds that each took."""
    from synthio.generation.sampling import sample

    clips, started = [], time.monotonic()
    for first in progress(range(0, len(labels), batch_size), "evaluate: batches"):
        batch = labels[first : first + batch_size]
        condition = model.condition([label_prompt(label) for label in batch], [clip_seconds] * len(batch))
        options = vars(model.sampling).copy()
        lengths = [round(clip_seconds * SAMPLE_RATE)] * len(batch)
        if starts is not None:
            lengths = [len(clip) for clip in starts[first : first + batch_size]]
            latents = encode(model, starts[first : first + batch_size])
            options |= {"init_latents": latents, "init_noise_level": INIT_NOISE_LEVEL}
        latents = sample(model, condition, [1000 * seed + first + i for i in range(len(batch))], **options)
        clips += [clip[:length].numpy() for clip, length in zip(model.decode(latents)[:, 0], lengths, strict=True)]
    return clips, (time.monotonic() - started) / len(labels)


def encode(model, clips: list[np.ndarray]):
    """Latents [B, D, L] of clips [T], filled up with silence to the model's longest clip."""
    import torch

    longest = round(model.max_seconds * SAMPLE_RATE)
    return model.encode(torch.from_numpy(np.stack([fit_length(clip[None], longest) for clip in clips])))


def own_label_wins(scorer, clips, labels: list[str], seed: int) -> float:
    """Share of the clips whose cosine with their own label is above that with another label drawn at random."""
    names = sorted(set(labels))
    text = dict(zip(names, scorer.embed_text([label_prompt(name) for name in names]), strict=True))
    audio = np.concatenate([scorer.embed_audio([c[None] for c in clips[i : i + 32]]) for i in range(0, len(clips), 32)])
    rng = np.random.default_rng(seed)
    others = [rng.choice([name for name in names if name != label]) for label in labels]
    wins = [a @ text[own] > a @ text[other] for a, own, other in zip(audio, labels, others, strict=True)]
    return float(np.mean(wins))


def hear(tagger, clips) -> tuple[np.ndarray, np.ndarray]:
    """AST's logits [N, C] and pooled embeddings [N, E] of clips [T]."""
    import torch

    model, extractor = tagger
    logits, pooled = [], []
    for clip in clips:
        clip = np.resize(clip, 5 * SAMPLE_RATE)  # repeated to the length of its input
        inputs = extractor(clip - clip.mean(), sampling_rate=SAMPLE_RATE, return_tensors="pt")
        with torch.no_grad():
            body = model.audio_spectrogram_transformer(**inputs).pooler_output
            logits.append(model.classifier(body)[0].numpy())
        pooled.append(body[0].numpy())
    return np.stack(logits), np.stack(pooled)


def recognised(tagger, logits: np.ndarray, labels: list[str]) -> float:
    """Share of the clips, by their logits [N, C], that AST names rightly among the labels of the set."""
    names = sorted(set(labels))
    best = logits[:, [tagger[0].config.label2id[name] for name in names]].argmax(axis=1)
    return float(np.mean([names[i] == label for i, label in zip(best, labels, strict=True)]))


def diversity(pooled: np.ndarray, labels: list[str]) -> float:
    """Mean distance (1 - cosine) of two clips of a label by their embeddings [N, E], a mean over the labels."""
    names = np.array(labels)
    return float(np.mean([mean_pairwise_distance(pooled[names == name]) for name in set(labels)]))


def judge(scorer, tagger, clips, labels: list[str], reference: np.ndarray | None, seed: int):
    """What the judges say of clips [T], by name; and their embeddings [N, E].

    `reference` [M, E] are those of held-out clips; without it, the Fréchet distance is of one half of the clips to the
    other.
    """
    logits, pooled = hear(tagger, clips)
    parts = (pooled[::2], pooled[1::2]) if reference is None else (pooled, reference)
    return {
        "own_label_wins": own_label_wins(scorer, clips, labels, seed),
        "recognised": recognised(tagger, logits, labels),
        "frechet_distance": frechet_distance(*parts),
        "diversity": diversity(pooled, labels),
    }, pooled


def decoded(model, clips: list[np.ndarray]) -> list[np.ndarray]:
    """Clips [T] through the autoencoder and back."""
    import torch

    with torch.no_grad():
        return [model.decode(model.encode(torch.from_numpy(c)[None, None]))[0, 0, : len(c)].numpy() for c in clips]


def clips_of(corpus, rows: np.ndarray) -> tuple[list[np.ndarray], list[str]]:
    """Clips [T] of rows of the corpus, each at its length, and their labels."""
    audio, labels = corpus.waveforms(rows), list(corpus.table["label"].iloc[rows])
    return [clip[: corpus.lengths[row]] for clip, row in zip(audio, rows, strict=True)], labels


def load_tagger(folder: Path):
    """The AST of a folder with its head, and its feature extractor."""
    from transformers import ASTFeatureExtractor, ASTForAudioClassification

    return ASTForAudioClassification.from_pretrained(folder).float().eval(), ASTFeatureExtractor.from_pretrained(folder)


def sets_of(corpus, args) -> dict[str, tuple[list[np.ndarray], list[str]]]:
    """The true clips of each set of labels, and their labels."""
    street = sorted(set(corpus.table["label"].to_numpy()[corpus.train_by_source["us8k_part"]]))
    return {
        "us8k_part": real_clips(corpus, street, args.clips, args.seed),
        "demo": procedural_clips(DEMO_LABELS, args.clips, args.seed),
    }


def real_clips(corpus, names: list[str], count: int, seed: int) -> tuple[list[np.ndarray], list[str]]:
    """Up to `count` held-out recordings of each label, each at its length."""
    rng = np.random.default_rng(seed)
    table, rows = corpus.table, []
    for name in names:
        held = corpus.heldout[(table["label"].to_numpy()[corpus.heldout] == name)]
        held = held[table["source"].to_numpy()[held] == "us8k_part"]
        rows += list(rng.choice(held, min(count, len(held)), replace=False))
    return clips_of(corpus, np.array(rows))


def procedural_clips(names, count: int, seed: int) -> tuple[list[np.ndarray], list[str]]:
    """`count` procedural clips of each label, from seeds that the corpus does not use."""
    labels = [name for name in names for _ in range(count)]
    return [make_clip(n, np.random.default_rng([seed, 0xE0A1, i]), 4.0).audio for i, n in enumerate(labels)], labels


def main() -> int:
    args = get_parser().parse_args()
    from corpus import Corpus

    from synthio.files import write_json
    from synthio.models.load import load_scorer, load_text_to_audio

    quiet_libraries()
    set_threads()
    corpus = Corpus(args.cache)
    model = load_text_to_audio(str(args.weights / "text_to_audio"))
    scorer = load_scorer(str(args.weights / "clap"))
    tagger = load_tagger(args.weights / "ast")
    metrics: dict[str, float] = {}
    for name, (true_clips, true_labels) in sets_of(corpus, args).items():
        found, reference = judge(scorer, tagger, true_clips, true_labels, None, args.seed)
        metrics |= {f"{name}_true_{key}": value for key, value in found.items()}
        clips, seconds = generate(model, true_labels, args.seed)
        varied, _ = generate(model, true_labels, args.seed, true_clips)
        metrics[f"{name}_seconds_per_clip"] = seconds
        for kind, sounds in (("generated", clips), ("varied", varied), ("decoded", decoded(model, true_clips))):
            found, _ = judge(scorer, tagger, sounds, true_labels, reference, args.seed)
            metrics |= {f"{name}_{kind}_{key}": value for key, value in found.items()}
    write_json(args.weights / "text_to_audio/metrics_generated.json", metrics)
    for name, value in metrics.items():
        print(f"{name:40} {value:.3f}")
    return 0


if __name__ == "__main__":
    run_main(main)
