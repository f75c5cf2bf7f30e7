"""Run a stage script inside the test process: same code and arguments as by hand, without seconds of imports."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

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
