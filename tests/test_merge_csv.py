"""Joining CSVs: shards in their order, and gold with synthetic clips."""

from __future__ import annotations

from tests.rows import rows_of, write_rows
from tests.toy_tables import SPLIT, dataset, merge, run, split


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
