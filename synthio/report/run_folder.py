"""Read a finished run's folder back: what belongs to its scores, and nothing that an earlier run left beside it.

A folder is used for run after run, so it may hold an adapter or a round that the last run had no part for. What
belongs is decided by content: the training CSV's record holds the hashes of the tables it was joined from, and each
synthetic clip names the hash of the adapter that made it. So a folder may have been moved, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from synthio.classification.doubts import CONFIDENCE, DOUBTS, HEARD_AS, HEARD_CONFIDENCE
from synthio.cli import UserError
from synthio.data.review import COLUMNS, DECISION, DROP, GOLD, KIND
from synthio.files import fingerprint, read_json, read_object, sha256_file
from synthio.generation.chosen import USED
from synthio.generation.shares import GENERATORS
from synthio.manifest import CAPTION, CONTENT, LABEL, MODEL, PATH, PROMPT, read_manifest, read_table
from synthio.publish.cards import model_name
from synthio.report.judge import sentence

ADAPTER = re.compile(r"\+adapter@([0-9a-f]+)")
OF_A_METHOD = ("name", "file", "metric", "interval_95", "macro_f1", "train", "test")
ALSO = "generate by "  # of the records of further generators, before their names
HISTORY = "history.csv"  # of AST's training, over its steps


@dataclass(frozen=True)
class Method:
    """A classifier: its name, what scores.json of the run and of its own folder say, and its training history.

    The history goes over its column `step`; it is empty where there is none.
    """

    name: str
    summary: dict[str, Any]
    scores: dict[str, Any]
    history: pd.DataFrame


ADDED = "added"  # in a run's folder: the rounds for the clips of add_csv


@dataclass(frozen=True)
class Round:
    """The clips of one round. Without a filter, `rejected` is empty and `record` (of the filter) too.

    `folder` is where it lies, whose parent tells whether it is of clips that were added.
    """

    folder: Path
    number: int
    kept: pd.DataFrame
    rejected: pd.DataFrame
    record: dict[str, Any]

    @property
    def name(self) -> str:
        """As it is shown."""
        return f"{ADDED} {self.number}" if self.folder.parent.name == ADDED else str(self.number)


@dataclass
class Run:
    """All that the report shows. `gold` has the column caption where there are captions.

    `pools` is label -> {"events": [...], "backgrounds": [...]}; `dpo` is the history of each round of preference
    training; `trainings` are those of AST, whether or not it became the classifier; `compared` has a record for all
    that was trained, and `verdict` says what synthetic clips are worth, `false_alarms`
    how often other sounds are taken for a label; `records` is stage -> the record beside its
    output; `quality` is quality.json; `remarks` says what was left out and why. `review` is what a listener decided:
    `gold` and the rounds are the clips before that. `doubts` is what ast/heads.py heard in training clips.
    """

    work: Path
    methods: list[Method]
    trainings: list[Method]
    timings: list[dict[str, Any]]
    gold: pd.DataFrame
    rounds: list[Round] = field(default_factory=list)
    dpo: dict[str, pd.DataFrame] = field(default_factory=dict)
    pools: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    review: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=[*COLUMNS, KIND], dtype=str))
    doubts: pd.DataFrame = field(default_factory=pd.DataFrame)
    compared: list[dict[str, Any]] = field(default_factory=list)
    verdict: str = ""
    false_alarms: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of the run: that of its folder."""
        return self.work.absolute().name

    @property
    def dropped_gold(self) -> int:
        """Training clips that the listener dropped."""
        keys = set(zip(self.gold.get(CONTENT, []), self.gold[LABEL], strict=False))
        dropped = self.review[(self.review[KIND] == GOLD) & (self.review[DECISION] == DROP)]
        return sum(key in keys for key in zip(dropped[CONTENT], dropped[LABEL], strict=True))


