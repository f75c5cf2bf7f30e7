#!/usr/bin/env python3
"""Take the weights out of a checkpoint of stable-audio-tools, into a folder that generate.py and dpo_train.py load.

    python stable-audio-tools/convert_checkpoint.py --checkpoint epoch=3.ckpt --output_folder models/mine

For checkpoints with pickled objects in them (callbacks, hyperparameters), which are refused elsewhere. None of their
code is run: every object that is no tensor, number, text or container of these is replaced by an empty one. A
training's checkpoint is unwrapped on the way: the averaged weights are taken where there are some, and what serves
training alone (optimiser, discriminator) is left out. The config is copied.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from synthio.cli import UserError, new_parser, run_main


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--checkpoint", required=True, help="the file, wrapped or not")
    parser.add_argument("--output_folder", required=True, help="folder for model.safetensors and model_config.json")
    parser.add_argument("--config", default="", help="its config; empty: model_config.json beside the checkpoint")
    return parser


def main() -> int:
    args = get_parser().parse_args()
    from safetensors.torch import save_file

    from synthio.files import atomic_path, read_json, write_json
    from synthio.models.tools_checkpoint import CHECKPOINT_NAMES, CONFIG_NAME, read_state

    checkpoint, folder = Path(args.checkpoint), Path(args.output_folder)
    config = Path(args.config) if args.config else checkpoint.with_name(CONFIG_NAME)
    for path in (checkpoint, config):
        if not path.is_file():
            raise UserError(f"{path}: no such file")
    state = read_state(checkpoint, stand_ins=True)
    with atomic_path(folder / CHECKPOINT_NAMES[0]) as temporary:
        # a copy of each: safetensors refuses tensors that share memory
        save_file({name: tensor.clone().contiguous() for name, tensor in state.items()}, temporary)
    write_json(folder / CONFIG_NAME, read_json(config))
    print(f"{folder}: {len(state)} tensors, {sum(tensor.numel() for tensor in state.values()):,} numbers")
    return 0


if __name__ == "__main__":
    run_main(main)
