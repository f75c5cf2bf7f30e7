"""The locks: whole, of the pins that the requirements name, and what make_env.sh does with one."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.driver.test_run import make_env
from tests.scripts import ROOT

LOCKS = ("requirements", "requirements-dev")


def pins(name: str) -> list[Requirement]:
    """What a file of requirements pins."""
    lines = (ROOT / f"{name}.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def locked(name: str) -> dict[Requirement, int]:
    """What a lock holds -> the number of its hashes."""
    blocks = re.split(r"^(?=[a-z])", (ROOT / f"{name}.lock").read_text(), flags=re.MULTILINE)[1:]
    return {Requirement(block.split("\\")[0].strip()): block.count("--hash=sha256:") for block in blocks}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_every_pin_with_hashes_and_no_index(name):
    found = locked(name)
    versions = {(requirement.name, str(requirement.specifier)) for requirement in found}
    assert {(pin.name, str(pin.specifier)) for pin in pins(name)} <= versions
    assert all(found.values())
    assert "://" not in (ROOT / f"{name}.lock").read_text()


@pytest.mark.parametrize("name", LOCKS)
def test_the_environment_is_that_of_the_lock(name):
    """But for torch and its CUDA libraries, of which a build without CUDA has none."""
    wanted = {
        requirement.name: str(requirement.specifier).removeprefix("==")
        for requirement in locked(name)
        if not re.match(r"torch|triton|cuda-|nvidia-", requirement.name)
        and (requirement.marker is None or requirement.marker.evaluate())
    }
    assert len(wanted) > 5
    assert {name: importlib.metadata.version(name) for name in wanted} == wanted


def save_wheel(folder: Path, name: str, version: str) -> str:
    """An empty package that pip can install; returns the hash of its file."""
    info = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_environment_is_made_from_the_lock(tmp_path):
    """Its versions count, its hashes are checked, and a torch of the user's own index is taken as it is."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    older, _, torch = (save_wheel(wheels, *what) for what in (("tiny", "1.0"), ("tiny", "2.0"), ("torch", "1.0")))
    requirements, lock, folder = tmp_path / "needs.txt", tmp_path / "needs.lock", tmp_path / "env"
    requirements.write_text("tiny\ntorch==1.0\n")
    other = torch[::-1]
    lock.write_text(
        f"tiny==1.0 \\\n    --hash=sha256:{older}\n    # via needs\ntorch==1.0 \\\n    --hash=sha256:{other}\n"
    )
    index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    done = make_env(folder, requirements, **index)
    assert done.returncode == 0, done.stderr
    installed = {path.name for path in folder.glob("lib/python3*/site-packages/t*.dist-info")}
    assert installed == {"tiny-1.0.dist-info", "torch-1.0.dist-info"}
    assert make_env(folder, requirements, **index).stderr == ""

    lock.write_text(lock.read_text().replace("tiny==1.0", "tiny==2.0"))  # a file with another hash
    failed = make_env(folder, requirements, **index)
    assert failed.returncode == 1 and "DO NOT MATCH THE HASHES" in failed.stderr
