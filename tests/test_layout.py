"""The test of a file is found by its name."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from tests.scripts import ROOT

# A module with logic, and where it is tested instead of in a file of its own name.
ELSEWHERE = {
    "extras/embedded/compare_distilled.py": "prints the card's numbers of the distilled weights, after evaluate.py",
    "extras/embedded/evaluate.py": "prints the card's numbers of the weights that ship, once after train.sh",
    "extras/embedded/train_autoencoder.py": "run as it is in tests/extras/embedded/test_recipes.py",
    "extras/embedded/train_clap.py": "run as it is in tests/extras/embedded/test_recipes.py",
    "extras/embedded/train_generator.py": "run as it is in tests/extras/embedded/test_recipes.py",
}


def modules() -> list[PurePosixPath]:
    """Every Python file of the repository, tests apart."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip("no clone: which files belong to the repository is not known")
    paths = [PurePosixPath(line) for line in found.stdout.splitlines() if (ROOT / line).is_file()]
    return [path for path in paths if path.parts[0] != "tests" and path.name != "__init__.py"]


def has_logic(path: Path) -> bool:
    """Whether a module has functions; one of options and constants alone has none."""
    return any(isinstance(node, ast.FunctionDef) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def place_of_test(module: PurePosixPath) -> PurePosixPath:
    """synthio/a/b.py -> tests/a/test_b.py; stable-audio-tools/x.py -> tests/stable_audio_tools/test_x.py."""
    folders = [part.replace("-", "_") for part in module.parts[:-1] if part != "synthio"]
    return PurePosixPath("tests", *folders, f"test_{module.name}")


def test_every_module_with_logic_has_its_test():
    wanted = {str(module): place_of_test(module) for module in modules() if has_logic(ROOT / module)}
    missing = [module for module, test in wanted.items() if not (ROOT / test).is_file()]
    assert sorted(missing) == sorted(ELSEWHERE), "each module needs its test, or a reason in ELSEWHERE"


def test_every_folder_of_tests_is_a_package():
    """Files of one name in two folders are otherwise one module for pytest."""
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_the_ground_floor_is_small():
    """What belongs to one subject stands in the wing of that subject."""
    assert len(list((ROOT / "synthio").glob("*.py"))) <= 10
