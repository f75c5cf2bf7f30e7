"""Files and folders that are either whole or absent: atomic writes, content hashes, stable seeds.

A process killed while it writes leaves only a temporary file or folder behind, never half of a result: the bytes go to
a temporary name beside the final one, are flushed to disk, and only then take the final name.

    .kept.<machine>-<process>-<random>.tmp.csv    of kept.csv, while it is written
    .dataset.<machine>-<process>-<random>.tmp     of the folder dataset, likewise
    .dataset.<machine>-<process>-<random>.old     the folder that it takes the place of, for a moment

`sweep` removes those whose writer is gone. Whether it is can be told on its own machine; of another one that shares the
disk, what was not touched for a day counts as left behind.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from synthio.errors import UserError, system_error

ROOT = Path(__file__).resolve().parent.parent  # of the project
EMBEDDED = ROOT / "extras/embedded/weights"  # a folder for each model

Json: TypeAlias = Any  # what a JSON file holds: no type that mypy knows can be indexed at any depth
_CHUNK_BYTES = 1 << 20
_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
_STEM_BYTES = 120  # of a temporary name, which has more to say
_TEMPORARY = re.compile(r"\.(.+)\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.(tmp|old)(\.[^.]*)?")
_EARLIER = re.compile(r"\..+\.(\d+)\.tmp(\..+)?|\.(adapter|clap)\.\w{8}")  # of earlier releases
MADE_AGAIN = "get it again, or remove it and run again what made it"
ABANDONED_S = 86400.0  # for how long nobody has touched what nobody writes any more


@cache
def machine() -> str:
    """What tells this machine, or this container with processes of its own, from others that share a disk."""
    space = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - it is no path
    return hashlib.sha256(f"{os.uname().nodename} {space}".encode()).hexdigest()[:8]


def temporary_name(path: Path, kind: str = "tmp", is_folder: bool = False) -> Path:
    """A name beside `path` that no other writer has. A file's keeps the suffix: libraries choose the format by it."""
    stem, suffix = (path.name, "") if is_folder else (path.stem, path.suffix)
    if kind == "tmp":  # an old folder gets its name back
        stem = stem.encode()[:_STEM_BYTES].decode(errors="ignore")
    return path.with_name(f".{stem}.{machine()}-{os.getpid()}-{secrets.token_hex(4)}.{kind}{suffix}")


def is_temporary(path: Path) -> bool:
    """Whether a name is one of `temporary_name`, or of what earlier releases wrote."""
    return bool(_TEMPORARY.fullmatch(path.name) or _EARLIER.fullmatch(path.name))


def _is_abandoned(path: Path) -> bool:
    found, earlier = _TEMPORARY.fullmatch(path.name), _EARLIER.fullmatch(path.name)
    process = (found[3] if found[2] == machine() else "") if found else (earlier and earlier[1])
    if process and not _is_alive(int(process)):
        return True
    try:  # of change: a hard link has the file's own time of writing
        return time.time() - path.lstat().st_ctime > ABANDONED_S
    except OSError:
        return False


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def sweep(folders: Iterable[Path], deep: bool = False) -> None:
    """Remove what killed writers left in some folders; a folder that was being replaced gets its name back.

    Args:
        folders: those that are not there are passed over.
        deep: the folders in them, too.
    """
    for folder in folders:
        for parent, inner, files in os.walk(folder):
            for name in [*inner, *files]:
                if name.startswith(".") and is_temporary(path := Path(parent, name)) and _is_abandoned(path):
                    _clear_away(path)
            inner[:] = [name for name in inner if deep and not name.startswith(".")]


def _clear_away(path: Path) -> None:
    found = _TEMPORARY.fullmatch(path.name)
    if found and found[4] == "old" and not os.path.lexists(path.with_name(found[1])):
        path.rename(path.with_name(found[1]))
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _telling_why(path: Path, temporary: Path) -> Iterator[None]:
    """Inside, an error that is the disk's comes out as the OSError it is, with the name of what was to be written.

    libsndfile, safetensors and torch say in words of their own that a disk is full, and some do not say it at all.
    """
    try:
        yield
    except (KeyboardInterrupt, UserError):
        raise
    except Exception as error:
        said = system_error(error) or _refusal(temporary)
        if said is None or said.errno is None or said.filename not in (None, str(temporary)):
            raise
        raise OSError(said.errno, said.strerror, str(path)) from error


