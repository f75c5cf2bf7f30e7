#!/usr/bin/env python3
"""Align the text-to-audio model with the small dataset by preference optimisation (paper, section 3.2).

    python dpo_train.py --gold_csv W/train_100.csv --losers_csv W/dpo/losers.csv --output_folder W/dpo/adapter \\
        --model extras/embedded/weights/text_to_audio

Each generated clip (loser) is paired with the gold clip it was generated for (winner), under the prompt of the loser;
with --pairs ranked, the best and the worst generation of each gold clip by CLAP score are paired instead. The loss is
Diffusion-DPO with beta 2000: policy and reference, winner and loser see the same time, noise, crop and condition
dropout. --loss sft is the baseline: the plain diffusion loss on the gold clips, without losers.

Losers have been through the model's decoder and gold clips have not. With --codec_match (the default; the paper: false)
gold clips that win go through the autoencoder too, so that it cannot be what the model learns to tell them apart by.
At the end a control says whether it was, and whether the model's error on real clips has fallen: on the gold clips and,
with --valid_csv, on clips that it has not seen.

--train says what is trained: a LoRA, gated prefixes or all weights. The reference is the same network with the adapter
switched off. With --init_adapter the training goes on from an earlier one, which is then the reference too (a further
round, against losers that it has generated).

The output folder is what `generate.py --adapter` wants. Beside it: `<name>_history.csv` (loss, implicit accuracy and
reward margin by step), `<name>.json` (the record, with the control), `cache/` (latents and text conditions) and, for
ranked pairs, `scores.csv`. An interrupted training goes on from its last checkpoint and ends with the weights of an
unbroken one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from synthio.cli import UserError, compile_network, new_parser, pick_device, quiet_libraries, run_main, set_threads
from synthio.files import EMBEDDED
from synthio.generation.options import PreferenceOptions
from synthio.models.load import SCORER_HELP
from synthio.options import Compiling, Device, add_options, from_args, shaping
from synthio.training.tracking import Tracking, open_tracker

ROOT = Path(__file__).resolve().parent


def get_parser():
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--gold_csv", required=True, help="the small dataset (path, label)")
    add("--losers_csv", default="", help="its generations (path, source_path, prompt); not for sft")
    add("--valid_csv", default="", help="clips (path, label) to control the training with; none is trained on")
    add("--output_folder", required=True, help="output: the adapter")
    add("--model", default=str(EMBEDDED / "text_to_audio"), help="text-to-audio folder or hub id")
    add("--init_adapter", default="", help="adapter to go on from; empty: a new one")
    add("--scorer", default=str(EMBEDDED / "clap"), help=f"for --pairs ranked, {SCORER_HELP}")
    for options in (PreferenceOptions, Compiling, Device, Tracking):
        add_options(parser, options)
    return parser


def make_pairs(args, device: str) -> list:
    """The pairs that the options ask for.

    Raises:
        UserError: options that do not go together, or rows that cannot be paired.
    """
    from synthio.data.contents import check_contents
    from synthio.generation import pairs
    from synthio.manifest import LABEL, PATH, PROMPT, SOURCE, read_manifest

    gold = read_manifest(args.gold_csv)
    check_contents(gold, args.gold_csv)
    if args.loss == "sft":
        if args.pairs == "ranked":
            raise UserError("--loss sft knows no losers, so it has no --pairs ranked; use --loss dpo")
        return pairs.gold_alone(gold)
    if not args.losers_csv:
        raise UserError("--loss dpo needs --losers_csv, generations of the gold clips; --loss sft does without")
    losers = read_manifest(args.losers_csv, (PATH, LABEL, SOURCE, PROMPT))
    check_contents(losers, args.losers_csv)
    pairs.check_losers(losers, gold, args.losers_csv)
    if args.pairs == "gold":
        return pairs.gold_pairs(losers)
    scores = pairs.clap_scores(losers, args.scorer, device, Path(args.output_folder).parent / "scores.csv")
    return pairs.ranked_pairs(losers, scores, args.losers_csv)


def training_dtype(args) -> str:
    """The precision to train in.

    The loss compares errors that are almost equal, and multiplies their differences by beta / 2: single precision is
    what it wants. On the embedded model the gradient of three steps has a cosine of .9996 with that of float32 where
    factors are rounded to TF32, and of .81 to .96 under bfloat16's autocast, where the margins are off by 1 (they are
    some 3 in the end). float16's gradients would underflow; bfloat16 has the range.

    Raises:
        UserError: every weight is to be trained in half precision, where a step is less than its rounding.
    """
    dtype = {"auto": "float32", "float16": "bfloat16"}.get(args.dtype, args.dtype)
    if args.train == "all" and dtype != "float32":
        raise UserError("--train all needs --dtype float32: its steps are lost in the rounding of half precision")
    if dtype != args.dtype and args.dtype != "auto":
        print(f"training in {dtype} in place of {args.dtype}, whose gradients would underflow", file=sys.stderr)
    if dtype == "bfloat16":
        print(
            "bfloat16 blurs what the preference is learnt from; --dtype float32 is better if it fits", file=sys.stderr
        )
    return dtype


def load_model(args, device: str):
    """The model that is trained.

    Raises:
        UserError: it cannot be had, or not be trained.
    """
    from synthio.generation.length import set_latent_length
    from synthio.models.load import load_text_to_audio

    model = load_text_to_audio(args.model, args.init_adapter or None, device, training_dtype(args))
    if model.distilled:
        raise UserError(
            f"{model.name} is distilled: it makes clips in few steps by what it learnt after its diffusion training, "
            "and training it with a diffusion loss would undo that. Train on its base checkpoint (...-base)"
        )
    set_latent_length(model, args.latent_seconds, args.gold_csv)
    if args.gradient_checkpointing:
        model.recompute_activations()
    return model


def fingerprints(args) -> dict[str, str]:
    """Hashes of what the training starts from."""
    from synthio.files import fingerprint

    return {"model": fingerprint(args.model), "adapter": fingerprint(args.init_adapter) if args.init_adapter else ""}


def encode(args, pairs: list, model, identity: str):
    """What is trained on."""
    from synthio.generation.pairs import encode_pairs

    # where generations are ranked, or there are no losers, both sides are of one kind anyway
    match = args.codec_match and args.loss == "dpo" and args.pairs == "gold"
    anchored = args.winner_weight > 0
    return encode_pairs(pairs, model, identity, cache_of(args), decode_winners=match, anchored=anchored)


def cache_of(args) -> Path:
    return Path(args.output_folder).parent / "cache"


def control_data(args, model, identity: str) -> dict:
    """The clips that the training is controlled with: those of each CSV that is given, by "gold" and "unseen"."""
    from synthio.generation.control import control_clips
    from synthio.manifest import read_manifest

    tables = {"gold": read_manifest(args.gold_csv)}
    if args.valid_csv:
        tables["unseen"] = read_manifest(args.valid_csv)
    return {
        which: control_clips(clips, model, identity, cache_of(args), args.seed, copies=which == "gold")
        for which, clips in tables.items()
        if len(clips)
    }


def saved_weights(trainable, average: dict):
    """A block in which the weights are those that are kept: the averaged ones, if there are."""
    from contextlib import nullcontext

    from synthio.models.adapters import swapped

    return swapped(trainable.parameters, average) if average else nullcontext()


def write_results(args, trainable, history, average, record: dict) -> None:
    """The adapter, then its history and record."""
    import pandas as pd

    from synthio.files import fingerprint, write_json
    from synthio.generation.preference import summary
    from synthio.manifest import versions, write_table
    from synthio.models.adapters import write_adapter

    folder = Path(args.output_folder)
    with saved_weights(trainable, average):
        write_adapter(trainable, folder)
    write_table(pd.DataFrame(history), folder.with_name(folder.name + "_history.csv"))
    record = record | {"result": summary(history), "sha256": fingerprint(folder), "versions": versions()}
    write_json(folder.with_name(folder.name + ".json"), record)


def report(args, num_pairs: int, history: list[dict]) -> str:
    """One line on how it went."""
    from synthio.generation.preference import summary

    result = summary(history)
    if args.loss == "sft":
        changes = f"loss {history[0]['loss']:.4f} at the start, {result['loss']:.4f} at the end"
        return f"{num_pairs} clips, {len(history)} steps; {changes}"
    text = f"loss {result['loss']:.4f} (log 2 is 0.6931), implicit accuracy {result['accuracy']:.2f}"
    changes = f"winner's error {result['winner_change']:+.2g}, loser's {result['loser_change']:+.2g}"
    return f"{num_pairs} pairs, {len(history)} steps; at the end {text}, margin {result['margin']:.3f}, {changes}"


def main() -> int:
    args = get_parser().parse_args()
    from synthio.files import sha256_file, sha256_value
    from synthio.generation.control import describe, measure
    from synthio.generation.preference import align
    from synthio.models.adapters import check_output, make_trainable
    from synthio.training.loop import Checkpoint
    from synthio.training.processes import join

    quiet_libraries()
    set_threads()
    options, device, folder = from_args(PreferenceOptions, args), pick_device(args.device), Path(args.output_folder)
    processes = join(device)
    check_output(folder)
    tracker = open_tracker(from_args(Tracking, args), f"dpo {folder.name}", vars(args))
    with processes.main_first():
        pairs = make_pairs(args, device)
    origin = fingerprints(args)
    model = load_model(args, device)
    encoder = f"{origin['model']} {model.dtype}"
    with processes.main_first():
        data = encode(args, pairs, model, encoder)
    controlled = control_data(args, model, encoder) if processes.is_main else {}
    for part in ("text", "sound"):
        model.move(part, "meta")  # all is encoded
    trainable = make_trainable(
        model,
        options.train,
        adapter=args.init_adapter,
        lora_rank=options.lora_rank,
        prefix_tokens=options.prefix_tokens,
        seed=options.seed,
    )
    if args.compile:
        compile_network(model.module, device)
    identity = sha256_value([shaping(options), origin, data.content])
    checkpoint = Checkpoint(folder.with_name(folder.name + "_checkpoint.pt"), identity)
    history, average = align(model, trainable, data, options, checkpoint, tracker.follow, processes)
    tracker.close()
    processes.leave()
    if not processes.is_main:
        return 0
    inputs = {path: sha256_file(path) for path in (args.gold_csv, args.losers_csv, args.valid_csv) if path}
    with saved_weights(trainable, average):
        control = {
            which: measure(model, trainable, clips, 2 * args.batch_size, args.seed)
            for which, clips in controlled.items()
        }
    record = {"options": vars(args), "inputs": inputs, "origin": origin, "pairs": len(pairs)}
    record |= {
        "latent_seconds": round(model.max_seconds, 3),
        "control": {which: vars(found) for which, found in control.items()},
    }
    write_results(args, trainable, history, average, record)
    checkpoint.remove()
    print(report(args, len(pairs), history), file=sys.stderr)
    print(f"control: {describe(control['gold'], control.get('unseen'))}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_main(main)
