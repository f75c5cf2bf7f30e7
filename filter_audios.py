#!/usr/bin/env python3
"""Keep the generated clips that sound like their label (paper, section 3.4: the CLAP filter).

    python filter_audios.py --input_csv W/round_0/generated.csv --kept_csv W/round_0/kept.csv \\
        --rejected_csv W/round_0/rejected.csv --model extras/embedded/weights/clap --threshold 0.85

Each clip gets `clap_score`, the cosine between the clip and "Sound of a {label}", and `clap_probability`,
sigmoid(scale * cosine) with the model's own learned scale, which is what the paper's threshold of 0.85 refers to.
What the same threshold means as a cosine is printed, because it differs from model to model.

Threshold kinds:
  absolute        keep what reaches --threshold; `auto` takes a threshold for each class from the validation clips
  class_quantile  keep what reaches the quantile of its class that --keep_percent says, ties included
  rank            keep the best --keep_percent of each class, by CLAP or, with --classifier, by both (SynSonic)

Silent, clipped, unreadable and non-finite clips are rejected whatever their score, and so are near-duplicates of gold,
validation and test clips: recordings are compared (see synthio/filtering/likeness.py), never labels. Every input row
ends in exactly one of the two outputs. A picture of the scores lies beside the kept CSV, with the suffix .png.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthio.batching import Halving
from synthio.cli import (
    AUTO,
    UserError,
    in_range,
    new_parser,
    number_or_auto,
    pick_device,
    progress,
    quiet_libraries,
    run_main,
    set_threads,
    str2bool,
)
from synthio.files import EMBEDDED
from synthio.models.load import SCORER_HELP
from synthio.options import Device, add_options

if TYPE_CHECKING:
    import numpy as np

ROOT = Path(__file__).resolve().parent
SILENCE_DB = -70.0
FULL_SCALE = 0.999  # 16-bit files end at 32767 / 32768, lossy ones a little below


def get_parser():
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--input_csv", required=True, help="generated clips (path, label)")
    add("--kept_csv", required=True, help="output: the clips that go on")
    add("--rejected_csv", required=True, help="output: the others, with the reason")
    add("--model", default=str(EMBEDDED / "clap"), help=SCORER_HELP)
    add("--threshold_kind", choices=["absolute", "class_quantile", "rank"], default="absolute", help="see above")
    kind = number_or_auto(0, 1, "probability")
    add("--threshold", type=kind, default=0.85, help="least sigmoid(scale * cosine), 0 keeps all; or auto")
    add("--auto_quantile", type=in_range(float, 0, 1), default=0.1, help="share of real clips that auto would reject")
    add("--keep_percent", type=in_range(float, 1, 100), default=70.0, help="of each class, for class_quantile and rank")
    add("--classifier", default="", help="output folder of ast/train.py on gold clips alone; empty: CLAP alone")
    add("--classifier_weight", type=in_range(float, 0, 1), default=0.5, help="its share of the rank, beside CLAP's")
    add("--gold_csv", default="", help="gold clips, for near-duplicates; empty: none")
    add("--valid_csv", default="", help="validation clips, for near-duplicates and --threshold auto; empty: none")
    add("--test_csv", default="", help="test clips, for near-duplicates alone; their labels are not read; empty: none")
    add("--duplicate_cosine", type=in_range(float, 0, 1), default=0.9, help="likeness above it is a copy; 1: none is")
    add("--drop_repeats", type=str2bool, default=False, help="drop near-duplicates of better generated clips too")
    add("--earlier_csvs", nargs="*", default=[], help="clips kept in earlier rounds, for --drop_repeats")
    add("--max_clipped", type=in_range(float, 0, 1), default=0.01, help="largest share of samples at full scale")
    add("--batch_size", type=in_range(int, 1), default=16, help="clips embedded at once")
    add_options(parser, Device)
    return parser


def check_options(args) -> None:
    """Refuse options that would be passed over."""
    if args.threshold == AUTO and args.threshold_kind != "absolute":
        raise UserError(f"--threshold auto is an absolute threshold; it cannot go with {args.threshold_kind}")
    if args.threshold == AUTO and not args.valid_csv:
        raise UserError("--threshold auto takes the threshold from validation clips; give --valid_csv")
    if args.classifier and args.threshold_kind != "rank":
        raise UserError("--classifier mixes ranks; it goes with --threshold_kind rank")
    if args.earlier_csvs and not args.drop_repeats:
        raise UserError("--earlier_csvs goes with --drop_repeats true")


# Hearing


@dataclass(frozen=True)
class Heard:
    """One clip: CLAP embedding [E], spectral embedding [32, N]; or the reason why the clip must not be used."""

    vector: np.ndarray | None
    spectrum: np.ndarray | None
    reason: str


def load_clip(path: str, max_clipped: float):
    """(mono audio [1, T] or None, sample rate, reason why it must not be used or "")."""
    from synthio.audio import BadAudio, peak_db, read_audio

    try:
        audio, rate = read_audio(path, mono=False)
    except BadAudio as error:
        return None, 0, str(error)
    clipped = float((abs(audio) >= FULL_SCALE).mean())
    if clipped > max_clipped:
        return None, rate, f"clipped: {100 * clipped:.1f} % of the samples are at full scale"
    mono = audio.mean(axis=0, keepdims=True)
    peak = peak_db(mono - mono.mean())  # a constant offset is no sound
    if peak < SILENCE_DB:
        return None, rate, f"silent: peak {peak:.0f} dBFS"
    return mono, rate, ""


def hear_batch(paths, scorer, max_clipped: float, fitting: Halving) -> list[Heard]:
    """Read and embed clips."""
    from synthio.audio import resample
    from synthio.filtering import likeness

    loaded = [load_clip(path, max_clipped) for path in paths]
    good = [(audio, rate) for audio, rate, reason in loaded if not reason]
    vectors = iter(fitting.run(scorer.embed_audio, [resample(a, r, scorer.sample_rate) for a, r in good]))
    spectra = (likeness.spectral_embedding(resample(a, r, likeness.SAMPLE_RATE)) for a, r in good)
    return [Heard(None, None, reason) if reason else Heard(next(vectors), next(spectra), "") for _, _, reason in loaded]


def hear(table, scorer, args) -> list[Heard]:
    """Read and embed the clips of a table, in its order."""
    from synthio.manifest import PATH

    heard, fitting = [], Halving(args.batch_size)
    for start in progress(range(0, len(table), args.batch_size), "filter: batches"):
        heard += hear_batch(table[PATH].iloc[start : start + args.batch_size], scorer, args.max_clipped, fitting)
    return heard


def score(table, heard, scorer):
    """Add clap_score, clap_probability and the reason of unusable clips; rows stay in order."""
    from synthio.captions.pools import label_prompt
    from synthio.filtering.thresholds import PROBABILITY, probability, score_cells
    from synthio.manifest import LABEL, REASON, SCORE

    prompts = [label_prompt(label) for label in table[LABEL]]
    distinct = sorted(set(prompts))
    texts = dict(zip(distinct, scorer.embed_text(distinct), strict=True)) if distinct else {}
    cosines = [
        math.nan if clip.reason else float(clip.vector @ texts[prompt])
        for clip, prompt in zip(heard, prompts, strict=True)
    ]
    chances = [probability(cosine, scorer.logit_scale) for cosine in cosines]
    reasons = [clip.reason for clip in heard]
    return table.assign(**{SCORE: score_cells(cosines), PROBABILITY: score_cells(chances), REASON: reasons})


# Near-duplicates


def read_references(args) -> tuple[list[str], list[str], list]:
    """(paths, names, spectral embeddings) of all clips that must not be copied. Only paths are read, never labels."""
    from synthio.audio import BadAudio
    from synthio.filtering.likeness import read_embedding
    from synthio.manifest import PATH, read_manifest

    csvs = [("gold", args.gold_csv), ("validation", args.valid_csv), ("test", args.test_csv)]
    csvs += [("earlier", csv) for csv in args.earlier_csvs]
    paths, names, spectra = [], [], []
    for kind, csv in csvs if args.duplicate_cosine < 1 else ():
        table = read_manifest(csv, [PATH]) if csv else {PATH: []}
        for row, path in enumerate(progress(table[PATH], f"filter: {kind} clips"), 1):
            try:
                spectra.append(read_embedding(path))
            except BadAudio as error:
                raise UserError(f"{csv} row {row}: {path}: {error}") from None
            paths.append(path)
            names.append(f"the {kind} clip {Path(path).name}")
    return paths, names, spectra


def spectra_of(heard) -> list[np.ndarray]:
    """The spectral embedding of each clip; one that is like nothing for a clip that must not be used."""
    import numpy as np

    return [np.zeros((1, 1), np.float32) if clip.reason else clip.spectrum for clip in heard]


def drop_copies(table, heard, args):
    """Reject near-duplicates of the reference clips; add the cosine to the nearest one, and which one was copied."""
    from synthio.filtering.likeness import likeness
    from synthio.filtering.thresholds import NEAREST, copies, reject, score_cells
    from synthio.manifest import REASON, RESEMBLES

    paths, names, spectra = read_references(args)
    if not paths:
        return table.assign(**{RESEMBLES: ""})
    cosines = likeness(spectra_of(heard), spectra)
    reasons = copies(table, cosines, names, args.duplicate_cosine)
    is_copy = [bool(new) and not old for new, old in zip(reasons, table[REASON], strict=True)]
    nearest = [math.nan if clip.reason else row.max() for clip, row in zip(heard, cosines, strict=True)]
    places = cosines.argmax(axis=1) if len(cosines) else ()
    resembled = [paths[j] if copied else "" for j, copied in zip(places, is_copy, strict=True)]
    return reject(table.assign(**{NEAREST: score_cells(nearest), RESEMBLES: resembled}), reasons)


def drop_repeats(table, heard, column: str, args):
    """Reject near-duplicates of better clips of this table."""
    from synthio.filtering.likeness import likeness
    from synthio.filtering.thresholds import reject, repeats
    from synthio.manifest import PATH, RESEMBLES

    if not args.drop_repeats or args.duplicate_cosine >= 1:
        return table
    spectra = spectra_of(heard)
    cosines = likeness(spectra, spectra)
    reasons, resembled, paths = [""] * len(table), list(table[RESEMBLES]), list(table[PATH])
    for row, other in repeats(table, column, cosines, args.duplicate_cosine).items():
        reasons[row] = f"near-duplicate of the better clip {Path(paths[other]).name} (cosine {cosines[row, other]:.3f})"
        resembled[row] = paths[other]
    return reject(table.assign(**{RESEMBLES: resembled}), reasons)


# Thresholds


def add_agreement(table, args, device: str):
    """Add the classifier's probability of each clip's label, and the score that mixes its rank with CLAP's."""
    from synthio.filtering.agreement import label_probabilities
    from synthio.filtering.thresholds import AGREEMENT, JOINT, joint_scores, score_cells
    from synthio.manifest import LABEL, PATH, REASON

    good = (table[REASON] == "").to_numpy(bool)
    chances = iter(label_probabilities(args.classifier, table[PATH][good], table[LABEL][good], args.input_csv, device))
    table = table.assign(**{AGREEMENT: score_cells([next(chances) if is_good else math.nan for is_good in good])})
    return table.assign(**{JOINT: score_cells(joint_scores(table, args.classifier_weight))})


