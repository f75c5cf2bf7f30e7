#!/usr/bin/env python3
"""Generate one clip for each row of a prompts CSV.

    python stable-audio-tools/generate.py --input_csv W/round_0/prompts.csv --output_csv W/round_0/generated.csv \\
        --output_folder S/round_0 --model extras/embedded/weights/text_to_audio --adapter W/dpo/adapter

A row gives `prompt`, `label`, `seed` and `path` (the gold clip it was written for: its length is generated, and with
--initialize_audio its sound is the starting point). File names are a hash of everything that shapes the sound, so
clips of two runs never overwrite each other. A batch whose clips are all there is not generated again; a batch is
always the same rows of the input, so an interrupted run ends with the same bytes as an unbroken one. A batch that the
GPU's memory does not hold is sampled, or decoded, in halves: a clip does not depend on the others of its batch, but for
rounding.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from synthio.batching import Halving
from synthio.cli import (
    UserError,
    compile_network,
    new_parser,
    pick_device,
    progress,
    quiet_libraries,
    run_main,
    set_threads,
)
from synthio.files import EMBEDDED
from synthio.generation.options import AUTO_SAMPLER, SamplingOptions
from synthio.options import Compiling, Device, add_options

if TYPE_CHECKING:
    from synthio.models.base import Condition, Sampling

# What suits a model: its sampler, then (steps, guidance) by objective, or by sampler where that decides.
# v is the paper's: DPM-Solver++ 3M SDE, 250 steps, guidance 7 (its released code has 10). A rectified flow needs fewer
# steps; pingpong is for distilled models, which need few and had their guidance trained in.
MOST_IN_A_FOLDER = 10_000
CONDITIONED_AT_ONCE = 16  # batches: a few hundred MB of conditions in memory, and a second of a text encoder's time
AUTO = {"rectified_flow": "euler", "v": "dpmpp_3m_sde"}
# A checkpoint that says how it is sampled (Stable Audio 3) is sampled like that.
DEFAULTS = {"rectified_flow": (24, 3.0), "v": (250, 7.0), "pingpong": (8, 1.0)}


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--input_csv", required=True, help="prompts: path, label, prompt, seed")
    parser.add_argument("--output_csv", required=True, help="output: the generated clips")
    parser.add_argument("--output_folder", required=True, help="folder of the new WAV files")
    parser.add_argument("--whole_csv", default="", help="the table that this one is a shard of; empty: it is none")
    parser.add_argument(
        "--gold_csv", default="", help="all gold clips of the run, for --latent_seconds; empty: those of the prompts"
    )
    parser.add_argument("--model", default=str(EMBEDDED / "text_to_audio"), help="text-to-audio folder or hub id")
    parser.add_argument(
        "--adapter",
        default="",
        help="adapter folder of dpo_train.py, or the JSON of synthio.report.judge on it; empty: the model as it is",
    )
    for options in (SamplingOptions, Compiling, Device):
        add_options(parser, options)
    return parser


def takes_distilled(args) -> bool:
    """Whether the weights for few steps are taken: asked for, or there, where nothing asks for the model's own.

    A LoRA, though trained on the own weights, moves clips of the distilled ones alike. Prefixes were not tried, and an
    adapter of all weights takes the place of either.
    """
    from synthio.models.adapters import adapter_kind
    from synthio.models.load import has_distilled

    if args.distilled != "auto":
        return args.distilled == "true"
    own = args.sampler != AUTO_SAMPLER or args.num_steps or args.cfg_scale
    if own or not has_distilled(args.model):
        return False
    return not args.adapter or adapter_kind(args.adapter) == "lora"


def resolve_sampling(args, objective: str, own: Sampling | None = None) -> dict:
    """The sampling options; where the user gave none, the checkpoint's own, or what suits its objective."""
    from synthio.generation.sampling import check_sampler

    sampler = args.sampler
    if sampler == AUTO_SAMPLER:
        sampler = own.sampler if own else AUTO[objective]
    check_sampler(sampler, objective)
    num_steps, cfg_scale = DEFAULTS.get(sampler, DEFAULTS[objective])
    if own and sampler == own.sampler:
        num_steps, cfg_scale = own.num_steps, own.cfg_scale
    return {
        "num_steps": args.num_steps or num_steps,
        "cfg_scale": args.cfg_scale or cfg_scale,
        "cfg_rescale": args.cfg_rescale,
        "sampler": sampler,
    }


def clip_seconds(record: dict, fixed_s: float, max_s: float) -> float:
    """Length of a row's clip in seconds: fixed, or that of its gold clip, at most what the model can make."""
    from synthio.generation.length import seconds_of

    return min(fixed_s or seconds_of(record), max_s)


