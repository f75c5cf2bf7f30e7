"""Gather the scores of many runs into tables: what experiment.sh prints at its end.

    python -m synthio.report.experiment table --folder demo_experiment --dataset_name demo
    python -m synthio.report.experiment best --scores pitch=W/scores.json mixup=V/scores.json
    python -m synthio.report.experiment folds --csv clips.csv
    python -m synthio.report.experiment heads

`table` reads plan.csv (method,n,seed,fold,cell,scores) and jobs.csv in the folder and writes results.csv (a row a
method, n, seed and fold), table.csv, table.tex (for booktabs) and table.png (a row a method and n), and gains.csv: what
synthetic clips bring to each classifier, whichever of them is *the* classifier. `best` prints the name whose classifier
is best on its validation clips; the test scores are not looked at. `folds` lists a CSV's folds, `heads` the rows that a
job brings besides its own: every classifier that gold_only and the methods with synthetic clips trained has one.

A cell is a seed and a fold: each seed draws its own training clips, each fold has its own test clips.
  mean, std     over the cells
  interval_95   of the mean: the cells are drawn anew, and within each fold the test clips, whole groups (recordings,
                speakers) where they have them; the same for all methods and seeds (synthio.classification.intervals)
  difference    to gold_only, or what --compare_to names, in the same cells, its interval from the same draws
  told          better or worse where that interval leaves 0 out; else "not to be told"
  p             paired permutation test over the cells, two-sided; with k cells it cannot be below 2 / 2^k. Of one cell
                it is that of the interval
  p_holm        the same, corrected for the number of methods that were asked for (Holm)
Cells share training clips, so p is a guide, not a proof. The interval of one cell is over its test clips alone.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthio.classification.heads import TITLES, UNTRAINED, title_of
from synthio.cli import UserError, in_range, new_parser, run_main
from synthio.files import ROOT
from synthio.report.tables import p_text

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from synthio.classification.intervals import Units

BASELINE = "gold_only"
# Method -> its name in print; those that the paper's table has bear the name that stands there.
NAMES = {
    "gold_only": "Gold-only (No Aug.)",
    "random_noise": "Random Noise",
    "pitch_shift": "Pitch Shifting",
    "spec_augment": "SpecAugment",
    "mixup": "Mixup",
    "audiomentations": "Audiomentations",
    "retrieval": "Retrieval",
    "vanilla_synthetic": "Vanilla Syn. Aug.",
    "vanilla_llm": "Vanilla Syn. Aug. + LLM Caps.",
    "synthio": "Synthio (ours)",
    "synthio_template": "Synthio w/ Template Captions",
    "erm": "Synthio w/ ERM",
    "wo_reflection": "Synthio w/o Self-Reflection",
    "wo_mixcap": "Synthio w/o MixCap",
    "wo_dpo": "Synthio w/o DPO",
    "wo_filter": "Synthio w/o Filter",
    "synthio_best_classical": "Synthio + best classical",
}


def methods_without_clips(path: Path = ROOT / "extras/methods.txt") -> tuple[str, ...]:
    """The methods that train on gold clips alone, by what they are for run.sh."""
    rows = [line.split("|") for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return tuple(name.strip() for name, words, _ in rows if "--augment false" in words)


WITHOUT_CLIPS = methods_without_clips()
# Method -> what the rows of all that its jobs trained begin with, in the table and in print.
WITH_HEADS = {
    BASELINE: ("", ""),
    **{
        method: (f"{method}_", name.replace(" (ours)", "") + ": ")
        for method, name in NAMES.items()
        if method not in WITHOUT_CLIPS
    },
}
# Whose clips are compared in each classifier: with the first in place of the second.
GAINS = [(method, BASELINE) for method in WITH_HEADS if method != BASELINE]
GAINS += [("synthio", method) for method, _ in GAINS if method != "synthio"]
GAINS_SHOWN = ("ast", "probe_ast", "probe", "fusion")  # classifiers in print; gains.csv has all
HEAD_NAMES = {
    start + head: (begin + title)[:1].upper() + (begin + title)[1:]
    for start, begin in WITH_HEADS.values()
    for head, title in TITLES.items()
    if not start or head not in UNTRAINED
}
# Rows of the printed table, of all methods and heads those that tell a method's worth; table.csv has all.
HEADS_SHOWN = {WITH_HEADS[method][0] + head for method in (BASELINE, "synthio") for head in TITLES}
NAMES |= HEAD_NAMES
# dataset_name, in small letters and digits alone -> column of the paper's table
PAPER_DATASETS = {
    "esc50": "ESC-50",
    "us8k": "USD8K",
    "usd8k": "USD8K",
    "urbansound8k": "USD8K",
    "gtzan": "GTZAN",
    "medley": "Medley",
    "medleysolosdb": "Medley",
    "tut": "TUT",
    "tut2018": "TUT",
    "nsynth": "NSynth",
    "vs": "VS",
    "vocalsound": "VS",
    "msdb": "MSDB",
    "musdb18": "MSDB",
    "dcase": "DCASE",
    "dcase2017": "DCASE",
    "fsd50k": "FSD50K",
}
MEAN_COLUMN = 3  # of the printed table
TEX_ESCAPES = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
}


@dataclass(frozen=True)
class Cell:
    """The scores of one method, n, seed and fold."""

    method: str
    n: int
    seed: int
    fold: str
    seconds: int
    scores: Mapping[str, Any]  # scores.json, and the table of `predictions`

    @functools.cached_property
    def units(self) -> Units:
        """What is drawn as one among its test clips."""
        from synthio.classification.intervals import units_of

        return units_of(self.scores["predictions"])

    @property
    def key(self) -> tuple[int, str]:
        """What pairs it with the cells of other methods."""
        return self.seed, self.fold

    @property
    def score(self) -> float:
        """The main metric."""
        return self.scores[self.scores["metric"]]


def get_parser():
    parser = new_parser(__doc__)
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def command(name: str, text: str):
        return commands.add_parser(name, help=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)

    table = command("table", "write results.csv, table.csv, table.tex and table.png, and print the table")
    table.add_argument("--folder", required=True, help="folder of the experiment, with plan.csv")
    table.add_argument("--dataset_name", default="", help="for the title, and to find the paper's figures")
    table.add_argument("--paper_csv", default="", help="the paper's table (n,method,<datasets>); empty: none")
    table.add_argument("--compare_to", default=BASELINE, choices=NAMES, help="method that differences are taken to")
    table.add_argument("--resamples", type=in_range(int, 100), default=1000, help="of the bootstrap")
    best = command("best", "print the name of the best on validation clips")
    best.add_argument("--scores", nargs="+", required=True, metavar="NAME=FILE", help="scores.json of each")
    command("heads", "list the rows of all that the jobs train")
    folds = command("folds", "list the values of the column fold, one a line")
    folds.add_argument("--csv", required=True, help="CSV with a column fold")
    return parser


# ---- statistics


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p values corrected by Holm (1979): the i-th smallest of m times m - i (i from 0), never falling, at most 1."""
    known = sorted(((p, i) for i, p in enumerate(values) if p is not None))
    corrected: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[i] = largest
    return corrected


