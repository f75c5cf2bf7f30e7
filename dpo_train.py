#!/usr/bin/env python3
"""Align the text-to-audio model with the small dataset by preference optimisation (paper, section 3.2).

    python dpo_train.py --gold_csv W/train_100.csv --losers_csv W/dpo/losers.csv --output_folder W/dpo/adapter \\
        --model extras/embedded/weights/text_to_audio

Each generated clip (loser) is paired with the gold clip it was generated for (winner), under the prompt of the loser.
The loss is Diffusion-DPO with beta 2000: policy and reference, winner and loser see the same time, noise, crop and
condition dropout. Only a LoRA adapter is trained; the reference is the same network with the adapter switched off.
The output folder is a peft adapter; `history.csv` beside it holds loss, implicit accuracy and reward margin by step.
An interrupted training goes on from its last checkpoint and ends with the weights of an unbroken one.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from synthio.cli import (
    UserError,
    add_device_option,
    in_range,
    new_parser,
    pick_device,
    progress,
    quiet_libraries,
    run_main,
    set_threads,
)

ROOT = Path(__file__).resolve().parent
# every attention projection of the transformer's self- and cross-attention
LORA_TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
ENCODE_BATCH = 16


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--gold_csv", required=True, help="the small dataset (path, label)")
    parser.add_argument("--losers_csv", required=True, help="its generations (path, source_path, prompt)")
    parser.add_argument("--output_folder", required=True, help="output: the adapter")
    parser.add_argument(
        "--model", default=str(ROOT / "extras/embedded/weights/text_to_audio"), help="text-to-audio folder or hub id"
    )
    parser.add_argument("--beta", type=in_range(float, 0), default=2000.0, help="strength of the preference")
    parser.add_argument(
        "--winner_weight",
        type=in_range(float, 0),
        default=0.0,
        help="weight of the winner's own diffusion loss, an anchor to the gold clips (TangoFlux); 0: pure DPO",
    )
    parser.add_argument("--lora_rank", type=in_range(int, 1), default=16, help="rank of the adapter")
    parser.add_argument("--learning_rate", type=in_range(float, 0), default=5e-5, help="of AdamW, after warm-up")
    parser.add_argument("--weight_decay", type=in_range(float, 0), default=1e-3, help="of AdamW")
    parser.add_argument("--warmup_steps", type=in_range(int, 0), default=10, help="steps of linear warm-up")
    parser.add_argument("--num_steps", type=in_range(int, 1), default=150, help="optimiser steps")
    parser.add_argument("--batch_size", type=in_range(int, 1), default=8, help="pairs a step")
    parser.add_argument(
        "--condition_dropout", type=in_range(float, 0, 1), default=0.1, help="share of pairs trained without a prompt"
    )
    parser.add_argument("--checkpoint_every", type=in_range(int, 1), default=25, help="steps between checkpoints")
    parser.add_argument("--seed", type=in_range(int, 0), default=0, help="of everything random")
    add_device_option(parser)
    return parser


def pair_rows(gold, losers, losers_csv: str) -> list[tuple[str, str, str]]:
    """(winner path, loser path, prompt) of every pair, in the order of the losers.

    Raises:
        UserError: no losers, or one that was generated for a clip that is not in the gold CSV.
    """
    from synthio.manifest import PATH, PROMPT, SOURCE

    known = set(gold[PATH])
    pairs = []
    for row, loser in enumerate(losers.to_dict("records"), 1):
        if loser[SOURCE] not in known:
            raise UserError(f"{losers_csv} row {row}: source_path {loser[SOURCE]} is not in the gold CSV")
        if not loser[PROMPT]:
            raise UserError(f"{losers_csv} row {row}: the prompt is empty")
        pairs.append((loser[SOURCE], loser[PATH], loser[PROMPT]))
    if not pairs:
        raise UserError(f"{losers_csv}: no rows, so there is nothing to prefer the gold clips to")
    return pairs


def read_for_model(path: str, model):
    """A clip as [C, T] at the model's rate, channels and length; also its length in seconds before padding."""
    from synthio.audio import fit_length, read_audio

    audio, rate = read_audio(path, model.sample_rate, mono=model.channels == 1)
    seconds = min(audio.shape[1] / rate, model.max_seconds)
    audio = audio if len(audio) == model.channels else audio.mean(0, keepdims=True).repeat(model.channels, axis=0)
    return fit_length(audio, round(model.max_seconds * rate)), seconds


