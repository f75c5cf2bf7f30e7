"""Tables of many runs: the statistics by hand values and scipy, and the files that are written."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from synthio.classification import intervals
from synthio.files import write_json
from synthio.report import experiment as ex
from tests.driver.test_run import rows_of
from tests.scripts import ROOT, call_script


def test_permutation_p_of_all_sign_patterns():
    x, y = [0.50, 0.62, 0.71, 0.55], [0.40, 0.65, 0.50, 0.52]
    differences = np.subtract(x, y)
    means = [np.mean(differences * signs) for signs in itertools.product((1, -1), repeat=4)]
    expected = sum(abs(mean) >= abs(np.mean(differences)) - 1e-12 for mean in means) / 16
    assert intervals.permutation_p(x, y) == pytest.approx(expected)
    assert intervals.permutation_p([0.5, 0.6, 0.7], [0.4, 0.5, 0.5]) == pytest.approx(
        2 / 2**3
    )  # all of one sign: the least
    assert intervals.permutation_p([0.5, 0.5], [0.5, 0.5]) == 1
    assert intervals.permutation_p([0.5], [0.4]) is None


def test_permutation_p_agrees_with_the_t_test_where_that_holds():
    rng = np.random.default_rng(1)
    x = rng.normal(0.3, 1, 40)
    y = rng.normal(0, 1, 40)
    assert intervals.permutation_p(x, y) == pytest.approx(stats.ttest_rel(x, y).pvalue, abs=0.02)
    assert intervals.permutation_p(x, y) == intervals.permutation_p(x, y)


def test_holm_by_hand():
    # sorted .01 .02 .03 .04 times 4 3 2 1 is .04 .06 .06 .04; none may fall
    assert ex.holm([0.02, None, 0.04, 0.01, 0.03]) == pytest.approx([0.06, None, 0.06, 0.04, 0.06], nan_ok=True)
    assert ex.holm([0.5, 0.9]) == [1.0, 1.0]
    assert ex.holm([None]) == [None]


def summary(cells, resamples: int = 200, paper=None) -> list[dict]:
    return ex.summarise(cells, ex.resample_cells(cells, resamples), paper or {})


def save_cell(folder: Path, method: str, seed: int, fold: str, hits: list[int], n=50, synthetic=0, head="", place=""):
    """A finished job whose classifier is right where `hits` has a 1; returns its row of plan.csv.

    With `head` and `place` it is one of the others that the job trained, in that folder beside its classifier.
    """
    cell = f"n{n}_seed{seed}_fold{fold}"
    place = folder / cell / method / "set/classifier" / (place or "gold_only")
    place.mkdir(parents=True)
    truth = [i % 2 for i in range(len(hits))]
    with (place / "predictions.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "predicted", "probability_a_b", "probability_c"])
        for i, (hit, label) in enumerate(zip(hits, truth, strict=True)):
            found = label if hit else 1 - label
            path = os.path.relpath(folder / f"clip {fold} {i}.wav", place)
            writer.writerow([path, ["a_b", "c"][label], ["a_b", "c"][found], 1 - found, found])
    counts = {"clips": 50 + synthetic, "gold": 50, "synthetic": synthetic}
    scores = {
        "metric": "accuracy",
        "head": head or "ast",
        "accuracy": float(np.mean(hits)),
        "macro_f1": 0.5,
        "mAP": 0.5,
        "labels": ["a_b", "c"],
        "best_valid": {"accuracy": 0.5, "loss": 1.0},
        "num_steps": 300,
        "splits": {"train": counts, "test": {"clips": len(hits), "gold": len(hits), "synthetic": 0}},
    }
    write_json(place / "scores.json", scores)
    return [method, n, seed, fold, cell, (place / "scores.json").relative_to(folder).as_posix()]


@pytest.fixture
def written(tmp_path):
    """Two methods in 2 seeds and 2 folds; accuracies of gold_only .5 .6 .4 .5, of synthio .7 .7 .7 .7."""
    rows = []
    for seed, fold, right in ((0, "1", 5), (0, "2", 6), (1, "1", 4), (1, "2", 5)):
        rows.append(save_cell(tmp_path, "gold_only", seed, fold, [1] * right + [0] * (10 - right)))
        rows.append(save_cell(tmp_path, "synthio", seed, fold, [1] * 7 + [0] * 3, synthetic=60 + seed))
    save_plan(tmp_path, rows)
    lines = ["method,cell,key,status,seconds", "synthio,n50_seed0_fold1,1-1,1,9", "synthio,n50_seed0_fold1,2-2,1,30"]
    (tmp_path / "jobs.csv").write_text("\n".join([*lines, "synthio,n50_seed0_fold1,2-2,0,12", "gold_only,n50"]))
    return tmp_path


def save_plan(folder: Path, rows) -> None:
    with (folder / "plan.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["method", "n", "seed", "fold", "cell", "scores"], *rows])


def test_the_summary_by_hand(written):
    cells, missing = ex.read_cells(written)
    gold, synthio = summary(cells, 2000, {(50, "Synthio (ours)"): 49.5})
    assert missing == [] and gold["cells"] == synthio["cells"] == 4
    assert gold["mean"] == pytest.approx(0.5) and gold["std"] == pytest.approx(np.sqrt(2 / 300))
    assert synthio["mean"] == pytest.approx(0.7) and synthio["std"] == pytest.approx(0)
    assert synthio["difference"] == pytest.approx(0.2) and gold["difference"] is gold["p"] is None
    assert synthio["p"] == synthio["p_holm"] == pytest.approx(2 / 2**4)
    assert synthio["paper"] == 49.5 and gold["paper"] is None
    assert synthio["synthetic"] == 60.5
    assert {cell.seconds for cell in cells if cell.method == "synthio"} == {0, 51}
    # every clip that gold_only knows synthio knows too, so that the draws of clips are paired and narrow; the cells
    # differ by .2 .1 .3 .2, of which Student's t alone says .2 +- .13
    low, high = synthio["difference_low_95"], synthio["difference_high_95"]
    assert -0.1 < low < 0.07 and 0.33 < high < 0.5 and high - low < synthio["high_95"] - synthio["low_95"]


@pytest.fixture
def with_heads(written):
    """The same, and what their jobs trained: a fusion each (.6 and .8 right in every cell), and an AST of gold_only."""
    for row in rows_of(written / "plan.csv"):
        where = written, row["method"], int(row["seed"]), row["fold"]
        right = 8 if row["method"] == "synthio" else 6
        save_cell(*where, [1] * right + [0] * (10 - right), head="fusion", place="gold_only_heads/fusion")
        save_cell(*where, [1] * 9 + [0], head="zero_shot", place="gold_only_heads/zero_shot")
        if row["method"] == "gold_only":
            save_cell(*where, [1] * 5 + [0] * 5, head="ast", place="gold_only_ast")
    return written


def test_what_clips_bring_to_each_classifier(with_heads):
    """Fusions: .6 right on gold clips, .7 with vanilla ones in two of the cells, .8 with Synthio's in all four."""
    plan = [list(row.values()) for row in rows_of(with_heads / "plan.csv")]
    for row in [row for row in rows_of(with_heads / "plan.csv") if row["method"] == "gold_only"][:2]:
        where = with_heads, "vanilla_synthetic", int(row["seed"]), row["fold"]
        plan.append(save_cell(*where, [1] * 7 + [0] * 3))
        save_cell(*where, [1] * 7 + [0] * 3, head="fusion", place="gold_only_heads/fusion")
    save_plan(with_heads, plan)
    cells, _ = ex.read_cells(with_heads)
    found = {(row["head"], row["clips"], row["other"]): row for row in ex.gains(cells, ex.resample_cells(cells, 500))}
    pairs = [("vanilla_synthetic", "gold_only"), ("synthio", "gold_only"), ("synthio", "vanilla_synthetic")]
    vanilla, synthio, both = (found["fusion", *pair] for pair in pairs)
    assert len(found) == 3, "an AST has no other side, zero-shot no clips"
    assert (synthio["mean"], synthio["other_mean"], synthio["pairs"]) == pytest.approx((0.8, 0.6, 4))
    assert synthio["difference"] == pytest.approx(0.2) and synthio["p"] == pytest.approx(2 / 2**4)
    assert (vanilla["pairs"], vanilla["difference"], both["difference"]) == pytest.approx((2, 0.1, 0.1))
    done = call_script(ROOT / "synthio/report/experiment.py", "table", "--folder", with_heads)
    assert "What synthetic clips bring to a classifier, n = 50" in done.stdout and "gains.csv" in done.stdout
    assert [row["head"] for row in rows_of(with_heads / "gains.csv")] == ["fusion"] * 3
    assert "Vanilla Syn. Aug.: fusion" not in done.stdout, "in table.csv alone"
    assert "vanilla_synthetic_fusion" in {row["method"] for row in rows_of(with_heads / "table.csv")}


