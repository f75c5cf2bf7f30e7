"""Reject generated clips that are copies: of clips that must not be copied, or of better generated ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synthio.audio import BadAudio
from synthio.cli import UserError, progress
from synthio.filtering.hearing import Heard
from synthio.filtering.likeness import likeness, read_embedding
from synthio.filtering.options import FilterOptions
from synthio.filtering.reasons import COPY
from synthio.filtering.thresholds import copies, reject, repeats, score_cells
from synthio.manifest import NEAREST, PATH, REASON, RESEMBLES, read_manifest

if TYPE_CHECKING:
    import pandas as pd


def read_references(options: FilterOptions) -> tuple[list[str], list[str], list]:
    """(paths, names, spectral embeddings) of all clips that must not be copied. Only paths are read, never labels."""
    csvs = [("gold", options.gold_csv), ("validation", options.valid_csv), ("test", options.test_csv)]
    csvs += [("earlier", csv) for csv in options.earlier_csvs]
    paths, names, spectra = [], [], []
    for kind, csv in csvs if options.duplicate_cosine < 1 else ():
        table = read_manifest(csv, [PATH]) if csv else {PATH: []}
        for row, path in enumerate(progress(table[PATH], f"filter: {kind} clips"), 1):
            try:
                spectra.append(read_embedding(path))
            except BadAudio as error:
                raise UserError(f"{csv} row {row}: {path}: {error}") from None
            paths.append(path)
            names.append(f"the {kind} clip {Path(path).name}")
    return paths, names, spectra


def spectra_of(heard: Sequence[Heard]) -> list[np.ndarray]:
    """The spectral embedding of each clip; one that is like nothing for a clip that must not be used."""
    return [np.zeros((1, 1), np.float32) if clip.spectrum is None else clip.spectrum for clip in heard]


def drop_copies(table: pd.DataFrame, heard: Sequence[Heard], options: FilterOptions) -> pd.DataFrame:
    """Reject near-duplicates of the reference clips; add the cosine to the nearest one, and which one was copied."""
    paths, names, spectra = read_references(options)
    if not paths:
        return table.assign(**{RESEMBLES: ""})
    cosines = likeness(spectra_of(heard), spectra)
    reasons = copies(table, cosines, names, options.duplicate_cosine)
    is_copy = [bool(new) and not old for new, old in zip(reasons, table[REASON], strict=True)]
    nearest = [math.nan if clip.reason else row.max() for clip, row in zip(heard, cosines, strict=True)]
    places = cosines.argmax(axis=1) if len(cosines) else ()
    resembled = [paths[j] if copied else "" for j, copied in zip(places, is_copy, strict=True)]
    return reject(table.assign(**{NEAREST: score_cells(nearest), RESEMBLES: resembled}), reasons)


def drop_repeats(table: pd.DataFrame, heard: Sequence[Heard], column: str, options: FilterOptions) -> pd.DataFrame:
    """Reject near-duplicates of better clips of this table."""
    if not options.drop_repeats or options.duplicate_cosine >= 1:
        return table
    spectra = spectra_of(heard)
    cosines = likeness(spectra, spectra)
    reasons, resembled, paths = [""] * len(table), list(table[RESEMBLES]), list(table[PATH])
    for row, other in repeats(table, column, cosines, options.duplicate_cosine).items():
        reasons[row] = f"{COPY} of the better clip {Path(paths[other]).name} (cosine {cosines[row, other]:.3f})"
        resembled[row] = paths[other]
    return reject(table.assign(**{RESEMBLES: resembled}), reasons)
