#!/usr/bin/env python3
"""Measure what brings synthetic clips into the domain of the gold clips: channel matching, DPO, both, nothing.

    python benchmarks/domain_gap.py --domain telephone --splits dataset_csvs/demo_[0-9] --seeds 0 1 2 3 4 5 6 7 8 9 \\
        --paired --work work/domain_gap --cache_folder cache

Splits and draws are those of benchmarks/rivals.py. With --domain telephone all real clips are heard through one chain
that the generator never heard: half a second of room, 300 to 3400 Hz, hum at 100 and 300 Hz; with plain they stay as
they are. Two clips are generated for each gold clip, of "Sound of a <label>" or of MixCap's prompts, by the stage
scripts; further draws from a split take those of its first one. The first --dpo_draws draws, each of another split, are
aligned too, against these clips, and generate again from the same prompts and seeds. What is done is not done again.
Prints, of each arm, FAD and KAD to the validation clips, diversity within classes, and the share that a probe of the
gold clips hears as their label; then the test accuracy of heads on gold clips and each arm, and the paired differences,
with intervals over draws (and test clips).
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
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
ARMS = ("unaligned", "matched", "dpo", "dpo_matched")
HEADS = ("probe_ast", "probe", "fusion")
MEASURES = {"fad": 1, "kad": 1, "diversity": 3, "agreement": 3}  # digits
COMPARED = (
    *(("unaligned", "gold"), ("matched", "gold")),
    *(("matched", "unaligned"), ("dpo", "unaligned"), ("dpo_matched", "unaligned")),
)


def get_parser():
    parser = new_parser(__doc__)
    add_draw_options(parser)
    add = parser.add_argument
    add("--domain", choices=["telephone", "plain"], default="plain", help="what the real clips are heard through")
    add("--prompts", choices=["template", "mixcap"], default="template", help="a sentence a label, or the run's own")
    add("--num_steps", type=in_range(int, 1), default=12, help="sampling steps")
    add("--dpo_draws", type=in_range(int, 0), default=0, help="draws that are aligned, too")
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


def align(args, folder: Path, gold_csv: Path, seed: int) -> Path:
    """An adapter trained against the unaligned clips, which stand for the gold clips of this domain."""
    from synthio.manifest import PATH, SOURCE, read_manifest, write_table

    adapter = gold_csv.parent / "adapter"
    if not adapter.is_dir():
        losers, plain, gold = (read_manifest(csv) for csv in (folder / "unaligned.csv", folder / "gold.csv", gold_csv))
        here = dict(zip(plain[PATH], gold[PATH], strict=True))
        columns = {SOURCE: [here[path] for path in losers[SOURCE]]}
        write_table(
            losers.assign(**columns).drop(columns="source_sha256", errors="ignore"), gold_csv.parent / "losers.csv"
        )
        words = ["--gold_csv", gold_csv, "--losers_csv", gold_csv.parent / "losers.csv", "--output_folder", adapter]
        run("dpo_train.py", *words, "--seed", seed, "--device", args.device)
    return adapter


def match(folder: Path, csv: Path, gold_csv: Path, name: str) -> Path:
    """Clips through the gold clips' channel; how long it took lies beside them."""
    from synthio.files import write_json

    out = folder / f"{name}.csv"
    if not out.is_file():
        words = ["--input_csv", csv, "--gold_csv", gold_csv, "--output_csv", out, "--output_folder", folder / name]
        write_json(folder / f"{name}.seconds.json", run("-m", "synthio.generation.match_channel", *words))
    return out


