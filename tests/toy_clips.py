"""Noise as gold clips, and scripts on tiny models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from tests.rows import write_rows
from tests.scripts import ROOT, call_script
from tests.tiny_models import save_clap, save_text_to_audio

GENERATE, FILTER = ROOT / "stable-audio-tools/generate.py", ROOT / "filter_audios.py"
LABELS = ["dog_bark", "rain", "siren"]


def run(script, *args, ok=True):
    done = call_script(script, *args)
    assert (done.returncode == 0) == ok, done.stderr
    return done


def save_models(folder: Path) -> Path:
    """Folders of tiny models: flow and v text-to-audio, CLAP."""
    save_text_to_audio(folder / "flow")
    save_text_to_audio(folder / "v", "v", channels=2)
    save_clap(folder / "clap")
    return folder


def save_noise(folder: Path) -> Path:
    """Seven gold clips of noise, 0.5 to 2.3 s, with prompts."""
    rng = np.random.default_rng(0)
    (folder / "audio").mkdir()
    gold, prompts = [], []
    for i in range(7):
        audio = rng.normal(0, 0.1, int(16000 * (0.5 + 0.3 * i))).astype(np.float32)
        soundfile.write(folder / f"audio/{i}.wav", audio, 16000)
        gold.append({"path": f"audio/{i}.wav", "label": LABELS[i % 3]})
        prompts.append(gold[-1] | {"prompt": f"Sound of a {LABELS[i % 3]}", "seed": str(100 + i)})
    write_rows(folder / "gold.csv", gold)
    write_rows(folder / "prompts.csv", prompts)
    return folder
