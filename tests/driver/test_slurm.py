"""The launcher of a SLURM cluster, on a real SLURM of two nodes that run on this machine.

Most tests call the launcher through a driver of a few lines, which does what run.sh does about it: lock the folder,
start the tasks of a step, wait, forget them. Tests of what run.sh makes of it call run.sh.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from tests.running import processes_of, save_program, wait_until
from tests.slurm_cluster import INSTALL, NODES, Cluster, missing, running

ROOT = Path(__file__).resolve().parent.parent.parent
DRIVER = r"""
set -euo pipefail
root=$1 work=$2 step=$3 count=$4
shift 4
for part in options choices steps local; do source "$root/extras/driver/$part.sh"; done
launcher=slurm launcher_options="cpus-per-task=1 time=10" launcher_tasks=$count launcher_retries=0
dataset_name="tiny set" device=auto cpu_threads=1 check=false dry_run=false
words=(--device auto)
for word; do if [[ $word == *=* ]]; then printf -v "${word%%=*}" %s "${word#*=}"; else words+=("$word"); fi; done
choose_launcher
find_devices
stop_with_us
lock
logs=()
for ((k = 1; k <= count; k++)); do
    logs+=("$work/logs/$step.$k.log")
    start "${logs[-1]}" env CUDA_VISIBLE_DEVICES=7 "SYNTHIO_LOADED=$work/stamps/$step.$k.loaded" \
        bash "$work/task.sh" "$k" "${words[@]}"
done
wait_for_jobs
failed=0
for log in "${logs[@]}"; do
    echo "status $(basename "$log") ${statuses[$log]}"
    if [[ ${statuses[$log]} != 0 ]]; then failed=1; fi
done
if ((failed == 0)); then forget_jobs "$step"; fi
exit "$failed"
"""
TASK = r"""
folder=$(dirname "$0") k=$1
other=$(cat "$folder/at_work.$k" 2>/dev/null)
if [[ -n $other ]] && grep -q task.sh "/proc/$other/cmdline" 2>/dev/null; then echo "twice $k" >>"$folder/trace"; fi
echo $$ >"$folder/at_work.$k"
ms=$(cat "$folder/ms")
if grep -qx "stopped $k" "$folder/trace"; then ms=0; fi # what was done before it was cut off is kept
echo "start $k" >>"$folder/trace"
trap 'sleep 0.5; echo "stopped $k" >>"$folder/trace"; exit 143' TERM
echo "task $k on ${SLURMD_NODENAME:-the driver} GPU ${CUDA_VISIBLE_DEVICES-unset} threads $OMP_NUM_THREADS in $PWD"
end=$(($(date +%s%N) + ms * 1000000))
while (($(date +%s%N) < end)); do sleep 0.1; done
if [[ -e $folder/fail.$k ]]; then echo "error: told to fail"; exit 5; fi
echo "end $k" >>"$folder/trace"
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())}; {INSTALL}"),
]


