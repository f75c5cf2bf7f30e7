#!/usr/bin/env python3
"""Train AST on labelled clips and test it once.

    python ast/train.py --train_csv train.csv --valid_csv valid.csv --test_csv test.csv \\
        --output_folder W/classifier/synthio

The best step is chosen on the validation clips. The test clips are read and scored once, after training. A run that
was killed goes on from its last evaluation when it is started again with the same options and data.

Outputs: model/ (for transformers.pipeline("audio-classification")), scores.json, predictions.csv, history.csv.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from synthio.cli import (
    UserError,
    add_device_option,
    in_range,
    new_parser,
    pick_device,
    quiet_libraries,
    run_main,
    set_threads,
    str2bool,
)

SPLITS = ("train", "valid", "test")


def get_parser():
    parser = new_parser(__doc__)
    add = parser.add_argument
    for split in SPLITS:
        add(f"--{split}_csv", required=True, help="CSV with path and label")
    add("--output_folder", required=True, help="folder for model, scores and predictions")
    add("--model", default=str(ROOT / "extras/embedded/weights/ast"), help="AST folder or hub id")
    add("--classes_csv", default="", help="CSV whose labels are the classes; empty takes those of the training data")
    add("--num_steps", type=in_range(int, 0), default=0, help="optimiser steps; 0 takes them from --epochs")
    add("--epochs", type=in_range(int, 1), default=50, help="passes over the training data (paper: 50)")
    add("--batch_size", type=in_range(int, 1), default=48, help="clips in a step (paper: 48)")
    add("--learning_rate", type=in_range(float, 0), default=1e-5, help="highest learning rate (paper: 1e-5)")
    add("--weight_decay", type=in_range(float, 0), default=5e-7, help="of AdamW (AST: 5e-7)")
    add("--warmup_fraction", type=in_range(float, 0, 1), default=0.1, help="share of the steps that warm up")
    add("--mixup", type=in_range(float, 0), default=0.0, help="alpha of mixup's Beta distribution; 0 for none")
    add("--spec_augment", type=str2bool, default=False, help="mask a frequency band and a stretch of time")
    add("--multi_label", type=str2bool, default=False, help="several labels a clip, joined by ';'")
    add("--max_length_s", type=in_range(float, 0), default=0.0, help="input length in s; 0 takes it from the clips")
    add("--eval_every", type=in_range(int, 0), default=0, help="steps between evaluations; 0 makes 20 in all")
    add("--seed", type=in_range(int, 0), default=0, help="of the new head, the order of the clips, augmentation")
    add_device_option(parser)
    return parser


def read_splits(args):
    """The three manifests, the classes, and the targets [N, C] of each; every mistake in the labels shows here."""
    from synthio.classifier import encode_labels
    from synthio.manifest import LABEL, all_labels, read_manifest, read_table

    csvs = {split: getattr(args, f"{split}_csv") for split in SPLITS}
    tables = {split: read_manifest(csv) for split, csv in csvs.items()}
    for split, table in tables.items():
        if table.empty:
            raise UserError(f"{csvs[split]}: no clips; the {split} data needs at least one")
    source = read_table(args.classes_csv, [LABEL]) if args.classes_csv else tables["train"]
    labels = all_labels(source[LABEL])
    if len(labels) < 2:
        raise UserError(f"{args.classes_csv or args.train_csv}: {len(labels)} class; a classifier needs at least 2")
    targets = {s: encode_labels(t[LABEL], labels, csvs[s], args.multi_label) for s, t in tables.items()}
    return tables, labels, targets


def make_recipe(args, clips: int):
    """Fill in the numbers that depend on the number of training clips."""
    from synthio.classifier import Recipe

    num_steps = args.num_steps or max(1, round(args.epochs * clips / args.batch_size))
    return Recipe(
        num_steps=num_steps,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        weight_decay=args.weight_decay,
        warmup_fraction=args.warmup_fraction,
        mixup=args.mixup,
        spec_augment=args.spec_augment,
        eval_every=args.eval_every or max(1, num_steps // 20),
        multi_label=args.multi_label,
        seed=args.seed,
    )


def run_key(args, recipe, device: str, tables, labels) -> str:
    """Hash of everything that shapes the weights. Paths are not in it, so the folders may be moved."""
    from synthio.files import fingerprint, sha256_file, sha256_value
    from synthio.manifest import LABEL, PATH, versions

    known = {k: v for k, v in versions().items() if k != "git"}
    clips = [[[sha256_file(p) for p in tables[s][PATH]], list(tables[s][LABEL])] for s in ("train", "valid")]
    return sha256_value([vars(recipe), fingerprint(args.model), args.max_length_s, device, labels, clips, known])


def read_training_data(args, tables, targets, config):
    """(train split, validation split, normalisation), all statistics from the training clips."""
    from synthio.classifier import choose_frames, make_split, measure, read_features
    from synthio.fbank import SAMPLE_RATE, num_frames
    from synthio.manifest import PATH

    limit = num_frames(round(args.max_length_s * SAMPLE_RATE)) if args.max_length_s else config.max_length
    train, valid = (
        read_features(tables[s][PATH], getattr(args, f"{s}_csv"), config.num_mel_bins, limit)
        for s in ("train", "valid")
    )
    counts = [limit] if args.max_length_s else [len(clip) for clip in train]
    norm = measure(train, choose_frames(counts, limit, config))
    return make_split(train, targets["train"], norm), make_split(valid, targets["valid"], norm), norm


def report_evaluation(folder: Path, recipe, state) -> None:
    """Print the last evaluation and rewrite history.csv."""
    import pandas as pd

    from synthio.manifest import write_table

    metric = "mAP" if recipe.multi_label else "accuracy"
    history = pd.DataFrame(state.history).rename(columns={"valid_score": f"valid_{metric}"})
    write_table(history, folder / "history.csv")
    last = state.history[-1]
    print(
        f"step {last['step']}/{recipe.num_steps}: train loss {last['train_loss']:.3f}, valid loss "
        f"{last['valid_loss']:.3f}, valid {metric} {last['valid_score']:.3f} (best at step {state.best_step})",
        file=sys.stderr,
        flush=True,
    )


def save_model(model, norm, folder: Path) -> None:
    """Model and feature extractor, as transformers' pipeline wants them."""
    from transformers import ASTFeatureExtractor

    extractor = ASTFeatureExtractor(
        max_length=norm.frames, num_mel_bins=model.config.num_mel_bins, mean=norm.mean, std=norm.std
    )
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)


