"""What the filter keeps and why: thresholds, ranks, copies, bad audio, self-reflection's rounds, the tuned CLAP."""

from __future__ import annotations

import csv
import itertools
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from synthio.filtering.finetune import contrastive_loss, evaluate, read_clips
from synthio.filtering.likeness import likeness, read_embedding, spectral_embedding
from synthio.filtering.rounds import balanced_counts, count_rounds, gain_line, quotas
from synthio.filtering.thresholds import (
    AGREEMENT,
    JOINT,
    Limit,
    auto_limits,
    below_limits,
    best_first,
    copies,
    joint_scores,
    outranked,
    quantile_limits,
    ranks,
    reject,
    repeats,
    rows_by_class,
    score_cells,
)
from synthio.models.clap import ClapScorer
from tests.classification.test_training import save_tiny_ast
from tests.scripts import call_script
from tests.tiny_models import save_clap

ROOT = Path(__file__).resolve().parent.parent.parent
FILTER, FINETUNE, TRAIN = ROOT / "filter_audios.py", ROOT / "extras/finetune_clap.py", ROOT / "ast/train.py"
ROUNDS = ROOT / "synthio/filtering/rounds.py"
SCORE, RATE = "clap_score", 16000


def scored(*rows: tuple, column: str = SCORE) -> pd.DataFrame:
    """A table of (label, score[, reason]); the clips are called a, b, ... in row order."""
    columns = {"path": [], "label": [], SCORE: [], column: [], "reason": []}
    for name, (label, score, *reason) in zip("abcdefghijklmnop", rows, strict=False):
        columns["path"].append(f"/{name}.wav")
        columns["label"].append(label)
        columns["reason"].append(reason[0] if reason else "")
        columns[SCORE].append(*score_cells([score]))
        if column != SCORE:
            columns[column].append(*score_cells([score]))
    return pd.DataFrame(columns, dtype=str)


def kept(table: pd.DataFrame, reasons) -> str:
    """The names of the clips that no reason rejects: 'ac'."""
    return "".join(Path(p).stem for p, r in zip(table["path"], reject(table, reasons)["reason"], strict=True) if not r)


TEN = [("dog", 0.1 * i) for i in range(10)]


# ---- thresholds on tables


def test_absolute_keeps_what_reaches_the_threshold():
    table = scored(("dog", 0.85), ("dog", 0.849999), ("rain", 1), ("rain", 0), column="clap_probability")
    reasons = below_limits(table, "clap_probability", dict.fromkeys(["dog", "rain"], Limit(0.85)))
    assert kept(table, reasons) == "ac"
    assert reasons[1] == "clap_probability 0.849999 is below 0.85"


@pytest.mark.parametrize(
    ("keep_percent", "rows", "expected"),
    [
        (30, TEN, "hij"),
        (70, TEN, "defghij"),
        (100, TEN, "abcdefghij"),
        (1, TEN, "j"),
        (50, [("dog", 0.2)], "a"),
        (50, [("dog", 0.3)] * 4, "abcd"),  # all tie with the limit
        (50, [("dog", 0.1), ("dog", 0.2), ("rain", 0.8), ("rain", 0.9)], "bd"),
        (50, [("dog", 0.9, "silent"), ("dog", 0.1), ("dog", 0.2)], "c"),  # what is out has no part in the quantile
        (50, [], ""),
    ],
)
def test_class_quantile(keep_percent, rows, expected):
    table = scored(*rows)
    assert kept(table, below_limits(table, SCORE, quantile_limits(table, SCORE, keep_percent))) == expected


def test_a_quantile_that_falls_on_a_score_keeps_it():
    """100 * .07 is a little more than 7 in binary; the clip on the limit must not fall through."""
    table = scored(*[("dog", 0.013 * i) for i in range(11)])
    for keep_percent in range(1, 101):
        limit = quantile_limits(table, SCORE, keep_percent)["dog"].value
        place = 10 * (1 - keep_percent / 100)
        if abs(place - round(place)) < 1e-9:
            assert limit == pytest.approx(0.013 * round(place), abs=1e-9)
            assert kept(table, below_limits(table, SCORE, {"dog": Limit(limit)})) == "abcdefghijk"[round(place) :]


@pytest.mark.parametrize(
    ("keep_percent", "rows", "expected"),
    [
        (30, TEN, "hij"),
        (31, TEN, "ghij"),  # rounded up
        (100, TEN, "abcdefghij"),
        (1, TEN, "j"),
        (50, [("dog", 0.2)], "a"),
        (50, [("dog", 0.3)] * 4, "ab"),  # exactly half, ties decided by the clip
        (50, [("dog", 0.1), ("dog", 0.2), ("rain", 0.8), ("rain", 0.9)], "bd"),
        (50, [("dog", 0.9, "silent"), ("dog", 0.1), ("dog", 0.2)], "c"),
        (50, [], ""),
    ],
)
def test_rank(keep_percent, rows, expected):
    table = scored(*rows)
    reasons, limits = outranked(table, SCORE, keep_percent)
    assert kept(table, reasons) == expected
    assert limits.keys() == {label for label, *_ in rows}