@pytest.fixture(scope="module")
def cluster():
    folder = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))  # a short name: there are sockets in it
    try:
        with running(folder) as one:
            yield one
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Folder:
    """A result folder, the tasks in it and calls of the driver."""

    def __init__(self, work: Path, cluster: Cluster, ms: int = 300) -> None:
        self.work, self.cluster = work, cluster
        work.mkdir(parents=True)
        (work / "task.sh").write_text(TASK)
        (work / "trace").touch()
        self.take(ms)
        self.environment = cluster.environment | {"SYNTHIO_QUEUE_SECONDS": "1", "SYNTHIO_GRACE_SECONDS": "3"}
        self.environment |= {"CUDA_VISIBLE_DEVICES": "5"}

    def take(self, ms: int) -> None:
        (self.work / "ms").write_text(str(ms))

    def command(self, count: int, *words: str, step: str = "step") -> list[str]:
        return ["bash", "-c", DRIVER, "run.sh", str(ROOT), str(self.work), step, str(count), *words]

    def start(self, count: int, *words: str, **environment: str) -> subprocess.Popen[str]:
        with (self.work / "printed").open("ab") as out:
            heard = lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)  # noqa: E731
            return subprocess.Popen(
                self.command(count, *words),
                cwd=self.work,
                env=self.environment | environment,
                stdout=out,
                stderr=out,
                text=True,
                start_new_session=True,
                preexec_fn=heard,
            )

    def printed(self) -> str:
        return (self.work / "printed").read_text()

    def call(self, count: int, *words: str, timeout: float = 90, step: str = "step", **environment: str):
        return subprocess.run(
            self.command(count, *words, step=step),
            cwd=self.work,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def trace(self) -> list[str]:
        return (self.work / "trace").read_text().splitlines()

    def count(self, word: str) -> int:
        return sum(line.startswith(word) for line in self.trace())

    def records(self) -> list[Path]:
        return sorted(self.work.glob("jobs/*/*"))

    def wait_for_starts(self, count: int) -> None:
        wait_until(lambda: self.count("start") >= count, f"{count} starts", 40)

    def kill(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.wait()


@pytest.fixture
def folder(cluster, tmp_path):
    """A folder; after the test the queue is empty and none of its processes lives."""
    one = Folder(tmp_path / "w", cluster)
    yield one
    one.cluster.wait_until_idle()
    wait_until(lambda: not processes_of(one.work), f"the end of all processes in {one.work}", 10)


def all_once(folder: Folder, count: int) -> bool:
    return sorted(folder.trace()) == sorted(f"{word} {k}" for word in ("start", "end") for k in range(1, count + 1))


@pytest.fixture(scope="module", autouse=True)
def cut_off(tmp_path_factory):
    """What takes SLURM a minute goes on beside the other tests, on a cluster of its own: (folder, driver) by node.

    The tasks on node1 meet their time limit; node2 loses its power with all that it runs.
    """
    place = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))
    found: dict[str, tuple[Folder, subprocess.Popen[str]]] = {}
    try:
        with running(place) as own:
            for node, words in (("node1", ("launcher_retries=1",)), ("node2", ())):
                one = Folder(tmp_path_factory.mktemp(node) / "w", own, ms=600_000)
                found[node] = one, one.start(2, f"launcher_options=nodelist={node} time=1", *words)
            for one, _ in found.values():
                one.wait_for_starts(2)
            own.cut_power("node2")
            yield found
            for _, driver in found.values():
                if driver.poll() is None:
                    driver.send_signal(signal.SIGTERM)
                    driver.wait()
    finally:
        shutil.rmtree(place, ignore_errors=True)


# ---- where tasks run


def test_tasks_run_on_both_nodes_with_a_gpu_each_whatever_the_driver_sees(folder):
    folder.take(2000)
    done = folder.call(4, "launcher_options=gres=gpu:1 cpus-per-task=1")
    assert done.returncode == 0, done.stdout + done.stderr
    places = [re.findall(r"on (\w+) GPU (\w+)", log.read_text())[0] for log in folder.work.glob("logs/*.log")]
    assert sorted(places) == [(node, gpu) for node in NODES for gpu in "01"]
    assert f"in {folder.work}\n" in (folder.work / "logs/step.1.log").read_text()
    assert not folder.records()


def test_a_command_without_a_device_runs_here(folder):
    done = folder.call(2, "words=")  # no --device among them
    assert done.returncode == 0, done.stderr
    done = folder.call(1, step="other")
    assert "submitted 1 task: " in done.stdout and "on node" in done.stdout


# ---- what breaks


