"""What run.sh makes of the launcher of a SLURM cluster."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.running import processes_of, save_program, wait_until
from tests.slurm_cluster import Cluster
from tests.slurm_driver import ROOT, wants_slurm

pytestmark = wants_slurm


STUB = r"""#!/bin/bash
# The interpreter of the generation: a stand-in for generate.py, and Python for all else.
[[ ${1:-} == */generate.py ]] || exec @PYTHON@ "$@"
while (($#)); do case $1 in --input_csv) in=$2 ;; --output_csv) out=$2 ;; esac; shift; done
name=$(basename "$in" .csv)
echo "start $name" >>@FOLDER@/trace
sleep "$(cat @FOLDER@/seconds)"
[[ ! -e @FOLDER@/fail.$name ]] || { echo "error: $name was told to fail"; exit 5; }
cp "$in" "$out.tmp" && mv "$out.tmp" "$out"
mkdir -p "$SYNTHIO_LOADED" && echo '{"code": {}, "libraries": {}}' >"$SYNTHIO_LOADED/note.json"
echo "end $name" >>@FOLDER@/trace
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder from which runs are called, with a results root in which all before the generation is done."""
    from tests.driver.test_run import save_world

    world = save_world(tmp_path_factory.mktemp("world"))
    done = subprocess.run(run_command("base", stop_stage=5), cwd=world, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return world


def run_command(root, *words: str, **changes) -> list[str]:
    values = {"results_root": root, "dataset_name": "a set", "input_train_file": "data/train.csv", "num_iters": 1}
    values |= {"valid_csv": "data/valid.csv", "test_csv": "data/test.csv", "dpo": "false", "plain_caption": "true"}
    values |= {"text_to_audio_model": "models/t2a", "clap_model": "models/clap", "ast_model": "models/ast"}
    values |= {"generate_batch_size": 1, "num_steps": 1, "cpu_threads": 1, "stage": 0, "stop_stage": 6} | changes
    return ["bash", str(ROOT / "run.sh"), *(w for k, v in values.items() for w in (f"--{k}", str(v))), *words]


class Runs:
    """Calls of run.sh in a copy of what is prepared, whose generation is a stand-in."""

    def __init__(self, prepared: Path, folder: Path, cluster: Cluster) -> None:
        self.prepared, self.folder, self.cluster = prepared, folder, cluster
        self.root, self.work = folder / "root", folder / "root/a set"
        shutil.copytree(prepared / "base", self.root)
        stub = STUB.replace("@PYTHON@", str(ROOT / ".venv/bin/python")).replace("@FOLDER@", str(folder))
        save_program(folder / "env/bin/python", "")
        (folder / "env/bin/python").write_text(stub)
        self.take(0.3)
        (folder / "trace").touch()
        self.environment = cluster.environment | {"SYNTHIO_QUEUE_SECONDS": "1", "SYNTHIO_GRACE_SECONDS": "3"}
        self.environment |= {"CUDA_VISIBLE_DEVICES": ""}

    def take(self, seconds: float) -> None:
        (self.folder / "seconds").write_text(str(seconds))

    def command(self, *words: str, **changes) -> list[str]:
        values = {"stage": 6, "launcher": "slurm", "launcher_tasks": 3, "stable_audio_env": self.folder / "env"}
        values["launcher_options"] = "cpus-per-task=1 time=10"
        return run_command(self.root, *words, **(values | changes))

    def call(self, *words: str, **changes):
        return subprocess.run(
            self.command(*words, **changes),
            cwd=self.prepared,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def kill_at_work(self) -> None:
        """Start a call and kill it by -9 once three tasks are at work."""
        quiet = subprocess.DEVNULL
        driver = subprocess.Popen(self.command(), cwd=self.prepared, env=self.environment, stdout=quiet, stderr=quiet)
        wait_until(lambda: self.trace("start") == 3, "three starts", 60)
        driver.kill()
        driver.wait()

    def trace(self, word: str) -> int:
        return (self.folder / "trace").read_text().count(word)


@pytest.fixture
def runs(prepared, tmp_path, cluster):
    one = Runs(prepared, tmp_path, cluster)
    yield one
    cluster.wait_until_idle()
    wait_until(lambda: not processes_of(tmp_path), "the end of all processes", 10)


def files_of(root: Path) -> dict[str, bytes]:
    """All that a run leaves, but for what tells of the call: logs, seconds, and which libraries a process had loaded.

    On this machine a stage is a fork of a process that has some more of these loaded.
    """
    paths = (path for path in root.rglob("*") if path.is_file() and path.name not in (".lock", "folders.json"))
    names = {path.relative_to(root).as_posix(): path for path in paths}
    own = re.compile(r"a set/(logs/.*|durations.tsv|timings.csv)")
    found = {name: path.read_bytes() for name, path in names.items() if not own.fullmatch(name)}
    for name in found:
        if re.fullmatch(r"a set/(stamps/\w+|shards/.+\.stamp)\.json", name):
            stamp = {key: value for key, value in json.loads(found[name]).items() if key != "libraries"}
            found[name] = json.dumps(stamp).encode()
    return found


def test_outputs_stamps_and_files_are_those_of_this_machine(prepared, cluster, tmp_path):
    """From the captions to the filter, with real models."""
    environment = cluster.environment | {"SYNTHIO_QUEUE_SECONDS": "1", "SYNTHIO_GRACE_SECONDS": "3"}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    found, root = [], tmp_path / "root"
    for words in (
        {"cpu_shards": 2},
        {"launcher": "slurm", "launcher_tasks": 2, "launcher_options": "cpus-per-task=1"},
    ):
        shutil.copytree(prepared / "base", root)
        for step in ("captions.csv", "stamps/caption.json"):
            (root / "a set" / step).unlink()
        shutil.rmtree(root / "a set/shards", ignore_errors=True)
        command = run_command(root, stop_stage=7, **words)
        done = subprocess.run(command, cwd=prepared, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        found.append(files_of(root))
        root.rename(tmp_path / f"was {len(found)}")
    assert done.stdout.count("submitted 2 tasks") == 2 and done.stdout.count("submitted 1 task:") == 1, done.stdout
    here, there = found
    assert sorted(here) == sorted(there)
    assert sum(name.endswith(".wav") for name in here) == 9
    different = [name for name in here if here[name] != there[name]]
    assert not different, different


def test_a_shard_that_fails_is_named_and_the_next_call_submits_it_alone(runs):
    (runs.folder / "fail.shard_001").touch()
    done = runs.call()
    assert done.returncode == 1 and "1 of 3 shards of stage 6 generate failed; see" in done.stderr, done.stderr
    assert "    error: shard_001 was told to fail\n" in done.stderr
    (runs.folder / "fail.shard_001").unlink()
    done = runs.call()
    assert done.returncode == 0 and "submitted 1 task: " in done.stdout, done.stdout + done.stderr
    assert runs.trace("start shard_001") == 2 and runs.trace("start") == 4 and not (runs.work / "jobs").exists()


def test_a_killed_run_goes_on_and_no_other_launcher_meets_its_jobs(runs):
    """launcher=local is refused while they are at work; the seconds that are kept are those on the nodes."""
    runs.take(15)
    runs.kill_at_work()
    refused = runs.call(launcher="local", launcher_options="")
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "jobs of launcher=slurm are at work in" in refused.stderr
    assert re.search(r"scancel --name synthio-a_set-generate-[\w-]+$", refused.stderr.strip())
    done = runs.call()
    assert done.returncode == 0 and "submitted" not in done.stdout, done.stdout + done.stderr
    assert runs.trace("start") == runs.trace("end") == 3
    assert 14 < float((runs.work / "durations.tsv").read_text().splitlines()[-1].split("\t")[1]) < 40


def test_a_record_of_a_stage_that_is_up_to_date_is_removed(runs):
    """The tasks ended, another launcher did the stage meanwhile; with its outputs lost it runs anew."""
    runs.take(1)
    runs.kill_at_work()
    wait_until(lambda: not runs.cluster.queue(), "the end of the tasks")
    assert list(runs.work.glob("jobs/generate/*"))
    done = runs.call(launcher="local", launcher_options="", cpu_shards=3)
    assert done.returncode == 0 and not (runs.work / "jobs/generate").exists(), done.stdout + done.stderr
    (runs.work / "round_0/generated.csv").unlink()
    for path in runs.work.glob("shards/generate/*.out.csv"):
        path.unlink()
    done = runs.call()
    assert done.returncode == 0 and "submitted 3 tasks: " in done.stdout, done.stdout + done.stderr


def test_outputs_that_were_removed_before_they_were_booked_are_made_again(runs):
    runs.take(1)
    runs.kill_at_work()
    wait_until(lambda: not runs.cluster.queue(), "the end of the tasks")
    (runs.work / "shards/generate/shard_002.out.csv").unlink()
    lost = runs.call()
    assert lost.returncode == 1 and "did not write" in lost.stderr, lost.stdout + lost.stderr
    done = runs.call()
    assert done.returncode == 0 and "submitted 1 task: " in done.stdout, done.stdout + done.stderr


def test_a_dry_run_and_a_check_submit_nothing(runs, tmp_path):
    done = runs.call("--dry_run")
    assert (
        done.returncode == 0 and "machine  SLURM (cpus-per-task=1 time=10), tasks: 3, threads of each: 1" in done.stdout
    )
    done = runs.call("--check", launcher_options="partition=nowhere")
    assert done.returncode == 2 and "invalid partition specified: nowhere" in done.stdout, done.stdout
    done = runs.call("--check", launcher_options="gres=gpu:1 cpus-per-task=2", train_devices=3)
    said = "launcher=slurm, train_devices=3: sbatch says of a job with --gres=gpu:3 --cpus-per-task=6: "
    assert done.returncode == 2 and said in done.stdout, done.stdout
    (tmp_path / "bin").mkdir()
    for path in Path("/usr/bin").iterdir():
        if path.name not in ("sbatch", "squeue"):
            (tmp_path / "bin" / path.name).symlink_to(path)
    runs.environment["PATH"] = str(tmp_path / "bin")
    done = runs.call("--check")
    assert done.returncode == 2 and "launcher=slurm: sbatch squeue not found; call this on a login node" in done.stdout
    assert not (runs.work / "jobs").exists() and not runs.cluster.queue()


@pytest.mark.slow
def test_several_generators_added_clips_and_a_review_are_those_of_this_machine(prepared, cluster, tmp_path):
    """Their shares of the prompts are shared out to tasks again; a review submits nothing."""
    from tests.driver.test_review import save_review
    from tests.driver.test_run import save_tones
    from tests.rows import rows_of
    from tests.tiny_models import save_text_to_audio

    save_text_to_audio(prepared / "models/t2b", seed=1)
    save_tones(prepared / "data", "more", 3)
    environment = cluster.environment | {"SYNTHIO_QUEUE_SECONDS": "1", "SYNTHIO_GRACE_SECONDS": "3"}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    pair = {"text_to_audio_model": "models/t2a,models/t2b", "add_csv": "data/more.csv", "num_samples": 6}
    pair |= {"clap_threshold": 0.5, "stop_stage": 9}

    def call(**words) -> str:
        command = run_command(tmp_path / "root", **pair | words)
        done = subprocess.run(command, cwd=prepared, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    found = []
    slurm = {"launcher": "slurm", "launcher_tasks": 2, "launcher_options": "cpus-per-task=1"}
    for where in ({"cpu_shards": 2}, slurm):
        said, work = call(**where), tmp_path / "root/a set"
        assert ("submitted" in said) == (where is slurm)
        kept, gold = rows_of(work / "added/round_0/kept.csv"), rows_of(work / "checked/added.csv")
        review = save_review(tmp_path, (kept[0], "drop", ""), (gold[0], "drop", ""))
        assert "submitted" not in call(**where, review=review)
        found.append(files_of(tmp_path / "root"))
        (tmp_path / "root").rename(tmp_path / f"was {len(found)}")
    here, there = found
    assert sorted(here) == sorted(there) and sum(name.endswith(".wav") for name in here) > 12
    different = [name for name in here if here[name] != there[name]]
    assert not different, different
