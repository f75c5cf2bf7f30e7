"""What experiment.sh makes of the launcher of a SLURM cluster: a task for each cell."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from tests.driver.test_run import save_world
from tests.running import save_program, wait_until
from tests.slurm_cluster import Cluster
from tests.slurm_driver import ROOT, wants_slurm

pytestmark = wants_slurm


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder from which experiments are called: clips and tiny models."""
    return save_world(tmp_path_factory.mktemp("world"))


CLASSIFIERS = r"""#!/bin/bash
# The interpreter of the classifiers: the first call of a script trains, the others take what it has left. One cell's
# second method waits as long as a file is there.
script=${1:-}
case $script in */ast/train.py | */ast/heads.py) ;; *) exec @PYTHON@ "$@" ;; esac
kind=$(basename "$script" .py) words=("$@")
while (($#)); do
    if [[ $1 == --output_folder ]]; then out=$2; fi
    shift
done
echo "$kind $out" >>@FOLDER@/trace
if [[ -e @FOLDER@/held && $out == *seed0_fold3/random_noise/* ]]; then
    touch @FOLDER@/waits
    exec sleep 100
fi
exec 8>@FOLDER@/lock
flock 8
if [[ -d @FOLDER@/$kind ]]; then
    mkdir -p "$out" "$SYNTHIO_LOADED"
    cp -r @FOLDER@/"$kind"/. "$out"
    cp @FOLDER@/"$kind.loaded"/* "$SYNTHIO_LOADED"
else
    @PYTHON@ "${words[@]}" 8>&- || exit
    cp -r "$SYNTHIO_LOADED" @FOLDER@/"$kind.loaded"
    cp -r "$out" @FOLDER@/"$kind"
fi
"""


class Experiments:
    """Calls of experiment.sh on two seeds, with the classifiers of one."""

    def __init__(self, prepared: Path, folder: Path, cluster: Cluster) -> None:
        self.prepared, self.folder, self.cluster = prepared, folder, cluster
        rows = ["path,label,fold"]
        for fold, split in enumerate(("train", "valid", "test"), 1):
            rows += [f"{line},{fold}" for line in (prepared / f"data/{split}.csv").read_text().splitlines()[1:]]
        (prepared / "data/folds.csv").write_text("\n".join(rows) + "\n")
        stub = CLASSIFIERS.replace("@PYTHON@", str(ROOT / ".venv/bin/python")).replace("@FOLDER@", str(folder))
        save_program(folder / "env/bin/python", "")
        (folder / "env/bin/python").write_text(stub)
        self.environment = cluster.environment | {"SYNTHIO_QUEUE_SECONDS": "1", "SYNTHIO_GRACE_SECONDS": "3"}
        self.environment |= {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}

    def command(self, root: str, *words: str, **changes) -> list[str]:
        values = {"results_root": self.folder / root, "dataset_name": "tiny", "source": "data/folds.csv", "folds": 3}
        values |= {"n": 6, "seeds": "0 1", "methods": "random_noise", "text_to_audio_model": "models/t2a"}
        values |= {"clap_model": "models/clap", "ast_model": "models/ast", "ast_num_steps": 2, "ast_batch_size": 4}
        values |= {"resamples": 100, "launcher": "slurm", "launcher_options": "time=30", "cpu_threads": 1}
        values |= {"ast_env": self.folder / "env"} | changes
        return [
            "bash",
            str(ROOT / "experiment.sh"),
            *(w for k, v in values.items() for w in (f"--{k}", str(v))),
            *words,
        ]

    def call(self, root: str, *words: str, **changes):
        command = self.command(root, *words, **changes)
        return subprocess.run(
            command, cwd=self.prepared, env=self.environment, capture_output=True, text=True, check=False
        )

    def cut_a_cell(self, root: str) -> subprocess.CompletedProcess[str]:
        """A call in which the first cell is cancelled from outside while its second method is at work."""
        (self.folder / "held").touch()
        command, out = self.command(root), subprocess.PIPE
        with subprocess.Popen(
            command, cwd=self.prepared, env=self.environment, stdout=out, stderr=out, text=True
        ) as driver:
            wait_until((self.folder / "waits").exists, "the second method of the first cell", 120)
            (task,) = (p for p in self.folder.glob("*/*/jobs/cell/*/task.*") if "n6_seed0_fold3" in p.read_text())
            lines = self.cluster.call("squeue", "-hr", "--name", task.parent.name, "-o", "%K %i").splitlines()
            self.cluster.call("scancel", dict(line.split() for line in lines)[task.suffix[1:]])
            printed = driver.communicate(timeout=120)
        (self.folder / "held").unlink()
        return subprocess.CompletedProcess(command, driver.returncode, *printed)

    def trained(self) -> list[str]:
        """The cell and method of each training."""
        lines = (self.folder / "trace").read_text().splitlines()
        return ["/".join(line.split("/tiny_experiment/")[1].split("/")[:2]) for line in lines if line[:5] == "train"]