def read_run(work: Path) -> Run:
    """Read everything that belongs to W/scores.json.

    Raises:
        UserError: there are no scores, or a file that belongs to them is missing or broken.
    """
    totals = read_totals(work / "scores.json")
    methods = [read_method(work, summary) for summary in totals["methods"]]
    csvs = [locate(method.scores["options"]["train_csv"], work) for method in methods]
    compared = totals.get("trained", [])
    trainings = read_trainings(work, compared, methods)
    reviewed = read_record(csvs[0]).get("options", {})
    if "review_csv" in reviewed:
        csvs[0] = locate(reviewed["gold_csv"], work)
    run = Run(work, methods, trainings, totals["seconds"], read_manifest(csvs[0], check_files=False))
    run.doubts = read_doubts(work, summary=totals["methods"][-1])
    if "review_csv" in reviewed:
        run.review = read_manifest(locate(reviewed["output_csv"], work), COLUMNS, check_files=False)
    run.compared, run.verdict = compared, totals.get("verdict", {}).get("line", "")
    run.false_alarms = totals.get("false_alarms", {})
    run.records = {"check": read_record(work / "checked/train.csv"), "stratify": read_record(csvs[0])}
    if not run.review.empty:
        run.records["review"] = {"options": reviewed}
    if len(methods) > 1:
        add_synthetic(run, read_record(csvs[-1]))
        run.quality = read_quality(work, csvs[-1])
    run.records |= {f"classify {method.name}": method.scores for method in (*methods, *trainings)}
    run.records = {stage: record for stage, record in run.records.items() if record}
    return run


def read_synthesis(work: Path, merged_csv: str | Path) -> Run:
    """What there is before the classifiers: the rounds that a training CSV was joined from, and their records."""
    run = Run(work, [], [], [], pd.DataFrame(columns=[PATH, LABEL]))
    add_synthetic(run, read_record(Path(merged_csv)))
    run.records = {stage: record for stage, record in run.records.items() if record}
    return run


def read_totals(path: Path) -> dict[str, Any]:
    """W/scores.json, with all that the report needs in it.

    Raises:
        UserError: it is missing, or something in it is.
    """
    if not path.is_file():
        raise UserError(
            f"{path.parent}: no scores.json there; the report comes after `python -m synthio.report.results`"
        )
    mend = f"write it again: python -m synthio.report.results --output_json {path} --scores NAME=FILE ..."
    totals = read_object(path, "methods", "seconds", mend=mend)
    if not totals["methods"]:
        raise UserError(f"{path}: no method in it; {mend}")
    for number, summary in enumerate(totals["methods"], 1):
        missing = [name for name in OF_A_METHOD if name not in summary]
        if missing:
            raise UserError(f"{path}: method {number} has no {', '.join(missing)}; {mend}")
    gains = [summary["to_baseline"] for summary in totals["methods"] if "to_baseline" in summary]
    gains += [record["with"].get("gain", {}) for record in totals.get("trained", []) if "with" in record]
    if not all("told" in gain for gain in gains):
        raise UserError(f"{path}: an earlier version wrote it, whose intervals were over clips alone; {mend}")
    return totals


def read_method(work: Path, summary: dict[str, Any]) -> Method:
    """One record of W/scores.json with the files of its classifier."""
    path = work / summary["file"]
    mend = "train and test that classifier again"
    if not path.is_file():
        raise UserError(f"{path} is not there; {mend}")
    scores = read_object(path, "options", "per_class", mend=mend)
    history, table = path.with_name(HISTORY), pd.DataFrame()
    if history.is_file():
        table = as_numbers(read_table(history, ["step"]))
    return Method(summary["name"], summary, scores, table)


def read_trainings(work: Path, compared: list[dict[str, Any]], methods: list[Method]) -> list[Method]:
    """AST's trainings, each by the name of its training data; the first of the methods has no synthetic clips."""
    found = []
    for record in compared:
        if record["method"] == "ast":
            parts = [(methods[0].name, record), *((more["name"], more) for more in [record.get("with")] if more)]
            read = [(name, read_method(work, {"name": name, "file": part["file"]})) for name, part in parts]
            found = [replace(one, name=f"{name}: {one.scores.get('called', 'AST')}") for name, one in read]
    return found or [method for method in methods if not method.history.empty]


