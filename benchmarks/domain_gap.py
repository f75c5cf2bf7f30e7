#!/usr/bin/env python3
"""Measure what brings synthetic clips into the domain of the gold clips: channel matching, alignment, both, nothing.

    python benchmarks/domain_gap.py --domain telephone --splits dataset_csvs/demo_[0-9] --seeds 0 1 2 3 4 5 6 7 8 9 \\
        --paired --work work/domain_gap --cache_folder cache \\
        --aligned_draws 3 --align "dpo=" "tuned=--loss sft --learning_rate 1e-3" "then=from:tuned --num_steps 50"

Splits and draws are those of benchmarks/rivals.py. With --domain telephone all real clips are heard through one chain
that the generator never heard: half a second of room, 300 to 3400 Hz, hum at 100 and 300 Hz; with plain they stay as
they are. Two clips are generated for each gold clip, of "Sound of a <label>" or of MixCap's prompts, by the stage
scripts; further draws from a split take those of its first one. The first --aligned_draws draws, each of another split,
are aligned too, against these clips, in each way of --align, and generate again from the same prompts and seeds. A way
is a name and options of dpo_train.py; with from:NAME it goes on from another way's adapter, with scale:X it is a LoRA
of that share. What is done is not done again.
Prints, of each arm, FAD and KAD to the validation clips, diversity within classes, and the share that a probe of the
gold clips hears as their label; then the test accuracy of heads on gold clips and each arm, and the paired differences,
with intervals over draws (and test clips).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import numpy as np
from rivals import add_draw_options, draws, read_draw

from synthio.cli import in_range, new_parser, pick_device, quiet_libraries, run_main, set_threads

if TYPE_CHECKING:
    from synthio.classification.scored import Paired

ROOM_S, BAND_HZ, HUM = 0.5, (300, 3400), ((100, 0.01), (300, 0.006))  # of the telephone; tones and amplitudes
HEADS = ("probe_ast", "probe", "fusion")
MEASURES = {"fad": 1, "kad": 1, "diversity": 3, "agreement": 3}  # digits


@dataclass(frozen=True)
class Way:
    """A way to align."""

    name: str
    start: str  # the way whose adapter it goes on from; "" for none
    scale: float  # of the LoRA that comes out
    options: tuple[str, ...]  # of dpo_train.py; with a start and without any, nothing is trained


def read_way(text: str) -> Way:
    """The way that NAME=WORDS describes.

    Raises:
        ValueError: there is no name, or a scale is no number.
    """
    name, _, words = text.partition("=")
    if not name.isidentifier():
        raise ValueError(f"'{text}' is not NAME=OPTIONS")
    own = {"from": "", "scale": "1"}
    options = []
    for word in words.split():
        key, colon, value = word.partition(":")
        if colon and key in own:
            own[key] = value
        else:
            options.append(word)
    return Way(name, own["from"], float(own["scale"]), tuple(options))


def get_parser():
    parser = new_parser(__doc__)
    add_draw_options(parser)
    add = parser.add_argument
    add("--domain", choices=["telephone", "plain"], default="plain", help="what the real clips are heard through")
    add("--prompts", choices=["template", "mixcap"], default="template", help="a sentence a label, or the run's own")
    add("--num_steps", type=in_range(int, 1), default=12, help="sampling steps")
    add("--aligned_draws", type=in_range(int, 0), default=0, help="draws that are aligned, too")
    add("--align", type=read_way, nargs="+", default=[read_way("dpo=")], metavar="NAME=OPTIONS", help="ways to align")
    add("--work", type=Path, required=True, help="folder of all that is made")
    return parser


# The domain


def telephone(audio: np.ndarray, sample_rate: int, seed: int) -> np.ndarray:
    """What a clip [T] is through the fixed chain; the seed is of the phases of the hum."""
    from scipy import signal

    after = np.arange(1, round(ROOM_S * sample_rate)) / sample_rate
    tail = np.random.default_rng(5).standard_normal(len(after)) * 10 ** (-3 * after / ROOM_S)
    room = np.concatenate([[1.0], tail / np.sqrt(np.sum(tail**2))]) / np.sqrt(2)
    heard = signal.oaconvolve(audio, room)[: len(audio)]
    heard = signal.sosfilt(signal.butter(4, BAND_HZ, "bandpass", fs=sample_rate, output="sos"), heard)
    rng, now = np.random.default_rng(seed), np.arange(len(audio)) / sample_rate
    for frequency, amplitude in HUM:
        heard = heard + amplitude * np.sin(2 * np.pi * (frequency * now + rng.random()))
    return heard / max(1.0, np.abs(heard).max() / 0.99)


def hear_domain(table, domain: str, folder: Path):
    """The table with its clips as they are in the domain."""
    from synthio.audio import read_audio, write_wav
    from synthio.files import stable_seed
    from synthio.manifest import PATH

    if domain == "plain":
        return table
    paths = [folder / f"{Path(path).parent.name}_{Path(path).stem}.wav" for path in table[PATH]]
    for source, target in zip(table[PATH], paths, strict=True):
        if not target.is_file():
            audio, rate = read_audio(source)
            heard = telephone(audio[0], rate, stable_seed("hum", target.name))
            write_wav(target, heard[None].astype(np.float32), rate)
    return table.assign(path=[str(path) for path in paths])


# The clips


def run(*words) -> float:
    """Run a stage of ours; the seconds that it took."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{words[0]} failed:\n{done.stderr}")
    return time.monotonic() - started


