"""What code and which libraries this process has loaded: the stamp of its step has to know.

run.sh names a folder in SYNTHIO_LOADED; `synthio.cli.run_main` leaves a note there when a script ends. What was really
loaded is noted, rather than what could be: a script reaches most of the models through functions that import one of
them, and generation must not be done again because a captioner changed. The note is complete, since what a process
loads depends on its command, its inputs and the code in the note, and all three are in the stamp.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from synthio.files import ROOT, sha256_file, write_json

DRIVER = "synthio/pipeline"  # has no part in what a step makes


# A file that a module names as a word of its own: prompts.toml, a template, the script of another process.
NAMED_FILE = re.compile(r'"([\w-]+(?:\.[\w-]+)*\.(?:toml|txt|j2|py))"')


def loaded_code(started_ns: int) -> dict[str, str]:
    """Path relative to the repository -> hash, of its modules in this process and the files that they name.

    Args:
        started_ns: start of the process; the hash of a file that was changed later is "", which no file has.
    """
    modules = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    paths = {Path(file).absolute() for file in modules if file and file.endswith(".py")}
    own = {path for path in paths if is_own(path) and path.is_file()}  # torch has modules of files that are none
    files = own | {file for path in own for file in named_files(path)}
    return {
        path.relative_to(ROOT).as_posix(): "" if path.stat().st_mtime_ns > started_ns else sha256_file(path)
        for path in sorted(files)
    }


def is_own(path: Path) -> bool:
    """Whether a file is one of the repository's that makes results: none of an environment in it, or of the driver."""
    if not path.is_relative_to(ROOT) or path.is_relative_to(ROOT / DRIVER):
        return False
    return not any(part.startswith(".") for part in path.relative_to(ROOT).parts)


def named_files(module: Path) -> set[Path]:
    """Files beside a module, or in the folder above, that it names."""
    names = set(NAMED_FILE.findall(module.read_text(encoding="utf-8")))
    found = {folder / name for name in names for folder in (module.parent, module.parent.parent)}
    return {path for path in found if path.is_file() and is_own(path)}


def loaded_libraries() -> dict[str, str]:
    """Name -> version of the installed packages that this process has imported."""
    from importlib.metadata import packages_distributions, version

    tops = {name.partition(".")[0] for name in sys.modules}
    names = {name for top, owners in packages_distributions().items() if top in tops for name in owners}
    return {normal_name(name): version(name) for name in sorted(names)}


def normal_name(name: str) -> str:
    """The name of a package as it is compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def leave_note(folder: str, started_ns: int) -> None:
    """Write what this process has loaded into a folder, beside the notes of other processes of the step."""
    note = {"code": loaded_code(started_ns), "libraries": loaded_libraries()}
    write_json(Path(folder) / f"{os.uname().nodename}-{os.getpid()}.json", note)