def absolute_limits(table, scorer, args):
    """(score column, limit of each class): the given threshold, or one from the validation clips."""
    from synthio.filtering.thresholds import PROBABILITY, Limit, auto_limits, rows_by_class
    from synthio.manifest import SCORE, read_manifest

    classes = list(rows_by_class(table))
    if args.threshold != AUTO:
        return PROBABILITY, {name: Limit(args.threshold) for name in classes}
    valid = read_manifest(args.valid_csv)
    valid = score(valid, hear(valid, scorer, args), scorer)
    try:
        return SCORE, auto_limits(valid, SCORE, args.auto_quantile, classes)
    except ValueError as error:
        raise UserError(f"{args.valid_csv}: {error}, so there is no threshold; give one by --threshold") from None


def decide(table, scorer, args, device: str):
    """(table with the reason of each clip that is not good enough, score column, limit of each class)."""
    from synthio.filtering.thresholds import JOINT, below_limits, outranked, quantile_limits, reject
    from synthio.manifest import SCORE

    column = SCORE
    if args.threshold_kind == "rank":
        if args.classifier:
            table, column = add_agreement(table, args, device), JOINT
        reasons, limits = outranked(table, column, args.keep_percent)
        return reject(table, reasons), column, limits
    if args.threshold_kind == "class_quantile":
        limits = quantile_limits(table, column, args.keep_percent)
    else:
        column, limits = absolute_limits(table, scorer, args)
    return reject(table, below_limits(table, column, limits)), column, limits


