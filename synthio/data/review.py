"""What a listener decided about the clips of a run: keep, drop, relabel.

    python -m synthio.data.review check --review_csv review.csv --work W --output_csv W/checked/review.csv
    python -m synthio.data.review apply --review_csv review.csv --work W --gold_csv W/train_50.csv \\
        --kept_csvs W/round_0/kept.csv --made_csvs W/round_0/generated.csv --rejected_csvs W/round_0/rejected.csv \\
        --output_csv W/decisions.csv --gold_output W/train_50_reviewed.csv --kept_output W/reviewed.csv \\
        --rejected_output W/reviewed_rejected.csv

The CSV is what the browser saves from report.html: path, label, decision, new_label, sha256. A clip is known by the
hash of its sound and by its label, so that a decision never hits another clip; the path is for people. `check` says
everything that is wrong with it, against the clips that are in W. `apply` writes the clips that train:

  gold       dropped ones are left out, relabelled ones have their new label; validation and test clips never change
  synthetic  dropped ones are left out, kept ones come in whatever the filter said, relabelled ones under the new label

Each changed row says so in the column `review`. No clip is generated in place of one that was dropped.
"""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from synthio.cli import UserError, new_parser, run_main
from synthio.data.problems import Findings
from synthio.options import MultiLabel, add_options

if TYPE_CHECKING:
    import pandas as pd

KEEP, DROP, RELABEL = "keep", "drop", "relabel"
DECISIONS = (KEEP, DROP, RELABEL)
DECISION, NEW_LABEL = "decision", "new_label"
COLUMNS = ("path", "label", DECISION, NEW_LABEL, "sha256")  # of the CSV, in its order
KIND, GOLD, SYNTHETIC = "kind", "gold", "synthetic"
AGAIN = "save the review again, from the report.html of this run"
REASON_OF_DROP = "review: dropped by ear"


def get_parser():
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("action", choices=["check", "apply"], help="see above")
    add("--review_csv", required=True, help="the decisions")
    add("--work", required=True, help="the run's folder")
    add("--output_csv", required=True, help="output: the decisions that count, each with the kind of its clip")
    add("--gold_csv", default="", help="the gold clips that train")
    add("--kept_csvs", nargs="*", default=[], help="apply: synthetic clips that train")
    add("--made_csvs", nargs="*", default=[], help="apply: all synthetic clips, with what the filter said of each")
    add("--rejected_csvs", nargs="*", default=[], help="apply: clips that the filter rejected")
    add("--gold_output", default="", help="output of apply: gold clips")
    add("--kept_output", default="", help="output of apply: synthetic clips")
    add("--rejected_output", default="", help="output of apply: rejected clips that stay so")
    add_options(parser, MultiLabel)
    return parser


@dataclass(frozen=True)
class Decision:
    """A row of the CSV, counted from 1 without the header."""

    row: int
    path: str
    label: str
    decision: str
    new_label: str
    sha256: str

    @property
    def key(self) -> tuple[str, str]:
        return self.sha256, self.label

    @property
    def answer(self) -> tuple[str, str]:
        return self.decision, self.new_label

    @property
    def name(self) -> str:
        """Of the file, whatever wrote the path."""
        return self.path.replace("\\", "/").rpartition("/")[2]


@dataclass(frozen=True)
class Clips:
    """What decisions can be about: tables with path, label and sha256."""

    gold: pd.DataFrame
    synthetic: pd.DataFrame
    untouchable: Mapping[str, str]  # hash -> validation or test

    @property
    def labels(self) -> list[str]:
        from synthio.manifest import LABEL, all_labels

        return all_labels(self.gold[LABEL].tolist())


def read_review(csv: str | Path) -> list[Decision]:
    """The rows of a review.

    Raises:
        UserError: no CSV, or not these columns.
    """
    from synthio.manifest import clean_labels, read_table

    table = read_table(csv, COLUMNS, f"a review is a CSV of {', '.join(COLUMNS)}; {AGAIN}")
    for column in ("label", NEW_LABEL):
        table[column] = clean_labels(table[column])
    rows = table[list(COLUMNS)].to_dict("records")
    return [Decision(row, **{name: str(value) for name, value in one.items()}) for row, one in enumerate(rows, 1)]


def read_made(csvs: Sequence[Path]) -> pd.DataFrame:
    """The synthetic clips of several tables below each other, index 0..n-1."""
    import pandas as pd

    from synthio.manifest import CONTENT, LABEL, PATH, read_manifest

    tables = [read_manifest(csv, (PATH, LABEL, CONTENT), check_files=False) for csv in csvs]
    empty = pd.DataFrame(columns=[PATH, LABEL, CONTENT], dtype=str)
    return pd.concat(tables, ignore_index=True).fillna("") if tables else empty


