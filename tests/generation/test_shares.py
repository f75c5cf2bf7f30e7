"""Prompts for several generators: how they are dealt out, and how the clips come together again."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from synthio.generation.shares import GENERATORS, turns
from tests.rows import rows_of, write_rows

LABELS = ["dog", "rain", "dog", "dog", "rain", "cat", "dog", "dog"]


@pytest.fixture
def prompts(tmp_path):
    rows = [
        {"path": f"{i // 2}.wav", "label": label, "prompt": f"{label} {i}", "seed": str(100 + i), "mine": f"x{i}"}
        for i, label in enumerate(LABELS)
    ]
    return write_rows(tmp_path / "prompts.csv", rows)


def shares(run_script, *words, ok=True):
    done = run_script("-m", "synthio.generation.shares", *words)
    assert (done.returncode == 0) == ok, done.stderr
    return done


def made(tmp_path, number):
    """What generate.py would write of a share."""
    rows = rows_of(tmp_path / f"p{number}.csv")
    for i, row in enumerate(rows):
        row |= {"source_path": row["path"], "path": f"made {number} {i}.wav", "model": f"m{number}@abc"}
    csv = write_rows(tmp_path / f"g{number}.csv", rows)
    csv.with_suffix(".json").write_text(json.dumps({"options": {"model": f"m{number}"}}))
    return csv


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_each_label_is_shared_evenly(number):
    owner = turns(LABELS, number)
    for label, count in Counter(LABELS).items():
        got = [sum(one == k and of == label for one, of in zip(owner, LABELS, strict=True)) for k in range(number)]
        assert sum(got) == count and max(got) - min(got) <= 1


def test_two_prompts_of_a_gold_clip_go_to_two_generators():
    assert turns(["a", "a", "b", "b", "a", "a"], 2) == [0, 1, 1, 0, 0, 1]


def test_what_is_over_goes_round():
    """Labels with one prompt each are not all the first generator's."""
    assert turns(["a", "b", "c", "d"], 2) == [0, 1, 0, 1] and turns(["a", "b", "c", "d"], 3) == [0, 1, 2, 0]


def test_clips_come_together_in_the_order_of_their_prompts(run_script, tmp_path, prompts):
    parts = [tmp_path / f"p{k}.csv" for k in (1, 2)]
    shares(run_script, "deal", "--input_csv", prompts, "--output_csvs", *parts)
    assert [len(rows_of(part)) for part in parts] == [5, 3]
    csvs = [made(tmp_path, k) for k in (1, 2)]
    words = ["gather", "--input_csv", prompts, "--made_csvs", *csvs, "--output_csv", tmp_path / "g.csv"]
    shares(run_script, *words)
    rows = rows_of(tmp_path / "g.csv")
    wanted = rows_of(prompts)
    assert [(row["label"], row["seed"], row["mine"]) for row in rows] == [
        (row["label"], row["seed"], row["mine"]) for row in wanted
    ]
    assert [row["model"] for row in rows] == [f"m{k + 1}@abc" for k in turns(LABELS, 2)]
    record = json.loads((tmp_path / "g.json").read_text())
    assert [one["options"]["model"] for one in record[GENERATORS]] == ["m1", "m2"]
    assert (record["rows_in"], record["rows_out"]) == (8, 8)


@pytest.mark.parametrize("change", ["short", "swapped"])
def test_clips_that_are_not_those_of_the_prompts_are_refused(run_script, tmp_path, prompts, change):
    parts = [tmp_path / f"p{k}.csv" for k in (1, 2)]
    shares(run_script, "deal", "--input_csv", prompts, "--output_csvs", *parts)
    csvs = [made(tmp_path, k) for k in (1, 2)]
    if change == "short":
        write_rows(csvs[1], rows_of(csvs[1])[:-1])
    else:
        csvs.reverse()
    words = ["gather", "--input_csv", prompts, "--made_csvs", *csvs, "--output_csv", tmp_path / "g.csv"]
    done = shares(run_script, *words, ok=False)
    assert "are not those of its" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "g.csv").exists()


def test_a_label_with_fewer_prompts_than_generators_leaves_some_without(run_script, tmp_path, prompts):
    parts = [tmp_path / f"p{k}.csv" for k in (1, 2, 3)]
    one = write_rows(tmp_path / "one.csv", rows_of(prompts)[:1])
    shares(run_script, "deal", "--input_csv", one, "--output_csvs", *parts)
    assert [len(rows_of(part)) for part in parts] == [1, 0, 0]


def test_no_prompts_at_all_are_shares_without_rows(run_script, tmp_path, prompts):
    """A round for which the filter left nothing to write anew."""
    header = prompts.read_text().splitlines()[0]
    prompts.write_text(header + "\n")
    shares = [tmp_path / f"share_{k}.csv" for k in (1, 2)]
    done = run_script("synthio/generation/shares.py", "deal", "--input_csv", prompts, "--output_csvs", *shares)
    assert done.returncode == 0, done.stderr
    assert [share.read_text() for share in shares] == [header + "\n"] * 2
