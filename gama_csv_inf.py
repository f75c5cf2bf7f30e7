#!/usr/bin/env python3
"""Caption the gold audio: what a listener without the label would write down (paper, section 3.3).

    python gama_csv_inf.py --input_csv W/train_100.csv --output_csv W/captions.csv --captioner embedded
    python gama_csv_inf.py ... --captioner Qwen/Qwen2-Audio-7B-Instruct
    python gama_csv_inf.py ... --captioner gama --gama_dir GAMA --gama_checkpoint stage5/pytorch_model.bin
    python gama_csv_inf.py ... --captioner openai --caption_model MODEL --caption_base_url http://localhost:8080/v1

The output is the input with a column `caption`. The embedded captioner measures the clip (level, pitch, number and pace
of sounds, background) and has no weights. Audio LLMs of transformers are known by their config: Qwen2-Audio,
Qwen2.5-Omni, Qwen3-Omni, Audio Flamingo 3 and Next. `gama` is the paper's captioner, run from a clone of its
repository. `openai` is a model that hears on a server of that protocol. Captions are kept in <output>.cache.jsonl as
they come, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path

from synthio.batching import Halving
from synthio.captions.requests import CaptionerOptions
from synthio.cli import UserError, new_parser, progress, run_main
from synthio.options import add_options, from_args


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--input_csv", required=True, help="gold clips (path, label)")
    parser.add_argument("--output_csv", required=True, help="output: the same with a column `caption`")
    add_options(parser, CaptionerOptions)
    return parser


def read_clips(records: list[tuple[int, dict]], csv: str, sample_rate: int):
    """Mono clips [1, T] of (row number, record) pairs.

    Raises:
        UserError: a clip that cannot be used, with its row.
    """
    from synthio.audio import BadAudio, read_audio
    from synthio.manifest import PATH

    clips = []
    for row, record in records:
        try:
            clips.append(read_audio(record[PATH], sample_rate)[0])
        except BadAudio as error:
            raise UserError(f"{csv} row {row}: {record[PATH]}: {error}") from None
    return clips


def caption_rows(table, csv: str, captioner, cache) -> list[str]:
    """A caption for each row; those in the cache are not made again."""
    records = table.to_dict("records")
    questions = [question(record, captioner) for record in records]
    missing = [(row, record) for row, record in enumerate(records) if cache.get(questions[row]) is None]
    size = captioner.batch_size
    fitting = Halving(size)
    for start in progress(range(0, len(missing), size), "caption: batches"):
        batch = missing[start : start + size]
        clips = read_clips([(row + 1, record) for row, record in batch], csv, captioner.sample_rate)
        served = captioner.is_served
        for k, caption in (
            captioner.describe_each(clips) if served else enumerate(fitting.run(captioner.describe, clips))
        ):
            cache.put(questions[batch[k][0]], caption)
    if missing and (spent := captioner.spent()):
        print(spent, file=sys.stderr)
    return [cache.get(one) for one in questions]


def question(record: dict, captioner) -> list[str]:
    """What decides a caption: the sound and who listens."""
    from synthio.files import sha256_file
    from synthio.manifest import CONTENT, PATH

    return [*captioner.key, record.get(CONTENT) or sha256_file(record[PATH])]


def main() -> int:
    args = get_parser().parse_args()
    from synthio.cache import AnswerCache
    from synthio.captions.load import load_captioner
    from synthio.manifest import CAPTION, read_manifest, write_manifest

    table = read_manifest(args.input_csv)
    captioner = load_captioner(args.captioner, from_args(CaptionerOptions, args))
    cache = AnswerCache(Path(args.output_csv).with_suffix(".cache.jsonl"))
    table[CAPTION] = caption_rows(table, args.input_csv, captioner, cache)
    write_manifest(
        table,
        args.output_csv,
        rows_in=len(table),
        options=vars(args),
        inputs=[args.input_csv],
        notes={"captioner": captioner.name},
    )
    if empty := int((table[CAPTION] == "").sum()):
        print(f"{captioner.name} had nothing to say of {empty} clips; their captions are empty", file=sys.stderr)
    if len(table):
        print(f"{len(table)} captions, such as: {table[CAPTION].iloc[0]}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_main(main)