def generate(args, prompts: Path, csv: Path, *options) -> Path:
    """The clips of prompts, as a CSV."""
    if not csv.is_file():
        words = ["--input_csv", prompts, "--output_csv", csv, "--output_folder", csv.with_suffix("")]
        run("stable-audio-tools/generate.py", *words, "--num_steps", args.num_steps, "--device", args.device, *options)
    return csv


def write_prompts(folder: Path, gold, mode: str, seed: int) -> None:
    """gold.csv and prompts.csv: two prompts for each gold clip, which mixcap captions first."""
    from synthio.manifest import write_table

    if not (folder / "prompts.csv").is_file():
        heard = folder / "gold.csv"
        write_table(gold, heard)
        if mode == "mixcap":
            heard = folder / "captions.csv"
            run("gama_csv_inf.py", "--input_csv", folder / "gold.csv", "--output_csv", heard)
        words = ["--mode", mode, "--num_captions", 2, "--seed", seed]
        run("generate_captions_gpt.py", "--input_csv", heard, "--output_csv", folder / "prompts.csv", *words)


def write_losers(folder: Path, gold_csv: Path) -> Path:
    """The unaligned clips, with the gold clips of this domain as those they were made for."""
    from synthio.manifest import PATH, SOURCE, read_manifest, write_table

    losers, plain, gold = (read_manifest(csv) for csv in (folder / "unaligned.csv", folder / "gold.csv", gold_csv))
    here = dict(zip(plain[PATH], gold[PATH], strict=True))
    losers = losers.assign(**{SOURCE: [here[path] for path in losers[SOURCE]]})
    csv = gold_csv.parent / "losers.csv"
    write_table(losers.drop(columns="source_sha256", errors="ignore"), csv)
    return csv


def align(args, folder: Path, gold_csv: Path, seed: int, way: Way) -> Path:
    """The adapter of a way, trained against the unaligned clips; how long it took lies beside it."""
    from synthio.files import write_json

    adapters = gold_csv.parent / "adapters"
    adapter, start = adapters / way.name, adapters / way.start
    if not adapter.is_dir():
        words = ["--gold_csv", gold_csv, "--output_folder", adapter, *(["--init_adapter", start] if way.start else [])]
        if "sft" not in way.options:
            words += ["--losers_csv", write_losers(folder, gold_csv)]
        if way.options or not way.start:
            seconds = run("dpo_train.py", *words, "--seed", seed, "--device", args.device, *way.options)
            write_json(adapters / f"{way.name}.seconds.json", seconds)
        else:
            shutil.copytree(start, adapter)
        if way.scale != 1:
            scale_lora(adapter, way.scale)
    return adapter


def scale_lora(adapter: Path, scale: float) -> None:
    """Give an adapter's change of the weights, the product of its two factors, a share of its size."""
    from safetensors.torch import load_file, save_file

    path = adapter / "adapter_model.safetensors"
    save_file({k: x * scale if "lora_B" in k else x for k, x in load_file(path).items()}, path)


def match(folder: Path, csv: Path, gold_csv: Path, name: str) -> Path:
    """Clips through the gold clips' channel; how long it took lies beside them."""
    from synthio.files import write_json

    out = folder / f"{name}.csv"
    if not out.is_file():
        words = ["--input_csv", csv, "--gold_csv", gold_csv, "--output_csv", out, "--output_folder", folder / name]
        write_json(folder / f"{name}.seconds.json", run("-m", "synthio.generation.match_channel", *words))
    return out


