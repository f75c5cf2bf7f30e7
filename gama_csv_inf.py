#!/usr/bin/env python3
"""Caption the gold audio: what a listener without the label would write down (paper, section 3.3).

    python gama_csv_inf.py --input_csv W/train_100.csv --output_csv W/captions.csv --captioner embedded

The output is the input with a column `caption`. The embedded captioner measures the clip (level, pitch, number and pace
of sounds, background) and has no weights. Captions are kept in <output>.cache.jsonl as they come, so an interrupted
run goes on where it stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path

from synthio.cli import UserError, add_device_option, new_parser, progress, run_main


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--input_csv", required=True, help="gold clips (path, label)")
    parser.add_argument("--output_csv", required=True, help="output: the same with a column `caption`")
    parser.add_argument("--captioner", default="embedded", help="embedded")
    add_device_option(parser)
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
    questions = [question(record, captioner) for record in table.to_dict("records")]
    missing = [(row, record) for row, record in enumerate(table.to_dict("records")) if not cache.get(questions[row])]
    size = captioner.batch_size
    for start in progress(range(0, len(missing), size), "caption: batches"):
        batch = missing[start : start + size]
        clips = read_clips([(row + 1, record) for row, record in batch], csv, captioner.sample_rate)
        for (row, _), caption in zip(batch, captioner.describe(clips), strict=True):
            cache.put(questions[row], caption)
    return [cache.get(one) for one in questions]


def question(record: dict, captioner) -> list[str]:
    """What decides a caption: the sound and who listens."""
    from synthio.files import sha256_file
    from synthio.manifest import CONTENT, PATH

    return [captioner.name, record.get(CONTENT) or sha256_file(record[PATH])]


def main() -> int:
    args = get_parser().parse_args()
    from synthio.cache import AnswerCache
    from synthio.manifest import CAPTION, read_manifest, write_manifest
    from synthio.models.captioning import load_captioner

    table = read_manifest(args.input_csv)
    captioner = load_captioner(args.captioner, args.device)
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
    if len(table):
        print(f"{len(table)} captions, such as: {table[CAPTION].iloc[0]}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_main(main)