def test_ties_are_decided_the_same_way_in_every_row_order():
    table = scored(("dog", 0.3), ("dog", 0.3), ("dog", 0.5), ("dog", 0.3), ("dog", 0.1))
    for order in itertools.permutations(range(5)):
        turned = table.iloc[list(order)].reset_index(drop=True)
        assert sorted(kept(turned, outranked(turned, SCORE, 60)[0])) == ["a", "b", "c"]
    hashed = table.assign(sha256=["9", "8", "7", "6", "5"])  # the content decides before the path
    assert kept(hashed, outranked(hashed, SCORE, 60)[0]) == "bcd"


def test_a_clip_of_several_labels_is_in_the_class_of_each():
    found = rows_by_class(scored(("rain; dog", 0.1), ("dog;rain", 0.2), ("dog", 0.3)))
    assert {label: list(rows) for label, rows in found.items()} == {"dog": [0, 1, 2], "rain": [0, 1]}


def test_auto_takes_the_quantile_of_the_real_clips_of_the_class():
    valid = scored(*[("dog", 0.1 * i) for i in range(1, 6)], *[("rain", 0.6 + 0.1 * i) for i in range(1, 6)])
    limits = auto_limits(valid, SCORE, 0.25, ["dog", "rain"])
    assert {name: limit.value for name, limit in limits.items()} == {"dog": 0.2, "rain": 0.8}
    assert limits["dog"].origin == "the 0.25 quantile of its 5 validation clips"
    table = scored(("dog", 0.2), ("dog", 0.19), ("rain", 0.79), ("rain", 0.8))
    reasons = below_limits(table, SCORE, limits)
    assert kept(table, reasons) == "ad"
    assert reasons[1] == "clap_score 0.190000 is below 0.2, the 0.25 quantile of its 5 validation clips"


def test_auto_falls_back_to_all_real_clips_and_says_so():
    valid = scored(*[("dog", 0.1 * i) for i in range(5)], *[("rain", 0.5)] * 4, ("rain", 0.9, "silent"))
    limits = auto_limits(valid, SCORE, 0.5, ["dog", "rain", "siren"])
    assert limits["dog"].value == 0.2
    assert limits["rain"].value == limits["siren"].value == 0.4  # the median of 0 .1 .2 .3 .4 .5 .5 .5 .5
    assert limits["rain"].origin == "the 0.5 quantile of all 9 validation clips, as the class has 4"
    assert limits["siren"].origin.endswith("as the class has 0")
    with pytest.raises(ValueError, match="no validation clip can be used"):
        auto_limits(scored(("dog", math.nan, "silent")), SCORE, 0.5, ["dog"])


# ---- ranks


def test_ranks_share_their_mean_where_scores_are_equal():
    assert ranks(np.array([0.3, 0.9, 0.3, 0.1])).tolist() == [2.5, 1, 2.5, 4]
    assert ranks(np.array([1.0, 1.0])).tolist() == [1.5, 1.5]


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        # CLAP's ranks are 1 2 3, the classifier's 3 1 2; rank 1 of 3 is worth 1, rank 3 is worth 0
        (0, [1, 0.5, 0]),
        (1, [0, 1, 0.5]),
        (0.5, [0.5, 0.75, 0.25]),
        (0.25, [0.75, 0.625, 0.125]),
    ],
)
def test_joint_scores_by_hand(weight, expected):
    table = scored(("dog", 0.9), ("dog", 0.8), ("dog", 0.1), ("rain", 0.5), ("dog", 1.0, "silent"))
    table[AGREEMENT] = score_cells([0.2, 0.99, 0.5, 0.01, math.nan])
    assert joint_scores(table, weight).tolist()[:4] == pytest.approx([*expected, 1])  # alone in its class: 1
    assert math.isnan(joint_scores(table, weight)[4])


def test_a_joint_tie_goes_to_the_clip_that_clap_prefers():
    table = scored(("dog", 0.1), ("dog", 0.9)).assign(**{JOINT: score_cells([0.5, 0.5])})
    assert best_first(table, JOINT, np.array([0, 1])) == [1, 0]


# ---- copies on tables


def test_copies_and_repeats_by_hand():
    table = scored(("dog", 0.1), ("dog", 0.2), ("rain", 0.3))
    cosines = np.array([[0.95, 0.91], [0.90, 0.2], [0.1, 0.99]])
    reasons = copies(table, cosines, ["the gold clip x.wav", "the test clip y.wav"], 0.9)
    assert reasons[0] == "near-duplicate of the gold clip x.wav (cosine 0.950)"
    assert reasons[1] == ""  # not above
    assert "the test clip y.wav" in reasons[2]
    assert copies(table, np.zeros((3, 0)), [], 0.9) == ["", "", ""]
    # c is best; b is like c, a is like b alone, and b is gone
    between = np.array([[1, 0.95, 0.1], [0.95, 1, 0.95], [0.1, 0.95, 1]])
    assert repeats(table, SCORE, between, 0.9) == {1: 2}
    assert repeats(reject(table, ["", "", "silent"]), SCORE, between, 0.9) == {0: 1}


# ---- likeness of recordings


