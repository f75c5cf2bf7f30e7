"""Clips that are copies: of clips that must not be copied, and of better ones of the same table."""

from __future__ import annotations

import pandas as pd
import pytest

from synthio.cli import UserError
from synthio.filtering.copies import drop_copies, drop_repeats, read_references
from synthio.filtering.hearing import Heard
from synthio.filtering.likeness import read_embedding
from synthio.filtering.options import FilterOptions
from tests.filtering.toy import barks, encoded


@pytest.fixture
def clips(tmp_path, make_manifest):
    """gold.csv of one sound; a table of its copy at half the level, and of two copies of another sound."""
    sounds = [barks(0), 0.5 * barks(0), barks(1), 0.5 * barks(1)]
    paths = [encoded(tmp_path, audio, f"{i}.wav") for i, audio in enumerate(sounds)]
    make_manifest("gold.csv", [(paths[0].name, "dog")])
    heard = [Heard(None, read_embedding(path), "") for path in paths[1:]]
    columns = {"path": list(map(str, paths[1:])), "label": "dog", "clap_score": ["0.900000", "0.100000", "0.500000"]}
    return pd.DataFrame(columns | {"reason": ""}), heard, str(tmp_path / "gold.csv")


def test_a_copy_of_a_reference_goes_with_its_original(clips):
    table, heard, gold = clips
    found = drop_copies(table, heard, FilterOptions(gold_csv=gold))
    assert [bool(reason) for reason in found["reason"]] == [True, False, False]
    assert "the gold clip 0.wav" in found["reason"][0]
    assert [path.endswith("0.wav") for path in found["resembles"]] == [True, False, False]
    assert float(found["nearest_cosine"][0]) > 0.99 > float(found["nearest_cosine"][1])


def test_a_limit_of_1_looks_at_no_reference(clips):
    table, heard, _ = clips
    options = FilterOptions(gold_csv="/nowhere.csv", duplicate_cosine=1)
    assert read_references(options) == ([], [], [])
    assert list(drop_copies(table, heard, options)["reason"]) == ["", "", ""]


def test_of_two_alike_the_better_one_stays(clips):
    table, heard, _ = clips
    table = table.assign(resembles="")
    found = drop_repeats(table, heard, "clap_score", FilterOptions(drop_repeats=True))
    assert found["reason"][0] == found["reason"][2] == ""
    assert found["reason"][1].startswith("near-duplicate of the better clip 3.wav (cosine ")
    assert found["resembles"][1] == table["path"][2]
    assert list(drop_repeats(table, heard, "clap_score", FilterOptions())["reason"]) == ["", "", ""]


def test_a_reference_that_cannot_be_read_is_named(tmp_path, make_manifest):
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    gold = make_manifest("gold.csv", [("bad.wav", "dog")])
    with pytest.raises(UserError, match=r"gold\.csv row 1: .*bad\.wav: "):
        read_references(FilterOptions(gold_csv=str(gold)))
