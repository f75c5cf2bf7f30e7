"""Which labels are parents of others, and the labels of a clip without them.

FSD50K's labels hold all their parents: a clip is "Electric_guitar;Guitar;Musical_instrument;Music". A prompt of all of
them is a list that no sound has, so prompts, filter and quotas go by the leaves, which say the same: "Electric_guitar".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from synthio.manifest import LABEL_SEPARATOR, split_labels

MAX_CHANCE = 0.05  # that a label's clips all have another label too, were the two unrelated


def ancestors_of(cells: Iterable[str]) -> dict[str, frozenset[str]]:
    """Label -> the labels without which it never comes, as far as its clips are enough to say so.

    Another label is an ancestor where every clip of the label has it, it has more clips, and that is not chance: it has
    a share of p of all clips, and p to the power of the label's clips is at most 5 %. Ancestors of ancestors are too.

    Args:
        cells: label cells of a whole dataset; of a few clips of it, more labels come together by chance.
    """
    label_sets = [frozenset(split_labels(cell)) for cell in cells]
    counts = Counter(label for labels in label_sets for label in labels)
    common: dict[str, frozenset[str]] = {}
    for labels in label_sets:
        for label in labels:
            common[label] = common.get(label, labels) & labels
    found = {
        label: {
            other
            for other in common[label] - {label}
            if counts[other] > count and (counts[other] / len(label_sets)) ** count <= MAX_CHANCE
        }
        for label, count in counts.items()
    }
    for label in sorted(found, key=counts.__getitem__, reverse=True):  # ancestors have more clips, so they are done
        for other in tuple(found[label]):
            found[label] |= found[other]
    return {label: frozenset(others) for label, others in found.items() if others}


def leaves_of(cell: str, ancestors: Mapping[str, frozenset[str]]) -> str:
    """A label cell without the ancestors of its labels, in its order."""
    labels = split_labels(cell)
    parents = frozenset().union(*(ancestors.get(label, frozenset()) for label in labels))
    return LABEL_SEPARATOR.join(label for label in labels if label not in parents)


def leaf_cells(cells: Sequence[str], ancestors: Mapping[str, frozenset[str]]) -> list[str]:
    """`leaves_of` each cell."""
    return [leaves_of(cell, ancestors) for cell in cells]
