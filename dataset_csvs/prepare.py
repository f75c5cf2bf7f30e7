#!/usr/bin/env python3
"""Write the three CSVs (train, valid, test) of a known dataset.

    python dataset_csvs/prepare.py demo --output_folder dataset_csvs/demo --seed 0
    python dataset_csvs/prepare.py esc10 --source ../shared/data/esc10 --output_folder dataset_csvs/esc10_fold5 \\
        --test_fold 5

`prepare.py DATASET --help` says where the dataset comes from and under which licence. Paths in the CSVs are relative
to them. Audio of existing datasets stays where it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from synthio.cli import UserError, in_range, new_parser, progress, run_main

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from synthio.sounds import Clip

SPLITS = ("train", "valid", "test")

DEMO_HELP = """Make the demo dataset: ten everyday sounds (rain, engine, siren, clock, footsteps, bird, bell, wind, dog,
knocking) by the procedural engine synthio/sounds.py, 16 kHz mono WAV of 2 to 4 s.

Nothing is downloaded; what it makes is yours, without conditions (MIT, as the code). Every clip is a function of the
seed, its split and its number alone. All splits are drawn the same way: most clips have a background scene at -6 to
9 dB, half a second event, all a level and a room of their own. An interrupted run goes on where it stopped."""

ESC10_HELP = """Write the CSVs of ESC-10: 400 clips of 5 s in 10 classes, in 5 folds that share no recording.

