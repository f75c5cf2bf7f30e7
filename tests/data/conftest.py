"""A reader as people call it, on short sounds."""

from __future__ import annotations

import pytest

from tests.data.toy import SCRIPT, SPLITS, assert_groups_apart, rows_of
from tests.scripts import call_script


@pytest.fixture
def prepare(tmp_path):
    """prepare("us8k", source, ...) -> {split: rows}; with ok=False, what was printed to stderr."""

    def call(name, source, *options, ok=True):
        out = tmp_path / "out"
        done = call_script(SCRIPT, name, "--source", source, "--output_folder", out, *options)
        assert done.returncode == (0 if ok else 2), done.stderr
        if not ok:
            assert not (out / "train.csv").exists() and "error: " in done.stderr
            return done.stderr
        tables = {split: rows_of(out / f"{split}.csv") for split in SPLITS}
        for row in (row for rows in tables.values() for row in rows):
            assert (out / row["path"]).is_file()
        assert_groups_apart(tables)
        return tables

    return call


@pytest.fixture
def make_wavs(make_wav):
    """make_wavs(folder, names): a short sound of its own for each name."""

    def make(folder, names):
        for i, name in enumerate(names):
            make_wav(f"{folder}/{name}", 0.02, seed=i)

    return make