# Output


def threshold_words(limits, column: str, scorer, args) -> str:
    """What the threshold is, in a few words."""
    from synthio.filtering.thresholds import cosine_at

    values = sorted(limit.value for limit in limits.values())
    spread = f"{column} {values[0]:.3f} to {values[-1]:.3f} in {len(values)} classes" if values else "no clips"
    if args.threshold_kind != "absolute":
        return f"the best {args.keep_percent:g} % of each class: {spread}"
    if args.threshold == AUTO:
        return f"auto threshold: {spread}"
    limit = cosine_at(args.threshold, scorer.logit_scale)
    return f"threshold {args.threshold:g} is cosine {limit:.3f} at scale {scorer.logit_scale:.1f}"


def draw_scores(table, column: str, limits, title: str, scorer, path: Path) -> None:
    """Draw the scores; those of a probability as cosines, because near 1 the probabilities cannot be told apart."""
    from synthio.filtering.picture import draw
    from synthio.filtering.thresholds import PROBABILITY, Limit, cosine_at
    from synthio.manifest import SCORE

    if column == PROBABILITY:
        cosines = {name: cosine_at(limit.value, scorer.logit_scale) for name, limit in limits.items()}
        column, limits = SCORE, {name: Limit(value) for name, value in cosines.items() if math.isfinite(value)}
    draw(table, column, limits, title, path)


