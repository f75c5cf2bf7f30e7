#!/usr/bin/env python3
"""Draw exactly n clips that keep the class proportions.

    python stratify_dataset.py --input_csv train.csv --output_csv train_100.csv --num_samples 100 --seed 0

Proportions are kept by largest remainder, with at least one clip a class; fewer clips than classes are refused. Clips
with several labels are drawn by iterative stratification (Sechidis et al. 2011), each label at least once. Where there
are fewer clips than that takes, they are those that together have the most labels, and the others are named.

The draw depends on the seed and on the clips (their `sha256` if the CSV has it, else their path), not on the order of
the rows; the output is sorted by label and clip. The rows that were not drawn are listed in the .dropped.csv beside the
output.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush

from synthio.cli import UserError, in_range, new_parser, run_main

NOT_SAMPLED = "not sampled"


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--input_csv", required=True, help="all training clips (path, label)")
    parser.add_argument("--output_csv", required=True, help="output: the clips drawn")
    parser.add_argument("--num_samples", type=in_range(int, 0), required=True, help="clips to draw; 0: all")
    parser.add_argument("--seed", type=in_range(int, 0), default=0, help="of the draw")
    return parser


def allocate(counts: Mapping[str, int], n: int) -> dict[str, int]:
    """How many clips to draw of each class: proportional, largest remainder, at least one each, n in all.

    Args:
        counts: clips that each class has; their sum is at least n, and n at least the number of classes.
    """
    single: set[str] = set()  # classes whose share is below one clip
    while True:
        rest = {label: count for label, count in counts.items() if label not in single}
        budget, total = n - len(single), sum(rest.values())
        small = {label for label, count in rest.items() if budget * count < total}
        if not small:
            break
        single |= small
    shares = {label: budget * count // total for label, count in rest.items()}
    # the remainders as whole numbers, so that no rounding can decide; ties go to the first label
    order = sorted(rest, key=lambda label: (-(budget * rest[label] % total), label))
    for label in order[: budget - sum(shares.values())]:
        shares[label] += 1
    return dict.fromkeys(single, 1) | shares


def draw_single(labels: Sequence[str], order: Sequence[int], n: int) -> set[int]:
    """Rows drawn when each has one label; `order` is the rows in drawing order."""
    left = allocate(Counter(labels), n)
    chosen = set()
    for row in order:
        if left[labels[row]]:
            left[labels[row]] -= 1
            chosen.add(row)
    return chosen


def cover(label_sets: Sequence[frozenset[str]], order: Sequence[int]) -> list[int]:
    """Rows that hold every label at least once: for each label not held yet, rarest first, its first row in order."""
    counts = Counter(label for labels in label_sets for label in labels)
    first: dict[str, int] = {}
    for row in order:
        for label in label_sets[row]:
            first.setdefault(label, row)
    chosen: list[int] = []
    held: set[str] = set()
    for label in sorted(counts, key=lambda name: (counts[name], name)):
        if label not in held:
            chosen.append(first[label])
            held |= label_sets[first[label]]
    return chosen


def cover_most(label_sets: Sequence[frozenset[str]], order: Sequence[int], n: int) -> list[int]:
    """At most n rows that together hold as many labels as can be found: each time the row that adds most of them.

    The greedy way holds at least 63 % of what the best n rows hold (Nemhauser et al. 1978). Of rows that add equally
    many, the one comes first whose labels are rarest, for the common ones are held soon enough.
    """
    counts = Counter(label for labels in label_sets for label in labels)
    rarity = [min(map(counts.get, labels)) for labels in label_sets]
    left = sorted(order, key=rarity.__getitem__)
    heap = [(-len(label_sets[row]), place) for place, row in enumerate(left)]
    heapify(heap)
    chosen: list[int] = []
    held: set[str] = set()
    while heap and len(chosen) < n:
        gain, place = heappop(heap)
        new = label_sets[left[place]] - held
        if len(new) == -gain:  # no other row adds more, for what a row adds only falls; the first of equals is on top
            chosen.append(left[place])
            held |= new
        elif new:
            heappush(heap, (-len(new), place))
    return chosen


def draw_multi(label_sets: Sequence[frozenset[str]], order: Sequence[int], n: int) -> set[int]:
    """Rows drawn when clips have several labels: every label once, the rest by iterative stratification."""
    everything = cover(label_sets, order)
    chosen = set(everything if len(everything) <= n else cover_most(label_sets, order, n))
    room = {True: n - len(chosen), False: len(label_sets) - n}  # rows still to be drawn, and to be left
    counts = Counter(label for labels in label_sets for label in labels)
    held = Counter(label for row in chosen for label in label_sets[row])
    wanted = {side: Counter() for side in room}
    for label, count in counts.items():
        wanted[True][label] = count * n - len(label_sets) * held[label]
        wanted[False][label] = count * (len(label_sets) - n)
    for rarest, rows in rarest_first(label_sets, [row for row in order if row not in chosen]):
        for row in rows:
            drawn = choose_side(rarest, wanted, room)
            room[drawn] -= 1
            wanted[drawn].subtract(dict.fromkeys(label_sets[row], len(label_sets)))
            if drawn:
                chosen.add(row)
    return chosen


def rarest_first(label_sets: Sequence[frozenset[str]], rows: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
    """(label, its rows that are left) until no row is: always the label that is rarest among those that are left.

    A heap holds an entry for each count that a label has had. The last is right, and comes out first, for counts
    only fall. So the work grows with the number of labels of all clips, not with its square.
    """
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        for label in label_sets[row]:
            rows_of[label].append(row)
    counts = {label: len(rows) for label, rows in rows_of.items()}
    heap = [(count, label) for label, count in counts.items()]
    heapify(heap)
    left = set(rows)
    while left:
        count, rarest = heappop(heap)
        if count != counts[rarest] or not count:
            continue
        its = [row for row in rows_of[rarest] if row in left]
        left.difference_update(its)
        for label, fewer in Counter(label for row in its for label in label_sets[row]).items():
            counts[label] -= fewer
            heappush(heap, (counts[label], label))
        yield rarest, its


def choose_side(label: str, wanted: Mapping[bool, Counter], room: Mapping[bool, int]) -> bool:
    """Whether the next row with this label is drawn: the side that wants it more, while it has room."""
    if not (room[True] and room[False]):
        return room[True] > 0
    return (wanted[True][label], room[True]) > (wanted[False][label], room[False])


def ranks(keys: Sequence[str], seed: int) -> list[str]:
    """`sha256_value([seed, key])` of each key, which decide the order of drawing; of a million keys in a second."""
    text = json.encoder.encode_basestring
    return [hashlib.sha256(f"[{seed},{text(key)}]".encode()).hexdigest() for key in keys]


def draw(cells: Sequence[str], keys: Sequence[str], n: int, seed: int) -> set[int]:
    """Row numbers of n clips. `cells` are the label cells, `keys` name the clips."""
    from synthio.manifest import split_labels

    rank = ranks(keys, seed)
    order = [row for *_, row in sorted(zip(rank, keys, range(len(cells)), strict=True))]
    labels_of = {cell: frozenset(split_labels(cell)) for cell in set(cells)}
    label_sets = [labels_of[cell] for cell in cells]
    if all(len(labels) == 1 for labels in label_sets):
        return draw_single([next(iter(labels)) for labels in label_sets], order, n)
    return draw_multi(label_sets, order, n)


def check_size(csv: str, rows: int, classes: int, n: int, multi_label: bool) -> None:
    """Refuse an n that the data cannot give, with the numbers and the mend."""
    if rows == 0:
        raise UserError(f"{csv}: no rows, so nothing can be drawn; list at least one clip a class")
    if n > rows:
        raise UserError(
            f"{csv}: {rows} rows, fewer than num_samples {n}; set num_samples to {rows} or less (0 takes all)"
        )
    if n < classes and not multi_label:
        raise UserError(
            f"{csv}: {classes} classes, but num_samples is {n}; each needs a clip, so set {classes} or more"
        )


def warn_of_missing(csv: str, labels: Sequence[str], cells: Sequence[str]) -> list[str]:
    """The labels that no drawn clip has; they are named, with what follows from that."""
    from synthio.manifest import all_labels

    missing = sorted(set(labels) - set(all_labels(cells)))
    if missing:
        print(
            f"warning: {csv}: {len(missing)} of {len(labels)} labels have no clip among the {len(cells)} that were "
            f"drawn. Nothing is generated for them, and a classifier knows them only from its pretraining; in the "
            f"scores they count like all others. A larger num_samples holds more. They are: {', '.join(missing)}",
            file=sys.stderr,
            flush=True,
        )
    return missing


def main() -> int:
    args = get_parser().parse_args()
    from synthio.manifest import (
        LABEL,
        PATH,
        REASON,
        all_labels,
        clip_keys,
        has_several_labels,
        read_manifest,
        write_manifest,
    )

    table = read_manifest(args.input_csv)
    n, cells = args.num_samples or len(table), table[LABEL].tolist()
    labels = all_labels(set(cells))
    check_size(args.input_csv, len(table), len(labels), n, has_several_labels(set(cells)))
    drawn = draw(cells, clip_keys(table, args.input_csv), n, args.seed)
    is_drawn = [row in drawn for row in range(len(table))]
    chosen = table[is_drawn].sort_values([LABEL, PATH], kind="stable", ignore_index=True)
    rest = table[[not flag for flag in is_drawn]].assign(**{REASON: NOT_SAMPLED})
    write_manifest(
        chosen,
        args.output_csv,
        rows_in=len(table),
        dropped=rest,
        options=vars(args),
        inputs=[args.input_csv],
        notes={
            "classes": dict(sorted(Counter(chosen[LABEL].tolist()).items())),
            "labels_without_clips": warn_of_missing(args.input_csv, labels, chosen[LABEL].tolist()),
        },
    )
    return 0


if __name__ == "__main__":
    run_main(main)
