"""Measure a run's synthetic clips against real ones: quality.json.

    python -m synthio.report.quality --input_csv W/train_50_synthetic.csv --gold_csv W/train_50.csv \\
        --valid_csv valid.csv --classifier W/classifier/gold_only --output_json W/quality.json

  kad         kernel audio distance (an unbiased MMD) on AST embeddings, a model that filtered nothing: synthetic to
              validation clips, synthetic to gold clips, and gold to validation clips, which is what recordings reach.
              0 for two samples of one distribution, however few they are; `error` is its standard error.
  fad         Fréchet audio distance of the same. It is too large with few clips, so all three are of as many clips a
              set as the smallest has (`clips`). `extrapolated` takes most of that off, and is there only where these
              are more than the embedding has dimensions: below that it cannot.
  diversity   mean cosine distance within a class, and Vendi score, of synthetic and gold clips
  agreement   how often a classifier of gold clips alone hears the label that a clip was made for, beside its accuracy
              on validation clips (which chose its training step); the same by CLAP, which is not independent: it
              filtered the clips
  duplicates  clips that are near-copies (synthio/filtering/likeness.py) of gold, validation or test clips, or of
              another synthetic clip of their class. Of test clips nothing else is read.
  balance     clips of each class, and how even they are
  captions    distinct n-grams of the prompts
  attribution what each part of the method bought: clips without it and with it (synthio/report/attribution.py)
  generators  where there are several: what share of each one's clips the filter kept, and agreement, distances and
              diversity of what it kept (synthio/report/by_generator.py)

Every number but those of attribution and generators is there for each class and for all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthio.cli import (
    UserError,
    new_parser,
    pick_device,
    progress,
    quiet_libraries,
    run_main,
    set_threads,
)
from synthio.files import EMBEDDED
from synthio.filtering.options import FilterOptions
from synthio.models.classifiers import CLASSIFIER_HELP
from synthio.options import Device, Seed, add_options, from_args, option
from synthio.report.again import PartsOptions
from synthio.report.by_generator import lines as generator_lines
from synthio.report.by_generator import shown
from synthio.report.by_generator import table as generator_table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from synthio.report.attribution import Reference

SETS = ("synthetic", "gold", "valid")
NOT_INDEPENDENT = "not independent: it had a say in the filter"


@dataclass(frozen=True)
class QualityOptions(PartsOptions, Device, Seed):
    """What is measured, by which models."""

    input_csv: str = option("", "CSV of merge_csv.py; its rows with source_path are the synthetic clips", required=True)
    gold_csv: str = option("", "the small dataset", required=True)
    valid_csv: str = option("", "validation clips", required=True)
    test_csv: str = option("", "test clips, for duplicates alone; empty: none")
    output_json: str = option("", "output: the measures", required=True)
    ast_model: str = option(str(EMBEDDED / "ast"), "whose embeddings are compared: " + CLASSIFIER_HELP)
    clap_model: str = option("", "CLAP folder or hub id; empty: no agreement by CLAP")
    classifier: str = option(
        "", "output folder of ast/train.py, or of a head of ast/heads.py, on gold clips; empty: none"
    )
    cache_folder: str = option("", "folder that keeps embeddings; empty: embeddings beside the output")
    made_csvs: tuple[str, ...] = option(
        (), "kept clips of each round, to compare generators; none: they are not compared"
    )

    # those of the filter
    classifier_weight: float = FilterOptions.classifier_weight
    duplicate_cosine: float = FilterOptions.duplicate_cosine

    def csv(self, name: str) -> str:
        """The file that a set was read from."""
        return self.input_csv if name == "synthetic" else getattr(self, f"{name}_csv")

    @property
    def cache(self) -> Path:
        """The folder that keeps embeddings."""
        return Path(self.cache_folder or Path(self.output_json).parent / "embeddings")


OF_THE_FILTER = ("classifier_weight", "duplicate_cosine")


def get_parser():
    parser = new_parser(__doc__)
    add_options(parser, QualityOptions)
    add_options(parser, FilterOptions, only=OF_THE_FILTER)
    return parser


def read_tables(options: QualityOptions) -> dict[str, pd.DataFrame]:
    """Set -> its manifest.

    Raises:
        UserError: there is no synthetic clip.
    """
    from synthio.manifest import LABEL, PATH, PROMPT, SOURCE, read_manifest

    merged = read_manifest(options.input_csv, (PATH, LABEL, PROMPT, SOURCE))
    synthetic = merged[merged[SOURCE] != ""].reset_index(drop=True)
    if synthetic.empty:
        raise UserError(
            f"{options.input_csv}: no row has a source_path, so none is synthetic; give the CSV of merge_csv.py"
        )
    return {"synthetic": synthetic, "gold": read_manifest(options.gold_csv), "valid": read_manifest(options.valid_csv)}


def classes_of(table) -> dict[str, np.ndarray]:
    """Class -> its rows: a label, of multi-label data a leaf label."""
    import numpy as np

    from synthio.filtering.thresholds import rows_of_classes
    from synthio.manifest import prompt_cells

    return rows_of_classes(prompt_cells(table), np.ones(len(table), bool))


# Distances and diversity

PAIRS = (("synthetic", "valid"), ("synthetic", "gold"), ("gold", "valid"))


def kad(vectors: Mapping[str, np.ndarray], bandwidth: float) -> dict[str, dict[str, Any]]:
    """Kernel distances between the three sets, whose embeddings are [N, E] each; None where there are too few clips."""
    from synthio.report.quality_metrics import MIN_CLIPS_KERNEL, kernel_distance

    found = {}
    for a, b in PAIRS:
        x, y = vectors[a], vectors[b]
        enough = min(len(x), len(y)) >= MIN_CLIPS_KERNEL
        value, error = kernel_distance(x, y, bandwidth) if enough else (None, None)
        found[f"{a}_to_{b}"] = {"value": value, "error": error, "clips": [len(x), len(y)]}
    return found


def fad(vectors: Mapping[str, np.ndarray], seed: int) -> dict[str, dict[str, Any]]:
    """Fréchet distances between the three sets [N, E], each of as many clips as the smallest has; None below 2.

    `extrapolated` is left out where these are not more than E.
    """
    import numpy as np

    from synthio.report.quality_metrics import MIN_CLIPS, at_equal_size, frechet_extrapolated

    size, found = min(map(len, vectors.values())), {}
    for a, b in PAIRS:
        x, y, rng = vectors[a], vectors[b], np.random.default_rng(seed)
        value = at_equal_size(x, y, size, rng) if size >= MIN_CLIPS else None
        record: dict[str, Any] = {"value": value, "clips": [size, size]}
        if size > x.shape[1]:
            record["extrapolated"] = frechet_extrapolated(rng.permutation(x)[:size], rng.permutation(y)[:size], rng)
        found[f"{a}_to_{b}"] = record
    return found


def diversity(vectors: Mapping[str, np.ndarray], seed: int) -> dict[str, Any]:
    """Mean pairwise distance, and Vendi score at the size of the smaller set, of a class's synthetic and gold clips."""
    import numpy as np

    from synthio.report.quality_metrics import mean_pairwise_distance, vendi_pair

    names = ("synthetic", "gold")
    if min(len(vectors[name]) for name in names) < 2:
        return {"cosine_distance": None, "vendi": None}
    scores = vendi_pair(vectors["synthetic"], vectors["gold"], np.random.default_rng(seed))
    return {
        "cosine_distance": {name: mean_pairwise_distance(vectors[name]) for name in names},
        "vendi": dict(zip(names, scores, strict=True)),
    }