def encode_clips(paths: list[str], model):
    """Latents [N, D, L] and lengths in seconds [N] of distinct clips, each from its start.

    Winner and loser are cut alike: both start at 0 and have the model's length.
    """
    import torch

    latents, seconds = [], []
    for start in progress(range(0, len(paths), ENCODE_BATCH), "dpo: encoding batches"):
        clips = [read_for_model(path, model) for path in paths[start : start + ENCODE_BATCH]]
        latents.append(model.encode(torch.stack([torch.from_numpy(audio) for audio, _ in clips])))
        seconds += [length for _, length in clips]
    return torch.cat(latents), seconds


def encode_pairs(pairs, model):
    """Winner latents, loser latents [N, D, L] and the condition [N] of every pair, computed once.

    The condition says the winner's length, which is what the loser was generated at.
    """
    import torch

    paths = list(dict.fromkeys(path for winner, loser, _ in pairs for path in (winner, loser)))
    latents, seconds = encode_clips(paths, model)
    place = {path: i for i, path in enumerate(paths)}
    winners = torch.tensor([place[winner] for winner, _, _ in pairs])
    losers = torch.tensor([place[loser] for _, loser, _ in pairs])
    condition = model.condition([prompt for *_, prompt in pairs], [seconds[i] for i in winners])
    return latents[winners], latents[losers], condition


def add_lora(model, rank: int, seed: int) -> None:
    """Wrap the transformer in a zero-initialised LoRA (Hu et al. 2021); its output is unchanged at the start."""
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=LORA_TARGETS, lora_dropout=0.0)
    with torch.random.fork_rng():  # peft draws from the global generator
        torch.manual_seed(seed)
        model.module = get_peft_model(model.module, config)
    # A stable name: a path would make the adapter's hash depend on where the project lies.
    model.module.peft_config["default"].base_model_name_or_path = model.name


def pair_errors(model, winners, losers, noise, t, condition):
    """Squared errors [B] of winners and [B] of losers, in one pass over both."""
    import torch

    from synthio.diffusion import add_noise, squared_errors
    from synthio.models.base import Condition

    both, times = torch.cat([winners, losers]), torch.cat([t, t])
    noisy, target = add_noise(model.objective, both, torch.cat([noise, noise]), times)
    prediction = model.predict(noisy, times, Condition.joined([condition, condition]))
    return squared_errors(prediction, target).chunk(2)


def step_loss(model, data, args, step: int):
    """The loss of one optimiser step; everything random comes from (seed, step), so a resumed run repeats it."""
    import torch

    from synthio.diffusion import dpo_loss, stratified_times
    from synthio.files import stable_seed

    winners, losers, condition = data
    generator = torch.Generator().manual_seed(stable_seed(args.seed, "dpo step", step))
    index = batch_rows(len(winners), args.batch_size, args.seed, step)
    t = stratified_times(len(index), generator).to(winners.device)
    noise = torch.randn(len(index), *winners.shape[1:], generator=generator).to(winners.device)
    dropped = torch.rand(len(index), generator=generator) < args.condition_dropout
    batch = (winners[index], losers[index], noise, t, condition.rows(index).dropped(dropped.to(winners.device)))
    with torch.no_grad(), model.module.disable_adapter():
        reference = pair_errors(model, *batch)
    policy = pair_errors(model, *batch)
    result = dpo_loss(*policy, *reference, beta=args.beta)
    return result, result.loss + args.winner_weight * policy[0].mean()


def batch_rows(count: int, batch_size: int, seed: int, step: int):
    """Rows of a step's batch: every epoch is a new shuffle of all rows, known from (seed, step) alone."""
    import torch

    from synthio.files import stable_seed

    batch_size = min(batch_size, count)
    rows = []
    position = step * batch_size
    while len(rows) < batch_size:
        epoch, offset = divmod(position + len(rows), count)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(stable_seed(seed, "dpo epoch", epoch)))
        rows += order[offset : offset + batch_size - len(rows)].tolist()
    return torch.tensor(rows)


def save_checkpoint(path: Path, identity: str, step: int, model, optimizer, history: list[dict]) -> None:
    """Everything a rerun needs to go on after `step` steps."""
    import torch

    from synthio.files import atomic_path

    state = {name: p for name, p in model.module.named_parameters() if p.requires_grad}
    record = {"identity": identity, "step": step, "adapter": state, "history": history}
    with atomic_path(path) as temporary:
        torch.save(record | {"optimizer": optimizer.state_dict()}, temporary)


