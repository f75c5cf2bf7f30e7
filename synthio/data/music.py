"""Readers of the music datasets, each in the layout in which it is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthio.cli import UserError, progress
from synthio.data.common import (
    SEGMENT,
    SPLITS,
    TEST,
    TRAIN,
    VALID,
    WHERE,
    Dataset,
    Listing,
    OfficialTest,
    PrepareOptions,
    find_root,
    list_clips,
    load_json,
    read_lines,
    where,
)
from synthio.formats.containers import is_sound_name
from synthio.options import option

# ---- GTZAN

GTZAN_HELP = """GTZAN: 1000 clips of 30 s in 10 genres (Tzanetakis and Cook, 2002).

Get it: genres.tar.gz from http://marsyas.info/downloads/datasets.html, or the copy on Kaggle
(andradaolteanu/gtzan-dataset-music-genre-classification), unpacked: a folder a genre. It has no stated licence: for
research only. jazz.00054.wav of the Kaggle copy cannot be decoded: it is dropped, with that reason.

There is no official split. --split random: test and validation are cut by seed; clips that are the same recording
sample for sample are one group and never part (the set has exact repeats). But artists and near repeats still cross.
--split filtered: the fault-filtered lists of Kereliuk et al. (2015), 443 / 197 / 290 clips without repeats, no artist
in two splits: train_filtered.txt, valid_filtered.txt and test_filtered.txt, in --split_folder (default: --source),
from GTZAN_split/ of https://github.com/jongpillee/music_dataset_split. Scores of the two cannot be compared."""

GTZAN_BROKEN = "jazz.00054"


@dataclass(frozen=True)
class GtzanOptions(PrepareOptions):
    """Which of the two splits."""

    split: str = option("random", "how to split, as above", choices=("random", "filtered"))
    split_folder: str | None = option(None, "folder of the three fault-filtered lists")


def gtzan_row(path: Path, at: str, split: str) -> dict[str, Any]:
    """One clip; the label is its folder. The one file known to be broken is dropped if it is."""
    from synthio.audio import BadAudio, probe

    row = {"path": path, "label": path.parent.name, "split_name": split, WHERE: at}
    if path.stem == GTZAN_BROKEN and path.is_file():
        try:
            probe(path)
        except BadAudio as error:
            row["reason"] = f"known to be broken: {error}"
    return row


def gtzan_filtered(root: Path, folder: Path) -> Listing:
    """The clips of the fault-filtered lists; a clip may lie there as .au."""
    rows, files = [], []
    for split in SPLITS:
        files.append(folder / f"{split}_filtered.txt")
        for i, line in enumerate(read_lines(files[-1]), 1):
            if line.strip():
                path = root / line.strip()
                path = path.with_suffix(".au") if path.with_suffix(".au").is_file() else path
                rows.append(gtzan_row(path, where(files[-1], i), split))
    return list_clips(rows, files)


def gtzan_random(root: Path) -> Listing:
    """All clips, to be split; those of equal content are one group."""
    from synthio.audio import BadAudio, content_hash, read_audio

    rows = []
    for path in progress([path for path in sorted(root.glob("*/*")) if is_sound_name(path)], "listening"):
        row = gtzan_row(path, str(path), TRAIN)
        try:
            rows.append(row if "reason" in row else {**row, "group": content_hash(*read_audio(path))[:16]})
        except BadAudio as error:
            raise UserError(f"{path}: {error}; get it again, or remove it") from None
    return list_clips(rows)


def read_gtzan(options: GtzanOptions) -> Listing:
    """GTZAN."""
    root = find_root(options, "blues", "genres", "genres_original", "Data/genres_original")
    if options.split == "random":
        return gtzan_random(root)
    return gtzan_filtered(root, Path(options.split_folder or options.source).absolute())


# ---- Medley-solos-DB

MEDLEY_HELP = """Medley-solos-DB: 21,571 clips of 3 s of 8 instruments playing alone (Lostanlen et al., 2019).

Get it: Zenodo record 3464194, Medley-solos-DB_metadata.csv and Medley-solos-DB.tar.gz, unpacked beside the CSV, or
into audio/ or Medley-solos-DB/. Licence: CC BY 4.0. The official subsets train, validate and test (the test set is
of another collection, solosDb). The column `group` is the song."""


def read_medley(options: PrepareOptions) -> Listing:
    """Medley-solos-DB."""
    from synthio.manifest import read_table

    name = "Medley-solos-DB_metadata.csv"
    csv = find_root(options, name, "annotation") / name
    source = Path(options.source).absolute()
    audio = next((source / sub for sub in ("audio", "Medley-solos-DB") if (source / sub).is_dir()), source)
    splits, rows = {"training": TRAIN, "validation": VALID, "test": TEST}, []
    table = read_table(csv, ("subset", "instrument", "instrument_id", "song_id", "uuid4"))
    for i, row in enumerate(table.to_dict("records"), 1):
        if row["subset"] not in splits:
            raise UserError(f"{where(csv, i)}: subset {row['subset']!r} is none of {', '.join(splits)}")
        path = audio / f"Medley-solos-DB_{row['subset']}-{row['instrument_id']}_{row['uuid4']}.wav"
        clip = {"path": path, "label": row["instrument"], "group": row["song_id"]}
        rows.append({**clip, "split_name": splits[row["subset"]], WHERE: where(csv, i)})
    return list_clips(rows, [csv])


# ---- NSynth

NSYNTH_HELP = """NSynth: 305,979 notes of 4 s; the label is the instrument family, 11 of them (Engel et al., 2017).

Get it: https://magenta.tensorflow.org/datasets/nsynth, the three json/wav archives, unpacked side by side
(nsynth-train/, nsynth-valid/, nsynth-test/, each with examples.json and audio/). Licence: CC BY 4.0. The column
`group` is the instrument. The official training set shares no instrument with the others, but validation and test
may share theirs: validation clips of the test's instruments are dropped, and if more than half go, the official
validation set is not used and one is cut from the training instruments. The test set has no synth_lead."""


