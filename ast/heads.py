#!/usr/bin/env python3
"""Fit classifiers to what frozen models hear, in seconds, and test each once: the baselines of every gain.

    python ast/heads.py --train_csv train.csv --valid_csv valid.csv --test_csv test.csv --output_folder W/heads

A head reads the embeddings of an AST and of a CLAP, what AST's own head calls a clip, or how near CLAP finds it to
prompts that name the labels; `fusion` is all of it, weighed on the validation clips, which also choose penalties and
calibrate the probabilities. `gold_and_valid` is the fusion with the validation clips as training clips. A head whose
models know none of the labels is left out. The test clips are read once all heads are fitted.

Outputs, a folder a head: model/ (config.json, model.safetensors and a card; synthio.classification.saved reads it),
scores.json, predictions.csv, valid_predictions.csv. doubts.csv is of the training clips: how sure a probe that has not
seen a clip is of its label, and what it hears instead; the report shows the most doubtful ones to be heard.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from synthio.classification.options import HEADS_ALONE, Recipe, Scoring
from synthio.classification.script import (
    Evaluation,
    Hearing,
    Result,
    read_splits,
    start_clean,
    write_test_results,
)
from synthio.cli import new_parser, run_main
from synthio.files import EMBEDDED
from synthio.models.classifiers import CLASSIFIER_HELP
from synthio.models.load import SCORER_HELP
from synthio.options import add_options, from_args


def get_parser():
    parser = new_parser(__doc__)
    add_options(parser, Evaluation)
    add = parser.add_argument
    add("--heads", nargs="+", default=["all"], metavar="HEAD", help="all, or the names of some heads")
    add("--clap_model", default=str(EMBEDDED / "clap"), help=SCORER_HELP)
    add("--ast_model", default=str(EMBEDDED / "ast"), help=CLASSIFIER_HELP)
    add_options(parser, Recipe, only=HEADS_ALONE)
    add_options(parser, Hearing)
    return parser


def score_head(args, folder: Path, pool, task, test, tables, labels, targets, details: dict) -> None:
    """Write a head, its scores and what it says of each clip, and print its line."""
    import torch

    from synthio.classification.metrics import probabilities, score_of
    from synthio.classification.pool import save_pool
    from synthio.classification.probe import surprise
    from synthio.classification.saved import sources

    def chances(model, features):
        return probabilities(torch.from_numpy(model.logits(features)), args.multi_label)

    valid = pool.logits(task.valid)
    score = score_of(torch.from_numpy(valid), torch.from_numpy(task.valid_targets), args.multi_label)
    loss = float(surprise(valid, task.valid_targets, args.multi_label).mean())
    models = {"ast": args.ast_model, "clap": args.clap_model}
    save_pool(pool, folder / "model", {"labels": labels, "embeddings": sources(pool, models)})
    result = Result(
        chances(pool, task.valid), chances(pool, test), chances(pool.uncalibrated(), test), pool.temperature
    )
    details = {"head": folder.name, "best_valid": (score, loss), **details}
    record = write_test_results(folder, from_args(Scoring, args), tables, labels, targets, result, details)
    metric = record["metric"]
    print(f"{folder.name}: test {metric} {record[metric]:.3f}, valid {score:.3f}", flush=True)


def write_doubts(folder: Path, table, features, targets, labels, options: dict) -> None:
    """What a probe that has not seen them says of the training clips."""
    from synthio.classification.doubts import CONFIDENCE, DOUBTS, HEARD_AS, HEARD_CONFIDENCE, find_doubts
    from synthio.classification.experts import beside
    from synthio.classification.heads import BOTH
    from synthio.classification.labels import groups_of
    from synthio.classification.script import is_synthetic
    from synthio.manifest import LABEL, PATH, write_table

    choice = {name: options[name] for name in ("multi_label", "seed")}
    found = find_doubts(beside(features, BOTH), targets, labels, is_synthetic(table), groups=groups_of(table), **choice)
    if found is None:
        return
    chances = {CONFIDENCE: found.confidence, HEARD_CONFIDENCE: found.heard_confidence}
    cells = {name: [f"{value:.6f}" if value == value else "" for value in values] for name, values in chances.items()}
    write_table(table[[PATH, LABEL]].assign(**cells, **{HEARD_AS: found.heard_as}), folder / DOUBTS)


def main() -> int:
    args = get_parser().parse_args()
    started = time.monotonic()
    data, hearing = from_args(Evaluation, args), from_args(Hearing, args)
    tables, labels, targets = read_splits(data, args.multi_label)
    device, folder = start_clean(data)
    from synthio.classification.doubts import DOUBTS
    from synthio.classification.heads import HEADS, fit_head, fittable
    from synthio.classification.listening import Listener
    from synthio.classification.tasks import prepare
    from synthio.manifest import PATH
    from synthio.models.classifiers import called

    (folder / DOUBTS).unlink(missing_ok=True)
    for name in HEADS:  # of an earlier run: it must not stand beside these
        shutil.rmtree(folder / name, ignore_errors=True)
    models = {"ast": args.ast_model, "clap": args.clap_model}
    listener = Listener(models, hearing.cache(data.output_folder), device, hearing.batch_size)
    options = {name: getattr(args, name) for name in HEADS_ALONE}
    prepared = prepare(listener, tables, data.csvs, targets, labels, **options)
    read_s = time.monotonic() - started
    names = fittable(prepared.task) if args.heads == ["all"] else args.heads
    pools = {name: fit_head(name, prepared.of(name).task) for name in names}
    fitted_s = time.monotonic() - started - read_s
    write_doubts(folder, tables["train"], prepared.heard, targets["train"], labels, options)
    test = listener.hear(tables["test"][PATH], args.test_csv)
    details = {
        "seconds": {"read": read_s, "train": fitted_s, "test": time.monotonic() - started - read_s - fitted_s},
        "called": called(args.ast_model),
    }
    for name, pool in pools.items():
        weighed = prepared.of(name)
        chosen = {"synthetic_weights": weighed.choice}
        chosen["options"] = {**vars(args), "synthetic_weight": weighed.synthetic_weight, "device": device}
        score_head(args, folder / name, pool, weighed.task, test, tables, labels, targets, details | chosen)
    return 0


if __name__ == "__main__":
    run_main(main)