def test_everything_that_was_trained_has_a_row(with_heads):
    cells, _ = ex.read_cells(with_heads)
    records = {row["method"]: row for row in summary(cells)}
    means = {"gold_only": 0.5, "ast": 0.5, "zero_shot": 0.9, "fusion": 0.6, "synthio": 0.7, "synthio_fusion": 0.8}
    assert {name: row["mean"] for name, row in records.items()} == pytest.approx(
        means
    )  # zero-shot has no synthetic clips
    assert list(records) == [name for name in ex.NAMES if name in means]
    assert {cell.seconds for cell in cells if cell.method not in ("gold_only", "synthio")} == {0}
    assert all(row["cells"] == 4 for row in records.values())
    assert records["synthio_fusion"]["difference"] == pytest.approx(0.3)
    assert "AST, fine-tuned" in ex.text_table(list(records.values()), "set", "gold_only")


def test_another_network_than_ast_is_named_in_the_table(with_heads):
    for file in with_heads.rglob("scores.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"called": "HuBERT"}))
    records = summary(ex.read_cells(with_heads)[0])
    table = ex.text_table(records, "set", "gold_only")
    assert "HuBERT, fine-tuned" in table and "AST" not in table


def test_the_correction_leaves_heads_out(with_heads):
    """One method was asked for, so its p is not multiplied; theirs has no corrected value."""
    records = {row["method"]: row for row in summary(ex.read_cells(with_heads)[0])}
    assert records["synthio"]["p_holm"] == records["synthio"]["p"] == pytest.approx(2 / 2**4)
    assert records["fusion"]["p"] is not None and records["fusion"]["p_holm"] is None


def test_differences_to_a_head(with_heads):
    done = call_script(ROOT / "synthio/report/experiment.py", "table", "--folder", with_heads, "--compare_to", "fusion")
    assert done.returncode == 0, done.stderr
    rows = {row["method"]: row for row in rows_of(with_heads / "table.csv")}
    assert float(rows["synthio"]["difference"]) == pytest.approx(0.1) and rows["fusion"]["difference"] == ""
    assert "Synthio: fusion" in done.stdout


def test_heads_are_listed_with_their_names_in_print():
    listed = call_script(ROOT / "synthio/report/experiment.py", "heads").stdout.split()
    assert listed == list(ex.HEAD_NAMES) and set(listed) <= set(ex.NAMES)
    assert {"ast", "probe", "gold_and_valid", "zero_shot", "synthio_fusion", "synthio_ast"} <= set(listed)
    assert not {"synthio_zero_shot", "synthio_own_names"} & set(listed)  # no clip has a part in these
    assert ex.HEAD_NAMES["ast"] == "AST, fine-tuned" and ex.HEAD_NAMES["synthio_ast"] == "Synthio: AST, fine-tuned"
    assert len(set(ex.NAMES.values())) == len(ex.NAMES)


def test_differences_to_another_method(written):
    done = call_script(ROOT / "synthio/report/experiment.py", "table", "--folder", written, "--compare_to", "synthio")
    assert done.returncode == 0, done.stderr
    assert " to synthio (95 %) " in done.stdout
    gold, synthio = rows_of(written / "table.csv")
    assert float(gold["difference"]) == pytest.approx(-0.2) and synthio["difference"] == ""
    assert float(gold["difference_low_95"]) < -0.2 < float(gold["difference_high_95"]) < 0.1


def test_the_interval_of_a_mean_over_seeds_shares_its_clips(tmp_path):
    """Seeds with equal answers tell nothing new about clips: the interval is that of one seed."""
    for seeds in (1, 3):
        folder = tmp_path / str(seeds)
        save_plan_rows = [save_cell(folder, "gold_only", s, "1", [1] * 12 + [0] * 8) for s in range(seeds)]
        save_plan(folder, save_plan_rows)
    one, three = (summary(ex.read_cells(tmp_path / name)[0], 1000)[0] for name in "13")
    assert (one["low_95"], one["high_95"]) == pytest.approx((three["low_95"], three["high_95"]))
    low, high = stats.binom.ppf([0.025, 0.975], 20, 0.6) / 20
    assert (one["low_95"], one["high_95"]) == pytest.approx((low, high), abs=0.051)  # one clip


def test_the_files_of_the_table(written):
    rows = rows_of(written / "plan.csv")
    save_plan(written, [*(list(row.values()) for row in rows), ["wo_dpo", 50, 0, "1", "n50_seed0_fold1", "none.json"]])
    words = [
        "table",
        "--folder",
        written,
        "--dataset_name",
        "ESC-50",
        "--paper_csv",
        ROOT / "dataset_csvs/paper_table.csv",
    ]
    done = call_script(ROOT / "synthio/report/experiment.py", *words)
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("Synthio"))
    numbers = r"50 \+ 60 +4 +70\.0 +0\.0 .* \+20\.0 \(.*\) +not to be told +0\.125 +0\.125 +49\.50"
    assert re.fullmatch(rf"Synthio \(ours\) +{numbers}", line)
    assert "1 of 9 jobs have no scores" in done.stdout and "cannot be below 0.12" in done.stdout
    results = rows_of(written / "results.csv")
    assert len(results) == 8 and results[1]["method"] == "synthio" and results[1]["seconds"] == "51"
    assert float(rows_of(written / "table.csv")[1]["mean"]) == pytest.approx(0.7)
    tex = (written / "table.tex").read_text()
    assert r"\toprule" in tex and r"\textbf{70.0}" in tex and tex.count(r"\begin") == tex.count(r"\end") == 1
    assert {line.count("&") for line in tex.splitlines() if "&" in line} == {10}
    assert (written / "table.png").read_bytes().startswith(b"\x89PNG")


