"""Trackers: what is sent when, what is said where a library is missing, and that the real libraries take it."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from synthio.cli import UserError
from synthio.files import read_json
from synthio.pipeline.stamp import command_key
from synthio.training import tracking
from tests.classification.toy_clips import TRAIN, options, save_tiny_ast, save_tones
from tests.driver import test_run
from tests.scripts import ROOT, call_script, own_python

SCRIPT, CURVES = ROOT / "synthio/training/tracking.py", ROOT / "tests/programs/track_curves.py"


class Notebook:
    """A backend that keeps what it is told."""

    runs: list[Notebook]

    def __init__(self, folder, run, config):
        self.name, self.config, self.rows, self.is_closed = run, config, [], False
        Notebook.runs.append(self)

    def log(self, values, step):
        self.rows.append((step, values))

    def close(self):
        self.is_closed = True


@pytest.fixture
def notebook(monkeypatch):
    """`tensorboard` means a notebook; its runs."""
    Notebook.runs = []
    monkeypatch.setattr(tracking, "check", lambda kind: None)
    monkeypatch.setitem(tracking.BACKENDS, "tensorboard", Notebook)
    return Notebook.runs


def test_a_history_is_told_once_and_whole_by_a_process_that_goes_on(notebook, tmp_path):
    history = [{"step": i, "loss": np.float32(i), "seconds": 1.0} for i in range(4)]
    for known in (0, 2):
        tracker = tracking.Tracker("tensorboard", tmp_path, "dpo adapter", {"beta": 1})
        for end in range(known + 1, 5):
            tracker.follow(history[:end])
        tracker.close()
    assert [run.rows for run in notebook] == 2 * [[(i, {"loss": float(i)}) for i in range(4)]]
    assert all(run.name == "dpo-adapter" and run.is_closed and run.config == {"beta": 1} for run in notebook)


def test_nothing_is_begun_without_a_row_or_a_wish(notebook, tmp_path):
    tracking.Tracker("tensorboard", tmp_path, "x", {}).close()
    off = tracking.Tracker("none", tmp_path, "x", {})
    off.follow([{"step": 0, "loss": 1.0}])
    off.close()
    assert notebook == [] and list(tmp_path.iterdir()) == []


def test_the_training_of_a_classifier_is_followed(notebook, tmp_path):
    save_tiny_ast(tmp_path / "model")
    for seed, name in enumerate(("train", "valid", "test")):
        save_tones(tmp_path, name, 6, seed)
    words = options(
        tmp_path, tmp_path / "out", num_steps=4, eval_every=2, log_to="tensorboard", log_folder=tmp_path / "t"
    )
    done = call_script(TRAIN, *words)
    assert done.returncode == 0, done.stderr
    (run,) = notebook
    assert run.name == "classifier-out" and [step for step, _ in run.rows] == [2, 4] and run.is_closed
    assert all(values.keys() == {"train_loss", "valid_loss", "valid_score", "alpha"} for _, values in run.rows)
    lines = (tmp_path / "out/history.csv").read_text().splitlines()
    assert [float(cell) for cell in lines[1].split(",")] == [2, *run.rows[0][1].values()]


def test_a_missing_library_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"python.* -m pip install wandb`"):
        tracking.check("wandb")
    tracking.check("none")
    done = call_script(SCRIPT, "--log_to", "trackio")
    assert done.returncode == 2 and "log_to trackio: the package is not in this environment" in done.stderr


def test_a_folder_that_has_the_name_of_a_library_is_none(tmp_path, monkeypatch):
    """wandb leaves a folder `wandb` where it was called, and Python takes it for a package."""
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    with pytest.raises(UserError, match="log_to wandb: the package is not in this environment"):
        tracking.check("wandb")


def test_who_is_told_is_no_part_of_the_work(tmp_path):
    plain = ["python", "ast/train.py", "--seed", "0"]
    told = [*plain, "--log_to", "wandb", "--log_folder", "/w/tracking"]
    assert command_key(plain, [], tmp_path) == command_key(told, [], tmp_path)


# ---------------------------------------------------------------- the real libraries


@pytest.fixture(scope="module")
def trackers_python():
    """The Python that has the trackers."""
    return own_python("trackers")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "runs"), [("tensorboard", 1), ("wandb", 2), ("trackio", 2)])
def test_the_real_libraries_hold_the_whole_history(trackers_python, tmp_path, kind, runs):
    """TensorBoard's second run replaces the first, those of the others stand beside it."""
    offline = {"WANDB_MODE": "offline", "TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"}
    environment = {**os.environ, **offline, "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT)}
    command = [trackers_python, CURVES, kind, tmp_path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.split("found ")[-1])
    assert len(found) == runs
    for rows in found:
        assert [step for step, _ in rows] == [5, 10, 15]
        for i, (_, values) in enumerate(rows, 1):
            assert values == {"train_loss": pytest.approx(1 / i), "valid_accuracy": pytest.approx(i / 4)}


def link_packages(python: str, folder: Path) -> Path:
    """A folder for PYTHONPATH that has what another environment has and this one lacks."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    theirs = Path(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    folder.mkdir()
    for path in theirs.iterdir():
        if path.suffix != ".dist-info" and not Path(sysconfig.get_path("purelib"), path.name).exists():
            (folder / path.name).symlink_to(path)
    return folder


@pytest.mark.slow
def test_a_run_of_the_driver_is_in_the_files_of_tensorboard(trackers_python, tmp_path):
    """Curves of preference and classifier training, and the test scores, as TensorBoard's own reader finds them."""
    test_run.save_world(tmp_path)
    packages = link_packages(trackers_python, tmp_path / "packages")
    words = test_run.options("results", cpu_shards=1, log_to="tensorboard", quality="false", make_report="false")
    done = test_run.call(*words, cwd=tmp_path, PYTHONPATH=str(packages))
    assert done.returncode == 0, done.stdout + done.stderr
    work = tmp_path / "results/tiny set"
    command = [trackers_python, CURVES, "read", work / "tracking"]
    read = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert read.returncode == 0, read.stderr
    runs = json.loads(read.stdout)
    histories = {f"classifier-{name}": f"classifier/{name}/history.csv" for name in ("gold_only", "synthio")}
    histories["dpo-adapter"] = "dpo/adapter_history.csv"
    assert runs.keys() == {*histories, "scores"}
    for run, history in histories.items():
        rows = test_run.rows_of(work / history)
        assert [step for step, _ in runs[run]] == [int(row["step"]) for row in rows] and len(rows) > 1
        for (_, found), row in zip(runs[run], rows, strict=True):
            row["valid_score"] = row.pop("valid_accuracy", None)
            expected = {name: float(cell) for name, cell in row.items() if cell and name not in tracking.NOT_CURVES}
            assert found == pytest.approx(expected, rel=1e-5)
    ((step, found),) = runs["scores"]
    methods = read_json(work / "scores.json")["methods"]
    names = ("accuracy", "macro_f1", "mAP")
    expected = {f"{method['name']} {name}": method[name] for method in methods for name in names if name in method}
    assert step == 0 and found == pytest.approx(expected, rel=1e-5) and len(found) == 6


@pytest.mark.slow
def test_wandb_without_a_login_says_what_to_do(trackers_python, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "NETRC": str(tmp_path / "none")}
    code = (
        "from synthio.cli import run_main\nfrom synthio.training.tracking import Tracker\n"
        "run_main(lambda: Tracker('wandb', 't', 'x', {}).follow([{'step': 0, 'loss': 1.0}]))"
    )
    command = [trackers_python, "-c", code]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 2 and "set WANDB_MODE=offline" in done.stderr, done.stderr
