"""Several generators beside each other: counts, measures and what is shown."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from synthio.report.by_generator import compare, counts, lines, name_of, table
from synthio.report.quality_metrics import frechet_distance, kernel_distance, mean_pairwise_distance
from tests.rows import write_rows

A, B = "small@aaaaaaaaaaaa", "owner/large@main@bbbbbbbbbbbb"


@pytest.fixture
def rounds(tmp_path):
    """Two rounds: of A 12 made and 9 kept, of B 10 and 5, with adapters on A."""
    csvs = []
    for number, kept, rejected in ((0, [A] * 6 + [B] * 4, [A] * 2 + [B] * 4), (1, [A] * 3 + [B], [A, B])):
        folder = tmp_path / f"round_{number}"
        folder.mkdir()
        for name, models in (("kept", kept), ("rejected", rejected)):
            rows = [
                {
                    "path": f"{name}{i}.wav",
                    "label": "x",
                    "model": model + ("+adapter@0123456789ab" if model == A else ""),
                }
                for i, model in enumerate(models)
            ]
            write_rows(folder / f"{name}.csv", rows)
        csvs.append(str(folder / "kept.csv"))
    return csvs


def test_a_generator_is_named_without_its_adapter():
    assert name_of(f"{A}+adapter@0123456789ab") == A == name_of(A)
    assert name_of("small@aaaa+distilled+adapter@0123456789ab") == "small@aaaa+distilled"


def test_what_each_made_and_what_was_kept(rounds):
    assert counts(rounds) == {A: {"made": 12, "kept": 9}, B: {"made": 10, "kept": 5}}


def test_measures_are_those_of_its_own_clips_at_equal_numbers(rounds):
    rng = np.random.default_rng(0)
    models = [A] * 9 + [B] * 5
    synthetic = pd.DataFrame({"label": ["x", "y"] * 7, "model": models, "path": range(14)}).astype(str)
    vectors, valid = rng.normal(size=(14, 6)), rng.normal(size=(8, 6))
    hits = {"classifier": np.array([1.0] * 8 + [0.0] * 6)}
    first, second = compare(synthetic, rounds, vectors, valid, 2.0, hits, seed=0)
    assert (first["generator"], first["pass_rate"], second["pass_rate"]) == (A, 0.75, 0.5)
    assert first["agreement"]["classifier"] == pytest.approx(8 / 9) and second["agreement"]["classifier"] == 0
    assert first["kad"]["value"] == kernel_distance(vectors[:9], valid, 2.0)[0]
    assert first["fad"]["clips"] == second["fad"]["clips"] == 5
    means = [frechet_distance(vectors[9:], valid[np.random.default_rng(k).permutation(8)[:5]]) for k in range(200)]
    assert second["fad"]["value"] == pytest.approx(np.mean(means), rel=0.15)
    own = vectors[9:]
    each = [mean_pairwise_distance(own[[i for i in range(5) if synthetic.label[9 + i] == name]]) for name in "xy"]
    assert second["diversity"] == pytest.approx(np.mean(each))


def test_a_generator_of_which_nothing_is_left_is_told_all_the_same(rounds):
    synthetic = pd.DataFrame({"label": ["x"] * 4, "model": [A] * 4, "path": range(4)}).astype(str)
    vectors = np.random.default_rng(1).normal(size=(4, 3))
    first, second = compare(synthetic, rounds, vectors, vectors, 1.0, {"classifier": np.ones(4)}, seed=0)
    assert second["clips"] == 0 and second["agreement"] == {"classifier": None} and second["fad"]["value"] is None
    shown = table([first, second])
    assert shown["rows"][1] == [B, "10", "5", "0.50", "0", "-", "-", "-, 4", "-"]
    assert [len(row) for row in shown["rows"]] == [len(shown["header"])] * 2
    assert lines([first, second])[1].startswith(f"{B}: 5 of 10 clips kept (0.50); label heard by classifier -; KAD -")
    assert table([]) == {} and lines([]) == []
