#!/usr/bin/env python3
"""Train a linear probe on labelled clips and test it once: logistic regression on embeddings of a frozen model.

    python ast/probe.py --train_csv train.csv --valid_csv valid.csv --test_csv test.csv \\
        --output_folder W/classifier/probe --clap_model extras/embedded/weights/clap

With --clap_model and --ast_model both, their embeddings are put side by side. The strength of the penalty is chosen
on the validation clips. The test clips are read and scored once, after that.

Outputs: model/ (model.safetensors with weight [C, E] and bias [C]; config.json), scores.json, predictions.csv, and
penalties.csv, the validation scores. Probabilities are softmax(embedding @ weight.T + bias), or the sigmoid for
multi-label data.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from synthio.cli import UserError, in_range, new_parser, pick_device, quiet_libraries, run_main, set_threads
from synthio.evaluation import (
    add_evaluation_options,
    read_splits,
    start_clean,
    write_history,
    write_test_results,
)
from synthio.models import SCORER_HELP


def get_parser():
    parser = new_parser(__doc__)
    add_evaluation_options(parser)
    add = parser.add_argument
    add("--clap_model", default="", help=f"{SCORER_HELP}; empty: none")
    add("--ast_model", default="", help="AST folder, hub id or .pth checkpoint; empty: none")
    add("--cache_folder", default="", help="folder that keeps embeddings; empty: <output_folder>/embeddings")
    add("--batch_size", type=in_range(int, 1), default=16, help="clips embedded at once")
    return parser


def embedders(args, device: str):
    """(kind, model, function that loads it) of each model asked for.

    Raises:
        UserError: none is.
    """
    from synthio.models import load_scorer
    from synthio.models.ast_model import AstEmbedder

    known = [("clap", args.clap_model, load_scorer), ("ast", args.ast_model, AstEmbedder)]
    chosen = [(kind, model, partial(load, model, device=device)) for kind, model, load in known if model]
    if not chosen:
        raise UserError("nothing to put the probe on; give --clap_model, --ast_model, or both")
    return chosen


def make_embed(args, device: str):
    """A function from (table, csv) to the embeddings float32 [N, E] of its clips."""
    import numpy as np

    from synthio.embeddings import EmbeddingCache, embed_clips
    from synthio.manifest import PATH

    folder = Path(args.cache_folder or Path(args.output_folder) / "embeddings")
    sources = [(EmbeddingCache(folder, kind, model), load) for kind, model, load in embedders(args, device)]

    def embed(table, csv: str):
        parts = [embed_clips(cache, load, table[PATH], csv, args.batch_size) for cache, load in sources]
        return np.concatenate(parts, axis=1)

    return embed


def probe_config(args, labels: list[str], c: float) -> dict:
    """What config.json says of the model."""
    from synthio.files import fingerprint

    models = [("clap", args.clap_model), ("ast", args.ast_model)]
    return {
        "kind": "linear probe",
        "embeddings": [{"kind": k, "model": m, "sha256": fingerprint(m)} for k, m in models if m],
        "labels": labels,
        "multi_label": args.multi_label,
        "C": c,
    }


def main() -> int:
    args = get_parser().parse_args()
    started = time.monotonic()
    tables, labels, targets = read_splits(args)
    import torch

    from synthio.classifier import probabilities
    from synthio.probe import choose_probe, save_probe

    quiet_libraries()
    set_threads()
    device, folder = pick_device(args.device), Path(args.output_folder)
    start_clean(folder)
    embed = make_embed(args, device)
    train, valid = ((embed(tables[s], getattr(args, f"{s}_csv")), targets[s]) for s in ("train", "valid"))
    read_s = time.monotonic() - started
    probe, best, history = choose_probe(train, valid, args.multi_label)
    write_history(folder / "penalties.csv", history, args.multi_label)
    save_probe(probe, folder / "model", probe_config(args, labels, best["C"]))

    tested = time.monotonic()
    logits = torch.from_numpy(probe.logits(embed(tables["test"], args.test_csv)))
    chances = probabilities(logits, args.multi_label)
    details = {
        "best_C": best["C"],
        "best_valid": (best["valid_score"], best["valid_loss"]),
        "seconds": {"read": read_s, "train": tested - started - read_s, "test": time.monotonic() - tested},
        "options": {**vars(args), "device": device},
    }
    write_test_results(args, tables, labels, targets["test"], chances, details)
    return 0


if __name__ == "__main__":
    run_main(main)
