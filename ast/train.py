#!/usr/bin/env python3
"""Train AST on labelled clips and test it once.

    python ast/train.py --train_csv train.csv --valid_csv valid.csv --test_csv test.csv \\
        --output_folder W/classifier/synthio

The step is chosen on the validation clips: the one of the lowest loss after calibration. With --wise_ft_alpha below 1
the weights of a step are averaged with those at the start before they are scored, and so are those that are kept;
"auto" tries several shares. The test clips are read and scored once, after training. A run that was killed goes on
from its last evaluation when it is started again with the same options and data.

Outputs: model/ (for transformers.pipeline("audio-classification"), with a card, README.md), scores.json,
predictions.csv, history.csv.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from synthio.classification.script import (
    add_evaluation_options,
    is_synthetic,
    print_score,
    read_splits,
    start_clean,
    write_history,
    write_test_results,
)
from synthio.classification.weighting import SYNTHETIC_WEIGHT_HELP, describe_choice
from synthio.cli import (
    UserError,
    add_compile_option,
    compile_network,
    in_range,
    new_parser,
    number_or_auto,
    run_main,
    str2bool,
)
from synthio.files import EMBEDDED
from synthio.tracking import add_tracking_options, open_tracker

WAVEFORM_AUGMENTS = ("none", "noise", "pitch", "chain")


def get_parser():
    parser = new_parser(__doc__)
    add_evaluation_options(parser)
    add = parser.add_argument
    add("--model", default=str(EMBEDDED / "ast"), help="AST folder, hub id or .pth checkpoint")
    add("--num_steps", type=in_range(int, 0), default=0, help="optimiser steps; 0 takes them from --epochs")
    add("--epochs", type=in_range(int, 1), default=50, help="passes over the training data (paper: 50)")
    add("--batch_size", type=in_range(int, 1), default=48, help="clips in a step (paper: 48)")
    add("--learning_rate", type=in_range(float, 0), default=1e-5, help="highest learning rate (paper: 1e-5)")
    add("--weight_decay", type=in_range(float, 0), default=5e-7, help="of AdamW (AST: 5e-7)")
    add("--warmup_fraction", type=in_range(float, 0, 1), default=0.1, help="share of the steps that warm up")
    add(
        "--head_init",
        choices=("names", "probe", "random"),
        default="random",
        help="new head: a linear probe and what the pretrained head says, where it knows every label; the probe alone; "
        "or random (paper)",
    )
    add(
        "--wise_ft_alpha",
        type=number_or_auto(0, 1),
        default=1.0,
        help="unless --head_init is random, share of the trained weights in the result, the rest being the first ones",
    )
    add("--mixup", type=in_range(float, 0), default=0.0, help="alpha of mixup's Beta distribution; 0 for none")
    add("--spec_augment", type=str2bool, default=False, help="mask a frequency band and a stretch of time")
    add("--class_weights", type=str2bool, default=False, help="give each class the same weight in the loss")
    add("--synthetic_weight", type=number_or_auto(0), default=1.0, help=SYNTHETIC_WEIGHT_HELP)
    add("--waveform_augment", choices=WAVEFORM_AUGMENTS, default="none", help="change the sound of each clip anew")
    add("--supcon", type=str2bool, default=False, help="add a supervised contrastive loss")
    add("--supcon_weight", type=in_range(float, 0), default=1.0, help="of that loss beside cross-entropy, which has 1")
    add("--supcon_temperature", type=in_range(float, 1e-3), default=0.1, help="of that loss (its paper: 0.1)")
    add("--max_length_s", type=in_range(float, 0), default=0.0, help="input length in s; 0 takes it from the clips")
    add("--eval_every", type=in_range(int, 0), default=0, help="steps between evaluations; 0 makes 20 in all")
    add_compile_option(parser)
    add_tracking_options(parser)
    return parser


def make_recipe(args, clips: int):
    """Fill in the numbers that depend on the number of training clips.

    Raises:
        UserError: mixup with SupCon.
    """
    from synthio.classification.training import Recipe

    if args.supcon and args.mixup > 0:
        raise UserError("--supcon asks which clips share a label, and --mixup blends the labels; choose one of them")
    num_steps = args.num_steps or max(1, round(args.epochs * clips / args.batch_size))
    return Recipe(
        num_steps=num_steps,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        weight_decay=args.weight_decay,
        warmup_fraction=args.warmup_fraction,
        mixup=args.mixup,
        spec_augment=args.spec_augment,
        waveform_augment=args.waveform_augment,
        supcon_weight=args.supcon_weight if args.supcon else 0.0,
        supcon_temperature=args.supcon_temperature,
        eval_every=args.eval_every or max(1, num_steps // 20),
        multi_label=args.multi_label,
        seed=args.seed,
        head_init=args.head_init,
        synthetic_weight=args.synthetic_weight,
        class_weights=args.class_weights,
        wise_ft_alpha=args.wise_ft_alpha if args.head_init != "random" else 1.0,
    )


def run_key(args, recipe, device: str, tables, labels) -> str:
    """Hash of everything that shapes the weights. Paths are not in it, so the folders may be moved."""
    from synthio.files import fingerprint, sha256_file, sha256_value
    from synthio.manifest import LABEL, PATH, versions

    known = {k: v for k, v in versions().items() if k != "git"}
    clips = [[[sha256_file(p) for p in tables[s][PATH]], list(tables[s][LABEL])] for s in ("train", "valid")]
    synthetic, model = is_synthetic(tables["train"]).tolist(), fingerprint(args.model)
    return sha256_value([vars(recipe), synthetic, model, args.max_length_s, device, labels, clips, known])


def read_training_data(args, tables, targets, config):
    """(train split, validation split, normalisation): the model's own, the length that of the real training clips."""
    from synthio.classification.augment import MAX_SPEED
    from synthio.classification.training import (
        Normalisation,
        choose_frames,
        log_mel,
        make_split,
        read_features,
        read_waveforms,
    )
    from synthio.manifest import PATH
    from synthio.models.ast_model import load_extractor
    from synthio.models.fbank import SAMPLE_RATE, num_frames, num_samples

    limit = num_frames(round(args.max_length_s * SAMPLE_RATE)) if args.max_length_s else config.max_length
    bands, waveforms, paths = config.num_mel_bins, (), tables["train"][PATH]
    if args.waveform_augment == "none":
        train = read_features(paths, args.train_csv, bands, limit)
    else:
        longest = round(MAX_SPEED * num_samples(limit))
        waveforms = [waveform[:longest].copy() for waveform in read_waveforms(paths, args.train_csv)]
        train = [log_mel(waveform, bands, limit) for waveform in waveforms]
    valid = read_features(tables["valid"][PATH], args.valid_csv, bands, limit)
    synthetic, extractor = is_synthetic(tables["train"]), load_extractor(args.model)
    heard = [len(clip) for clip, made in zip(train, synthetic, strict=True) if not made or synthetic.all()]
    norm = Normalisation(
        choose_frames([limit] if args.max_length_s else heard, limit, config), extractor.mean, extractor.std
    )
    train = make_split(train, targets["train"], norm, waveforms, synthetic)
    return train, make_split(valid, targets["valid"], norm), norm


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


