"""The card of a dataset of synthetic clips."""

from __future__ import annotations

from synthio import cards
from synthio.report import dataset_card


def test_models_of_a_run():
    weights = cards.EMBEDDED
    records = {
        "generate": {"options": {"model": str(weights / "text_to_audio")}},
        "filter": {"options": {"model": "laion/clap", "classifier": "/home/me/w/filter_classifier"}},
        "caption": {"options": {"captioner": "embedded"}},
        "captions": {"options": {"writer": "openai", "llm_model": "gpt-x"}},
    }
    rows = {row["part"]: (row["name"], row["licence"]) for row in dataset_card.models_used(records)}
    assert rows == {
        "text-to-audio": ("Synthio's embedded text_to_audio", cards.licence_of(str(weights / "clap"))),
        "filter (CLAP)": ("laion/clap", "see https://huggingface.co/laion/clap"),
        "filter (classifier)": ("trained in this run", "not known here"),
        "captions of the recordings": ("Synthio's own, without weights", "MIT"),
        "prompts": ("gpt-x", "the terms of the server that ran it"),
    }
    card = dataset_card.dataset_card("x", {"a": 1}, {"b": 2}, ["m@0"], records, [], [])
    assert card.startswith("---\nlicense: other\nlicense_name: cc-by-nc\n") and "| b | 0 | 2 |" in card
