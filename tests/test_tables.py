"""The scripts that only move rows: stratify, split, merge."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.scripts import call_script, load_script

ROOT = Path(__file__).resolve().parent.parent
STRATIFY, SPLIT, MERGE = ROOT / "stratify_dataset.py", ROOT / "split_csvs.py", ROOT / "merge_csv.py"


def run(script, *args, ok=True):
    done = call_script(script, *args)
    assert (done.returncode == 0) == ok, done.stderr
    if not ok:
        assert done.returncode == 2 and "Traceback" not in done.stderr and done.stderr.count("\n") == 1, done.stderr
    return done


def rows_of(path):
    with Path(path).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write_rows(path, rows, columns=("path", "label")):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]) if rows else columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def dataset(folder, labels, name="train.csv"):
    """A CSV of clips (empty files: no script here listens) with a content hash each."""
    rows = []
    for i, label in enumerate(labels):
        path = folder / f"audio/{i:03d}.wav"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        rows.append({"path": f"audio/{i:03d}.wav", "label": label, "fold": str(i % 5), "sha256": f"{i:064x}"})
    return write_rows(folder / name, rows)


def stratify(source, n, seed=0, ok=True, name="drawn.csv"):
    out = source.parent / name
    done = run(STRATIFY, "--input_csv", source, "--output_csv", out, "--num_samples", n, "--seed", seed, ok=ok)
    return rows_of(out) if ok else done.stderr


# ---- stratify


@pytest.mark.parametrize("n", [3, 7, 10, 49, 50, 99, 100])
def test_exactly_n_rows_in_proportion(tmp_path, n):
    source = dataset(tmp_path, ["a"] * 60 + ["b"] * 37 + ["c"] * 3)
    counts = Counter(row["label"] for row in stratify(source, n))
    assert sum(counts.values()) == n
    for label, total in {"a": 60, "b": 37, "c": 3}.items():
        assert 1 <= counts[label] <= total
        assert abs(counts[label] - n * total / 100) <= 1.0001, counts


def test_largest_remainder_by_hand():
    allocate = load_script(STRATIFY).allocate
    assert allocate({"a": 47, "b": 16, "c": 15, "d": 12, "e": 6, "f": 4}, 10) == {
        "a": 4,
        "b": 2,
        "c": 1,
        "d": 1,
        "e": 1,
        "f": 1,
    }
    assert allocate({"big": 998, "x": 1, "y": 1}, 4) == {"big": 2, "x": 1, "y": 1}
    assert allocate({"a": 5, "b": 5, "c": 5}, 4) == {"a": 2, "b": 1, "c": 1}


def test_allocation_always_adds_up():
    allocate = load_script(STRATIFY).allocate
    rng = random.Random(0)
    for _ in range(500):
        counts = {str(i): rng.choice([1, 2, 3, 50, 400]) for i in range(rng.randint(1, 12))}
        n = rng.randint(len(counts), sum(counts.values()))
        shares = allocate(counts, n)
        assert sum(shares.values()) == n
        assert all(1 <= shares[label] <= counts[label] for label in counts)


def test_row_order_does_not_matter_but_the_seed_does(tmp_path):
    source = dataset(tmp_path, ["a", "b", "b", "c"] * 10)
    first = stratify(source, 12)
    shuffled = rows_of(source)
    random.Random(1).shuffle(shuffled)
    write_rows(tmp_path / "shuffled.csv", shuffled)
    stratify(tmp_path / "shuffled.csv", 12, name="again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "drawn.csv").read_bytes()
    assert {r["path"] for r in stratify(source, 12, seed=1)} != {r["path"] for r in first}


def test_rows_are_accounted_for_and_columns_kept(tmp_path):
    source = dataset(tmp_path, ["NA", "001", "dog_bark", "Hund, laut", "größe"] * 4)
    drawn = stratify(source, 10)
    rest = rows_of(tmp_path / "drawn.dropped.csv")
    assert list(drawn[0]) == ["path", "label", "fold", "sha256"]
    assert {row["reason"] for row in rest} == {"not sampled"}
    assert sorted(r["sha256"] for r in drawn + rest) == [r["sha256"] for r in rows_of(source)]
    assert Counter(r["label"] for r in drawn) == dict.fromkeys(["NA", "001", "dog_bark", "Hund, laut", "größe"], 2)
    record = json.loads((tmp_path / "drawn.json").read_text())
    assert (record["rows_in"], record["rows_out"], record["rows_dropped"]) == (20, 10, 10)


def test_zero_takes_all(tmp_path):
    assert len(stratify(dataset(tmp_path, ["a", "b"] * 4), 0)) == 8
    assert not (tmp_path / "drawn.dropped.csv").exists()


@pytest.mark.parametrize("n", [5, 10, 33, 60])
def test_several_labels_a_clip(tmp_path, n):
    rng = random.Random(3)
    cells = [";".join(sorted({"rain", rng.choice(["dog", "cat", "bell"])})) for _ in range(50)]
    cells += ["dog"] * 30 + ["siren;dog"] * 2 + ["cat"] * 18
    counts = Counter(label for row in stratify(dataset(tmp_path, cells), n) for label in row["label"].split(";"))
    total = Counter(label for cell in cells for label in cell.split(";"))
    assert len(rows_of(tmp_path / "drawn.csv")) == n
    for label in total:
        assert counts[label] >= 1
        assert abs(counts[label] - n * total[label] / len(cells)) <= max(2, 0.1 * n), (label, counts)


@pytest.mark.parametrize(
    ("n", "parts"),
    [(9, ["8 rows", "num_samples 9", "to 8 or less"]), (1, ["2 classes", "num_samples is 1", "set 2 or more"])],
)
def test_a_number_that_cannot_be_drawn(tmp_path, n, parts):
    message = stratify(dataset(tmp_path, ["a", "b"] * 4), n, ok=False)
    assert all(part in message for part in parts), message
    assert not (tmp_path / "drawn.csv").exists()


def test_an_empty_table_cannot_be_drawn_from(tmp_path):
    assert "no rows" in stratify(write_rows(tmp_path / "train.csv", []), 0, ok=False)


# ---- split and merge


def split(source, shards, block=1):
    folder = source.parent / "shards"
    run(SPLIT, "--input_csv", source, "--output_folder", folder, "--num_shards", shards, "--block_size", block)
    return sorted(folder.glob("shard_*.csv"))


def merge(shards, out, expected=None, ok=True):
    extra = ["--expected_csv", expected] if expected else []
    return run(MERGE, "--input_csvs", *shards, "--output_csv", out, *extra, ok=ok)


@pytest.mark.parametrize(("shards", "block"), [(1, 1), (2, 3), (3, 4), (8, 16), (40, 1)])
def test_split_and_merge_give_the_same_table(tmp_path, shards, block):
    source = dataset(tmp_path, [f"label, {i}" for i in range(23)])
    parts = split(source, shards, block)
    assert 1 <= len(parts) <= shards
    merge(parts, tmp_path / "back.csv", source)
    assert (tmp_path / "back.csv").read_bytes().replace(b"\r", b"") == source.read_bytes().replace(b"\r", b"")


def test_a_batch_never_crosses_shards(tmp_path):
    source = dataset(tmp_path, ["a"] * 23)
    for part in split(source, 3, block=4):
        rows = [int(row["row"]) for row in rows_of(part)]
        for start in range(0, len(rows), 4):
            assert rows[start] % 4 == 0
            assert rows[start : start + 4] == list(range(rows[start], min(rows[start] + 4, 23)))


def test_a_new_split_removes_the_old_shards(tmp_path):
    source = dataset(tmp_path, ["a"] * 6)
    assert len(split(source, 3)) == 3
    assert len(split(source, 2)) == 2


def test_an_empty_table_is_one_empty_shard(tmp_path):
    source = write_rows(tmp_path / "train.csv", [])
    parts = split(source, 4)
    assert [part.name for part in parts] == ["shard_000.csv"]
    merge(parts, tmp_path / "back.csv", source)
    assert (tmp_path / "back.csv").read_text() == "path,label\n"


def test_merge_refuses_missing_and_doubled_rows(tmp_path):
    source = dataset(tmp_path, ["a"] * 6)
    parts = split(source, 3)
    out = tmp_path / "back.csv"
    assert "4 rows" not in merge(parts[:2], out, source, ok=False).stderr
    assert "2 of 6 rows are missing, the first is row 2" in merge(parts[:2], out, source, ok=False).stderr
    assert "row 0 comes 2 times" in merge([*parts, parts[0]], out, source, ok=False).stderr
    other = write_rows(tmp_path / "other.csv", rows_of(source)[:4])
    assert "none of the 4 rows" in merge(parts, out, other, ok=False).stderr
    parts[1].unlink()
    assert "no such CSV file" in merge(parts, out, source, ok=False).stderr
    assert not out.exists()


def test_rows_that_a_shard_dropped_are_accounted_for(tmp_path):
    source = dataset(tmp_path, ["a"] * 4)
    parts = split(source, 2)
    rows = rows_of(parts[1])
    write_rows(parts[1], rows[:1])
    write_rows(parts[1].with_suffix(".dropped.csv"), [rows[1] | {"reason": "no caption"}])
    merge(parts, tmp_path / "back.csv", source)
    assert len(rows_of(tmp_path / "back.csv")) == 3
    assert [row["reason"] for row in rows_of(tmp_path / "back.dropped.csv")] == ["no caption"]


def test_a_column_named_row_is_refused(tmp_path):
    source = write_rows(tmp_path / "train.csv", [{"path": "a.wav", "label": "a", "row": "7"}])
    done = run(SPLIT, "--input_csv", source, "--output_folder", tmp_path / "shards", "--num_shards", 2, ok=False)
    assert "'row'" in done.stderr


def test_gold_and_synthetic(tmp_path):
    gold = dataset(tmp_path, ["a", "b"])
    kept = tmp_path / "round_0/kept.csv"
    (tmp_path / "round_0").mkdir()
    (tmp_path / "round_0/new.wav").touch()
    write_rows(kept, [{"path": "new.wav", "label": "a", "source_path": "../audio/000.wav", "clap_score": "0.5"}])
    empty = write_rows(tmp_path / "round_1/kept.csv", [], ["path", "label", "source_path", "clap_score", "reason"])
    merge([gold, kept, empty], tmp_path / "all.csv")
    rows = rows_of(tmp_path / "all.csv")
    assert [row["split_name"] for row in rows] == ["gold", "gold", "synthetic"]
    assert [row["source_path"] for row in rows] == ["", "", "audio/000.wav"]
    assert [row["path"] for row in rows] == ["audio/000.wav", "audio/001.wav", "round_0/new.wav"]
    assert rows[2]["fold"] == "" and rows[0]["clap_score"] == ""
    merge([empty], tmp_path / "none.csv")
    assert rows_of(tmp_path / "none.csv") == []
    assert "2 of its clips are in " in merge([gold, gold], tmp_path / "twice.csv", ok=False).stderr


def test_two_equal_gold_clips_give_one_synthetic_clip(tmp_path):
    gold = dataset(tmp_path, ["a", "b"])
    same = {"path": "audio/001.wav", "label": "a", "source_path": "audio/000.wav"}
    kept = write_rows(tmp_path / "kept.csv", [same, same | {"source_path": "audio/009.wav"}])
    write_rows(gold, [{"path": "audio/000.wav", "label": "a"}] * 2)
    merge([gold, kept], tmp_path / "all.csv")
    rows = rows_of(tmp_path / "all.csv")
    assert [row["split_name"] for row in rows] == ["gold", "gold", "synthetic"], "gold rows are the user's own"
    assert [row["reason"] for row in rows_of(tmp_path / "all.dropped.csv")] == ["the same clip is in an earlier row"]
