"""What of a run's folder may leave the machine: the files of a dataset, a classifier or an adapter, each with its card.

Nothing goes along that is no part of it, and no folder of the machine stands in it. A dataset is what
extras/export_dataset.py wrote, unchanged: every clip is in its table, with the hash that the table has, and a synthetic
one says in its tags that it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from synthio.classification.saved import model_folder
from synthio.cli import UserError
from synthio.files import Json, files_in, link, read_json, read_object, sha256_file
from synthio.models.adapters import FILES, MARKER, adapter_kind, record_of
from synthio.publish.cards import Licence, known_licence, known_licences, licence_of
from synthio.publish.provenance import read_tags
from synthio.report.adapter_card import adapter_card, base_model
from synthio.report.croissant import CROISSANT, RECORDS

METADATA, CARD = "metadata.jsonl", "README.md"
CLIPS_AT_MOST = 10_000  # files in one folder of a repository, which the hub refuses beyond
EXPORT = "export it again: python extras/export_dataset.py"

Kind = Literal["dataset", "model"]


@dataclass(frozen=True)
class Parcel:
    """What is pushed.

    Attributes:
        what: in a word or two.
        kind: of the hub's repository.
        files: name in the repository -> the file, or the text that stands there.
        terms: lines on the licence, to be read before anything is pushed.
        replaced: patterns of files that an earlier push left and this one has not, which go.
    """

    what: str
    kind: Kind
    files: dict[str, Path | str]
    terms: list[str]
    replaced: list[str]

    def size(self, name: str) -> int:
        """Bytes of a file."""
        content = self.files[name]
        return len(content.encode()) if isinstance(content, str) else content.stat().st_size

    def write(self, folder: Path) -> None:
        """Put the files into an empty folder; large ones are links."""
        for name, content in self.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                target.write_text(content, encoding="utf-8", newline="")
            else:
                link(content, target)


def parcel_of(folder: Path, with_gold: bool) -> Parcel:
    """What a folder is, and what of it is pushed.

    Args:
        folder: a dataset of extras/export_dataset.py, a classifier of a run or its model/, an adapter of dpo_train.py.
        with_gold: recordings may go along.

    Raises:
        UserError: it is none of these, or not whole; it holds something else; it holds recordings that may not go.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give a run's dataset, classifier/synthio or dpo/adapter")
    if (folder / METADATA).is_file():
        return dataset_parcel(folder, with_gold)
    if (folder / MARKER).is_file() or (folder / "adapter_config.json").is_file():
        return adapter_parcel(folder)
    model = model_folder(folder)
    if (model / "config.json").is_file() and (model / CARD).is_file():
        return classifier_parcel(model)
    raise UserError(
        f"{folder}: neither a dataset (no {METADATA}), nor a classifier (no config.json with a {CARD}), nor an adapter "
        "(no adapter_config.json); give a run's dataset, classifier/synthio or dpo/adapter"
    )


def dataset_parcel(folder: Path, with_gold: bool) -> Parcel:
    """The clips, their tables and the card. See `parcel_of`."""
    rows = read_rows(folder / METADATA)
    clips = [str(row["file_name"]) for row in rows]
    tables = [CARD, METADATA, RECORDS, CROISSANT]
    names = [path.relative_to(folder).as_posix() for path in files_in(folder)]
    if strange := sorted(set(names) - {*clips, *tables}):
        raise UserError(f"{folder}: holds {strange[0]}, which is no part of the dataset; remove it, or {EXPORT}")
    if missing := sorted({*clips, *tables} - set(names)):
        raise UserError(f"{folder}: lacks {missing[0]}; {EXPORT}")
    if len(clips) > CLIPS_AT_MOST:
        raise UserError(f"{folder}: {len(clips)} clips, but the hub takes {CLIPS_AT_MOST} files in a folder; split it")
    check_tables(folder)
    refuse_recordings(folder, rows, with_gold)
    for row in rows:
        check_clip(folder, row)
    terms = [line for text in sorted({row["licence"] for row in rows} - {""}) for line in terms_of(text, "outputs")]
    count = sum(not row["synthetic"] for row in rows)
    gold = [f"{count} of the clips are recordings: they must be yours to share"] if count else []
    return Parcel("dataset", "dataset", {name: folder / name for name in sorted(names)}, [*gold, *terms], ["audio/*"])