def test_methods_that_fail_keep_no_other_from_running_and_are_named(prepared, cluster, tmp_path):
    """Before anything is trained: all classifiers fail at once."""
    calls, work = Experiments(prepared, tmp_path, cluster), tmp_path / "results/tiny_experiment"
    save_program(tmp_path / "env/bin/python", 'echo broke; case "$*" in *train.py*) exit 7;; esac')
    done = calls.call("results")
    assert done.returncode == 1 and "submitted 2 tasks: synthio-tiny-cell-" in done.stdout, done.stdout + done.stderr
    assert re.search(r"] 1/2: n6_seed\d_fold3: 0 of 2 methods; about \d+ min left$", done.stdout, re.MULTILINE)
    assert "experiment.sh: 4 of 4 jobs failed" in done.stderr and "1/2: " in done.stdout
    journal = [line.split(",") for line in (work / "jobs.csv").read_text().splitlines()[1:]]
    cells = [f"n6_seed{seed}_fold3" for seed in (0, 1)]
    assert sorted((cell, method) for method, cell, _, status, _ in journal if status != "0") == [
        (cell, method) for cell in cells for method in ("gold_only", "random_noise")
    ]
    assert not (work / "jobs").exists()


def test_an_experiment_is_one_array_whose_cells_keep_what_is_done(prepared, cluster, tmp_path):
    """One cell is cut half way; the next call does what it lacks and nothing else. The tables are those of local."""
    calls, work = Experiments(prepared, tmp_path, cluster), tmp_path / "results/tiny_experiment"
    dry = calls.call("results", "--dry_run")
    assert dry.returncode == 0 and dry.stdout.startswith("4 runs: 2 tasks of 2 methods each\nnot measured yet: ")
    assert "do one cell first: --only_cell n6_seed0_fold3" in dry.stdout and not work.exists()
    cut = calls.cut_a_cell("results")
    assert cut.returncode == 1, cut.stdout + cut.stderr
    assert "submitted 2 tasks: synthio-tiny-cell-" in cut.stdout
    assert re.search(r"/2: n6_seed0_fold3: 1 of 2 methods", cut.stdout), cut.stdout
    assert re.search(r"/2: n6_seed1_fold3: 2 of 2 methods", cut.stdout), cut.stdout
    assert "    the task ended with 143; see " in cut.stdout
    assert "experiment.sh: 1 of 4 jobs failed" in cut.stderr and "1 of 4 jobs have no scores" in cut.stdout
    first, second = "n6_seed0_fold3", "n6_seed1_fold3"
    every = [f"{cell}/{method}" for cell in (first, second) for method in ("gold_only", "random_noise")]
    assert sorted(calls.trained()) == every
    done = calls.call("results")
    assert done.returncode == 0 and "submitted 1 task: " in done.stdout, done.stdout + done.stderr
    assert sorted(calls.trained()) == sorted([*every, f"{first}/random_noise"])
    journal = [line.split(",") for line in (work / "jobs.csv").read_text().splitlines()]
    ended = [f"{cell}/{method}" for method, cell, _, status, _ in journal[1:] if status == "0"]
    assert sorted(ended) == every
    tables = {name: (work / name).read_bytes() for name in ("results.csv", "table.csv")}
    here = calls.call("results", launcher="local", launcher_options="")
    assert here.returncode == 0 and "submitted" not in here.stdout, here.stdout + here.stderr
    assert tables == {name: (work / name).read_bytes() for name in tables}, "the same jobs by another launcher"
    assert len(calls.trained()) == 5, "nothing ran again"
    assert re.search(r"about 0\.\d node hours; the longest task", calls.call("results", "--dry_run").stdout)
    wrong = calls.call("results", launcher="local", launcher_options="", only_cell="n7_seed0")
    assert wrong.returncode == 2 and "--only_cell: 'n7_seed0' is none of this experiment, such as n6" in wrong.stderr


@pytest.mark.slow
def test_the_scores_of_an_experiment_are_those_of_this_machine(prepared, cluster, tmp_path):
    """To the last digits: cells side by side take embeddings from one another, which were heard in other batches."""
    calls = Experiments(prepared, tmp_path, cluster)
    found: list[dict] = []
    for root, words in (("here", {"launcher": "local", "launcher_options": ""}), ("there", {})):
        done = calls.call(root, ast_env="", **words)
        assert done.returncode == 0, done.stdout + done.stderr
        paths = sorted((tmp_path / root / "tiny_experiment").glob("n*/*/tiny/classifier/**/predictions.csv"))
        found.append({path.relative_to(tmp_path / root): pd.read_csv(path) for path in paths})
    here, there = found
    assert here and list(here) == list(there)
    for path, table in here.items():
        pd.testing.assert_frame_equal(table, there[path], rtol=0, atol=1e-4, obj=str(path))
