"""A real SLURM of two emulated nodes on this machine: no root, no service, loopback alone, no accounting.

python -m tests.slurm_cluster FOLDER      one to try things on, until Ctrl-C; says what to export
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.running import wait_until

INSTALL = "apt-get install -y --no-install-recommends slurm-wlm munge"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
NODES = ("node1", "node2")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
CONF = """\
ClusterName=synthio{port}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
FirstJobId=1
SlurmUser={user}
SlurmdUser={user}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
SlurmdTimeout=10
MessageTimeout=2
KillWait=3
MaxArraySize={max_array}
OverTimeLimit=0
SchedulerParameters=bf_interval=1,sched_interval=2,batch_sched_delay=0
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=60 State=UP
PartitionName=other Nodes=ALL MaxTime=INFINITE DefaultTime=60 State=UP
"""


def missing() -> list[str]:
    """The programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]


class Cluster:
    """Two nodes of `cpus` CPUs and two GPUs (which are none) each.

    Args:
        folder: a new one with a short name; there are sockets in it, whose paths have at most 107 bytes.
        max_array: MaxArraySize, which the highest index of an array is below.
    """

    def __init__(self, folder: Path, cpus: int = 8, max_array: int = 1001) -> None:
        assert len(str(folder)) <= 60, f"{folder} is too long for the sockets in it"
        self.folder, self.cpus, self.max_array = folder, cpus, max_array
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.has_forgotten = False
        outer = re.compile("SLURM|SBATCH_|SQUEUE_|SCANCEL_")
        self.environment = {name: value for name, value in os.environ.items() if not outer.match(name)}
        self.environment |= {"PATH": PATH, "SLURM_CONF": str(folder / "slurm.conf")}

    def start(self) -> None:
        for name in ("state", *NODES):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "munge.key").write_bytes(random.SystemRandom().randbytes(128))
        (self.folder / "munge.key").chmod(0o600)
        self._write_settings()
        for name in ("munged", "slurmctld", *NODES):
            self.revive(name)
        wait_until(lambda: self._idle_nodes() == len(NODES), "idle nodes")

    def _write_settings(self) -> None:
        port, host = free_ports(1 + len(NODES)), socket.gethostname().partition(".")[0]
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        nodes = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port + 1 + k} CPUs={self.cpus} "
            "RealMemory=65536 State=UNKNOWN Gres=gpu:2"
            for k, name in enumerate(NODES)
        ]
        values = {"port": port, "host": host, "user": user, "folder": self.folder, "max_array": self.max_array}
        (self.folder / "slurm.conf").write_text(CONF.format(**values, nodes="\n".join(nodes)))
        for k in range(2):  # SLURM wants a device
            (self.folder / f"gpu{k}").symlink_to("/dev/null")
        (self.folder / "gres.conf").write_text(
            f"AutoDetect=off\nNodeName={NODES[0]},{NODES[1]} Name=gpu File={self.folder}/gpu[0-1]\n"
        )

    def revive(self, name: str) -> None:
        """Start a daemon: munged, slurmctld or a node's."""
        folder = self.folder
        if name == "slurmctld":  # killed by -9 it gives numbers again that nodes know, which then take no job
            settings = folder / "slurm.conf"
            text = settings.read_text()
            settings.write_text(re.sub("FirstJobId=(.*)", lambda found: f"FirstJobId={int(found[1]) + 5000}", text))
        munged = f"munged -F --force --num-threads 2 --key-file {folder}/munge.key --socket {folder}/munge.socket "
        munged += f"--pid-file {folder}/munged.pid --seed-file {folder}/munge.seed --log-file {folder}/munge.log"
        command = {"munged": munged, "slurmctld": f"slurmctld -D -i -f {folder}/slurm.conf"}.get(
            name, f"slurmd -D -N {name} -f {folder}/slurm.conf"
        )
        with (folder / f"{name}.err").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                command.split(), env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/"
            )
        if name == "munged":
            wait_until((folder / "munge.socket").exists, "munged")

    def kill(self, name: str) -> None:
        """End a daemon by -9; what a node runs goes on. A controller forgets what came in the last 5 s before."""
        self.has_forgotten = self.has_forgotten or name == "slurmctld"
        self.daemons[name].kill()
        self.daemons[name].wait()

    def end(self, name: str) -> None:
        """End a daemon as a site does; a controller writes down what it knows."""
        self.daemons[name].terminate()
        self.daemons[name].wait()

    def cut_power(self, node: str) -> None:
        """End a node and all that it runs, so that nothing of it can tell anybody."""
        self.kill(node)
        for pid in self._processes(node):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _processes(self, node: str) -> Iterator[int]:
        """What watches over jobs of a node, which has its log open, and then the processes of the jobs."""
        jobs = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                words = (folder / "environ").read_bytes().split(b"\0")
                if {f"SLURM_CONF={self.folder}/slurm.conf".encode(), f"SLURMD_NODENAME={node}".encode()} <= set(words):
                    jobs.append(int(folder.name))
                elif any(one.readlink() == self.folder / f"{node}.log" for one in (folder / "fd").iterdir()):
                    yield int(folder.name)
        yield from jobs

    def call(self, *words: str) -> str:
        """What one of SLURM's programs says; its failure is an error."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def queue(self) -> list[str]:
        """'<name> <index> <state>' of every task that has not ended."""
        return self.call("squeue", "--noheader", "--array", "--format", "%j %K %T").splitlines()

    def _idle_nodes(self) -> int:
        done = subprocess.run(
            ["sinfo", "-hNp", "main", "-o", "%t"], env=self.environment, capture_output=True, text=True
        )
        return done.stdout.split().count("idle")

    def wait_until_answering(self) -> None:
        ping = ["scontrol", "ping"]
        done = lambda: subprocess.run(ping, env=self.environment, capture_output=True, text=True).stdout  # noqa: E731
        wait_until(lambda: "is UP" in done(), "a controller")

    def wait_until_idle(self) -> None:
        """Until nothing is queued and both nodes take jobs again.

        A controller that was killed by -9 starts again what it has forgotten; the node finds that it has such a task
        already, which drains the node and holds the task for ever ("Duplicate jobid"). That is a site's to mend.
        """
        if self.has_forgotten:
            with suppress(AssertionError):
                wait_until(lambda: not self.queue() and self._idle_nodes() == len(NODES), "idle nodes", 5)
            self._clear_duplicates()
            self.has_forgotten = False
        wait_until(lambda: not self.queue() and self._idle_nodes() == len(NODES), "an empty queue and idle nodes")

    def _clear_duplicates(self) -> None:
        """Cancel what is held as a duplicate, and take the nodes back that were drained for it."""
        held = self.call("squeue", "--noheader", "--array", "--states", "PENDING", "--format", "%F_%K %r").splitlines()
        for line in held:
            name, _, reason = line.partition(" ")
            if reason.startswith("launch failed requeued held"):
                self.call("scancel", name)
        for node in NODES:
            arguments = ["scontrol", "update", f"NodeName={node}", "State=RESUME"]
            subprocess.run(arguments, env=self.environment, capture_output=True, check=False)

    def stop(self) -> None:
        for name in ("slurmctld", *NODES, "munged"):
            if name in self.daemons:
                self.kill(name)
        for node in NODES:
            for pid in self._processes(node):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def free_ports(count: int) -> int:
    """The first of several ports in a row that nobody listens on, below those that the system hands out."""
    for _ in range(100):
        first = random.SystemRandom().randrange(20000, 30000)
        with suppress(OSError):
            _bind(range(first, first + count))
            return first
    raise OSError("no free ports between 20000 and 30000")


def _bind(ports: Iterable[int]) -> None:
    for port in ports:
        with socket.socket() as one:
            one.bind(("127.0.0.1", port))


@contextmanager
def running(folder: Path, **options: int) -> Iterator[Cluster]:
    """A cluster for a while."""
    cluster = Cluster(folder, **options)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def main() -> int:
    if missing():
        print(f"not installed: {', '.join(missing())}; {INSTALL}", file=sys.stderr)
        return 3
    with running(Path(sys.argv[1]).absolute()) as cluster, suppress(KeyboardInterrupt):
        print(f"export SLURM_CONF={cluster.environment['SLURM_CONF']} PATH=$PATH:/usr/sbin", flush=True)
        signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