def test_latex_is_escaped():
    assert ex.tex_escape("a_b & 5 % $x$ {~^\\}#") == (
        r"a\_b \& 5 \% \$x\$ \{\textasciitilde{}\textasciicircum{}\textbackslash{}\}\#"
    )


def test_cells_that_were_tested_on_other_clips_are_refused(written):
    path = next(written.glob("n50_seed1_fold1/synthio/set/classifier/*/predictions.csv"))
    path.write_text(path.read_text().replace("clip 1 3", "clip 1 33"))
    done = call_script(ROOT / "synthio/report/experiment.py", "table", "--folder", written)
    assert done.returncode == 2 and "not tested on the clips of the others" in done.stderr


def test_a_table_of_nothing(tmp_path):
    save_plan(tmp_path, [["synthio", 50, 0, "1", "n50_seed0_fold1", "none.json"]])
    done = call_script(ROOT / "synthio/report/experiment.py", "table", "--folder", tmp_path)
    assert done.returncode == 1 and "no job has scores yet" in done.stdout


def test_the_best_on_validation_clips_not_on_test_clips():
    best = lambda accuracy, loss: {"accuracy": accuracy, "loss": loss}  # noqa: E731
    scores = [
        {"name": "a", "metric": "accuracy", "accuracy": 0.9, "best_valid": best(0.6, 1.0)},
        {"name": "b", "metric": "accuracy", "accuracy": 0.1, "best_valid": best(0.7, 1.2)},
        {"name": "c", "metric": "accuracy", "accuracy": 0.1, "best_valid": best(0.7, 1.1)},
    ]
    assert ex.choose_best(scores) == "c"


