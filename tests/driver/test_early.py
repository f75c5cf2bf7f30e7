"""Steps that begin before their turn, beside others: on a CPU of several cores, with small models."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.driver.test_run import call, needs_proc, needs_setpriv, options, save_world, stage_answers, start
from tests.running import processes_of, save_program, wait_until
from tests.scripts import ROOT

BESIDE = "running beside earlier stages: "
MODEL = "tiny set/classifier/gold_only_ast/model/model.safetensors"
PROBE = "tiny set/classifier/gold_only_heads/probe/model/model.safetensors"
SHARED = {"cpu_shards": 1, "cpu_threads": 2, "reflect_rounds": 0}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return save_world(tmp_path_factory.mktemp("two cores"))


@pytest.fixture(scope="module")
def in_turn(world) -> Path:
    """The results root of a run that trains on gold clips alone, so that no step is beside another."""
    done = call(*options("in turn", augment="false", **SHARED), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    assert BESIDE not in done.stdout
    return world / "in turn"


def same_classifiers(root: Path, other: Path) -> None:
    for name in (MODEL, PROBE):
        assert (root / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.slow
def test_the_classifiers_of_gold_clips_begin_beside_the_generator(world, in_turn):
    """With the same bytes; when all is done, nothing begins; at a later stage they do again what is not there."""
    done = call(*options("beside", **SHARED), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    answers = stage_answers(done.stdout)
    assert {name for name, answer in answers.items() if BESIDE in answer} == {
        "10 classify gold only",
        "10 heads gold only",
    }
    assert "step 3/3: train loss" in answers["10 classify gold only"], "what it logged is shown at its turn"
    same_classifiers(world / "beside", in_turn)
    again = call(*options("beside", **SHARED), cwd=world)
    assert again.returncode == 0 and "running" not in again.stdout
    shutil.rmtree((world / "beside" / MODEL).parent.parent)
    done = call(*options("beside", **SHARED), "--stage", "10", cwd=world)
    answers = stage_answers(done.stdout)
    assert {name for name, answer in answers.items() if BESIDE in answer} == {"10 classify gold only"}
    same_classifiers(world / "beside", in_turn)


@pytest.mark.slow
@needs_proc
@needs_setpriv
def test_what_began_early_ends_with_the_driver_and_goes_on(world, in_turn):
    words = options("killed", dpo_num_steps=40, ast_num_steps=3, **SHARED)
    process = start(world, *words)
    wait_until(lambda: processes_of(world / "killed", "dpo_train.py"), "the alignment")
    wait_until(lambda: (world / "killed" / MODEL).exists() or processes_of(world / "killed", "ast/train.py"), "AST")
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not processes_of(world / "killed"), "the end of all", 10)
    done = call(*words, cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    same_classifiers(world / "killed", in_turn)


@pytest.mark.slow
def test_a_failure_of_what_began_early_is_told_at_its_turn(world, tmp_path):
    save_program(
        tmp_path / "env/bin/python",
        f'case "$*" in *ast/train.py*) echo broken >&2; exit 7;; esac\nexec "{sys.executable}" "$@"',
    )
    done = call(*options("failing", ast_env=tmp_path / "env", **SHARED), cwd=world)
    assert done.returncode == 1
    answers = stage_answers(done.stdout)
    assert "10 classify gold only" in answers and "9 merge" in answers and "10 heads gold only" not in answers
    assert "stage 10 classify gold only failed (status 7)" in done.stderr
    assert not processes_of(world / "failing")


@pytest.mark.parametrize(
    ("change", "is_shared"),
    [
        ("", True),
        ("launcher=slurm", False),
        ("devices=(0)", False),  # of a GPU's memory the models need all
        ("device=mps", False),
        ("threads=1", False),  # there is no other core, or the user wants one
        ("shards=2", False),
        ("train_devices=2", False),
        ("share_stages=true", False),
        ("review=r.csv", False),  # it changes the gold clips
        ("ast_model=MIT/ast", False),  # full size
        ("generators=(own/a stabilityai/b)", False),
    ],
)
def test_cores_are_shared_where_there_are_some_and_models_are_small(change, is_shared):
    code = "launcher=local device=auto devices=() train_devices=1 shards=1 threads=2 review='' share_stages=false "
    code += "generators=(embedded) ast_model=embedded clap_model=embedded probe_clap_model=''; "
    code += f"source extras/driver/options.sh; source extras/driver/early.sh; {change or ':'}; "
    code += "if has_idle_cores; then echo shared; else echo alone; fi"
    done = subprocess.run(["bash", "-euc", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == ("shared\n" if is_shared else "alone\n")
