"""Whether clips are made with the adapter: not where the labels are heard less with it.

    python -m synthio.report.judge --losers_csv W/dpo/losers.csv --again_csv W/dpo/judged/generated.csv \\
        --gold_csv W/train_50.csv --adapter W/dpo/adapter --output_json W/dpo/judged.json

The two tables are clips of the same prompts and seeds, without the adapter and with it. A linear probe on AST's
embeddings of the gold clips says in how many of each the label is heard; no filter has chosen among them. Where the
95 % interval of the difference (a bootstrap over the pairs) lies below 0, the adapter is not used, else it is.
generate.py takes the JSON in place of the adapter's folder. Used by run.sh with dpo=auto.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthio.classification.script import Hearing
from synthio.cli import UserError, new_parser, pick_device, quiet_libraries, run_main, set_threads
from synthio.files import EMBEDDED
from synthio.generation.chosen import ADAPTER, USED
from synthio.models.classifiers import CLASSIFIER_HELP
from synthio.options import Device, MultiLabel, Seed, add_options, from_args, option


@dataclass(frozen=True)
class JudgeOptions(Hearing, MultiLabel, Seed, Device):
    """What is compared, by whom."""

    losers_csv: str = option("", "clips without the adapter", required=True)
    again_csv: str = option("", "clips of some of their prompts and seeds, with the adapter", required=True)
    gold_csv: str = option("", "clips with labels that the probe learns from", required=True)
    adapter: str = option("", "the adapter's folder", required=True)
    ast_model: str = option(str(EMBEDDED / "ast"), "whose embeddings the probe hears: " + CLASSIFIER_HELP)
    output_json: str = option("", "output: whether the adapter is used, and why", required=True)


def get_parser():
    parser = new_parser(__doc__)
    add_options(parser, JudgeOptions)
    return parser


def heard(options: JudgeOptions, hear: Callable[[Sequence[str], str], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """How far the labels are heard, 0 to 1 [N], without the adapter and with it, pair by pair.

    Raises:
        UserError: there is no pair, a clip has a label that no gold clip has, or all gold clips have one label.
    """
    from synthio.classification.labels import encode_labels
    from synthio.classification.probe import FEW_CLIPS_C, fit_probe
    from synthio.manifest import LABEL, PATH, all_labels, read_manifest
    from synthio.report.parts import Judge, by_seed, hits_of, read_arm

    without, having = by_seed(read_arm(options.losers_csv), read_arm(options.again_csv))
    if not len(having.table):
        raise UserError(f"{options.again_csv}: holds no clip, so nothing can be said of the adapter")
    gold, csv = read_manifest(options.gold_csv), options.gold_csv
    labels = all_labels(gold[LABEL])
    targets = encode_labels(gold[LABEL], labels, csv, multi_label=options.multi_label)
    probe = fit_probe(hear(list(gold[PATH]), csv), targets, FEW_CLIPS_C, options.multi_label)
    judge: Judge = lambda paths, name: (probe.chances(hear(paths, name), options.multi_label), labels)  # noqa: E731
    return hits_of(without, judge), hits_of(having, judge)


def verdict(without: np.ndarray, having: np.ndarray, seed: int) -> dict[str, Any]:
    """Whether the adapter is used, and the row of the measure "agreement" (see synthio.report.attribution).

    Args:
        without, having: how far the labels are heard in the clips of each pair [N].
        seed: of the draws.
    """
    from synthio.report.attribution import RESAMPLES, row_of

    rng, size = np.random.default_rng(seed), len(without)
    differences = (having - without)[rng.integers(0, size, (RESAMPLES, size))].mean(axis=1)
    row = row_of("agreement", float(without.mean()), float(having.mean()), differences, size)
    return {USED: row["told"] != "worse", "clips": size, "agreement": row}


def sentence(record: Mapping[str, Any]) -> str:
    """What was found, for people."""
    row = record["agreement"]
    text = f"the label is heard in {row['after']:.0%} of {record['clips']} clips with the adapter and in "
    text += f"{row['before']:.0%} of those without it"
    if row["interval_95"]:
        low, high = (100 * limit for limit in row["interval_95"])
        text += f" ({100 * row['difference']:+.0f} points, {low:+.0f} to {high:+.0f})"
    return f"{text}: it is {'used' if record[USED] else 'not used'}"


def main() -> int:
    options = from_args(JudgeOptions, get_parser().parse_args())
    from synthio.classification.listening import Listener
    from synthio.files import fingerprint, write_json
    from synthio.manifest import versions
    from synthio.models.adapters import adapter_kind

    adapter_kind(options.adapter)  # a name that is no folder has a fingerprint, too
    quiet_libraries()
    set_threads()
    output = Path(options.output_json)
    cache, device = options.cache(str(output.parent)), pick_device(options.device)
    listener = Listener({"ast": options.ast_model}, cache, device, options.batch_size)
    found = heard(options, lambda paths, csv: listener.hear(paths, csv)["ast"])
    record = verdict(*found, options.seed)
    print(sentence(record), file=sys.stderr)
    # by its place beside this file, so that a result folder can be moved; by its bytes, so that another one is noticed
    place = os.path.relpath(options.adapter, output.parent)
    more = {"fingerprint": fingerprint(options.adapter), "options": vars(options), "versions": versions()}
    write_json(output, {ADAPTER: place, **record, **more})
    return 0


if __name__ == "__main__":
    run_main(main)
