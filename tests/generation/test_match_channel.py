"""The step that puts the gold clips' channel on generated clips: rows, records, and clips that can be made again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import soundfile

from synthio.files import read_json
from synthio.generation.channel import channel_of
from synthio.generation.match_channel import in_equal_shares, targets
from synthio.manifest import read_manifest
from tests.generation.test_channel import bursts

RATE = 8000


@pytest.fixture
def folder(tmp_path, make_wav, make_manifest):
    """gold.csv with noise that unmatched.csv has not, two classes of four clips each."""
    noise = np.random.default_rng(9)
    gold, made = [], []
    for row, (real, clip) in enumerate(zip(bursts(8, 0, 1.0, RATE), bursts(8, 1, 1.0, RATE), strict=True)):
        heard = real + 0.01 * noise.standard_normal(len(real))
        gold.append((make_wav(f"gold/{row}.wav", audio=heard, sample_rate=RATE).relative_to(tmp_path), "ab"[row % 2]))
        path = make_wav(f"made/{row}.wav", audio=clip, sample_rate=RATE).relative_to(tmp_path)
        made.append(
            {"path": path, "label": "ab"[row % 2], "prompt": f"p{row}", "seed": row, "source_path": gold[-1][0]}
        )
    make_manifest("gold.csv", gold)
    make_manifest("unmatched.csv", made)
    return tmp_path


def match(run_script, folder, name="generated", *words):
    done = run_script(
        *("-m", "synthio.generation.match_channel", "--input_csv", folder / "unmatched.csv"),
        *("--gold_csv", folder / "gold.csv", "--output_csv", folder / f"{name}.csv"),
        *("--output_folder", folder / name, *words),
    )
    assert done.returncode == 0, done.stderr
    return read_manifest(folder / f"{name}.csv")


def test_clips_get_the_noise_and_say_where_they_come_from(run_script, folder):
    table = match(run_script, folder)
    before = read_manifest(folder / "unmatched.csv")
    assert list(table["unmatched_path"]) == list(before["path"])
    assert list(table["source_path"]) == list(before["source_path"])
    gap = slice(int(0.2 * RATE), int(0.45 * RATE))  # between two bursts
    levels = [np.std(soundfile.read(path)[0][gap]) for path in table["path"]]
    assert np.mean(levels) == pytest.approx(0.01, rel=0.3)
    assert all(not soundfile.read(path)[0][gap].any() for path in before["path"]), "the clips that came in are kept"


def test_chain_and_seed_make_a_clip_again(run_script, folder):
    table = match(run_script, folder)
    channel = channel_of(read_json(folder / "generated.channel.json"))
    row = table.iloc[3]
    audio, _ = soundfile.read(row["unmatched_path"], dtype="float32")
    again = channel.apply(audio[None], int(row["channel_seed"]))[0]
    assert soundfile.read(row["path"])[0] == pytest.approx(again, abs=1 / 32768)


def test_rows_do_not_change_what_a_clip_becomes(run_script, folder):
    first = match(run_script, folder)
    table = pd.read_csv(folder / "unmatched.csv", dtype=str)
    table.iloc[[5, 2]].to_csv(folder / "unmatched.csv", index=False)
    later = match(run_script, folder, "later", "--channel", folder / "generated.channel.json")
    hashes = dict(zip(first["prompt"], first["sha256"], strict=True))
    assert dict(zip(later["prompt"], later["sha256"], strict=True)) == {key: hashes[key] for key in ("p5", "p2")}
    assert read_json(folder / "later.channel.json") == read_json(folder / "generated.channel.json")


def test_another_rate_than_the_chains_is_refused(run_script, folder, make_wav):
    match(run_script, folder)
    make_wav("made/3.wav", sample_rate=16000)
    done = run_script(
        *("-m", "synthio.generation.match_channel", "--input_csv", folder / "unmatched.csv"),
        *("--gold_csv", folder / "gold.csv", "--output_csv", folder / "again.csv"),
        *("--output_folder", folder / "again", "--channel", folder / "generated.channel.json"),
    )
    assert done.returncode == 2
    assert "unmatched.csv row 4" in done.stderr and "16000 Hz" in done.stderr


def test_classes_count_as_among_the_gold_clips():
    gold = pd.DataFrame({"label": ["a", "a", "b"]})
    made = pd.DataFrame({"label": ["b"] * 6 + ["a"] * 4 + ["c"] * 9})
    counts = in_equal_shares(made, gold)["label"].value_counts()
    assert counts.to_dict() == {"a": 4, "b": 2}
    assert len(in_equal_shares(made[made["label"] == "c"], gold)) == 9, "there is no other class"


def test_places_keep_the_tree(tmp_path):
    found = targets(["/x/ab/1.wav", "/x/cd/2.wav"], tmp_path, "0123456789")
    assert found == [tmp_path / "ab/1_01234567.wav", tmp_path / "cd/2_01234567.wav"]
    assert targets(["/x/ab/1.wav"], tmp_path, "0123456789") == [tmp_path / "1_01234567.wav"]
