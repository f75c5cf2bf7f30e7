#!/usr/bin/env python3
"""Put the recording chain of the gold clips on generated clips: room, tone, bandwidth, level and noise floor.

    python -m synthio.generation.match_channel --input_csv W/round_0/unmatched.csv --gold_csv W/train_50.csv \\
        --output_csv W/round_0/generated.csv --output_folder S/round_0

One chain is estimated for all clips (synthio/generation/channel.py) and written beside the output, as .channel.json. A
later round is given the chain of the first (--channel), for its clips are those that the filter rejected, which are
fewer and not of all classes in the same shares. The clips that came in stay as they are: each row says where its own is
(`unmatched_path`), and with the chain and `channel_seed` it is made again to the bit.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from synthio.cli import UserError, new_parser, progress, run_main, set_threads

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from synthio.generation.channel import Channel

CHAIN_SUFFIX = ".channel.json"
MAX_CLIPS = 500  # of each set that the chain is estimated from: its errors are far below what is heard then


def get_parser():
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--input_csv", required=True, help="generated clips (path, label)")
    add("--gold_csv", required=True, help="the small dataset, whose recording chain it is")
    add("--output_csv", required=True, help="output: the clips as they are heard through it")
    add("--output_folder", required=True, help="folder of the new WAV files")
    add("--channel", default="", help="the .channel.json of an earlier round; empty: it is estimated")
    return parser


def in_equal_shares(table: pd.DataFrame, gold: pd.DataFrame) -> pd.DataFrame:
    """Rows whose classes stand to each other as those of the gold clips do: a difference of spectra is none of classes.

    Classes that only one of the sets has are left out, unless there would be none.
    """
    from synthio.manifest import prompt_cells

    own, wanted = prompt_cells(table), Counter(prompt_cells(gold))
    counts = Counter(own)
    common = [name for name in counts if wanted[name]]
    if not common:
        return table.iloc[:MAX_CLIPS]
    most = min(MAX_CLIPS / sum(wanted[name] for name in common), min(counts[name] / wanted[name] for name in common))
    left = {name: max(1, int(most * wanted[name])) for name in common}
    rows = []
    for row, name in enumerate(own):
        if left.get(name, 0):
            left[name] -= 1
            rows.append(row)
    return table.iloc[rows]


def read_clips(paths: Sequence[str], csv: str, sample_rate: int) -> list[np.ndarray]:
    """Mono clips [T].

    Raises:
        UserError: a clip cannot be read.
    """
    return [_read(path, csv, row, sample_rate)[0][0] for row, path in enumerate(paths, 1)]


def _read(path: str, csv: str, row: int, sample_rate: int | None = None, mono: bool = True) -> tuple[np.ndarray, int]:
    from synthio.audio import BadAudio, read_audio

    try:
        return read_audio(path, sample_rate, mono=mono)
    except BadAudio as error:
        raise UserError(f"{csv} row {row}: {path}: {error}") from None


def estimate(table: pd.DataFrame, csv: str, gold_csv: str) -> Channel:
    """The chain of the gold clips; `table` are the rows of `csv`, generated clips.

    Raises:
        UserError: there are none, or one cannot be read.
    """
    from synthio.audio import probe
    from synthio.generation.channel import estimate_channel
    from synthio.manifest import PATH, read_manifest

    gold = read_manifest(gold_csv)
    if table.empty:
        raise UserError(f"{csv}: no clips, so no channel can be told from theirs")
    rate = probe(table[PATH].iloc[0])[0]
    sets = [(in_equal_shares(table, gold), csv), (gold.iloc[:MAX_CLIPS], gold_csv)]
    generated, real = (read_clips(list(part[PATH]), name, rate) for part, name in sets)
    return estimate_channel(real, generated, rate)


def read_channel(path: str) -> Channel:
    """The chain of an earlier round.

    Raises:
        UserError: the file is damaged.
    """
    from synthio.files import read_object
    from synthio.generation.channel import Channel, channel_of

    return channel_of(read_object(path, *Channel.__dataclass_fields__))


def clip_seed(record: dict[str, str]) -> int:
    """Of a clip's noise: it depends on the clip alone, not on its row or on others."""
    from synthio.files import stable_seed
    from synthio.manifest import CONTENT, PROMPT, SEED

    return stable_seed("channel", *(record.get(column, "") for column in (PROMPT, SEED, CONTENT)))


def match_clip(record: dict[str, str], row: int, channel: Channel, target: Path, csv: str) -> dict[str, str]:
    """Write a clip as it is heard through the chain; its row of the output.

    Raises:
        UserError: the clip cannot be read, or has another sample rate.
    """
    from synthio.audio import as_written, content_hash, write_wav
    from synthio.manifest import CHANNEL_SEED, CONTENT, PATH, UNMATCHED

    audio, rate = _read(record[PATH], csv, row, mono=False)
    if rate != channel.sample_rate:
        raise UserError(
            f"{csv} row {row}: {record[PATH]} has {rate} Hz and the chain {channel.sample_rate} Hz; generate all clips "
            "with one model"
        )
    seed = clip_seed(record)
    heard = channel.apply(audio, seed)
    write_wav(target, heard, rate)
    found = {PATH: str(target), UNMATCHED: record[PATH], CHANNEL_SEED: str(seed)}
    return record | found | {CONTENT: content_hash(as_written(heard), rate)}


def targets(paths: Sequence[str], folder: Path, identity: str) -> list[Path]:
    """Where each clip goes: below the folder as it lay with the others, its name with the hash of the chain."""
    if not paths:
        return []
    common = os.path.commonpath([str(Path(path).parent) for path in paths])
    named = [Path(path).with_name(f"{Path(path).stem}_{identity[:8]}.wav") for path in paths]
    return [folder / path.relative_to(common) for path in named]


def main() -> int:
    args = get_parser().parse_args()
    import pandas as pd

    from synthio.data.contents import check_contents
    from synthio.files import sha256_value, sweep, write_json
    from synthio.manifest import CHANNEL_SEED, CONTENT, PATH, UNMATCHED, read_manifest, write_manifest

    set_threads()
    table = read_manifest(args.input_csv)
    check_contents(table, args.input_csv)
    channel = read_channel(args.channel) if args.channel else estimate(table, args.input_csv, args.gold_csv)
    identity, folder = sha256_value(channel.record()), Path(args.output_folder).absolute()
    sweep([folder], deep=True)
    places = targets(list(table[PATH]), folder, identity)
    pairs = zip(table.to_dict("records"), progress(places, "channel"), strict=True)
    rows = [match_clip(record, row, channel, place, args.input_csv) for row, (record, place) in enumerate(pairs, 1)]
    columns = list(dict.fromkeys([*table.columns, UNMATCHED, CHANNEL_SEED, CONTENT]))
    write_json(Path(args.output_csv).with_suffix(CHAIN_SUFFIX), channel.record())
    inputs = [path for path in (args.input_csv, args.gold_csv, args.channel) if path]
    notes = {"channel": identity, "summary": channel.summary()}
    out = pd.DataFrame(rows, columns=columns, dtype=str)
    write_manifest(out, args.output_csv, rows_in=len(table), options=vars(args), inputs=inputs, notes=notes)
    print(f"{len(rows)} clips heard through the gold clips' channel: {channel.summary()}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_main(main)