def _refusal(temporary: Path) -> OSError | None:
    """What the system says to more bytes in a temporary file or folder."""
    target = temporary / ".room" if temporary.is_dir() else temporary
    try:
        with target.open("ab") as stream:
            stream.write(bytes(_CHUNK_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return error
    return None


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, it is synced and takes the final name.

    Raises:
        OSError: with the name of `path`, where the disk is full or refuses it otherwise.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder, not a file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        with _telling_why(path, temporary):
            yield temporary
            _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def scratch_folder(path: str | Path) -> Iterator[Path]:
    """Yield a new folder beside `path` that is gone after the block.

    Raises:
        OSError: as `atomic_path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path, is_folder=True)
    temporary.mkdir()
    try:
        with _telling_why(path, temporary):
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a new folder; when the block ends well, it is synced and takes the place of `path`, whatever is there.

    Both changes of a name are one step each. A kill between them leaves the earlier folder under a name that `sweep`
    gives back.

    Raises:
        OSError: as `atomic_path`.
    """
    path = Path(path)
    with scratch_folder(path) as temporary:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file() and file.stat().st_nlink == 1:  # a second name of a file that is on disk needs none
                _sync(file)
        retired = temporary_name(path, "old", is_folder=True)
        if os.path.lexists(path):
            path.rename(retired)
        try:
            temporary.rename(path)
        finally:
            if os.path.lexists(retired):
                _clear_away(retired)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def write_json(path: str | Path, value: Json) -> None:
    """Write JSON atomically, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def read_json(path: str | Path, mend: str = MADE_AGAIN) -> Json:
    """Read a JSON file; `mend` says what helps where it is damaged.

    Raises:
        OSError: there is none.
        UserError: it is damaged.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # neither UTF-8 nor JSON
        raise UserError(f"{path}: damaged, for it is no JSON ({error}); {mend}") from None


def read_object(path: str | Path, *keys: str, mend: str = MADE_AGAIN) -> dict[str, Json]:
    """Read a JSON file that holds an object, with at least these keys; `mend` and what it raises as for `read_json`."""
    value = read_json(path, mend)
    if not isinstance(value, dict):
        raise UserError(f"{path}: damaged, for it is no object of names and values; {mend}")
    if lacking := [key for key in keys if key not in value]:
        raise UserError(f"{path}: damaged, for it does not say {', '.join(lacking)}; {mend}")
    return value


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_value(value: Json) -> str:
    """SHA-256 of a JSON-able value; equal values give equal hashes whatever the order of their keys."""
    return hashlib.sha256(_CANONICAL.encode(value).encode("utf-8")).hexdigest()


def files_in(folder: Path) -> list[Path]:
    """Every file of a folder, sorted; hidden ones, and those of hidden folders, are none of its content."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(p for p in paths if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def fingerprint(path: str | Path) -> str:
    """Content hash of a file or of a whole folder; a name that is no path (a hub id) stands for itself."""
    path = Path(path)
    if path.is_file():
        return sha256_file(path)
    if path.is_dir():
        return sha256_value([[p.relative_to(path).as_posix(), sha256_file(p)] for p in files_in(path)])
    return sha256_value(str(path))


def stable_seed(*parts: object) -> int:
    """A seed in [0, 2**31) that depends on `parts` alone: the same on every machine, shard and Python version."""
    return int(sha256_value(list(parts))[:8], 16) & 0x7FFFFFFF


def link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, or a copy, under a temporary name first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source = source.resolve()  # a second name of a link would be a link, to a place that is elsewhere then
    temporary = temporary_name(target)
    try:
        try:
            temporary.hardlink_to(source)
        except OSError:  # another file system, or one without links
            shutil.copy2(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)  # replacing a file by a link to itself leaves it there