def file_name(label: str, recipe: dict) -> str:
    """A name for people (label) that is unique by content (hash of all that shapes the sound)."""
    from synthio.files import sha256_value

    slug = re.sub(r"[^\w-]+", "-", label).strip("-")[:40] or "clip"
    return f"{slug}_{sha256_value(recipe)[:16]}.wav"


def count_rows(csv_path: str) -> int:
    """Rows of a table of any columns."""
    with Path(csv_path).open(newline="", encoding="utf-8-sig") as stream:
        return sum(1 for _ in csv.DictReader(stream))


def clip_path(folder: Path, name: str, rows: int) -> Path:
    """Where a clip of a table goes: of a large one, in one of 256 folders by the hash in its name.

    Programs that list a folder, and network disks, are slow with more files than `MOST_IN_A_FOLDER`.
    """
    if rows <= MOST_IN_A_FOLDER:
        return folder / name
    return folder / name.removesuffix(".wav")[-16:][:2] / name


def plan(table, args, model, sampling: dict, identity: str) -> list[dict]:
    """One request per row: where the clip goes, its length, prompt, seed and gold clip."""
    from synthio.manifest import CONTENT, LABEL, PATH, PROMPT, SEED

    requests = []
    folder, rows = Path(args.output_folder).absolute(), count_rows(args.whole_csv or args.input_csv)
    for row, record in enumerate(table.to_dict("records"), 1):
        if not re.fullmatch(r"\d+", record[SEED]):
            raise UserError(f"{args.input_csv} row {row}: seed '{record[SEED]}' is not a whole number")
        seconds = round(clip_seconds(record, args.seconds, model.max_seconds), 3)
        recipe = {"model": identity, "prompt": record[PROMPT], "seed": record[SEED], "seconds": seconds, **sampling}
        if (dtype := str(model.dtype)) != "torch.float32":
            recipe["dtype"] = dtype
        if model.is_shortened:
            recipe["latent_frames"] = model.latent_shape[1]
        if args.initialize_audio:
            gold = record.get(CONTENT) or record[PATH]
            recipe |= {"gold": gold, "init_noise_level": args.init_noise_level}
        path = clip_path(folder, file_name(record[LABEL], recipe), rows)
        requests.append({"path": path, "seconds": seconds, "record": record})
    return requests


def is_done(request: dict, model, noted: Mapping[str, str]) -> bool:
    """Whether the clip is there, readable, of the right length and, where an earlier call noted it, with its sound."""
    from synthio.audio import BadAudio, probe
    from synthio.data.contents import has_content
    from synthio.generation.decoding import samples_of

    path = str(request["path"])
    try:
        sample_rate, _, frames = probe(path)
    except BadAudio:  # none there, or half of one: it is made now
        return False
    is_right = sample_rate == model.sample_rate and frames == samples_of(request["seconds"], model)
    return is_right and (path not in noted or has_content(path, noted[path]))


def batches_of(requests: list[dict], model, size: int) -> list[list[dict]]:
    """At most `size` consecutive requests each, of equally many latent frames."""
    alike: dict[int, list[dict]] = {}
    for request in requests:
        alike.setdefault(model.frames_for(request["seconds"]), []).append(request)
    return [group[start : start + size] for group in alike.values() for start in range(0, len(group), size)]


def gold_latents(batch: list[dict], model, frames: int | None = None):
    """Latents [B, D, L] of the batch's gold clips."""
    import torch

    from synthio.generation.pairs import read_for_model
    from synthio.manifest import PATH

    return model.encode(torch.stack([read_for_model(request["record"][PATH], model, frames)[0] for request in batch]))


def conditioned(batches: list[list[dict]], model) -> Iterator[tuple[list[dict], Condition]]:
    """Each batch and its condition, on the CPU.

    Those of some batches are computed at once. Then what reads texts leaves the device, whose memory sampling needs.
    """
    from synthio.manifest import PROMPT

    for start in range(0, len(batches), CONDITIONED_AT_ONCE):
        some = batches[start : start + CONDITIONED_AT_ONCE]
        model.move("text", model.device)
        texts = [([r["record"][PROMPT] for r in batch], [r["seconds"] for r in batch]) for batch in some]
        conditions = [model.condition(*text).to("cpu") for text in texts]
        model.move("text", "cpu")
        yield from zip(some, conditions, strict=True)


