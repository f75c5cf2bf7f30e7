#!/usr/bin/env python3
"""Fine-tune a CLAP on the small dataset, so that the filter knows how its sounds are recorded.

    python extras/finetune_clap.py --train_csv W/train_100.csv --valid_csv W/checked/valid.csv \\
        --output_folder W/clap_finetuned

The loss is CLAP's own, contrastive between clips and "Sound of a {label}", except that all clips of a label are right
for its text. The scale of the cosines stays as it is, so that a threshold keeps its meaning. Dropout is off and batch
statistics are frozen: the best step is the one with the lowest loss on the validation clips, step 0 (the model as it
was) among them, and training ends when --patience evaluations in a row brought nothing better.

The output folder is a CLAP folder; for a checkpoint of laion_clap or msclap it holds one in the same format, clap.pt
or clap.pth. A run that was killed goes on from checkpoint.pt in it to the same weights.
`<output_folder>_history.csv` and `<output_folder>.json` beside it say how it went.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from synthio.cli import UserError, new_parser, pick_device, quiet_libraries, run_main, set_threads
from synthio.files import EMBEDDED
from synthio.filtering.options import FinetuneOptions
from synthio.models.load import SCORER_HELP
from synthio.options import Device, add_options, from_args


def get_parser():
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--train_csv", required=True, help="the small dataset (path, label)")
    add("--valid_csv", required=True, help="validation clips, which choose the step")
    add("--output_folder", required=True, help="output: the fine-tuned CLAP")
    add("--model", default=str(EMBEDDED / "clap"), help=SCORER_HELP)
    add_options(parser, FinetuneOptions)
    add_options(parser, Device)
    return parser


def main() -> int:
    args = get_parser().parse_args()
    import pandas as pd

    from synthio.files import fingerprint, sha256_file, sha256_value, write_json
    from synthio.filtering.finetune import fit, read_clips
    from synthio.manifest import PATH, read_manifest, versions, write_table
    from synthio.models.load import load_scorer
    from synthio.training.loop import Checkpoint

    quiet_libraries()
    set_threads()
    folder, scorer = Path(args.output_folder), load_scorer(args.model, pick_device(args.device))
    if not scorer.trainable:
        raise UserError(f"{args.model}: is not fine-tuned here, for it was trained by another loss than CLAP's")
    csvs = (args.train_csv, args.valid_csv)
    clips = {csv: [sha256_file(path) for path in read_manifest(csv)[PATH]] for csv in csvs}
    options = {name: value for name, value in vars(args).items() if name not in ("device", "output_folder")}
    options["model_sha256"] = fingerprint(args.model)
    identity = sha256_value([options, [sha256_file(csv) for csv in csvs], clips])
    train, valid = (read_clips(csv, scorer) for csv in csvs)
    checkpoint = Checkpoint(folder / "checkpoint.pt", identity)
    state = fit(scorer, train, valid, from_args(FinetuneOptions, args), checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    scorer.save(folder)
    best, first = state.best_row(), state.history[0]
    history = pd.DataFrame(state.history)
    write_table(history, folder.with_name(folder.name + "_history.csv"))
    result = {"options": options, "best": best, "start": first, "steps": state.step, "versions": versions()}
    write_json(folder.with_name(folder.name + ".json"), result)
    checkpoint.remove()
    print(
        f"best at step {best['step']} of {state.step}: validation loss {best['valid_loss']:.4f} "
        f"(start {first['valid_loss']:.4f}), zero-shot accuracy {best['valid_accuracy']:.3f} "
        f"(start {first['valid_accuracy']:.3f})",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    run_main(main)
