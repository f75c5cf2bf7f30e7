#!/usr/bin/env python3
"""Convert a checkpoint of the AST repository (`.pth`) into a folder of transformers.

    python ast/convert.py --checkpoint audioset_10_10_0.4593.pth --output_folder models/ast \\
        --labels_csv class_labels_indices.csv

`ast_model` takes a `.pth` as it is. A folder is needed for transformers.pipeline, and for a checkpoint whose strides
cannot be told from its shapes. The classes keep their head.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from synthio.cli import UserError, in_range, new_parser, quiet_libraries, run_main

LABEL_COLUMNS = ("display_name", "label")  # AudioSet's own list has the first


def get_parser():
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--checkpoint", required=True, help=".pth file of the AST repository")
    add("--output_folder", required=True, help="folder for config.json, model.safetensors, preprocessor_config.json")
    add("--labels_csv", default="", help="CSV with display_name or label, a class a row; empty: LABEL_0, LABEL_1, ...")
    add("--frequency_stride", type=in_range(int, 0), default=0, help="of the patches, in mel bands; 0 finds it")
    add("--time_stride", type=in_range(int, 0), default=0, help="of the patches, in frames of 10 ms; 0 finds it")
    add("--mean", type=float, default=-4.2677393, help="of the log-mel features (default: AudioSet's)")
    add("--std", type=in_range(float, 1e-6), default=4.5689974, help="of the log-mel features (default: AudioSet's)")
    return parser


def read_labels(path: str, classes: int) -> list[str]:
    """The class names of a CSV, in file order.

    Raises:
        UserError: no such column, or not as many rows as classes.
    """
    from synthio.manifest import read_table

    table = read_table(path)
    column = next((name for name in LABEL_COLUMNS if name in table.columns), None)
    if column is None:
        raise UserError(f"{path}: no column {' or '.join(LABEL_COLUMNS)}; there are {', '.join(table.columns)}")
    if len(table) != classes:
        raise UserError(f"{path}: {len(table)} labels, but the checkpoint has {classes} classes")
    return list(table[column])


def main() -> int:
    args = get_parser().parse_args()
    quiet_libraries()
    from transformers import ASTFeatureExtractor, ASTForAudioClassification

    from synthio.models.ast_checkpoint import read_ast_checkpoint

    config, weights = read_ast_checkpoint(args.checkpoint, args.frequency_stride, args.time_stride)
    if args.labels_csv:
        labels = read_labels(args.labels_csv, config.num_labels)
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: i for i, label in enumerate(labels)}
    model = ASTForAudioClassification.from_pretrained(None, config=config, state_dict=weights)
    model.save_pretrained(args.output_folder)
    extractor = ASTFeatureExtractor(
        max_length=config.max_length, num_mel_bins=config.num_mel_bins, mean=args.mean, std=args.std
    )
    extractor.save_pretrained(args.output_folder)
    print(
        f"{args.output_folder}: {config.num_hidden_layers} layers of width {config.hidden_size}, strides "
        f"{config.frequency_stride} and {config.time_stride}, {config.max_length} frames, {config.num_labels} classes"
    )
    return 0


if __name__ == "__main__":
    run_main(main)
