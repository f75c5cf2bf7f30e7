#!/usr/bin/env python3
"""Test CLAP without any training: a clip has the label whose prompt, "Sound of a {label}", is nearest to it.

    python ast/zero_shot.py --train_csv train.csv --valid_csv valid.csv --test_csv test.csv \\
        --output_folder W/classifier/zero_shot --clap_model extras/embedded/weights/clap

The training data only say which classes there are. Probabilities are the softmax of scale * cosine over the labels,
for multi-label data the sigmoid. Many a CLAP has heard the recordings of public test sets: such a score is no clean
evidence.

Outputs: scores.json and predictions.csv.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from synthio.cli import new_parser, run_main
from synthio.evaluation import (
    add_embedding_options,
    add_evaluation_options,
    embeddings_folder,
    read_splits,
    start_clean,
    write_test_results,
)
from synthio.models import SCORER_HELP


def get_parser():
    parser = new_parser(__doc__)
    add_evaluation_options(parser)
    parser.add_argument("--clap_model", required=True, help=SCORER_HELP)
    add_embedding_options(parser)
    return parser


def zero_shot_logits(clips, prompts, scale: float):
    """scale * cosine, float64 [N, C], of unit vectors [N, E] of clips and [C, E] of prompts."""
    import torch

    return scale * torch.from_numpy(clips).double() @ torch.from_numpy(prompts).double().T


def main() -> int:
    args = get_parser().parse_args()
    started = time.monotonic()
    tables, labels, targets = read_splits(args)
    import torch

    from synthio.classifier import loss_of, probabilities, score_of
    from synthio.embeddings import EmbeddingCache, embed_clips
    from synthio.manifest import PATH
    from synthio.models import load_scorer
    from synthio.prompts import label_prompt

    device, _ = start_clean(args)
    scorer = load_scorer(args.clap_model, device)
    prompts = scorer.embed_text([label_prompt(label) for label in labels])
    cache = EmbeddingCache(embeddings_folder(args), "clap", args.clap_model)

    def logits(split: str):
        csv = getattr(args, f"{split}_csv")
        clips = embed_clips(cache, lambda: scorer, tables[split][PATH], csv, args.batch_size)
        return zero_shot_logits(clips, prompts, scorer.logit_scale)

    valid, truth = logits("valid"), torch.from_numpy(targets["valid"]).double()
    tested = time.monotonic()
    chances = probabilities(logits("test"), args.multi_label)
    details = {
        "best_valid": (score_of(valid, truth, args.multi_label), float(loss_of(valid, truth, args.multi_label))),
        "seconds": {"read": tested - started, "train": 0.0, "test": time.monotonic() - tested},
        "options": {**vars(args), "device": device},
    }
    write_test_results(args, tables, labels, targets["test"], chances, details)
    return 0


if __name__ == "__main__":
    run_main(main)