def barks(seed: int, seconds: float = 2.0) -> np.ndarray:
    """Bursts of coloured noise with a falling pitch, [T] at 16 kHz: sounds of one kind, each another recording."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(int(seconds * RATE)) / RATE
    out = 0.01 * rng.normal(size=len(time_s))
    for start in np.sort(rng.uniform(0, seconds - 0.3, 4)):
        since = np.clip(time_s - start, 0, None)
        tone = np.sin(2 * np.pi * (500 * since - 300 * since**2)) + 0.5 * rng.normal(size=len(time_s))
        out += 0.3 * tone * np.exp(-12 * since) * (time_s >= start)
    return out


def encoded(folder: Path, audio: np.ndarray, name: str, rate: int = RATE) -> Path:
    path = folder / name
    soundfile.write(path, np.clip(audio, -1, 1), rate)
    return path


CHANGES = {
    "quieter": lambda x: 0.05 * x,
    "louder": lambda x: 1.5 * x,
    "shifted": lambda x: np.concatenate([x[1000:], x[:1000]]),
    "cut": lambda x: x[: int(0.9 * len(x))],
    "noisy": lambda x: x + 0.003 * np.random.default_rng(9).normal(size=len(x)),
    "offset": lambda x: x + 0.1,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found(change):
    copy = CHANGES[change](barks(0))
    cosines = likeness([spectral_embedding(copy[None])], [spectral_embedding(barks(k)[None]) for k in range(8)])[0]
    assert cosines[0] > 0.9
    assert cosines[1:].max() < 0.7


@pytest.mark.parametrize("suffix", ["ogg", "mp3", "flac", "wav"])
def test_a_re_encoded_quieter_copy_is_found(tmp_path, suffix):
    if suffix.upper() not in soundfile.available_formats():
        pytest.skip(f"soundfile writes no {suffix}")
    original = read_embedding(encoded(tmp_path, barks(0), "a.wav"))
    copy = read_embedding(encoded(tmp_path, 0.3 * barks(0), f"b.{suffix}"))
    assert likeness([copy], [original])[0, 0] > 0.9


def test_likeness_is_the_cosine_at_the_best_shift():
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(32, 50)).astype(np.float32) for _ in range(2))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    best = max(
        float((a[:, max(0, lag) : 50 + min(0, lag)] * b[:, max(0, -lag) : 50 + min(0, -lag)]).sum())
        for lag in range(-25, 26)
    )
    moved = np.pad(a, ((0, 0), (25, 0)))
    found = likeness([a], [b, a, moved, np.pad(moved, ((0, 0), (1, 0)))] * 50)  # more than one block
    assert found.shape == (1, 200)
    assert found[0, :3] == pytest.approx([best, 1, 1], abs=1e-5)
    assert found[0, 3] < 0.5 and np.array_equal(found[0, :4], found[0, -4:])
    assert likeness([], [a]).shape == (0, 1) and likeness([a], []).shape == (1, 0)


def test_steady_and_silent_sounds_are_like_nothing():
    tones = [np.sin(2 * np.pi * f * np.arange(2 * RATE) / RATE)[None] for f in (440, 441, 3000)]
    spectra = [spectral_embedding(x) for x in [*tones, np.zeros((1, RATE)), np.zeros((1, 10))]]
    assert all(np.isfinite(x).all() for x in spectra)
    assert likeness(spectra, spectra).max() < 0.5


# ---- the script


def rows_of(path):
    with Path(path).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write_rows(path, rows, columns=("path", "label")):
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]) if rows else list(columns))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def clap(tmp_path_factory):
    return save_clap(tmp_path_factory.mktemp("models") / "clap")


@pytest.fixture
def world(tmp_path):
    """Folder with gold.csv, valid.csv, test.csv and clips.csv of different sounds: 3, 10, 3 and 8 of two labels."""
    seeds = itertools.count(100)
    for name, count in {"gold": 3, "valid": 10, "test": 3, "clips": 8}.items():
        rows = []
        for i in range(count):
            encoded(tmp_path, barks(next(seeds), 1.0), f"{name}{i}.wav")
            rows.append({"path": f"{name}{i}.wav", "label": ["dog_bark", "rain"][i % 2]})
        write_rows(tmp_path / f"{name}.csv", rows)
    return tmp_path


def add_clip(world, name, label="rain", source="clips.csv"):
    rows = rows_of(world / source)
    write_rows(world / source, [*rows, {"path": name, "label": label}])


def run_filter(world, clap, *words, source="clips.csv", name="f", ok=True):
    """(kept rows, rejected rows, what was printed) of filter_audios.py with threshold 0, unless words say otherwise."""
    out = [world / f"{name}_kept.csv", world / f"{name}_rejected.csv"]
    threshold = () if "--threshold" in words else ("--threshold", 0)
    args = ["--input_csv", world / source, "--kept_csv", out[0], "--rejected_csv", out[1], "--model", clap, *threshold]
    done = call_script(FILTER, *args, *words)
    assert (done.returncode == 0) == ok, done.stderr
    return (rows_of(out[0]), rows_of(out[1]), done.stderr) if ok else done.stderr


def references(world):
    return ["--gold_csv", world / "gold.csv", "--valid_csv", world / "valid.csv", "--test_csv", world / "test.csv"]


def test_copies_of_gold_validation_and_test_clips_are_dropped_with_their_original(world, clap):
    changed = {"gold1": "near.ogg", "valid2": "near.flac", "test0": "near.wav"}
    for original, name in changed.items():
        audio, _ = soundfile.read(world / f"{original}.wav")
        encoded(world, 0.2 * audio, name)
        add_clip(world, name)
    good, rejected, printed = run_filter(world, clap, *references(world))
    assert len(good) == 8 and "rejected: 3 near-duplicates" in printed
    assert [Path(row["path"]).name for row in rejected] == list(changed.values())
    assert [Path(row["resembles"]).stem for row in rejected] == list(changed)
    for row, kind in zip(rejected, ("gold", "validation", "test"), strict=True):
        assert row["reason"].startswith(f"near-duplicate of the {kind} clip {Path(row['resembles']).name} (cosine ")
        assert float(row["nearest_cosine"]) > 0.9
        assert (world / row["resembles"]).is_file()  # relative to the CSV, as all paths
    assert all(row["resembles"] == "" and float(row["nearest_cosine"]) < 0.9 for row in good)
    assert len(run_filter(world, clap, *references(world), "--duplicate_cosine", 1)[0]) == 11
    strict = run_filter(world, clap, *references(world), "--duplicate_cosine", 0)
    assert strict[0] == [] and all("near-duplicate" in row["reason"] for row in strict[1])


def test_test_labels_have_no_part_in_the_filter(world, clap):
    words = [*references(world), "--threshold", "auto"]
    before = run_filter(world, clap, *words)
    rows = [{"path": row["path"]} for row in rows_of(world / "test.csv")]
    write_rows(world / "test.csv", rows)
    assert run_filter(world, clap, *words)[:2] == before[:2]


def test_without_references_nothing_is_a_copy(world, clap):
    shutil.copy(world / "gold0.wav", world / "same.wav")
    add_clip(world, "same.wav")
    good, rejected, _ = run_filter(world, clap)
    assert len(good) == 9 and rejected == [] and "nearest_cosine" not in good[0]


def test_repeats_of_better_clips_are_dropped_when_asked(world, clap):
    audio, _ = soundfile.read(world / "clips2.wav")
    encoded(world, 0.3 * audio, "again.ogg")
    add_clip(world, "again.ogg", "dog_bark")
    assert len(run_filter(world, clap)[0]) == 9
    good, rejected, printed = run_filter(world, clap, "--drop_repeats", "true")
    (out,) = rejected
    assert {Path(out["path"]).name, Path(out["resembles"]).name} == {"again.ogg", "clips2.wav"}
    assert "near-duplicate of the better clip" in out["reason"] and "1 repeats" in printed
    better = next(row for row in good if Path(row["path"]).name == Path(out["resembles"]).name)
    assert float(better["clap_score"]) >= float(out["clap_score"])
    earlier = write_rows(world / "round_0.csv", [{"path": "clips2.wav", "label": "dog_bark"}])
    write_rows(world / "one.csv", [{"path": "again.ogg", "label": "dog_bark"}])
    words = ["--drop_repeats", "true", "--earlier_csvs", earlier]
    _, (row,), _ = run_filter(world, clap, *words, source="one.csv")
    assert "near-duplicate of the earlier clip clips2.wav" in row["reason"]


@pytest.mark.parametrize(
    ("name", "audio", "reason"),
    [
        ("silent", np.zeros(RATE), "silent: peak -inf dBFS"),
        ("offset", np.full(RATE, 0.25), "silent"),  # a constant is no sound
        ("faint", np.full(RATE, 1e-4) * np.sin(np.arange(RATE)), "silent: peak -80 dBFS"),
        ("nan", np.where(np.arange(RATE) == 7, np.nan, 0.1), "NaN"),
        ("clipped", np.clip(4 * np.sin(np.arange(RATE)), -1, 1), "clipped: 83"),
    ],
)
def test_bad_audio_is_rejected_whatever_its_score(world, clap, name, audio, reason):
    soundfile.write(world / f"{name}.wav", audio.astype(np.float32), RATE, subtype="FLOAT")
    add_clip(world, f"{name}.wav")
    good, (row,), printed = run_filter(world, clap)
    assert len(good) == 8 and reason in row["reason"] and row["clap_score"] == ""
    assert "rejected: 1 unusable" in printed


def test_clipping_is_a_share_of_the_samples(world, clap):
    audio = 0.2 * barks(7, 1.0)
    audio[:160] = 1.0  # 1 % of a second
    for channels, name in ((1, "mono"), (2, "stereo")):
        sound = np.stack([audio, 0.2 * audio], axis=1)[:, :channels]
        soundfile.write(world / f"{name}.wav", sound, RATE, subtype="FLOAT")
        add_clip(world, f"{name}.wav")
    assert len(run_filter(world, clap)[0]) == 10  # 1 % and .5 %: not more than allowed
    _, (row,), _ = run_filter(world, clap, "--max_clipped", 0.009)
    assert Path(row["path"]).name == "mono.wav" and row["reason"] == "clipped: 1.0 % of the samples are at full scale"


def test_auto_threshold_is_the_quantile_of_the_validation_clips_scores(world, clap):
    real, _, _ = run_filter(world, clap, source="valid.csv", name="real")
    everything, _, _ = run_filter(world, clap)
    words = ["--threshold", "auto", "--auto_quantile", 0.5, "--valid_csv", world / "valid.csv"]
    good, rejected, printed = run_filter(world, clap, *words)
    median = {
        label: round(float(np.median([float(row[SCORE]) for row in real if row["label"] == label])), 6)
        for label in ("dog_bark", "rain")
    }
    expected = [row["path"] for row in everything if float(row[SCORE]) >= median[row["label"]]]
    assert [row["path"] for row in good] == expected and len(rejected) == 8 - len(expected)
    assert all("quantile of its 5 validation clips" in row["reason"] for row in rejected)
    assert "take that of all together" not in printed
    write_rows(world / "valid.csv", rows_of(world / "valid.csv")[:9])  # now 4 clips of rain
    assert "1 of 2 classes have fewer than 5" in run_filter(world, clap, *words)[2]
    soundfile.write(world / "silent.wav", np.zeros(RATE), RATE)
    write_rows(world / "valid.csv", [{"path": "silent.wav", "label": "rain"}])
    assert "no validation clip can be used" in run_filter(world, clap, *words, ok=False)


@pytest.mark.parametrize("kind", ["class_quantile", "rank"])
def test_each_class_keeps_its_share(world, clap, kind):
    good, rejected, _ = run_filter(world, clap, "--threshold_kind", kind, "--keep_percent", 50)
    assert Counter(row["label"] for row in good) == {"dog_bark": 2, "rain": 2}
    for label in ("dog_bark", "rain"):
        lowest = min(float(row[SCORE]) for row in good if row["label"] == label)
        assert all(float(row[SCORE]) < lowest for row in rejected if row["label"] == label)


def test_all_rejected_and_empty_input(world, clap):
    good, rejected, printed = run_filter(world, clap, "--threshold", 1)
    assert good == [] and len(rejected) == 8 and "8 below the threshold" in printed
    assert list(rejected[0]) == ["path", "label", SCORE, "clap_probability", "reason", "resembles"]
    write_rows(world / "none.csv", [])
    for kind in ("absolute", "class_quantile", "rank"):
        words = ["--threshold_kind", kind, *references(world), "--drop_repeats", "true"]
        assert run_filter(world, clap, *words, source="none.csv")[:2] == ([], [])


def test_columns_of_an_earlier_round_are_replaced(world, clap):
    plain = run_filter(world, clap)[0]
    stale = {"reason": "old", SCORE: "9", "resembles": "x.wav", "classifier_probability": "9", "rank_score": "9"}
    write_rows(world / "clips.csv", [row | stale for row in rows_of(world / "clips.csv")])
    assert run_filter(world, clap)[0] == plain


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--threshold", "85"], "outside [0, 1]; give a probability or auto"),
        (["--threshold", "auto"], "give --valid_csv"),
        (["--threshold", "auto", "--threshold_kind", "rank"], "cannot go with rank"),
        (["--classifier", "x"], "--threshold_kind rank"),
        (["--earlier_csvs", "x"], "--drop_repeats true"),
        (["--classifier", "x", "--threshold_kind", "rank"], "no model/ and scores.json"),
        (["--gold_csv", "/not/there.csv"], "no such CSV file"),
    ],
)
def test_mistakes_end_with_one_line(world, clap, words, message):
    printed = run_filter(world, clap, *words, ok=False)
    assert message in printed and "Traceback" not in printed


def test_a_reference_that_cannot_be_read_is_named(world, clap):
    (world / "gold1.wav").write_bytes(b"RIFF")
    assert "gold.csv row 2:" in run_filter(world, clap, *references(world), ok=False)


# ---- the classifier's say


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """An output folder of ast/train.py on tones of two labels, tested on clips.csv; and the folder of these CSVs."""
    folder = tmp_path_factory.mktemp("classifier")
    save_tiny_ast(folder / "ast")
    for name, count in {"train": 8, "valid": 4, "clips": 9}.items():
        rows = []
        for i in range(count):
            label = ["low", "high"][i % 2]
            tone = np.sin(2 * np.pi * (300 if label == "low" else 2500) * np.arange(8000) / RATE)
            noise = np.random.default_rng(i).normal(size=8000)
            encoded(folder, 0.2 * tone + 0.03 * (i + 1) * noise, f"{name}{i}.wav")
            rows.append({"path": f"{name}{i}.wav", "label": label})
        write_rows(folder / f"{name}.csv", rows)
    csvs = [
        word
        for s, c in zip(("train", "valid", "test"), ("train", "valid", "clips"), strict=True)
        for word in (f"--{s}_csv", folder / f"{c}.csv")
    ]
    options = ["--model", folder / "ast", "--num_steps", 12, "--learning_rate", 1e-3]
    assert call_script(TRAIN, *csvs, "--output_folder", folder / "out", *options).returncode == 0
    return folder


def test_the_classifier_mixes_its_rank_with_claps(classifier, clap):
    words = ["--threshold_kind", "rank", "--keep_percent", 50, "--classifier", classifier / "out"]
    chances = {
        Path(row["path"]).name: float(row[f"probability_{row['label']}"])
        for row in rows_of(classifier / "out/predictions.csv")
    }
    kept_by_weight = {}
    for weight in (0, 0.5, 1):
        good, rejected, _ = run_filter(classifier, clap, *words, "--classifier_weight", weight)
        rows = good + rejected
        assert {Path(row["path"]).name: float(row[AGREEMENT]) for row in rows} == pytest.approx(chances, abs=1e-6)
        assert Counter(row["label"] for row in good) == {"low": 3, "high": 2}  # of 5 and 4
        kept_by_weight[weight] = {Path(row["path"]).name for row in good}
        column = {0: SCORE, 0.5: JOINT, 1: AGREEMENT}[weight]
        for label in ("low", "high"):
            lowest = min(float(row[column]) for row in good if row["label"] == label)
            assert all(float(row[column]) <= lowest for row in rejected if row["label"] == label)
    assert kept_by_weight[0] != kept_by_weight[1]


def test_a_classifier_of_synthetic_clips_or_other_labels_is_refused(classifier, clap, tmp_path):
    words = ["--threshold_kind", "rank", "--classifier"]
    write_rows(tmp_path / "clips.csv", [{"path": str(classifier / "clips0.wav"), "label": "siren"}])
    assert "does not know the label 'siren'" in run_filter(tmp_path, clap, *words, classifier / "out", ok=False)
    shutil.copytree(classifier / "out", tmp_path / "out")
    record = (tmp_path / "out/scores.json").read_text()
    (tmp_path / "out/scores.json").write_text(record.replace('"synthetic": 0', '"synthetic": 5'))
    assert "was trained on 5 synthetic clips" in run_filter(tmp_path, clap, *words, tmp_path / "out", ok=False)


# ---- the picture


def test_the_picture_shows_kept_clips_rejected_clips_and_thresholds(world, clap):
    from matplotlib.image import imread

    green, black = (0, 158, 115), (0, 0, 0)

    def shows(colour):
        pixels = np.round(255 * imread(world / "f_kept.png")[..., :3]).astype(int)
        return bool((pixels == colour).all(axis=-1).any())

    write_rows(
        world / "clips.csv", [row | {"label": f"{row['label']} $x$ {'y' * 99}"} for row in rows_of(world / "clips.csv")]
    )
    run_filter(world, clap, "--threshold_kind", "rank", "--keep_percent", 50)
    first = (world / "f_kept.png").read_bytes()
    assert shows(green) and shows(black)
    run_filter(world, clap, "--threshold_kind", "rank", "--keep_percent", 50)
    assert (world / "f_kept.png").read_bytes() == first  # the same picture from the same scores
    write_rows(world / "none.csv", [])
    run_filter(world, clap, source="none.csv")
    assert not shows(green) and shows(black)  # "no clip has a score"


def test_of_many_classes_the_picture_shows_those_that_lose_most():
    from synthio.filtering.picture import MAX_CLASSES, shown_classes
    from synthio.filtering.thresholds import rows_of_classes

    classes = rows_of_classes([f"{i:03}" for i in range(MAX_CLASSES + 5)] * 2, np.ones(2 * (MAX_CLASSES + 5), bool))
    is_kept = np.array([i >= 3 for i in range(MAX_CLASSES + 5)] + [True] * (MAX_CLASSES + 5))
    shown = shown_classes(classes, is_kept)
    assert len(shown) == MAX_CLASSES and shown[:3] == ["000", "001", "002"] and shown == sorted(shown)


# ---- rounds of self-reflection


def test_rounds_count_the_gain_and_the_quotas():
    quota = quotas(["dog", "dog", "rain", "a;b", "b; a"], 2)
    assert quota == {"a": 4, "b": 4, "dog": 4, "rain": 2}
    first, first_out = scored(*[("dog", 0.5)] * 3, ("rain", 0.5), ("a;b", 0.5)), scored(*[("dog", 0.1)] * 5)
    second, second_out = scored(("dog", 0.5), ("rain", 0.5)), scored(*[("a;b", 0)] * 3)
    records = count_rounds(quota, [first, second], [first_out, second_out])
    assert gain_line(records[0]) == "round 0: 5 of 10 kept; quota reached in 0 of 4 classes"
    assert gain_line(records[1]) == "round 1: +2 of 5 rewritten kept; quota reached in 2 of 4 classes"
    assert [record["kept_so_far"] for record in records] == [5, 7]


def write_round(folder, number, good, bad):
    """Kept and rejected CSV of a round: numbers of clips by label."""
    for kind, counts in (("kept", good), ("rejected", bad)):
        rows = []
        for label, count in counts.items():
            for i in range(count):
                name = f"{number}{kind}{label}{i}.wav"
                (folder / name).touch()
                rows.append({"path": name, "label": label, SCORE: f"{0.1 * i + number:.6f}", "source_path": "g.wav"})
        write_rows(folder / f"{kind}_{number}.csv", rows, ("path", "label", SCORE, "source_path"))


def rounds(action, folder, numbers, *words):
    kept_csvs, rejected_csvs = ([folder / f"{kind}_{n}.csv" for n in numbers] for kind in ("kept", "rejected"))
    words = [*words, *(("--rejected_csvs", *rejected_csvs) if action == "count" else ())]
    common = ["--gold_csv", folder / "gold.csv", "--num_iters", 2, "--output_csv", folder / f"{action}.csv"]
    return call_script(ROUNDS, action, *common, "--kept_csvs", *kept_csvs, *words)


@pytest.fixture
def two_rounds(tmp_path):
    write_rows(
        tmp_path / "gold.csv",
        [{"path": f"{i}.wav", "label": label} for i, label in enumerate(["dog"] * 3 + ["rain"] * 2)],
    )
    write_round(tmp_path, 0, {"dog": 5, "rain": 1}, {"dog": 1, "rain": 3})
    write_round(tmp_path, 1, {"dog": 1, "rain": 1}, {"rain": 2})
    write_round(tmp_path, 2, {"rain": 2}, {})
    return tmp_path


def test_rounds_stop_when_every_class_has_its_quota(two_rounds):
    lines = [rounds("count", two_rounds, range(n)) for n in (1, 2, 3)]
    assert [done.returncode for done in lines] == [3, 3, 0]
    assert lines[1].stdout == "round 1: +2 of 4 rewritten kept; quota reached in 1 of 2 classes\n"
    assert lines[2].stdout == "round 2: +2 of 2 rewritten kept; quota reached in 2 of 2 classes\n"
    assert [row["kept_so_far"] for row in rows_of(two_rounds / "count.csv")] == ["6", "8", "10"]
    write_round(two_rounds, 1, {"dog": 1}, {})  # nothing is left to rewrite
    assert rounds("count", two_rounds, (0, 1)).returncode == 0


def test_balance_cuts_to_the_share_of_the_class_with_least(two_rounds):
    done = rounds("balance", two_rounds, (0, 1))  # dog has 6 of 6, rain 2 of 4: half of each quota
    assert done.returncode == 0, done.stderr
    good, cut = rows_of(two_rounds / "balance.csv"), rows_of(two_rounds / "balance.dropped.csv")
    assert Counter(row["label"] for row in good) == {"dog": 3, "rain": 2}
    assert len(cut) == 3 and {row["label"] for row in cut} == {"dog"}
    best = sorted((float(row[SCORE]) for row in good + cut if row["label"] == "dog"), reverse=True)[:3]
    assert sorted((float(row[SCORE]) for row in good if row["label"] == "dog"), reverse=True) == best
    assert cut[0]["reason"] == "balance: its class keeps the best 3 of 6 clips (quota 6)"
    assert "3 clips cut, 5 stay" in done.stderr and "'rain' (2 of 4)" in done.stderr
    assert not (two_rounds / "balance2.dropped.csv").exists()
    rounds("balance", two_rounds, (0, 1, 2))
    assert len(rows_of(two_rounds / "balance.csv")) == 10 and not (two_rounds / "balance.dropped.csv").exists()


@pytest.mark.parametrize(
    ("quota", "have", "expected"),
    [
        ({"a": 4, "b": 4}, {"a": 5, "b": 4}, {"a": 4, "b": 4}),  # never more than the quota
        ({"a": 4, "b": 4}, {"a": 4, "b": 3}, {"a": 3, "b": 3}),
        ({"a": 10, "b": 4}, {"a": 10, "b": 2}, {"a": 5, "b": 2}),
        ({"a": 40, "b": 2}, {"a": 1, "b": 2}, {"a": 1, "b": 1}),  # one stays of each class that has any
        ({"a": 4, "b": 4}, {"a": 3}, {"a": 3, "b": 0}),  # a class with none cannot set the measure
        ({"a": 4}, {}, {"a": 0}),
    ],
)
def test_balanced_counts(quota, have, expected):
    assert balanced_counts(quota, have) == expected


def test_balance_by_the_classifiers_rank(two_rounds):
    rows = rows_of(two_rounds / "kept_0.csv")
    for i, row in enumerate(rows):
        row[AGREEMENT] = f"{0.9 - 0.1 * i:.6f}"  # the reverse of CLAP's order
    write_rows(two_rounds / "kept_0.csv", rows)
    write_rows(
        two_rounds / "gold.csv", [{"path": f"{i}.wav", "label": label} for i, label in enumerate(["dog", "rain"])]
    )
    rounds("balance", two_rounds, (0,), "--classifier_weight", 1)
    assert [row["path"] for row in rows_of(two_rounds / "balance.csv")][:1] == ["0keptdog0.wav"]
    rounds("balance", two_rounds, (0,))
    assert [row["path"] for row in rows_of(two_rounds / "balance.csv")][:1] == ["0keptdog4.wav"]


# ---- the fine-tuned CLAP


def test_the_contrastive_loss_by_hand():
    import torch

    loss_of = contrastive_loss
    audio = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    texts = torch.eye(2)
    # logits 1 0 / 1 0 / 0 1: each clip finds its text with e / (e + 1)
    to_texts = math.log(math.e + 1) - 1
    # text 0 shares its mass over two right clips, text 1 has one among three
    to_clips = ((math.log(2 * math.e + 1) - 1) + (math.log(2 + math.e) - 1)) / 2
    loss = loss_of(audio, texts, torch.tensor([0, 0, 1]), 1.0)
    assert loss.item() == pytest.approx((to_texts + to_clips) / 2, abs=1e-6)
    assert loss_of(audio[:2], texts[:1], torch.tensor([0, 0]), 1.0).item() == pytest.approx(math.log(2) / 2, abs=1e-6)


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """train.csv and valid.csv of noisy tones, 0.5 to 3 s, one pitch a label."""
    folder = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    for name, count in {"train": 12, "valid": 6}.items():
        rows = []
        for i in range(count):
            time_s = np.arange(int(RATE * rng.uniform(0.5, 3))) / RATE
            tone = 0.2 * np.sin(2 * np.pi * (300 + 900 * (i % 3)) * time_s) + 0.02 * rng.normal(size=len(time_s))
            encoded(folder, tone, f"{name}{i}.wav")
            rows.append({"path": f"{name}{i}.wav", "label": ["dog_bark", "rain", "siren"][i % 3]})
        write_rows(folder / f"{name}.csv", rows)
    return folder


def finetune_words(tones, clap, folder, *words):
    csvs = ["--train_csv", tones / "train.csv", "--valid_csv", tones / "valid.csv"]
    return [*csvs, "--model", clap, "--output_folder", folder, "--learning_rate", 3e-4, "--batch_size", 6, *words]


def finetune(tones, clap, folder, *words, ok=True):
    done = call_script(FINETUNE, *finetune_words(tones, clap, folder, *words))
    assert (done.returncode == 0) == ok, done.stderr
    return rows_of(folder.with_name(folder.name + "_history.csv")) if ok else done.stderr


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_the_tuned_clap_knows_the_gold_classes_better_and_keeps_its_scale(tones, clap, tmp_path):
    from synthio.models.load import load_scorer

    history = finetune(tones, clap, tmp_path / "tuned", "--num_steps", 40)
    losses = [float(row["valid_loss"]) for row in history]
    assert min(losses) < losses[0] - 0.3
    assert load_scorer(str(tmp_path / "tuned")).logit_scale == load_scorer(str(clap)).logit_scale
    assert not (tmp_path / "tuned/checkpoint.pt").exists()
    rows = [{"path": str(tones / row["path"]), "label": row["label"]} for row in rows_of(tones / "valid.csv")]
    write_rows(tmp_path / "clips.csv", rows)
    before, after = (run_filter(tmp_path, model)[0] for model in (clap, tmp_path / "tuned"))
    assert sum(float(row[SCORE]) for row in after) > sum(float(row[SCORE]) for row in before) + 0.3


def test_step_0_wins_when_nothing_is_better(tones, clap, tmp_path):
    words = ["--num_steps", 40, "--eval_every", 1, "--patience", 2, "--learning_rate", 0]
    history = finetune(tones, clap, tmp_path / "same", *words)
    assert [row["step"] for row in history] == ["0", "1", "2"]  # patience ends it
    old, new = weights(clap), weights(tmp_path / "same")
    assert old.keys() == new.keys() and all((old[name] == new[name]).all() for name in old)


def test_the_weights_are_those_of_the_best_validation_step(tones, clap, tmp_path):
    long = finetune(tones, clap, tmp_path / "long", "--num_steps", 30, "--eval_every", 5, "--learning_rate", 3e-3)
    best = min(long, key=lambda row: float(row["valid_loss"]))
    assert best["step"] not in ("0", long[-1]["step"])  # else this test would show nothing
    tuned = ClapScorer(str(tmp_path / "long"))
    loss, _ = evaluate(tuned, read_clips(tones / "valid.csv", tuned))
    assert loss == pytest.approx(float(best["valid_loss"]), abs=1e-6)


def test_a_killed_tuning_goes_on_to_the_same_weights(tones, clap, tmp_path):
    options = ["--num_steps", 40, "--eval_every", 2, "--patience", 999]
    finetune(tones, clap, tmp_path / "whole", *options)
    command = [sys.executable, FINETUNE, *finetune_words(tones, clap, tmp_path / "cut", *options)]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "cut/checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut/model.safetensors").exists()
    done = call_script(FINETUNE, *finetune_words(tones, clap, tmp_path / "cut", *options))
    assert "going on after step" in done.stderr
    name = "model.safetensors"
    assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert rows_of(tmp_path / "cut_history.csv") == rows_of(tmp_path / "whole_history.csv")


def test_tuning_mistakes(tones, clap, tmp_path):
    assert "lower --learning_rate" in finetune(tones, clap, tmp_path / "x", "--learning_rate", 1e30, ok=False)
    write_rows(tmp_path / "none.csv", [])
    assert "no clips to fine-tune on" in finetune(
        tones, clap, tmp_path / "x", "--train_csv", tmp_path / "none.csv", ok=False
    )