It is part of ESC-50 (K. J. Piczak, 2015): https://github.com/karolpiczak/ESC-50. ESC-10 is CC BY 3.0 (ESC-50 as a
whole is CC BY-NC 3.0); each clip also has a licence of its own on Freesound. --source is a clone of that repository
(meta/esc50.csv, audio/), or a folder with esc10.csv (path,label,fold). One fold tests, one validates, three train.
The column `group` is the number of the Freesound recording that a clip was cut from."""

# ---- demo

DEMO_RECIPE = 1  # raise it when what follows changes the sounds
# Fourth number of a clip's seed. It also keeps the clips apart from the pretraining corpus, which seeds with [s, i]:
# numpy pads seeds with zeros, so that [0, 1, 0] would be [0, 1].
DEMO_STREAM = 0xDE30
BACKGROUND_SHARE, SECOND_SHARE = 0.85, 0.5
SNR_DB = (-6.0, 9.0)
# These scenes hold the sound of a demo class; louder than the event they would make the label wrong.
AMBIGUOUS_SCENES = ("light rain", "wind", "a busy street", "a forest with birds")
AMBIGUOUS_SNR_DB = (1.0, 9.0)
DURATION_S = (2.0, 4.0)


def draw_scene(rng: np.random.Generator) -> tuple[str | None, float]:
    """A background (or None) and the level of the events over it in dB."""
    from synthio.sounds import scenes

    if rng.random() >= BACKGROUND_SHARE:
        return None, 0.0
    scene = str(rng.choice(scenes()))
    return scene, float(rng.uniform(*(AMBIGUOUS_SNR_DB if scene in AMBIGUOUS_SCENES else SNR_DB)))


def draw_second(rng: np.random.Generator, label: str) -> str | None:
    """A second, weaker event (any sound but this one and the other demo classes), or None."""
    from synthio.sounds import DEMO_LABELS, labels

    if rng.random() >= SECOND_SHARE:
        return None
    return str(rng.choice([name for name in labels() if name != label and name not in DEMO_LABELS]))


def demo_clip(seed: int, split: int, i: int, label: str) -> Clip:
    """Clip number `i` of a split; splits differ in nothing but their seeds."""
    import numpy as np

    from synthio.sounds import make_clip

    rng = np.random.default_rng([seed, split, i, DEMO_STREAM])
    duration_s = round(float(rng.uniform(*DURATION_S)), 2)
    scene, snr_db = draw_scene(rng)
    second = draw_second(rng, label)
    return make_clip(label, rng, duration_s, background=scene, snr_db=snr_db, second_event=second)


def begin_demo(folder: Path, meta: Mapping[str, object]) -> None:
    """Keep the clips that lie there when they were made the same way; otherwise remove them and their CSVs."""
    from synthio.files import read_json, write_json

    path = folder / "demo.json"
    try:
        if read_json(path) == meta:
            return
    except (OSError, ValueError):
        pass
    for split in SPLITS:
        (folder / f"{split}.csv").unlink(missing_ok=True)
        for old in (folder / "audio" / split).glob("[0-9]*_*.wav"):
            old.unlink()
    write_json(path, meta)


def demo(args) -> dict[str, pd.DataFrame]:
    """Make the clips that are not there yet."""
    import pandas as pd

    from synthio.audio import write_wav
    from synthio.files import sha256_file
    from synthio.sounds import DEMO_LABELS

    folder, labels = Path(args.output_folder).absolute(), DEMO_LABELS[: args.classes]
    for split in SPLITS:
        if getattr(args, split) < len(labels):
            raise UserError(f"--{split} {getattr(args, split)} is less than the {len(labels)} classes")
    engine = sha256_file(ROOT / "synthio" / "sounds.py")
    begin_demo(folder, {"seed": args.seed, "classes": args.classes, "recipe": DEMO_RECIPE, "engine": engine})
    tables = {}
    for number, split in enumerate(SPLITS):
        rows = []
        for i in progress(range(getattr(args, split)), f"demo {split}"):
            label = labels[i % len(labels)]
            path = folder / "audio" / split / f"{i:04d}_{label}.wav"
            if not path.is_file():
                clip = demo_clip(args.seed, number, i, label)
                write_wav(path, clip.audio[None], clip.sample_rate)
            rows.append({"path": str(path), "label": label, "dataset": "demo"})
        tables[split] = pd.DataFrame(rows)
    return tables


# ---- ESC-10


def read_esc10(source: Path) -> tuple[pd.DataFrame, Path]:
    """All clips (absolute path, label, fold), and the CSV they were listed in."""
    from synthio.manifest import FOLD, LABEL, PATH, read_manifest, read_table

    official, own = source / "meta" / "esc50.csv", source / "esc10.csv"
    if own.is_file():
        return read_manifest(own, (PATH, LABEL, FOLD)), own
    if not official.is_file():
        raise UserError(f"{source}: neither esc10.csv nor meta/esc50.csv is there; get ESC-50 (see esc10 --help)")
    table = read_table(official, ("filename", "fold", "category", "esc10"))
    table = table[table["esc10"].str.lower() == "true"].reset_index(drop=True)
    audio = (source / "audio").absolute()
    table = table.assign(**{PATH: [str(audio / name) for name in table["filename"]], LABEL: table["category"]})
    for row, path in enumerate(table[PATH], 1):
        if not Path(path).is_file():
            raise UserError(f"{official}: clip {row} of ESC-10 is missing: {path}")
    return table[[PATH, LABEL, FOLD]], official


def freesound_id(path: str) -> str:
    """'audio/1-100032-A.ogg' -> '100032' (fold - recording - take)."""
    parts = Path(path).stem.split("-")
    if len(parts) < 3 or not parts[1].isdigit():
        raise UserError(f"{path}: not a name of ESC-50 (fold-recording-take...)")
    return parts[1]


def esc10(args) -> dict[str, pd.DataFrame]:
    """One fold for the test, one for validation, three for training."""
    from synthio.manifest import FOLD, GROUP, PATH

    valid_fold = args.valid_fold or (args.test_fold - 2) % 5 + 1
    if valid_fold == args.test_fold:
        raise UserError(f"--valid_fold {valid_fold} is the test fold; the test data must not be seen before the test")
    table, source = read_esc10(Path(args.source))
    folds = sorted(set(table[FOLD]))
    if folds != list("12345"):
        raise UserError(f"{source}: the folds are {', '.join(map(repr, folds))}, expected 1 to 5")
    table = table.assign(dataset="esc10", **{GROUP: [freesound_id(path) for path in table[PATH]]})
    names = {str(args.test_fold): "test", str(valid_fold): "valid"}
    split = table[FOLD].map(lambda fold: names.get(fold, "train"))
    return {name: table[split == name].reset_index(drop=True) for name in SPLITS}


# ---- the command line


def add_dataset(commands, name: str, make: Callable, text: str) -> argparse.ArgumentParser:
    """A subcommand; `make(args)` gives a table (absolute paths) a split."""

    class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
        pass

    short = text.split(".")[0].split(":")[0]
    parser = commands.add_parser(name, help=short, description=text, formatter_class=Formatter, allow_abbrev=False)
    parser.set_defaults(make=make)
    parser.add_argument("--output_folder", required=True, help="output: train.csv, valid.csv, test.csv")
    return parser


def get_parser():
    parser = new_parser(__doc__)
    commands = parser.add_subparsers(dest="dataset", required=True, metavar="DATASET")
    sub = add_dataset(commands, "demo", demo, DEMO_HELP)
    sub.add_argument("--seed", type=in_range(int, 0), default=0, help="another seed gives other clips")
    for split, count in zip(SPLITS, (200, 60, 100), strict=True):
        sub.add_argument(f"--{split}", type=in_range(int, 1), default=count, help=f"{split} clips")
    sub.add_argument("--classes", type=in_range(int, 2, 10), default=10, help="how many of the ten sounds")
    sub = add_dataset(commands, "esc10", esc10, ESC10_HELP)
    sub.add_argument("--source", required=True, help="folder of the dataset, as above")
    sub.add_argument("--test_fold", type=in_range(int, 1, 5), default=5, help="fold to test on")
    sub.add_argument("--valid_fold", type=in_range(int, 1, 5), help="fold to validate on; not given: the one before")
    return parser


def write_csvs(tables: Mapping[str, pd.DataFrame], args) -> None:
    """Write the CSVs and print a line a split."""
    from synthio.manifest import LABEL, write_manifest

    options = {name: value for name, value in vars(args).items() if name != "make"}
    for split, table in tables.items():
        path = Path(args.output_folder) / f"{split}.csv"
        write_manifest(table, path, rows_in=len(table), options=options)
        print(f"{path}: {len(table)} clips, {table[LABEL].nunique()} classes", flush=True)


def main() -> int:
    args = get_parser().parse_args()
    write_csvs(args.make(args), args)
    return 0


if __name__ == "__main__":
    run_main(main)
