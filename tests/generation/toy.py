"""Tiny models, gold clips of noise, and tones as their generations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from tests.rows import write_rows
from tests.tiny_models import save_clap, save_text_to_audio

OBJECTIVES = ["rectified_flow", "v"]
KINDS = ["lora", "prefix", "all"]


# at these rates a tiny model learns in a few steps
RATES = {"lora": 1e-3, "prefix": 1e-2, "all": 1e-4}


def save_world(folder: Path) -> Path:
    """Tiny models; seven gold clips of noise, 0.5 to 2.3 s, and two tones for each as its generations."""
    for objective in OBJECTIVES:
        save_text_to_audio(folder / objective, objective)
    save_clap(folder / "clap")
    rng = np.random.default_rng(0)
    gold, losers = [], []
    for i in range(7):
        label = ["dog_bark", "rain", "siren"][i % 3]
        noise = rng.normal(0, 0.1, int(16000 * (0.5 + 0.3 * i)))
        soundfile.write(folder / f"gold_{i}.wav", noise, 16000)
        gold.append({"path": f"gold_{i}.wav", "label": label})
        for k in range(2):
            time_s = np.arange(min(len(noise), 20480)) / 16000
            tone = 0.1 * np.sin(2 * np.pi * (300 + 90 * i + 2000 * k) * time_s)
            soundfile.write(folder / f"made_{i}_{k}.wav", tone + rng.normal(0, 0.01, len(tone)), 16000)
            row = {"path": f"made_{i}_{k}.wav", "label": label, "source_path": f"gold_{i}.wav"}
            losers.append(row | {"prompt": f"Sound of a {label.replace('_', ' ')}"})
    write_rows(folder / "gold.csv", gold)
    write_rows(folder / "losers.csv", losers)
    return folder


def losers_of(world) -> pd.DataFrame:
    """The generations as the script reads them."""
    from synthio.manifest import read_manifest

    return read_manifest(world / "losers.csv")
