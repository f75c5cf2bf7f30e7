"""Cards: the README.md of a trained classifier and of a dataset of synthetic clips, as the Hugging Face hub shows them.

What comes from users (labels, captions, file names) is escaped, so that it is text in the card whatever it holds, and
folders of the machine are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED = ROOT / "extras/embedded/weights"
EMBEDDED_LICENCE = "CC BY-NC"
LICENCE_LINE = re.compile(r"^license:[ \t]*([\w.+-]+)[ \t]*$", re.MULTILINE)
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
# What of an AST's options goes into its card: name there, option.
AST_OPTIONS = {
    "optimiser steps": "num_steps",
    "clips a step": "batch_size",
    "highest learning rate": "learning_rate",
    "weight decay": "weight_decay",
    "waveform augmentation": "waveform_augment",
    "SpecAugment": "spec_augment",
    "mixup alpha": "mixup",
    "SupCon weight": "supcon_weight",
    "seed": "seed",
}


def escape(value: Any) -> str:
    """Any text as a piece of a line of Markdown that shows it as it is, also in a cell of a table."""
    return re.sub(r"([\\`*_{}\[\]<>#|!~&$])", r"\\\1", " ".join(str(value).split()))


def is_embedded(model: str) -> bool:
    """Whether it is one of the models that ship with the project."""
    return Path(model).absolute().is_relative_to(EMBEDDED)


def is_hub_id(model: str) -> bool:
    return not Path(model).exists() and HUB_ID.fullmatch(model) is not None


def model_name(model: str) -> str:
    """A model as a card says it: a hub id as it is, of a folder its last name."""
    if is_embedded(model):
        return f"Synthio's embedded {Path(model).name}"
    return model if is_hub_id(model) else Path(model).name


def licence_of(model: str) -> str:
    """What is known here of a model's licence; no hub is asked."""
    if is_embedded(model):
        return f"{EMBEDDED_LICENCE}, see extras/embedded/README.md of Synthio"
    if is_hub_id(model):
        return f"see https://huggingface.co/{model}"
    card = Path(model) / "README.md"
    found = LICENCE_LINE.search(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else None
    return found[1] if found else "not stated in its folder"


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill in a template of this folder; `md` escapes."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # Markdown, not HTML: `md` does it
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = escape
    return environment.get_template(template).render(values)


def base_models(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The frozen or fine-tuned models that a classifier's options name."""
    models = [options[name] for name in ("model", "clap_model", "ast_model") if options.get(name)]
    return [
        {"name": model_name(m), "licence": licence_of(m), "is_embedded": is_embedded(m), "is_hub_id": is_hub_id(m)}
        for m in models
    ]


def training_rows(record: Mapping[str, Any]) -> dict[str, Any]:
    """How a classifier was trained: name -> value."""
    options = record["options"]
    if "best_C" in record:
        return {"inverse strength of the L2 penalty": record["best_C"]}
    rows = {name: options[option] for name, option in AST_OPTIONS.items() if option in options}
    return rows | {"step chosen on the validation clips": record["best_step"]}


def classifier_card(record: Mapping[str, Any]) -> str:
    """The card of a classifier.

    Args:
        record: what its scores.json says.
    """
    frames = record.get("input", {}).get("frames")
    return render(
        "model_card.md.j2",
        {
            **{name: record[name] for name in ("labels", "splits", "metric", "interval_95", "macro_f1", "mAP")},
            "accuracy": record.get("accuracy"),
            "per_class": record["per_class"],
            "best_valid": record["best_valid"],
            "is_probe": "best_C" in record,
            "seconds": frames and frames / 100,
            "models": base_models(record["options"]),
            "training": training_rows(record),
            "versions": record["versions"],
        },
    )
