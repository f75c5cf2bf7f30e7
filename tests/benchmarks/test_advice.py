"""The benchmark of the advice: what it measures, keeps and prints."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.classification.toy_clips import save_named_ast, save_tones
from tests.rows import rows_of
from tests.scripts import ROOT, call_script, load_script
from tests.tiny_models import save_clap

SCRIPT = ROOT / "benchmarks/advice.py"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    save_named_ast(folder / "ast", ["rain", "Hund, laut", "dog"])
    save_clap(folder / "clap")
    for seed, (name, clips) in enumerate({"train": 15, "valid": 12, "test": 9, "made": 6, "other": 6}.items()):
        save_tones(folder, name, clips, seed)
    return folder


def measure(world, *more):
    words = ["--set", "tones", world / "made.csv", world / "other.csv", world, "--num_samples", 9, "--draws", 1]
    words += ["--ast_model", world / "ast", "--clap_model", world / "clap", "--cache_folder", world / "cache"]
    return call_script(SCRIPT, *words, "--output_csv", world / "rows.csv", "--device", "cpu", *more)


@pytest.mark.slow
def test_a_row_for_each_head_that_is_not_measured_twice(world):
    done = measure(world)
    assert done.returncode == 0, done.stderr
    rows = rows_of(world / "rows.csv")
    assert [(row["set"], row["clips"], row["head"], row["synthetic_weight"]) for row in rows] == [
        ("tones", "9", "fusion", "auto"),
        ("tones", "9", "probe", "auto"),
    ]
    for row in rows:
        assert float(row["measured"]) == pytest.approx(float(row["score_made"]) - float(row["score"]))
        assert float(row["low"]) < float(row["expected"]) < float(row["high"]) and 0 < float(row["score_twice"]) <= 1
    assert "tones, 9 clips" not in done.stdout and f"tones {world.name}, 9 clips, seed 0" in done.stdout
    again = measure(world)
    assert f"{world.name}, 9 clips" not in again.stdout and rows_of(world / "rows.csv") == rows
    fixed = measure(world, "--synthetic_weight", 1, "--heads", "probe", "--curve", "false")
    assert fixed.returncode == 0 and rows_of(world / "rows.csv")[:2] == rows
    last = rows_of(world / "rows.csv")[2]
    assert (last["synthetic_weight"], last["weight"], last["score_twice"]) == ("1.0", "1.0", "")
    assert measure(world, "--synthetic_weight", 1, "--heads", "probe", "--curve", "false").stdout.count("9 clips") == 0


def test_a_set_without_folders_is_refused(world):
    done = call_script(SCRIPT, "--set", "a", "b", "c", "--cache_folder", world / "c", "--output_csv", world / "n.csv")
    assert done.returncode == 2 and "give a name, two CSVs and at least one folder" in done.stderr


def test_means_of_cells_and_their_correlation():
    """Two draws of each cell: expected 1, 2, 3 points, measured in the same order."""
    rows = [
        {"set": "a", "clips": clips, "head": "probe", "expected": clips / 1000 + d, "measured": clips / 500 + d}
        | {"low": 0.0, "high": 0.1, "flips": 0.0, "score": 0.5}
        for clips in (10, 20, 30)
        for d in (-0.001, 0.001)
    ]
    script = load_script(SCRIPT)
    cells = script.cells_of(rows, "probe")
    assert [cell["cell"] for cell in cells] == ["a, 10", "a, 20", "a, 30"] and {cell["draws"] for cell in cells} == {2}
    assert pd.DataFrame(cells)["expected"].tolist() == pytest.approx([0.01, 0.02, 0.03])
    assert cells[0]["error"] == pytest.approx(0.001)  # .001 * sqrt(2) / sqrt(2)
    assert "rank correlation over 3 cells 1.00 " in script.summary(rows, ["probe"])