# ---- reading


def read_seconds(path: Path) -> dict[tuple[str, str], int]:
    """(method, cell) -> seconds of all its calls; a stage that is shared counts where it was done."""
    from synthio.manifest import read_table

    spent: dict[tuple[str, str], int] = defaultdict(int)
    for row in read_table(path, ("method", "cell", "seconds")).to_dict("records") if path.is_file() else ():
        if row["seconds"].isdigit():  # else the line was cut by a kill
            spent[row["method"], row["cell"]] += int(row["seconds"])
    return spent


def read_cells(folder: Path) -> tuple[list[Cell], list[dict[str, str]]]:
    """The finished cells of plan.csv, and the rows of those that are missing.

    Raises:
        UserError: cells of a fold were not tested on the same clips, or not by the same metric.
    """
    from synthio.classification.scored import read_scores
    from synthio.manifest import LABEL, PATH, read_table

    seconds, cells, missing = read_seconds(folder / "jobs.csv"), [], []
    tested: dict[str, Any] = {}
    for row in read_table(folder / "plan.csv", ("method", "n", "seed", "fold", "cell", "scores")).to_dict("records"):
        if not (folder / row["scores"]).is_file():
            missing.append(row)
            continue
        scores = read_scores(f"{row['method']}={folder / row['scores']}")
        shown = scores["predictions"][[PATH, LABEL]], scores["metric"]
        known = tested.setdefault(row["fold"], shown)
        if known[1] != shown[1] or not known[0].equals(shown[0]):
            raise UserError(f"{folder / row['scores']}: not tested on the clips of the others; run experiment.sh again")
        spent = seconds[row["method"], row["cell"]]
        cell = Cell(row["method"], int(row["n"]), int(row["seed"]), row["fold"], spent, scores)
        cells += [cell, *heads_of(cell, folder / row["scores"])]
    return cells, missing


