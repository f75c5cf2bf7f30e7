"""The real experiment.sh on tiny models: jobs that are killed, fail and end, and what is refused."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from synthio.audio import read_audio
from synthio.classification.heads import TITLES
from synthio.files import read_json
from synthio.models.load import load_scorer
from synthio.report import experiment as ex
from tests.driver.test_run import LABELS, needs_proc, needs_setpriv, rows_of
from tests.driver.toy import save_world
from tests.running import processes_of, save_program, wait_until
from tests.scripts import ROOT, call_script
from tests.tiny_classifiers import save_tiny_classifier

SCRIPT = ROOT / "experiment.sh"
SHELL = shutil.which("dash") or "sh"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Tones in three folds, and tiny models."""
    return save_world(tmp_path_factory.mktemp("a world"))


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


@pytest.mark.slow
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
    # two methods, and what both trained: AST and heads, but for this AST no head whose classes have names
    results, table = rows_of(folder / "results.csv"), [row["method"] for row in rows_of(folder / "table.csv")]
    heads = set(TITLES) - {"own_names", "probe_names"}
    made = {f"vanilla_synthetic_{head}" for head in heads - {"zero_shot"}}  # which no clip has a part in
    assert len(results) == 2 * len(table) == 42
    assert set(table) == {"gold_only", "vanilla_synthetic"} | heads | made
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


def test_one_cell_can_be_done_before_any_driver_has_prepared_the_data(world, tmp_path):
    """As a dry run on a cluster advises, to measure what a cell takes."""
    save_program(tmp_path / "bin/bash", 'case "$1" in *run.sh) exit 0;; esac\nexec /bin/bash "$@"')
    path = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    done = experiment(world, *options(tmp_path / "results", only_cell="n6_seed1_fold3"), **path)
    assert "No such file" not in done.stderr and "2 jobs, 1 at once" in done.stdout, done.stderr
    made = sorted(one.name for one in (tmp_path / "results/tiny_experiment/data/fold_3").glob("*.csv"))
    assert made == ["test.csv", "train.csv", "valid.csv"]


@pytest.mark.parametrize(("seeds", "visible"), [("0 1 2", {"0,2", "1,3"}), ("0", {"0,1,2,3"})])
def test_gpus_are_dealt_out_and_a_cell_has_one_job_at_a_time(world, tmp_path, seeds, visible):
    """Two jobs at once on four GPUs; a stand-in for bash notes what each call of run.sh is given."""
    note = 'note() { echo "$1 $3 $CUDA_VISIBLE_DEVICES" >>"$NOTES"; }'
    asked = 'case "$*" in *run.sh*--dry_run) exit 0;; esac'  # whether the methods suit the options
    simulate = 'case "$1" in *run.sh) shift; note begin "$@"; sleep .5; note end "$@"; exit 0;; esac'
    save_program(tmp_path / "bin/bash", f'{note}\n{asked}\n{simulate}\nexec /bin/bash "$@"')
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
        (["--train_devices", "2"], "--train_devices: 2; of an experiment it is 1, or auto"),
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


def test_what_a_method_cannot_run_with_is_refused_before_the_first_job(world, tmp_path):
    """Of options that do not go together, and of a model that cannot do what the method asks; all of it at once."""
    save_tiny_classifier(tmp_path / "hubert", "hubert")
    methods = {"seeds": "0", "folds": "3", "methods": "spec_augment synthio wo_filter"}
    words = options(tmp_path / "results", **methods, ast_model=tmp_path / "hubert", filter_w_finetune="true")
    done = experiment(world, *words)
    assert done.returncode == 2, done.stderr
    told = done.stderr.splitlines()
    assert told[0].startswith("spec_augment: error: ast_spec_augment=true masks AST's spectrogram, and ast_model")
    assert told[1] == "wo_filter: run.sh: filter_w_finetune=true needs clap_filter=true"
    assert told[2] == "experiment.sh: no job was started: spec_augment wo_filter cannot run with these options"
    assert len(told) == 3 and not list((tmp_path / "results").rglob("run.log"))


def test_help_names_methods_and_variables(tmp_path):
    done = experiment(tmp_path, "--help")
    assert done.returncode == 0
    words = set(re.findall(r"[a-z_]+", done.stdout))
    assert set(ex.NAMES) - set(ex.HEAD_NAMES) <= words and {"fusion", "synthio_probe"} <= words
    assert re.search(r"^  --seeds .*default: 0\]", done.stdout, re.MULTILINE)