def test_of_three_tasks_one_fails_and_is_submitted_again_alone(folder):
    (folder.work / "fail.2").touch()
    done = folder.call(3)
    assert (
        done.returncode == 1 and "status step.2.log 5" in done.stdout and "    [2] error: told to fail" in done.stdout
    )
    assert done.stdout.count(" 0\n") == 2
    (folder.work / "fail.2").unlink()
    done = folder.call(3)
    assert done.returncode == 0 and "submitted 1 task: " in done.stdout, done.stdout
    assert folder.count("start 2") == 2 and folder.count("start") == 4


def test_a_killed_driver_finds_its_tasks_at_work(folder):
    folder.take(4000)
    driver = folder.start(3)
    folder.wait_for_starts(3)
    folder.kill(driver)
    done = folder.call(3)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "submitted" not in done.stdout and all_once(folder, 3)
    assert len(re.findall(r"^    \[\d\] task \d on node", done.stdout, re.MULTILINE)) == 3, (
        "logs are printed from the start"
    )


def test_a_killed_driver_finds_the_ends_of_its_tasks(folder):
    folder.take(1000)
    driver = folder.start(3)
    folder.wait_for_starts(3)
    folder.kill(driver)
    wait_until(lambda: not folder.cluster.queue(), "the end of the tasks")
    done = folder.call(3)
    assert done.returncode == 0 and "submitted" not in done.stdout and all_once(folder, 3)
    assert done.stdout.count("task ") == 3


def test_a_driver_killed_while_sbatch_is_on_its_way_has_submitted_once(folder, tmp_path):
    """sbatch takes 3 s: it outlives the driver and holds the lock, so that no second one starts before."""
    folder.take(15000)  # longer than a busy machine needs for the call that is refused
    sbatch = shutil.which("sbatch")
    submit = f'case " $* " in *" --test-only "*) ;; *) touch "{tmp_path}/called"; sleep 3 ;; esac; exec {sbatch} "$@"'
    save_program(tmp_path / "bin/sbatch", submit)
    slow = {"PATH": f"{tmp_path / 'bin'}:{folder.environment['PATH']}"}
    driver = folder.start(3, **slow)
    wait_until((tmp_path / "called").exists, "a call of sbatch")
    folder.kill(driver)
    refused = folder.call(3)
    assert refused.returncode == 2 and "another run works in" in refused.stderr
    wait_until(lambda: folder.cluster.queue(), "the tasks")
    done = folder.call(3)
    assert done.returncode == 0, done.stderr
    assert "submitted" not in done.stdout and all_once(folder, 3)


def test_a_second_driver_is_refused(folder):
    folder.take(4000)
    driver = folder.start(1)
    folder.wait_for_starts(1)
    done = folder.call(1)
    assert done.returncode == 2 and "another run works in" in done.stderr
    assert driver.wait(30) == 0


