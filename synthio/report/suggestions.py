"""Recordings without labels that are worth a listener's time, on a page where they get one.

    found = suggest(similarity, x_gold, targets, x, labels, hashes, forbidden, near=2, unsure=12, multi_label=False)
    write_page(found, "recordings", labels, multi_label=False, output="W/suggested.html")

The nearest are those most like a gold clip of a label. The least sure are those where a linear probe of the gold clips
gives two labels nearly the same probability (margin sampling: Scheffer, Decomain and Wrobel 2001; Settles 2009, section
3.1), or, of multi-label data, a label nearly one half.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthio.classification.probe import FEW_CLIPS_C, fit_probe

if TYPE_CHECKING:
    import pandas as pd

NEAREST, UNSURE = "nearest", "unsure"
LABELS_CSV = "labels.csv"  # that the page saves
MAX_MB = 40.0


@dataclass(frozen=True)
class Suggestion:
    """A recording: its row, the label that is suggested, why it is there (nearest or unsure), and that in words."""

    row: int
    label: str
    kind: str
    doubt: str
    sha256: str


def chances_of(x_gold: np.ndarray, targets: np.ndarray, x: np.ndarray, multi_label: bool) -> np.ndarray:
    """What a probe of the gold clips says of others, float64 [N, C].

    Args:
        x_gold: embeddings of gold clips [G, E].
        targets: 0/1 [G, C].
        x: embeddings of the others [N, E].
        multi_label: clips may have several labels.

    Raises:
        UserError: all gold clips have one label.
    """
    return fit_probe(x_gold, targets, FEW_CLIPS_C, multi_label).chances(x, multi_label)


def margins_of(chances: np.ndarray, multi_label: bool) -> np.ndarray:
    """How far the probe is from not knowing, float64 [N]: between its two first labels, or from one half."""
    if multi_label:
        return np.abs(chances - 0.5).min(axis=1)
    ordered = np.sort(chances, axis=1)
    return ordered[:, -1] - ordered[:, -2]


def label_similarity(similarity: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Cosines of gold clips and others [G, N] -> [C, N]: that of the nearest gold clip of each label."""
    return np.stack([similarity[targets[:, c] > 0].max(axis=0) for c in range(targets.shape[1])])


def least_sure(
    chances: np.ndarray,
    labels: Sequence[str],
    hashes: Callable[[int], str],
    used: Collection[str],
    count: int,
    multi_label: bool,
) -> list[Suggestion]:
    """The recordings with the least margins, each sound once.

    Args:
        chances: [N, C].
        labels: the C labels.
        hashes: hash of the sound of a recording.
        used: hashes that are left out.
        count: at most so many.
        multi_label: see `margins_of`.
    """
    found: list[Suggestion] = []
    taken = set(used)
    for row in np.argsort(margins_of(chances, multi_label), kind="stable"):
        if len(found) == count:
            break
        digest = hashes(int(row))
        if digest in taken:
            continue
        taken.add(digest)
        order = np.argsort(-chances[row], kind="stable")[:2]
        words = " or ".join(f"{labels[c]} ({chances[row, c]:.2f})" for c in order)
        found.append(Suggestion(int(row), labels[order[0]], UNSURE, words, digest))
    return found


def cards_table(found: Sequence[Suggestion], paths: Sequence[str]) -> pd.DataFrame:
    """The suggestions as a table: path, label, kind, doubt, sha256."""
    import pandas as pd

    from synthio.manifest import CONTENT, LABEL, PATH

    rows = [
        {PATH: paths[one.row], LABEL: one.label, "kind": one.kind, "doubt": one.doubt, CONTENT: one.sha256}
        for one in found
    ]
    return pd.DataFrame(rows, columns=[PATH, LABEL, "kind", "doubt", CONTENT], dtype=str)


def write_page(
    table: pd.DataFrame, title: str, count: int, labels: Sequence[str], multi_label: bool, output: str | Path
) -> None:
    """The page of some suggestions, as many as fit `MAX_MB`.

    Args:
        table: as `cards_table` makes it.
        title: of the page.
        count: recordings there were.
        labels: that can be given.
        multi_label: a recording may have several.
        output: the HTML file.
    """
    from synthio.files import write_text
    from synthio.manifest import LABEL, PATH
    from synthio.report.gallery import CLIP_SECONDS, cards_of, render, told

    review = told(title, LABELS_CSV, (PATH, LABEL), labels, multi_label, [])
    page: dict[str, Any] = {"title": title, "clip_count": count, "clip_seconds": CLIP_SECONDS, "review": review}
    left = int(MAX_MB * 1e6)
    for name, kind in (("near", NEAREST), ("unsure", UNSURE)):
        page[name], left = cards_of(table[table["kind"] == kind], None, CLIP_SECONDS, left)
    write_text(output, render("suggest.html.j2", page))
