#!/usr/bin/env python3
"""Measure whether the embedded models can name what is heard in a clip besides its label.

    python benchmarks/naming.py --clips 300 --seed 910001
    python benchmarks/naming.py --clips 300 --input_csv us8k/test.csv     pairs of real clips, mixed by two

A captioner that named events and scenes would give MixCap more than manners of sounding. Half of the clips hold one
sound besides their label, or more: procedural ones a second event or a scene, as in pretraining but with seeds of their
own; of real ones, two of different labels, the second 0 to 12 dB below. The label of a clip is known, so it is not
asked for. Each other name of AST's own head gets a score, and the best scored ones are named; printed is how many of
the ten surest are right, and the share of all others that is named where .7 and .5 of the names are right. Three
scores: the chance of the name in the whole clip, its highest in windows of 1 s, and that times the chance that CLAP's
cosines give it.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

import numpy as np

from synthio.cli import in_range, new_parser, progress, quiet_libraries, run_main, set_threads
from synthio.files import EMBEDDED

RATE = 16000
WINDOW, HOP = RATE, RATE // 2
FEWEST = 10  # names of which a precision is told
PRECISIONS = (0.7, 0.5)
MIXED_DB = (0.0, 12.0)  # how far the second of two real sounds is below the first

Heard = tuple[np.ndarray, str, set[str]]  # audio [T] at 16 kHz, label, all that is heard


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--clips", type=in_range(int, 2), default=300, help="clips that are asked about")
    parser.add_argument("--seed", type=in_range(int, 0), default=910001, help="of the clips")
    parser.add_argument("--input_csv", default="", help="real clips, path and label; empty: procedural ones")
    return parser


def procedural(clips: int, seed: int) -> list[Heard]:
    """Clips of random labels; every other one has a second event, a scene, or both."""
    from synthio.sounds import labels, make_clip, scenes
    from synthio.sounds.scenes import SCENES

    found: list[Heard] = []
    for number in range(clips):
        rng = np.random.default_rng([seed, number])
        label, second = (str(name) for name in rng.choice(labels(), 2, replace=False))
        scene = str(rng.choice(scenes()))
        kind = rng.integers(3) if number % 2 else -1  # 0: an event, 1: a scene, 2: both
        clip = make_clip(
            label,
            rng,
            float(rng.choice([1.5, 2.5, 4.0, 5.0])),
            background=scene if kind in (1, 2) else None,
            second_event=second if kind in (0, 2) else None,
        )
        found.append((clip.audio, label, {*clip.events, *SCENES.get(clip.background, ())}))
    return found


def real(csv: str, clips: int, seed: int) -> list[Heard]:
    """Recordings; every other one with another of a different label, repeated or cut to its length."""
    from synthio.audio import read_audio
    from synthio.manifest import LABEL, PATH, read_manifest

    table, rng = read_manifest(csv), np.random.default_rng(seed)
    found: list[Heard] = []
    for number in range(clips):
        row = int(rng.integers(len(table)))
        label = table[LABEL][row]
        audio = read_audio(table[PATH][row], RATE)[0].mean(axis=0)
        heard = {label}
        others = np.flatnonzero(table[LABEL] != label)
        if number % 2 and len(others):
            other = int(rng.choice(others))
            second = np.resize(read_audio(table[PATH][other], RATE)[0].mean(axis=0), audio.shape)
            level = np.sqrt(np.mean(audio**2) / max(np.mean(second**2), 1e-12)) * 10 ** (-rng.uniform(*MIXED_DB) / 20)
            audio = audio + level * second
            heard.add(table[LABEL][other])
        found.append(((audio / max(1.0, np.abs(audio).max())).astype(np.float32), label, heard))
    return found


def windows(audio: np.ndarray) -> list[np.ndarray]:
    """Windows [1, t] of 1 s, every half second."""
    return [audio[None, start : start + WINDOW] for start in range(0, max(1, len(audio) - WINDOW + 1), HOP)]


def scores_of(clips: Sequence[Heard]) -> tuple[list[str], dict[str, np.ndarray]]:
    """Names [K] of AST's own head, and the scores [N, K] of each way."""
    from scipy.special import softmax

    from synthio.classification.listening import Listener

    with tempfile.TemporaryDirectory() as cache:
        listener = Listener({kind: str(EMBEDDED / kind) for kind in ("ast", "clap")}, cache, "cpu")
        names, ast, clap = listener.names, listener.ast, listener.clap
        texts = listener.label_vectors(names)
    found: dict[str, list[np.ndarray]] = {"whole": [], "windows": [], "windows and CLAP": []}
    for audio, _, _ in progress(clips, "listening"):
        whole, *parts = softmax(ast.name(ast.embed_audio([audio[None], *windows(audio)])), axis=1)
        cosines = clap.embed_audio([audio[None]])[0] @ texts.T
        best = np.max(parts, axis=0)
        found["whole"].append(whole)
        found["windows"].append(best)
        found["windows and CLAP"].append(best * softmax(clap.cosine_scale * cosines))
    return names, {name: np.stack(rows) for name, rows in found.items()}


def ranked(scores: np.ndarray, names: Sequence[str], labels: Sequence[str], heard: Sequence[set[str]]) -> np.ndarray:
    """Whether each name that is asked for is heard, the surest first; arguments as for `named`."""
    asked = np.array([[name != label for name in names] for label in labels])
    there = np.array([[name in found for name in names] for found in heard])
    return there[asked][np.argsort(-scores[asked], kind="stable")]


def named(
    scores: np.ndarray, names: Sequence[str], labels: Sequence[str], heard: Sequence[set[str]]
) -> Mapping[float, tuple[int, float]]:
    """Precision -> (names given, share of what is heard besides the labels that is named) at the best threshold.

    Args:
        scores: [N, K].
        names: of the K columns.
        labels: of the N clips, which are not asked for.
        heard: all that is heard in each.
    """
    right = np.cumsum(ranked(scores, names, labels, heard))
    precision = right / np.arange(1, len(right) + 1)
    found = {}
    for wanted in PRECISIONS:
        enough = np.flatnonzero(precision >= wanted)
        most = int(enough[-1]) + 1 if len(enough) else 0
        found[wanted] = (most, right[most - 1] / right[-1]) if most >= FEWEST else (0, 0.0)
    return found


def main() -> int:
    args = get_parser().parse_args()
    quiet_libraries()
    set_threads()
    clips = real(args.input_csv, args.clips, args.seed) if args.input_csv else procedural(args.clips, args.seed)
    names, ways = scores_of(clips)
    labels, heard = [clip[1] for clip in clips], [clip[2] for clip in clips]
    more = sum(len(found - {label}) for found, label in zip(heard, labels, strict=True))
    first = np.mean([names[int(row.argmax())] == label for row, label in zip(ways["whole"], labels, strict=True)])
    print(f"{len(clips)} clips, {more} sounds besides their labels; the first name is the label in {first:.0%}")
    for way, scores in ways.items():
        found = named(scores, names, labels, heard)
        text = "; ".join(f"at {p:g} right {share:.1%} are named ({count} names)" for p, (count, share) in found.items())
        print(f"{way:18}{ranked(scores, names, labels, heard)[:FEWEST].sum()} of the {FEWEST} surest right; {text}")
    return 0


if __name__ == "__main__":
    run_main(main)