def own_columns() -> list[str]:
    """The columns that the filter writes; the clips of a later round bring those of the clips they stand for."""
    from synthio.filtering.thresholds import AGREEMENT, JOINT, NEAREST, PROBABILITY
    from synthio.manifest import REASON, RESEMBLES, SCORE

    return [SCORE, PROBABILITY, NEAREST, RESEMBLES, AGREEMENT, JOINT, REASON]


def summary(table, counts: dict[str, int], words: str) -> str:
    """What was kept, by which threshold."""
    return f"kept {len(table) - sum(counts.values())} of {len(table)} clips; {words}"


def report(table, counts: dict[str, int], words: str, limits) -> None:
    """Print what was kept, why the others were not, and which classes had too few validation clips."""
    from synthio.filtering.thresholds import MIN_VALID_CLIPS
    from synthio.manifest import SCORE

    cosines = sorted(float(cell) for cell in table[SCORE] if cell)
    spread = f"cosines {cosines[0]:.3f} to {cosines[-1]:.3f}" if cosines else "no scores"
    dropped = ", ".join(f"{count} {cause}" for cause, count in counts.items() if count) or "none"
    print(f"{summary(table, counts, words)}; {spread}; rejected: {dropped}", file=sys.stderr)
    pooled = [name for name, limit in limits.items() if "quantile of all" in limit.origin]
    if pooled:
        print(
            f"auto threshold: {len(pooled)} of {len(limits)} classes have fewer than {MIN_VALID_CLIPS} validation "
            f"clips and take that of all together, such as {pooled[0]}",
            file=sys.stderr,
        )


def write(table, args, model_hash: str, notes) -> None:
    """Write the kept and the rejected clips."""
    from synthio.manifest import REASON, write_manifest, write_table

    is_kept = table[REASON] == ""
    kept, rejected = (table[flags].reset_index(drop=True) for flags in (is_kept, ~is_kept))
    write_table(rejected, args.rejected_csv)
    csvs = [args.input_csv, args.gold_csv, args.valid_csv, args.test_csv, *args.earlier_csvs]
    write_manifest(
        kept,
        args.kept_csv,
        rows_in=len(table),
        dropped=rejected,
        options={**vars(args), "model_sha256": model_hash},
        inputs=[csv for csv in csvs if csv],
        notes=notes,
    )


def main() -> int:
    args = get_parser().parse_args()
    check_options(args)
    from synthio.files import fingerprint
    from synthio.manifest import REASON, read_manifest
    from synthio.models.load import load_scorer

    quiet_libraries()
    set_threads()
    table = read_manifest(args.input_csv, check_files=False).drop(columns=own_columns(), errors="ignore")
    device = pick_device(args.device)
    scorer = load_scorer(args.model, device)
    heard = hear(table, scorer, args)
    steps = [score(table, heard, scorer)]
    steps.append(drop_copies(steps[-1], heard, args))
    decided, column, limits = decide(steps[-1], scorer, args, device)
    steps += [decided, drop_repeats(decided, heard, column, args)]

    out = [int((step[REASON] != "").sum()) for step in steps]
    causes = ("unusable", "near-duplicates", "below the threshold", "repeats")
    counts = {cause: now - before for cause, now, before in zip(causes, out, [0, *out], strict=False)}
    words = threshold_words(limits, column, scorer, args)
    title = summary(table, counts, words)
    draw_scores(steps[-1], column, limits, title, scorer, Path(args.kept_csv).with_suffix(".png"))
    thresholds = {name: vars(limit) for name, limit in limits.items()}
    notes = {"logit_scale": scorer.logit_scale, "score": column, "thresholds": thresholds, "rejected": counts}
    write(steps[-1], args, fingerprint(args.model), notes)
    report(steps[-1], counts, words, limits)
    return 0


if __name__ == "__main__":
    run_main(main)
