"""Make one of several trained classifiers *the* classifier of a run.

    python -m synthio.classification.choose --classifier auto --folders W/gold_only_ast W/gold_only_heads/fusion \\
        --output_folder W/classifier/gold_only

`auto` takes the fusion, for it can be any of its parts. Another one must be better on the validation clips by more than
two standard errors of the difference: on a few clips the best of several is best by chance. Where clips belong to
groups (recordings, speakers), the error is that of other groups, not of other clips. The test clips have no say. The
folder gets the files of the one that is chosen, and its scores.json says why.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthio.cli import UserError, new_parser, run_main

AUTO_ORDER = ("fusion", "probe", "ast")  # the first that is there is taken unless a later one is clearly better
CLEARLY = 2.0  # standard errors by which another must be better
DRAWS = 500  # of the validation clips, for the standard error


def get_parser():
    parser = new_parser(__doc__)
    add = parser.add_argument
    add(
        "--classifier",
        default="auto",
        help=f"auto, or the name of a folder; auto chooses among {', '.join(AUTO_ORDER)}",
    )
    add("--folders", nargs="+", required=True, help="output folders of ast/train.py and of the heads of ast/heads.py")
    add("--output_folder", required=True, help="output: the files of the one that is chosen")
    return parser


@dataclass(frozen=True)
class Candidate:
    """A trained classifier: its name, its folder, and what it says of the validation clips."""

    name: str
    folder: Path
    scores: Mapping[str, Any]  # scores.json, and the table of `predictions` of the validation clips

    @property
    def valid_score(self) -> float:
        return self.scores["best_valid"][self.scores["metric"]]


def read_candidate(folder: Path) -> Candidate:
    """What ast/train.py or ast/heads.py left in a folder.

    Raises:
        UserError: it has not finished.
    """
    from synthio.classification.scored import read_scores
    from synthio.classification.script import VALID_PREDICTIONS

    for name in ("scores.json", VALID_PREDICTIONS):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: no {name} there; train that classifier first")
    scores = read_scores(f"{folder.name}={folder / 'scores.json'}", VALID_PREDICTIONS)
    return Candidate(scores["head"], folder, scores)


def gain(one: Candidate, other: Candidate) -> tuple[float, float]:
    """(how much better the one is on the validation clips, the standard error of that).

    Raises:
        UserError: they were not validated on the same clips.
    """
    import numpy as np

    from synthio.classification.intervals import widening
    from synthio.classification.scored import pair

    found = pair(one.scores, other.scores, 0, DRAWS)
    if found.units.count < 2:  # of one recording nothing can be told
        return found.difference, 1.0
    return found.difference, float(widening(found.units.count) * np.nanstd(found.drawn, ddof=1))


def best_of(candidates: Sequence[Candidate]) -> tuple[Candidate, list[dict[str, Any]]]:
    """The candidate that `auto` means, and what was compared.

    Raises:
        UserError: none of them is one that it chooses among.
    """
    known = {candidate.name: candidate for candidate in candidates}
    ordered = [known[name] for name in AUTO_ORDER if name in known]
    if not ordered:
        raise UserError(f"none of {', '.join(AUTO_ORDER)} is among the folders; give one")
    best, compared = ordered[0], [{"name": ordered[0].name, "valid": ordered[0].valid_score}]
    largest = 0.0
    for candidate in ordered[1:]:
        difference, error = gain(candidate, ordered[0])
        compared.append(
            {"name": candidate.name, "valid": candidate.valid_score, "difference": difference, "error": error}
        )
        if difference > max(CLEARLY * error, largest):
            best, largest = candidate, difference
    return best, compared


def link_or_copy(source: str, target: str) -> str:
    """A hard link where the disk has them: files of a run are replaced as a whole, never changed in place."""
    from synthio.files import link

    link(Path(source), Path(target))
    return target


def take(chosen: Candidate, asked: str, compared: list[dict[str, Any]], output: Path) -> None:
    """Give the output folder the files of the chosen one."""
    from synthio.classification.script import FINISHED, VALID_PREDICTIONS
    from synthio.files import atomic_folder, read_object, write_json
    from synthio.manifest import read_manifest, write_table

    if output.resolve() == chosen.folder.resolve():
        raise UserError(f"--output_folder {output} is one of the folders; give another")
    with atomic_folder(output) as folder:
        shutil.copytree(
            chosen.folder,
            folder,
            ignore=shutil.ignore_patterns(FINISHED),
            copy_function=link_or_copy,
            dirs_exist_ok=True,
        )
        (folder / "scores.json").unlink()
        for name in ("predictions.csv", VALID_PREDICTIONS):  # their paths are relative to the folder
            (folder / name).unlink()
            write_table(read_manifest(chosen.folder / name, check_files=False), folder / name)
        choice = {"asked": asked, "chosen": chosen.name, "compared": compared}
        write_json(folder / "scores.json", {**read_object(chosen.folder / "scores.json"), "choice": choice})


def main() -> int:
    args = get_parser().parse_args()
    candidates = [read_candidate(Path(folder)) for folder in args.folders]
    known = {candidate.name: candidate for candidate in candidates}
    compared: list[dict[str, Any]] = []
    if args.classifier == "auto":
        chosen, compared = best_of(candidates)
    elif args.classifier in known:
        chosen = known[args.classifier]
    else:
        raise UserError(f"--classifier {args.classifier}: none of the folders is it; they are {', '.join(known)}")
    take(chosen, args.classifier, compared, Path(args.output_folder))
    print(f"the classifier is {chosen.name} (validation {chosen.scores['metric']} {chosen.valid_score:.3f})")
    return 0


if __name__ == "__main__":
    run_main(main)