def test_once(args, model, norm, tables, targets, device: str):
    """Read the test clips, for the first time, and return the probabilities [N, C]."""
    from synthio.classifier import make_split, predict, probabilities, read_features
    from synthio.manifest import PATH

    clips = read_features(tables["test"][PATH], args.test_csv, model.config.num_mel_bins, norm.frames)
    split = make_split(clips, targets["test"], norm)
    return probabilities(predict(model, split.features, args.batch_size, device), args.multi_label)


def write_predictions(table, labels, chances, multi_label: bool, path: Path) -> None:
    """path, label, predicted, and `probability_<label>` of each class."""
    import pandas as pd

    from synthio.classifier import decode_labels
    from synthio.manifest import LABEL, PATH, write_table
    from synthio.metrics import PROBABILITY_PREFIX, predicted_matrix

    out = table[[PATH, LABEL]].assign(predicted=decode_labels(predicted_matrix(chances, multi_label), labels))
    columns = {f"{PROBABILITY_PREFIX}{label}": [f"{p:.9f}" for p in chances[:, i]] for i, label in enumerate(labels)}
    write_table(pd.concat([out, pd.DataFrame(columns)], axis=1), path)


def count_clips(table) -> dict[str, int]:
    """How many clips are real and how many synthetic; a synthetic one names the gold clip it was made for."""
    from synthio.manifest import SOURCE

    synthetic = int((table[SOURCE] != "").sum()) if SOURCE in table.columns else 0
    return {"clips": len(table), "gold": len(table) - synthetic, "synthetic": synthetic}


def start_clean(folder: Path) -> None:
    """Remove what an earlier run left, so that scores never stand beside another model; keep its checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("scores.json", "predictions.csv", "history.csv"):
        (folder / name).unlink(missing_ok=True)
    for orphan in folder.glob(".*.tmp.*"):
        orphan.unlink()


def main() -> int:
    args = get_parser().parse_args()
    started = time.monotonic()
    tables, labels, targets = read_splits(args)
    from synthio.classifier import fit, load_ast, load_ast_config
    from synthio.files import write_json
    from synthio.manifest import versions
    from synthio.metrics import score_predictions

    quiet_libraries()
    set_threads()
    device, folder = pick_device(args.device), Path(args.output_folder)
    start_clean(folder)
    recipe = make_recipe(args, len(tables["train"]))
    train, valid, norm = read_training_data(args, tables, targets, load_ast_config(args.model))
    model = load_ast(args.model, labels, norm.frames, args.multi_label, args.seed).to(device)
    key, checkpoint = run_key(args, recipe, device, tables, labels), folder / "checkpoint.pt"
    read_s = time.monotonic() - started
    state = fit(model, train, valid, recipe, device, checkpoint, key, lambda s: report_evaluation(folder, recipe, s))
    save_model(model, norm, folder / "model")

    tested = time.monotonic()
    chances = test_once(args, model, norm, tables, targets, device)
    scores = score_predictions(targets["test"], chances, labels, args.multi_label, args.seed)
    write_predictions(tables["test"], labels, chances, args.multi_label, folder / "predictions.csv")
    record = {
        **scores,
        "labels": labels,
        "best_step": state.best_step,
        "num_steps": recipe.num_steps,
        "best_valid": {scores["metric"]: state.best_score[0], "loss": -state.best_score[1]},
        "splits": {split: count_clips(table) for split, table in tables.items()},
        "input": vars(norm),
        "seconds": {"read": read_s, "train": state.seconds, "test": time.monotonic() - tested},
        "options": {**vars(args), **vars(recipe), "device": device},
        "versions": versions(),
    }
    write_json(folder / "scores.json", record)
    checkpoint.unlink(missing_ok=True)
    low, high = scores["interval_95"]
    print(f"test {scores['metric']} {scores[scores['metric']]:.3f} ({low:.3f} to {high:.3f}), step {state.best_step}")
    return 0


if __name__ == "__main__":
    run_main(main)
