"""The card of a dataset of synthetic clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthio.cards import described, render

# What a dataset card calls the models: stage of its record, option, name.
PARTS = (
    ("generate", "model", "text-to-audio"),
    ("filter", "model", "filter (CLAP)"),
    ("filter", "classifier", "filter (classifier)"),
    ("caption", "captioner", "captions of the recordings"),
    ("captions", "writer", "prompts"),
)
NO_MODEL = "embedded"  # a captioner or writer of this name is a program without weights


def models_used(records: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The models behind a run's clips, from the records of its stages."""
    found = []
    for stage, option, part in PARTS:
        options = records.get(stage, {}).get("options", {})
        model = options.get(option)
        if not model:
            continue
        row = {"part": part, **described(model)}
        if options.get("llm_model"):
            row |= {"name": options["llm_model"], "licence": "the terms of the server that ran it"}
        elif model == NO_MODEL:
            row |= {"name": "Synthio's own, without weights", "licence": "MIT"}
        elif option == "classifier":
            row |= {"name": "trained in this run"}
        found.append(row)
    return found


def dataset_card(
    title: str,
    counts: Mapping[str, int],
    rejected: Mapping[str, int],
    generators: Sequence[str],
    records: Mapping[str, Mapping[str, Any]],
    rounds: Sequence[Mapping[str, Any]],
    stages: Sequence[Mapping[str, Any]],
) -> str:
    """The card of a folder of synthetic clips.

    Args:
        title: name of the run.
        counts, rejected: label cell -> clips; a missing cell counts as 0.
        generators: what the rows name as their model.
        records: stage -> record.
        rounds, stages: as the report shows them.
    """
    return render(
        Path(__file__).with_name("dataset_card.md.j2"),
        {
            "title": title,
            "total": sum(counts.values()),
            "counts": {label: (counts.get(label, 0), rejected.get(label, 0)) for label in {*counts, *rejected}},
            "total_rejected": sum(rejected.values()),
            "generators": generators,
            "models": models_used(records),
            "rounds": rounds,
            "stages": stages,
        },
    )
