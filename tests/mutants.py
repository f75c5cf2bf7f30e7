"""Do the tests notice a fault? Core lines are changed one at a time, and tests that are named with each must fail.

    sh test.sh mutants                 # all of tests/mutants.toml
    sh test.sh mutants -k threshold    # those whose file or lines have the word

The faults are made in a copy of the files that git tracks or would track, never in the tree. First all named tests must
pass there as they are. A fault whose old text is not there exactly once is refused: the list must follow the code.
Ends with the list of the faults that no test noticed; status 1 where there is one.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "tests/mutants.toml"
# Imported once, before each fault gets a process of its own: they take longer than most of the tests.
LIBRARIES = (
    "torch",
    "numpy",
    "pandas",
    "scipy.stats",
    "scipy.optimize",
    "sklearn.linear_model",
    "transformers",
    "pytest",
)


@dataclass(frozen=True)
class Mutant:
    """A fault: `new` in place of `old` in a file; `tests` of which one must fail."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        """'synthio/x.py: a -> b', on one line."""
        return " ".join(f"{self.file}: {self.old.strip()} -> {self.new.strip()}".split())

    def problem(self, root: Path) -> str:
        """Why it cannot be made; "" if it can."""
        path = root / self.file
        times = path.read_text(encoding="utf-8").count(self.old) if path.is_file() else 0
        if times != 1:
            return f"{self.file}: the old text is there {times} times, not once: {self.old.strip()!r}"
        missing = [test for test in self.tests if not (root / test.partition("::")[0]).is_file()]
        return f"{self.file}: no such test file: {', '.join(missing)}" if missing or not self.tests else ""


def read_mutants(path: Path) -> list[Mutant]:
    """The faults of a list."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    return [Mutant(one["file"], one["old"], one["new"], tuple(one["tests"])) for one in entries]


def copy_tree(root: Path, folder: Path) -> None:
    """Copy what git tracks, or would track, to a folder."""
    words = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name)


def run_tests(folder: Path, tests: Sequence[str]) -> int:
    """pytest's status for some tests of a copy, in a process of its own that has the libraries already."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 70
    try:
        status = _pytest_in(folder, tests)
    finally:
        os._exit(status)


def _pytest_in(folder: Path, tests: Sequence[str]) -> int:
    os.chdir(folder)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("synthio", "tests")]:
        del sys.modules[name]
    sys.path[:] = [str(folder), *(path for path in sys.path if path not in ("", str(ROOT)))]
    sys.dont_write_bytecode = True  # of a file that is changed twice within a second, the old one would be run
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    pytest = importlib.import_module("pytest")
    return int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-m", "slow or not slow", *tests]))


def is_noticed(folder: Path, mutant: Mutant, run: Callable[[Path, Sequence[str]], int]) -> bool:
    """Whether a test fails with the fault; the copy is as it was afterwards."""
    path = folder / mutant.file
    right = path.read_text(encoding="utf-8")
    path.write_text(right.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        return run(folder, mutant.tests) == 1  # 1: a test failed; others: pytest could not run them
    finally:
        path.write_text(right, encoding="utf-8")


def examine(root: Path, mutants: Sequence[Mutant], run: Callable[[Path, Sequence[str]], int] = run_tests) -> int:
    """Make each fault in a copy, and print what lives; status 0 where nothing does."""
    problems = [problem for mutant in mutants if (problem := mutant.problem(root))]
    if problems or not mutants:
        print(*(problems or ["no such mutant"]), sep="\n", file=sys.stderr)
        return 2
    started, alive = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="mutants_") as name:
        folder = Path(name)
        copy_tree(root, folder)
        tests = sorted({test for mutant in mutants for test in mutant.tests})
        if run(folder, tests) != 0:
            print(f"the tests do not pass as they are: {' '.join(tests)}", file=sys.stderr)
            return 2
        for number, mutant in enumerate(mutants, 1):
            noticed = is_noticed(folder, mutant, run)
            print(f"{number}/{len(mutants)} {'dead ' if noticed else 'ALIVE'} {mutant.name}", flush=True)
            if not noticed:
                alive.append(mutant)
    print(f"{len(mutants)} mutants, {len(alive)} alive, {time.monotonic() - started:.0f} s")
    for mutant in alive:
        print(f"alive: {mutant.name}\n  {' '.join(mutant.tests)}")
    return 1 if alive else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", default="", metavar="WORD", help="only mutants whose file or lines have the word")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in LIBRARIES:
        importlib.import_module(name)
    return examine(ROOT, [mutant for mutant in read_mutants(LIST) if args.k in mutant.name])


if __name__ == "__main__":
    sys.exit(main())