def heads_of(cell: Cell, file: Path) -> list[Cell]:
    """All that the job of a cell trained, each as a cell of its own.

    Args:
        cell: of a method; those that are not in `WITH_HEADS` have none.
        file: scores.json of its classifier.
    """
    from synthio.classification.scored import read_scores

    if cell.method not in WITH_HEADS:
        return []
    start, folder = WITH_HEADS[cell.method][0], file.parent
    files = [folder.with_name(f"{folder.name}_ast") / file.name]
    files += sorted(folder.with_name(f"{folder.name}_heads").glob(f"*/{file.name}"))
    found = [read_scores(f"{cell.method}={path}") for path in files if path.is_file()]
    return [
        replace(cell, method=start + scores["head"], seconds=0, scores=scores)
        for scores in found
        if start + scores["head"] in NAMES
    ]


def paper_figures(csv: str, dataset_name: str) -> dict[tuple[int, str], float]:
    """(n, method as it is called in print) -> the paper's figure in percent; empty for a dataset it does not have."""
    from synthio.manifest import read_table

    column = PAPER_DATASETS.get("".join(c for c in dataset_name.lower() if c.isalnum()))
    if not csv or column is None:
        return {}
    table = read_table(csv, ("n", "method", column))
    return {(int(row["n"]), row["method"]): float(row[column]) for row in table.to_dict("records")}


# ---- tables


def results_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """A row a cell."""
    import pandas as pd

    rows = []
    for cell in cells:
        train, scores = cell.scores["splits"]["train"], cell.scores
        rows.append(
            {
                "method": cell.method,
                "n": cell.n,
                "seed": cell.seed,
                "fold": cell.fold,
                **{name: scores.get(name, "") for name in ("accuracy", "macro_f1", "mAP")},
                "best_valid": scores["best_valid"][scores["metric"]],
                "train_gold": train["gold"],
                "train_synthetic": train["synthetic"],
                "test_clips": scores["splits"]["test"]["clips"],
                "num_steps": scores.get("num_steps", ""),
                "seconds": cell.seconds,
            }
        )
    return pd.DataFrame(rows)


def resample_cells(cells: Sequence[Cell], resamples: int) -> dict[tuple, np.ndarray]:
    """(method, n, seed, fold) -> [R] scores on resampled clips, paired over everything that shares a fold."""
    from synthio.classification.intervals import draw_counts
    from synthio.classification.scored import drawn_score
    from synthio.files import stable_seed

    draws: dict[str, Any] = {}
    out = {}
    for cell in cells:
        if cell.fold not in draws:
            draws[cell.fold] = draw_counts(cell.units, resamples, stable_seed("bootstrap", cell.fold))
        out[cell.method, cell.n, *cell.key] = drawn_score(cell.scores, draws[cell.fold])
    return out


def summary_row(method: str, cells: Sequence[Cell], samples: Mapping[tuple, np.ndarray]) -> dict[str, Any]:
    """Mean, spread and interval of the cells of one method and n."""
    import numpy as np

    from synthio.classification.intervals import interval

    values = [cell.score for cell in cells]
    drawn = [samples[method, cell.n, *cell.key] for cell in cells]
    low, high = interval(values, drawn, [cell.units for cell in cells])
    trains = [cell.scores["splits"]["train"] for cell in cells]
    return {
        "n": cells[0].n,
        "method": method,
        "called": cells[0].scores.get("called", "AST"),
        "cells": len(cells),
        "metric": cells[0].scores["metric"],
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "low_95": low,
        "high_95": high,
        "over": over(cells),
        "macro_f1": float(np.mean([cell.scores["macro_f1"] for cell in cells])),
        "gold": float(np.mean([train["gold"] for train in trains])),
        "synthetic": float(np.mean([train["synthetic"] for train in trains])),
        "seconds": float(np.mean([cell.seconds for cell in cells])),
    }


