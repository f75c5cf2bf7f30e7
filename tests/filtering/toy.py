"""What the tests of the filter share."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from synthio.filtering.thresholds import score_cells
from tests.rows import rows_of, write_rows
from tests.scripts import ROOT, call_script

FILTER, FINETUNE, TRAIN = ROOT / "filter_audios.py", ROOT / "extras/finetune_clap.py", ROOT / "ast/train.py"
SCORE, RATE = "clap_score", 16000


def scored(*rows: tuple, column: str = SCORE) -> pd.DataFrame:
    """A table of (label, score[, reason]); the clips are called a, b, ... in row order."""
    columns = {"path": [], "label": [], SCORE: [], column: [], "reason": []}
    for name, (label, score, *reason) in zip("abcdefghijklmnop", rows, strict=False):
        columns["path"].append(f"/{name}.wav")
        columns["label"].append(label)
        columns["reason"].append(reason[0] if reason else "")
        columns[SCORE].append(*score_cells([score]))
        if column != SCORE:
            columns[column].append(*score_cells([score]))
    return pd.DataFrame(columns, dtype=str)


def barks(seed: int, seconds: float = 2.0) -> np.ndarray:
    """Bursts of coloured noise with a falling pitch, [T] at 16 kHz: sounds of one kind, each another recording."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(int(seconds * RATE)) / RATE
    out = 0.01 * rng.normal(size=len(time_s))
    for start in np.sort(rng.uniform(0, seconds - 0.3, 4)):
        since = np.clip(time_s - start, 0, None)
        tone = np.sin(2 * np.pi * (500 * since - 300 * since**2)) + 0.5 * rng.normal(size=len(time_s))
        out += 0.3 * tone * np.exp(-12 * since) * (time_s >= start)
    return out


def encoded(folder: Path, audio: np.ndarray, name: str, rate: int = RATE) -> Path:
    path = folder / name
    soundfile.write(path, np.clip(audio, -1, 1), rate)
    return path


def run_filter(world, clap, *words, source="clips.csv", name="f", ok=True):
    """(kept rows, rejected rows, what was printed) of filter_audios.py with threshold 0, unless words say otherwise."""
    out = [world / f"{name}_kept.csv", world / f"{name}_rejected.csv"]
    threshold = () if "--threshold" in words else ("--threshold", 0)
    args = ["--input_csv", world / source, "--kept_csv", out[0], "--rejected_csv", out[1], "--model", clap, *threshold]
    done = call_script(FILTER, *args, *words)
    assert (done.returncode == 0) == ok, done.stderr
    return (rows_of(out[0]), rows_of(out[1]), done.stderr) if ok else done.stderr


def save_world(folder: Path) -> Path:
    """Folder with gold.csv, valid.csv, test.csv and clips.csv of different sounds: 3, 10, 3 and 8 of two labels."""
    seeds = itertools.count(100)
    for name, count in {"gold": 3, "valid": 10, "test": 3, "clips": 8}.items():
        rows = []
        for i in range(count):
            encoded(folder, barks(next(seeds), 1.0), f"{name}{i}.wav")
            rows.append({"path": f"{name}{i}.wav", "label": ["dog_bark", "rain"][i % 2]})
        write_rows(folder / f"{name}.csv", rows)
    return folder


def save_tones(folder: Path) -> Path:
    """train.csv and valid.csv of noisy tones, 0.5 to 3 s, one pitch a label."""
    rng = np.random.default_rng(0)
    for name, count in {"train": 12, "valid": 6}.items():
        rows = []
        for i in range(count):
            time_s = np.arange(int(RATE * rng.uniform(0.5, 3))) / RATE
            tone = 0.2 * np.sin(2 * np.pi * (300 + 900 * (i % 3)) * time_s) + 0.02 * rng.normal(size=len(time_s))
            encoded(folder, tone, f"{name}{i}.wav")
            rows.append({"path": f"{name}{i}.wav", "label": ["dog_bark", "rain", "siren"][i % 3]})
        write_rows(folder / f"{name}.csv", rows)
    return folder
