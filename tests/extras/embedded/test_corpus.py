"""The corpus of the embedded models."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synthio.captions.composer import KIND_OF
from tests.extras.embedded.recipes import HERE
from tests.scripts import call_script, own_python

SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")


def test_the_corpus_holds_all_sources_and_its_held_out_clips(corpus):
    table = pd.read_csv(corpus / "table.csv", dtype=str)
    counts = table.groupby(["source", "heldout"]).size().to_dict()
    assert counts[("procedural", "1")] == 2 and counts[("us8k_part", "1")] == 1 and counts[("philharmonia", "1")] == 1
    assert ("sonicpi", "1") not in counts and counts[("placed", "0")] == 10 and len(table) == 62
    assert np.load(corpus / "audio.npy", mmap_mode="r").shape == (62, 80000)


def test_a_caption_says_of_a_recording_what_is_heard_and_where(corpus):
    from corpus import Corpus

    read, rng = Corpus(corpus), np.random.default_rng(0)
    at = read.table[read.table["label"].eq("dog_bark") & read.table["source"].eq("us8k_part")].index[0]
    said = {read.caption(at, rng) for _ in range(200)}
    assert {"Sound of a dog bark", "a dog barking, recorded outdoors in a city"} <= said
    manners = read.table["manners"][at].split(";")  # of white noise
    assert "hissing" in manners and set(manners) <= set(KIND_OF)
    assert any("hissing" in text for text in said) and not any("room" in text or "hall" in text for text in said)
    again = read.table[read.table["source"].eq("placed")].index[0]
    where = read.table["places"][again].split(";")
    said = {read.caption(again, rng) for _ in range(50)}
    assert all(any(place in text for place in where) for text in said)


def test_a_synthesiser_that_is_not_there_is_named_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    options = ["--data", tmp_path, "--cache", tmp_path / "cache", "--notes", 0]
    done = call_script(HERE / "corpus.py", *options)
    assert done.returncode == 2 and not (tmp_path / "cache").exists()
    assert "missing for words: espeak-ng" in done.stderr and "--words 0" in done.stderr


@pytest.mark.slow
def test_notes_and_words_are_rendered(tmp_path):
    python = own_python("corpus")
    if not (shutil.which("espeak-ng") and shutil.which("fluidsynth") and SOUNDFONT.exists()):
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
