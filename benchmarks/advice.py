#!/usr/bin/env python3
"""Measure whether `sh run.sh --advise` is right: the gain that it expects against the gain on test clips.

    python benchmarks/advice.py --set demo made.csv other.csv splits/demo_0 splits/demo_1 --num_samples 50 100 \\
        --seeds 0 1 --output_csv advise.csv --cache_folder cache

A set is a name, a CSV of made clips that the advice is given, a CSV of others of the same labels that are trained on,
and folders with train.csv, valid.csv and test.csv. From each folder clips are drawn with each seed. For each draw and
head: `expected` is the gain of all labels, by gold and validation clips (synthio.report.advise); `measured` is the
accuracy on the test clips of the head with all gold clips and the other made ones, less that without. Rows are kept as
they come, and those that are there are not made again. Prints the mean of each set and number of clips, and the rank
correlation of expected and measured over them, with an interval by drawing cells anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np

from benchmarks.rivals import read_draw
from synthio.classification.trials import SHARES
from synthio.cli import (
    AUTO,
    UserError,
    in_range,
    new_parser,
    number_or_word,
    pick_device,
    quiet_libraries,
    run_main,
    set_threads,
    str2bool,
)
from synthio.files import EMBEDDED
from synthio.models.classifiers import CLASSIFIER_HELP
from synthio.options import Device, add_options
from synthio.report.advise import DRAWS, HEADS

KEY = ("set", "split", "clips", "seed", "head", "synthetic_weight")
NUMBERS = ("expected", "low", "high", "flips", "weight", "score", "score_made", "measured", "score_twice")
COLUMNS = (*KEY, "advice", *NUMBERS)


def get_parser():
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--set", nargs="+", action="append", required=True, metavar="WORD", help="name, two CSVs, folders of splits")
    add("--num_samples", nargs="+", type=in_range(int, 2), default=[50, 100], help="training clips to draw")
    add("--seeds", nargs="+", type=in_range(int, 0), default=[0], help="of the draws")
    add("--heads", nargs="+", default=list(HEADS), help="heads of synthio.classification.heads")
    add("--synthetic_weight", type=number_or_word(0), default=AUTO, help="as for ast/heads.py")
    add("--curve", type=str2bool, default=True, help="measure the learning curve, too")
    add("--draws", type=in_range(int, 1), default=DRAWS, help="of folds")
    add("--ast_model", default=str(EMBEDDED / "ast"), help=CLASSIFIER_HELP)
    add("--clap_model", default=str(EMBEDDED / "clap"), help="CLAP folder or hub id")
    add("--cache_folder", required=True, help="folder that keeps embeddings")
    add("--output_csv", type=Path, required=True, help="a row for each draw and head")
    add_options(parser, Device)
    return parser


def read_made(listener, csv: str, labels: Sequence[str]):
    """Made clips of the labels."""
    from synthio.classification.labels import encode_labels
    from synthio.classification.trials import Made
    from synthio.manifest import LABEL, PATH, read_manifest

    table = read_manifest(csv)
    table = table[table[LABEL].isin(labels)]
    return Made(listener.hear(table[PATH], csv), encode_labels(table[LABEL], labels, csv, False))


def rows_of_draw(args, listener, words: Sequence[str], split: Path, clips: int, seed: int) -> Iterator[dict]:
    """A row for each head of one draw."""
    import pandas as pd

    from synthio.classification.heads import fit_head
    from synthio.classification.intervals import units_of
    from synthio.classification.learning_curve import USUAL_EXPONENT
    from synthio.classification.metrics import accuracy
    from synthio.classification.tasks import prepare
    from synthio.classification.trials import measure, with_made
    from synthio.manifest import PATH
    from synthio.report.advise import Question, curve_of, gains_of, label_errors_now, said

    tables, csvs, labels, targets = read_draw(split, clips, seed)
    options = {"synthetic_weight": 1.0, "multi_label": False, "seed": seed}
    task = prepare(listener, tables, csvs, targets, labels, **options).task
    made, other = (read_made(listener, csv, labels) for csv in words[1:3])
    test = listener.hear(tables["test"][PATH], csvs["test"])
    units = units_of(pd.concat([tables["train"], tables["valid"]], ignore_index=True).fillna(""))
    question = Question(task, made, labels, units)
    asked, shares = args.synthetic_weight, SHARES if args.curve else ()
    for head in args.heads:
        trial = measure(task, made, [head], asked, args.draws, shares)
        whole, _ = gains_of(trial, question, seed)
        curve = curve_of(trial, question, seed)
        error, _ = label_errors_now(trial, len(labels), curve, len(task.targets))
        exponent = USUAL_EXPONENT[0] if curve is None else float(curve.exponent[0])
        before = accuracy(targets["test"], fit_head(head, task).logits(test))
        mixed, weight = with_made(task, other, asked, head)
        after = accuracy(targets["test"], fit_head(head, mixed).logits(test))
        yield {
            **dict(zip(KEY, (words[0], split.name, clips, seed, head, asked), strict=True)),
            "advice": said(whole, error, len(task.targets), exponent, False)["advice"],
            "expected": whole.mean,
            "low": whole.interval[0],
            "high": whole.interval[1],
            "flips": float(trial.flips.mean()),
            "weight": weight,
            "score": before,
            "score_made": after,
            "measured": after - before,
            "score_twice": float("nan") if curve is None else float(1 - curve.error(2 * clips)[0]),
        }


def read_rows(path: Path) -> list[dict]:
    """What an earlier call has measured."""
    from synthio.manifest import read_table

    if not path.is_file():
        return []
    rows = read_table(path, KEY).to_dict("records")
    return [{name: float(cell or "nan") if name in NUMBERS else cell for name, cell in row.items()} for row in rows]


def collect(args, listener) -> list[dict]:
    """All rows, those that are new measured and kept."""
    import pandas as pd

    from synthio.manifest import write_table

    rows = read_rows(args.output_csv)
    there = {tuple(str(row[name]) for name in KEY) for row in rows}
    for words in args.set:
        if len(words) < 4:
            raise UserError(f"--set {' '.join(words)}: give a name, two CSVs and at least one folder")
        for clips in args.num_samples:
            for split in map(Path, words[3:]):
                for seed in args.seeds:
                    draw = (words[0], split.name, str(clips), str(seed))
                    keys = {(*draw, head, str(args.synthetic_weight)) for head in args.heads}
                    if keys <= there:
                        continue
                    rows += list(rows_of_draw(args, listener, words, split, clips, seed))
                    write_table(pd.DataFrame(rows, columns=COLUMNS), args.output_csv)
                    print(f"{words[0]} {split.name}, {clips} clips, seed {seed}", flush=True)
    return rows


def cells_of(rows: Sequence[dict], head: str) -> list[dict]:
    """The means of a head over the draws of each set and number of clips."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        if row["head"] == head:
            groups.setdefault((row["set"], str(row["clips"])), []).append(row)
    names = ("expected", "low", "high", "flips", "score", "measured")
    return [
        {
            "cell": f"{name}, {clips}",
            "draws": len(found),
            "error": float(np.std([row["measured"] for row in found], ddof=1) / len(found) ** 0.5)
            if len(found) > 1
            else float("nan"),
            **{key: float(np.mean([row[key] for row in found])) for key in names},
        }
        for (name, clips), found in groups.items()
    ]