def read_doubts(work: Path, summary: Mapping[str, Any]) -> pd.DataFrame:
    """What the heads beside a classifier heard in the training clips; empty where there are none."""
    folder = (work / summary["file"]).parent
    path = folder.with_name(f"{folder.name}_heads") / DOUBTS
    if not path.is_file():
        return pd.DataFrame()
    return read_manifest(path, (PATH, LABEL, CONFIDENCE, HEARD_AS, HEARD_CONFIDENCE), check_files=False)


def read_quality(work: Path, merged_csv: Path) -> dict[str, Any]:
    """What quality.json says, if it is of these synthetic clips; else nothing."""
    path = work / "quality.json"
    record = read_json(path) if path.is_file() and merged_csv.is_file() else {}
    return record if record and sha256_file(merged_csv) in record["inputs"].values() else {}


def locate(recorded: str, work: Path) -> Path:
    """Where a CSV of the run is now: in its folder, or where its record says."""
    inside = work / Path(recorded).name
    return inside if inside.is_file() else Path(recorded)


def read_record(csv: Path) -> dict[str, Any]:
    """The record beside a CSV or folder, or {}; of a table that was made in shards, that of the first shard."""
    path = csv.with_suffix(".json")
    return of_shards(read_object(path, mend=f"make {csv.name} again") if path.is_file() else {})


def of_shards(record: dict[str, Any]) -> dict[str, Any]:
    """A record with what the first of its shards says, if it was made in shards."""
    shards = record.get("shards") or []
    return (
        shards[0] | {name: record[name] for name in ("sha256", "inputs", "rows_in", "rows_out")} if shards else record
    )


def as_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """A table of text as one of numbers; what is none becomes NaN."""
    return table.apply(pd.to_numeric, errors="coerce")


def add_synthetic(run: Run, merged: Mapping[str, Any]) -> None:
    """Fill in the rounds that the training CSV was joined from, and what they came from."""
    parts = set(merged.get("inputs", {}).values())
    for between in ("reviewed.csv", "balanced.csv"):  # the rounds and the training CSV, with review and balance
        csv = run.work / between
        if csv.is_file() and sha256_file(csv) in parts:
            parts |= set(read_record(csv).get("inputs", {}).values())
    for folder in round_folders(run.work):
        found = read_round(folder, parts)
        if found is None:
            run.remarks.append(f"{folder.relative_to(run.work)} is of an earlier run and is left out.")
        else:
            run.rounds.append(found)
    if run.rounds:
        add_captions(run)
        add_dpo(run)
    for part in run.rounds:
        suffix = "" if part.name == "0" else f" {part.name}"
        folder = part.folder
        run.records |= {f"captions{suffix}": read_record(folder / "prompts.csv")}
        run.records |= {f"{name}{suffix}": record for name, record in generation_records(folder).items()}
        run.records |= {f"filter{suffix}": part.record}
    run.records["merge"] = dict(merged)


def round_folders(work: Path) -> list[Path]:
    """The rounds' folders in order, those for clips that were added last."""
    return [
        folder
        for part in (work, work / ADDED)
        for folder in sorted(part.glob("round_[0-9]*"), key=lambda path: int(path.name.split("_")[1]))
    ]


def generation_records(folder: Path) -> dict[str, dict[str, Any]]:
    """The records of a round's clips: of what generated them and, if they went through it, of the channel matching."""
    made = read_record(folder / "generated.csv")
    if "channel" not in made:
        return by_generator(made)
    return by_generator(read_record(folder / "unmatched.csv")) | {"channel": made}


