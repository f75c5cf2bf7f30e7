"""How often a sound that is none of the labels is taken for one, without and with the label `other`.

    python -m synthio.classification.false_alarms --before W/classifier/synthio --after W/classifier/other \\
        --foreign_csv W/other/foreign.csv --cache_folder W/embeddings --output_json W/false_alarms.json

A clip is called when its highest probability of a label, `other` apart, reaches a threshold: the one that 90 % of the
test clips reach, for each classifier its own. False alarms are the share of foreign clips that reach it, too (in the
literature on out-of-distribution detection the FPR at 90 % TPR). The interval is over draws of test and foreign clips,
paired where two classifiers are compared. What the label costs is the difference of their scores on the test clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthio.cli import in_range, new_parser, pick_device, quiet_libraries, run_main, set_threads
from synthio.options import Device, add_options

if TYPE_CHECKING:
    from synthio.classification.intervals import Units

NAMES = ("before", "after")


def get_parser():
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--before", required=True, help="a classifier's folder: model/, scores.json, predictions.csv")
    add("--after", required=True, help="the folder of the one with the label other")
    add("--foreign_csv", required=True, help="sounds that are none of the labels")
    add("--output_json", required=True, help="output: false alarms of both, the difference, what it costs")
    add("--cache_folder", required=True, help="keeps what frozen models hear")
    for kind in ("ast", "clap"):
        add(
            f"--{kind}_model",
            default="",
            help=f"for heads, the {kind.upper()} that they hear through; empty: where it was",
        )
    add("--recall", type=in_range(float, 0, 1), default=0.9, help="share of the test clips that are to be called")
    add("--batch_size", type=in_range(int, 1), default=16, help="clips that AST hears at once")
    add("--seed", type=in_range(int, 0), default=0, help="of the draws of the interval")
    add_options(parser, Device)
    return parser


def false_alarms(inside: np.ndarray, outside: np.ndarray, recall: float) -> float:
    """Share of the scores `outside` [M] that reach the highest threshold which `recall` of those `inside` [N] reach."""
    place = min(len(inside) - 1, int(np.floor((1 - recall) * len(inside) + 1e-9)))
    return float((outside >= np.sort(inside)[place]).mean())


def drawn_alarms(
    inside: np.ndarray, outside: np.ndarray, recall: float, draws: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """`false_alarms` of each draw of the clips [R]; the draws are counts of each clip, [R, N] and [R, M]."""
    return np.array(
        [
            false_alarms(np.repeat(inside, ins), np.repeat(outside, outs), recall)
            for ins, outs in zip(*draws, strict=True)
        ]
    )


def scores_of(chances: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """The highest probability of a label, `other` apart: [N, C] -> [N]."""
    from synthio.classification.other import OTHER

    return chances[:, [label != OTHER for label in labels]].max(axis=1)


def probabilities_of(
    folder: Path,
    paths: Sequence[str],
    csv: str,
    cache_folder: str,
    models: Mapping[str, str],
    device: str,
    batch_size: int,
) -> np.ndarray:
    """What a saved classifier of either kind says of clips, [N, C]; `models` as in `saved_probabilities`."""
    from synthio.classification.metrics import probabilities
    from synthio.classification.pool import is_pool
    from synthio.classification.saved import load_saved, saved_probabilities
    from synthio.classification.training import predict_clips

    if is_pool(folder / "model"):
        return saved_probabilities(folder / "model", paths, cache_folder, csv, models, device)[0]
    model, norm = load_saved(folder / "model", device)
    multi_label = model.config.problem_type == "multi_label_classification"
    return probabilities(predict_clips(model, norm, paths, csv, batch_size, device), multi_label)


def compare(
    inside: Sequence[np.ndarray], outside: Sequence[np.ndarray], units: tuple[Units, Units], recall: float, seed: int
) -> dict[str, Any]:
    """False alarms of two classifiers on the same clips, for a JSON file.

    Args:
        inside: scores of the test clips by each [N].
        outside: those of the foreign clips [M].
        units: what is drawn of both.
        recall: share of the test clips that is called.
        seed: of the draws.
    """
    from synthio.classification.intervals import RESAMPLES, draw_counts, interval, told

    draws = (draw_counts(units[0], RESAMPLES, seed), draw_counts(units[1], RESAMPLES, seed + 1))
    few = min(units, key=lambda one: one.count)
    values = [false_alarms(x, y, recall) for x, y in zip(inside, outside, strict=True)]
    drawn = [drawn_alarms(x, y, recall, draws) for x, y in zip(inside, outside, strict=True)]
    found: dict[str, Any] = {
        name: {"false_alarms": value, "interval_95": list(interval([value], [some], [few]))}
        for name, value, some in zip(NAMES, values, drawn, strict=True)
    }
    limits = interval([values[1] - values[0]], [drawn[1] - drawn[0]], [few], -1)
    words = {"better": "more", "worse": "fewer"}  # a higher share is no gain
    said = told(*limits)
    found["difference"] = {"false_alarms": values[1] - values[0], "interval_95": list(limits)}
    found["difference"]["told"] = words.get(said, said)
    return found | {"recall": recall, "clips": {"test": len(inside[0]), "foreign": len(outside[0])}}


def lines_of(record: dict[str, Any]) -> list[str]:
    """What the end of a run says of it."""
    said = [
        f"{100 * record[name]['false_alarms']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        for name in NAMES
        for low, high in [record[name]["interval_95"]]
    ]
    cost = record["cost"]
    low, high = cost["interval_95"]
    return [
        f"false alarms at {100 * record['recall']:.0f} % recall, on {record['clips']['foreign']} foreign sounds: "
        f"{said[0]}, with the label other {said[1]}; {record['difference']['told']}",
        f"{record['metric']} on the test clips with it: {100 * cost['difference']:+.1f} points "
        f"({100 * low:+.1f} to {100 * high:+.1f})",
    ]


def main() -> int:
    args = get_parser().parse_args()
    quiet_libraries()
    set_threads()
    from synthio.classification.intervals import units_of
    from synthio.classification.scored import pair, read_scores, truth_and_probabilities
    from synthio.files import sha256_file, write_json
    from synthio.manifest import PATH, read_manifest, versions

    foreign, device = read_manifest(args.foreign_csv), pick_device(args.device)
    folders = [Path(args.before), Path(args.after)]
    scores = [read_scores(f"{n}={folder / 'scores.json'}") for n, folder in zip(NAMES, folders, strict=True)]
    paths = list(foreign[PATH])
    models = {"ast": args.ast_model, "clap": args.clap_model}
    asked = (paths, args.foreign_csv, args.cache_folder, models, device, args.batch_size)
    inside = [scores_of(truth_and_probabilities(one)[1], one["labels"]) for one in scores]
    outside = [
        scores_of(probabilities_of(folder, *asked), one["labels"]) for folder, one in zip(folders, scores, strict=True)
    ]
    units = (units_of(scores[0]["predictions"]), units_of(foreign))
    record = compare(inside, outside, units, args.recall, args.seed)
    record |= {"metric": scores[0]["metric"], "cost": pair(scores[1], scores[0], args.seed).record()}
    record |= {"options": vars(args), "inputs": {args.foreign_csv: sha256_file(args.foreign_csv)}}
    write_json(args.output_json, record | {"versions": versions()})
    print("\n".join(lines_of(record)))
    return 0


if __name__ == "__main__":
    run_main(main)
