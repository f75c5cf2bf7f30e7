"""Prompts of clips that are generated again: same seeds and lengths, one thing changed."""

from __future__ import annotations

import pytest

from synthio.manifest import read_manifest
from synthio.report.again import spread_rows


@pytest.fixture
def tables(tmp_path, make_wav, make_manifest):
    made = []
    for row in range(6):
        make_wav(f"gold/{row}.wav", 0.1), make_wav(f"made/{row}.wav", 0.1)
        about = {"label": "dog_bark" if row < 4 else "rain", "source_path": f"gold/{row}.wav", "duration_s": "0.100"}
        made.append({"path": f"made/{row}.wav", **about, "prompt": f"p{row}", "seed": str(row), "sha256": "x"})
    make_manifest("losers.csv", made)
    make_manifest("first.csv", [{**row, "seed": f"1{row['seed']}"} for row in made])
    return tmp_path


def again(run_script, folder, *words):
    done = run_script("-m", "synthio.report.again", "--output_csv", folder / "again/prompts.csv", *words)
    return done, read_manifest(folder / "again/prompts.csv") if done.returncode == 0 else None


def test_each_part_changes_one_thing(run_script, tables):
    csvs = ("--losers_csv", tables / "losers.csv", "--first_csv", tables / "first.csv")
    done, table = again(run_script, tables, *csvs, "--attribution_clips", 4)
    assert done.returncode == 0, done.stderr
    assert list(table["part"]) == ["alignment"] * 4 + ["captions"] * 4
    assert list(table["seed"]) == ["0", "1", "4", "5", "10", "11", "14", "15"]
    assert list(table["prompt"])[:4] == ["p0", "p1", "p4", "p5"]
    assert list(table["prompt"])[4:] == ["Sound of a dog bark"] * 2 + ["Sound of a rain"] * 2
    assert [path.rsplit("/", 2)[1:] for path in table["path"]][:2] == [["gold", "0.wav"], ["gold", "1.wav"]]
    assert set(table["duration_s"]) == {"0.100"} and "sha256" not in table.columns


def test_one_part_alone_and_none(run_script, tables):
    _, table = again(run_script, tables, "--first_csv", tables / "first.csv")
    assert set(table["part"]) == {"captions"} and len(table) == 6
    done, _ = again(run_script, tables)
    assert done.returncode == 2 and "--losers_csv" in done.stderr


def test_classes_have_equal_shares_as_far_as_they_go():
    assert spread_rows(["a", "a", "a", "b", "c", "a"], 4) == [0, 1, 3, 4]
    assert spread_rows(["a", "b"], 9) == [0, 1]
