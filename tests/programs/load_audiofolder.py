"""Load folders with Hugging Face datasets, in the environment datasets:

    .envs/datasets/bin/python tests/programs/load_audiofolder.py FOLDER CACHE

Prints as JSON what each way of loading gives: columns, rows by split, and the bytes of each clip as frames and rate.
"""

from __future__ import annotations

import io
import json
import sys

import datasets
import soundfile


def contents(loaded: datasets.DatasetDict) -> dict:
    """Split -> rows; of the clip its number of frames and its sample rate, without torchcodec."""
    found = {}
    for split, rows in loaded.items():
        rows = rows.cast_column("audio", datasets.Audio(decode=False))
        found[split] = [row | {"audio": describe(row["audio"])} for row in rows]
    return found


def describe(audio: dict) -> list[int]:
    """[frames, sample rate] of an undecoded clip."""
    source = io.BytesIO(audio["bytes"]) if audio["bytes"] else audio["path"]
    info = soundfile.info(source)
    return [info.frames, info.samplerate]


if __name__ == "__main__":
    folder, cache = sys.argv[1:]
    ways = {
        "audiofolder": datasets.load_dataset("audiofolder", data_dir=folder, cache_dir=cache),
        "folder": datasets.load_dataset(folder, cache_dir=cache),
    }
    print(json.dumps({name: contents(loaded) for name, loaded in ways.items()}, default=str))
