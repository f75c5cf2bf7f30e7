"""Every method without and with synthetic clips, and what these are worth against the best method without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthio.classification.choose import Candidate, best_of, read_candidate
from synthio.classification.heads import TITLES, UNTRAINED, title_of
from synthio.classification.intervals import NOT_TOLD, basis
from synthio.classification.scored import pair, read_scores
from synthio.cli import UserError
from synthio.report.tables import TOLD_HEADER, difference_cells, percent, with_interval

SAID = {
    "better": "Synthetic clips help",
    "worse": "Synthetic clips do harm",
    NOT_TOLD: f"Whether synthetic clips help is {NOT_TOLD}",
}


def read_trained(arguments: Sequence[str]) -> dict[str, dict[str, Candidate]]:
    """NAME=FOLDER words -> name -> method -> what was trained; a folder is of one method, or holds one a subfolder.

    Raises:
        UserError: a word is no NAME=FOLDER, or a folder holds no finished classifier.
    """
    found: dict[str, dict[str, Candidate]] = {}
    for argument in arguments:
        name, separator, text = argument.partition("=")
        folder = Path(text)
        if not separator or not name:
            raise UserError(f"--trained {argument}: write it as NAME=FOLDER, for example gold-only=W/gold_only_heads")
        files = [folder / "scores.json"] if (folder / "scores.json").is_file() else sorted(folder.glob("*/scores.json"))
        if not files:
            raise UserError(f"--trained {argument}: no scores.json in that folder; train its classifiers first")
        methods = found.setdefault(name, {})
        methods |= {one.name: one for one in map(read_candidate, (file.parent for file in files))}
    return {name: {key: methods[key] for key in TITLES if key in methods} for name, methods in found.items()}


def tested(candidate: Candidate) -> dict[str, Any]:
    """Its scores with the predictions of the test clips."""
    return read_scores(f"{candidate.name}={candidate.folder / 'scores.json'}")


def compare(trained: Mapping[str, Mapping[str, Candidate]], baseline: str, seed: int) -> list[dict[str, Any]]:
    """A record a method: what it is without synthetic clips, and where there is more, with them.

    Args:
        trained: name -> method -> classifier, from `read_trained`.
        baseline: which name has no synthetic clips.
        seed: of the bootstrap.
    """
    others = [name for name in trained if name != baseline]
    records = []
    for method, candidate in trained[baseline].items():
        scores = tested(candidate)
        record = {"method": method, "title": title_of(method, scores), **summary(candidate, scores)}
        for name in others if method not in UNTRAINED else ():
            if method in trained[name]:
                new = tested(trained[name][method])
                gained = pair(new, scores, seed).record()
                record["with"] = {"name": name, **summary(trained[name][method], new), "gain": gained}
        records.append(record)
    return records


def summary(candidate: Candidate, scores: Mapping[str, Any]) -> dict[str, Any]:
    """What the table and the report show of a classifier."""
    metric, errors = scores["metric"], scores["calibration"]
    return {
        "file": str(candidate.folder / "scores.json"),
        "valid": candidate.valid_score,
        "score": scores[metric],
        "interval_95": scores["interval_95"],
        "calibration": {when: {key: errors[when][key] for key in ("ece", "brier")} for when in ("before", "after")},
    }


def comparison_rows(records: Sequence[Mapping[str, Any]], metric: str) -> tuple[list[str], list[list[str]]]:
    """(header, rows) of the records, in percent."""
    has_more = any("with" in record for record in records)
    header = ["method", f"{metric}, gold alone (95 %)"]
    if has_more:
        header += ["with synthetic clips (95 %)", "difference (95 %)", *TOLD_HEADER]
    header.append("calibration error")
    rows = []
    for record in records:
        row = [record["title"], with_interval(record["score"], record["interval_95"])]
        if has_more:
            more = record.get("with")
            row += [with_interval(more["score"], more["interval_95"]) if more else "-"]
            row += difference_cells(more and more["gain"])
        rows.append([*row, percent(record["calibration"]["after"]["ece"])])
    return header, rows


def verdict(
    trained: Mapping[str, Mapping[str, Candidate]], baseline: str, scores: Mapping[str, Any] | None, seed: int
) -> dict[str, Any]:
    """Whether synthetic clips help: the classifier with them against the best without, by the validation clips.

    Args:
        trained: see `compare`.
        baseline: which name has no synthetic clips.
        scores: of the classifier with synthetic clips, with its `predictions`; None where there is none.
        seed: of the bootstrap.

    Returns:
        baseline (method), score, line (sentences); with `scores` also what `Paired.record` says.
    """
    best, _ = best_of(list(trained[baseline].values()))
    old = tested(best)
    found = {"baseline": best.name, "score": old[old["metric"]]}
    line = (
        f"Best without synthetic clips, by the validation clips: {title_of(best.name, old)}, {percent(found['score'])}."
    )
    if scores is None:
        return {**found, "line": line}
    found |= pair(scores, old, seed).record()
    return {**found, "line": f"{line}\n{SAID[found['told']]}: {gain_text(found)}."}


def gain_text(record: Mapping[str, Any]) -> str:
    """'+5.0 (-2.0 to +12.0) to that, p 0.180; over 40 test clips, 1 cell (other training clips were not drawn)'."""
    value, p, _ = difference_cells(record)
    over = basis([record["resampled"]], 1)
    return f"{value} to that, p {p}; over {over}, 1 cell (other training clips were not drawn)"
