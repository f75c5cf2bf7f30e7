"""The test of a file is found by its name, and functions are short."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from tests.scripts import ROOT

# A module with logic, and where it is tested instead of in a file of its own name.
ELSEWHERE = {
    "extras/embedded/compare_distilled.py": "prints the card's numbers of the distilled weights, after evaluate.py",
    "extras/embedded/evaluate.py": "prints the card's numbers of the weights that ship, once after train.sh",
    "extras/embedded/evaluate_kinds.py": "prints the card's numbers by kind of sound, after evaluate.py",
    "extras/embedded/train_autoencoder.py": "run as it is in tests/extras/embedded/test_recipes.py",
    "extras/embedded/train_clap.py": "run as it is in tests/extras/embedded/test_recipes.py",
    "extras/embedded/train_generator.py": "run as it is in tests/extras/embedded/test_recipes.py",
}


LONGEST = 60  # lines of a function, docstring included


def modules() -> list[PurePosixPath]:
    """Every Python file of the repository, tests apart."""
    return [path for path in own_files("*.py") if path.name != "__init__.py"]


def own_files(pattern: str) -> list[PurePosixPath]:
    """Every file of the repository whose name is of this kind, tests apart."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", pattern]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip("no clone: which files belong to the repository is not known")
    paths = [PurePosixPath(line) for line in found.stdout.splitlines() if (ROOT / line).is_file()]
    return [path for path in paths if path.parts[0] != "tests"]


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


def functions_of_python(text: str) -> Iterator[tuple[str, int]]:
    """(name, lines) of every function, those in classes and functions too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno, "ast.parse says where it ends"
            yield node.name, node.end_lineno - node.lineno + 1


def functions_of_bash(text: str) -> Iterator[tuple[str, int]]:
    """(name, lines) of every function of several lines: from `name() {` to the next brace without indent."""
    for found in re.finditer(r"^(\w+)\(\) [{(](?: +#.*?)?$.*?^[})]$", text, re.MULTILINE | re.DOTALL):
        yield found[1], found[0].count("\n") + 1


@pytest.mark.parametrize(("pattern", "functions_of"), [("*.py", functions_of_python), ("*.sh", functions_of_bash)])
def test_functions_are_short(pattern, functions_of):
    found = [
        (lines, f"{path}: {name}")
        for path in own_files(pattern)
        for name, lines in functions_of((ROOT / path).read_text(encoding="utf-8"))
    ]
    assert len(found) > 100, "the functions were not found"
    assert sorted(one for one in found if one[0] > LONGEST) == [], "a function of so many lines is several"


def test_what_is_long_is_found():
    body = "    x = 1\n" * LONGEST
    assert list(functions_of_python(f"def f():\n{body}")) == [("f", LONGEST + 1)]
    assert list(functions_of_bash(f"f() {{ x=1; }}\ng() {{ # WORD\n{body}}}\n")) == [("g", LONGEST + 2)]
