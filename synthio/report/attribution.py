"""What each part of the method bought: clips with the part and without it, by measures that did not choose them.

    before, after = Clips(...), Clips(...)  # pair by pair of one prompt or one seed
    rows = compare_pairs(before, after, references, seed)

Each measure has an interval (95 %) of its difference by a bootstrap over the clips, pairs together, and says better,
worse, or that it is not to be told. Of sets that are no pairs (kept and dropped clips) both are drawn anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthio.classification.intervals import NOT_TOLD, told, widening

RESAMPLES = 500
FEWEST = 5  # clips: of fewer no interval is given
# Measure -> whether more is better.
MEASURES = {"kad": False, "diversity": True, "agreement": True, "background_db": False, "band_db": False}
PARTS = {
    "alignment": "alignment: losers, and their prompts and seeds again with the adapter",
    "captions": 'captions: seeds of the first round under "Sound of a <label>", and the clips of its prompts',
    "channel": "channel: clips before channel matching and after it",
    "filter": "filter: clips that did not sound like their label, and kept ones",
}
TITLES = {
    "kad": "KAD to validation clips",
    "diversity": "distance within a class",
    "agreement": "label heard",
    "background_db": "background off the gold clips', dB",
    "band_db": "spectrum off the gold clips', dB",
}


@dataclass(frozen=True)
class Clips:
    """Clips of one arm.

    Attributes:
        vectors: AST embeddings [N, E].
        classes: class of each [N].
        hits: how far the label is heard, 0 to 1 [N].
        background_db: how far the level of each clip's background is off the gold clips' median [N].
        band_db: how far its spectrum is off their mean spectrum, without the level [N].
    """

    vectors: np.ndarray
    classes: np.ndarray
    hits: np.ndarray
    background_db: np.ndarray
    band_db: np.ndarray

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, rows: np.ndarray) -> Clips:
        return Clips(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Reference:
    """What clips are compared with: embeddings of the validation clips [V, E], and the kernel's bandwidth."""

    valid: np.ndarray
    bandwidth: float


def kernel(x: np.ndarray, y: np.ndarray, bandwidth: float) -> np.ndarray:
    """The Gaussian kernel of KAD [N, M]."""
    from synthio.report.quality_metrics import squared_distances

    return np.exp(-squared_distances(x, y) / (2 * bandwidth**2))


class Drawn:
    """The measures of an arm on draws of its clips: what is costly is done once."""

    def __init__(self, clips: Clips, reference: Reference):
        from synthio.report.quality_metrics import unit_rows

        self.clips = clips
        self.own = kernel(clips.vectors, clips.vectors, reference.bandwidth)
        self.cross = kernel(clips.vectors, reference.valid, reference.bandwidth).mean(axis=1)
        valid = kernel(reference.valid, reference.valid, reference.bandwidth)
        size = len(valid)
        self.valid = (valid.sum() - size) / max(1, size * (size - 1))
        units = unit_rows(clips.vectors)
        self.distance = 1 - units @ units.T
        self.same = clips.classes[:, None] == clips.classes[None]

    def measures(self, rows: np.ndarray) -> dict[str, float]:
        """Measure -> value of the clips `rows`, which may hold one twice; a clip is no pair with itself."""
        from synthio.report.quality_metrics import KAD_SCALE

        grid = np.ix_(rows, rows)
        other = rows[:, None] != rows[None]
        pairs = other & self.same[grid]
        mean = self.own[grid][other].mean() if other.any() else np.nan
        return {
            "kad": float(KAD_SCALE * (mean + self.valid - 2 * self.cross[rows].mean())),
            "diversity": float(self.distance[grid][pairs].mean()) if pairs.any() else float("nan"),
            "agreement": _mean(self.clips.hits[rows]),
            "background_db": _mean(self.clips.background_db[rows]),
            "band_db": _mean(self.clips.band_db[rows]),
        }


