#!/usr/bin/env python3
"""Train AST, or another classifier of transformers, on labelled clips and test it once.

    python ast/train.py --train_csv train.csv --valid_csv valid.csv --test_csv test.csv \\
        --output_folder W/classifier/synthio

The step is chosen on the validation clips: the one of the lowest loss after calibration. With --wise_ft_alpha below 1
the weights of a step are averaged with those at the start before they are scored, and so are those that are kept;
"auto" tries several shares. Training ends early where --patience evaluations in a row bring nothing better. The test
clips are read and scored once, after training. A run that was killed goes on from its last evaluation when it is
started again with the same options and data. A training that --finished_folder has done already, as where no synthetic
clip comes, is not done again.

Outputs: model/ (for transformers.pipeline("audio-classification"), with a card, README.md), scores.json,
predictions.csv, history.csv, finished.pt (for --finished_folder).
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from synthio.classification.options import Recipe, TakingOver
from synthio.classification.script import (
    Evaluation,
    is_synthetic,
    print_score,
    read_splits,
    start_clean,
    write_history,
    write_test_results,
)
from synthio.classification.weighting import describe_choice
from synthio.cli import UserError, compile_network, new_parser, pick_device, run_main
from synthio.files import EMBEDDED
from synthio.models.classifiers import CALLED, CLASSIFIER_HELP, NOT_COMPILED, is_ast
from synthio.options import Compiling, add_options, from_args
from synthio.training.tracking import Tracking, open_tracker


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--model", default=str(EMBEDDED / "ast"), help=CLASSIFIER_HELP)
    for options in (Evaluation, Recipe, TakingOver, Compiling, Tracking):
        add_options(parser, options)
    return parser


def make_recipe(args, clips: int) -> Recipe:
    """Fill in the numbers that depend on the number of training clips, and on each other.

    Raises:
        UserError: mixup with SupCon.
    """
    recipe = from_args(Recipe, args)
    if recipe.supcon and recipe.mixup > 0:
        raise UserError("--supcon asks which clips share a label, and --mixup blends the labels; choose one of them")
    num_steps = recipe.steps_of(recipe.epochs, clips) if recipe.epochs else recipe.num_steps
    return replace(
        recipe,
        num_steps=num_steps,
        eval_every=recipe.eval_every or max(1, num_steps // 20),
        supcon_weight=recipe.supcon_weight if recipe.supcon else 0.0,
        supcon_epochs=recipe.supcon_epochs if recipe.supcon else 0.0,
        wise_ft_alpha=recipe.wise_ft_alpha if recipe.head_init != "random" else 1.0,
    )


def run_key(args, recipe, device: str, tables, labels) -> str:
    """Hash of everything that shapes the weights: the recipe as `settle_weights` leaves it, the clips that come at all.

    Paths are not in it, so the folders may be moved. Where no synthetic clip comes, their weight says nothing.
    """
    from synthio.files import fingerprint, sha256_file, sha256_value
    from synthio.manifest import LABEL, PATH, versions

    known = {k: v for k, v in versions().items() if k != "git"}
    synthetic = is_synthetic(tables["train"])
    comes = ~synthetic | (recipe.synthetic_weight > 0)
    if not synthetic[comes].any():
        recipe = replace(recipe, synthetic_weight=0.0)
    heard = [tables["train"][comes], tables["valid"]]
    clips = [[[sha256_file(path) for path in table[PATH]], list(table[LABEL])] for table in heard]
    made, model = synthetic[comes].tolist(), fingerprint(args.model)
    return sha256_value([vars(recipe), made, model, device.partition(":")[0], labels, clips, known])


def take_over_finished(args, key: str, model, tracker, processes):
    """The state of the training of `key` if it is finished in another folder, and its weights in `model`; else None."""
    from synthio.classification.finished import take_over

    folder = args.finished_folder
    state = processes.from_main(lambda: take_over(folder, key, model)) if folder else None
    if state and processes.is_main:
        tracker.follow(state.history)
        print(f"no other clip comes than in {folder}: its training is taken over", file=sys.stderr, flush=True)
    return state


def train_network(args, model, splits, recipe, device: str, checkpoints, on_eval, known, processes):
    """Train on (training, validation) split; returns the state, with the weights of the chosen step in `model`."""
    from synthio.classification.contrastive import first_stage
    from synthio.classification.supcon import SupConAst
    from synthio.classification.training import fit

    learner = (SupConAst(model, args.seed) if recipe.supcon_weight > 0 else model).to(device)
    (train, valid), (checkpoint, first) = splits, checkpoints
    if args.compile and is_ast(args.model):
        compile_network(learner, device)
    elif args.compile:
        print(f"{args.model}: {NOT_COMPILED}", file=sys.stderr, flush=True)
    left = first_stage(learner, train, recipe, device, first, processes) if recipe.supcon_epochs else recipe
    state = fit(learner, train, valid, left, device, checkpoint, on_eval, known, processes)
    if processes.is_main and state.step < recipe.num_steps:
        print(
            f"{recipe.patience} evaluations brought no lower validation loss: training ends after step {state.step}",
            file=sys.stderr,
            flush=True,
        )
    return state


def report_evaluation(folder: Path, recipe, state, tracker) -> None:
    """Print the last evaluation, rewrite history.csv and tell the tracker."""
    write_history(folder / "history.csv", state.history, recipe.multi_label)
    metric, last = "mAP" if recipe.multi_label else "accuracy", state.history[-1]
    print(
        f"step {last['step']}/{recipe.num_steps}: train loss {last['train_loss']:.3f}, valid loss "
        f"{last['valid_loss']:.3f}, valid {metric} {last['valid_score']:.3f} (step {state.best_step} is kept)",
        file=sys.stderr,
        flush=True,
    )
    tracker.follow(state.history)


def test_once(args, model, norm, tables, targets, valid):
    """Calibrate the model, in its weights, and score it on the test clips, which are read for the first time."""
    from synthio.classification.metrics import probabilities
    from synthio.classification.pool import fit_temperature
    from synthio.classification.script import Result
    from synthio.classification.training import predict, predict_clips, scale_logits
    from synthio.manifest import PATH

    device, multi_label = model.device, args.multi_label
    logits = predict(model, valid.features, args.batch_size, device)
    temperature, offset = fit_temperature(logits.double().numpy(), targets["valid"], multi_label)
    heard = predict_clips(model, norm, tables["test"][PATH], args.test_csv, args.batch_size, device)
    scale_logits(model, temperature, offset)
    valid_chances, chances = (probabilities(part / temperature + offset, multi_label) for part in (logits, heard))
    return Result(valid_chances, chances, probabilities(heard, multi_label), temperature)


def describe_training(state, recipe, model, norm) -> dict:
    """What scores.json says of the training itself."""
    best = state.best_row()
    return {
        "head": "ast",
        "best_step": state.best_step,
        "num_steps": state.step,
        "best_valid": (best["valid_score"], best["valid_loss"]),
        "input": norm.record(),
        "network": type(model).__name__,
        "called": CALLED[model.config.model_type],
    }


def main() -> int:
    args = get_parser().parse_args()
    started = time.monotonic()
    from synthio.training.processes import join

    processes = join(pick_device(args.device))
    data = from_args(Evaluation, args)
    tables, labels, targets = read_splits(data, args.multi_label)
    recipe = make_recipe(args, len(tables["train"]))
    from synthio.classification.finished import head_of, keep_training
    from synthio.classification.reading import (
        check_recipe,
        load_trainable,
        read_own_head,
        read_training_data,
        save_network,
    )
    from synthio.classification.training import rows_of_labels, settle_weights
    from synthio.training.loop import Checkpoint

    tracker = open_tracker(from_args(Tracking, args), f"classifier {Path(args.output_folder).name}", vars(args))
    device, folder = start_clean(data, processes.is_main)
    check_recipe(args.model, recipe)
    train, valid, norm = read_training_data(args.model, data, tables, targets, recipe)
    model = load_trainable(args.model, labels, norm, args.multi_label, args.seed).to(device)
    known = rows_of_labels(read_own_head(args.model), labels) if recipe.head_init == "names" else None
    train, recipe, choice = settle_weights(model, train, valid, recipe, device, known, processes)
    if choice:
        print(describe_choice(recipe.synthetic_weight, choice), file=sys.stderr, flush=True)
    key = run_key(args, recipe, device, tables, labels)
    checkpoints = [Checkpoint(folder / name, key) for name in ("checkpoint.pt", "contrastive.pt")]
    read_s = time.monotonic() - started
    on_eval = partial(report_evaluation, folder, recipe, tracker=tracker)
    state = take_over_finished(args, key, model, tracker, processes) or train_network(
        args, model, (train, valid), recipe, device, checkpoints, on_eval, known, processes
    )
    processes.leave()
    if not processes.is_main:
        return 0
    tracker.close()
    write_history(folder / "history.csv", state.history, recipe.multi_label)  # after a kill no evaluation may be left
    tested, head = time.monotonic(), head_of(model)
    result = test_once(args, model, norm, tables, targets, valid)
    save_network(model, norm, folder / "model")
    keep_training(folder, key, state, head)
    recipe = replace(recipe, wise_ft_alpha=state.best_row()["alpha"])
    details = describe_training(state, recipe, model, norm) | {
        "synthetic_weights": choice,
        "seconds": {"read": read_s, "train": state.seconds, "test": time.monotonic() - tested},
        "options": {**vars(args), **vars(recipe), "device": device},
    }
    print_score(write_test_results(folder, recipe, tables, labels, targets, result, details))
    for one in checkpoints:
        one.remove()
    return 0


if __name__ == "__main__":
    run_main(main)
