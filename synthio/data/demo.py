"""The demo dataset: ten everyday sounds by the procedural engine, made rather than downloaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthio.cli import UserError, progress
from synthio.data.common import SPLITS, WHERE, Dataset, Listing, PrepareOptions, list_clips
from synthio.data.workers import available_cores, spread
from synthio.files import ROOT
from synthio.options import option

if TYPE_CHECKING:
    import numpy as np

    from synthio.sounds import Clip

DEMO_HELP = """Make the demo dataset: ten everyday sounds (rain, engine, siren, clock, footsteps, bird, bell, wind, dog,
knocking) by the procedural engine synthio/sounds, 16 kHz mono WAV of 2 to 4 s.

Nothing is downloaded; what it makes is yours, without conditions (MIT, as the code). Every clip is a function of the
seed, its split and its number alone. All splits are drawn the same way: most clips have a background scene at -6 to
9 dB, half a second event, all a level and a room of their own. An interrupted run goes on where it stopped."""

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
FEW = 64  # clips: below that, starting processes costs more than it saves


@dataclass(frozen=True)
class DemoOptions(PrepareOptions):
    """How much is made. What concerns a source is not asked: nothing is read, missing or cut."""

    source: str = "the sound engine"
    dataset_name: str = "demo"
    missing: str = "stop"
    test_share: float = 0
    valid_share: float = 0
    seed: int = option(0, "another seed gives other clips", low=0)
    train: int = option(200, "train clips", low=1)
    valid: int = option(60, "valid clips", low=1)
    test: int = option(100, "test clips", low=1)
    classes: int = option(10, "how many of the ten sounds", low=2, high=10)


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


def write_demo_clip(clip: tuple[int, int, int, str, Path]) -> None:
    """The clip of (seed, split, number, label) as a WAV file."""
    from synthio.audio import write_wav

    seed, split, number, label, path = clip
    made = demo_clip(seed, split, number, label)
    write_wav(path, made.audio[None], made.sample_rate)


def make_clips(clips: Sequence[tuple[int, int, int, str, Path]]) -> None:
    """Those that are not there yet, on all cores."""
    missing = [clip for clip in clips if not clip[-1].is_file()]
    some = len(missing) >= FEW and available_cores() > 1
    made = spread(write_demo_clip, missing, chunk=4) if some else map(write_demo_clip, missing)
    for _ in progress(made, "demo clips", total=len(missing)):
        pass


def begin_demo(folder: Path, meta: Mapping[str, object]) -> None:
    """Keep the clips that lie there when they were made the same way; otherwise remove them and their CSVs."""
    from synthio.cache import tell_damage
    from synthio.files import read_json, write_json

    path = folder / "demo.json"
    try:
        if read_json(path) == meta:
            return
    except FileNotFoundError:
        pass  # the first call
    except UserError:
        tell_damage(path, "damaged; the clips of the demo set are made again")
    for split in SPLITS:
        (folder / f"{split}.csv").unlink(missing_ok=True)
        for old in (folder / "audio" / split).glob("[0-9]*_*.wav"):
            old.unlink()
    write_json(path, meta)


def read_demo(options: DemoOptions) -> Listing:
    """Make the clips that are not there yet."""
    from synthio.files import sha256_file, sha256_value
    from synthio.sounds import DEMO_LABELS

    folder, labels = Path(options.output_folder).absolute(), DEMO_LABELS[: options.classes]
    for split in SPLITS:
        if getattr(options, split) < len(labels):
            raise UserError(f"--{split} {getattr(options, split)} is less than the {len(labels)} classes")
    engine = sha256_value([sha256_file(p) for p in sorted((ROOT / "synthio/sounds").glob("*.py"))])
    begin_demo(folder, {"seed": options.seed, "classes": options.classes, "recipe": DEMO_RECIPE, "engine": engine})
    rows, clips = [], []
    for number, split in enumerate(SPLITS):
        for i in range(getattr(options, split)):
            label = labels[i % len(labels)]
            path = folder / "audio" / split / f"{i:04d}_{label}.wav"
            clips.append((options.seed, number, i, label, path))
            rows.append({"path": path, "label": label, "split_name": split, WHERE: f"demo {split} clip {i}"})
    make_clips(clips)
    return list_clips(rows)


DATASETS = {"demo": Dataset(DEMO_HELP, read_demo, DemoOptions)}
