"""Files that are either whole or absent: atomic writes, content hashes, stable seeds.

A process killed while it writes leaves only a `*.tmp` file behind, never half of a result: the bytes go to a
temporary name in the same folder, are flushed to disk, and only then take the final name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

ROOT = Path(__file__).resolve().parent.parent  # of the project
EMBEDDED = ROOT / "extras/embedded/weights"  # a folder for each model

Json: TypeAlias = Any  # what a JSON file holds: no type that mypy knows can be indexed at any depth
_CHUNK_BYTES = 1 << 20


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, it is synced and takes the final name.

    The temporary name keeps the suffix, because audio libraries choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_orphans(paths: Collection[Path]) -> None:
    """Remove what processes that were killed while they wrote these files left beside them."""
    names = {path.name for path in paths}
    for folder in {path.parent for path in paths}:
        for orphan in folder.glob(".*.tmp.*"):
            found = re.fullmatch(r"\.(.+)\.\d+\.tmp(\.\w+)", orphan.name)
            if found and found[1] + found[2] in names:
                orphan.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def write_json(path: str | Path, value: Json) -> None:
    """Write JSON atomically, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def read_json(path: str | Path) -> Json:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_value(value: Json) -> str:
    """SHA-256 of a JSON-able value; equal values give equal hashes whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def fingerprint(path: str | Path) -> str:
    """Content hash of a file or of a whole folder; a name that is no path (a hub id) stands for itself."""
    path = Path(path)
    if path.is_file():
        return sha256_file(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        return sha256_value([[p.relative_to(path).as_posix(), sha256_file(p)] for p in files])
    return sha256_value(str(path))


def stable_seed(*parts: object) -> int:
    """A seed in [0, 2**31) that depends on `parts` alone: the same on every machine, shard and Python version."""
    return int(sha256_value(list(parts))[:8], 16) & 0x7FFFFFFF


def link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, or a copy, under a temporary name first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.tmp{target.suffix}")
    try:
        try:
            temporary.hardlink_to(source)
        except OSError:
            shutil.copy2(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)  # replacing a file by a link to itself leaves it there
