"""Readers of music: GTZAN, Medley-solos-DB, NSynth and MUSDB18, as their archives unpack."""

from __future__ import annotations

import json

import numpy as np
import soundfile

from synthio.data.music import MUSDB_VALID
from tests.data.toy import dropped, labels, names, write


def gtzan_tree(tmp_path, make_wav, copies=()):
    """Two genres of ten clips and the file that is broken in the Kaggle copy."""
    for genre in ("blues", "jazz"):
        for i in range(50, 60):
            name = f"{genre}.{i:05d}.wav"
            seed = 1000 if name in copies else i + 100 * (genre == "jazz")
            make_wav(f"gtzan/Data/genres_original/{genre}/{name}", 0.02, seed=seed)
    broken = tmp_path / "gtzan/Data/genres_original/jazz/jazz.00054.wav"
    broken.write_bytes(b"\0" * 300)
    return tmp_path / "gtzan"


def test_gtzan_random_drops_the_broken_file_and_keeps_repeats_together(prepare, tmp_path, make_wav):
    source = gtzan_tree(tmp_path, make_wav, copies=[f"blues.{i:05d}.wav" for i in range(50, 55)])
    tables = prepare("gtzan", source)
    assert sum(map(len, tables.values())) == 19
    (name, reason) = dropped(tmp_path, "train")[0]
    assert name == "jazz.00054.wav" and reason.startswith("known to be broken: unreadable")
    assert all(set(labels(rows)) == {"blues", "jazz"} for rows in tables.values())
    repeats = [
        split
        for split, rows in tables.items()
        for name in names(rows)
        if name in {f"blues.{i:05d}.wav" for i in range(50, 55)}
    ]
    assert len(repeats) == 5 and len(set(repeats)) == 1


def test_gtzan_filtered_reads_the_lists(prepare, tmp_path, make_wav):
    source = gtzan_tree(tmp_path, make_wav)
    lists = {"train": (50, 54, 56), "valid": (51,), "test": (52, 59)}
    for split, numbers in lists.items():
        lines = [f"{genre}/{genre}.{i:05d}.wav" for genre in ("blues", "jazz") for i in numbers]
        write(tmp_path / f"lists/{split}_filtered.txt", *lines)
    tables = prepare("gtzan", source, "--split", "filtered", "--split_folder", tmp_path / "lists")
    assert {split: len(rows) for split, rows in tables.items()} == {"train": 5, "valid": 2, "test": 4}
    assert names(tables["valid"]) == ["blues.00051.wav", "jazz.00051.wav"]
    (tmp_path / "out/train.csv").unlink()
    assert "train_filtered.txt: no such file" in prepare("gtzan", source, "--split", "filtered", ok=False)


def test_medley_keeps_its_subsets_and_songs(prepare, tmp_path, make_wavs):
    rows = [
        ("test", "clarinet", 0, 9, "u0"),
        ("training", "clarinet", 0, 1, "u1"),
        ("training", "violin", 7, 2, "u2"),
        ("validation", "violin", 7, 3, "u3"),
    ]
    write(
        tmp_path / "medley/Medley-solos-DB_metadata.csv",
        "subset,instrument,instrument_id,song_id,uuid4",
        *(",".join(map(str, row)) for row in rows),
    )
    make_wavs("medley/audio", [f"Medley-solos-DB_{subset}-{i}_{uuid}.wav" for subset, _, i, _, uuid in rows])
    tables = prepare("medley", tmp_path / "medley")
    assert names(tables["train"]) == ["Medley-solos-DB_training-0_u1.wav", "Medley-solos-DB_training-7_u2.wav"]
    assert [(row["label"], row["group"]) for row in tables["valid"] + tables["test"]] == [
        ("violin", "3"),
        ("clarinet", "9"),
    ]


