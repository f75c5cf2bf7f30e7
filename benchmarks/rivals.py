#!/usr/bin/env python3
"""Measure the heads beside what anybody would try first, over several draws of training clips.

    python benchmarks/rivals.py --splits dataset_csvs/demo_0 dataset_csvs/demo_1 --num_samples 50 --seeds 0 1

A split is a folder with train.csv, valid.csv and test.csv, as dataset_csvs/prepare.py writes them; each is drawn from
with each seed, or with --paired the first with the first seed and so on. The rivals: SVM (radial basis functions) and
logistic regression of scikit-learn on log-mel statistics, on AST's and on CLAP's embeddings and on both, their strength
chosen by accuracy on the validation clips; and a probe on both with what AST's own head and CLAP's prompts say added at
fixed weights. Prints the mean accuracy of each, its standard deviation over the draws, and the paired difference of the
fusion to it with its standard error.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np

from synthio.classification.script import SPLITS
from synthio.cli import in_range, new_parser, pick_device, quiet_libraries, run_main, set_threads
from synthio.files import EMBEDDED
from synthio.models.classifiers import CLASSIFIER_HELP
from synthio.options import Device, add_options

BANDS, LONGEST = 64, 3000  # of the log-mels; frames
SVM_C, REGRESSION_C = (0.1, 1.0, 10.0), (0.01, 0.1, 1.0)
OWN_SHARE, COSINE_SCALE = 0.5, 5.0  # of the fixed fusions


def add_draw_options(parser) -> None:
    """Which clips are drawn, and the models that hear them."""
    add = parser.add_argument
    add("--splits", nargs="+", type=Path, required=True, help="folders with train.csv, valid.csv and test.csv")
    add("--num_samples", type=in_range(int, 1), default=50, help="training clips to draw, stratified")
    add("--seeds", nargs="+", type=in_range(int, 0), default=[0], help="of the draws")
    add("--paired", action="store_true", help="one seed for each split")
    add("--ast_model", default=str(EMBEDDED / "ast"), help=CLASSIFIER_HELP)
    add("--clap_model", default=str(EMBEDDED / "clap"), help="CLAP folder or hub id")
    add("--cache_folder", required=True, help="folder that keeps embeddings")
    add_options(parser, Device)


def get_parser():
    parser = new_parser(__doc__)
    add_draw_options(parser)
    return parser


def draws(args) -> Iterator[tuple[Path, int]]:
    """(split, seed) of each draw."""
    if args.paired:
        yield from zip(args.splits, args.seeds, strict=True)
    else:
        yield from ((split, seed) for split in args.splits for seed in args.seeds)


def read_draw(split: Path, clips: int, seed: int):
    """(split -> manifest, split -> CSV, labels, split -> targets [N, C]), the training clips drawn as stage 1 does."""
    from stratify_dataset import draw
    from synthio.classification.labels import encode_labels
    from synthio.manifest import LABEL, all_labels, clip_keys, read_manifest

    csvs = {name: str(split / f"{name}.csv") for name in SPLITS}
    tables = {name: read_manifest(csv) for name, csv in csvs.items()}
    pool = tables["train"]
    if clips < len(pool):
        rows = draw(list(pool[LABEL]), clip_keys(pool, csvs["train"]), clips, seed)
        tables["train"] = pool.iloc[sorted(rows)].reset_index(drop=True)
    labels = all_labels(tables["train"][LABEL])
    return tables, csvs, labels, {k: encode_labels(t[LABEL], labels, csvs[k], False) for k, t in tables.items()}


def log_mel_statistics(paths) -> np.ndarray:
    """Mean, deviation, deviation of the change, and the quietest and loudest tenth of each band, [N, 5 * BANDS]."""
    from synthio.classification.training import read_features

    rows = []
    for mel in (mel.numpy() for mel in read_features(list(paths), "the clips", BANDS, LONGEST)):
        change = np.diff(mel, axis=0).std(axis=0) if len(mel) > 1 else np.zeros(BANDS)
        rows.append(np.concatenate([mel.mean(0), mel.std(0), change, *np.quantile(mel, [0.1, 0.9], axis=0)]))
    return np.array(rows)


def plain_scores(x: Mapping[str, np.ndarray], y: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Test accuracy of SVM and logistic regression on features [N, E] of the three splits and their classes [N]."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    kinds = {
        "SVM": [SVC(C=c) for c in SVM_C],
        "logistic regression": [LogisticRegression(C=c, max_iter=2000) for c in REGRESSION_C],
    }
    found = {}
    for name, models in kinds.items():
        fitted = [make_pipeline(StandardScaler(), model).fit(x["train"], y["train"]) for model in models]
        found[name] = max(fitted, key=lambda model: model.score(x["valid"], y["valid"])).score(x["test"], y["test"])
    return found


def side_by_side(heard: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """AST's and CLAP's embeddings of each split, standardised by the training clips, of equal total variance."""
    from sklearn.preprocessing import StandardScaler

    scalers = {kind: StandardScaler().fit(heard["train"][kind]) for kind in ("ast", "clap")}
    return {
        split: np.concatenate([s.transform(x[k]) / np.sqrt(x[k].shape[1]) for k, s in scalers.items()], axis=1)
        for split, x in heard.items()
    }


def fixed_fusions(task, test, truth: np.ndarray) -> dict[str, float]:
    """Test accuracy of the probe on both with fixed shares of what the models know."""
    from scipy.special import log_softmax

    from synthio.classification.heads import fit_head, own_names, zero_shot

    probe = fit_head("probe", task).uncalibrated().logits(test)
    prompts = log_softmax(zero_shot(task).logits(test) / task.scale * COSINE_SCALE, axis=1)
    sums = {"fixed: probe + zero-shot": probe + prompts}
    if task.names_labels:
        own = OWN_SHARE * own_names(task).logits(test)
        sums |= {"fixed: probe + own head": probe + own, "fixed: probe + both": probe + own + prompts}
    return {name: float((logits.argmax(axis=1) == truth).mean()) for name, logits in sums.items()}


def measure(args, listener, split: Path, seed: int) -> dict[str, float]:
    """Method -> test accuracy on one draw."""
    from synthio.classification.heads import fit_head, fittable
    from synthio.classification.metrics import accuracy
    from synthio.classification.tasks import prepare
    from synthio.manifest import PATH

    tables, csvs, labels, targets = read_draw(split, args.num_samples, seed)
    options = {"synthetic_weight": 1.0, "multi_label": False, "seed": seed}
    task = prepare(listener, tables, csvs, targets, labels, **options).task
    test = listener.hear(tables["test"][PATH], csvs["test"])
    found = {name: accuracy(targets["test"], fit_head(name, task).logits(test)) for name in fittable(task)}
    y = {name: matrix.argmax(axis=1) for name, matrix in targets.items()}
    heard = {"train": task.train, "valid": task.valid, "test": test}
    features = {"log-mel": {name: log_mel_statistics(tables[name][PATH]) for name in SPLITS}}
    features |= {kind: {name: x[kind] for name, x in heard.items()} for kind in ("ast", "clap")}
    features["both"] = side_by_side(heard)
    for kind, x in features.items():
        found |= {f"{name}, {kind}": score for name, score in plain_scores(x, y).items()}
    return found | fixed_fusions(task, test, y["test"])


def main() -> int:
    args = get_parser().parse_args()
    quiet_libraries()
    set_threads()
    from synthio.classification.listening import Listener
    from synthio.report.tables import percent, plain_table

    models = {"ast": args.ast_model, "clap": args.clap_model}
    listener, found = Listener(models, args.cache_folder, pick_device(args.device)), defaultdict(list)
    for split, seed in draws(args):
        for name, score in measure(args, listener, split, seed).items():
            found[name].append(score)
    fusion, rows = np.array(found["fusion"]), []
    for name, scores in found.items():
        gains, count = fusion - np.array(scores), len(scores)
        spread = [percent(float(np.std(x, ddof=1)) if count > 1 else 0.0) for x in (scores, gains / np.sqrt(count))]
        rows.append([name, percent(float(np.mean(scores))), spread[0], percent(float(gains.mean()), "+"), spread[1]])
    header = ["method", "accuracy", "std", "fusion less this", "standard error"]
    print(f"{len(fusion)} draws of {args.num_samples} clips\n{plain_table(header, rows)}")
    return 0


if __name__ == "__main__":
    run_main(main)