def by_generator(made: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The record of a round's generator; of several, the first's, and the others' by their names."""
    if GENERATORS not in made:
        return {"generate": made}
    first, *others = map(of_shards, made[GENERATORS])
    return {"generate": first} | {f"{ALSO}{model_name(one['options']['model'])}": one for one in others}


def read_round(folder: Path, parts: set[str]) -> Round | None:
    """A round, if its kept clips (without a filter: its generated clips) are among the parts, which are hashes."""
    number = int(folder.name.split("_")[1])
    kept, generated = folder / "kept.csv", folder / "generated.csv"
    if kept.is_file() and sha256_file(kept) in parts:
        rejected = read_manifest(folder / "rejected.csv", check_files=False)
        return Round(folder, number, read_manifest(kept, check_files=False), rejected, read_record(kept))
    if generated.is_file() and sha256_file(generated) in parts:
        table = read_manifest(generated, check_files=False)
        return Round(folder, number, table, table.iloc[:0], {})
    return None


def add_captions(run: Run) -> None:
    """The gold clips' captions and MixCap's pools, where the first rounds were written from them."""
    captions: dict[str, str] = {}
    for part in (run.work, run.work / ADDED):
        if not any(one.folder == part / "round_0" for one in run.rounds):
            continue
        written = read_record(part / "round_0/prompts.csv")
        run.pools |= written.get("pools", {})
        csv = part / "captions.csv"
        if csv.is_file() and sha256_file(csv) in written.get("inputs", {}).values():
            table = read_manifest(csv, (PATH, LABEL, CAPTION), check_files=False)
            captions |= dict(zip(table[PATH], table[CAPTION], strict=True))
            run.records.setdefault("caption", read_record(csv))
    if captions:
        run.gold[CAPTION] = [captions.get(path, "") for path in run.gold[PATH]]


def add_dpo(run: Run) -> None:
    """The history of the adapter that made the clips, and of those it went on from (adapter, adapter_2, ...)."""
    cells = {cell for part in run.rounds for table in (part.kept, part.rejected) for cell in table[MODEL]}
    used = {match.group(1) for cell in cells if (match := ADAPTER.search(cell))}
    folders = sorted((p for p in run.work.glob("dpo/adapter*") if p.is_dir()), key=lambda p: (len(p.name), p.name))
    made = [i for i, folder in enumerate(folders) if any(fingerprint(folder).startswith(name) for name in used)]
    if used and not made:
        run.remarks.append("The adapter was trained in another run, so its curves are not here.")
    for judged in () if used else sorted(run.work.glob("dpo/judged*.json")):
        record = read_object(judged, "agreement", USED)
        if not record[USED]:
            run.remarks.append(f"Preference training made nothing better: {sentence(record)}.")
    for folder in folders[: max(made, default=-1) + 1]:
        name = folder.name.replace("adapter", "dpo").replace("_", " ")
        csv = folder.with_name(folder.name + "_history.csv")
        if csv.is_file():
            run.dpo[name] = as_numbers(read_table(csv, ["step"]))
        run.records[name] = read_record(folder)


def all_clips(run: Run) -> pd.DataFrame:
    """Every gold and generated clip, with `kind` (gold, kept, rejected), `round`, and `text` (caption or prompt)."""
    tables = [run.gold.assign(kind="gold", round="", text=run.gold.get(CAPTION, ""))]
    for part in run.rounds:
        for kind, table in (("kept", part.kept), ("rejected", part.rejected)):
            tables.append(table.assign(kind=kind, round=part.name, text=table[PROMPT]))
    return pd.concat(tables, ignore_index=True).fillna("")


def prompts_of(run: Run) -> dict[str, list[str]]:
    """Label cell -> the distinct prompts that were written for it, sorted."""
    found: dict[str, set[str]] = {}
    for part in run.rounds:
        for table in (part.kept, part.rejected):
            for label, prompt in zip(table[LABEL], table[PROMPT], strict=True):
                found.setdefault(label, set()).add(prompt)
    return {label: sorted(found[label]) for label in sorted(found)}


def versions_of(records: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Every version that a record names; more than one where a stage was run at another time."""
    found: dict[str, set[str]] = {}
    for record in records:
        for name, version in record.get("versions", {}).items():
            found.setdefault(name, set()).add(str(version))
    return {name: sorted(values) for name, values in found.items()}
