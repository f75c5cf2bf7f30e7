#!/usr/bin/env python3
"""Compare the distilled weights of the embedded text-to-audio model with its own, 24 steps with guidance.

    python extras/embedded/compare_distilled.py --draws 3

For each label of us8k_part and of the demo, as in evaluate.py, clips are generated from "Sound of a <label>" in both
ways, from the same noise; with --adapter a third way is the adapter on the model's own weights and a fourth the same
on the distilled ones. Of each set of clips: the share that AST names, the Fréchet and the kernel distance of AST's
embeddings to the held-out clips, and the diversity, each with its standard error over a set (the jackknife's, over
labels for the diversity), as means over the draws. The time is that of sampling and decoding on one core.

What was heard of a draw is kept in --scratch, so that the script goes on where it stopped.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

import numpy as np
from evaluate import diversity, generate, get_parser, hear, load_tagger, recognised, sets_of

from synthio.cli import in_range, quiet_libraries, run_main, set_threads
from synthio.report.quality_metrics import frechet_distance, kernel_distance, median_distance


def parser():
    made = get_parser()
    made.description = __doc__
    made.add_argument("--draws", type=in_range(int, 1), default=3, help="seeds")
    made.add_argument("--adapter", default="", help="folder of an adapter that was trained on the own weights")
    made.add_argument("--sets", nargs="+", choices=("us8k_part", "demo"), default=["us8k_part", "demo"], help="labels")
    made.add_argument("--scratch", type=Path, default=ROOT / ".scratch/compared", help="what was heard of each draw")
    return made


def jackknife(value_without, count: int) -> float:
    """Standard error of a value of `count` parts; value_without(i) is that of all but the i-th."""
    values = np.array([value_without(i) for i in range(count)])
    return float(np.sqrt((count - 1) * values.var()))


def frechet_error(pooled: np.ndarray, reference: np.ndarray) -> float:
    """Standard error of the Fréchet distance over the clips of the set, [N, E] to [M, E]."""
    return jackknife(lambda i: frechet_distance(np.delete(pooled, i, axis=0), reference), len(pooled))


def diversity_error(pooled: np.ndarray, labels: list[str]) -> float:
    """Standard error of `diversity` over the labels."""
    names, values = np.array(labels), []
    for name in sorted(set(labels)):
        rows = names == name
        values.append(diversity(pooled[rows], list(names[rows])))
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def judged(tagger, heard: dict, labels: list[str], reference: np.ndarray) -> dict[str, float]:
    """Each measure of a set of clips that was heard, and its standard error as <name>_se."""
    share = recognised(tagger, heard["logits"], labels)
    distance, error = kernel_distance(heard["pooled"], reference, median_distance(reference))
    return {
        "recognised": share,
        "recognised_se": float(np.sqrt(share * (1 - share) / len(labels))),
        "frechet_distance": frechet_distance(heard["pooled"], reference),
        "frechet_distance_se": frechet_error(heard["pooled"], reference),
        "kernel_distance": distance,
        "kernel_distance_se": error,
        "diversity": diversity(heard["pooled"], labels),
        "diversity_se": diversity_error(heard["pooled"], labels),
        "seconds_per_clip": float(heard["seconds"]),
    }


def hear_draw(make_model, tagger, labels: list[str], draw: int, file: Path) -> dict:
    """AST's logits and embeddings of a draw's clips, and the seconds that each took; from `file` if it is there."""
    from synthio.files import atomic_path

    if not file.exists():
        began = time.process_time()
        clips, _ = generate(make_model(), labels, draw)
        seconds = (time.process_time() - began) / len(labels)
        logits, pooled = hear(tagger, clips)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, logits=logits, pooled=pooled, seconds=seconds)
    return dict(np.load(file))


def ways_of(args) -> dict:
    """What is compared: a function that loads each model, by name."""
    from functools import cache, partial

    from synthio.models.load import load_text_to_audio

    load = partial(load_text_to_audio, str(args.weights / "text_to_audio"))
    ways = {"own": cache(load), "distilled": cache(partial(load, distilled=True))}
    if args.adapter:
        name = Path(args.adapter).name
        ways[f"own_{name}"] = cache(partial(load, args.adapter))
        ways[f"distilled_{name}"] = cache(partial(load, args.adapter, distilled=True))
    return ways


def main() -> int:
    args = parser().parse_args()
    from corpus import Corpus

    from synthio.files import write_json

    quiet_libraries()
    set_threads()
    tagger, sets, metrics = load_tagger(args.weights / "ast"), sets_of(Corpus(args.cache), args), {}
    for name in args.sets:
        true_clips, labels = sets[name]
        reference = hear(tagger, true_clips)[1]
        for way, make_model in ways_of(args).items():
            files = [args.scratch / f"{name}_{way}_{draw}.npz" for draw in range(args.draws)]
            heard = [hear_draw(make_model, tagger, labels, draw, file) for draw, file in enumerate(files)]
            found = [judged(tagger, one, labels, reference) for one in heard]
            means = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
            metrics |= {f"{name}_{way}_{key}": value for key, value in means.items()}
            print(name, way, {key: round(value, 3) for key, value in means.items()}, flush=True)
    name = f"metrics_distilled_{Path(args.adapter).name}.json" if args.adapter else "metrics_distilled.json"
    write_json(args.weights / "text_to_audio" / name, metrics)
    return 0


if __name__ == "__main__":
    run_main(main)
