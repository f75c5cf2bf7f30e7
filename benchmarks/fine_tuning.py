#!/usr/bin/env python3
"""Measure fine-tuned AST beside a probe on its own frozen embeddings, over draws and clip lengths.

    python benchmarks/fine_tuning.py --splits dataset_csvs/esc10_1 --seconds 0.5 1 2 5 --seeds 0 1 \\
        --work work/fine_tuning

Splits and draws are those of benchmarks/rivals.py. Both classifiers are made by the stage scripts, as they are without
options; clips are cut to their first seconds before either hears them. A draw that is done is not done again. Prints
both accuracies and the paired difference with its 95 % interval over draws and over test clips (whole groups), its p by
permuting the draws, and what may be said of it.
"""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import numpy as np
from rivals import add_draw_options, draws, read_draw

from synthio.cli import in_range, new_parser, run_main

if TYPE_CHECKING:
    from synthio.classification.scored import Paired


def get_parser():
    parser = new_parser(__doc__)
    add_draw_options(parser)
    add = parser.add_argument
    add("--seconds", nargs="+", type=in_range(float, 0), default=[0.0], help="lengths of the clips; 0: as they are")
    add("--work", type=Path, required=True, help="folder of all that is made")
    return parser


def cut_clips(table, seconds: float, folder: Path, csv: Path) -> None:
    """Write a manifest of the first seconds of its clips, which are written to the folder as float WAV."""
    import soundfile

    from synthio.audio import read_audio
    from synthio.manifest import PATH, write_table
    from synthio.models.fbank import SAMPLE_RATE

    folder.mkdir(parents=True, exist_ok=True)
    if seconds:
        paths = [folder / f"{row}.wav" for row in range(len(table))]
        for source, target in zip(table[PATH], paths, strict=True):
            audio, _ = read_audio(source, SAMPLE_RATE)
            soundfile.write(target, audio[0, : round(seconds * SAMPLE_RATE)], SAMPLE_RATE, subtype="FLOAT")
        table = table.assign(path=[str(path) for path in paths])
    write_table(table, csv)


def measure(args, split: Path, seed: int, seconds: float) -> tuple[float, float, Paired]:
    """(test accuracy of fine-tuned AST, of the probe, what AST gains) on one draw."""
    from synthio.classification.scored import pair, read_scores
    from synthio.classification.script import SPLITS
    from synthio.files import stable_seed

    work = args.work / f"{split.name}_n{args.num_samples}_seed{seed}_{seconds:g}s"
    words = ["--seed", str(seed)]
    scores = {"ast": work / "ast/scores.json", "heads": work / "heads/probe_ast/scores.json"}
    if not all(path.is_file() for path in scores.values()):
        tables, *_ = read_draw(split, args.num_samples, seed)
        for name in SPLITS:
            cut_clips(tables[name], seconds, work / name, work / f"{name}.csv")
            words += [f"--{name}_csv", str(work / f"{name}.csv")]
    models = ["--ast_model", args.ast_model, "--clap_model", args.clap_model, "--cache_folder", str(args.cache_folder)]
    fit = {
        "ast": ["ast/train.py", "--model", args.ast_model],
        "heads": ["ast/heads.py", "--heads", "probe_ast", *models],
    }
    for name, (script, *options) in fit.items():
        if not scores[name].is_file():
            command = [sys.executable, str(ROOT / script), *options, "--output_folder", str(work / name), *words]
            subprocess.run([*command, "--device", args.device], check=True, stdout=subprocess.DEVNULL)
    ast, probe = (read_scores(f"{name}={path}") for name, path in scores.items())
    return ast["accuracy"], probe["accuracy"], pair(ast, probe, stable_seed("bootstrap", split.name))


def main() -> int:
    args = get_parser().parse_args()
    from synthio.classification.scored import gain_record
    from synthio.report.tables import TOLD_HEADER, difference_cells, percent, plain_table

    found, rows = defaultdict(list), []
    for split, seed in draws(args):
        for seconds in args.seconds:
            found[seconds].append(measure(args, split, seed, seconds))
            ast, probe, _ = found[seconds][-1]
            print(f"{split.name}, seed {seed}, {seconds:g} s: AST {ast:.3f}, probe {probe:.3f}", flush=True)
    for seconds, measured in found.items():
        ast, probe, pairs = zip(*measured, strict=True)
        cells = [percent(float(np.mean(one))) for one in (ast, probe)]
        length = f"{seconds:g}" if seconds else "as it is"
        rows.append([length, str(len(pairs)), *cells, *difference_cells(gain_record(pairs))])
    header = ["seconds", "draws", "AST, fine-tuned", "probe on AST", "difference (95 %)", *TOLD_HEADER]
    print(plain_table(header, rows))
    return 0


if __name__ == "__main__":
    run_main(main)
