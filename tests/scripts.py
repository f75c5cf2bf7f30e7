"""Run a stage script inside the test process: same code and arguments as by hand, without seconds of imports."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from synthio.cli import making_of, run_main

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Done:
    """What the script printed, and its exit status."""

    returncode: int
    stdout: str
    stderr: str


def own_python(name: str) -> Path:
    """The Python of an environment, in .envs/ or where SYNTHIO_<NAME>_PYTHON says; the test is skipped without it."""
    variable = f"SYNTHIO_{name.upper()}_PYTHON"
    python = Path(os.environ.get(variable) or ROOT / f".envs/{name}/bin/python")
    if not python.is_file():
        pytest.skip(f"no {python}; make it with `{making_of(name)}` or name the environment's Python in {variable}")
    return python


def copy_driver(folder: Path) -> Path:
    """run.sh and its other half in a folder, without anything else of the repository; the path of run.sh."""
    (folder / "extras/environments").mkdir(parents=True)
    shutil.copytree(ROOT / "extras/driver", folder / "extras/driver")
    for table in ("profiles.txt", "sizes.txt"):
        shutil.copy(ROOT / "extras" / table, folder / "extras")
    return Path(shutil.copy(ROOT / "run.sh", folder))


def load_script(path: Path):
    """Import a script by path, once."""
    name = "script_" + "_".join(path.with_suffix("").parts[-2:]).replace("-", "_")
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


def launched(count: int, script: Path, *args) -> list[str]:
    """The command that starts a script in several processes."""
    words = [sys.executable, "-m", "synthio.pipeline.launch", str(count), str(script), *args]
    return [str(word) for word in words]


def launch(count: int, script: Path, *args, **environment: str) -> Done:
    """Run a script in several processes, on CPUs."""
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(launched(count, script, *args), env=env, capture_output=True, text=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def kill_at(command: Sequence[str], path: Path) -> None:
    """Start a command, and kill it by -9 once a file is there; without an error, it must not have ended before."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 120
        while not path.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        process.kill()
    assert path.exists() and process.returncode == -9


def distance(found: Path, expected: Path, start: Mapping[str, torch.Tensor]) -> float:
    """How far two files of weights lie apart, as a share of the way that the second has gone from the start."""
    from safetensors.torch import load_file

    a, b = load_file(found), load_file(expected)
    assert a.keys() == b.keys()
    apart, way = (
        sum(float((x[name].double() - y.get(name, torch.zeros(())).double()).square().sum()) for name in x)
        for x, y in ((a, b), (b, start))
    )
    assert way > 0
    return (apart / way) ** 0.5


def call_script(path: Path, *args) -> Done:
    """Call a script's main() with command-line arguments; errors end as they do on the command line."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = [str(path), *map(str, args)]
    status = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            run_main(load_script(path).main)
    except SystemExit as stop:
        status = int(stop.code or 0)
    finally:
        sys.argv = before
    return Done(status, out.getvalue(), err.getvalue())
