"""Whether the code and the libraries that made a result are those of today.

    python -m synthio.pipeline.loaded W/stamps    is the code of all stamps as it was? status 3, and the file, if not

The notes are those that `synthio.loaded` leaves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from synthio.cli import UserError, new_parser, run_main
from synthio.files import ROOT, read_object, sha256_file
from synthio.loaded import normal_name


def installed_libraries(interpreter: str) -> dict[str, str]:
    """Name -> version of all that is installed in the environment of FOLDER/bin/python; empty where it is none."""
    folders = Path(interpreter).parent.parent.glob("lib/python*/site-packages")
    found = {}
    for path in (path for folder in folders for path in folder.glob("*.dist-info")):
        name, _, version = path.name.removesuffix(".dist-info").rpartition("-")
        found[normal_name(name)] = version
    return found


def read_notes(folder: Path) -> dict[str, dict[str, str]]:
    """{"code": ..., "libraries": ...} of all notes in a folder."""
    return merged(map(read_object, sorted(folder.glob("*.json"))))


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
        if not path.is_file() or hash_of(path, path.stat().st_mtime_ns, path.stat().st_ctime_ns) != was:
            return name
    return ""


@cache
def hash_of(path: Path, *_times_ns: int) -> str:
    """SHA-256 of a module, which many stamps of one process know; read again where a time of it has changed."""
    return sha256_file(path)


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
    paths = [path for path in sorted(folder.glob("*.json")) if path.name != "folders.json"]
    text = next(filter(None, map(changed_since, paths)), "")
    if text:
        print(text)
    return 3 if text else 0


def changed_since(stamp: Path) -> str:
    """What changed since a stamp was written, in words; '' for nothing. A damaged stamp tells of nothing."""
    try:
        name = changed_code(read_object(stamp, "code")["code"])
    except (UserError, AttributeError):
        return f"{stamp.name} is damaged"
    return f"{name} changed" if name else ""


if __name__ == "__main__":
    run_main(main)