def _mean(values: np.ndarray) -> float:
    """The mean of those that are known."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def row_of(name: str, before: float, after: float, differences: np.ndarray, units: int) -> dict[str, Any]:
    """What may be said of one measure: both values, the difference with its interval, better or worse.

    Args:
        differences: those of the draws [R], after less before.
        units: clips that were drawn.
    """
    change = after - before
    drawn = differences[np.isfinite(differences)]
    values = {"before": before, "after": after, "difference": change}
    row: dict[str, Any] = {"measure": name, **{k: v if np.isfinite(v) else None for k, v in values.items()}}
    if units < FEWEST or len(drawn) < RESAMPLES / 2 or not np.isfinite(change):
        return row | {"interval_95": None, "told": NOT_TOLD}
    wide = change + widening(units) * (drawn - drawn.mean())
    low, high = (float(2 * change - limit) for limit in np.percentile(wide, [97.5, 2.5]))
    verdict = told(low, high) if MEASURES[name] else told(-high, -low)
    return row | {"interval_95": [low, high], "told": verdict}


def compare(before: Clips, after: Clips, reference: Reference, seed: int, paired: bool) -> list[dict[str, Any]]:
    """A row for each measure.

    Args:
        before, after: the arms; of pairs, row by row the same prompt or seed.
        reference: see there.
        seed: of the draws.
        paired: whether they are pairs, which are drawn together.
    """
    arms, rng = (Drawn(before, reference), Drawn(after, reference)), np.random.default_rng(seed)
    whole = [arm.measures(np.arange(len(arm.clips))) for arm in arms]
    draws: list[list[dict[str, float]]] = []
    for _ in range(RESAMPLES):
        rows = rng.integers(0, len(before), len(before))
        others = rows if paired else rng.integers(0, len(after), len(after))
        draws.append([arm.measures(picked) for arm, picked in zip(arms, (rows, others), strict=True)])
    units = min(len(before), len(after))
    return [
        row_of(name, whole[0][name], whole[1][name], np.array([b[name] - a[name] for a, b in draws]), units)
        for name in MEASURES
    ]


def share_row(hits: np.ndarray, seed: int) -> dict[str, Any]:
    """Mean of values from 0 to 1 [N], with its interval."""
    from synthio.classification.intervals import Units, draw_counts, interval

    mean = float(hits.mean())
    units = Units(np.arange(len(hits)), "clips")
    counts = draw_counts(units, RESAMPLES, seed)
    drawn = counts @ hits / len(hits)
    return {"clips": len(hits), "share": mean, "interval_95": list(interval([mean], [drawn], [units]))}


# What is heard in clips besides their embeddings


def background_and_bands(clip: np.ndarray, sample_rate: int) -> np.ndarray | None:
    """Background level in dB, then the spectrum by thirds of an octave without its mean; None of a silent clip."""
    from synthio.generation.channel import band_matrix, measure

    found = measure([clip], sample_rate)
    if not len(found):
        return None
    _, weights = band_matrix(found.frequencies)
    floor, spectrum = (10 * np.log10(np.maximum(rows[0] @ weights, 1e-13)) for rows in (found.floors, found.spectra))
    return np.concatenate([[floor.mean()], spectrum - spectrum.mean()])


def typical_sound(clips: Sequence[np.ndarray], sample_rate: int) -> tuple[float, np.ndarray] | None:
    """(background level in dB, spectrum by thirds of an octave) of mono clips [T]; None where no clip says anything."""
    found = [row for row in (background_and_bands(clip, sample_rate) for clip in clips) if row is not None]
    if not found:
        return None
    return float(np.median([row[0] for row in found])), np.mean([row[1:] for row in found], axis=0)


def sound_distances(
    clips: Sequence[np.ndarray], wanted: tuple[float, np.ndarray] | None, sample_rate: int
) -> np.ndarray:
    """How far background level and spectrum of mono clips [T] are off those of a `typical_sound`, in dB [N, 2].

    NaN where a clip, or what is wanted, says nothing.
    """
    out = np.full((len(clips), 2), np.nan)
    if wanted is None:
        return out
    level, bands = wanted
    for number, clip in enumerate(clips):
        row = background_and_bands(clip, sample_rate)
        if row is not None:
            out[number] = abs(row[0] - level), np.abs(row[1:] - bands).mean()
    return out


# For people


def lines(record: Mapping[str, Any]) -> list[str]:
    """What the terminal shows: a line for each part, and one for the rounds."""
    found = [f"{part}: {part_text(rows)}" for part, rows in record["parts"].items()]
    if record.get("rounds"):
        found.append(f"rounds: {'; '.join(round_text(row) for row in record['rounds'])}")
    return found


def part_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """'label heard 0.50 to 0.75 (+0.25; +0.10 to +0.40) better; not to be told: KAD to validation clips'."""
    clear = [
        f"{TITLES[row['measure']]} {value_text(row, 'before')} to {value_text(row, 'after')} "
        f"({change_text(row)}) {row['told']}"
        for row in rows
        if row["told"] != NOT_TOLD
    ]
    rest = ", ".join(TITLES[row["measure"]] for row in rows if row["told"] == NOT_TOLD)
    return "; ".join([*clear, *([f"{NOT_TOLD}: {rest}"] if rest else [])])


def value_text(row: Mapping[str, Any], side: str) -> str:
    return "-" if row[side] is None else f"{row[side]:.2f}"


def change_text(row: Mapping[str, Any]) -> str:
    """The difference, with its interval where it has one."""
    if row["difference"] is None:
        return "-"
    limits = row["interval_95"]
    return f"{row['difference']:+.2f}" + (f"; {limits[0]:+.2f} to {limits[1]:+.2f}" if limits else "")


def round_text(row: Mapping[str, Any]) -> str:
    """'2: kept 40 of 57, label heard in .61 (.48 to .74)'."""
    heard = row["agreement"]
    text = f"{row['round']}: kept {row['kept']} of {row['kept'] + row['dropped']}"
    if heard is None:
        return text
    low, high = heard["interval_95"]
    return f"{text}, label heard in {heard['share']:.2f} of them ({low:.2f} to {high:.2f})"


def table(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the report shows: header, rows of cells, what the parts are, and the rounds."""
    rows = [
        [
            part,
            TITLES[row["measure"]],
            *(value_text(row, side) for side in ("before", "after")),
            change_text(row),
            row["told"],
        ]
        for part, found in record["parts"].items()
        for row in found
    ]
    header = ["part", "measure", "without", "with", "difference (95 %)", "verdict"]
    rounds = [round_text(row) for row in record.get("rounds", [])]
    return {"header": header, "rows": rows, "parts": [PARTS[part] for part in record["parts"]], "rounds": rounds}
