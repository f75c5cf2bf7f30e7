"""The card of a dataset of synthetic clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthio.publish.cards import (
    UNKNOWN_LICENCE,
    citation,
    described,
    known_licence,
    model_name,
    render,
    shared_licence,
)
from synthio.report.run_folder import ALSO

# What a dataset card calls the models: stage of its record, option, name.
PARTS = (
    ("generate", "model", "text-to-audio"),
    ("filter", "model", "filter (CLAP)"),
    ("filter", "classifier", "filter (classifier)"),
    ("caption", "captioner", "captions of the recordings"),
    ("captions", "writer", "prompts"),
)
# What is said of a clip, in metadata.jsonl and to machines: name -> (type, meaning, without marks of Markdown).
COLUMNS: dict[str, tuple[type, str]] = {
    "file_name": (str, "the clip, from the folder of this file"),
    "label": (str, "the label that it was made for; several are joined by ;"),
    "caption": (str, "the prompt that it was made from"),
    "synthetic": (bool, "whether a model generated it; else it is a recording"),
    "generator": (str, "the text-to-audio model, with its revision where that is known"),
    "model": (str, "what exactly generated it: name@hash+adapter@hash"),
    "seed": (int, "of the noise that it was generated from"),
    "run": (str, "the run of Synthio that made it"),
    "licence": (str, "of the generator"),
    "watermark": (str, "name of the inaudible mark that the sound carries; empty: none"),
    "source": (str, "name of the recording, not included, whose label and length it has"),
    "source_sha256": (str, "hash of the samples of that recording"),
    "duration_s": (float, "seconds"),
    "clap_score": (float, 'cosine between the clip and "Sound of a (label)", if it was filtered'),
    "sha256": (str, "hash of the file"),
}
LIMITS = (
    "A label says what was asked for. Nobody has listened: some clips will sound like something else.",
    "A caption says what was asked for, too, not what is heard.",
    "Clips that are near-copies of a training, validation or test recording were dropped if the run's filter was on; "
    "it finds most copies, not all.",
    "Test a classifier on recordings, never on these.",
)
NO_MODEL = "embedded"  # a captioner or writer of this name is a program without weights


def models_used(records: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The models behind a run's clips, from the records of its stages."""
    found = []
    seen: set[tuple[str, str]] = set()  # a generator has a record in each round
    also = [(name, "model", PARTS[0][2]) for name in records if name.startswith(ALSO)]
    for stage, option, part in (PARTS[0], *also, *PARTS[1:]):
        options = records.get(stage, {}).get("options", {})
        model = options.get(option)
        if not model or (part, model) in seen:
            continue
        seen.add((part, model))
        row = {"part": part, **described(model)}
        if options.get("llm_model"):
            row |= {"name": options["llm_model"], "licence": "the terms of the server that ran it"}
        elif model == NO_MODEL:
            row |= {"name": "Synthio's own, without weights", "licence": "MIT"}
        elif option == "classifier":
            row |= {"name": "trained in this run"}
        found.append(row)
    return found


@dataclass(frozen=True)
class Generator:
    """The model behind the clips.

    Attributes:
        name: `owner/name@revision` of one of the hub.
        licence: as a card says it.
        clauses: what the licence says of the clips; empty where that is not known.
        called: what the column `model` of its clips begins with.
    """

    name: str
    licence: str
    clauses: tuple[str, ...] = ()
    called: str = ""


def generators_of(records: Mapping[str, Mapping[str, Any]]) -> list[Generator]:
    """What generated a run's clips, from the records of that stage; without one, nothing is known."""
    found: dict[str, Generator] = {}
    for name, record in records.items():
        model = record.get("options", {}).get("model", "")
        if model and model not in found and (name == "generate" or name.startswith(ALSO)):
            known, said = known_licence(model), described(model)
            exact, called = model_name(record.get("source", model)), Path(model).name if Path(model).is_dir() else model
            found[model] = Generator(exact, said["licence"], known.outputs if known else (), called)
    return [*found.values()] or [Generator("a model that is not known here", UNKNOWN_LICENCE)]


def generator_of(records: Mapping[str, Mapping[str, Any]], clip: str = "") -> Generator:
    """What generated a clip, by its column `model`; without one, what generated all, several named together."""
    several = generators_of(records)
    if len(several) == 1:
        return several[0]
    for one in several:
        if clip.startswith(f"{one.called}@"):
            return one
    licences = dict.fromkeys(one.licence for one in several)
    return Generator(" and ".join(one.name for one in several), "; ".join(licences))


def responsible(made: int, recordings: int, records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What is true of the clips in the words of Croissant's RAI vocabulary: property without its prefix -> text.

    Args:
        made, recordings: clips.
        records: stage -> record.
    """
    generator = generator_of(records)
    tools = [f"{row['part']}: {row['name']}" for row in models_used(records)]
    return {
        "dataCollection": f"{made} clips were generated by {generator.name}, none of them was recorded, from prompts "
        f"about their labels, and kept by a filter; {recordings} clips are recordings of the run's user.",
        "dataCollectionType": ["Others"] if not recordings else ["Others", "Manual Human Curator"],
        "dataAnnotationProtocol": LIMITS[0],
        "machineAnnotationTools": tools,
        "dataLimitations": list(LIMITS),
        "dataUseCases": f"Training of sound classifiers. {LIMITS[-1]}",
    }


def dataset_card(
    title: str,
    counts: Mapping[str, int],
    rejected: Mapping[str, int],
    generators: Sequence[str],
    records: Mapping[str, Mapping[str, Any]],
    rounds: Sequence[Mapping[str, Any]],
    stages: Sequence[Mapping[str, Any]],
    recordings: int = 0,
    is_watermarked: bool = False,
) -> str:
    """The card of a folder of synthetic clips.

    Args:
        title: name of the run.
        counts, rejected: label cell -> clips; a missing cell counts as 0.
        generators: what the rows name as their model.
        records: stage -> record.
        rounds, stages: as the report shows them.
        recordings: how many of the clips were recorded, not generated.
        is_watermarked: whether the generated ones carry AudioSeal's mark.
    """
    models = models_used(records)
    return render(
        Path(__file__).with_name("dataset_card.md.j2"),
        {
            "title": title,
            "total": sum(counts.values()),
            "recordings": recordings,
            "counts": {label: (counts.get(label, 0), rejected.get(label, 0)) for label in {*counts, *rejected}},
            "total_rejected": sum(rejected.values()),
            "generators": generators,
            "makers": generators_of(records),
            "licence": shared_licence(row["id"] for row in models),
            "columns": {name: meaning for name, (_, meaning) in COLUMNS.items()},
            "limits": LIMITS,
            "citation": citation(),
            "is_watermarked": is_watermarked,
            "models": models,
            "rounds": rounds,
            "stages": stages,
        },
    )
