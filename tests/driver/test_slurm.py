"""The launcher of a SLURM cluster, on a real SLURM of two nodes that run on this machine.

The tests call the launcher through a driver of a few lines, which does what run.sh does about it: lock the folder,
start the tasks of a step, wait, forget them. The files beside this one have what is away for a while, what is lost,
run.sh and experiment.sh. All of them wait most of the time, so that `sh test.sh slurm` lets the files go on side by
side, with a cluster each.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import textwrap
import time

import pytest

from tests.running import save_program, wait_until
from tests.slurm_cluster import NODES
from tests.slurm_driver import DRIVER, ROOT, Folder, all_once, new_cluster, wants_slurm

pytestmark = wants_slurm


def test_tasks_run_on_both_nodes_with_a_gpu_each_whatever_the_driver_sees(folder):
    folder.take(2000)
    done = folder.call(4, "launcher_options=gres=gpu:1 cpus-per-task=1")
    assert done.returncode == 0, done.stdout + done.stderr
    places = [re.findall(r"on (\w+) GPU (\w+)", log.read_text())[0] for log in folder.work.glob("logs/*.log")]
    assert sorted(places) == [(node, gpu) for node in NODES for gpu in "01"]
    assert f"in {folder.work}\n" in (folder.work / "logs/step.1.log").read_text()
    assert not folder.records()


def test_a_training_on_several_devices_has_them_in_one_task(folder):
    """What launcher_options ask for is for one device; with train_devices=auto it is what there is."""
    words = ("together=launch", "launcher_options=gres=gpu:1 cpus-per-task=2 mem-per-cpu=100")
    for devices, gpus in (("2", "0,1"), ("auto", "0")):
        done = folder.call(1, *words, f"train_devices={devices}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.findall(r"GPU (\S+) threads (\d)", done.stdout) == [(gpus, "2")]
    refused = folder.call(1, *words, "train_devices=3")
    assert refused.returncode == 2 and "sbatch refuses the jobs of step: " in refused.stderr, refused.stderr


def test_a_command_without_a_device_runs_here(folder):
    done = folder.call(2, "words=")  # no --device among them
    assert done.returncode == 0, done.stderr
    done = folder.call(1, step="other")
    assert "submitted 1 task: " in done.stdout and "on node" in done.stdout


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
    with new_cluster(max_array=4) as small:
        folder = Folder(tmp_path / "w", small)
        done = folder.call(8)
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