def over(cells: Sequence[Cell]) -> str:
    """What the intervals of some cells are over, in words."""
    from synthio.classification.intervals import basis

    folds = {cell.fold: cell.units.record() for cell in cells}
    return basis(list(folds.values()), len({cell.key for cell in cells}))


def difference_row(cells: Sequence[Cell], baseline: Sequence[Cell], samples) -> dict[str, Any]:
    """Difference to the baseline over the cells that both have; None where there are none, or it is the baseline."""
    from synthio.classification.scored import Paired, gain_record

    ours, theirs = ({cell.key: cell for cell in group} for group in (cells, baseline))
    keys = sorted(set(ours) & set(theirs))
    if not keys or cells[0].method == baseline[0].method:
        return dict.fromkeys(("difference", "difference_low_95", "difference_high_95", "told", "p", "pairs"))
    n, pair = cells[0].n, (cells[0].method, baseline[0].method)
    pairs = []
    for key in keys:
        drawn = samples[pair[0], n, *key] - samples[pair[1], n, *key]
        pairs.append(Paired(ours[key].score - theirs[key].score, drawn, ours[key].units))
    gain = gain_record(pairs)
    low, high = gain["interval_95"]
    limits = {"difference_low_95": low, "difference_high_95": high}
    return {"difference": gain["difference"], **limits, "told": gain["told"], "p": gain["p"], "pairs": len(keys)}


def mean_score(cells: Sequence[Cell]) -> float:
    """The mean of the main metric."""
    return sum(cell.score for cell in cells) / len(cells)


