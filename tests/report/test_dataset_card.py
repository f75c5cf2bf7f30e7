"""The card of a dataset of synthetic clips."""

from __future__ import annotations

from synthio.publish import cards
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


def test_of_several_generators_each_is_named_with_its_licence():
    records = {
        "generate": {"options": {"model": "stabilityai/stable-audio-open-1.0"}},
        "generate by owner/other": {"options": {"model": "owner/other"}},
        "generate 1": {"options": {"model": "stabilityai/stable-audio-open-1.0"}},
        "generate by owner/other 1": {"options": {"model": "owner/other"}},
    }
    several = dataset_card.generators_of(records)
    assert [one.called for one in several] == ["stabilityai/stable-audio-open-1.0", "owner/other"]
    assert dataset_card.generator_of(records, "owner/other@0123+adapter@45").called == "owner/other"
    whole = dataset_card.generator_of(records)
    assert whole.name.endswith(" and owner/other") and "; see https://huggingface.co/owner/other" in whole.licence
    assert [row["name"] for row in dataset_card.models_used(records)] == [one.called for one in several]
    card = dataset_card.dataset_card("x", {"a": 1}, {}, ["m@0"], records, [], [])
    assert "owner/other: see " in card and card.count("Not known here") == 1
