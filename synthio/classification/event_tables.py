"""Events as other programs read them: one CSV, Audacity's label tracks, Raven's selection tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from synthio.classification.events import Event, Recording
from synthio.cli import UserError
from synthio.files import write_text

COLUMNS = ("path", "start", "end", "label", "probability")
RAVEN_COLUMNS = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"),
    *("Label", "Probability"),
)
AUDACITY_SUFFIX, RAVEN_SUFFIX = ".txt", ".Table.1.selections.txt"  # the latter is what Raven looks for
Found = Sequence[tuple[Recording, Sequence[Event]]]


def write_events(found: Found, path: str | Path) -> None:
    """All events as a CSV: path (relative to it), start and end in s, label, probability."""
    import pandas as pd

    from synthio.manifest import write_table

    rows = [
        (str(recording.path.absolute()), f"{e.start_s:.2f}", f"{e.end_s:.2f}", e.label, f"{e.probability:.4f}")
        for recording, events in found
        for e in events
    ]
    write_table(pd.DataFrame(rows, columns=list(COLUMNS), dtype=str), path)


def audacity_labels(events: Sequence[Event]) -> str:
    """A label track: start, end and text of each event, with tabs between."""
    return "".join(f"{e.start_s:.6f}\t{e.end_s:.6f}\t{_cell(e.label)} {e.probability:.2f}\n" for e in events)


def raven_table(events: Sequence[Event], high_hz: float) -> str:
    """A selection table; each box reaches from 0 Hz to the highest frequency that the classifier hears."""
    rows = [
        (k, "Spectrogram 1", 1, f"{e.start_s:.6f}", f"{e.end_s:.6f}", "0.0", f"{high_hz:.1f}", _cell(e.label), p)
        for k, e in enumerate(events, 1)
        for p in [f"{e.probability:.4f}"]
    ]
    return "".join("\t".join(map(str, row)) + "\n" for row in [RAVEN_COLUMNS, *rows])


def _cell(label: str) -> str:
    """A label without what ends a cell or a line."""
    return " ".join(label.split())


def write_per_recording(found: Found, folder: str | Path, suffix: str, texts: Mapping[Path, str]) -> None:
    """A file for each recording, in the folders that the recordings lie in; its name is theirs without the format.

    Raises:
        UserError: two recordings would have the same file.
    """
    taken: dict[Path, Path] = {}
    for recording, _ in found:
        target = Path(folder) / Path(recording.name).with_suffix(suffix)
        if other := taken.get(target):
            raise UserError(f"{other} and {recording.path} would both have the labels {target}; give them one by one")
        taken[target] = recording.path
    for target, path in taken.items():
        write_text(target, texts[path])
