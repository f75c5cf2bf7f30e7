#!/usr/bin/env python3
"""Keep the generated clips that sound like their label (paper, section 3.4: the CLAP filter).

    python filter_audios.py --input_csv W/round_0/generated.csv --kept_csv W/round_0/kept.csv \\
        --rejected_csv W/round_0/rejected.csv --model extras/embedded/weights/clap --threshold 0.85

Each clip gets `clap_score`, the cosine between the clip and "Sound of a {label}", and `clap_probability`,
sigmoid(scale * cosine) with the model's own learned scale, which is what the paper's threshold of 0.85 refers to.
What the same threshold means as a cosine is printed, because it differs from model to model. PeAudio also learnt a
bias, so that its sigmoid is a probability, and its vectors are no unit ones: `clap_score` is their product.

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
from pathlib import Path

from synthio.cli import new_parser, pick_device, quiet_libraries, run_main, set_threads
from synthio.files import EMBEDDED
from synthio.filtering.options import FilterOptions
from synthio.models.load import SCORER_HELP
from synthio.options import Device, add_options, from_args


def get_parser():
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--input_csv", required=True, help="generated clips (path, label)")
    add("--kept_csv", required=True, help="output: the clips that go on")
    add("--rejected_csv", required=True, help="output: the others, with the reason")
    add("--model", default=str(EMBEDDED / "clap"), help=SCORER_HELP)
    add_options(parser, FilterOptions)
    add_options(parser, Device)
    return parser


def draw_scores(table, column: str, limits, title: str, scorer, path: Path) -> None:
    """Draw the scores; those of a probability as cosines, because near 1 the probabilities cannot be told apart."""
    from synthio.filtering.picture import draw
    from synthio.filtering.thresholds import Limit, cosine_at
    from synthio.manifest import PROBABILITY, SCORE

    if column == PROBABILITY:
        cosines = {
            name: cosine_at(limit.value, scorer.logit_scale, scorer.logit_bias) for name, limit in limits.items()
        }
        column, limits = SCORE, {name: Limit(value) for name, value in cosines.items() if math.isfinite(value)}
    draw(table, column, limits, title, path)


def own_columns() -> list[str]:
    """The columns that the filter writes; the clips of a later round bring those of the clips they stand for."""
    from synthio.manifest import AGREEMENT, JOINT, NEAREST, PROBABILITY, REASON, RESEMBLES, SCORE

    return [SCORE, PROBABILITY, NEAREST, RESEMBLES, AGREEMENT, JOINT, REASON]


def summary(table, counts: dict[str, int], words: str) -> str:
    """What was kept, by which threshold."""
    return f"kept {len(table) - sum(counts.values())} of {len(table)} clips; {words}"


def report(table, counts: dict[str, int], words: str, limits, kind: str) -> None:
    """Print what was kept, why the others were not, and which classes had too few validation clips.

    `kind` is the similarity of the model.
    """
    from synthio.filtering.thresholds import MIN_VALID_CLIPS
    from synthio.manifest import SCORE

    cosines = sorted(float(cell) for cell in table[SCORE] if cell)
    spread = f"{kind}s {cosines[0]:.3f} to {cosines[-1]:.3f}" if cosines else "no scores"
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
    options = from_args(FilterOptions, args)
    options.check()
    from synthio.files import fingerprint
    from synthio.filtering.copies import drop_copies, drop_repeats
    from synthio.filtering.decision import decide, threshold_words
    from synthio.filtering.hearing import hear, score
    from synthio.manifest import REASON, read_manifest
    from synthio.models.load import load_scorer

    quiet_libraries()
    set_threads()
    table = read_manifest(args.input_csv, check_files=False).drop(columns=own_columns(), errors="ignore")
    device = pick_device(args.device)
    scorer = load_scorer(args.model, device)
    heard = hear(table, scorer, options)
    steps = [score(table, heard, scorer)]
    steps.append(drop_copies(steps[-1], heard, options))
    decided, column, limits = decide(steps[-1], scorer, options, args.input_csv, device)
    steps += [decided, drop_repeats(decided, heard, column, options)]

    out = [int((step[REASON] != "").sum()) for step in steps]
    causes = ("unusable", "near-duplicates", "below the threshold", "repeats")
    counts = {cause: now - before for cause, now, before in zip(causes, out, [0, *out], strict=False)}
    words = threshold_words(limits, column, scorer, options)
    title = summary(table, counts, words)
    draw_scores(steps[-1], column, limits, title, scorer, Path(args.kept_csv).with_suffix(".png"))
    thresholds = {name: vars(limit) for name, limit in limits.items()}
    learnt = {"logit_scale": scorer.logit_scale, "logit_bias": scorer.logit_bias, "similarity": scorer.similarity}
    notes = {**learnt, "score": column, "thresholds": thresholds, "rejected": counts}
    write(steps[-1], args, fingerprint(args.model), notes)
    report(steps[-1], counts, words, limits, scorer.similarity)
    return 0


if __name__ == "__main__":
    run_main(main)
