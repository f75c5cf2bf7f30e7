"""Show a finished run as one HTML file that opens offline: scores, pictures, sounds, and what was run.

    python -m synthio.report.page --work W --output W/report.html

It is made of the files that the stages wrote; the one thing it computes anew is the map of CLAP embeddings, which are
kept in W/embeddings. A section whose files are not there (no preference training, no filter, no synthetic clips) is
left out. Labels, captions and file names are text in it, whatever they hold; the page allows no script but its own, in
which clips are kept, dropped and relabelled by ear (synthio.data.review).
"""

from __future__ import annotations

import functools
import math
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthio.cli import UserError, new_parser, quiet_libraries, run_main, set_threads
from synthio.manifest import PROBABILITY
from synthio.options import ReportClips, add_options, from_args, option
from synthio.report.gallery import CLIP_SECONDS, KINDS, cards_of, doubtful_clips, draw_clips, render, told

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from synthio.report.run_folder import Method, Run

TEMPLATE = "report.html.j2"
MAP_CLIPS = 200  # more dots would hide each other
MAP_SECONDS = 10  # of a clip that the map hears
MAP_MODEL_MB = 100  # a larger CLAP takes minutes on a CPU
MAX_PHRASES = 24  # of a label that are listed
MAX_OPTION_LETTERS = 300
SCORE_NAMES = {"clap_score": "CLAP score (cosine)", PROBABILITY: "sigmoid(scale × cosine)"}
DPO_CURVES = {"loss": ("loss", 0.6931), "accuracy": ("implicit accuracy", 0.5), "margin": ("reward margin", 0.0)}


@dataclass(frozen=True)
class PageOptions(ReportClips):
    """What the page shows of the run, and how large it may become."""

    clip_seconds: float = option(CLIP_SECONDS, "of each, at most", low=0.1, high=60)
    max_megabytes: float = option(20.0, "size of the file, at most", low=1)
    map: str = option(
        "auto",
        f"embed up to {MAP_CLIPS} clips; auto: if CLAP is a folder here of at most {MAP_MODEL_MB} MB",
        choices=("auto", "true", "false"),
    )


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--work", required=True, help="the run's folder, <results_root>/<dataset_name>")
    parser.add_argument("--output", default="", help="the HTML file; empty: report.html in that folder")
    add_options(parser, PageOptions)
    return parser


@dataclass(frozen=True)
class Picture:
    """A figure with its heading and its description for those who cannot see it; a wide one scrolls on a phone."""

    title: str
    uri: str
    alt: str
    width_px: int
    is_wide: bool = False


def picture(plot, width_in: float, height_in: float, title: str, alt: str) -> Picture:
    """Draw `plot(axes)`."""
    from synthio.report.figures import as_svg

    return Picture(title, as_svg(plot, width_in, height_in), alt, round(96 * width_in), width_in > 5)


# What was run


def shown_value(value: object, work: Path) -> str:
    """An option as the page shows it: a path from the run's folder, or its end; the machine's folders are nobody's."""
    if isinstance(value, list):
        return ", ".join(shown_value(part, work) for part in value)
    text = str(value)
    if text.startswith("/"):
        path, base = Path(text), work.absolute().parent
        text = str(path.relative_to(base)) if path.is_relative_to(base) else "…/" + "/".join(path.parts[-2:])
    return text if len(text) <= MAX_OPTION_LETTERS else text[:MAX_OPTION_LETTERS] + "…"


def options_of(run: Run) -> list[dict[str, Any]]:
    """Each stage with its options, defaults too."""
    stages = [(name, record.get("options", {})) for name, record in run.records.items()]
    return [
        {"name": name, "options": [(option, shown_value(value, run.work)) for option, value in options.items()]}
        for name, options in stages
        if options
    ]


def timings_of(run: Run) -> dict[str, Any]:
    """Seconds of each stage, and its share of the longest in percent."""
    longest = max((row["seconds"] for row in run.timings), default=0) or 1
    rows = [row | {"share": round(100 * row["seconds"] / longest)} for row in run.timings]
    return {"rows": rows, "total": sum(row["seconds"] for row in run.timings)}


