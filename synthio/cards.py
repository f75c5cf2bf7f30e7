"""Cards: the README.md of a trained classifier and of a dataset of synthetic clips, as the Hugging Face hub shows them.

What comes from users (labels, captions, file names) is escaped, so that it is text in the card whatever it holds, and
folders of the machine are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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
    "share of the trained weights (WiSE-FT)": "wise_ft_alpha",
    "mixup alpha": "mixup",
    "synthetic clips for a real one": "synthetic_weight",
    "SupCon weight": "supcon_weight",
    "seed": "seed",
}

HEAD_OPTIONS = {"synthetic clips for a real one": "synthetic_weight", "seed": "seed"}


def escape(value: object) -> str:
    """Any text as a piece of a line of Markdown that shows it as it is, also in a cell of a table."""
    return re.sub(r"([\\`*_{}\[\]<>#|!~&$])", r"\\\1", " ".join(str(value).split()))


def is_embedded(model: str) -> bool:
    """Whether it is one of the models that ship with the project."""
    return Path(model).resolve().is_relative_to(EMBEDDED)


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
    return found[1] if found else "not known here"


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


def described(model: str) -> dict[str, Any]:
    """A model as the templates want it."""
    return {
        "name": model_name(model),
        "licence": licence_of(model),
        "is_embedded": is_embedded(model),
        "is_hub_id": is_hub_id(model),
    }


def base_models(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The frozen or fine-tuned models that a classifier's options name."""
    return [described(options[name]) for name in ("model", "clap_model", "ast_model") if options.get(name)]


def training_rows(record: Mapping[str, Any]) -> dict[str, Any]:
    """How a classifier was trained: name -> value."""
    options = record["options"]
    if record["head"] != "ast":
        return {name: options[option] for name, option in HEAD_OPTIONS.items() if option in options}
    rows = {name: options[option] for name, option in AST_OPTIONS.items() if option in options}
    return rows | {"step chosen on the validation clips": record["best_step"]}


def title_of(head: str) -> str:
    """A method's name in print."""
    from synthio.classification.heads import TITLES

    return TITLES[head]


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
            "head": "" if record["head"] == "ast" else title_of(record["head"]),
            "temperature": record["calibration"]["temperature"],
            "calibration": {when: record["calibration"][when] for when in ("before", "after")},
            "seconds": frames and frames / 100,
            "models": base_models(record["options"]),
            "training": training_rows(record),
            "versions": record["versions"],
        },
    )


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
        "dataset_card.md.j2",
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
