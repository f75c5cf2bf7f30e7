"""Will it help these labels? What synthetic clips and more recordings would bring, measured in minutes: --advise.

    python -m synthio.report.advise --gold_csv W/train_50.csv --valid_csv W/checked/valid.csv \\
        --made_csv W/advise/generated.csv --output_json W/advise.json --cache_folder W/embeddings

The made clips are some of each label, from the prompt "Sound of a <label>". For each label: how well the best head
tells it on gold clips that it has not heard, how much better with the made clips among its training clips, whether a
head that has not heard the made clips names them, the name nearest to the label among those that AST was pretrained on,
and how the error falls with more recordings. From that comes an advice: synthesise, record about so many more, or
nothing to gain. Beside the JSON lies a .txt, which run.sh prints. Test clips are not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthio.classification.options import HEADS_ALONE, Recipe
from synthio.classification.script import Hearing
from synthio.cli import UserError, new_parser, pick_device, printable, quiet_libraries, run_main, set_threads
from synthio.files import EMBEDDED
from synthio.models.classifiers import CLASSIFIER_HELP, called
from synthio.models.load import SCORER_HELP
from synthio.options import Device, add_options, from_args, option

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from synthio.classification.heads import Task
    from synthio.classification.intervals import Units
    from synthio.classification.learning_curve import Curve
    from synthio.classification.listening import Listener
    from synthio.classification.trials import Made, Trial
    from synthio.report.advice import Gain

HEADS = ("fusion", "probe")  # that learn from training clips; `classifier=auto` starts from them
DRAWS = 3  # how often clips are dealt into folds anew,
CLIPS_HEARD = 300  # unless more gold clips than these would be learnt from in all
WORTH = 4.0  # clips of all labels that a label's own error is drawn towards
RESAMPLES = 1000


@dataclass(frozen=True)
class Question:
    """What is asked: the gold task, the made clips, the C labels, and what is drawn as one of gold and valid clips."""

    task: Task
    made: Made
    labels: list[str]
    units: Units


@dataclass(frozen=True)
class AdviceOptions(Hearing, Device):
    """What is heard, by which models."""

    gold_csv: str = option("", "training clips: path, label; group", required=True)
    valid_csv: str = option("", "validation clips", required=True)
    made_csv: str = option("", "clips that were generated for the labels: path, label", required=True)
    classes_csv: str = option("", "CSV whose labels are the classes; empty takes those of the gold clips")
    output_json: str = option("", "output; a .txt with the table lies beside it", required=True)
    ast_model: str = option(str(EMBEDDED / "ast"), CLASSIFIER_HELP)
    clap_model: str = option(str(EMBEDDED / "clap"), SCORER_HELP)

    # those of the classifiers
    seed: int = Recipe.seed
    multi_label: bool = Recipe.multi_label
    synthetic_weight: float | str = Recipe.synthetic_weight

    @property
    def csvs(self) -> dict[str, str]:
        """Set -> its CSV."""
        return {name: getattr(self, f"{name}_csv") for name in ("gold", "valid", "made")}


def get_parser():
    parser = new_parser(__doc__)
    add_options(parser, AdviceOptions)
    add_options(parser, Recipe, only=HEADS_ALONE)
    return parser


def read_tables(options: AdviceOptions) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """The manifests of gold, valid and made clips, and the classes.

    Raises:
        UserError: a table is empty, a clip is not the sound that its CSV was written with, or there is one class.
    """
    from synthio.data.contents import check_contents
    from synthio.manifest import LABEL, all_labels, read_manifest, read_table

    csvs = options.csvs
    tables = {name: read_manifest(csv) for name, csv in csvs.items()}
    for name, table in tables.items():
        check_contents(table, csvs[name])
        if table.empty:
            raise UserError(f"{csvs[name]}: no clips; the {name} data needs at least one")
    classes = read_table(options.classes_csv, [LABEL]) if options.classes_csv else tables["gold"]
    labels = all_labels(classes[LABEL])
    if len(labels) < 2:
        raise UserError(
            f"{options.classes_csv or options.gold_csv}: {len(labels)} class; a classifier needs at least 2"
        )
    return tables, labels


def ask(options: AdviceOptions, listener: Listener) -> Question:
    """Hear all clips, and put them as a task."""
    import pandas as pd

    from synthio.classification.intervals import units_of
    from synthio.classification.labels import encode_labels
    from synthio.classification.tasks import prepare
    from synthio.classification.trials import Made
    from synthio.manifest import LABEL, PATH

    (tables, labels), csvs = read_tables(options), options.csvs
    targets = {n: encode_labels(t[LABEL], labels, csvs[n], options.multi_label) for n, t in tables.items()}
    task = prepare(
        listener,
        {"train": tables["gold"], "valid": tables["valid"]},
        {"train": csvs["gold"], "valid": csvs["valid"]},
        {"train": targets["gold"], "valid": targets["valid"]},
        labels,
        synthetic_weight=1.0,  # of none: gold clips alone
        multi_label=options.multi_label,
        seed=options.seed,
    ).task
    made = Made(listener.hear(tables["made"][PATH], csvs["made"]), targets["made"])
    units = units_of(pd.concat([tables["gold"], tables["valid"]], ignore_index=True).fillna(""))
    return Question(task, made, labels, units)


# ---- what is measured


def gains_of(trial: Trial, question: Question, seed: int) -> tuple[Gain, list[Gain]]:
    """The gain of made clips: of all labels together, and of each."""
    import numpy as np

    from synthio.classification.intervals import draw_counts, mean_of_cells
    from synthio.report.advice import class_gains, label_errors, whole_gain

    units, count = question.units, len(question.labels)
    least = 1 / max(units.count, 1)  # as if of all units one could be another
    draws = draw_counts(units, RESAMPLES, seed)[:, trial.clip].astype(float)
    drawn = [draws @ gain / np.maximum(draws.sum(axis=1), 1) for gain in trial.gain]
    if units.count < 2:
        mean, error = float(trial.gain.mean()), 1.0  # of one recording nothing can be told
    else:
        mean, samples = mean_of_cells(trial.gain.mean(axis=1), drawn, [units] * len(drawn))
        error = float(np.hypot(samples.std(ddof=1), least))
    whole, values = whole_gain(mean, error), trial.gain.mean(axis=0)
    number = np.bincount(trial.label, minlength=count)
    means = np.bincount(trial.label, values, count) / np.maximum(number, 1)
    errors = label_errors(values, trial.label, units.of_clip[trial.clip], count, least)
    return whole, class_gains(np.where(number > 0, means, whole.mean), errors, whole)


def curve_of(trial: Trial, question: Question, seed: int) -> Curve | None:
    """The learning curve of all labels together; None where there are too few clips for two sizes."""
    import numpy as np

    from synthio.classification.intervals import draw_counts
    from synthio.classification.learning_curve import USUAL_EXPONENT, fit_curve, shrunk_error

    sizes, first = np.unique(np.round(trial.sizes, 6), return_index=True)
    if len(sizes) < 2:
        return None
    draws = draw_counts(question.units, RESAMPLES, seed)[:, trial.clip].astype(float)
    draws = np.concatenate([np.ones((1, len(trial.clip))), draws])
    counted = np.maximum(draws.sum(axis=1, keepdims=True), 1)
    errors = 1 - draws @ trial.right[first].T / counted
    return fit_curve(list(sizes), shrunk_error(errors, counted, 0.5, 1.0), USUAL_EXPONENT)


def label_errors_now(trial: Trial, labels: int, curve: Curve | None, clips: int) -> tuple[float, np.ndarray]:
    """(error of all labels, of each [C]) as expected with all gold clips, not with a fold less."""
    import numpy as np

    from synthio.classification.learning_curve import shrunk_error

    wrong = 1 - trial.right[-1]
    number = np.bincount(trial.label, minlength=labels)
    each = np.bincount(trial.label, wrong, labels) / np.maximum(number, 1)
    fall = 1.0 if curve is None else float((clips / trial.sizes[-1]) ** -curve.exponent[0])
    return fall * float(wrong.mean()), fall * shrunk_error(each, number, float(wrong.mean()), WORTH)


def known_before(question: Question) -> tuple[str, np.ndarray]:
    """(better head that learns from no clip, share of gold and valid clips of each label that it tells right [C])."""
    import numpy as np

    from synthio.classification.heads import UNTRAINED, fit_head, fittable, with_valid
    from synthio.classification.probe import surprise
    from synthio.classification.trials import told_right

    task = question.task
    united = with_valid(task)
    logits = {name: fit_head(name, task).logits(united.train) for name in fittable(task) if name in UNTRAINED}
    best = min(logits, key=lambda name: surprise(logits[name], united.targets, task.multi_label).mean())
    right = told_right(logits[best], united.targets, task.multi_label)
    return best, right.sum(axis=0) / np.maximum(united.targets.sum(axis=0), 1)


def nearest_names(labels: Sequence[str], listener: Listener) -> list[dict[str, Any] | None]:
    """For each label, the name that AST was pretrained on whose words are the same, or whose prompts are nearest."""
    import numpy as np

    from synthio.classification.naming import match_names

    names = listener.names
    if not names:
        return [None] * len(labels)
    cosines = listener.label_vectors(labels) @ listener.label_vectors(names).T
    known = match_names(labels, names)
    found: list[dict[str, Any] | None] = []
    for row, members in zip(cosines, known, strict=True):
        among = np.flatnonzero(members) if members.any() else np.arange(len(names))
        best = int(among[row[among].argmax()])
        found.append({"name": names[best], "cosine": float(row[best]), "same_words": bool(members.any())})
    return found


def named_clips(question: Question, head: str) -> list[dict[str, Any] | None]:
    """Of each label's made clips, how many a head of the gold clips gives it first; None where there are none."""
    from synthio.classification.heads import fit_head
    from synthio.classification.trials import named_right
    from synthio.report.advice import interval_of_share

    right = named_right(fit_head(head, question.task), question.made)
    found: list[dict[str, Any] | None] = []
    for column in question.made.targets.T:
        of = int(column.sum())
        hits = int(right[column > 0].sum())
        found.append({"named": hits, "of": of, "interval_95": list(interval_of_share(hits, of))} if of else None)
    return found