def test_folds_are_listed_in_order(tmp_path):
    (tmp_path / "a.csv").write_text("path,label,fold\n" + "".join(f"x,y,{f}\n" for f in (10, 2, 1, 2)))
    assert ex.list_folds(str(tmp_path / "a.csv")) == ["1", "2", "10"]
    (tmp_path / "a.csv").write_text("path,label,fold\nx,y,1\nx,y,2\n")
    with pytest.raises(ex.UserError, match="2 folds; three are needed"):
        ex.list_folds(str(tmp_path / "a.csv"))


def test_the_papers_figures():
    figures = ex.paper_figures(str(ROOT / "dataset_csvs/paper_table.csv"), "esc50")
    assert figures[100, "Synthio (ours)"] == 83.35 and len(figures) == 4 * 14
    assert {name for _, name in figures} <= set(ex.NAMES.values())
    assert ex.paper_figures(str(ROOT / "dataset_csvs/paper_table.csv"), "esc10") == {}


def test_every_method_has_a_name_in_print():
    lines = (ROOT / "extras/methods.txt").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if not line.startswith("#")]
    assert {row[0] for row in rows} == set(ex.NAMES) - set(ex.HEAD_NAMES)
    assert all(len(row) == 3 and row[2] for row in rows)


def test_which_methods_have_no_clips_is_read_where_they_are_listed(tmp_path):
    rows = [
        "# a | --augment false | x",
        "a | --augment false | x",
        "b | --dpo false | x",
        "c | --augment false --x y | x",
    ]
    (tmp_path / "methods.txt").write_text("\n".join(rows))
    assert ex.methods_without_clips(tmp_path / "methods.txt") == ("a", "c")
    assert ex.WITHOUT_CLIPS[0] == "gold_only" and {"mixup", "synthio"} & set(ex.WITHOUT_CLIPS) == {"mixup"}


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
    return {row["method"]: row for row in summary(ex.read_cells(folder)[0], 1000)}


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