def rounds_of(run: Run) -> list[dict[str, Any]]:
    """Counts of each round, and why clips were rejected, the commonest reason first."""
    rows = []
    for part in run.rounds:
        reasons = Counter(re.sub(r"-?\d[\d.]*(e[+-]?\d+)?", "…", reason) for reason in part.rejected.get("reason", []))
        kept, rejected = len(part.kept), len(part.rejected)
        rows.append(
            {"number": part.number, "name": part.name, "made": kept + rejected, "kept": kept, "rejected": rejected}
            | {"reasons": reasons.most_common(8), "is_filtered": bool(part.record)}
        )
    return rows


# Scores


def scores_of(run: Run) -> dict[str, Any]:
    """The table of scores, in percent, and its picture."""
    from synthio.report.figures import plot_scores
    from synthio.report.results import score_rows, scored_on

    metric = run.methods[0].summary["metric"]
    header, rows = score_rows([method.summary for method in run.methods])
    points = [
        (method.name, *(100 * value for value in (method.summary[metric], *method.summary["interval_95"])))
        for method in run.methods
    ]
    alt = "; ".join(f"{name} {value:.1f} %, {low:.1f} to {high:.1f}" for name, value, low, high in points)
    drawn = picture(lambda axes: plot_scores(axes, points, metric), 4.6, 0.8 + 0.4 * len(points), "", alt)
    summary = run.methods[0].summary
    about = {"clips": summary["test"]["clips"], "scored_on": scored_on(summary)}
    return {"header": header, "rows": rows, "picture": drawn, **about}


def compared_of(run: Run) -> dict[str, Any]:
    """The table of all that was trained."""
    from synthio.report.comparison import comparison_rows

    if not run.compared:
        return {}
    header, rows = comparison_rows(run.compared, run.methods[0].summary["metric"])
    return {"header": header, "rows": rows}


def calibrations_of(run: Run) -> list[dict[str, Any]]:
    """How far the probabilities of each method can be believed: a picture, and the errors before and after."""
    from synthio.report.figures import plot_reliability

    found = []
    for method in run.methods:
        record = method.scores.get("calibration")
        if not record:
            continue
        errors = {when: {key: f"{record[when][key]:.3f}" for key in ("ece", "brier")} for when in ("before", "after")}
        alt = (
            f"Reliability of {method.name}: share of right answers by confidence, expected calibration error "
            f"{errors['before']['ece']} before and {errors['after']['ece']} after calibration."
        )
        curves = {f"{when} calibration": record[when]["reliability"] for when in ("before", "after")}
        draw = functools.partial(plot_reliability, curves=curves)
        found.append({"picture": picture(draw, 4.0, 3.4, method.name, alt), "name": method.name, "errors": errors})
    return found


def confusions_of(run: Run) -> list[dict[str, Any]]:
    """For each single-label method its matrix and the commonest mistakes."""
    import numpy as np

    found = []
    for method in run.methods:
        if "confusion" not in method.scores:
            continue
        labels = method.scores["confusion"]["labels"]
        counts = np.array(method.scores["confusion"]["rows_true_columns_predicted"])
        found.append({"picture": confusion_picture(method.name, counts, labels), "mistakes": mistakes(counts, labels)})
    return found


def confusion_picture(name: str, counts: np.ndarray, labels: Sequence[str]) -> Picture:
    """The matrix, as large as its labels need."""
    from synthio.report.figures import plot_confusion

    size = min(9.0, 2.3 + 0.26 * len(labels))
    alt = f"Confusion matrix of {name}: {counts.trace()} of {counts.sum()} test clips are on the diagonal."
    return picture(lambda axes: plot_confusion(axes, counts, labels), max(4.0, size), max(3.7, size), name, alt)


def mistakes(counts: np.ndarray, labels: Sequence[str], most: int = 5) -> list[tuple[str, str, int]]:
    """(true, predicted, clips) of the cells off the diagonal with the most clips."""
    cells = [
        (labels[i], labels[j], int(counts[i, j])) for i in range(len(labels)) for j in range(len(labels)) if i != j
    ]
    return [cell for cell in sorted(cells, key=lambda cell: -cell[2])[:most] if cell[2]]


