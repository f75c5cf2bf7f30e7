"""Events in recordings: what a saved classifier says of overlapping windows, and where neighbours agree.

    heard = hear("night.wav", classifier, hop=201)
    events = find_events(heard, classifier.labels, thresholds, classifier.multi_label)

A window's probabilities are those that the classifier gives a clip that is cut out there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthio.audio import is_sound_name
from synthio.cache import read_tensors, write_tensors
from synthio.classification.metrics import predicted_matrix
from synthio.classification.saved import Classifier
from synthio.classification.windows import STEPS_PER_S, spans
from synthio.cli import UserError
from synthio.files import files_in, sha256_file, sha256_value

BLOCK_ROWS = 4096  # windows whose answers are kept together


@dataclass(frozen=True)
class Recording:
    """A sound file, and its name in the tables of labels: relative to the folder that was given."""

    path: Path
    name: str


@dataclass(frozen=True)
class Heard:
    """What a classifier said of a recording: window starts and ends in s [N], probabilities [N, C]."""

    starts: np.ndarray
    ends: np.ndarray
    chances: np.ndarray

    @property
    def seconds(self) -> float:
        """How long the recording is."""
        return float(self.ends[-1])


@dataclass(frozen=True)
class Event:
    """A label that was heard from one time to another, in s, and its highest probability in a window of that."""

    start_s: float
    end_s: float
    label: str
    probability: float


def find_recordings(inputs: Sequence[str]) -> list[Recording]:
    """The sound files that are named, and all in the folders that are, sorted; each once.

    Raises:
        UserError: there is nothing of that name, or no sound in a folder.
    """
    found: dict[Path, Recording] = {}
    for given in map(Path, inputs):
        if given.is_dir():
            paths = [path for path in files_in(given) if is_sound_name(path)]
            if not paths:
                raise UserError(f"{given}: no sound files in that folder")
            recordings = [Recording(path, path.relative_to(given).as_posix()) for path in paths]
        elif given.is_file():
            recordings = [Recording(given, given.name)]
        else:
            raise UserError(f"{given}: no such file or folder")
        found |= {recording.path.absolute(): recording for recording in recordings}
    return list(found.values())


def hop_of(window: int, overlap: float) -> int:
    """How far windows are apart, in steps, so that the next one hears a share of each again."""
    return max(1, round(window * (1 - overlap)))


class _Rows:
    """Rows of a table that come a few at a time, for hours.

    They are copied into blocks. Small arrays that stay would lie among the large ones that a network makes and lets
    go, so that these never find room where they were: in two hours that was 250 MB.
    """

    def __init__(self) -> None:
        self._blocks: list[np.ndarray] = []
        self._room = 0  # in the last of them

    def add(self, rows: np.ndarray) -> None:
        while len(rows):
            if not self._room:
                self._blocks.append(np.empty((BLOCK_ROWS, *rows.shape[1:]), rows.dtype))
                self._room = BLOCK_ROWS
            start = BLOCK_ROWS - self._room
            part, rows = rows[: self._room], rows[self._room :]
            self._blocks[-1][start : start + len(part)] = part
            self._room -= len(part)

    def whole(self) -> np.ndarray:
        rows = np.concatenate(self._blocks)
        return rows[: len(rows) - self._room]


def hear(path: str | Path, classifier: Classifier, hop: int, tell: Callable[[float], None] | None = None) -> Heard:
    """What a classifier says of each window of a sound.

    Args:
        path: any length.
        classifier: see there.
        hop: distance of the windows in steps.
        tell: called with how much of it was heard, in s, from time to time.

    Raises:
        BadAudio: the sound cannot be read to its end.
    """
    starts, chances, end = _Rows(), _Rows(), 0.0
    for span in spans(path, classifier.rates, classifier.window, hop):
        starts.add(span.start + np.array(span.starts))
        chances.add(classifier.score(span))
        end = max(end, span.end)
        if tell:
            tell(end / STEPS_PER_S)
    begins = starts.whole() / STEPS_PER_S
    ends = np.minimum(begins + classifier.window / STEPS_PER_S, end / STEPS_PER_S)
    return Heard(begins, ends, chances.whole())


def hear_once(
    path: str | Path,
    classifier: Classifier,
    hop: int,
    cache_folder: str | Path,
    tell: Callable[[float], None] | None = None,
) -> tuple[Heard, bool]:
    """(`hear`, whether the sound was listened to): what was said of the same sound before is read from a folder."""
    key = sha256_value([sha256_file(path), classifier.identity, classifier.window, hop])
    kept = Path(cache_folder) / f"{key[:32]}.safetensors"
    if found := read_tensors(kept):
        return Heard(found["starts"], found["ends"], found["chances"]), False
    heard = hear(path, classifier, hop, tell)
    write_tensors(kept, {"starts": heard.starts, "ends": heard.ends, "chances": heard.chances})
    return heard, True


def find_events(
    heard: Heard,
    labels: Sequence[str],
    thresholds: Mapping[str, float],
    multi_label: bool,
    gap_s: float = 0.0,
    ignored: Collection[str] = (),
) -> list[Event]:
    """The events of a recording, by their start.

    A window has a label from its threshold on; of single-label data, the most probable one alone. Windows of a label
    that touch, or are no further apart than `gap_s`, are one event.

    Args:
        heard: the windows.
        labels: the C labels.
        thresholds: label -> probability.
        multi_label: see above.
        gap_s: see above.
        ignored: labels that are never an event.
    """
    limits = np.array([thresholds[label] for label in labels])
    active = heard.chances >= limits
    if not multi_label:
        active &= predicted_matrix(heard.chances, multi_label=False) > 0
    events = [
        event
        for c, label in enumerate(labels)
        if label not in ignored
        for event in _merged(heard, np.flatnonzero(active[:, c]), heard.chances[:, c], label, gap_s)
    ]
    return sorted(events, key=lambda event: (event.start_s, event.end_s, event.label))


def _merged(heard: Heard, rows: np.ndarray, chances: np.ndarray, label: str, gap_s: float) -> list[Event]:
    events: list[Event] = []
    for row in rows:
        event = Event(float(heard.starts[row]), float(heard.ends[row]), label, float(chances[row]))
        if events and event.start_s <= events[-1].end_s + gap_s + 0.5 / STEPS_PER_S:
            last = events.pop()
            event = Event(last.start_s, event.end_s, label, max(last.probability, event.probability))
        events.append(event)
    return events
