"""Count what the rounds of self-reflection have brought, and balance the classes of what was kept.

    python -m synthio.filtering.rounds count --gold_csv W/train_100.csv --num_iters 2 \\
        --kept_csvs W/round_0/kept.csv W/round_1/kept.csv \\
        --rejected_csvs W/round_0/rejected.csv W/round_1/rejected.csv --output_csv W/rounds.csv
    python -m synthio.filtering.rounds balance --gold_csv W/train_100.csv --num_iters 2 \\
        --kept_csvs W/round_0/kept.csv W/round_1/kept.csv --output_csv W/balanced.csv

The quota of a class is --num_iters for each of its gold clips. A class is a label: a clip of several counts for each.
`count` prints the gain of the last round and writes one line for each to --output_csv; its status is 0 when every class
has its quota or nothing is left to rewrite, and 3 when one more round is needed.

`balance` cuts each class to the same share of its quota: the share that the class with the fewest has, or the whole
quota where every class has it. Without it the classes that are hard to generate would be rare among the synthetic
clips. The best scores stay; what is cut is listed, with the reason, in the .dropped.csv beside the output. A class
with no clip at all cannot be balanced: the others are, and it is named.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from synthio.cli import UserError, in_range, new_parser, run_main
from synthio.filtering.options import FilterOptions
from synthio.options import add_options

if TYPE_CHECKING:
    import pandas as pd

DONE, GO_ON = 0, 3


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("action", choices=["count", "balance"], help="see above")
    parser.add_argument("--gold_csv", required=True, help="the small dataset")
    parser.add_argument("--num_iters", type=in_range(int, 1), required=True, help="synthetic clips for each gold clip")
    parser.add_argument("--kept_csvs", nargs="+", required=True, help="kept clips of each round, round 0 first")
    parser.add_argument("--rejected_csvs", nargs="*", default=[], help="rejected clips of each round, for count")
    parser.add_argument("--output_csv", default="", help="output: the balanced clips; for count, a line for each round")
    add_options(parser, FilterOptions, only=("classifier_weight",))
    return parser


def quotas(cells: Sequence[str], num_iters: int) -> dict[str, int]:
    """Class -> synthetic clips wanted, from the label cells of the gold clips."""
    return {name: num_iters * count for name, count in sorted(label_counts(cells).items())}


def label_counts(cells: Sequence[str]) -> Counter[str]:
    """Label -> cells that have it."""
    from synthio.manifest import split_labels

    return Counter(label for cell in cells for label in set(split_labels(cell)))


def class_counts(table: pd.DataFrame) -> Counter[str]:
    """Class -> different clips."""
    from synthio.manifest import PATH, prompt_cells

    return label_counts(prompt_cells(table.drop_duplicates(PATH)))


# Counting


def count_rounds(quota: Mapping[str, int], kept: Sequence[pd.DataFrame], rejected: Sequence[pd.DataFrame]) -> list:
    """One record for each round: clips made, kept now, kept so far, and classes that have their quota."""
    from synthio.manifest import PATH

    have: Counter[str] = Counter()
    records, clips = [], 0
    for number, (good, bad) in enumerate(zip(kept, rejected, strict=True)):
        have += class_counts(good)
        clips += good[PATH].nunique()
        records.append(
            {
                "round": number,
                "clips": len(good) + len(bad),
                "kept": len(good),
                "kept_so_far": clips,
                "classes_with_quota": sum(have[name] >= wanted for name, wanted in quota.items()),
                "classes": len(quota),
            }
        )
    return records


def gain_line(record: Mapping[str, int]) -> str:
    """'round 1: +12 of 30 rewritten kept; quota reached in 7 of 10 classes'."""
    gain = (
        f"+{record['kept']} of {record['clips']} rewritten kept"
        if record["round"]
        else (f"{record['kept']} of {record['clips']} kept")
    )
    reached = f"quota reached in {record['classes_with_quota']} of {record['classes']} classes"
    return f"round {record['round']}: {gain}; {reached}"


def count(args) -> int:
    """Print the gain of the last round; whether another one is needed is the status."""
    import pandas as pd

    from synthio.manifest import prompt_cells, read_manifest, write_table

    if len(args.rejected_csvs) != len(args.kept_csvs):
        given = f"{len(args.rejected_csvs)} --rejected_csvs and {len(args.kept_csvs)} --kept_csvs"
        raise UserError(f"{given}; give both of each round")
    quota = quotas(prompt_cells(read_manifest(args.gold_csv, check_files=False)), args.num_iters)
    kept, rejected = (
        [read_manifest(csv, check_files=False) for csv in csvs] for csvs in (args.kept_csvs, args.rejected_csvs)
    )
    records = count_rounds(quota, kept, rejected)
    if args.output_csv:
        write_table(pd.DataFrame(records), args.output_csv)
    print(gain_line(records[-1]))
    return DONE if records[-1]["classes_with_quota"] == len(quota) or rejected[-1].empty else GO_ON


# Balancing


def balanced_counts(quota: Mapping[str, int], have: Mapping[str, int]) -> dict[str, int]:
    """Class -> clips that stay: the same share of each quota, at most all of it, and one at least of what there is."""
    shares = [min(1.0, have[name] / wanted) for name, wanted in quota.items() if have.get(name)]
    share = min(shares, default=0.0)
    return {name: min(have.get(name, 0), max(1, int(share * wanted + 1e-9))) for name, wanted in quota.items()}


def cut(table: pd.DataFrame, counts: Mapping[str, int], quota: Mapping[str, int], weight: float) -> list[str]:
    """A reason for each row that is cut, "" for the best of each class, which stay."""
    from synthio.filtering.thresholds import best_of_each, joint_scores, score_cells
    from synthio.manifest import JOINT, SCORE

    column = SCORE
    if weight:
        table, column = table.assign(**{JOINT: score_cells(joint_scores(table, weight))}), JOINT
    stay, order = best_of_each(table, column, counts)
    reasons = [""] * len(table)
    for name, rows in order.items():
        for row in set(rows) - stay:
            kept = f"the best {counts.get(name, 0)} of {len(rows)} clips (quota {quota.get(name, 0)})"
            reasons[row] = f"balance: its class keeps {kept}"
    return reasons


def join_kept(csvs: Sequence[str]) -> pd.DataFrame:
    """The clips of all rounds in one table, with every score column and an empty `reason`."""
    import pandas as pd

    from synthio.manifest import AGREEMENT, PATH, REASON, SCORE, read_manifest

    table = pd.concat([read_manifest(csv) for csv in csvs], ignore_index=True).fillna("")
    for column in (SCORE, AGREEMENT):
        if column not in table.columns:
            table[column] = ""
    twice = table.duplicated(PATH)
    return table.assign(**{REASON: ["the same clip is in an earlier row" if flag else "" for flag in twice]})


def balance(args) -> int:
    """Write the balanced clips, and say what was cut."""
    from synthio.filtering.thresholds import reject
    from synthio.manifest import REASON, prompt_cells, read_manifest, write_manifest

    quota = quotas(prompt_cells(read_manifest(args.gold_csv, check_files=False)), args.num_iters)
    table = join_kept(args.kept_csvs)
    have = class_counts(table)
    counts = balanced_counts(quota, have)
    table = reject(table, cut(table, counts, quota, args.classifier_weight))
    is_kept = table[REASON] == ""
    kept, dropped = (table[flags].reset_index(drop=True) for flags in (is_kept, ~is_kept))
    write_manifest(
        kept,
        args.output_csv,
        rows_in=len(table),
        dropped=dropped,
        options=vars(args),
        inputs=[args.gold_csv, *args.kept_csvs],
        notes={"quota": quota, "kept_before": dict(have), "kept": dict(class_counts(kept))},
    )
    print(balance_line(quota, have, len(kept), len(dropped)), file=sys.stderr)
    return 0


def balance_line(quota, have, kept: int, dropped: int) -> str:
    """What the balancing did, in one line."""
    least = min(filter(have.get, quota), key=lambda name: have[name] / quota[name], default="")
    text = f"{dropped} clips cut, {kept} stay"
    if least:
        text += f"; the class with the smallest share of its quota is '{least}' ({have[least]} of {quota[least]})"
    missing = [name for name in quota if not have.get(name)]
    return text + (f"; no clip at all of {', '.join(missing)}" if missing else "")


def main() -> int:
    args = get_parser().parse_args()
    if args.action == "count":
        return count(args)
    if not args.output_csv:
        raise UserError("balance writes the clips that stay; give --output_csv")
    return balance(args)


if __name__ == "__main__":
    run_main(main)
