"""Fewer clips than labels: multi-label data are drawn so that most labels have one, and the others are named."""

from __future__ import annotations

import itertools
import json
import random

import pytest

from tests.scripts import call_script, load_script
from tests.test_tables import STRATIFY, rows_of, write_rows


def fsd50k_like(clips: int, seed: int = 0) -> list[str]:
    """Cells of a tree of 200 labels: 150 leaves below 40 parents below 10 roots; a clip has 1 to 3 leaves."""
    rng = random.Random(seed)
    cells = []
    for clip in range(clips):
        leaves = {clip % 150, *rng.sample(range(150), rng.randint(0, 2))}
        names = {f"leaf {leaf}" for leaf in leaves} | {f"parent {leaf % 40}" for leaf in leaves}
        cells.append(";".join(sorted(names | {f"root {leaf % 40 % 10}" for leaf in leaves})))
    return cells


def draw(tmp_path, cells, n, seed=0):
    """(what the script printed, label cells drawn, record)."""
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    write_rows(source, [{"path": f"{i}.wav", "label": cell} for i, cell in enumerate(cells)])
    for i in range(len(cells)):
        (tmp_path / f"{i}.wav").touch()
    words = ["--input_csv", source, "--output_csv", output, "--num_samples", n, "--seed", seed]
    done = call_script(STRATIFY, *words)
    assert done.returncode == 0, done.stderr
    record = json.loads(output.with_suffix(".json").read_text())
    return done, [row["label"] for row in rows_of(output)], record


def labels_of(cells):
    return {label for cell in cells for label in cell.split(";")}


def test_fifty_clips_of_two_hundred_labels(tmp_path):
    cells = fsd50k_like(900)
    done, drawn, record = draw(tmp_path, cells, 50)
    held, everything = labels_of(drawn), labels_of(cells)
    assert len(everything) == 200 and len(drawn) == 50
    random_ones = [len(labels_of(random.Random(seed).sample(cells, 50))) for seed in range(20)]
    assert len(held) > max(random_ones) + 20 and len(held) > 170
    missing = sorted(everything - held)
    assert record["labels_without_clips"] == missing
    assert f"{len(missing)} of 200 labels have no clip among the 50" in done.stderr and missing[0] in done.stderr
    assert "Nothing is generated for them" in done.stderr
    assert draw(tmp_path, cells[::-1], 50, seed=1)[1] != drawn


def test_the_cover_is_near_the_best_there_is():
    """Of all pairs of 8 small sets, against the best pair."""
    stratify = load_script(STRATIFY)
    for seed in range(50):
        rng = random.Random(seed)
        sets = [frozenset(rng.sample("abcdefghij", rng.randint(1, 4))) for _ in range(8)]
        found = stratify.cover_most(sets, range(8), 2)
        best = max(len(sets[i] | sets[j]) for i, j in itertools.combinations(range(8), 2))
        assert len(found) <= 2 and len(frozenset().union(*(sets[i] for i in found))) >= 0.75 * best


def test_labels_that_all_fit_are_all_held(tmp_path):
    """6 labels in 3 clips of two each, where fewer clips than labels are enough."""
    cells = ["a;b", "c;d", "e;f"] + ["a;b"] * 20
    done, drawn, record = draw(tmp_path, cells, 4)
    assert labels_of(drawn) == set("abcdef") and len(drawn) == 4
    assert record["labels_without_clips"] == [] and "warning" not in done.stderr


@pytest.mark.parametrize("n", [1, 2])
def test_single_label_data_stay_refused(tmp_path, n):
    source = tmp_path / "in.csv"
    write_rows(source, [{"path": f"{i}.wav", "label": "abc"[i % 3]} for i in range(9)])
    for i in range(9):
        (tmp_path / f"{i}.wav").touch()
    done = call_script(STRATIFY, "--input_csv", source, "--output_csv", tmp_path / "o.csv", "--num_samples", n)
    assert done.returncode == 2 and f"3 classes, but num_samples is {n}" in done.stderr