def by_method(cells: Sequence[Cell]) -> dict[tuple[int, str], list[Cell]]:
    """(n, method) -> its cells."""
    groups: dict[tuple[int, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.n, cell.method].append(cell)
    return groups


def gains(cells: Sequence[Cell], samples: Mapping[tuple, np.ndarray]) -> list[dict[str, Any]]:
    """A record an n, classifier and pair of `GAINS`, over the cells that both have.

    Args:
        samples: of `resample_cells`.
    """
    groups, records = by_method(cells), []
    for n, head, pair in itertools.product(sorted({cell.n for cell in cells}), TITLES, GAINS):
        both = [groups.get((n, WITH_HEADS[method][0] + head), []) for method in pair]
        keys = set.intersection(*({cell.key for cell in group} for group in both))
        ours, theirs = ([cell for cell in group if cell.key in keys] for group in both)
        if keys:
            called = ours[0].scores.get("called", "AST")
            record = {"n": n, "head": head, "called": called, "clips": pair[0], "other": pair[1]}
            record |= {"mean": mean_score(ours), "other_mean": mean_score(theirs)}
            records.append(record | difference_row(ours, theirs, samples))
    return records


def summarise(
    cells: Sequence[Cell],
    samples: Mapping[tuple, np.ndarray],
    paper: Mapping[tuple[int, str], float],
    compare_to: str = BASELINE,
) -> list[dict[str, Any]]:
    """A record a method and n, methods in the order of NAMES; p is corrected over the methods of one n, heads apart."""
    groups = by_method(cells)
    order, records = list(NAMES), []
    for n in sorted({cell.n for cell in cells}):
        methods = sorted((method for count, method in groups if count == n), key=order.index)
        rows = [
            summary_row(method, groups[n, method], samples)
            | difference_row(groups[n, method], groups.get((n, compare_to), []), samples)
            for method in methods
        ]
        for row, p in zip(rows, holm([None if row["method"] in HEAD_NAMES else row["p"] for row in rows]), strict=True):
            row |= {"p_holm": p, "paper": paper.get((n, NAMES[row["method"]]))}
        records += rows
    return records


def number(value: float | None, digits: int = 1, scale: float = 100, sign: str = "") -> str:
    """A cell in print; '-' for none."""
    return "-" if value is None else f"{scale * value:{sign}.{digits}f}"


def interval_text(record: Mapping[str, Any], prefix: str = "", sign: str = "") -> str:
    """'41.0 to 52.3', in percent."""
    return f"{number(record[prefix + 'low_95'], sign=sign)} to {number(record[prefix + 'high_95'], sign=sign)}"


def difference_text(record: Mapping[str, Any]) -> str:
    """'+1.3 (-0.4 to +3.0)', in percent; '-' for none."""
    if record["difference"] is None:
        return "-"
    return f"{number(record['difference'], sign='+')} ({interval_text(record, 'difference_', '+')})"


def printed_row(record: Mapping[str, Any], has_paper: bool) -> list[str]:
    """The columns of the printed table."""
    row = [
        NAMES[record["method"]].replace("AST", record["called"]),
        f"{record['gold']:.0f} + {record['synthetic']:.0f}",
        str(record["cells"]),
        number(record["mean"]),
        number(record["std"]),
        interval_text(record),
        difference_text(record),
        record["told"] or "-",
        p_text(record["p"]),
        p_text(record["p_holm"]),
    ]
    return [*row, number(record["paper"], 2, 1)] if has_paper else row


def printed_header(metric: str, has_paper: bool, compare_to: str) -> list[str]:
    """The heads of these columns."""
    header = ["method", "gold + synthetic", "cells", metric, "std", "95 %", f"to {compare_to} (95 %)", "verdict"]
    return [*header, "p", "p (Holm)", *(["paper"] if has_paper else [])]


def by_n(records: Sequence[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    """n -> its records."""
    groups: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        groups[record["n"]].append(record)
    return groups


def n_text(n: int) -> str:
    """'n = 100'; 0 stands for all clips."""
    return f"n = {n}" if n else "all training clips"


def cells_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """'3 cells (seed x fold), intervals over the 106 groups of 351 test clips and 3 cells', of the fullest row."""
    most = max(rows, key=lambda row: row["cells"])
    return f"{most['cells']} cell{'s' * (most['cells'] > 1)} (seed x fold), intervals over {most['over']}"


def text_table(records: Sequence[Mapping[str, Any]], dataset_name: str, compare_to: str) -> str:
    """The table as it is printed, a block for each n."""
    from synthio.report.tables import plain_table

    has_paper = any(record["paper"] is not None for record in records)
    header, blocks = printed_header(records[0]["metric"], has_paper, compare_to), []
    for n, rows in by_n(records).items():
        title = f"{dataset_name}, {n_text(n)}: test scores in percent; {cells_text(rows)}"
        blocks.append(f"{title}\n{plain_table(header, [printed_row(row, has_paper) for row in rows])}")
    return "\n\n".join(blocks)


def gain_table(records: Sequence[Mapping[str, Any]]) -> str:
    """What synthetic clips bring to the classifiers of `GAINS_SHOWN`, as it is printed, a block for each n."""
    from synthio.report.tables import plain_table

    header, blocks = ["classifier", "clips of", "in place of", "score", "the other", "difference (95 %)"], []
    for n, rows in by_n(records).items():
        cells = [
            [
                title_of(row["head"], row),
                *("no clips" if row[name] == BASELINE else NAMES[row[name]] for name in ("clips", "other")),
                *(number(row[name]) for name in ("mean", "other_mean")),
                difference_text(row),
                row["told"],
                p_text(row["p"]),
            ]
            for row in rows
            if row["head"] in GAINS_SHOWN
        ]
        title = f"What synthetic clips bring to a classifier, {n_text(n)}"
        blocks.append(f"{title}\n{plain_table([*header, 'verdict', 'p'], cells)}")
    return "\n\n".join(blocks)


def tex_escape(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(TEX_ESCAPES.get(letter, letter) for letter in text)


def tex_table(records: Sequence[Mapping[str, Any]], dataset_name: str, compare_to: str) -> str:
    """A tabular for booktabs; the best mean of each n is bold."""
    has_paper = any(record["paper"] is not None for record in records)
    header = printed_header(records[0]["metric"], has_paper, compare_to)
    lines = [f"% {' '.join(dataset_name.split())}: test scores in percent", r"% needs \usepackage{booktabs}"]
    lines += [f"% {n_text(n)}: {cells_text(rows)}" for n, rows in by_n(records).items()]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule"]
    lines.append(" & ".join(map(tex_escape, header)) + r" \\")
    for n, rows in by_n(records).items():
        lines += [r"\midrule", rf"\multicolumn{{{len(header)}}}{{l}}{{{tex_escape(n_text(n))}}} \\"]
        best = max(row["mean"] for row in rows)
        for row in rows:
            cells = [tex_escape(cell) for cell in printed_row(row, has_paper)]
            if row["mean"] == best:
                cells[MEAN_COLUMN] = rf"\textbf{{{cells[MEAN_COLUMN]}}}"
            lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def write_picture(records: Sequence[Mapping[str, Any]], dataset_name: str, compare_to: str, path: Path) -> None:
    """Means with their intervals, a panel for each n, a line at the mean of what is compared to; PNG."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from synthio.files import atomic_path
    from synthio.publish.fonts import families_for
    from synthio.report.figures import STYLE, plot_scores

    groups = by_n(records)
    height = 1.1 + 0.3 * max(map(len, groups.values()))
    style = STYLE | {"font.family": families_for([dataset_name])}
    with matplotlib.rc_context(style), atomic_path(path) as temporary:
        figure = Figure((1.2 + 4.6 * len(groups), height), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        for axes, (n, rows) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups.items(), strict=True):
            points = [(r["method"], 100 * r["mean"], 100 * r["low_95"], 100 * r["high_95"]) for r in rows]
            plot_scores(axes, points, rows[0]["metric"])
            for mean in [row["mean"] for row in rows if row["method"] == compare_to]:
                axes.axvline(100 * mean, color="#6B7280", linewidth=0.8, linestyle=":")
            axes.set_title(f"{dataset_name}, {n_text(n)}", parse_math=False)
        figure.savefig(temporary, metadata={"Software": None})


# ---- actions


def make_tables(args) -> int:
    """Write the tables and print them; status 1 where no cell is finished."""
    import pandas as pd

    from synthio.files import write_text
    from synthio.manifest import write_table

    folder = Path(args.folder)
    cells, missing = read_cells(folder)
    if not cells:
        print(f"{folder}: no job has scores yet, so there is no table")
        return 1
    samples = resample_cells(cells, args.resamples)
    records = summarise(cells, samples, paper_figures(args.paper_csv, args.dataset_name), args.compare_to)
    gained = gains(cells, samples)
    write_table(results_table(cells), folder / "results.csv")
    write_table(pd.DataFrame(records), folder / "table.csv")
    kept = HEADS_SHOWN | {args.compare_to}
    records = [row for row in records if row["method"] not in HEAD_NAMES or row["method"] in kept]
    write_text(folder / "table.tex", tex_table(records, args.dataset_name, args.compare_to))
    write_picture(records, args.dataset_name, args.compare_to, folder / "table.png")
    print(f"\n{text_table(records, args.dataset_name, args.compare_to)}\n")
    if gained:
        write_table(pd.DataFrame(gained), folder / "gains.csv")
        print(f"{gain_table(gained)}\n")
    if missing:
        jobs = len(missing) + sum(cell.method not in HEAD_NAMES for cell in cells)
        print(f"{len(missing)} of {jobs} jobs have no scores and are not in the table")
    pairs = max(record["cells"] for record in records)
    print(f"p: paired permutation over the cells; {floor_text(pairs)}")
    print(
        f"tables: results.csv table.csv{' gains.csv' * bool(gained)} table.tex table.png in {os.path.relpath(folder)}"
    )
    return 0


def floor_text(pairs: int) -> str:
    """What p can be at best."""
    return f"with {pairs} of them it cannot be below {2 / 2**pairs:.2g}" if pairs > 1 else "of one, over its test clips"


def choose_best(scores: Sequence[Mapping[str, Any]]) -> str:
    """The name with the highest validation score, then the lowest validation loss; of equals the first."""
    return max(scores, key=lambda s: (s["best_valid"][s["metric"]], -s["best_valid"]["loss"]))["name"]


def list_folds(csv: str) -> list[str]:
    """The folds of a CSV; numbers in their order.

    Raises:
        UserError: there are fewer than 3: one tests, one validates, one trains.
    """
    from synthio.manifest import FOLD, read_table

    names = set(read_table(csv, (FOLD,))[FOLD])
    if len(names) < 3:
        raise UserError(f"{csv}: {len(names)} folds; three are needed: one tests, one validates, one trains")
    return sorted(names, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))


def main() -> int:
    args = get_parser().parse_args()
    if args.action == "table":
        return make_tables(args)
    if args.action == "best":
        from synthio.classification.scored import read_scores

        print(choose_best([read_scores(argument) for argument in args.scores]))
    elif args.action == "heads":
        print("\n".join(HEAD_NAMES))
    else:
        print("\n".join(list_folds(args.csv)))
    return 0


if __name__ == "__main__":
    run_main(main)
