"""Dealing rows out to shards, and joining them again."""

from __future__ import annotations

import pytest

from tests.rows import rows_of, write_rows
from tests.toy_tables import dataset, merge, split


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