def clips_in(work: Path) -> Clips:
    """The clips that are in a run's folder, as far as it got.

    Raises:
        UserError: there is no run.
    """
    import pandas as pd

    from synthio.manifest import CONTENT

    checked = {name: work / f"checked/{name}.csv" for name in ("train", "valid", "test")}
    missing = [csv for csv in checked.values() if not csv.is_file()]
    if missing:
        raise UserError(
            f"{missing[0]} is not there: nothing was run in {work} yet that a review can be of; leave it out"
        )
    others = {"validation": checked["valid"], "test": checked["test"]}
    untouchable = {digest: name for name, csv in others.items() for digest in read_gold(csv)[CONTENT]}
    made = [csv for part in (work, work / "added") for csv in sorted(part.glob("round_[0-9]*/generated.csv"))]
    gold = [read_gold(csv) for csv in (checked["train"], work / "checked/added.csv") if csv.is_file()]
    return Clips(pd.concat(gold, ignore_index=True).fillna(""), read_made(made), untouchable)


# ---- what is wrong


def find_problems(csv: str | Path, decisions: Sequence[Decision], clips: Clips, multi_label: bool) -> Findings:
    """Everything that is wrong with a review.

    Args:
        csv: where it is, for messages.
        decisions: its rows.
        clips: those of the run.
        multi_label: a clip may have several labels.
    """
    findings = Findings()
    findings.add("rows are wrong", _wrong_cells(csv, decisions, clips.labels, multi_label))
    findings.add("clips are not of this run", _strangers(csv, decisions, clips))
    findings.add("clips are decided about twice", _contradictions(csv, decisions))
    if not findings.problems:
        findings.add("labels lose all clips", _empty_labels(csv, decisions, clips.gold))
    return findings


def _wrong_cells(csv, decisions: Sequence[Decision], labels: Sequence[str], multi_label: bool) -> Iterator[str]:
    from synthio.manifest import split_labels

    for one in decisions:
        where = f"{csv} row {one.row}"
        if one.decision not in DECISIONS:
            yield f"{where}: decision {one.decision!r} is none of {', '.join(DECISIONS)}"
        elif one.decision != RELABEL and one.new_label:
            yield f"{where}: {one.decision} with new_label {one.new_label!r}; make it {RELABEL}, or empty that cell"
        elif one.decision == RELABEL:
            parts = split_labels(one.new_label)
            if not parts:
                yield f"{where}: {RELABEL} without a new_label; give one of {', '.join(labels[:10])}"
            elif len(parts) > 1 and not multi_label:
                yield f"{where}: new_label {one.new_label!r} has several labels; give one, or set multi_label=true"
            for part in parts:
                if part not in labels:
                    near = difflib.get_close_matches(part, labels, 1) or labels[:10]
                    meant = ", ".join(near)
                    yield f"{where}: new_label {part!r} is no label of the training clips; did you mean {meant}?"


def _strangers(csv, decisions: Sequence[Decision], clips: Clips) -> Iterator[str]:
    import pandas as pd

    from synthio.manifest import CONTENT, LABEL, PATH

    known = pd.concat([clips.gold, clips.synthetic], ignore_index=True)
    labels: dict[str, list[str]] = defaultdict(list)
    for digest, label in zip(known[CONTENT], known[LABEL], strict=True):
        labels[digest].append(label)
    names = {Path(path).name for path in known[PATH]}
    for one in decisions:
        where = f"{csv} row {one.row}: {one.path}"
        if one.label in labels[one.sha256]:
            continue
        if labels[one.sha256]:
            yield f"{where} was {one.label!r} when it was heard, and is {labels[one.sha256][0]!r} now; {AGAIN}"
        elif one.sha256 in clips.untouchable:
            yield f"{where} is a {clips.untouchable[one.sha256]} clip, which no review changes; remove the row"
        elif one.name in names:
            yield f"{where} has been made anew since: it is another sound than was heard; {AGAIN}"
        else:
            yield f"{where} is no clip of this run; remove the row, or {AGAIN}"


def _contradictions(csv, decisions: Sequence[Decision]) -> Iterator[str]:
    first: dict[tuple[str, str], Decision] = {}
    for one in decisions:
        other = first.setdefault(one.key, one)
        if one.answer != other.answer:
            here, there = (" ".join(answer).strip() for answer in (one.answer, other.answer))
            yield f"{csv} row {one.row}: {one.path}: {here}, but {there} in row {other.row}; remove one of them"


