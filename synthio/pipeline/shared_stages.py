"""Take a finished stage over from a result folder beside this one, so that runs that differ late share what is early.

    results/a/demo/stamps/losers.json    done, with the same command, code and inputs as here: its outputs are
    results/b/demo/stamps/losers.json    linked (copied where the disk has no hard links) and this stamp is written

Only result roots in one folder share: at the same depth, the relative paths in their CSVs are the same bytes. A link
is safe, because stages write new files under temporary names and never change one in place.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from synthio.files import atomic_folder, files_in, link

APPENDED = ".jsonl"  # caches of answers grow in place


def root_of(stamp: Path) -> Path:
    """The results root R of R/<dataset_name>/stamps/<stage>.json."""
    return stamp.absolute().parent.parent.parent


def sibling_stamps(stamp: Path) -> list[Path]:
    """The stamps of this stage in the result roots beside its own, whose folder a dry run need not find."""
    root = root_of(stamp)
    inside = stamp.absolute().relative_to(root)
    others = sorted(path for path in root.parent.glob("*") if path != root)
    return [other / inside for other in others if (other / inside).is_file()]


def counterparts(outputs: Sequence[str], ours: Path, theirs: Path) -> list[Path]:
    """Where another result root has these outputs; empty when one of them lies outside of ours."""
    paths = [Path(path).absolute() for path in outputs]
    return [theirs / path.relative_to(ours) for path in paths] if all(p.is_relative_to(ours) for p in paths) else []


def files_beside(output: Path) -> list[Path]:
    """The records of an output: x.json, x.dropped.csv and so on beside x.csv, or beside the folder x."""
    beside = [*output.parent.glob(f"{glob_safe(output.stem)}.*"), output.with_name(f"{output.name}_history.csv")]
    return sorted(path for path in beside if path != output and path.is_file() and path.suffix != APPENDED)


def clips_of(csv_path: Path) -> list[str]:
    """What a CSV names in `path`, as it stands there; nothing for what is no CSV, or none that can be read."""
    if csv_path.suffix != ".csv" or not csv_path.is_file():
        return []
    try:
        with csv_path.open(newline="", encoding="utf-8-sig") as stream:
            return [row["path"] for row in csv.DictReader(stream) if row.get("path")]
    except (csv.Error, UnicodeDecodeError):  # damaged: its own hash tells
        return []


def glob_safe(name: str) -> str:
    """A name whose brackets, stars and question marks stand for themselves."""
    return "".join(f"[{letter}]" if letter in "[*?" else letter for letter in name)


def link_outputs(outputs: Sequence[str], ours: Path, theirs: Path) -> None:
    """Bring the outputs that another result root has into ours."""
    for output, other in zip(outputs, counterparts(outputs, ours, theirs), strict=True):
        if other.is_dir():
            with atomic_folder(output) as folder:
                for path in files_in(other):
                    link(path, folder / path.relative_to(other))
        else:
            link(other, Path(output))
        named = [Path(os.path.normpath(other.parent / name)) for name in clips_of(other)]
        for path in [*files_beside(other), *(path for path in named if path.is_relative_to(theirs))]:
            link(path, ours / path.relative_to(theirs))