def sample_batch(rows: range, batch: list[dict], condition, args, model, sampling: dict):
    """The latents [B, D, L] of some of a batch's clips."""
    import torch

    from synthio.generation.sampling import sample
    from synthio.manifest import SEED

    frames, batch = model.frames_for(batch[0]["seconds"]), [batch[row] for row in rows]
    return sample(
        model,
        condition.rows(torch.tensor(rows)).to(model.device),
        [int(r["record"][SEED]) for r in batch],
        init_latents=gold_latents(batch, model, frames) if args.initialize_audio else None,
        init_noise_level=args.init_noise_level,
        num_frames=frames,
        **sampling,
    )


def generate_missing(requests: list[dict], args, model, sampling: dict) -> int:
    """Generate the batches that miss a clip; how many clips these are.

    Sampling and decoding find the sizes that the memory holds each for itself: what was sampled is not lost where the
    decoder needs more.
    """
    import torch

    from synthio.audio import write_wav
    from synthio.data.contents import noted_contents
    from synthio.generation.decoding import decode_clips

    noted = noted_contents(args.output_csv)
    made, fitting, decoding = 0, Halving(args.batch_size), Halving(args.batch_size, "decoded clip")
    batches = batches_of(requests, model, args.batch_size)
    missing = [batch for batch in batches if not all(is_done(request, model, noted) for request in batch)]
    for batch, condition in progress(conditioned(missing, model), "generate: batches", len(missing)):
        sample = partial(sample_batch, batch=batch, condition=condition, args=args, model=model, sampling=sampling)
        latents = torch.stack(fitting.run(sample, range(len(batch))))
        clips = decode_clips(model, latents, [request["seconds"] for request in batch], decoding)
        for request, audio in zip(batch, clips, strict=True):
            write_wav(request["path"], audio, model.sample_rate)
        made += len(batch)
    return made


def result_row(request: dict, model_name: str) -> dict:
    """The row of the output for a finished clip; the gold clip's columns go on, its path as source_path."""
    from synthio.audio import content_hash, read_audio
    from synthio.manifest import CONTENT, DURATION, MODEL, PATH, SOURCE, SOURCE_CONTENT

    audio, sample_rate = read_audio(request["path"], mono=False)
    return request["record"] | {
        PATH: str(request["path"]),
        SOURCE: request["record"][PATH],
        SOURCE_CONTENT: request["record"].get(CONTENT, ""),
        MODEL: model_name,
        DURATION: f"{audio.shape[1] / sample_rate:.3f}",
        CONTENT: content_hash(audio, sample_rate),
    }


def main() -> int:
    args = get_parser().parse_args()
    import pandas as pd

    from synthio.files import fingerprint, sweep
    from synthio.generation.chosen import chosen_adapter
    from synthio.generation.length import set_latent_length
    from synthio.manifest import (
        CONTENT,
        DURATION,
        LABEL,
        MODEL,
        PATH,
        PROMPT,
        SEED,
        SOURCE,
        SOURCE_CONTENT,
        read_manifest,
        write_manifest,
    )
    from synthio.models.hub import exact_name
    from synthio.models.load import load_text_to_audio

    quiet_libraries()
    set_threads()
    table = read_manifest(args.input_csv, (PATH, LABEL, PROMPT, SEED), check_files=args.initialize_audio)
    args.adapter = chosen_adapter(args.adapter)
    device = pick_device(args.device)
    model = load_text_to_audio(args.model, args.adapter or None, device, args.dtype, distilled := takes_distilled(args))
    set_latent_length(model, args.latent_seconds, args.gold_csv or args.whole_csv or args.input_csv, args.seconds)
    if args.compile:
        compile_network(model.module, device)
    identity = f"{model.name}@{fingerprint(args.model)[:12]}"
    if distilled:
        identity += "+distilled"
    if args.adapter:
        identity += f"+adapter@{fingerprint(args.adapter)[:12]}"
    sampling = resolve_sampling(args, model.objective, model.sampling)
    requests = plan(table, args, model, sampling, identity)
    sweep([Path(args.output_folder)], deep=True)
    made = generate_missing(requests, args, model, sampling)
    columns = list(dict.fromkeys([*table.columns, SOURCE, SOURCE_CONTENT, MODEL, DURATION, CONTENT]))
    rows = pd.DataFrame([result_row(request, identity) for request in requests], columns=columns, dtype=str)
    write_manifest(
        rows,
        args.output_csv,
        rows_in=len(table),
        options={**vars(args), **sampling},
        inputs=[args.input_csv],
        notes={
            "model": identity,
            "source": exact_name(args.model),
            "made_now": made,
            "latent_seconds": round(model.max_seconds, 3),
        },
    )
    print(f"{len(rows)} clips, {made} of them generated now, {sampling}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_main(main)