def gains_of(run: Run) -> dict[str, Any]:
    """F1 of each class and method in percent, and what the last method gained on the first; largest gain first."""
    from synthio.report.figures import MAX_ROWS, plot_gains, row_height

    if len(run.methods) < 2:
        return {}
    by_class = [{row["label"]: row for row in method.scores["per_class"]} for method in run.methods]
    rows = []
    for label, first in by_class[0].items():
        f1 = [100 * scores[label]["f1"] for scores in by_class if label in scores]
        if len(f1) == len(by_class):
            rows.append({"label": label, "clips": first["clips"], "f1": f1, "gain": f1[-1] - f1[0]})
    rows.sort(key=lambda row: (-row["gain"], row["label"]))
    half = MAX_ROWS // 2
    drawn = rows if len(rows) <= MAX_ROWS else rows[:half] + rows[-half:]
    names, gains = [row["label"] for row in drawn], [row["gain"] for row in drawn]
    title = "" if drawn is rows else f"The {half} largest gains and the {half} largest losses"
    better = sum(row["gain"] > 0 for row in rows)
    alt = f"Gain in F1 by class: {better} of {len(rows)} classes gained. The numbers are in the table."
    made = picture(lambda axes: plot_gains(axes, names, gains), 4.6, row_height(len(names)), title, alt)
    return {"rows": rows, "picture": made, "last": run.methods[-1].name, "first": run.methods[0].name}


# Training


def curves_of(trainings: Sequence[Method]) -> list[Picture]:
    """Losses and validation score of AST over its steps; the chosen step is marked."""
    from synthio.report.figures import plot_curves

    known = ("step", "alpha")  # the second is in the table of options
    columns = dict.fromkeys(name for one in trainings for name in one.history.columns if name not in known)
    chosen = {one.name: one.scores.get("best_step") for one in trainings}
    pictures = []
    for column in columns:
        curves = {
            one.name: (one.history["step"].to_numpy(), one.history[column].to_numpy())
            for one in trainings
            if column in one.history
        }
        title = column.replace("_", " ").replace("valid", "validation").replace("train ", "training ")
        alt = f"{title} by step; last values: " + ", ".join(f"{n} {v[-1]:.3g}" for n, (_, v) in curves.items())
        marks = chosen if column.startswith("valid") else {}
        draw = functools.partial(plot_curves, curves=curves, name=title, best=marks, axis="step")
        pictures.append(picture(draw, 4.2, 2.8, "", alt))
    return pictures


