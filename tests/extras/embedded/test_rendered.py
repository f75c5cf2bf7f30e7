"""Sounds of free synthesisers."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from tests.extras.embedded.recipes import HERE
from tests.scripts import call_script, own_python


def test_a_synthesiser_that_is_not_there_is_named_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    options = ["--data", tmp_path, "--cache", tmp_path / "cache", "--notes", 0]
    done = call_script(HERE / "corpus.py", *options)
    assert done.returncode == 2 and not (tmp_path / "cache").exists()
    assert "missing for words: espeak-ng" in done.stderr and "--words 0" in done.stderr


@pytest.mark.slow
def test_notes_and_words_are_rendered(tmp_path):
    import rendered

    python = own_python("corpus")
    if not (shutil.which("espeak-ng") and shutil.which("fluidsynth") and rendered.SOUNDFONT.exists()):
        pytest.skip("no synthesisers; apt-get install espeak-ng fluidsynth fluid-soundfont-gm")
    data = tmp_path / "data"
    for name in ("us8k_part", "philharmonia", "sonicpi"):
        (data / name).mkdir(parents=True)
        (data / name / f"{name}.csv").write_text("path,label,name,fold\n")
    options = ["--data", data, "--cache", tmp_path / "cache", "--procedural", "20", "--notes", "2", "--words", "2"]
    done = subprocess.run([python, HERE / "corpus.py", *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "cache/table.csv", dtype=str, keep_default_na=False)
    audio = np.load(tmp_path / "cache/audio.npy", mmap_mode="r")
    peaks = np.abs(audio[table["source"].isin(["soundfont", "espeak"])].astype(int)).max(axis=1)
    assert len(peaks) > 150 and peaks.min() > 500
    assert {"seven", "marimba", "cowbell"} <= set(table["label"])


def test_silence_at_the_ends_of_a_note_is_cut_and_not_within():
    import rendered

    note = np.concatenate([np.zeros(100), np.ones(10), np.full(50, 1e-3), np.ones(10), np.zeros(30)])
    assert np.array_equal(rendered.without_silence(note), note[100:170])
    assert np.array_equal(rendered.without_silence(np.zeros(5)), np.zeros(5))


def test_notes_and_words_have_the_levels_of_the_other_clips():
    import rendered

    tone = 3.0 * np.sin(np.arange(8000) / 5)
    peaks = [np.abs(rendered.at_a_level(np.random.default_rng(seed), tone)).max() for seed in range(50)]
    decibels = 20 * np.log10(peaks)
    assert -24.5 < decibels.min() < -18 and -6 < decibels.max() < 1


def test_no_word_is_the_name_of_a_sound_and_no_name_is_there_twice():
    import rendered

    assert len(set(rendered.LABELS)) == len(rendered.LABELS) and not set(rendered.WORDS) & set(rendered.LABELS)
