"""What the filter hears of a clip: whether it can be used, what it is like, and how near it is to its label."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from synthio.audio import BadAudio, peak_db, read_audio, resample
from synthio.batching import Halving
from synthio.captions.pools import label_prompt
from synthio.cli import progress
from synthio.filtering.likeness import SAMPLE_RATE, spectral_embedding
from synthio.filtering.options import FilterOptions
from synthio.filtering.reasons import CLIPPED, SILENT
from synthio.filtering.thresholds import probability, score_cells
from synthio.manifest import PATH, PROBABILITY, REASON, SCORE, prompt_cells

if TYPE_CHECKING:
    import pandas as pd

    from synthio.models.base import AudioTextScorer

SILENCE_DB = -70.0
FULL_SCALE = 0.999  # 16-bit files end at 32767 / 32768, lossy ones a little below


@dataclass(frozen=True)
class Heard:
    """One clip: what its score is made of [E], spectral embedding [32, N]; or why the clip must not be used."""

    vector: np.ndarray | None
    spectrum: np.ndarray | None
    reason: str


def load_clip(path: str, max_clipped: float):
    """(mono audio [1, T] or None, sample rate, reason why it must not be used or "")."""
    try:
        audio, rate = read_audio(path, mono=False)
    except BadAudio as error:
        return None, 0, str(error)
    clipped = float((abs(audio) >= FULL_SCALE).mean())
    if clipped > max_clipped:
        return None, rate, f"{CLIPPED}: {100 * clipped:.1f} % of the samples are at full scale"
    mono = audio.mean(axis=0, keepdims=True)
    peak = peak_db(mono - mono.mean())  # a constant offset is no sound
    if peak < SILENCE_DB:
        return None, rate, f"{SILENT}: peak {peak:.0f} dBFS"
    return mono, rate, ""


def hear_batch(paths, scorer, max_clipped: float, fitting: Halving) -> list[Heard]:
    """Read and embed clips."""
    loaded = [load_clip(path, max_clipped) for path in paths]
    good = [(audio, rate) for audio, rate, reason in loaded if not reason]
    vectors = iter(fitting.run(scorer.score_audio, [resample(a, r, scorer.sample_rate) for a, r in good]))
    spectra = (spectral_embedding(resample(a, r, SAMPLE_RATE)) for a, r in good)
    return [Heard(None, None, reason) if reason else Heard(next(vectors), next(spectra), "") for _, _, reason in loaded]


def hear(table: pd.DataFrame, scorer: AudioTextScorer, options: FilterOptions) -> list[Heard]:
    """Read and embed the clips of a table, in its order."""
    heard, fitting = [], Halving(options.batch_size)
    for start in progress(range(0, len(table), options.batch_size), "filter: batches"):
        heard += hear_batch(table[PATH].iloc[start : start + options.batch_size], scorer, options.max_clipped, fitting)
    return heard


def score(table, heard, scorer):
    """Add clap_score, clap_probability and the reason of unusable clips; rows stay in order."""
    prompts = [label_prompt(cell) for cell in prompt_cells(table)]
    distinct = sorted(set(prompts))
    texts = dict(zip(distinct, scorer.score_text(distinct), strict=True)) if distinct else {}
    cosines = [
        math.nan if clip.reason else float(clip.vector @ texts[prompt])
        for clip, prompt in zip(heard, prompts, strict=True)
    ]
    chances = [probability(cosine, scorer.logit_scale, scorer.logit_bias) for cosine in cosines]
    reasons = [clip.reason for clip in heard]
    return table.assign(**{SCORE: score_cells(cosines), PROBABILITY: score_cells(chances), REASON: reasons})