# ---- the record


def record_of(question: Question, listener: Listener, synthetic_weight: float | str, seed: int) -> dict[str, Any]:
    """All that is said, as JSON can keep it."""
    from synthio.classification.learning_curve import USUAL_EXPONENT
    from synthio.classification.trials import measure

    task = question.task
    clips = len(task.targets)
    draws = max(1, min(DRAWS, CLIPS_HEARD // clips))
    trial = measure(task, question.made, HEADS, synthetic_weight, draws)
    curve = curve_of(trial, question, seed)
    whole, each = gains_of(trial, question, seed)
    error, errors = label_errors_now(trial, len(question.labels), curve, clips)
    best, known = known_before(question)
    exponent = USUAL_EXPONENT[0] if curve is None else float(curve.exponent[0])
    generator, nearest = named_clips(question, trial.head), nearest_names(question.labels, listener)
    gold = task.targets.sum(axis=0)
    rows = [
        {
            "label": label,
            "clips": int(gold[i]),
            "score": 1 - float(errors[i]),
            "known_before": float(known[i]),
            "generator": generator[i],
            "nearest": nearest[i],
            **said(each[i], float(errors[i]), max(float(gold[i]), 1.0), exponent, generator[i] is None),
        }
        for i, label in enumerate(question.labels)
    ]
    return {
        "metric": "area under the curve" if task.multi_label else "accuracy",
        "head": trial.head,
        "called": called(listener.models["ast"]),
        "losses": trial.losses,
        "knows_before": best,
        "clips": {"gold": clips, "valid": len(task.valid_targets), "made": len(question.made.targets)},
        "resampled": question.units.record(),
        "draws": draws,
        "folds": len(trial.weights),
        "synthetic_weights": trial.weights.tolist(),
        "curve": curve_record(trial, curve, clips),
        "overall": {"score": 1 - error, **said(whole, error, clips, exponent, False)},
        "labels": rows,
    }


def said(gain: Gain, error: float, clips: float, exponent: float, unasked: bool) -> dict[str, Any]:
    """Gain and advice."""
    from synthio.report.advice import advise

    advice = advise(gain, error, clips, exponent, unasked)
    return {
        "gain": gain.mean,
        "gain_interval_95": list(gain.interval),
        "advice": advice.text,
        "record": advice.clips,
        "reason": advice.reason,
    }


def curve_record(trial: Trial, curve: Curve | None, clips: int) -> dict[str, Any] | None:
    """Sizes and scores that were measured, and what the power law says of twice and four times the gold clips."""
    import numpy as np

    if curve is None:
        return None

    def bounds(values: np.ndarray) -> list[float]:
        return [float(x) for x in np.percentile(values[1:], [2.5, 97.5])]

    expected = [
        {"clips": n, "score": float(1 - curve.error(n)[0]), "interval_95": bounds(1 - curve.error(n))}
        for n in (clips, 2 * clips, 4 * clips)
    ]
    return {
        "measured": [
            {"clips": float(n), "score": float(r.mean())} for n, r in zip(trial.sizes, trial.right, strict=True)
        ],
        "exponent": float(curve.exponent[0]),
        "exponent_interval_95": bounds(curve.exponent),
        "expected": expected,
    }


# ---- in print


def text_of(record: Mapping[str, Any]) -> str:
    """The table and the lines under it."""
    from synthio.report.tables import percent, plain_table, with_interval

    header = [
        "label",
        "gold clips",
        "told right",
        "models alone",
        "generator",
        "nearest known",
        "gain (95 %)",
        "advice",
    ]
    lines = []
    for row in record["labels"]:
        made, near = row["generator"], row["nearest"]
        lines.append(
            [
                row["label"],
                str(row["clips"]),
                percent(row["score"]),
                percent(row["known_before"]),
                f"{made['named']} of {made['of']}" if made else "-",
                (near["name"] if near["same_words"] else f"{near['name']} ({near['cosine']:.2f})") if near else "-",
                with_interval(row["gain"], row["gain_interval_95"], "+"),
                row["advice"],
            ]
        )
    return printable("\n".join([plain_table(header, lines), "", *overall_lines(record)])) + "\n"


def overall_lines(record: Mapping[str, Any]) -> list[str]:
    """What holds for all labels together."""
    from synthio.classification.heads import title_of
    from synthio.report.tables import with_interval

    whole, curve, clips = record["overall"], record["curve"], record["clips"]
    lines = [
        f"best head: {title_of(record['head'], record)}, {clips['gold']} gold clips, {clips['made']} generated ones, "
        f"{record['folds']} folds of {clips['gold'] + clips['valid']} gold and validation clips"
    ]
    if curve is None:
        lines.append("learning curve: not to be told, there are too few gold clips")
    else:
        parts = [f"{at['clips']}: {with_interval(at['score'], at['interval_95'])}" for at in curve["expected"]]
        lines.append(f"{record['metric']} expected by number of gold clips: {', '.join(parts)}")
    gain = with_interval(whole["gain"], whole["gain_interval_95"], "+")
    refused = sum(weight == 0 for weight in record["synthetic_weights"])
    left_out = f"; validation clips left them out in {refused} of {record['folds']} folds" if refused else ""
    lines.append(f"synthetic clips, all labels: {gain} points{left_out}")
    return [*lines, f"advice for all labels: {whole['advice']}: {whole['reason']}"]


def main() -> int:
    args = get_parser().parse_args()
    options = from_args(AdviceOptions, args, **{name: getattr(args, name) for name in HEADS_ALONE})
    from synthio.classification.listening import Listener
    from synthio.files import sha256_file, write_json, write_text
    from synthio.manifest import versions

    quiet_libraries()
    set_threads()
    output = Path(options.output_json)
    models = {"ast": options.ast_model, "clap": options.clap_model}
    cache, device = options.cache(str(output.parent)), pick_device(options.device)
    listener = Listener(models, cache, device, options.batch_size)
    record = record_of(ask(options, listener), listener, options.synthetic_weight, options.seed)
    inputs = {csv: sha256_file(csv) for csv in options.csvs.values()}
    write_text(output.with_suffix(".txt"), text_of(record))
    write_json(output, {**record, "inputs": inputs, "options": vars(args), "versions": versions()})
    return 0


if __name__ == "__main__":
    run_main(main)
