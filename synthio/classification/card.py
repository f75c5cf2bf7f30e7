"""The card of a trained classifier."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthio.classification.options import HEADS_ALONE, Recipe
from synthio.options import declared
from synthio.publish.cards import described, render, shared_licence


def base_models(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The frozen or fine-tuned models that a classifier's options name."""
    return [described(options[name]) for name in ("model", "clap_model", "ast_model") if options.get(name)]


def training_rows(record: Mapping[str, Any]) -> dict[str, Any]:
    """How a classifier was trained: name -> value."""
    is_ast, options = record["head"] == "ast", record["options"]
    said = [(one.name, said.card) for one, said in declared(Recipe) if is_ast or one.name in HEADS_ALONE]
    rows = {card: options[name] for name, card in said if card and name in options}
    return rows | ({"step chosen on the validation clips": record["best_step"]} if is_ast else {})


def classifier_card(record: Mapping[str, Any]) -> str:
    """The card of a classifier.

    Args:
        record: what its scores.json says.
    """
    from synthio.classification.heads import title_of
    from synthio.classification.intervals import basis

    models = base_models(record["options"])
    frames = record.get("input", {}).get("frames")
    return render(
        Path(__file__).with_name("model_card.md.j2"),
        {
            **{name: record[name] for name in ("labels", "splits", "metric", "interval_95", "macro_f1", "mAP")},
            "basis": basis([record["resampled"]], 1),
            "threshold": record.get("threshold"),
            "accuracy": record.get("accuracy"),
            "per_class": record["per_class"],
            "best_valid": record["best_valid"],
            "head": "" if record["head"] == "ast" else title_of(record["head"], record),
            "temperature": record["calibration"]["temperature"],
            "calibration": {when: record["calibration"][when] for when in ("before", "after")},
            "seconds": frames and frames / 100,
            "models": models,
            "licence": shared_licence(model["id"] for model in models),
            "network": record.get("network", ""),
            "training": training_rows(record),
            "versions": record["versions"],
        },
    )
