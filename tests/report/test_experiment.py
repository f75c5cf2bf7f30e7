"""The table of an experiment: what its intervals are over, and what it says may be told."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from synthio.report import experiment as ex
from tests.driver.test_experiment import ROOT, save_cell, save_plan
from tests.scripts import call_script


def save_experiment(folder: Path, hits: dict[str, list[list[int]]], groups: int = 0) -> Path:
    """Cells of one seed and a fold each; `groups` gives each so many clips in a row one group."""
    rows = []
    for method, cells in hits.items():
        rows += [save_cell(folder, method, 0, str(fold), right) for fold, right in enumerate(cells)]
    for path in folder.rglob("predictions.csv") if groups else ():
        table = pd.read_csv(path)
        table.assign(group=[f"recording {row // groups}" for row in range(len(table))]).to_csv(path, index=False)
    save_plan(folder, rows)
    return folder


def records_of(folder: Path):
    return {row["method"]: row for row in ex.summarise(ex.read_cells(folder)[0], 1000, {})}


BETTER = {"gold_only": [[0] * 20 + [1] * 20], "synthio": [[0] * 10 + [1] * 30]}  # 10 clips of 40 in a row


def test_clips_of_a_recording_are_drawn_together(tmp_path):
    """25 points better by 10 clips: clear if these are 10 recordings, not if they are 2."""
    by_clip, by_group = (records_of(save_experiment(tmp_path / str(n), BETTER, n))["synthio"] for n in (0, 5))
    assert by_clip["told"] == "better" and by_group["told"] == "not to be told"
    assert by_group["difference"] == by_clip["difference"] == pytest.approx(0.25)
    assert by_group["high_95"] - by_group["low_95"] > 1.8 * (by_clip["high_95"] - by_clip["low_95"])
    assert by_group["over"] == "the 8 groups of 40 test clips" and by_clip["over"] == "40 test clips"
    assert by_clip["p"] < 0.01 and by_group["p"] > 0.05 and by_clip["pairs"] == 1


def test_cells_that_disagree_leave_it_open(tmp_path):
    """+40, +5 and 0 points in three folds of 200 clips: clear for their clips, not for other training draws."""
    hits = {"gold_only": [[0] * 100 + [1] * 100] * 3}
    hits["synthio"] = [[0] * wrong + [1] * (200 - wrong) for wrong in (20, 90, 100)]
    found = records_of(save_experiment(tmp_path, hits))["synthio"]
    assert found["difference"] == pytest.approx(0.15) and found["cells"] == found["pairs"] == 3
    assert found["difference_low_95"] < -0.1 and found["told"] == "not to be told"
    assert found["over"] == "600 test clips and 3 cells"


def test_the_printed_table_says_cells_p_and_what_is_not_to_be_told(tmp_path):
    save_experiment(tmp_path, {**BETTER, "mixup": [[0] * 19 + [1] * 21]}, 5)
    script = ROOT / "synthio/report/experiment.py"
    done = call_script(script, "table", "--folder", tmp_path, "--dataset_name", "birds")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    title = next(line for line in lines if line.startswith("birds"))
    over = "1 cell (seed x fold), intervals over the 8 groups of 40 test clips"
    assert title == f"birds, n = 50: test scores in percent; {over}"
    header = lines[lines.index(title) + 1].split("  ")
    assert [word for word in ("cells", "verdict", "p", "p (Holm)") if word in map(str.strip, header)] == [
        *("cells", "verdict", "p", "p (Holm)")
    ]
    rows = {line.split("  ")[0]: line for line in lines}
    assert "not to be told" in rows["Synthio (ours)"] and "not to be told" in rows["Mixup"]
    assert over in (tmp_path / "table.tex").read_text()