def mean_diversity(classes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the classes that have a value."""
    import numpy as np

    found = {}
    for measure in ("cosine_distance", "vendi"):
        rows = [row["diversity"][measure] for row in classes if row["diversity"][measure]]
        found[measure] = {n: float(np.mean([row[n] for row in rows])) for n in ("synthetic", "gold")} if rows else None
    return found


# Agreement


Judge = Callable[[Sequence[str], str], "tuple[np.ndarray, list[str]]"]


def open_judge(options: QualityOptions, device: str) -> Judge | None:
    """The classifier of the gold clips: (probabilities [N, C], labels) of paths and their CSV; None: there is none."""
    from synthio.classification.pool import is_pool
    from synthio.classification.saved import saved_probabilities
    from synthio.filtering.agreement import class_probabilities, find_model, load

    if not options.classifier:
        return None
    folder = find_model(options.classifier)
    if is_pool(folder):
        return lambda paths, csv: saved_probabilities(folder, paths, options.cache, csv, device=device)
    model, norm = load(folder, device)
    labels = [model.config.id2label[i] for i in range(model.config.num_labels)]
    return lambda paths, csv: (class_probabilities(model, norm, paths, csv, device), labels)


def classifier_scores(options: QualityOptions, tables, judge: Judge):
    """(set -> probabilities [N, C] of synthetic and validation clips, labels) by the classifier of the gold clips."""
    from synthio.manifest import PATH

    found: dict[str, np.ndarray] = {}
    labels: list[str] = []
    for name in ("synthetic", "valid"):
        found[name], labels = judge(tables[name][PATH], options.csv(name))
    return found, labels


def clap_scores(options: QualityOptions, tables, device: str):
    """(set -> cosines [N, C] of clips with "Sound of a <label>", labels): zero-shot classification."""
    from synthio.captions.pools import label_prompt
    from synthio.classification.embeddings import EmbeddingCache, embed_clips
    from synthio.manifest import LABEL, PATH, all_labels
    from synthio.models.load import load_scorer

    labels = all_labels(cell for table in tables.values() for cell in table[LABEL])
    scorer = load_scorer(options.clap_model, device)
    texts = scorer.embed_text([label_prompt(label) for label in labels])
    cache = EmbeddingCache(options.cache, "clap", options.clap_model)
    found = {}
    for name in ("synthetic", "valid"):
        vectors = embed_clips(cache, lambda: scorer, tables[name][PATH], options.csv(name), 16)
        found[name] = vectors @ texts.T
    return found, labels


def hits(options: QualityOptions, tables, scores, labels) -> dict[str, np.ndarray]:
    """Set -> agreement of each clip [N]."""
    from synthio.classification.labels import encode_labels
    from synthio.manifest import LABEL
    from synthio.report.quality_metrics import agreement

    return {
        name: agreement(matrix, encode_labels(tables[name][LABEL], labels, options.csv(name), multi_label=True))
        for name, matrix in scores.items()
    }


def measure_agreement(
    options: QualityOptions, tables, judge: Judge | None, device: str
) -> dict[str, dict[str, np.ndarray]]:
    """Judge -> set -> agreement of each clip."""
    judges = {}
    if judge:
        judges["classifier"] = hits(options, tables, *classifier_scores(options, tables, judge))
    if options.clap_model:
        judges["clap"] = hits(options, tables, *clap_scores(options, tables, device))
    return judges


def judge_notes(options: QualityOptions) -> dict[str, str]:
    """Judge -> whether its opinion is worth something; AST's embeddings are judged by the same."""
    from synthio.classification.pool import is_pool, load_pool
    from synthio.filtering.agreement import find_model

    ast_note = NOT_INDEPENDENT if options.classifier_weight > 0 else "independent of the filter"
    notes = {"ast": ast_note, "classifier": ast_note, "clap": NOT_INDEPENDENT}
    if options.classifier and is_pool(find_model(options.classifier)):
        kinds = {part["kind"] for part in load_pool(find_model(options.classifier))[1]["embeddings"]}
        notes["classifier"] = NOT_INDEPENDENT if "clap" in kinds else ast_note
    return notes


# Duplicates


def spectra_of(paths: Sequence[str], csv: str) -> list[np.ndarray]:
    """The spectral embedding of each clip.

    Raises:
        UserError: a clip cannot be read.
    """
    from synthio.audio import BadAudio
    from synthio.filtering.likeness import read_embedding

    found = []
    for row, path in enumerate(progress(paths, f"duplicates: {Path(csv).name}"), 1):
        try:
            found.append(read_embedding(path))
        except BadAudio as error:
            raise UserError(f"{csv} row {row}: {path}: {error}") from None
    return found


def repeated(spectra: Sequence[np.ndarray], classes: Mapping[str, np.ndarray], limit: float) -> np.ndarray:
    """Whether each clip is a near-copy of an earlier one of its class, bool [N]."""
    import numpy as np

    from synthio.filtering.likeness import likeness

    found = np.zeros(len(spectra), bool)
    for rows in classes.values():
        own = [spectra[int(row)] for row in rows]
        found[rows] = np.tril(likeness(own, own) > limit, -1).any(axis=1)
    return found


def duplicates(options: QualityOptions, tables) -> dict[str, np.ndarray]:
    """What is copied -> which synthetic clips copy it, bool [N]; and which gold clips repeat an earlier one."""
    from synthio.filtering.likeness import likeness
    from synthio.manifest import PATH, read_manifest

    synthetic = spectra_of(tables["synthetic"][PATH], options.input_csv)
    gold = spectra_of(tables["gold"][PATH], options.gold_csv)
    others = {"gold": gold, "valid": spectra_of(tables["valid"][PATH], options.valid_csv)}
    if options.test_csv:
        others["test"] = spectra_of(read_manifest(options.test_csv, [PATH])[PATH], options.test_csv)
    found = {name: (likeness(synthetic, refs) > options.duplicate_cosine).any(axis=1) for name, refs in others.items()}
    found["synthetic"] = repeated(synthetic, classes_of(tables["synthetic"]), options.duplicate_cosine)
    return found | {"gold_among_gold": repeated(gold, classes_of(tables["gold"]), options.duplicate_cosine)}


# Captions


def captions(texts: Sequence[str]) -> dict[str, Any]:
    """How varied prompts are."""
    from synthio.report.quality_metrics import distinct_ngrams, words_of

    count = len(texts)
    return {
        "prompts": count,
        "unique": len(set(texts)) / count if count else 0.0,
        "mean_words": sum(len(words_of(text)) for text in texts) / count if count else 0.0,
        **{f"distinct_{n}": distinct_ngrams(texts, n) for n in (1, 2, 3)},
    }


# All of it


def embed(options: QualityOptions, tables, device: str) -> dict[str, np.ndarray]:
    """Set -> AST embeddings [N, E]."""
    from synthio.classification.listening import Listener
    from synthio.manifest import PATH

    listener = Listener({"ast": options.ast_model}, options.cache, device)
    return {name: listener.hear(tables[name][PATH], options.csv(name))["ast"] for name in SETS}


def summary(
    tables, vectors, bandwidth: float, judged, copied, rows: Mapping[str, np.ndarray], seed: int
) -> dict[str, Any]:
    """The measures over some rows (bool) of each set; those of diversity are of one class."""
    from synthio.manifest import PROMPT

    kept = {name: vectors[name][rows[name]] for name in SETS}
    among = {"gold_among_gold": rows["gold"]}
    return {
        "clips": {name: int(rows[name].sum()) for name in SETS},
        "kad": kad(kept, bandwidth),
        "fad": fad(kept, seed),
        "diversity": diversity(kept, seed),
        "agreement": {
            judge: {name: float(hit[rows[name]].mean()) if rows[name].any() else None for name, hit in by_set.items()}
            for judge, by_set in judged.items()
        },
        "duplicates": {name: int(flags[among.get(name, rows["synthetic"])].sum()) for name, flags in copied.items()},
        "captions": captions(list(tables["synthetic"][PROMPT][rows["synthetic"]])),
    }


def measure(options: QualityOptions, device: str) -> dict[str, Any]:
    """All measures, of all clips and of each class."""
    import numpy as np

    from synthio.report.attribution import Reference
    from synthio.report.quality_metrics import evenness, median_distance

    tables, judge = read_tables(options), open_judge(options, device)
    vectors = embed(options, tables, device)
    bandwidth = median_distance(vectors["valid"]) if len(vectors["valid"]) > 1 else 1.0
    judged = measure_agreement(options, tables, judge, device)
    parts = (tables, vectors, bandwidth, judged, duplicates(options, tables))
    classes = {name: classes_of(table) for name, table in tables.items()}
    names = sorted({*classes["gold"], *classes["synthetic"]})
    per_class = []
    for name in names:
        rows = {key: np.isin(np.arange(len(tables[key])), found.get(name, ())) for key, found in classes.items()}
        per_class.append({"label": name, **summary(*parts, rows, options.seed)})
    everything = {key: np.ones(len(tables[key]), bool) for key in classes}
    overall = summary(*parts, everything, options.seed) | {"diversity": mean_diversity(per_class)}
    for key in ("gold", "synthetic"):
        counts = [len(classes[key].get(name, ())) for name in names]
        overall.setdefault("balance", {})[f"evenness_{key}"] = evenness(counts)
    sizes = {"dimensions": int(vectors["gold"].shape[1]), "bandwidth": bandwidth}
    bought = attribution(options, tables, Reference(vectors["valid"], bandwidth), judge, device)
    record = {**sizes, "overall": overall, "per_class": per_class, "attribution": bought}
    if options.made_csvs:
        from synthio.report.by_generator import compare

        hits_ = {judge_: by_set["synthetic"] for judge_, by_set in judged.items()}
        heard = (vectors["synthetic"], vectors["valid"], bandwidth, hits_)
        record["generators"] = compare(tables["synthetic"], options.made_csvs, *heard, options.seed)
    return record


def attribution(options: QualityOptions, tables, reference: Reference, judge: Judge | None, device: str):
    """What each part of the run bought, see synthio.report.parts."""
    from synthio.classification.listening import Listener
    from synthio.report.parts import Arm, Ears, measure_parts

    listener = Listener({"ast": options.ast_model}, options.cache, device)
    ears = Ears(lambda paths, csv: listener.hear(paths, csv)["ast"], judge, reference)
    synthetic, gold = (Arm(tables[name], options.csv(name)) for name in ("synthetic", "gold"))
    return measure_parts(options, synthetic, gold, ears, seed=options.seed)


def distance_text(record: Mapping[str, Any]) -> str:
    """'4.12 ± 0.35', with its error; '-' where there were too few clips."""
    return "-" if record["value"] is None else f"{shown(record['value'])} ± {shown(record['error'])}"


def lines(record: Mapping[str, Any]) -> list[str]:
    """What the terminal shows: two lines, and one for each part of the method."""
    from synthio.report.attribution import lines as part_lines

    whole = record["overall"]
    near, distance, copies = whole["kad"], whole["fad"], whole["duplicates"]
    spread = whole["diversity"]["cosine_distance"] or {"synthetic": None, "gold": None}
    first = (
        f"KAD to validation clips {distance_text(near['synthetic_to_valid'])} "
        f"(gold clips {distance_text(near['gold_to_valid'])}); FAD at {distance['gold_to_valid']['clips'][0]} clips "
        f"{shown(distance['synthetic_to_valid']['value'])} (gold clips {shown(distance['gold_to_valid']['value'])}); "
        f"diversity {shown(spread['synthetic'], 3)} (gold {shown(spread['gold'], 3)}); "
        f"near-copies of gold {copies['gold']}, of each other {copies['synthetic']}"
    )
    names = {"classifier": "a classifier of gold clips", "clap": "CLAP, which filtered"}
    second = [
        f"label heard by {names[judge]} {shown(by_set['synthetic'])} (validation clips {shown(by_set['valid'])})"
        for judge, by_set in whole["agreement"].items()
    ]
    second.append(f"distinct-2 of the prompts {shown(whole['captions']['distinct_2'])}")
    bought_lines = part_lines(record.get("attribution", {"parts": {}}))
    return [first, "; ".join(second), *generator_lines(record.get("generators", [])), *bought_lines]


def table(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the report shows: a header and a row of cells for all clips and for each class; and the judges' notes."""
    judges = list(record["overall"]["agreement"])
    header = ["class", "synthetic", "gold", "KAD to validation", "gold's KAD", "FAD (gold), clips", "diversity (gold)"]
    header += [f"{judge} agrees (validation)" for judge in judges]
    header += ["near-copies of gold", "of each other", "distinct-2"]
    rows = []
    for part in ({"label": "all", **record["overall"]}, *record["per_class"]):
        spread = part["diversity"]["cosine_distance"] or {"synthetic": None, "gold": None}
        pairs = [(spread["synthetic"], spread["gold"], 3)]
        pairs += [(part["agreement"][judge]["synthetic"], part["agreement"][judge]["valid"], 2) for judge in judges]
        row = [part["label"], str(part["clips"]["synthetic"]), str(part["clips"]["gold"])]
        row += [distance_text(part["kad"][f"{name}_to_valid"]) for name in ("synthetic", "gold")]
        floor = part["fad"]["gold_to_valid"]
        row += [f"{shown(part['fad']['synthetic_to_valid']['value'])} ({shown(floor['value'])}), {floor['clips'][0]}"]
        row += [f"{shown(a, digits)} ({shown(b, digits)})" for a, b, digits in pairs]
        row += [str(part["duplicates"][name]) for name in ("gold", "synthetic")]
        rows.append([*row, shown(part["captions"]["distinct_2"])])
    several = generator_table(record.get("generators", []))
    return {
        "header": header,
        "rows": rows,
        "judges": record["judges"],
        "bought": bought(record),
        "generators": several,
    }


def bought(record: Mapping[str, Any]) -> dict[str, Any]:
    """The report's table of what each part bought; empty where nothing is said, or an earlier version measured."""
    from synthio.report.attribution import table

    said = record.get("attribution", {})
    return table(said) if said.get("parts") else {}


def main() -> int:
    args = get_parser().parse_args()
    from synthio.files import sha256_file, write_json
    from synthio.manifest import versions
    from synthio.models.classifiers import called
    from synthio.publish.cards import model_name

    quiet_libraries()
    set_threads()
    options = from_args(QualityOptions, args, **{name: getattr(args, name) for name in OF_THE_FILTER})
    record = measure(options, pick_device(options.device))
    rounds = (*options.kept_csvs, *options.made_csvs)
    more = (options.test_csv, options.losers_csv, options.first_csv, *options.again_csvs, *rounds)
    inputs = [path for path in (*map(options.csv, SETS), *more) if path]
    notes = judge_notes(options)
    judges = {
        "embeddings": {
            "model": model_name(options.ast_model),
            "called": called(options.ast_model),
            "note": notes["ast"],
        },
        **{judge: {"note": notes[judge]} for judge in record["overall"]["agreement"]},
    }
    about = {"inputs": {path: sha256_file(path) for path in inputs}, "options": vars(args), "versions": versions()}
    write_json(options.output_json, {"judges": judges, **record, **about})
    print("\n".join(lines(record)), file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_main(main)
