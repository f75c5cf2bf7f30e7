#!/usr/bin/env python3
"""Train a linear probe on labelled clips and test it once: logistic regression on embeddings of a frozen model.

    python ast/probe.py --train_csv train.csv --valid_csv valid.csv --test_csv test.csv \\
        --output_folder W/classifier/probe --clap_model extras/embedded/weights/clap

With --clap_model and --ast_model both, their embeddings are put side by side. The strength of the penalty is chosen
on the validation clips. The test clips are read and scored once, after that.

Outputs: model/ (model.safetensors with weight [C, E] and bias [C]; config.json; README.md, its card), scores.json,
predictions.csv, and penalties.csv, the validation scores. Probabilities are softmax(embedding @ weight.T + bias), or
the sigmoid for multi-label data.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from synthio.cli import AUTO, UserError, new_parser, number_or_auto, run_main
from synthio.evaluation import (
    add_embedding_options,
    add_evaluation_options,
    embeddings_folder,
    is_synthetic,
    read_splits,
    start_clean,
    write_history,
    write_test_results,
)
from synthio.models import SCORER_HELP
from synthio.weighting import SYNTHETIC_WEIGHT_HELP, describe_choice


def get_parser():
    parser = new_parser(__doc__)
    add_evaluation_options(parser)
    add = parser.add_argument
    add("--clap_model", default="", help=f"{SCORER_HELP}; empty: none")
    add("--ast_model", default="", help="AST folder, hub id or .pth checkpoint; empty: none")
    add("--synthetic_weight", type=number_or_auto(0), default=1.0, help=SYNTHETIC_WEIGHT_HELP)
    add_embedding_options(parser)
    return parser


def chosen_models(args) -> list[tuple[str, str]]:
    """(kind, model) of each model asked for.

    Raises:
        UserError: none is.
    """
    chosen = [(kind, model) for kind, model in (("clap", args.clap_model), ("ast", args.ast_model)) if model]
    if not chosen:
        raise UserError("nothing to put the probe on; give --clap_model, --ast_model, or both")
    return chosen


def probe_config(args, labels: list[str], c: float) -> dict:
    """What config.json says of the model."""
    from synthio.files import fingerprint
    from synthio.probe import KIND

    return {
        "kind": KIND,
        "embeddings": [{"kind": k, "model": m, "sha256": fingerprint(m)} for k, m in chosen_models(args)],
        "labels": labels,
        "multi_label": args.multi_label,
        "C": c,
    }


def settle_rates(args, train, valid, synthetic) -> tuple:
    """How much each training clip counts [N], the weight of a synthetic one, and how it was chosen."""
    from synthio.weighting import choose_synthetic_weight, draw_rates

    weight, choice = args.synthetic_weight, []
    if weight == AUTO:
        weight, choice = choose_synthetic_weight(train, valid, synthetic, args.multi_label)
    if choice:
        print(describe_choice(weight, choice), file=sys.stderr, flush=True)
    return draw_rates(synthetic, weight), weight, choice


def main() -> int:
    args = get_parser().parse_args()
    started = time.monotonic()
    tables, labels, targets = read_splits(args)
    import torch

    from synthio.classifier import probabilities
    from synthio.manifest import PATH
    from synthio.probe import choose_probe, make_embed, save_probe

    device, folder = start_clean(args)
    embed = make_embed(chosen_models(args), embeddings_folder(args), device, args.batch_size)
    train, valid = ((embed(tables[s][PATH], getattr(args, f"{s}_csv")), targets[s]) for s in ("train", "valid"))
    read_s = time.monotonic() - started
    rates, weight, choice = settle_rates(args, train, valid, is_synthetic(tables["train"]))
    probe, best, history = choose_probe(train, valid, args.multi_label, rates)
    write_history(folder / "penalties.csv", history, args.multi_label)
    save_probe(probe, folder / "model", probe_config(args, labels, best["C"]))

    tested = time.monotonic()
    logits = torch.from_numpy(probe.logits(embed(tables["test"][PATH], args.test_csv)))
    chances = probabilities(logits, args.multi_label)
    details = {
        "best_C": best["C"],
        "best_valid": (best["valid_score"], best["valid_loss"]),
        "seconds": {"read": read_s, "train": tested - started - read_s, "test": time.monotonic() - tested},
        "synthetic_weights": choice,
        "options": {**vars(args), "synthetic_weight": weight, "device": device},
    }
    write_test_results(args, tables, labels, targets["test"], chances, details)
    return 0


if __name__ == "__main__":
    run_main(main)