def load_checkpoint(path: Path, identity: str, model, optimizer) -> tuple[int, list[dict]]:
    """(step, history) to go on from; (0, []) without a checkpoint of this very training."""
    import torch

    if not path.is_file():
        return 0, []
    record = torch.load(path, weights_only=True)
    if record["identity"] != identity:
        return 0, []
    with torch.no_grad():
        for name, parameter in model.module.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(record["adapter"][name])
    optimizer.load_state_dict(record["optimizer"])
    return record["step"], record["history"]


def train(model, data, args, checkpoint: Path, identity: str) -> list[dict]:
    """Run the optimiser steps; returns the history, one record a step."""
    import torch

    parameters = [p for p in model.module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=args.learning_rate, weight_decay=args.weight_decay)
    first, history = load_checkpoint(checkpoint, identity, model, optimizer)
    if first:
        print(f"going on after step {first}", file=sys.stderr)
    started = time.monotonic()
    for step in progress(range(first, args.num_steps), "dpo: steps"):
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * min(1.0, (step + 1) / max(1, args.warmup_steps))
        result, loss = step_loss(model, data, args, step)
        if not torch.isfinite(loss):
            raise UserError(f"the loss is {float(loss)} at step {step}; lower --learning_rate or --beta")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        row = {"step": step, "loss": result.loss.item(), "accuracy": result.accuracy, "margin": result.margin}
        history.append(row | {"seconds": round(time.monotonic() - started, 2)})
        if (step + 1) % args.checkpoint_every == 0:
            save_checkpoint(checkpoint, identity, step + 1, model, optimizer, history)
    return history


def write_adapter(model, folder: Path) -> None:
    """Save the adapter; the weights come last, so a folder that has them is whole."""
    import tempfile

    from synthio.files import read_json, write_json

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".adapter.") as temporary:
        # Without the flag peft asks the hub for the base model's vocabulary size.
        model.module.save_pretrained(temporary, save_embedding_layers=False)
        config = read_json(Path(temporary) / "adapter_config.json")
        config["target_modules"] = sorted(config["target_modules"])  # a set: its order changes from run to run
        write_json(folder / "adapter_config.json", config)
        (Path(temporary) / "adapter_model.safetensors").replace(folder / "adapter_model.safetensors")


def summary(history: list[dict]) -> dict[str, float]:
    """Mean loss, accuracy and margin of the last fifth of the steps (single steps are noisy)."""
    tail = history[-max(1, len(history) // 5) :]
    return {key: sum(row[key] for row in tail) / len(tail) for key in ("loss", "accuracy", "margin")}


def main() -> int:
    args = get_parser().parse_args()
    import pandas as pd

    from synthio.files import fingerprint, sha256_file, sha256_value, write_json
    from synthio.manifest import LABEL, PATH, PROMPT, SOURCE, read_manifest, versions, write_table
    from synthio.models import load_text_to_audio

    quiet_libraries()
    set_threads()
    gold = read_manifest(args.gold_csv)
    losers = read_manifest(args.losers_csv, (PATH, LABEL, SOURCE, PROMPT))
    pairs = pair_rows(gold, losers, args.losers_csv)
    model = load_text_to_audio(args.model, None, pick_device(args.device))
    options = {name: value for name, value in vars(args).items() if name not in ("device", "output_folder")}
    inputs = {path: sha256_file(path) for path in (args.gold_csv, args.losers_csv)}
    record = {"options": options, "inputs": inputs, "model": fingerprint(args.model)}
    folder = Path(args.output_folder)
    checkpoint = folder.with_name(folder.name + "_checkpoint.pt")
    data = encode_pairs(pairs, model)
    add_lora(model, args.lora_rank, args.seed)
    history = train(model, data, args, checkpoint, sha256_value(record))
    write_adapter(model, folder)
    result = summary(history)
    write_table(pd.DataFrame(history), folder.with_name(folder.name + "_history.csv"))
    write_json(
        folder.with_name(folder.name + ".json"), record | {"pairs": len(pairs), **result, "versions": versions()}
    )
    checkpoint.unlink(missing_ok=True)
    print(
        f"{len(pairs)} pairs, {len(history)} steps; at the end loss {result['loss']:.4f} (start 0.6931), "
        f"implicit accuracy {result['accuracy']:.2f}, margin {result['margin']:.3f}",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    run_main(main)
