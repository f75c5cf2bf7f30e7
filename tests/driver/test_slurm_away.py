"""The launcher of a SLURM cluster where the controller is away for a while, or files are seen late."""

from __future__ import annotations

import shutil
import subprocess
import time

from tests.running import save_program, wait_until
from tests.slurm_driver import ROOT, all_once, wants_slurm

pytestmark = wants_slurm


def test_a_controller_that_is_away_while_tasks_end_loses_nothing(folder):
    """For a minute, in which two of three tasks end; the driver has to wait for the third, and for the controller."""
    folder.take(4000)
    driver = folder.start(3)
    folder.wait_for_starts(3)
    (folder.work / "hold.3").touch()
    folder.cluster.end("slurmctld")
    time.sleep(60)
    assert folder.count("end") == 2 and driver.poll() is None
    folder.cluster.revive("slurmctld")
    (folder.work / "hold.3").unlink()
    assert driver.wait(60) == 0, folder.printed()
    assert all_once(folder, 3) and folder.printed().count("submitted") == 1
    assert folder.printed().count("the queue does not answer (") == 1
    assert not folder.records()


def test_a_controller_that_is_away_at_a_submission_is_asked_again_and_then_refused(folder):
    folder.cluster.end("slurmctld")
    try:
        done = folder.call(2, SYNTHIO_PATIENCE_SECONDS="12")
        assert done.returncode == 2, done.stdout + done.stderr
        assert done.stdout.count("sbatch could not submit (") >= 2, "each time is told"
        assert "sbatch has not taken the jobs of step for 12 s: " in done.stderr and not folder.records()
        driver = folder.start(2)
        wait_until(lambda: folder.printed().count("sbatch could not submit (") >= 2, "two refusals")
    finally:
        folder.cluster.revive("slurmctld")
    assert driver.wait(60) == 0, folder.printed()
    assert all_once(folder, 2) and folder.printed().count("submitted 2 tasks") == 1
    said = "unset SYNTHIO_PATIENCE_SECONDS; source extras/driver/slurm.sh; echo $patience_seconds"
    assert subprocess.run(["bash", "-c", said], cwd=ROOT, capture_output=True, check=True).stdout == b"1800\n"


def test_a_status_file_that_is_seen_late_loses_no_task(folder, tmp_path):
    """As on a network disk: it shows 20 s after the task has left the queue."""
    late = f'case "$*" in *status*) setsid sh -c "sleep 20; exec {shutil.which("mv")} \\"$1\\" \\"$2\\"" & ;; esac'
    save_program(tmp_path / "bin/mv", late)
    path = f"{tmp_path / 'bin'}:{folder.environment['PATH']}"
    began = time.monotonic()
    done = folder.call(3, PATH=path, SYNTHIO_GRACE_SECONDS="40")
    assert done.returncode == 0, done.stdout + done.stderr
    assert all_once(folder, 3) and done.stdout.count("submitted") == 1 and time.monotonic() - began > 20
