"""Tables of many runs: the statistics by hand values and scipy, and the real experiment.sh on tiny models."""

from __future__ import annotations

import csv
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from synthio.audio import read_audio
from synthio.classification import intervals
from synthio.classification.heads import TITLES
from synthio.data.inspect_sound import inspect
from synthio.files import read_json, write_json
from synthio.models.load import load_scorer
from synthio.report import experiment as ex
from tests.classification.test_training import save_tiny_ast
from tests.driver.test_run import LABELS, needs_proc, needs_setpriv, processes_of, rows_of, save_program, wait_until
from tests.driver.test_run import save_tones as save_tones_of
from tests.scripts import call_script
from tests.tiny_models import save_clap, save_text_to_audio

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT, STAMP = ROOT / "experiment.sh", ROOT / "synthio/pipeline/stamp.py"
SHELL = shutil.which("dash") or "sh"


# ---- statistics


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


# ---- tables of written results


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
    gold, synthio = ex.summarise(cells, 2000, {(50, "Synthio (ours)"): 49.5})
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


def test_everything_that_was_trained_has_a_row(with_heads):
    cells, _ = ex.read_cells(with_heads)
    records = {row["method"]: row for row in ex.summarise(cells, 200, {})}
    means = {"gold_only": 0.5, "ast": 0.5, "zero_shot": 0.9, "fusion": 0.6, "synthio": 0.7, "synthio_fusion": 0.8}
    assert {name: row["mean"] for name, row in records.items()} == pytest.approx(
        means
    )  # zero-shot has no synthetic clips
    assert list(records) == [name for name in ex.NAMES if name in means]
    assert {cell.seconds for cell in cells if cell.method not in ("gold_only", "synthio")} == {0}
    assert all(row["cells"] == 4 for row in records.values())
    assert records["synthio_fusion"]["difference"] == pytest.approx(0.3)


def test_the_correction_leaves_heads_out(with_heads):
    """One method was asked for, so its p is not multiplied; theirs has no corrected value."""
    records = {row["method"]: row for row in ex.summarise(ex.read_cells(with_heads)[0], 200, {})}
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
    one, three = (ex.summarise(ex.read_cells(tmp_path / name)[0], 1000, {})[0] for name in "13")
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


# ---- sharing


def stamp(action, root: Path, gold: Path, *more):
    """A stage of the result root that writes out.csv, which names a clip of its own, and a folder."""
    work = root / "set"
    words = ["--stamp", work / "stamps/a.json", "--inputs", gold, "--outputs", work / "out.csv", work / "model"]
    return call_script(STAMP, action, *words, *more, "--command", "python", ROOT / "merge_csv.py", "--x", "1")


@pytest.fixture
def shared(tmp_path):
    """A result root `a` in which the stage is done, and an empty one `b`."""
    gold = tmp_path / "gold.csv"
    gold.write_text("path,label\n")
    work = tmp_path / "all/a/set"
    (work / "model").mkdir(parents=True)
    (tmp_path / "all/a/set_synthetic").mkdir()
    (tmp_path / "all/a/set_synthetic/1.wav").write_bytes(b"sound")
    (work / "out.csv").write_text("path,label\n../set_synthetic/1.wav,x\n../../../gold.wav,x\n")
    (work / "out.json").write_text('{"rows_in": 2, "rows_out": 2, "rows_dropped": 0}')
    (work / "model/weights").write_bytes(b"1")
    (work / "model_history.csv").write_text("step\n1\n")
    (tmp_path / "gold.wav").write_bytes(b"gold")
    assert stamp("write", tmp_path / "all/a", gold).returncode == 0
    (tmp_path / "all/b").mkdir()
    return tmp_path / "all", gold


def test_a_stage_is_taken_over_from_a_sibling(shared):
    folder, gold = shared
    assert stamp("check", folder / "b", gold).returncode == 3, "not without --siblings"
    asked = stamp("ask", folder / "b", gold, "--siblings")
    assert asked.returncode == 0 and not (folder / "b/set/out.csv").exists(), "a dry run links nothing"
    done = stamp("check", folder / "b", gold, "--siblings")
    assert done.returncode == 0 and done.stdout == "taken over from a\n"
    names = sorted(path.relative_to(folder / "b").as_posix() for path in (folder / "b").rglob("*") if path.is_file())
    names = [name for name in names if "/stamps/" not in name]
    clip = "set_synthetic/1.wav"
    assert names == ["set/model/weights", "set/model_history.csv", "set/out.csv", "set/out.json", clip]
    assert (folder / "b" / clip).samefile(folder / "a" / clip)
    again = stamp("check", folder / "b", gold)
    assert again.returncode == 0 and again.stdout == "2 rows in, 2 out\n"


