#!/usr/bin/env python3
"""What the embedded text-to-audio model knows, by kind of sound, as heard by a head that had no part in making it.

    python extras/embedded/evaluate_kinds.py

For each source of the corpus, a logistic regression on AST's embeddings of up to 20 training clips a label names the
held-out clips, which tells what it can do, and clips that are generated from "Sound of a <label>" alone. The most and
the least known labels are printed with their shares.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

import numpy as np
from evaluate import clips_of, generate, get_parser

from synthio.cli import quiet_libraries, run_main, set_threads
from synthio.sounds import SAMPLE_RATE

KINDS = ("procedural", "us8k_part", "philharmonia", "soundfont", "espeak")
EXAMPLES = 20  # training clips a label
TESTED = 5  # at most so many held-out clips a label


def parser():
    made = get_parser()
    made.description = __doc__
    made.set_defaults(clips=6)
    return made


def some_of(corpus, kind: str, heldout: bool, most: int, seed: int) -> np.ndarray:
    """Rows of up to `most` clips of each label of a source."""
    rng = np.random.default_rng([seed, heldout])
    rows = corpus.heldout if heldout else corpus.train
    rows = rows[corpus.table["source"].to_numpy()[rows] == kind]
    names = corpus.table["label"].to_numpy()[rows]
    drawn = [rng.permutation(rows[names == name])[:most] for name in sorted(set(names))]
    return np.concatenate(drawn)


def embeddings(embedder, clips: list[np.ndarray]) -> np.ndarray:
    """AST's embeddings [N, E] of clips [T]."""
    parts = range(0, len(clips), 32)
    return np.concatenate([embedder.embed_audio([clip[None] for clip in clips[i : i + 32]]) for i in parts])


def measure(corpus, model, embedder, kind: str, args) -> dict[str, object]:
    """How often the head names held-out and generated clips of a kind rightly, and what it names most and least."""
    import pandas as pd
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    clips, labels = clips_of(corpus, some_of(corpus, kind, False, EXAMPLES, args.seed))
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    head.fit(embeddings(embedder, clips), labels)
    true_clips, true_labels = clips_of(corpus, some_of(corpus, kind, True, TESTED, args.seed))
    asked = [label for label in sorted(set(labels)) for _ in range(args.clips)]
    seconds = float(np.median([len(clip) for clip in clips])) / SAMPLE_RATE
    made, _ = generate(model, asked, args.seed, clip_seconds=seconds)
    right = pd.Series(head.predict(embeddings(embedder, made)) == np.array(asked))
    each = right.groupby(asked).mean().sort_values(ascending=False, kind="stable")
    return {
        "labels": len(each),
        "held_out": float(head.score(embeddings(embedder, true_clips), true_labels)),
        "generated": float(right.mean()),
        "known": list(each.index[:8]),
        "unknown": list(each.index[-8:]),
    }


def main() -> int:
    args = parser().parse_args()
    from corpus import Corpus

    from synthio.models.ast_model import AstEmbedder
    from synthio.models.load import load_text_to_audio

    quiet_libraries()
    set_threads()
    corpus = Corpus(args.cache)
    model = load_text_to_audio(str(args.weights / "text_to_audio"))
    embedder = AstEmbedder(str(args.weights / "ast"))
    for kind in KINDS:
        found = measure(corpus, model, embedder, kind, args)
        print(f"{kind}: {found['labels']} labels, named of held-out clips {found['held_out']:.2f}, ", end="")
        print(f"of generated {found['generated']:.2f}", flush=True)
        print(f"  most: {', '.join(found['known'])}\n  least: {', '.join(found['unknown'])}", flush=True)
    return 0


if __name__ == "__main__":
    run_main(main)
