"""Where the file is that a cell does not name exactly: `~`, file://, backslashes, other Unicode forms, no suffix."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from synthio.formats.containers import is_sound_name


def plain(cell: str) -> str:
    """A cell as a path of this system: without spaces, signs and quotes around it, file://, `~`, $HOME, backslashes."""
    text = cell.strip().strip("\ufeff\u200b\u2060").strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    if text.lower().startswith("file:"):
        text = re.sub("^/+", "/", unquote(re.sub("^file:(/+localhost(?=/))?", "", text, flags=re.I)))
    # a user or variable that is not known stays as it is
    return os.path.expandvars(os.path.expanduser(text.replace("\\", "/")))  # noqa: PTH111


def composed(name: str) -> str:
    """A name in one Unicode form."""
    return unicodedata.normalize("NFC", name)


def caseless(name: str) -> str:
    """A name in one Unicode form, without case."""
    return composed(name).casefold()


def stem(name: str) -> str:
    """A caseless name without the suffix of a sound file."""
    return caseless(Path(name).stem if is_sound_name(Path(name)) else name)


@cache
def listing(folder: str, key: Callable[[str], str]) -> dict[str, list[str]]:
    """The names in a folder by their key; empty where it cannot be read."""
    names = defaultdict(list)
    try:
        for name in os.listdir(folder):  # noqa: PTH208 # of names alone, and maybe a million
            names[key(name)].append(name)
    except (OSError, ValueError):  # what is looked for there is told as missing
        return {}
    return dict(names)


@cache
def find_folder(folder: str, key: Callable[[str], str]) -> str | None:
    """The folder whose parts have these keys, if there is one and no more."""
    path = Path(folder)
    if os.path.isdir(folder) or path.parent == path:  # noqa: PTH112 # it never raises
        return folder
    above = find_folder(str(path.parent), key)
    names = listing(above, key).get(key(path.name), []) if above else []
    return os.path.join(above, names[0]) if above and len(names) == 1 else None  # noqa: PTH118


def find_clip(cell: str, folder: str | Path) -> str | None:
    """The file that a cell means, seen from a folder: the one that it names, else the only one that is alike.

    Returns:
        An absolute path, or None where there is no such file, or more than one.
    """
    if not cell.strip() or "\0" in cell:
        return None
    start = Path(folder).absolute()
    for text in (cell, unquote(plain(cell)), plain(cell)):
        path = os.path.normpath(start / text)
        if os.path.isfile(path):  # noqa: PTH113
            return path
    for key in (composed, caseless, stem):
        above = find_folder(os.path.dirname(path), key if key is not stem else caseless)  # noqa: PTH120
        names = listing(above, key).get(key(os.path.basename(path)), []) if above else []  # noqa: PTH119
        files = [found for name in names if os.path.isfile(found := os.path.join(above or "", name))]  # noqa: PTH113, PTH118
        if len(files) == 1:
            return files[0]
        if files:
            return None
    return None


def same_end(cell: str, folder: str | Path) -> str | None:
    """The file below a folder whose path is the longest end of a path, which is mostly one of another machine."""
    if "\0" in cell:
        return None
    parts = [part for part in re.split(r"[\\/]+", cell.strip()) if part not in ("", ".", "..")]
    ends = ("/".join(parts[i:]) for i in range(1, len(parts)))
    return next((end for end in ends if os.path.isfile(os.path.join(folder, end))), None)  # noqa: PTH113, PTH118
