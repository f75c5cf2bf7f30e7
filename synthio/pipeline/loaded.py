"""Which code and which libraries a process has loaded: what the stamp of its step has to know.

    python -m synthio.pipeline.loaded W/stamps    is the code of all stamps as it was? status 3, and the file, if not

run.sh names a folder in SYNTHIO_LOADED; `synthio.cli.run_main` leaves a note there when a script ends. What was really
loaded is noted, rather than what could be: a script reaches most of the models through functions that import one of
them, and generation must not be done again because a captioner changed. The note is complete, since what a process
loads depends on its command, its inputs and the code in the note, and all three are in the stamp.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from synthio.cli import new_parser, run_main
from synthio.files import read_json, sha256_file, write_json

ROOT = Path(__file__).resolve().parent.parent.parent
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


def installed_libraries(interpreter: str) -> dict[str, str]:
    """Name -> version of all that is installed in the environment of FOLDER/bin/python; empty where it is none."""
    folders = Path(interpreter).parent.parent.glob("lib/python*/site-packages")
    found = {}
    for path in (path for folder in folders for path in folder.glob("*.dist-info")):
        name, _, version = path.name.removesuffix(".dist-info").rpartition("-")
        found[normal_name(name)] = version
    return found


def leave_note(folder: str, started_ns: int) -> None:
    """Write what this process has loaded into a folder, beside the notes of other processes of the step."""
    note = {"code": loaded_code(started_ns), "libraries": loaded_libraries()}
    write_json(Path(folder) / f"{socket.gethostname()}-{os.getpid()}.json", note)


def read_notes(folder: Path) -> dict[str, dict[str, str]]:
    """{"code": ..., "libraries": ...} of all notes in a folder."""
    return merged(map(read_json, sorted(folder.glob("*.json"))))


def merged(notes: Iterable[Mapping[str, Mapping[str, str]]]) -> dict[str, dict[str, str]]:
    """Several notes as one."""
    both: dict[str, dict[str, str]] = {"code": {}, "libraries": {}}
    for note in notes:
        for part, found in both.items():
            found.update(note.get(part, {}))
    return both


def changed_code(code: Mapping[str, str]) -> str:
    """The first file whose content is no longer that of a note, '' for none."""
    for name, was in code.items():
        path = ROOT / name
        if not path.is_file() or sha256_file(path) != was:
            return name
    return ""


def changed_libraries(libraries: Mapping[str, str], interpreter: str) -> str:
    """'torch 2.10.0 (now 2.11.0)' of all that the environment of an interpreter has in another version; '': none."""
    installed = installed_libraries(interpreter)
    if not installed:
        return ""
    pairs = [(name, was, installed.get(name, "none")) for name, was in libraries.items()]
    return ", ".join(f"{name} {was} (now {now})" for name, was, now in pairs if was != now)


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("stamps", help="folder of the stamps of a run")
    return parser


def main() -> int:
    folder = Path(get_parser().parse_args().stamps)
    stamps = [read_json(path) for path in sorted(folder.glob("*.json")) if path.name != "folders.json"]
    name = next(filter(None, (changed_code(stamp.get("code", {})) for stamp in stamps)), "")
    if name:
        print(f"{name} changed")
    return 3 if name else 0


if __name__ == "__main__":
    run_main(main)
