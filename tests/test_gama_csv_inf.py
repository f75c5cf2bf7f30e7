"""The script gama_csv_inf.py."""

from __future__ import annotations

import pytest

from synthio.manifest import read_table
from tests.captions.toy import CAPTION, captioned, save_gold
from tests.scripts import call_script


@pytest.fixture
def gold(make_wav, make_manifest):
    """Six gold clips of three labels."""
    return save_gold(make_wav, make_manifest)


def test_every_gold_clip_gets_a_caption_in_its_own_row(gold):
    table = read_table(captioned(gold))
    assert list(table["path"]) == [f"clip {i}.wav" for i in range(6)]
    assert list(table["label"][:3]) == ["dog_bark", "NA", "Hund, laut"]
    assert all("sound" in caption for caption in table["caption"])
    assert "loud" in table["caption"][5] or "high-pitched" in table["caption"][5]


def test_captions_that_are_there_are_not_made_again(gold, monkeypatch):
    out = captioned(gold)
    first = out.read_bytes()
    out.unlink()
    monkeypatch.setattr("synthio.captions.describer.describe", lambda audio: pytest.fail("it was heard again"))
    assert captioned(gold).read_bytes() == first


def test_a_clip_that_cannot_be_read_is_named(gold):
    (gold.parent / "clip 2.wav").write_bytes(b"no sound")
    done = call_script(CAPTION, "--input_csv", gold, "--output_csv", gold.with_name("captions.csv"))
    assert done.returncode == 2
    assert "gold.csv row 3" in done.stderr and "clip 2.wav" in done.stderr
