"""Fixtures that the tests share."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.scripts import Done

# How many threads share a sum decides its last bits: tests that compare bytes want one number of them in every process.
# Set before anything imports torch.
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture
def make_wav(tmp_path):
    """make_wav("a.wav", seconds=1, sample_rate=16000, channels=1, freq_hz=440, level=0.3, seed=None) -> its path.

    A tone, or noise when a seed is given; `audio` ([T] or [T, C]) is written as it is. Relative names lie in
    tmp_path. The suffix chooses the format; `subtype` is one of soundfile's ("PCM_16", "FLOAT", ...).
    """
    import soundfile

    def make(
        name,
        seconds: float = 1.0,
        *,
        sample_rate: int = 16000,
        channels: int = 1,
        freq_hz: float = 440.0,
        level: float = 0.3,
        seed: int | None = None,
        audio: np.ndarray | None = None,
        subtype: str | None = None,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if audio is None:
            t = np.arange(round(seconds * sample_rate)) / sample_rate
            noise = None if seed is None else np.random.default_rng(seed).uniform(-1, 1, len(t))
            tone = np.sin(2 * np.pi * freq_hz * t) if noise is None else noise
            audio = np.repeat(level * tone[:, None], channels, axis=1)
        soundfile.write(str(path), audio, sample_rate, subtype=subtype)
        return path

    return make


@pytest.fixture
def make_manifest(tmp_path):
    """make_manifest("train.csv", [(path, label), ...] or [dict, ...]) -> its path; relative to tmp_path."""

    def make(name, rows: Sequence, columns: Sequence[str] = ("path", "label")) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        records = [row if isinstance(row, dict) else dict(zip(columns, row, strict=True)) for row in rows]
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(records[0]) if records else list(columns), lineterminator="\n")
            writer.writeheader()
            writer.writerows(records)
        return path

    return make


@pytest.fixture
def run_script():
    """run_script(path or "-m", *words, cwd=None, timeout=120) -> Done(returncode, stdout, stderr), as a process."""

    def run(*words, cwd=None, timeout: float = 120, env: dict[str, str] | None = None) -> Done:
        command = [sys.executable, *map(str, words)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
        done = subprocess.run(
            command, cwd=cwd or ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def real_data() -> Path:
    """The folder of real audio beside the repository; the test is skipped where it is absent."""
    if not (REAL_DATA / "esc10" / "esc10.csv").is_file():
        pytest.skip(f"no real audio at {REAL_DATA}")
    return REAL_DATA
