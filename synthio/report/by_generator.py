"""Several generators of one run beside each other: what the filter kept of each, and how good that is.

    records = compare(synthetic, kept_csvs, vectors, valid, bandwidth, hits, seed=0)  # for quality.json

Each has a share of each label, in turn, so their clips were asked for alike. Distances are of as many clips a generator
as the one with the fewest has, for the Fréchet distance grows as there are fewer; the kernel distance does not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

ADAPTER = re.compile(r"\+adapter@[0-9a-f]+$")


def name_of(model: str) -> str:
    """A generator, by what a clip's column `model` says: without the adapter that was on it."""
    return ADAPTER.sub("", model)


def counts(kept_csvs: Sequence[str]) -> dict[str, dict[str, int]]:
    """Generator -> how many clips it made and how many were kept, in the rounds with these tables of kept clips.

    What was rejected lies beside them; without a filter nothing does.
    """
    from synthio.manifest import MODEL, read_manifest
    from synthio.report.parts import rejected_of

    found: dict[str, dict[str, int]] = {}
    for pair in zip(kept_csvs, rejected_of(kept_csvs), strict=True):
        for is_kept, csv in zip((True, False), pair, strict=True):
            for cell in read_manifest(csv, check_files=False)[MODEL] if Path(csv).is_file() else ():
                row = found.setdefault(name_of(cell), {"made": 0, "kept": 0})
                row["made"] += 1
                row["kept"] += is_kept
    return found


def compare(
    synthetic: pd.DataFrame,
    kept_csvs: Sequence[str],
    vectors: np.ndarray,
    valid: np.ndarray,
    bandwidth: float,
    hits: Mapping[str, np.ndarray],
    seed: int,
) -> list[dict[str, Any]]:
    """A record for each generator, in the order of their first clips.

    Args:
        synthetic: the synthetic clips of the training set, N rows.
        kept_csvs: of each round.
        vectors: their embeddings [N, E].
        valid: those of the validation clips [M, E].
        bandwidth: of the kernel distance.
        hits: judge -> agreement of each clip [N].
        seed: of the clips that distances are drawn from.
    """
    import numpy as np

    from synthio.manifest import MODEL
    from synthio.report.quality_metrics import MIN_CLIPS, MIN_CLIPS_KERNEL, at_equal_size, kernel_distance

    made = counts(kept_csvs)
    owner = np.array([name_of(cell) for cell in synthetic[MODEL]])
    sizes = [int((owner == name).sum()) for name in made]
    size = min([len(valid), *(count for count in sizes if count >= MIN_CLIPS)])
    found: list[dict[str, Any]] = []
    for name, count in made.items():
        rows = owner == name
        own = vectors[rows]
        enough = min(len(own), len(valid)) >= MIN_CLIPS_KERNEL
        value, error = kernel_distance(own, valid, bandwidth) if enough else (None, None)
        drawn = np.random.default_rng(seed)
        fad = at_equal_size(own, valid, size, drawn) if min(len(own), size) >= MIN_CLIPS else None
        found.append(
            {
                "generator": name,
                **count,
                "pass_rate": count["kept"] / count["made"],
                "clips": len(own),
                "agreement": {judge: float(hit[rows].mean()) if len(own) else None for judge, hit in hits.items()},
                "kad": {"value": value, "error": error},
                "fad": {"value": fad, "clips": size},
                "diversity": spread(synthetic[rows], own),
            }
        )
    return found


def spread(table: pd.DataFrame, vectors: np.ndarray) -> float | None:
    """Mean cosine distance of clips of one class, over the classes that have two."""
    import numpy as np

    from synthio.filtering.thresholds import rows_of_classes
    from synthio.manifest import prompt_cells
    from synthio.report.quality_metrics import mean_pairwise_distance

    classes = rows_of_classes(prompt_cells(table), np.ones(len(table), bool)).values() if len(table) else ()
    each = [mean_pairwise_distance(vectors[rows]) for rows in classes if len(rows) > 1]
    return float(np.mean(each)) if each else None


def shown(value: float | None, digits: int = 2) -> str:
    """A number, or - where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def lines(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the terminal shows: a line for each generator."""
    found = []
    for one in records:
        heard = ", ".join(f"{judge} {shown(value)}" for judge, value in one["agreement"].items())
        found.append(
            f"{one['generator']}: {one['kept']} of {one['made']} clips kept ({shown(one['pass_rate'])}); label heard "
            f"by {heard or 'nobody'}; KAD {shown(one['kad']['value'])}, FAD {shown(one['fad']['value'])} at "
            f"{one['fad']['clips']} clips, diversity {shown(one['diversity'], 3)}"
        )
    return found


def table(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the report shows: a header and a row of cells for each generator; empty where there is one."""
    if not records:
        return {}
    judges = list(records[0]["agreement"])
    header = ["generator", "made", "kept", "share kept", "in the training set"]
    header += [f"{judge} agrees" for judge in judges] + ["KAD to validation", "FAD, clips", "diversity"]
    rows = []
    for one in records:
        near = one["kad"]
        rows.append(
            [
                one["generator"],
                str(one["made"]),
                str(one["kept"]),
                shown(one["pass_rate"]),
                str(one["clips"]),
                *(shown(one["agreement"][judge]) for judge in judges),
                "-" if near["value"] is None else f"{shown(near['value'])} ± {shown(near['error'])}",
                f"{shown(one['fad']['value'])}, {one['fad']['clips']}",
                shown(one["diversity"], 3),
            ]
        )
    return {"header": header, "rows": rows}
