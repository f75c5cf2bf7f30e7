"""The corpus of the embedded models."""

from __future__ import annotations

import numpy as np
import pandas as pd


def test_the_corpus_holds_all_sources_and_its_held_out_clips(corpus):
    table = pd.read_csv(corpus / "table.csv", dtype=str)
    counts = table.groupby(["source", "heldout"]).size().to_dict()
    assert counts[("procedural", "1")] == 2 and counts[("us8k_part", "1")] == 1 and counts[("philharmonia", "1")] == 1
    assert ("sonicpi", "1") not in counts and len(table) == 52
    assert np.load(corpus / "audio.npy", mmap_mode="r").shape == (52, 80000)