def dpo_of(run: Run) -> list[Picture]:
    """The curves of preference training."""
    from synthio.report.figures import plot_noisy

    pictures = []
    for stage, history in run.dpo.items():
        for column, (name, start) in DPO_CURVES.items():
            if column not in history or history[column].isna().any() or history.empty:
                continue
            steps, values = history["step"].to_numpy(), history[column].to_numpy()
            title = name if len(run.dpo) == 1 else f"{stage}: {name}"
            last = values[-max(1, len(values) // 5) :].mean()
            alt = (
                f"{title} over {len(steps)} steps; mean of the last fifth {last:.3g}, {start:g} without any preference"
            )
            pictures.append(
                picture(
                    lambda axes, s=steps, v=values, t=title, c=start: plot_noisy(axes, s, v, t, c), 4.2, 2.8, "", alt
                )
            )
    return pictures


# Captions


def captions_of(run: Run) -> list[dict[str, Any]]:
    """For each label what was heard with it and the prompts that were written."""
    from synthio.report.run_folder import prompts_of

    prompts = prompts_of(run)
    found = []
    for label in sorted(run.pools.keys() | prompts.keys()):
        lists = {"prompts": prompts.get(label, []), **run.pools.get(label, {})}
        cut = {
            name: {"shown": all_[:MAX_PHRASES], "more": max(0, len(all_) - MAX_PHRASES)} for name, all_ in lists.items()
        }
        found.append({"label": label, "lists": {name: part for name, part in cut.items() if part["shown"]}})
    return [row for row in found if row["lists"]]


# Scores of the filter


def limits_of(record: Mapping[str, Any], classes: Sequence[str]) -> tuple[str, dict[str, float]]:
    """(name of the score that the filter decided by, least score of a kept clip for each class that has one)."""
    if "thresholds" in record:
        limits = {name: float(limit["value"]) for name, limit in record["thresholds"].items() if name in classes}
        return record["score"], limits
    limit = record.get("threshold_as_cosine")
    return "clap_score", dict.fromkeys(classes, limit) if limit is not None and math.isfinite(limit) else {}


def distribution_of(run: Run, clips: pd.DataFrame) -> Picture | None:
    """The filter's scores by class with the threshold of its last round; of many classes those that lost most clips."""
    from synthio.manifest import LABEL, prompt_cells, split_labels
    from synthio.report.figures import MAX_ROWS, plot_distribution, row_height

    records = [part.record for part in run.rounds if part.record]
    if not records:
        return None
    # a row for each label of a clip, as the filter goes by labels
    of_labels = clips.assign(**{LABEL: list(map(split_labels, prompt_cells(clips)))}).explode(LABEL)
    column, limits = limits_of(records[-1], sorted(set(of_labels[LABEL])))
    scored = of_labels[of_labels[column] != ""] if column in clips else of_labels.iloc[:0]
    if scored.empty:
        return None
    lost = (scored["kind"] == "rejected").groupby(scored[LABEL]).mean().sort_values(ascending=False, kind="stable")
    names = sorted(lost.index[:MAX_ROWS])
    values = {
        name: {k: scored[column][(scored[LABEL] == name) & (scored["kind"] == k)].to_numpy(float) for k in KINDS}
        for name in names
    }
    counts = clips["kind"][clips[column] != ""].value_counts()
    alt = f"{column} by class: " + ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if kind in counts)
    title = "" if len(lost) <= MAX_ROWS else f"The {MAX_ROWS} of {len(lost)} classes that lost most"
    name = SCORE_NAMES.get(column, column.replace("_", " "))
    height = row_height(len(names)) + 0.3
    return picture(lambda axes: plot_distribution(axes, values, limits, name), 5.0, height, title, alt)


# Map


def why_no_map(run: Run, choice: str) -> str:
    """The reason why there is no map of embeddings, or "" if there can be one."""
    models = [part.record["options"]["model"] for part in run.rounds if part.record]
    if choice == "false":
        return "It was not asked for."
    if not run.rounds:
        return "There are no synthetic clips."
    if not models:
        return "No CLAP model was used in this run."
    if not Path(models[-1]).is_dir():
        return "The CLAP model of the run is not a folder on this machine."
    size = sum(path.stat().st_size for path in Path(models[-1]).rglob("*") if path.is_file()) / 1e6
    if choice == "auto" and size > MAP_MODEL_MB:
        return f"The CLAP model has {size:.0f} MB, which takes long on a CPU; --map true draws it all the same."
    return ""


def hear(paths: Mapping[str, str], scorer) -> dict[str, np.ndarray]:
    """Key -> unit vector [E] of the first seconds of each clip (key -> path) that can be read."""
    from synthio.audio import BadAudio, read_audio

    found: dict[str, np.ndarray] = {}
    batch: dict[str, np.ndarray] = {}
    for number, (key, path) in enumerate(paths.items(), 1):
        try:
            audio, rate = read_audio(path, scorer.sample_rate)
            batch[key] = audio[:, : MAP_SECONDS * rate]
        except BadAudio:
            pass  # map_of says how many
        if batch and (len(batch) == 16 or number == len(paths)):
            found |= dict(zip(batch, scorer.embed_audio(list(batch.values())), strict=True))
            batch = {}
    return found


def embed(clips: pd.DataFrame, folder: Path, model: str) -> tuple[np.ndarray, list[int], dict[str, np.ndarray]]:
    """(unit vectors [N, E], rows [N] of the clips that can be read, label -> unit vector [E] of its prompt).

    What was embedded before comes from the folder, so that a page that is made again needs no model.

    Raises:
        UserError: the model cannot be loaded.
    """
    import numpy as np

    from synthio.captions.pools import label_prompt
    from synthio.classification.embeddings import EmbeddingCache
    from synthio.files import sha256_file, sha256_value
    from synthio.manifest import PATH, prompt_cells
    from synthio.models.load import load_scorer

    cache = EmbeddingCache(folder, f"map_{MAP_SECONDS}s", model)
    texts = {cell: sha256_value(label_prompt(cell)) for cell in sorted(set(prompt_cells(clips)))}
    keys = {row: sha256_file(path) for row, path in clips[PATH].items() if Path(path).is_file()}
    new = {key: clips.at[row, PATH] for row, key in keys.items() if key not in cache.vectors}
    unread = [label for label, key in texts.items() if key not in cache.vectors]
    if new or unread:
        scorer = load_scorer(model, "cpu")
        cache.vectors |= hear(new, scorer)
        said: Sequence[np.ndarray] | np.ndarray = (
            scorer.embed_text([label_prompt(label) for label in unread]) if unread else []
        )
        cache.vectors |= {texts[label]: vector for label, vector in zip(unread, said, strict=True)}
        cache.save()
    rows = [row for row, key in keys.items() if key in cache.vectors]
    vectors = [cache.vectors[keys[row]] for row in rows]
    return np.array(vectors), rows, {label: cache.vectors[key] for label, key in texts.items()}


def project(vectors: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Principal components: points [N, 2] and the share of the variance that each axis has."""
    import numpy as np

    left, values, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    left, values = left[:, :2] * values[:2], values**2
    return left, [float(part) for part in values[:2] / max(values.sum(), 1e-12)]


def add_gold_scores(
    clips: pd.DataFrame,
    vectors: np.ndarray,
    rows: Sequence[int],
    texts: Mapping[str, np.ndarray],
    scale: float | None,
    similarity: str = "cosine",
) -> None:
    """Give the embedded gold clips the scores that the filter gives to generated ones, where these are cosines.

    `scale` is its logit scale.
    """
    from synthio.manifest import SCORE, prompt_cells

    if SCORE not in clips or similarity != "cosine":  # these vectors are unit ones
        return
    cells = dict(zip(clips.index, prompt_cells(clips), strict=True))
    for vector, row in zip(vectors, rows, strict=True):
        if clips.at[row, "kind"] == "gold":
            cosine = float(vector @ texts[cells[row]])
            clips.at[row, SCORE] = f"{cosine:.6f}"
            if PROBABILITY in clips and scale is not None:
                clips.at[row, PROBABILITY] = f"{1 / (1 + math.exp(-scale * cosine)):.6f}"


def map_of(run: Run, clips: pd.DataFrame, choice: str) -> tuple[list[Picture], str]:
    """The map of embeddings by kind and by label, and what is to be said of it: why there is none, or what it lacks.

    Scores the gold clips by the way.
    """
    from synthio.manifest import LABEL
    from synthio.report.figures import plot_map

    reason = why_no_map(run, choice)
    if reason:
        return [], reason
    record = next(part.record for part in reversed(run.rounds) if part.record)
    drawn = draw_clips(clips, MAP_CLIPS)
    try:
        vectors, rows, texts = embed(drawn, run.work / "embeddings", record["options"]["model"])
    except UserError as error:  # one of another environment, say
        print(f"no map: {error}", file=sys.stderr)
        return [], "The CLAP model of the run cannot be loaded here."
    if len(rows) < 3:
        return [], "Fewer than three clips can be read."
    add_gold_scores(clips, vectors, rows, texts, record.get("logit_scale"), record.get("similarity", "cosine"))
    points, shares = project(vectors)
    pictures = []
    for title, column in (("By kind", "kind"), ("By label", LABEL)):
        groups = list(clips.loc[rows, column])
        if len(set(groups)) > 10:
            continue
        alt = f"Map of the CLAP embeddings of {len(rows)} clips, {title.lower()}"
        draw = functools.partial(plot_map, points=points, groups=groups, by_kind=column == "kind", shares=shares)
        pictures.append(picture(draw, 4.6, 4.6, title, alt))
    unread = len(drawn) - len(rows)
    return pictures, f"It lacks {unread} of {len(drawn)} clips, which cannot be read." if unread else ""


# The page


def sections(run: Run, clips: pd.DataFrame, options: PageOptions) -> dict[str, Any]:
    """All that the page shows but for the clips."""
    from synthio.classification.false_alarms import lines_of
    from synthio.report.quality import table
    from synthio.report.run_folder import versions_of

    pictures, map_note = map_of(run, clips, options.map)  # first: it scores the gold clips
    return {
        "title": run.name,
        "remarks": run.remarks,
        "timings": timings_of(run),
        "versions": versions_of(run.records.values()),
        "stages": options_of(run),
        "gold_count": len(run.gold) - run.dropped_gold,
        "rounds": rounds_of(run),
        "scores": scores_of(run),
        "compared": compared_of(run),
        "verdict": run.verdict.splitlines(),
        "false_alarms": lines_of(run.false_alarms) if run.false_alarms else [],
        "calibrations": calibrations_of(run),
        "confusions": confusions_of(run),
        "gains": gains_of(run),
        "distribution": distribution_of(run, clips),
        "quality": table(run.quality) if run.quality else {},
        "dpo": dpo_of(run),
        "captions": captions_of(run),
        "curves": curves_of(run.trainings),
        "map": pictures,
        "map_note": map_note,
        "methods": [method.name for method in run.methods],
        "clip_count": len(clips),
        "clip_seconds": options.clip_seconds,
        "cards": [],
        "doubtful": [],
        "review": review_of(run, clips),
    }


def review_of(run: Run, clips: pd.DataFrame) -> dict[str, Any]:
    """What the page's script is told: the labels, and what was decided before."""
    from synthio.data.review import COLUMNS, named_by
    from synthio.manifest import LABEL, all_labels, has_several_labels

    cells = clips.loc[clips["kind"] == "gold", LABEL].tolist()
    earlier = [named_by(row, run.work) for row in run.review.to_dict("records")]
    return told(run.name, "review.csv", COLUMNS, all_labels(cells), has_several_labels(cells), earlier)


def fill_gallery(page: dict[str, Any], run: Run, clips: pd.DataFrame, options: PageOptions) -> None:
    """Add the clips, as many as the size of the file allows: doubtful ones, those that were decided about, others."""
    doubts = doubtful_clips(clips, run.doubts, options.max_clips // 3)
    others = clips.drop(index=doubts.index)
    decided = set(zip(run.review["sha256"], run.review["label"], strict=True))
    drawn = draw_clips(others, options.max_clips - len(doubts), decided)
    budget = int(options.max_megabytes * 1e6) - len(render(TEMPLATE, page).encode())
    page["doubtful"], left = cards_of(doubts, run.work, options.clip_seconds, budget)
    page["cards"], _ = cards_of(drawn, run.work, options.clip_seconds, left)


def main() -> int:
    args = get_parser().parse_args()
    from synthio.files import write_text
    from synthio.report.run_folder import all_clips, read_run

    quiet_libraries()
    set_threads()
    work, options = Path(args.work), from_args(PageOptions, args)
    output = Path(args.output) if args.output else work / "report.html"
    run = read_run(work)
    clips = all_clips(run)
    page = sections(run, clips, options)
    fill_gallery(page, run, clips, options)
    html = render(TEMPLATE, page)
    size_mb = len(html.encode()) / 1e6
    if size_mb > options.max_megabytes:
        raise UserError(f"{work}: {size_mb:.1f} MB without any clip; raise --max_megabytes")
    write_text(output, html)
    print(f"{output} ({size_mb:.1f} MB, {len(page['cards']) + len(page['doubtful'])} of {len(clips)} clips)")
    return 0


if __name__ == "__main__":
    run_main(main)
