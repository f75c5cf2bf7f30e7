"""A picture of the filter: the score of every clip by class, kept or not, with the thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synthio.filtering.reasons import COPY, rejection_of
from synthio.filtering.thresholds import Limit, rows_of_classes, scores_of
from synthio.manifest import REASON, prompt_cells

if TYPE_CHECKING:
    import pandas as pd

MAX_CLASSES = 60
MAX_LETTERS = 32  # of a class name
GOLDEN = 0.6180339887  # its multiples, modulo 1, spread dots evenly without chance
# Wong's colours, which colour-blind readers can tell apart: name, colour, marker
STYLES = {
    "kept": ("#0072B2", "o"),
    "below the threshold": ("#D55E00", "x"),
    COPY: ("#000000", "D"),
}


def kind_of(reason: str) -> str:
    """What a dot stands for."""
    if not reason:
        return "kept"
    return COPY if rejection_of(reason) == "copy" else "below the threshold"


def shown_classes(classes: Mapping[str, np.ndarray], is_kept: np.ndarray) -> list[str]:
    """All classes in sorted order; of more than fit, those that lose the largest share of their clips."""
    names = sorted(classes)
    if len(names) <= MAX_CLASSES:
        return names
    return sorted(sorted(names, key=lambda name: is_kept[classes[name]].mean())[:MAX_CLASSES])


def row_name(name: str, kept: int, clips: int) -> str:
    """'dog bark  7 of 10'."""
    short = name if len(name) <= MAX_LETTERS else name[: MAX_LETTERS - 1] + "…"
    return f"{short}  {kept} of {clips}"


def draw(table: pd.DataFrame, column: str, limits: Mapping[str, Limit], title: str, path: Path) -> None:
    """Write the picture as PNG, atomically.

    Args:
        table: clips with the reason why they are out ("" for kept ones); those without a score are left out.
        column: the score.
        limits: of each class.
        title: of the picture.
        path: the PNG.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from synthio.files import atomic_path
    from synthio.publish.fonts import families_for

    table = table[table[column] != ""]
    classes = rows_of_classes(prompt_cells(table), np.ones(len(table), bool))
    is_kept = (table[REASON] == "").to_numpy(bool)
    names = shown_classes(classes, is_kept)
    with matplotlib.rc_context({"font.family": families_for([*names, title])}), atomic_path(path) as temporary:
        # Figure without pyplot: pyplot keeps global state and may look for a display.
        figure = Figure(figsize=(9, 1.8 + 0.36 * max(3, len(names))), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        _draw_dots(axes, table, column, classes, names)
        _draw_limits(axes, limits, names)
        _label(axes, column, classes, is_kept, names, title)
        figure.savefig(temporary, metadata={"Software": None})


def _draw_dots(axes, table, column: str, classes, names) -> None:
    scores, reasons = scores_of(table, column), table[REASON].to_numpy(object)
    for kind, (colour, marker) in STYLES.items():
        x, y = [], []
        for place, name in enumerate(names):
            rows = classes[name]
            rows = rows[np.argsort(scores[rows], kind="stable")]
            for i, row in enumerate(rows):
                if kind_of(reasons[row]) == kind:
                    x.append(scores[row])
                    y.append(place + 0.6 * ((i * GOLDEN) % 1 - 0.5))
        if x:
            axes.scatter(x, y, s=20, c=colour, marker=marker, alpha=0.75, linewidths=1, label=f"{kind} ({len(x)})")


def _draw_limits(axes, limits: Mapping[str, Limit], names) -> None:
    places = [place for place, name in enumerate(names) if name in limits]
    values = [limits[names[place]].value for place in places]
    if places:
        axes.vlines(
            values, np.array(places) - 0.45, np.array(places) + 0.45, colors="#009E73", linewidth=2.5, label="threshold"
        )


def _label(axes, column: str, classes, is_kept, names, title: str) -> None:
    words = [row_name(name, int(is_kept[classes[name]].sum()), len(classes[name])) for name in names]
    # A label is not a formula: '$' must stay a dollar sign.
    axes.set_yticks(range(len(names)), words, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(column)
    left_out = len(classes) - len(names)
    axes.set_title(title + (f"\n{left_out} more classes lose less" if left_out else ""), fontsize=10, parse_math=False)
    axes.grid(axis="x", alpha=0.3)
    for place in range(1, len(names)):
        axes.axhline(place - 0.5, color="#cccccc", linewidth=0.6)
    if axes.get_legend_handles_labels()[0]:
        axes.figure.legend(loc="outside lower center", ncols=4, frameon=False)
    else:
        axes.text(0.5, 0.5, "no clip has a score", transform=axes.transAxes, ha="center")
