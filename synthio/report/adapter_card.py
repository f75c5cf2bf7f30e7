"""The card of an adapter of a text-to-audio model, written where it is shared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthio.generation.options import PreferenceOptions
from synthio.options import declared
from synthio.publish.cards import described, known_licence, render, shared_licence

KINDS = {"lora": "Low-rank updates (LoRA)", "prefix": "Gated prefixes", "all": "All weights of the transformer"}


def base_model(record: Mapping[str, Any]) -> str:
    """The model that an adapter was trained on, '' where its record does not say."""
    return record.get("options", {}).get("model", "")


def adapter_card(title: str, kind: str, record: Mapping[str, Any]) -> str:
    """The card of an adapter.

    Args:
        title: its name.
        kind: as `synthio.models.adapters.FILES`.
        record: what dpo_train.py wrote beside it; empty where there is none.
    """
    model = base_model(record)
    known = known_licence(model) if model else None
    options = record.get("options", {})
    return render(
        Path(__file__).with_name("adapter_card.md.j2"),
        {
            "title": title,
            "kind": kind,
            "kinds": KINDS,
            "model": described(model or "a model that is not known here"),
            "licence": shared_licence([model] if model else []),
            "clauses": known.derivatives if known else (),
            "pairs": record.get("pairs", "an unknown number of"),
            "loss": options.get("loss", ""),
            "control": {
                which: {"clips": row["clips"], "change": f"{row['error_change']:+.2g} ± {row['error_change_se']:.1g}"}
                for which, row in record.get("control", {}).items()
            },
            "options": [(one.name, options[one.name]) for one, _ in declared(PreferenceOptions) if one.name in options],
        },
    )