def read_rows(path: Path) -> list[dict[str, Json]]:
    """The rows of metadata.jsonl.

    Raises:
        UserError: they are damaged, or of an earlier release, which did not say what is synthetic.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), 1):
        if not line:
            continue
        try:
            row = json.loads(line)
        except ValueError:
            raise UserError(f"{path} row {number}: no JSON; {EXPORT}") from None
        lacking = [name for name in ("file_name", "synthetic", "licence", "sha256") if name not in row]
        if lacking:
            raise UserError(f"{path} row {number}: does not say {', '.join(lacking)} (an earlier release?); {EXPORT}")
        rows.append(row)
    return rows


def check_tables(folder: Path) -> None:
    """Refuse tables that were changed since croissant.json was written."""
    said = read_object(folder / CROISSANT, "distribution", mend=EXPORT)
    for part in said["distribution"]:
        if "sha256" in part and part["sha256"] != sha256_file(folder / part["contentUrl"]):
            raise UserError(f"{folder / part['contentUrl']}: is not what {CROISSANT} says; {EXPORT}")


def refuse_recordings(folder: Path, rows: Iterable[dict[str, Json]], with_gold: bool) -> None:
    """Refuse the user's own recordings, but where they are meant."""
    recordings = [row["file_name"] for row in rows if row["synthetic"] is not True]
    if recordings and not with_gold:
        raise UserError(
            f"{folder}: {len(recordings)} of its clips are recordings ({recordings[0]}); export the synthetic ones "
            "alone, or give --with_gold if they may be shared"
        )


def check_clip(folder: Path, row: dict[str, Json]) -> None:
    """Refuse a clip that is another file than its row says, or that does not say of itself what its row says."""
    path = folder / row["file_name"]
    if sha256_file(path) != row["sha256"]:
        raise UserError(f"{path}: is another file than {METADATA} says; {EXPORT}")
    if row["synthetic"] and not read_tags(path).get("comment", "").startswith("Synthetic"):
        raise UserError(f"{path}: does not say in its tags that it is synthetic; {EXPORT}")


def adapter_parcel(folder: Path) -> Parcel:
    """The weights, with a card made of the record beside them."""
    kind, record_path = adapter_kind(folder), record_of(folder)
    record = read_object(record_path) if record_path.is_file() else {}
    files: dict[str, Path | str] = {name: shown(folder / name) for name in FILES[kind]}
    model = base_model(record)
    title = f"{folder.absolute().parent.parent.name} {folder.name}"
    licence = licence_of(model) if model else "not known here"
    terms = terms_of(licence, "derivatives", known_licence(model) if model else None)
    return Parcel("adapter", "model", {CARD: adapter_card(title, kind, record), **files}, terms, [])


def classifier_parcel(model: Path) -> Parcel:
    """Weights, configuration and card: no scores.json and no predictions.csv, which name the user's files."""
    files = {path.relative_to(model).as_posix(): shown(path) for path in files_in(model)}
    terms = ["the weights learnt from your training clips; the card says under which licence the base models are"]
    return Parcel("classifier", "model", files, terms, [])


def shown(path: Path) -> Path | str:
    """A file as it may be seen: of a JSON file, without the folders of this machine."""
    if path.suffix != ".json":
        return path
    before = read_json(path)
    after = without_folders(before)
    return path if after == before else json.dumps(after, indent=2, ensure_ascii=False) + "\n"


def without_folders(value: Json) -> Json:
    """JSON in which the path of a file or folder is its last name."""
    if isinstance(value, dict):
        return {key: without_folders(part) for key, part in value.items()}
    if isinstance(value, list):
        return [without_folders(part) for part in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") and value != "/" else value


def terms_of(licence: str, clauses: Literal["outputs", "derivatives"], known: Licence | None = None) -> list[str]:
    """What is said of a licence before anything is pushed.

    Args:
        licence: as a card has it.
        clauses: which of its clauses count.
        known: it; None: it is looked for by its name.
    """
    said: Callable[[Licence], bool] = lambda one: licence == f"{one.name}, see {one.see}"  # noqa: E731
    known = known or next(filter(said, known_licences()), None)
    lines = getattr(known, clauses) if known else ("what it says is not known here; read it first",)
    return [f"licence of the generator: {licence}", *(f"  {line}" for line in lines)]
