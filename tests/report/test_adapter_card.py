"""The card of an adapter, with a record and without one; the whole of it is tested where it is pushed."""

from __future__ import annotations

import yaml

from synthio.files import EMBEDDED
from synthio.report.adapter_card import adapter_card


def test_without_a_record_it_says_so():
    card = adapter_card("w <b> adapter", "prefix", {})
    assert "Gated prefixes of a model that is not known here" in card and "No record is there" in card
    assert "library_name" not in card and "w \\<b\\> adapter" in card and "Not known here: read it" in card
    assert yaml.safe_load(card.split("---")[1]) == {"tags": ["text-to-audio", "synthio"]}


def test_of_the_embedded_model():
    options = {"model": str(EMBEDDED / "text_to_audio"), "loss": "sft", "train": "lora"}
    card = adapter_card("w", "lora", {"options": options, "pairs": 8})
    assert yaml.safe_load(card.split("---")[1])["license_name"] == "cc-by-nc"
    assert "trained by Synthio on 8 recordings" in card
    assert str(EMBEDDED) not in card and "non-commercial use" in card and "| train | lora |" in card