def arm_names(ways: Sequence[Way]) -> list[str]:
    """All arms in the order of the tables."""
    return ["gold", "unaligned", "matched", *(f"{way.name}{end}" for way in ways for end in ("", "_matched"))]


def comparisons(arms: Sequence[str]) -> list[tuple[str, str]]:
    """What each arm's clips are compared with: gold clips alone, clips as generated, and the same without alignment."""
    pairs = [(arm, other) for arm in arms[1:] for other in arms[:2] if arm != other]
    return pairs + [(arm, "matched") for arm in arms[3:] if arm.endswith("_matched")]


def make_arms(args, split: Path, gold, seed: int, is_aligned: bool) -> dict[str, Path]:
    """Arm -> CSV of its clips, "gold" among them. Those of no domain are made once for a split, for its first draw."""
    from synthio.manifest import write_table

    whole = args.work / split.name
    here = whole / f"n{args.num_samples}_seed{seed}_{args.domain}"
    write_prompts(whole, gold, args.prompts, seed)
    arms = {"gold": here / "gold.csv", "unaligned": generate(args, whole / "prompts.csv", whole / "unaligned.csv")}
    write_table(hear_domain(gold, args.domain, whole / args.domain), arms["gold"])
    arms["matched"] = match(here, arms["unaligned"], arms["gold"], "matched")
    for way in args.align if is_aligned else []:
        adapter = align(args, whole, arms["gold"], seed, way)
        arms[way.name] = generate(args, whole / "prompts.csv", here / f"{way.name}.csv", "--adapter", adapter)
        arms[f"{way.name}_matched"] = match(here, arms[way.name], arms["gold"], f"{way.name}_matched")
    return arms


# The measures


def measures(
    heard: np.ndarray, classes: np.ndarray, valid: np.ndarray, said: np.ndarray, size: int
) -> dict[str, float]:
    """Of an arm's AST embeddings [N, E] beside those of the validation clips [V, E].

    Args:
        classes: of each clip [N].
        said: the class that a probe of the gold clips hears in it [N].
        size: clips of either set that the Frechet distance is of.
    """
    from synthio.report.quality_metrics import at_equal_size, kernel_distance, mean_pairwise_distance, median_distance

    of_class = [heard[classes == one] for one in np.unique(classes)]
    return {
        "fad": at_equal_size(heard, valid, size, np.random.default_rng(0)),
        "kad": kernel_distance(heard, valid, median_distance(valid))[0],
        "diversity": float(np.mean([mean_pairwise_distance(rows) for rows in of_class if len(rows) > 1])),
        "agreement": float((said == classes).mean()),
    }


def measure(args, listener, split: Path, seed: int, is_aligned: bool, known: dict) -> dict:
    """Everything of one draw: the measures of each arm, and which test clips each head has right with it.

    Args:
        known: what was found before; its arms are not measured again.
    """
    from synthio.classification.heads import fit_head
    from synthio.classification.labels import encode_labels
    from synthio.classification.tasks import prepare
    from synthio.classification.trials import Made, with_made
    from synthio.files import read_json
    from synthio.manifest import LABEL, PATH, read_manifest

    tables, csvs, labels, targets = read_draw(split, args.num_samples, seed)
    arms = make_arms(args, split, tables["train"], seed, is_aligned)
    folder = args.work / split.name / args.domain
    tables = {name: hear_domain(table, args.domain, folder) for name, table in tables.items()}
    options = {"synthetic_weight": 1.0, "multi_label": False, "seed": seed}
    task = prepare(listener, tables, csvs, targets, labels, **options).task
    test = listener.hear(tables["test"][PATH], csvs["test"])
    judge, truth = fit_head("probe_ast", task), targets["test"].argmax(axis=1)
    found = {"arms": {}, "right": {}, "valid": judge_share(judge, task.valid, targets["valid"])} | known
    for name, csv in arms.items():
        if name in found["arms"]:
            continue
        table = read_manifest(csv)
        heard, own = listener.hear(table[PATH], csv), encode_labels(table[LABEL], labels, str(csv), False)
        said = judge.logits(heard).argmax(axis=1)
        found["arms"][name] = measures(heard["ast"], own.argmax(axis=1), task.valid["ast"], said, args.num_samples)
        found["right"][name] = {}
        for head in HEADS:
            whole = task if name == "gold" else with_made(task, Made(heard, own), 1.0, head)[0]
            right = fit_head(head, whole).logits(test).argmax(axis=1) == truth
            found["right"][name][head] = right.astype(int).tolist()
    return found | {"seconds": float(read_json(arms["matched"].with_suffix(".seconds.json")))}