def save_model(model, norm, folder: Path) -> None:
    """Model and feature extractor, as transformers' pipeline wants them."""
    from transformers import ASTFeatureExtractor

    extractor = ASTFeatureExtractor(
        max_length=norm.frames, num_mel_bins=model.config.num_mel_bins, mean=norm.mean, std=norm.std
    )
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)


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


def main() -> int:
    args = get_parser().parse_args()
    started = time.monotonic()
    tables, labels, targets = read_splits(args)
    recipe = make_recipe(args, len(tables["train"]))
    from synthio.classification.supcon import SupConAst
    from synthio.classification.training import fit, rows_of_labels, settle_weights
    from synthio.models.ast_model import load_ast, load_ast_config, read_own_head

    tracker = open_tracker(args, f"classifier {Path(args.output_folder).name}")
    device, folder = start_clean(args)
    train, valid, norm = read_training_data(args, tables, targets, load_ast_config(args.model))
    model = load_ast(args.model, labels, norm.frames, args.multi_label, args.seed).to(device)
    known = rows_of_labels(read_own_head(args.model), labels) if recipe.head_init == "names" else None
    train, recipe, choice = settle_weights(model, train, valid, recipe, device, known)
    if choice:
        print(describe_choice(recipe.synthetic_weight, choice), file=sys.stderr, flush=True)
    learner = (SupConAst(model, args.seed) if recipe.supcon_weight > 0 else model).to(device)
    if args.compile:
        compile_network(learner, device)
    key, checkpoint = run_key(args, recipe, device, tables, labels), folder / "checkpoint.pt"
    read_s = time.monotonic() - started
    on_eval = partial(report_evaluation, folder, recipe, tracker=tracker)
    state = fit(learner, train, valid, recipe, device, checkpoint, key, on_eval, known)
    tracker.close()
    tested = time.monotonic()
    result = test_once(args, model, norm, tables, targets, valid)
    save_model(model, norm, folder / "model")
    best = state.best_row()
    recipe = replace(recipe, wise_ft_alpha=best["alpha"])
    details = {
        "head": "ast",
        "best_step": state.best_step,
        "num_steps": recipe.num_steps,
        "best_valid": (best["valid_score"], best["valid_loss"]),
        "input": vars(norm),
        "synthetic_weights": choice,
        "seconds": {"read": read_s, "train": state.seconds, "test": time.monotonic() - tested},
        "options": {**vars(args), **vars(recipe), "device": device},
    }
    print_score(write_test_results(folder, args, tables, labels, targets, result, details))
    checkpoint.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    run_main(main)