@pytest.mark.parametrize("change", ["input", "output", "clip"])
def test_what_is_not_the_same_is_not_taken_over(shared, change):
    folder, gold = shared
    path = {"input": gold, "output": folder / "a/set/model/weights", "clip": folder / "a/set_synthetic/1.wav"}[change]
    path.write_bytes(path.read_bytes() + b"\n")
    assert stamp("check", folder / "b", gold, "--siblings").returncode == 3


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Tones in three folds, and tiny models."""
    folder = tmp_path_factory.mktemp("a world")
    rows = []
    for fold, clips in {"1": 9, "2": 6, "3": 6}.items():
        save_tones_of(folder, f"fold {fold}", clips)
        rows += [[row["path"], row["label"], fold] for row in rows_of(folder / f"fold {fold}.csv")]
    with (folder / "clips.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["path", "label", "fold"], *rows])
    save_text_to_audio(folder / "t2a")
    save_clap(folder / "clap")
    save_tiny_ast(folder / "ast")
    return folder


# ---- retrieval and zero-shot


def test_retrieval_takes_the_nearest_pairs_once():
    from tests.scripts import load_script

    script = load_script(ROOT / "extras/retrieve.py")
    similarity = np.array([[0.9, 0.8, 0.1, 0.7], [0.95, 0.2, 0.3, 0.6]])
    hashes = ["h0", "h1", "h2", "h3"].__getitem__
    assert script.assign(similarity, 1, hashes, {}) == [(0, 1), (1, 0)]  # clip 0 is nearer to gold clip 1
    assert script.assign(similarity, 1, hashes, {"h0"}) == [(0, 1), (1, 3)]
    assert script.assign(similarity, 9, hashes, {}) == [(0, 1), (0, 3), (1, 0), (1, 2)]
    assert script.assign(similarity, 2, lambda clip: "same", {}) == [(1, 0)]


def test_retrieval_passes_over_clips_of_the_test_set(world, tmp_path):
    """The corpus holds the gold clips and the test clips under other names; neither is taken."""
    gold, test, corpus = (tmp_path / f"{name}.csv" for name in ("gold", "test", "corpus"))
    clips = sorted(world.glob("audio fold*.wav"))
    for csv_path, chosen in ((gold, clips[:3]), (test, clips[3:6])):
        rows = "".join(f"{path},{LABELS[0]},{inspect(str(path)).sha256}\n" for path in chosen)
        csv_path.write_text(f"path,label,sha256\n{rows}")
    for i, path in enumerate(clips[:8]):
        shutil.copy(path, tmp_path / f"corpus {i}.wav")
    corpus.write_text("path\n" + "".join(f"corpus {i}.wav\n" for i in range(8)))
    words = ["--gold_csv", gold, "--corpus_csv", corpus, "--exclude_csvs", test, "--output_csv", tmp_path / "out.csv"]
    done = call_script(ROOT / "extras/retrieve.py", *words, "--num_clips", 1, "--model", world / "clap")
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "out.csv")
    assert {row["path"] for row in rows} == {"corpus 6.wav", "corpus 7.wav"}  # two of the three clips wanted
    assert len(rows) == 2 and all(row["source_path"] and row["label"] == LABELS[0] for row in rows)


def test_zero_shot_takes_the_label_whose_prompts_are_nearest(world, tmp_path):
    """Six prompts a label, and a temperature, which changes no order."""
    csvs = [word for split in ("train", "valid", "test") for word in (f"--{split}_csv", world / "fold 1.csv")]
    words = ["--output_folder", tmp_path, "--clap_model", world / "clap", "--ast_model", world / "ast"]
    done = call_script(ROOT / "ast/heads.py", *csvs, *words, "--device", "cpu", "--heads", "zero_shot")
    assert done.returncode == 0, done.stderr
    scorer, labels = load_scorer(str(world / "clap")), sorted(LABELS)
    templates = ["Sound of a {}", "This is a sound of a {}", "A recording of a {}", "{}", "A {} can be heard"]
    templates.append("The sound of {} in the background")
    spoken = [label.replace("_", " ") for label in labels]
    means = [
        scorer.embed_text([text.format(words) for text in templates]).astype(float).mean(axis=0) for words in spoken
    ]
    prompts = np.stack([mean / np.linalg.norm(mean) for mean in means])
    scores = read_json(tmp_path / "zero_shot/scores.json")
    for row in rows_of(tmp_path / "zero_shot/predictions.csv"):
        (clip,) = scorer.embed_audio([read_audio(tmp_path / "zero_shot" / row["path"], scorer.sample_rate)[0]])
        logits = scorer.logit_scale * (prompts @ clip.astype(float)) / scores["calibration"]["temperature"]
        found = [float(row[f"probability_{label}"]) for label in labels]
        assert found == pytest.approx(list(np.exp(logits) / np.exp(logits).sum()), abs=1e-4)
    assert scores["metric"] == "accuracy" and [path.name for path in tmp_path.glob("*/scores.json")] == ["scores.json"]


# ---- experiment.sh


def options(root="results", **changes):
    """Options of tiny jobs, one for each method and seed; paths are relative to the world."""
    values = {
        "results_root": root,
        "dataset_name": "tiny",
        "source": "clips.csv",
        "folds": 3,
        "n": 6,
        "seeds": "0 1",
        "methods": "vanilla_synthetic",
        "text_to_audio_model": "t2a",
        "clap_model": "clap",
        "ast_model": "ast",
        "num_steps": 1,
        "num_iters": 1,
        "ast_num_steps": 2,
        "ast_batch_size": 4,
        "cpu_threads": 1,
        "resamples": 100,
    } | changes
    return [word for name, value in values.items() for word in (f"--{name}", str(value))]


def experiment(world, *words, **environment):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", **environment}
    command = [SHELL, str(SCRIPT), *map(str, words)]
    return subprocess.run(command, cwd=world, env=environment, capture_output=True, text=True, timeout=600, check=False)


@needs_proc
@needs_setpriv
def test_killed_failed_and_finished(world, tmp_path):
    """A kill after the first job, a failure in the second call, the rest in the third; nothing is done twice."""
    broken = tmp_path / "broken"
    breaking = (
        f'case "$*" in *seed0_fold3/vanilla*classifier/synthio*) [ -e "{broken}" ] && echo broke && exit 7;; esac'
    )
    save_program(tmp_path / "env/bin/python", f'{breaking}\nexec "{sys.executable}" "$@"')
    broken.touch()
    words, folder = options(ast_env=tmp_path / "env"), world / "results/tiny_experiment"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(
        [SHELL, SCRIPT, *words], cwd=world, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, **quiet
    )
    wait_until(lambda: (folder / "jobs.csv").is_file() and len(rows_of(folder / "jobs.csv")) == 1, "a first job")
    halfway = experiment(world, *words, "--only_table", "true")
    assert halfway.returncode == 0, halfway.stderr
    assert "Gold-only" in halfway.stdout and "Vanilla" not in halfway.stdout
    assert "3 of 4 jobs have no scores" in halfway.stdout
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not processes_of(folder), "the end of the jobs", 10)

    failed = experiment(world, *words)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "1 of 4 jobs failed" in failed.stderr and "vanilla_synthetic n=6 seed=0 fold=3: results/" in failed.stderr
    assert re.search(r"4/4: vanilla_synthetic n=6 seed=1 fold=3 in \d+ s$", failed.stdout, re.MULTILINE)
    assert re.search(r"gold_only n=6 seed=1 fold=3 in \d+ s; about \d+ min left", failed.stdout)
    assert "1 of 4 jobs have no scores" in failed.stdout

    broken.unlink()
    done = experiment(world, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    journal = [(row["method"], row["cell"], row["status"]) for row in rows_of(folder / "jobs.csv")]
    first, second = "n6_seed0_fold3", "n6_seed1_fold3"
    assert journal == [
        ("gold_only", first, "0"),
        ("vanilla_synthetic", first, "1"),
        ("gold_only", second, "0"),
        ("vanilla_synthetic", second, "0"),
        ("vanilla_synthetic", first, "0"),
    ]
    # two methods, and what gold_only trained: AST and nine heads, for this AST has no head whose classes have names
    results, table = rows_of(folder / "results.csv"), [row["method"] for row in rows_of(folder / "table.csv")]
    assert len(results) == 2 * len(table) == 24 and {"gold_only", "vanilla_synthetic"} < set(table)
    assert set(table) - {"vanilla_synthetic", "gold_only"} == set(TITLES) - {"own_names", "probe_names"}
    assert "Vanilla Syn. Aug." in done.stdout
    check_sharing(folder, first)
    check_sharing(folder, second)
    dry = experiment(world, *words, "--dry_run")
    assert dry.returncode == 0 and dry.stdout.startswith("4 jobs, 1 at once")
    assert dry.stdout.count("--make_report false --quality false") == 4 and "--num_steps 1 " in dry.stdout
    dry = experiment(world, *words, "--make_report", "yes", "--report_clips", 5, "--dry_run")
    assert dry.stdout.count("--make_report true --quality false") == dry.stdout.count("--report_clips 5 ") == 4


def check_sharing(folder: Path, cell: str) -> None:
    """What is the same was done by gold_only alone; what is not, in each root."""
    gold, vanilla = folder / cell / "gold_only/tiny", folder / cell / "vanilla_synthetic/tiny"
    assert (gold / "logs/classify_gold_only.log").is_file() and (gold / "logs/stratify.log").is_file()
    assert not (vanilla / "logs/classify_gold_only.log").exists() and not (vanilla / "logs/stratify.log").exists()
    assert (vanilla / "logs/generate.log").is_file() and not (vanilla / "round_0/kept.csv").exists()
    scores = "classifier/gold_only/scores.json"
    assert (gold / scores).samefile(vanilla / scores)
    mine, theirs = vanilla / "classifier/synthio_ast/scores.json", gold / "classifier/gold_only_ast/scores.json"
    assert read_json(mine)["num_steps"] == read_json(theirs)["num_steps"] == 2
    mine = read_json(vanilla / "classifier/synthio/scores.json")
    assert mine["splits"]["train"] == {"clips": 12, "gold": 6, "synthetic": 6}
    assert {row["fold"] for row in rows_of(gold / "checked/test.csv")} == {"3"}
    assert {row["fold"] for row in rows_of(gold / "checked/valid.csv")} == {"2"}


@pytest.mark.parametrize(("seeds", "visible"), [("0 1 2", {"0,2", "1,3"}), ("0", {"0,1,2,3"})])
def test_gpus_are_dealt_out_and_a_cell_has_one_job_at_a_time(world, tmp_path, seeds, visible):
    """Two jobs at once on four GPUs; a stand-in for bash notes what each call of run.sh is given."""
    note = 'note() { echo "$1 $3 $CUDA_VISIBLE_DEVICES" >>"$NOTES"; }'
    simulate = 'case "$1" in *run.sh) shift; note begin "$@"; sleep .5; note end "$@"; exit 0;; esac'
    save_program(tmp_path / "bin/bash", f'{note}\n{simulate}\nexec /bin/bash "$@"')
    changes = {"NOTES": str(tmp_path / "notes"), "CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    changes |= {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    done = experiment(world, *options(tmp_path / "results", seeds=seeds, methods="wo_dpo wo_filter", jobs=2), **changes)
    assert done.returncode == 1 and "no job has scores yet" in done.stdout, done.stderr
    running, most, seen = set(), 0, set()
    for line in (tmp_path / "notes").read_text().splitlines():
        action, root, names = line.split()
        cell = Path(root).parent.name
        assert (cell in running) == (action == "end")
        running ^= {cell}
        most = max(most, len(running))
        seen.add(names)
    cells = len(seeds.split())
    assert seen == visible and most == min(2, cells)
    assert len(rows_of(tmp_path / "results/tiny_experiment/jobs.csv")) == 3 * cells


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--methods", "synthoi"], "'synthoi' is none of all, gold_only"),
        (["--methods", "retrieval"], "needs --retrieval_csv"),
        (["--dpo", "false"], "--dpo tells the methods apart"),
        (["--num_samples", "10"], "--num_samples is set by the jobs"),
        (["--n", "1e2"], "'1e2' is not a whole number"),
        (["--seeds", ","], "need a number each"),
        (["--folds", "2"], "--folds goes with --source"),
        (["--source", "/not/there"], "no such file or folder"),
        (["--method", "x"], "unknown option --method; did you mean --methods?"),
        (["--jobs", "many"], "'many' is not a whole number"),
        (["--compare_to", "wo_dpo"], "--compare_to: 'wo_dpo' is none of gold_only synthio"),
    ],
)
def test_a_mistake_is_refused_before_anything_runs(tmp_path, words, part):
    done = experiment(tmp_path, "--results_root", tmp_path / "results", *words)
    assert done.returncode == 2 and done.stdout == ""
    assert part in done.stderr and done.stderr.startswith("experiment.sh: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_every_method_has_a_name_in_print():
    lines = (ROOT / "extras/methods.txt").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if not line.startswith("#")]
    assert {row[0] for row in rows} == set(ex.NAMES) - set(ex.HEAD_NAMES)
    assert all(len(row) == 3 and row[2] for row in rows)


def test_help_names_methods_and_variables(tmp_path):
    done = experiment(tmp_path, "--help")
    assert done.returncode == 0
    words = set(re.findall(r"[a-z_]+", done.stdout))
    assert set(ex.NAMES) - set(ex.HEAD_NAMES) <= words and {"fusion", "synthio_probe"} <= words
    assert re.search(r"^  --seeds .*default: 0\]", done.stdout, re.MULTILINE)
