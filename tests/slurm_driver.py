"""A driver of a few lines that does what run.sh does about its launcher, and a task that leaves a trace."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.running import wait_until
from tests.slurm_cluster import INSTALL, Cluster, missing, running

ROOT = Path(__file__).resolve().parent.parent
DRIVER = r"""
set -euo pipefail
root=$1 work=$2 step=$3 count=$4
shift 4
for part in options choices steps local; do source "$root/extras/driver/$part.sh"; done
launcher=slurm launcher_options="cpus-per-task=1 time=10" launcher_tasks=$count launcher_retries=0
dataset_name="tiny set" device=auto cpu_threads=0 check=false dry_run=false train_devices=1
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
while (($(date +%s%N) < end)) || [[ -e $folder/hold.$k ]]; do sleep 0.1; done
if [[ -e $folder/fail.$k ]]; then echo "error: told to fail"; exit 5; fi
echo "end $k" >>"$folder/trace"
"""
wants_slurm = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())}; {INSTALL}"),
]


def hear_signals() -> None:
    """What the tests were started by (nohup, a shell's &) may have told them to ignore is ignored by no driver."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


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
            return subprocess.Popen(
                self.command(count, *words),
                cwd=self.work,
                env=self.environment | environment,
                stdout=out,
                stderr=out,
                text=True,
                start_new_session=True,
                preexec_fn=hear_signals,
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


def all_once(folder: Folder, count: int) -> bool:
    return sorted(folder.trace()) == sorted(f"{word} {k}" for word in ("start", "end") for k in range(1, count + 1))


@contextmanager
def new_cluster(**options: int) -> Iterator[Cluster]:
    """A cluster in a folder of a short name: there are sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))
    try:
        with running(folder, **options) as one:
            yield one
    finally:
        shutil.rmtree(folder, ignore_errors=True)