def judge_share(judge, heard, targets: np.ndarray) -> float:
    """How many clips a judge has right."""
    return float((judge.logits(heard).argmax(axis=1) == targets.argmax(axis=1)).mean())


def cached(args, listener, split: Path, seed: int, is_aligned: bool) -> dict:
    """`measure` of the arms that are asked for, kept in the folder of the draw."""
    from synthio.files import read_json, write_json

    path = args.work / split.name / f"n{args.num_samples}_seed{seed}_{args.domain}.json"
    known = read_json(path) if path.is_file() else {}
    names = arm_names(args.align if is_aligned else [])
    if not known or set(names) - set(known["arms"]):
        known = measure(args, listener, split, seed, is_aligned, known)
        write_json(path, known)
    return known | {part: {name: known[part][name] for name in names} for part in ("arms", "right")}


# The tables


def by_draw(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high): Student's interval (95 %) of the mean over draws; of one draw there is none."""
    from scipy import stats

    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return mean, float("-inf"), float("inf")
    half = float(stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
    return mean, mean - half, mean + half


def shown(values: Sequence[float], digits: int, sign: str = "") -> str:
    mean, low, high = (f"{value:{sign}.{digits}f}" for value in by_draw(values))
    return f"{mean} ({low} to {high})"


def paired(found: Mapping, arm: str, other: str, head: str, units) -> Paired:
    """What a head gains on the test clips of a draw by one arm's clips in place of another's."""
    from synthio.classification.intervals import RESAMPLES, draw_counts
    from synthio.classification.scored import Paired

    change = np.subtract(found["right"][arm][head], found["right"][other][head])
    counts = draw_counts(units, RESAMPLES, 0)
    return Paired(float(change.mean()), counts @ change / counts.sum(axis=1), units)


def measure_rows(results: Sequence[Mapping]) -> list[list[str]]:
    """A row for each arm: its measures over the draws that have it; FAD also as a share of the unaligned one's."""
    rows = []
    for arm in max((found["arms"] for found in results), key=len):
        own = [found["arms"] for found in results if arm in found["arms"]]
        cells = [shown([one[arm][name] for one in own], digits) for name, digits in MEASURES.items()]
        share = shown([one[arm]["fad"] / one["unaligned"]["fad"] for one in own], 2)
        rows.append([arm, str(len(own)), cells[0], share, *cells[1:]])
    return rows


def gain_rows(results: Sequence[Mapping], units: Sequence) -> list[list[str]]:
    """A row for each head and pair of arms."""
    from synthio.classification.scored import gain_record
    from synthio.report.tables import difference_cells, percent

    rows = []
    arms = list(max((found["right"] for found in results), key=len))
    for head in HEADS:
        for arm, other in comparisons(arms):
            both = [(found, one) for found, one in zip(results, units, strict=True) if arm in found["right"]]
            scores = [percent(float(np.mean([np.mean(f["right"][x][head]) for f, _ in both]))) for x in (arm, other)]
            gain = gain_record([paired(found, arm, other, head, one) for found, one in both])
            rows.append([head, arm, other, str(len(both)), *scores, *difference_cells(gain)])
    return rows


def main() -> int:
    args = get_parser().parse_args()
    quiet_libraries()
    set_threads()
    from synthio.classification.intervals import units_of
    from synthio.classification.listening import Listener
    from synthio.report.tables import TOLD_HEADER, plain_table

    models = {"ast": args.ast_model, "clap": args.clap_model}
    listener, results, units = Listener(models, args.cache_folder, pick_device(args.device)), [], []
    for number, (split, seed) in enumerate(draws(args)):
        results.append(cached(args, listener, split, seed, number < args.aligned_draws))
        units.append(units_of(read_draw(split, args.num_samples, seed)[0]["test"]))
        print(f"{split.name}, seed {seed}: {results[-1]['arms']}", file=sys.stderr, flush=True)
    header = ["clips", "draws", "FAD", "FAD / unaligned", "KAD", "diversity", "agreement"]
    print(plain_table(header, measure_rows(results)))
    valid, seconds = ([found[name] for found in results] for name in ("valid", "seconds"))
    print(f"agreement of validation clips {shown(valid, 3)}; matching took {shown(seconds, 1)} s")
    header = ["head", "gold +", "less gold +", "draws", "accuracy", "the other", "difference (95 %)", *TOLD_HEADER]
    print(plain_table(header, gain_rows(results, units)))
    return 0


if __name__ == "__main__":
    run_main(main)
