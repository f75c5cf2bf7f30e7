"""The corpus of the embedded models."""

from __future__ import annotations

import numpy as np
import pandas as pd

from synthio.captions.composer import KIND_OF


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