def summary(rows: Sequence[dict], heads: Sequence[str]) -> str:
    """Tables and correlations."""
    from synthio.report.advice import rank_correlation
    from synthio.report.tables import percent, plain_table, with_interval

    lines = []
    for head in heads:
        cells = cells_of(rows, head)
        header = ["set, clips", "draws", "gold alone", "expected (mean interval)", "measured", "standard error"]
        table = [
            [
                cell["cell"],
                str(cell["draws"]),
                percent(cell["score"]),
                with_interval(cell["expected"], (cell["low"], cell["high"]), "+"),
                percent(cell["measured"], "+"),
                percent(cell["error"]),
            ]
            for cell in cells
        ]
        found = [(cell["expected"], cell["measured"]) for cell in cells]
        rho, low, high = rank_correlation(*zip(*found, strict=True), seed=0)
        lines += [head, plain_table(header, table)]
        lines.append(f"rank correlation over {len(cells)} cells {rho:.2f} ({low:.2f} to {high:.2f})\n")
    return "\n".join(lines)


def main() -> int:
    args = get_parser().parse_args()
    from synthio.classification.listening import Listener

    quiet_libraries()
    set_threads()
    models = {"ast": args.ast_model, "clap": args.clap_model}
    listener = Listener(models, args.cache_folder, pick_device(args.device))
    rows = [row for row in collect(args, listener) if str(row["synthetic_weight"]) == str(args.synthetic_weight)]
    print(summary(rows, args.heads))
    return 0


if __name__ == "__main__":
    run_main(main)
