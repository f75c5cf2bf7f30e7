"""Clips that nobody listens to, and the scripts that only move rows."""

from __future__ import annotations

from tests.rows import write_rows
from tests.scripts import ROOT, call_script

STRATIFY, SPLIT, MERGE = ROOT / "stratify_dataset.py", ROOT / "split_csvs.py", ROOT / "merge_csv.py"


def run(script, *args, ok=True):
    done = call_script(script, *args)
    assert (done.returncode == 0) == ok, done.stderr
    if not ok:
        assert done.returncode == 2 and "Traceback" not in done.stderr and done.stderr.count("\n") == 1, done.stderr
    return done


def dataset(folder, labels, name="train.csv"):
    """A CSV of clips (empty files: no script here listens) with a content hash each."""
    rows = []
    for i, label in enumerate(labels):
        path = folder / f"audio/{i:03d}.wav"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        rows.append({"path": f"audio/{i:03d}.wav", "label": label, "fold": str(i % 5), "sha256": f"{i:064x}"})
    return write_rows(folder / name, rows)


def split(source, shards, block=1):
    folder = source.parent / "shards"
    run(SPLIT, "--input_csv", source, "--output_folder", folder, "--num_shards", shards, "--block_size", block)
    return sorted(folder.glob("shard_*.csv"))


def merge(shards, out, expected=None, ok=True):
    extra = ["--expected_csv", expected] if expected else []
    return run(MERGE, "--input_csvs", *shards, "--output_csv", out, *extra, ok=ok)
