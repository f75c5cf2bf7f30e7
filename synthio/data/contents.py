"""Whether clips are still the sounds that their CSV was written with: no damaged one is trained on or given away.

A CSV of ours notes a hash of each sound. Only clips that changed since it was written are read and compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from synthio.audio import BadAudio, content_hash, read_audio
from synthio.cache import tell_damage
from synthio.cli import UserError
from synthio.files import read_object
from synthio.manifest import CONTENT, PATH, read_manifest

if TYPE_CHECKING:
    import pandas as pd


def has_content(path: str | Path, noted: str) -> bool:
    """Whether a clip can be read and has this hash, of all its channels or, as recordings have it, of their mean."""
    try:
        audio, sample_rate = read_audio(path, mono=False)
    except BadAudio:
        return False
    return noted in (content_hash(part, sample_rate) for part in (audio, audio.mean(axis=0, keepdims=True)))


def check_contents(table: pd.DataFrame, csv: str | Path) -> None:
    """Refuse a clip that is not what its CSV was written with; a CSV without a record of ours promises nothing.

    Args:
        table: its rows, from `read_manifest`.
        csv: where they come from.

    Raises:
        UserError: CSV, row and path.
    """
    csv = Path(csv)
    if CONTENT not in table.columns or not csv.is_file():
        return
    written_ns = csv.stat().st_mtime_ns
    changed = [
        row for row in zip(table.index, table[PATH], table[CONTENT], strict=True) if _changed(row[1], written_ns)
    ]
    if not changed or not is_recorded(csv):
        return
    for index, path, noted in changed:
        if noted and not has_content(path, noted):
            raise UserError(
                f"{csv} row {index + 1}: {path} is another sound than the one that this CSV was written with; it was "
                f"damaged or replaced. Run again what wrote {csv.name}"
            )


def is_recorded(csv: Path) -> bool:
    """Whether `write_manifest` wrote a CSV."""
    record = csv.with_suffix(".json")
    return record.is_file() and read_object(record).get("file") == csv.name


def _changed(path: str, written_ns: int) -> bool:
    """Whether a clip was written or put in its place later. A second name (a hard link) is no change of a clip."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):  # the second: a zero byte in a damaged CSV
        return True
    return max(found.st_mtime_ns, found.st_ctime_ns if found.st_nlink == 1 else 0) > written_ns


def noted_contents(csv: str | Path) -> Mapping[str, str]:
    """Path -> hash of the clips that a CSV of an earlier call names; empty where there is none that can be read."""
    if not Path(csv).is_file():
        return {}
    try:
        table = read_manifest(csv, (PATH, CONTENT), check_files=False)
    except UserError:
        tell_damage(
            Path(csv),
            "no table of clips with their sounds' hashes; of the clips that are there only the length is checked",
        )
        return {}
    return dict(zip(table[PATH], table[CONTENT], strict=True))