def _empty_labels(csv, decisions: Sequence[Decision], gold: pd.DataFrame) -> Iterator[str]:
    """Labels that no gold clip would have any more: nobody could be trained on the gold clips alone."""
    from synthio.manifest import LABEL, all_labels, split_labels

    left = all_labels([label for label in _new_labels(gold, decisions) if label is not None])
    for label in all_labels(gold[LABEL].tolist()):
        if label not in left:
            row = next(one.row for one in decisions if label in split_labels(one.label))
            yield f"{csv} row {row}: no training clip of {len(gold)} would be {label!r} any more; keep one"


# ---- what is changed


def _by_key(decisions: Sequence[Decision]) -> dict[tuple[str, str], Decision]:
    return {one.key: one for one in decisions}


def _new_labels(table: pd.DataFrame, decisions: Sequence[Decision]) -> list[str | None]:
    """The label of each row after the review; None where it is dropped."""
    from synthio.manifest import CONTENT, LABEL

    known = _by_key(decisions)
    found: list[str | None] = []
    for key in zip(table[CONTENT], table[LABEL], strict=True):
        one = known.get(key)
        found.append(key[1] if one is None or one.decision == KEEP else None if one.decision == DROP else one.new_label)
    return found


def changed(
    table: pd.DataFrame, decisions: Sequence[Decision], ancestors: Mapping[str, frozenset[str]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(rows that stay, under the labels that were decided; rows that are dropped, with the reason).

    Args:
        table: path, label, sha256.
        decisions: of these and other clips.
        ancestors: label -> the labels that come with it, of `ancestors_of`, for tables with leaf labels.
    """
    import numpy as np

    from synthio.data.hierarchy import leaf_cells
    from synthio.manifest import CONTENT, LABEL, LEAVES, REASON, REVIEW

    known, labels = _by_key(decisions), _new_labels(table, decisions)
    said = []
    for key in zip(table[CONTENT], table[LABEL], strict=True):
        one = known.get(key)
        said.append("" if one is None else one.decision if one.decision != RELABEL else f"relabelled from {key[1]}")
    stays = np.array([label is not None for label in labels], dtype=bool)  # of no rows a list would be no flags
    dropped = table[~stays].assign(**{REASON: REASON_OF_DROP})
    kept = table.assign(**{LABEL: labels, REVIEW: said})[stays]
    if LEAVES in table.columns:
        moved = kept[REVIEW].str.startswith("relabelled").tolist()
        kept[LEAVES] = [
            new if flag else old
            for flag, new, old in zip(moved, leaf_cells(kept[LABEL].tolist(), ancestors), kept[LEAVES], strict=True)
        ]
    return kept.reset_index(drop=True), dropped.reset_index(drop=True)


def wanted_too(made: pd.DataFrame, kept: pd.DataFrame, decisions: Sequence[Decision]) -> pd.DataFrame:
    """The synthetic clips that do not train, but were kept or relabelled by ear, each once."""
    from synthio.manifest import PATH

    found = made.loc[_rows_of(made, decisions, (KEEP, RELABEL))]
    return found[~found[PATH].isin(set(kept[PATH]))].drop_duplicates(PATH).reset_index(drop=True)


def _rows_of(table: pd.DataFrame, decisions: Sequence[Decision], kinds: Sequence[str]) -> list[int]:
    """The rows of a table that some kinds of decisions are about."""
    from synthio.manifest import CONTENT, LABEL

    wanted = {one.key for one in decisions if one.decision in kinds}
    keys = zip(table[CONTENT], table[LABEL], strict=True)
    return [row for row, key in enumerate(keys) if key in wanted]


def named_by(record: Mapping[str, str], work: Path | None) -> dict[str, str]:
    """The cells of a clip in the CSV that a page saves.

    Args:
        record: of the clip.
        work: the run's folder, from which its path is told without this machine's folders; None: the whole path.
    """
    from synthio.manifest import PATH

    path, shown = Path(record[PATH]), record[PATH]
    if work is not None:
        base = work.absolute().parent
        shown = path.relative_to(base).as_posix() if path.is_relative_to(base) else f"…/{path.parent.name}/{path.name}"
    return {name: shown if name == PATH else record.get(name, "") for name in COLUMNS}


# ---- the commands


def decisions_table(decisions: Sequence[Decision], clips: Clips) -> pd.DataFrame:
    """The decisions, each once, with the paths of their clips and the kind."""
    import pandas as pd

    from synthio.manifest import CONTENT, LABEL, PATH

    places = {
        key: (kind, path)
        for kind, table in ((GOLD, clips.gold), (SYNTHETIC, clips.synthetic))
        for key, path in zip(zip(table[CONTENT], table[LABEL], strict=True), table[PATH], strict=True)
    }
    rows = [
        {PATH: places[key][1], LABEL: one.label, DECISION: one.decision, NEW_LABEL: one.new_label}
        | {CONTENT: one.sha256, KIND: places[key][0]}
        for key, one in _by_key(decisions).items()
    ]
    return pd.DataFrame(rows, columns=[*COLUMNS, KIND], dtype=str)


def say(csv: str, table: pd.DataFrame) -> None:
    """One line: how many decisions there are of each kind."""
    counts = Counter(zip(table[KIND], table[DECISION], strict=True))
    parts = [f"{kind}: {', '.join(_counted(counts, kind))}" for kind in (SYNTHETIC, GOLD) if table[KIND].eq(kind).any()]
    print(f"{csv}: {'; '.join(parts) or 'no decisions'}", flush=True)


def _counted(counts: Mapping[tuple[str, str], int], kind: str) -> list[str]:
    return [f"{counts[kind, decision]} to {decision}" for decision in DECISIONS if counts.get((kind, decision))]


def check(args) -> int:
    """Refuse what is wrong, else write the decisions."""
    from synthio.manifest import write_table

    clips, decisions = clips_in(Path(args.work)), read_review(args.review_csv)
    findings = find_problems(args.review_csv, decisions, clips, args.multi_label)
    if args.gold_csv and not findings.problems:
        findings.add("labels lose all clips", _empty_labels(args.review_csv, decisions, read_gold(args.gold_csv)))
    findings.refuse()
    table = decisions_table(decisions, clips)
    write_table(table, args.output_csv)
    say(args.review_csv, table)
    return 0


def read_gold(csv: str | Path) -> pd.DataFrame:
    """Training clips."""
    from synthio.manifest import CONTENT, LABEL, PATH, read_manifest

    return read_manifest(csv, (PATH, LABEL, CONTENT), check_files=False)


def apply(args) -> int:
    """Write the clips that train, and the decisions. Synthetic clips are those of --made_csvs, or what is in W."""
    from synthio.data.hierarchy import ancestors_of
    from synthio.manifest import LABEL, write_table

    clips, decisions, gold = clips_in(Path(args.work)), read_review(args.review_csv), read_gold(args.gold_csv)
    if args.made_csvs:
        clips = replace(clips, synthetic=read_made(list(map(Path, args.made_csvs))))
    findings = find_problems(args.review_csv, decisions, clips, args.multi_label)
    findings.refuse()
    findings.add("labels lose all clips", _empty_labels(args.review_csv, decisions, gold))
    findings.refuse()
    ancestors = ancestors_of(clips.gold[LABEL])
    write_part(args, args.gold_output, (gold, *changed(gold, decisions, ancestors)))
    if args.kept_output:
        write_synthetic(args, clips.synthetic, decisions, ancestors)
    table = decisions_table(decisions, clips)
    write_table(table, args.output_csv)
    say(args.review_csv, table)
    return 0


def write_synthetic(args, made: pd.DataFrame, decisions: Sequence[Decision], ancestors) -> None:
    """The synthetic clips that train, and those that are rejected for good."""
    import pandas as pd

    from synthio.manifest import REASON

    before = read_made(list(map(Path, args.kept_csvs)))
    more = wanted_too(made, before, decisions)
    table = pd.concat([before, more.assign(**{REASON: ""})], ignore_index=True).fillna("")
    write_part(args, args.kept_output, (table, *changed(table, decisions, ancestors)))
    rejected = read_made(list(map(Path, args.rejected_csvs)))
    taken = rejected.index.isin(_rows_of(rejected, decisions, (KEEP, RELABEL)))
    moved = rejected[taken].assign(**{REASON: "review: kept by ear"})
    write_part(args, args.rejected_output, (rejected, rejected[~taken].reset_index(drop=True), moved))


def write_part(args, output: str, parts: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]) -> None:
    """One output, of (all rows, those that stay, those that are dropped)."""
    from synthio.manifest import write_manifest

    table, kept, dropped = parts
    csvs = [args.review_csv, args.gold_csv, *args.kept_csvs, *args.rejected_csvs]
    write_manifest(kept, output, rows_in=len(table), dropped=dropped, options=vars(args), inputs=csvs)


def main() -> int:
    args = get_parser().parse_args()
    return {"check": check, "apply": apply}[args.action](args)


if __name__ == "__main__":
    run_main(main)