def make_arms(args, split: Path, gold, seed: int, is_aligned: bool) -> dict[str, Path]:
    """Arm -> CSV of its clips, "gold" among them. Those of no domain are made once for a split, for its first draw."""
    from synthio.manifest import write_table

    whole = args.work / split.name
    here = whole / f"n{args.num_samples}_seed{seed}_{args.domain}"
    write_prompts(whole, gold, args.prompts, seed)
    arms = {"gold": here / "gold.csv", "unaligned": generate(args, whole / "prompts.csv", whole / "unaligned.csv")}
    write_table(hear_domain(gold, args.domain, whole / args.domain), arms["gold"])
    arms["matched"] = match(here, arms["unaligned"], arms["gold"], "matched")
    if is_aligned:
        adapter = align(args, whole, arms["gold"], seed)
        arms["dpo"] = generate(args, whole / "prompts.csv", here / "dpo.csv", "--adapter", adapter)
        arms["dpo_matched"] = match(here, arms["dpo"], arms["gold"], "dpo_matched")
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


def with_clips(task, heard, targets: np.ndarray):
    """A task of gold clips with an arm's clips beside them: as they are, each for a third of a clip of three."""
    from dataclasses import replace

    from synthio.classification.weighting import draw_rates

    gold, more = len(task.targets), len(targets)
    return replace(
        task,
        train={kind: np.concatenate([x, heard[kind]]) for kind, x in task.train.items()},
        targets=np.concatenate([task.targets, targets]),
        rates=draw_rates(np.arange(gold + more) >= gold, 1.0),
        sources=np.concatenate([task.sources, np.full(more, -1)]),
    )


def measure(args, listener, split: Path, seed: int, is_aligned: bool) -> dict:
    """Everything of one draw: the measures of each arm, and which test clips each head has right with it."""
    from synthio.classification.heads import fit_head
    from synthio.classification.labels import encode_labels
    from synthio.classification.tasks import prepare
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
    found: dict = {"arms": {}, "right": {}, "valid": judge_share(judge, task.valid, targets["valid"])}
    for name, csv in arms.items():
        table = read_manifest(csv)
        heard, own = listener.hear(table[PATH], csv), encode_labels(table[LABEL], labels, str(csv), False)
        said = judge.logits(heard).argmax(axis=1)
        found["arms"][name] = measures(heard["ast"], own.argmax(axis=1), task.valid["ast"], said, args.num_samples)
        whole = task if name == "gold" else with_clips(task, heard, own)
        found["right"][name] = {
            head: (fit_head(head, whole).logits(test).argmax(axis=1) == truth).astype(int).tolist() for head in HEADS
        }
    return found | {"seconds": float(read_json(arms["matched"].with_suffix(".seconds.json")))}


def judge_share(judge, heard, targets: np.ndarray) -> float:
    """How many clips a judge has right."""
    return float((judge.logits(heard).argmax(axis=1) == targets.argmax(axis=1)).mean())


def cached(args, listener, split: Path, seed: int, is_aligned: bool) -> dict:
    """`measure`, kept in the folder of the draw."""
    from synthio.files import read_json, write_json

    name = f"n{args.num_samples}_seed{seed}_{args.domain}{'_dpo' if is_aligned else ''}.json"
    path = args.work / split.name / name
    if not path.is_file():
        write_json(path, measure(args, listener, split, seed, is_aligned))
    return read_json(path)


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
    for arm in ("gold", *ARMS):
        own = [found["arms"] for found in results if arm in found["arms"]]
        if own:
            cells = [
                shown([one[arm][name] for one in own], 3 if name in ("diversity", "agreement") else 1)
                for name in MEASURES
            ]
            share = shown([one[arm]["fad"] / one["unaligned"]["fad"] for one in own], 2)
            rows.append([arm, str(len(own)), cells[0], share, *cells[1:]])
    return rows


def gain_rows(results: Sequence[Mapping], units: Sequence) -> list[list[str]]:
    """A row for each head and pair of arms."""
    from synthio.classification.scored import gain_record
    from synthio.report.tables import difference_cells, percent

    rows = []
    for head in HEADS:
        for arm, other in COMPARED:
            both = [(found, one) for found, one in zip(results, units, strict=True) if arm in found["right"]]
            if both:
                scores = [
                    percent(float(np.mean([np.mean(f["right"][x][head]) for f, _ in both]))) for x in (arm, other)
                ]
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
        results.append(cached(args, listener, split, seed, number < args.dpo_draws))
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