def test_sbatch_that_submits_and_then_fails_has_submitted_once(folder, tmp_path):
    sbatch = shutil.which("sbatch")
    save_program(
        tmp_path / "bin/sbatch", f'{sbatch} "$@" >/dev/null; echo "sbatch: error: Socket timed out" >&2; exit 1'
    )
    done = folder.call(3, PATH=f"{tmp_path / 'bin'}:{folder.environment['PATH']}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert all_once(folder, 3)


def test_a_changed_option_ends_the_old_tasks_before_the_new_ones_start(folder):
    folder.take(60000)
    driver = folder.start(3)
    folder.wait_for_starts(3)
    folder.kill(driver)
    folder.take(300)
    done = folder.call(2, "--num_steps", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    words = [line.split()[0] for line in folder.trace()]
    assert (
        words[:3] == ["start"] * 3
        and words[3:6] == ["stopped"] * 3
        and sorted(words[6:]) == ["end"] * 2 + ["start"] * 2
    )
    assert "stopped" not in (folder.work / "logs/step.1.log").read_text()


def test_changed_inputs_make_another_task_of_the_same_command(folder):
    """What a stamp knows of the inputs stands in its .begun file."""
    folder.take(60000)
    begun = folder.work / "stamps/step.1.begun"
    begun.parent.mkdir()
    begun.write_text('{"inputs": ["a"]}\n')
    driver = folder.start(1)
    folder.wait_for_starts(1)
    folder.kill(driver)
    folder.take(300)
    begun.write_text('{"inputs": ["b"]}\n')
    done = folder.call(1)
    assert done.returncode == 0 and folder.trace() == ["start 1", "stopped 1", "start 1", "end 1"]


def test_an_interrupt_ends_all_tasks(folder):
    folder.take(60000)
    driver = folder.start(3)
    folder.wait_for_starts(3)
    began = time.monotonic()
    os.killpg(driver.pid, signal.SIGINT)
    assert driver.wait(30) == 130
    assert time.monotonic() - began < 10  # 2 s on an idle machine
    wait_until(lambda: not folder.cluster.queue(), "an empty queue", 30)
    folder.take(300)
    done = folder.call(3)
    assert done.returncode == 0 and "submitted 3 tasks: " in done.stdout


def test_a_lost_connection_leaves_the_tasks_at_work(folder):
    folder.take(5000)
    driver = folder.start(3)
    folder.wait_for_starts(3)
    driver.send_signal(signal.SIGHUP)
    assert driver.wait(10) == 129
    assert "the jobs run on; the same call finds them: squeue --name synthio-tiny_set-step-" in folder.printed()
    assert len(folder.cluster.queue()) == 3
    done = folder.call(3)
    assert done.returncode == 0 and "submitted" not in done.stdout and all_once(folder, 3)


def test_tasks_that_others_end_are_told_within_a_moment(folder):
    """scancel from outside, and kill -9 of the command."""
    folder.take(9000)
    driver = folder.start(3)
    folder.wait_for_starts(3)
    (name,) = (path.name for path in folder.records())
    ids = dict(
        line.split() for line in folder.cluster.call("squeue", "-hr", "--name", name, "-o", "%K %i").splitlines()
    )
    folder.cluster.call("scancel", ids["1"])
    pid = subprocess.run(
        ["pgrep", "-f", f"^bash {folder.work}/task.sh 2 "], capture_output=True, text=True, check=True
    ).stdout
    os.kill(int(pid), signal.SIGKILL)
    assert driver.wait(30) == 1
    printed = folder.printed()
    assert (
        "status step.1.log 143" in printed and "status step.2.log 137" in printed and "status step.3.log 0" in printed
    )


def test_a_status_file_that_is_seen_late_loses_no_task(folder, tmp_path):
    """As on a network disk: it shows when the task has long left the queue."""
    late = f'case "$*" in *status*) setsid sh -c "sleep 4; exec {shutil.which("mv")} \\"$1\\" \\"$2\\"" & ;; esac'
    save_program(tmp_path / "bin/mv", late)
    path = f"{tmp_path / 'bin'}:{folder.environment['PATH']}"
    done = folder.call(3, PATH=path, SYNTHIO_GRACE_SECONDS="8")
    assert done.returncode == 0, done.stdout + done.stderr
    assert all_once(folder, 3)


def test_a_task_that_somebody_puts_in_the_queue_again_has_failed_and_leaves_it(folder):
    folder.take(8000)
    driver = folder.start(2)
    folder.wait_for_starts(2)
    (name,) = (path.name for path in folder.records())
    ids = dict(
        line.split() for line in folder.cluster.call("squeue", "-hr", "--name", name, "-o", "%K %i").splitlines()
    )
    folder.cluster.call("scontrol", "update", f"JobId={ids['1']}", "Requeue=1")
    folder.cluster.call("scontrol", "requeue", ids["1"])
    assert driver.wait(40) == 1
    assert "status step.1.log 143" in folder.printed() and "status step.2.log 0" in folder.printed()
    wait_until(lambda: not folder.cluster.queue(), "an empty queue", 10)


# ---- the controller


def test_a_controller_that_is_away_while_tasks_end_loses_nothing(folder):
    folder.take(5000)
    driver = folder.start(3)
    folder.wait_for_starts(3)
    folder.cluster.kill("slurmctld")
    time.sleep(8)  # the tasks have ended
    folder.cluster.revive("slurmctld")
    assert driver.wait(60) == 0, folder.printed()
    assert all_once(folder, 3)


def test_a_controller_that_is_away_at_a_submission_is_asked_again_and_then_refused(folder):
    folder.cluster.kill("slurmctld")
    try:
        done = folder.call(2, SYNTHIO_PATIENCE_SECONDS="2")
        assert done.returncode == 2, done.stdout + done.stderr
        assert "sbatch has not taken the jobs of step for 2 s: " in done.stderr and not folder.records()
        driver = folder.start(2)
        wait_until(lambda: "sbatch could not submit (" in folder.printed(), "a first refusal")
    finally:
        folder.cluster.revive("slurmctld")
    assert driver.wait(60) == 0, folder.printed()
    assert all_once(folder, 2)


def test_what_sbatch_refuses_is_told_in_its_words(folder):
    for options in ("partition=nowhere", "gres=gpu:9", "time=abc"):
        done = folder.call(2, f"launcher_options={options}")
        assert done.returncode == 2 and "sbatch refuses the jobs of step: " in done.stderr, done.stderr
        assert re.search("invalid|not available", done.stderr, re.IGNORECASE)
        assert not folder.records() and not folder.cluster.queue()
    done = folder.call(2)
    assert done.returncode == 0 and "submitted 2 tasks: " in done.stdout


@pytest.mark.parametrize("options", ["array=1-3", "--output=x", "partition=gpu wait", "-p gpu"])
def test_options_that_the_driver_sets_are_refused(folder, options):
    done = folder.call(1, f"launcher_options={options}")
    assert done.returncode == 2 and done.stderr.startswith("run.sh: launcher_options: '"), done.stderr


# ---- surroundings


def test_the_launcher_of_the_docs_for_another_scheduler_runs(folder, tmp_path):
    """With a stand-in for ssh, which is no part of it."""
    text = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")
    code = textwrap.dedent(text[text.index("    hosts=(gpu1") : text.index("## The tests")])
    (tmp_path / "hosts.sh").write_text(code)
    save_program(tmp_path / "bin/ssh", 'echo "to $2"; exec bash -c "$3"')
    path = f"{tmp_path / 'bin'}:{folder.environment['PATH']}"
    words = (f"launcher={tmp_path / 'hosts.sh'}", "launcher_options=")
    done = folder.call(4, *words, PATH=path, PYTHONPATH="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert all_once(folder, 4) and sorted(re.findall(r"to (\w+)", done.stdout)) == ["gpu1", "gpu1", "gpu2", "gpu3"]
    missing_file = folder.call(1, "launcher=nowhere.sh")
    assert missing_file.returncode == 2
    assert "--launcher: 'nowhere.sh' is neither local, slurm nor a file" in missing_file.stderr


def test_outer_settings_make_no_difference(folder):
    """A driver inside a job, with the variables of that job and defaults of the user's."""
    words = " ".join(f"'{word}'" for word in folder.command(2)[3:])
    (folder.work / "driver.sh").write_text(DRIVER)
    (folder.work / "job.sh").write_text(f'#!/bin/bash\nbash -c "$(cat driver.sh)" {words} >printed 2>&1\n')
    outer = {"SBATCH_EXPORT": "NONE", "SQUEUE_FORMAT": "%i", "SQUEUE_STATES": "PENDING", "SBATCH_WAIT": "1"}
    command = ["sbatch", "--export=ALL", "--cpus-per-task=2", "--mem=300", "-o", "/dev/null", "--chdir", folder.work]
    subprocess.run(
        [*map(str, command), str(folder.work / "job.sh")], env=folder.environment | outer, check=True, timeout=60
    )
    wait_until(lambda: (folder.work / "printed").is_file() and "status step.2" in folder.printed(), "the end", 40)
    assert "status step.1.log 0\nstatus step.2.log 0" in folder.printed() and all_once(folder, 2)


def test_a_task_that_waits_is_told_once_with_its_reason(folder):
    driver = folder.start(2, "launcher_options=hold")
    wait_until(lambda: "queue: 2 PENDING (JobHeldUser)" in folder.printed(), "words of the queue", 30)
    time.sleep(3)
    (name,) = (path.name for path in folder.records())
    folder.cluster.call("scontrol", "release", f"jobname={name}")
    assert driver.wait(30) == 0
    assert folder.printed().count("JobHeldUser") == 1


def test_a_folder_with_spaces_commas_percent_and_colon_works(cluster, tmp_path):
    folder = Folder(tmp_path / "a, b: 100%j [x] *", cluster)
    done = folder.call(2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all_once(folder, 2) and not folder.records()
    assert (
        "in a, b: 100%j" not in done.stdout and f"in {folder.work}\n" in (folder.work / "logs/step.2.log").read_text()
    )


def test_more_tasks_than_an_array_may_have_are_several_arrays(tmp_path):
    place = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))
    try:
        with running(place, max_array=4) as small:
            folder = Folder(tmp_path / "w", small)
            done = folder.call(8)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [int(n) for n in re.findall(r"submitted (\d) task", done.stdout)] == [3, 3, 2] and all_once(folder, 8)


def test_what_was_booked_is_never_taken_up_again(folder):
    """A stamp that is younger than a task's end has counted it; with outputs lost since, the task runs anew."""
    driver = folder.start(1)
    folder.wait_for_starts(1)
    folder.kill(driver)
    wait_until(lambda: not folder.cluster.queue(), "the end of the task")
    (folder.work / "stamps").mkdir()
    (folder.work / "stamps/step.1.json").write_text("{}")
    done = folder.call(1)
    assert done.returncode == 0 and "submitted 1 task: " in done.stdout and folder.count("start") == 2


# ---- what it costs


def test_waiting_costs_little_and_a_step_is_late_by_seconds(folder):
    """5 % of a core while tasks run, 3 s from the call to the end of a task that does nothing."""
    folder.take(0)
    began = time.monotonic()
    assert folder.call(4).returncode == 0
    assert time.monotonic() - began < 3
    folder.take(12_000)
    began = time.monotonic()
    driver = folder.start(4)
    _, status, used = os.wait4(driver.pid, 0)
    driver.returncode = os.waitstatus_to_exitcode(status)
    assert driver.returncode == 0
    assert used.ru_utime + used.ru_stime < 0.05 * (time.monotonic() - began)


@pytest.mark.slow
def test_300_tasks_through_one_array(folder):
    folder.take(0)
    began = time.monotonic()
    done = folder.call(300, timeout=200)
    assert done.returncode == 0 and all_once(folder, 300) and "submitted 300 tasks: " in done.stdout
    assert time.monotonic() - began < 40


@pytest.mark.parametrize(
    ("kills", "victims"),
    [(2, ["driver", "slurmctld"]), pytest.param(20, ["driver", "slurmctld", *NODES], marks=pytest.mark.slow)],
)
def test_kills_at_any_moment_lose_nothing_and_start_nothing_twice(cluster, tmp_path, kills, victims):
    """By -9. The same call ends with all tasks done; what a driver's death left at work is not started again."""
    chance = random.Random(kills)
    for number in range(kills):
        folder = Folder(tmp_path / f"w{number}", cluster, ms=2500)
        victim = victims[number % len(victims)]
        driver = folder.start(3)
        time.sleep(chance.uniform(0, 4))
        if victim == "driver":
            folder.kill(driver)
        elif victim == "slurmctld":
            cluster.kill(victim)
            time.sleep(chance.uniform(0, 3))
            cluster.revive(victim)
        else:
            cluster.cut_power(victim)
            driver.wait(120)
            cluster.revive(victim)
        driver.wait(120)
        cluster.wait_until_answering()
        for _ in range(3):
            done = folder.call(3)
            if done.returncode == 0:
                break
        assert done.returncode == 0, f"{victim}: {done.stdout}{done.stderr}{folder.printed()}"
        assert {f"end {k}" for k in (1, 2, 3)} <= set(folder.trace()), (victim, folder.trace())
        assert folder.count("twice") == 0 and not folder.records(), (victim, folder.trace())
        if victim == "driver":
            assert all(folder.count(f"start {k}") <= 2 for k in (1, 2, 3))
        cluster.wait_until_idle()


def test_a_node_without_power_is_told(cut_off):
    folder, driver = cut_off["node2"]
    assert driver.wait(90) == 1
    printed = folder.printed()
    assert "status step.1.log NODE_FAIL" in printed and "the task did not end by itself: NODE_FAIL" in printed, printed
    folder.take(300)
    done = folder.call(2, "launcher_options=time=1")
    assert done.returncode == 0 and "submitted 2 tasks: " in done.stdout, done.stdout + done.stderr
    folder.cluster.revive("node2")


def test_tasks_longer_than_their_limit_end_in_steps(cut_off):
    folder, driver = cut_off["node1"]
    assert driver.wait(150) == 0, folder.printed()
    assert [folder.count(word) for word in ("start", "stopped", "end")] == [4, 2, 2], folder.trace()
    assert folder.printed().count("TIMEOUT; it is submitted again (1 of 1)") == 2


# ---- what run.sh makes of it


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
    """All that a run leaves, but for what tells of the call: logs and seconds."""
    paths = (path for path in root.rglob("*") if path.is_file() and path.name not in (".lock", "folders.json"))
    names = {path.relative_to(root).as_posix(): path for path in paths}
    own = re.compile(r"a set/(logs/.*|durations.tsv|timings.csv)")
    return {name: path.read_bytes() for name, path in names.items() if not own.fullmatch(name)}


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
    (tmp_path / "bin").mkdir()
    for path in Path("/usr/bin").iterdir():
        if path.name not in ("sbatch", "squeue"):
            (tmp_path / "bin" / path.name).symlink_to(path)
    runs.environment["PATH"] = str(tmp_path / "bin")
    done = runs.call("--check")
    assert done.returncode == 2 and "launcher=slurm: sbatch squeue not found; call this on a login node" in done.stdout
    assert not (runs.work / "jobs").exists() and not runs.cluster.queue()


# ---- experiments


class Experiments:
    """Calls of experiment.sh on two seeds; in the first call one method of one cell fails."""

    def __init__(self, prepared: Path, folder: Path, cluster: Cluster) -> None:
        self.prepared, self.folder, self.cluster = prepared, folder, cluster
        rows = ["path,label,fold"]
        for fold, split in enumerate(("train", "valid", "test"), 1):
            rows += [f"{line},{fold}" for line in (prepared / f"data/{split}.csv").read_text().splitlines()[1:]]
        (prepared / "data/folds.csv").write_text("\n".join(rows) + "\n")
        self.broken = folder / "broken"
        breaking = f'case "$*" in *seed0_fold3/random_noise*) [ -e "{self.broken}" ] && echo broke && exit 7;; esac'
        save_program(folder / "env/bin/python", f'{breaking}\nexec "{ROOT}/.venv/bin/python" "$@"')
        self.environment = cluster.environment | {"SYNTHIO_QUEUE_SECONDS": "1", "SYNTHIO_GRACE_SECONDS": "3"}
        self.environment |= {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}

    def call(self, root: str, *words: str, **changes):
        values = {"results_root": self.folder / root, "dataset_name": "tiny", "source": "data/folds.csv", "folds": 3}
        values |= {"n": 6, "seeds": "0 1", "methods": "random_noise", "text_to_audio_model": "models/t2a"}
        values |= {"clap_model": "models/clap", "ast_model": "models/ast", "ast_num_steps": 2, "ast_batch_size": 4}
        values |= {"resamples": 100, "launcher": "slurm", "launcher_options": "time=30", "cpu_threads": 1}
        values |= {"ast_env": self.folder / "env"} | changes
        command = ["bash", str(ROOT / "experiment.sh"), *(w for k, v in values.items() for w in (f"--{k}", str(v)))]
        return subprocess.run(
            [*command, *words], cwd=self.prepared, env=self.environment, capture_output=True, text=True, check=False
        )


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


@pytest.mark.slow
def test_an_experiment_is_one_array_whose_failed_cells_keep_what_is_done(prepared, cluster, tmp_path):
    calls, work = Experiments(prepared, tmp_path, cluster), tmp_path / "results/tiny_experiment"
    dry = calls.call("results", "--dry_run")
    assert dry.returncode == 0 and dry.stdout.startswith("4 runs: 2 tasks of 2 methods each\nnot measured yet: ")
    assert "do one cell first: --only_cell n6_seed0_fold3" in dry.stdout and not work.exists()
    calls.broken.touch()
    failed = calls.call("results")
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "submitted 2 tasks: synthio-tiny-cell-" in failed.stdout
    assert re.search(r"/2: n6_seed0_fold3: 1 of 2 methods", failed.stdout), failed.stdout
    assert re.search(r"/2: n6_seed1_fold3: 2 of 2 methods", failed.stdout), failed.stdout
    assert "experiment.sh: 1 of 4 jobs failed" in failed.stderr and "1 of 4 jobs have no scores" in failed.stdout
    calls.broken.unlink()
    done = calls.call("results")
    assert done.returncode == 0 and "submitted 1 task: " in done.stdout, done.stdout + done.stderr
    journal = [line.split(",") for line in (work / "jobs.csv").read_text().splitlines()]
    ends = sorted((cell, method, status) for method, cell, _, status, _ in journal[1:])
    first, second = "n6_seed0_fold3", "n6_seed1_fold3"
    expected = [(cell, method, "0") for cell in (first, second) for method in ("gold_only", "random_noise")]
    assert ends == sorted([*expected, (first, "random_noise", "1")])
    tables = {name: (work / name).read_bytes() for name in ("results.csv", "table.csv")}
    here = calls.call("results", launcher="local", launcher_options="")
    assert here.returncode == 0 and "submitted" not in here.stdout, here.stdout + here.stderr
    assert tables == {name: (work / name).read_bytes() for name in tables}, "the same jobs by another launcher"
    assert len((work / "jobs.csv").read_text().splitlines()) == len(journal), "nothing ran again"
    assert re.search(r"about 0\.\d node hours; the longest task", calls.call("results", "--dry_run").stdout)
    wrong = calls.call("results", launcher="local", launcher_options="", only_cell="n7_seed0")
    assert wrong.returncode == 2 and "--only_cell: 'n7_seed0' is none of this experiment, such as n6" in wrong.stderr


@pytest.mark.slow
def test_the_scores_of_an_experiment_are_those_of_this_machine(prepared, cluster, tmp_path):
    calls = Experiments(prepared, tmp_path, cluster)
    found = []
    for root, words in (("here", {"launcher": "local", "launcher_options": ""}), ("there", {})):
        done = calls.call(root, **words)
        assert done.returncode == 0, done.stdout + done.stderr
        paths = sorted((tmp_path / root / "tiny_experiment").glob("n*/*/tiny/classifier/**/predictions.csv"))
        found.append([(path.relative_to(tmp_path / root), path.read_bytes()) for path in paths])
    assert found[0] and found[0] == found[1]
