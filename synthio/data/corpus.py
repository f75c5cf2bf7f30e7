"""Sounds without labels that a run is given: a corpus to retrieve from, and sounds that are none of the labels.

The stages that use them load a model first; what is wrong with them is known before.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from synthio.cli import UserError
from synthio.data.problems import Findings, number
from synthio.manifest import PATH, missing_files, sounds_of

MAX_LISTENED = 200  # sounds of each, evenly spread
LEFT_OUT = ("other_csv",)  # what cannot be used of these is left out by their stage; that of others ends it


def check_sounds(given: Mapping[str, str], findings: Findings) -> None:
    """What stands in the way of using some sounds.

    Args:
        given: variable -> CSV (path) or folder.
        findings: get what is found.
    """
    for name, value in given.items():
        try:
            paths = sounds_of(value, check_files=False)[PATH].tolist()
        except UserError as error:
            findings.add("lists of sounds cannot be read", [f"--{name}: {error}"])
            continue
        if not paths:
            findings.add("lists of sounds are empty", [f"--{name}: {value}: no sounds there"])
            continue
        _check_paths(name, value, paths, findings)


def _check_paths(name: str, value: str, paths: list[str], findings: Findings) -> None:
    from synthio.data.inspect_sound import inspect_all

    rows = [path if Path(value).is_dir() else f"{value} row {i}: {path}" for i, path in enumerate(paths, 1)]
    gone = missing_files(paths)
    findings.add(
        "sounds are not there",
        (
            f"--{name}: {row}: no such file; get it, or remove it"
            for row, path in zip(rows, paths, strict=True)
            if path in gone
        ),
    )
    there = [i for i, path in enumerate(paths) if path not in gone]
    chosen = there[:: -(-len(there) // MAX_LISTENED) or 1]
    sounds = inspect_all([paths[i] for i in chosen])
    bad = [f"{rows[i]}: {sound.reason}" for i, sound in zip(chosen, sounds, strict=True) if sound.reason]
    if name not in LEFT_OUT:
        findings.add("sounds cannot be used", (f"--{name}: {text}; repair or remove it" for text in bad))
    elif bad and len(bad) == len(chosen):
        findings.add("lists of sounds are empty", [f"--{name}: {value}: none of its sounds can be used ({bad[0]})"])
    elif bad:
        findings.warnings.append(
            f"--{name}: {number(len(bad), 'sound')} of {len(chosen)} cannot be used and will be left out, the first is "
            f"{bad[0]}"
        )