def nsynth_tree(tmp_path, make_wavs, valid_instruments):
    instruments = {
        "train": [f"{f}_acoustic_{i:03d}" for f in ("bass", "flute") for i in range(10)],
        "valid": valid_instruments,
        "test": ["bass_acoustic_900", "flute_acoustic_901"],
    }
    for split, found in instruments.items():
        notes = {f"{name}-060-{v:03d}": name for name in found for v in (50, 100)}
        facts = {
            note: {"note_str": note, "instrument_str": name, "instrument_family_str": name.split("_")[0], "pitch": 60}
            for note, name in notes.items()
        }
        write(tmp_path / f"nsynth/nsynth-{split}/examples.json", json.dumps(facts))
        make_wavs(f"nsynth/nsynth-{split}/audio", [f"{note}.wav" for note in notes])
    return tmp_path / "nsynth"


def test_nsynth_labels_families_and_keeps_a_clean_validation_set(prepare, tmp_path, make_wavs):
    tables = prepare(
        "nsynth", nsynth_tree(tmp_path, make_wavs, ["bass_acoustic_800", "flute_acoustic_801", "bass_acoustic_900"])
    )
    assert {row["group"] for row in tables["valid"]} == {"bass_acoustic_800", "flute_acoustic_801"}
    assert labels(tables["train"]) == {"bass": 20, "flute": 20} and len(dropped(tmp_path, "valid")) == 2


def test_nsynth_validation_of_test_instruments_is_replaced(prepare, tmp_path, make_wavs):
    """Validation on the test's instruments would choose the model by them."""
    tables = prepare("nsynth", nsynth_tree(tmp_path, make_wavs, ["bass_acoustic_900", "flute_acoustic_901"]))
    assert labels(tables["valid"]) == {"bass": 2, "flute": 2} and len(tables["test"]) == 4
    assert {row["group"] for row in tables["valid"]} & {"bass_acoustic_900", "flute_acoustic_901"} == set()
    assert len(dropped(tmp_path, "valid")) == 4 and len(tables["train"]) == 36


def test_nsynth_validation_that_loses_most_is_replaced(prepare, tmp_path, make_wavs):
    valid = ["bass_acoustic_900", "flute_acoustic_901", "bass_acoustic_800"]
    tables = prepare("nsynth", nsynth_tree(tmp_path, make_wavs, valid))
    assert labels(tables["valid"]) == {"bass": 2, "flute": 2} and len(dropped(tmp_path, "valid")) == 6


def musdb_tree(tmp_path, make_wav):
    for song in (f"train/{MUSDB_VALID[0]}", "train/A - Song", "test/B - Song"):
        for i, stem in enumerate(("bass", "drums", "other", "vocals", "mixture")):
            sound = np.random.default_rng(i).uniform(-0.3, 0.3, (4100, 2))
            sound[:1000] = 1e-4  # the first of four windows of 1000 samples is quiet
            make_wav(f"musdb/{song}/{stem}.wav", audio=sound, sample_rate=8000)
    return tmp_path / "musdb"


def test_musdb_cuts_loud_parts_of_stems(prepare, tmp_path, make_wav):
    source = musdb_tree(tmp_path, make_wav)
    tables = prepare("musdb18", source, "--clip_s", 0.125, "--clips_per_stem", 2)
    assert {row["group"] for row in tables["valid"]} == {MUSDB_VALID[0]}
    assert labels(tables["test"]) == dict.fromkeys(("bass", "drums", "other", "vocals"), 2)
    stem, _ = soundfile.read(source / "test/B - Song/bass.wav", dtype="int16")
    cuts = [soundfile.read(tmp_path / "out" / row["path"], dtype="int16") for row in tables["test"][:2]]
    for (audio, sample_rate), start in zip(cuts, (1000, 3000), strict=True):  # first and last of the three loud ones
        assert sample_rate == 8000 and np.array_equal(audio, stem[start : start + 1000])
    assert len({row["path"] for rows in tables.values() for row in rows}) == 24


def test_musdb_mistakes(prepare, tmp_path, make_wav):
    source = musdb_tree(tmp_path, make_wav)
    (source / "test/B - Song/bass.wav").unlink()
    assert "B - Song/bass.wav" in prepare("musdb18", source, "--clip_s", 0.125, ok=False)
    (source / "train/C - Song.stem.mp4").write_bytes(b"\0")
    assert "musdbconvert" in prepare("musdb18", source, ok=False)
