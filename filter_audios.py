#!/usr/bin/env python3
"""Keep the generated clips that sound like their label (paper, section 3.4: the CLAP filter).

    python filter_audios.py --input_csv W/round_0/generated.csv --kept_csv W/round_0/kept.csv \\
        --rejected_csv W/round_0/rejected.csv --model extras/embedded/weights/clap --threshold 0.85

Each clip gets `clap_score`, the cosine between the clip and "Sound of a {label}", and `clap_probability`,
sigmoid(scale * cosine) with the model's own learned scale, which is what the paper's threshold of 0.85 refers to.
What the same threshold means as a cosine is printed, because it differs from model to model. Silent, unreadable and
non-finite clips are rejected whatever their score. Every input row ends in exactly one of the two outputs.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from synthio.cli import (
    add_device_option,
    in_range,
    new_parser,
    pick_device,
    progress,
    quiet_libraries,
    run_main,
    set_threads,
)

ROOT = Path(__file__).resolve().parent
SILENCE_DB = -70.0
PROBABILITY = "clap_probability"


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--input_csv", required=True, help="generated clips (path, label)")
    parser.add_argument("--kept_csv", required=True, help="output: clips at or above the threshold")
    parser.add_argument("--rejected_csv", required=True, help="output: the others, with the reason")
    parser.add_argument("--model", default=str(ROOT / "extras/embedded/weights/clap"), help="CLAP folder or hub id")
    parser.add_argument(
        "--threshold", type=in_range(float, 0, 1), default=0.85, help="least sigmoid(scale * cosine), 0 keeps all"
    )
    parser.add_argument("--batch_size", type=in_range(int, 1), default=16, help="clips embedded at once")
    add_device_option(parser)
    return parser


def load_clip(path: str, sample_rate: int):
    """(audio [1, T] or None, reason why it must not be used or "")."""
    from synthio.audio import BadAudio, peak_db, read_audio

    try:
        audio, _ = read_audio(path, sample_rate)
    except BadAudio as error:
        return None, str(error)
    if peak_db(audio) < SILENCE_DB:
        return None, f"silent: peak {peak_db(audio):.0f} dBFS"
    return audio, ""


def score_batch(scorer, paths, prompts, text_vectors) -> list[tuple[float, str]]:
    """(cosine, reason) of each clip; the cosine is NaN where the clip could not be scored."""
    loaded = [load_clip(path, scorer.sample_rate) for path in paths]
    good = [i for i, (audio, _) in enumerate(loaded) if audio is not None]
    cosines = [math.nan] * len(paths)
    if good:
        vectors = scorer.embed_audio([loaded[i][0] for i in good])
        for i, vector in zip(good, vectors, strict=True):
            cosines[i] = float(vector @ text_vectors[prompts[i]])
    return [(cosine, reason) for cosine, (_, reason) in zip(cosines, loaded, strict=True)]


def probability(cosine: float, scale: float) -> float:
    """The paper's score sigmoid(scale * cosine), in (0, 1)."""
    return 1 / (1 + math.exp(-scale * cosine))


def cosine_at(threshold: float, scale: float) -> float:
    """The cosine whose probability is `threshold`."""
    if threshold in (0, 1):
        return math.inf if threshold else -math.inf
    return math.log(threshold / (1 - threshold)) / scale


def score_table(table, scorer, batch_size: int):
    """Add clap_score, clap_probability and the reason of unusable clips; rows stay in order."""
    from synthio.manifest import LABEL, PATH, REASON, SCORE
    from synthio.prompts import label_prompt

    prompts = [label_prompt(label) for label in table[LABEL]]
    distinct = sorted(set(prompts))
    text_vectors = dict(zip(distinct, scorer.embed_text(distinct), strict=True)) if distinct else {}
    results = []
    for start in progress(range(0, len(table), batch_size), "filter: batches"):
        rows = slice(start, start + batch_size)
        results += score_batch(scorer, table[PATH].iloc[rows], prompts[rows], text_vectors)
    out = table.copy()
    # Six decimals: far finer than the scores mean, coarse enough that float rounding cannot change a row.
    out[SCORE] = ["" if math.isnan(c) else f"{c:.6f}" for c, _ in results]
    out[PROBABILITY] = ["" if math.isnan(c) else f"{probability(c, scorer.logit_scale):.6f}" for c, _ in results]
    out[REASON] = [reason for _, reason in results]
    return out


def decide(scored, threshold: float):
    """Split a scored table into (kept, rejected with a reason each)."""
    from synthio.manifest import REASON

    reasons = [
        reason or ("" if float(p) >= threshold else f"clap_probability {p} is below {threshold:g}")
        for p, reason in zip(scored[PROBABILITY], scored[REASON], strict=True)
    ]
    scored = scored.assign(**{REASON: reasons})
    is_kept = scored[REASON] == ""
    return scored[is_kept].reset_index(drop=True), scored[~is_kept].reset_index(drop=True)


def main() -> int:
    args = get_parser().parse_args()
    from synthio.files import fingerprint
    from synthio.manifest import SCORE, read_manifest, write_manifest, write_table
    from synthio.models import load_scorer

    quiet_libraries()
    set_threads()
    table = read_manifest(args.input_csv, check_files=False)
    scorer = load_scorer(args.model, pick_device(args.device))
    scored = score_table(table, scorer, args.batch_size)
    kept, rejected = decide(scored, args.threshold)
    write_table(rejected, args.rejected_csv)
    limit = cosine_at(args.threshold, scorer.logit_scale)
    write_manifest(
        kept,
        args.kept_csv,
        rows_in=len(table),
        dropped=rejected,
        options={**vars(args), "model_sha256": fingerprint(args.model)},
        inputs=[args.input_csv],
        notes={"logit_scale": scorer.logit_scale, "threshold_as_cosine": limit},
    )
    cosines = sorted(float(c) for c in scored[SCORE] if c)
    spread = f"cosines {cosines[0]:.3f} to {cosines[-1]:.3f}" if cosines else "no scores"
    print(
        f"kept {len(kept)} of {len(table)} clips; threshold {args.threshold:g} is cosine {limit:.3f} "
        f"at scale {scorer.logit_scale:.1f}; {spread}",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    run_main(main)