def read_nsynth(options: PrepareOptions) -> Listing:
    """NSynth by instrument family."""
    root, rows, files = find_root(options, "nsynth-train/examples.json"), [], []
    for split in SPLITS:
        folder = root / f"nsynth-{split}"
        files.append(folder / "examples.json")
        for i, (note, facts) in enumerate(load_json(files[-1]).items(), 1):
            at = where(files[-1], i)
            try:
                label, group = facts["instrument_family_str"], facts["instrument_str"]
            except (KeyError, TypeError):
                raise UserError(f"{at}: {note!r} lacks instrument_family_str or instrument_str") from None
            path = folder / "audio" / f"{note}.wav"
            rows.append({"path": path, "label": label, "group": group, "split_name": split, WHERE: at})
    return list_clips(rows, files)


# ---- MUSDB18

MUSDB_HELP = """MUSDB18: 150 songs; a clip is a part of one stem, its label is what plays: bass, drums, other, vocals.

Get it: MUSDB18-HQ (WAV), Zenodo record 3338373, unpacked (train/ and test/, a folder a song). Licence: for research
and education; most songs are CC BY-NC-SA 4.0, see the dataset's page. The stem.mp4 files of MUSDB18 cannot be read:
decode them with `musdbconvert` of the Python package musdb, or get MUSDB18-HQ.

MUSDB18 is made for source separation; the paper's table scores its classification without a published rule for the
clips. The rule here: each stem is laid out in windows of --clip_s; those quieter than -50 dBFS (RMS) are left out; up
to --clips_per_stem, evenly spread over the others, are cut to WAV. 86 songs train, the 14 that the package musdb
names for validation validate, the 50 of test/ test. The column `group` is the song."""

STEMS = ("bass", "drums", "other", "vocals")
QUIET_DB = -50.0
MAX_SONG_S = 3600.0
# as named by the package musdb, which loads this dataset
MUSDB_VALID = (
    "ANiMAL - Rockshow",
    "Actions - One Minute Smile",
    "Alexander Ross - Goodbye Bolero",
    "Clara Berry And Wooldog - Waltz For My Victims",
    "Fergessen - Nos Palpitants",
    "James May - On The Line",
    "Johnny Lokke - Promises & Lies",
    "Leaf - Summerghost",
    "Meaxic - Take A Step",
    "Patrick Talbot - A Reason To Leave",
    "Skelpolu - Human Mistakes",
    "Traffic Experiment - Sirens",
    "Triviul - Angelsaint",
    "Young Griffo - Pennies",
)


@dataclass(frozen=True)
class MusdbOptions(OfficialTest):
    """How stems become clips."""

    clip_s: float = option(10.0, "length of a clip in seconds", low=0.1, high=60)
    clips_per_stem: int = option(5, "at most so many clips of a stem", low=1)


def window_powers(path: Path, clip_s: float) -> list[float]:
    """Mean square of each whole window of `clip_s` seconds of a song, mixed down; it is never held as a whole."""
    import numpy as np

    from synthio.audio import mix_down, open_audio

    powers: list[float] = []
    with open_audio(path, MAX_SONG_S) as stream:
        size = round(clip_s * stream.sample_rate)
        rest = np.zeros(0, np.float32)
        for block in stream.blocks:
            rest = np.concatenate([rest, mix_down(block)[0]])
            whole = len(rest) // size * size
            powers += np.mean(rest[:whole].reshape(-1, size) ** 2, axis=1).tolist()
            rest = rest[whole:]
    return powers


def loud_windows(path: Path, clip_s: float, count: int) -> list[tuple[float, float]]:
    """(start, end) in s of up to `count` windows that sound, evenly spread over all that do."""
    import numpy as np

    from synthio.audio import BadAudio

    try:
        powers = window_powers(path, clip_s)
    except BadAudio as error:
        raise UserError(f"{path}: {error}") from None
    loud = np.flatnonzero(np.array(powers) > 10 ** (QUIET_DB / 10))
    spread = np.linspace(0, len(loud) - 1, min(count, len(loud))).round().astype(int)
    return [(i * clip_s, (i + 1) * clip_s) for i in loud[spread].tolist()]


def read_musdb(options: MusdbOptions) -> Listing:
    """MUSDB18-HQ by stem."""
    root = find_root(options, "train", "musdb18hq", "musdb18")
    if any(root.glob("*/*.stem.mp4")):
        raise UserError(f"{root}: holds .stem.mp4 files; decode them with musdbconvert, or get MUSDB18-HQ")
    songs = [(part, song) for part in (TRAIN, TEST) for song in sorted(root.glob(f"{part}/*")) if song.is_dir()]
    rows = []
    for part, song in progress(songs, "listening"):
        split = VALID if part == TRAIN and song.name in MUSDB_VALID else part
        for stem in STEMS:
            path = song / f"{stem}.wav"
            row = {"path": path, "label": stem, "group": song.name, "split_name": split, WHERE: str(song)}
            windows = loud_windows(path, options.clip_s, options.clips_per_stem) if path.is_file() else [None]
            rows += [{**row, SEGMENT: window} for window in windows]
    return list_clips(rows)


DATASETS = {
    "gtzan": Dataset(GTZAN_HELP, read_gtzan, GtzanOptions),
    "medley": Dataset(MEDLEY_HELP, read_medley),
    "nsynth": Dataset(NSYNTH_HELP, read_nsynth),
    "musdb18": Dataset(MUSDB_HELP, read_musdb, MusdbOptions),
}
