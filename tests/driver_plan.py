"""The plan of a run as run.sh notes it, without anything run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from synthio.pipeline.steps import Step, read_steps

ROOT = Path(__file__).resolve().parent.parent
NOTE = """
source "$1"
shift
prepare "$@"
own_envs=()
gather_variables
printf '%s\\n' "${records[@]}" "" "${variables[@]}"
"""


def planned(*words, cwd: Path | None = None) -> tuple[list[Step], dict[str, str]]:
    """(steps, variables of run.sh and what it found out) of `sh run.sh WORDS` on a CPU with two threads."""
    given = {"CUDA_VISIBLE_DEVICES": ""}
    command = ["bash", "-c", NOTE, "plan", str(ROOT / "run.sh"), "--cpu_threads", "2", *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=os.environ | given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines, _, rest = done.stdout.partition("\n\n")
    return read_steps(lines.splitlines()), dict(line.split("=", 1) for line in rest.splitlines())
