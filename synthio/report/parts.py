"""The clips that tell what each part of a run bought: which they are, and what is heard in them.

found = measure_parts(options, synthetic, gold, ears, seed=0)  # for quality.json, by synthio.report.attribution
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthio.cli import UserError
from synthio.report.again import ALIGNMENT, CAPTIONS, PART, PartsOptions, spread_rows
from synthio.report.attribution import Clips, Reference, compare, share_row, sound_distances, typical_sound

if TYPE_CHECKING:
    import pandas as pd

Judge = Callable[[Sequence[str], str], tuple[np.ndarray, list[str]]]  # see Ears
CHANNEL, FILTER = "channel", "filter"
DROPPED_PER_CLIP = 3  # as many dropped and kept clips are heard for each that is generated again


@dataclass(frozen=True)
class Arm:
    """Some clips and the CSV that they come from, for messages."""

    table: pd.DataFrame
    csv: str

    def some(self, count: int) -> Arm:
        """At most `count` of them, classes in equal shares."""
        from synthio.manifest import prompt_cells

        return Arm(self.table.iloc[spread_rows(prompt_cells(self.table), count)], self.csv)


@dataclass(frozen=True)
class Ears:
    """What listens to clips; both are called with paths and the CSV that these come from.

    Attributes:
        hear: AST embeddings [N, E].
        judge: (probabilities [N, C], labels) of a classifier of the gold clips; None: there is none.
        reference: the validation clips.
    """

    hear: Callable[[Sequence[str], str], np.ndarray]
    judge: Judge | None
    reference: Reference


def measure_parts(options: PartsOptions, synthetic: Arm, gold: Arm, ears: Ears, *, seed: int) -> dict[str, Any]:
    """Part -> a row for each measure, and the rounds of the filter; parts of which there are no clips are left out."""
    parts = {}
    wanted = cache(partial(sound_of, gold))  # by sample rate: it takes longer than to hear the clips of a part
    for name, (before, after, paired) in arms_of(options, synthetic).items():
        if len(before.table) and len(after.table):
            without, having = (listen(arm, wanted, ears) for arm in (before, after))
            parts[name] = compare(without, having, ears.reference, seed, paired)
    return {"parts": parts, "rounds": rounds_of(options, ears, seed)}


def arms_of(options: PartsOptions, synthetic: Arm) -> dict[str, tuple[Arm, Arm, bool]]:
    """Part -> (clips without it, clips with it, whether these are pairs in one order)."""
    from synthio.manifest import LABEL, PATH, SEED, UNMATCHED, read_manifest

    found, count = {}, options.attribution_clips
    firsts = {ALIGNMENT: options.losers_csv, CAPTIONS: options.first_csv}
    for csv in options.again_csvs:
        for part, table in read_manifest(csv, (PATH, LABEL, SEED, PART)).groupby(PART):
            if first := firsts[str(part)]:
                old, new = by_seed(read_arm(first), Arm(table, csv))
                found[str(part)] = (old, new, True) if part == ALIGNMENT else (new, old, True)
    if UNMATCHED in synthetic.table.columns:
        some = Arm(synthetic.table[synthetic.table[UNMATCHED] != ""], synthetic.csv).some(count)
        found[CHANNEL] = (Arm(some.table.assign(**{PATH: some.table[UNMATCHED]}), some.csv), some, True)
    if options.kept_csvs:
        sets = [all_rounds(csvs) for csvs in (rejected_of(options.kept_csvs), options.kept_csvs)]
        dropped, kept = (arm.some(DROPPED_PER_CLIP * count) for arm in sets)
        found[FILTER] = (dropped, kept, False)
    return found


def read_arm(csv: str) -> Arm:
    """Clips of a table, with the seeds that make pairs of them.

    Raises:
        UserError: as `read_manifest`, the column of seeds included.
    """
    from synthio.manifest import LABEL, PATH, SEED, read_manifest

    return Arm(read_manifest(csv, (PATH, LABEL, SEED)), csv)


def by_seed(old: Arm, new: Arm) -> tuple[Arm, Arm]:
    """The clips of two arms that have one seed, pair by pair, in the order of the second.

    Raises:
        UserError: a clip of the second has no partner.
    """
    from synthio.manifest import SEED

    place = {seed: row for row, seed in enumerate(old.table[SEED])}
    if strange := [seed for seed in new.table[SEED] if seed not in place]:
        raise UserError(f"{new.csv}: seed {strange[0]} is not in {old.csv}; generate these clips again")
    return Arm(old.table.iloc[[place[seed] for seed in new.table[SEED]]], old.csv), new


def rejected_of(kept_csvs: Sequence[str]) -> list[str]:
    """The tables of rejected clips, which lie beside those of the kept ones."""
    return [str(Path(csv).with_name("rejected.csv")) for csv in kept_csvs]


def all_rounds(csvs: Sequence[str]) -> Arm:
    """The clips of all rounds that were kept, or that did not sound like their label; no copies and no spoilt ones."""
    import pandas as pd

    from synthio.filtering.reasons import rejection_of
    from synthio.manifest import REASON, read_manifest

    tables = [read_manifest(csv, check_files=False) for csv in csvs]
    table = pd.concat(tables, ignore_index=True)
    unlike = table[REASON].map(lambda reason: not reason or rejection_of(reason) == "unlike").astype(bool)
    return Arm(table[unlike], csvs[0])


def hits_of(arm: Arm, judge: Judge | None) -> np.ndarray:
    """How far the label of each clip is heard [N]; NaN without a judge."""
    from synthio.classification.labels import encode_labels
    from synthio.manifest import LABEL, PATH
    from synthio.report.quality_metrics import agreement

    if judge is None:
        return np.full(len(arm.table), np.nan)
    chances, labels = judge(list(arm.table[PATH]), arm.csv)
    return agreement(chances, encode_labels(arm.table[LABEL], labels, arm.csv, multi_label=True))


def sound_of(gold: Arm, sample_rate: int) -> tuple[float, np.ndarray] | None:
    """The `typical_sound` of some clips, at a rate in Hz."""
    from synthio.audio import read_audio
    from synthio.manifest import PATH

    return typical_sound([read_audio(path, sample_rate)[0][0] for path in gold.table[PATH]], sample_rate)


def listen(arm: Arm, wanted: Callable[[int], tuple[float, np.ndarray] | None], ears: Ears) -> Clips:
    """What is heard in the clips of an arm; `wanted` gives the `typical_sound` of the gold clips at a rate in Hz."""
    from synthio.audio import probe, read_audio
    from synthio.manifest import PATH, class_of, prompt_cells

    paths = list(arm.table[PATH])
    rate = probe(paths[0])[0]
    sounds = [read_audio(path, rate)[0][0] for path in paths]
    background_db, band_db = sound_distances(sounds, wanted(rate), rate).T
    classes = np.array([class_of(cell) for cell in prompt_cells(arm.table)])
    return Clips(ears.hear(paths, arm.csv), classes, hits_of(arm, ears.judge), background_db, band_db)


def rounds_of(options: PartsOptions, ears: Ears, seed: int) -> list[Mapping[str, Any]]:
    """What each round of the filter kept, and how often the label is heard in that."""
    from synthio.manifest import read_manifest

    found: list[Mapping[str, Any]] = []
    for number, (csv, other) in enumerate(zip(options.kept_csvs, rejected_of(options.kept_csvs), strict=True)):
        kept = read_manifest(csv, check_files=False)
        row: dict[str, Any] = {
            "round": number,
            "kept": len(kept),
            "dropped": len(read_manifest(other, check_files=False)),
        }
        heard = len(kept) and ears.judge is not None
        found.append(row | {"agreement": share_row(hits_of(Arm(kept, csv), ears.judge), seed) if heard else None})
    return found
