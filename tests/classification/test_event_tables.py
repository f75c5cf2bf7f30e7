"""Events as other programs read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthio.classification.event_tables import (
    audacity_labels,
    raven_table,
    write_events,
    write_per_recording,
)
from synthio.classification.events import Event, Recording
from synthio.cli import UserError
from tests.rows import rows_of

EVENTS = [Event(0.0, 1.5, "dog_bark", 0.87654), Event(12.25, 14.0, "a\tlabel\nof two lines", 0.5)]


def test_the_csv_has_paths_that_start_at_it(tmp_path):
    recordings = [Recording(tmp_path / name, name) for name in ("in/a.wav", "in/b.wav")]
    write_events([(recordings[0], EVENTS), (recordings[1], [])], tmp_path / "out/events.csv")
    rows = rows_of(tmp_path / "out/events.csv")
    first = {"path": "../in/a.wav", "start": "0.00", "end": "1.50", "label": "dog_bark", "probability": "0.8765"}
    assert rows[0] == first and rows[1]["label"] == EVENTS[1].label and len(rows) == 2
    write_events([], tmp_path / "none.csv")
    assert (tmp_path / "none.csv").read_text() == "path,start,end,label,probability\n"


def test_audacity_has_three_cells_a_line():
    assert audacity_labels(EVENTS) == (
        "0.000000\t1.500000\tdog_bark 0.88\n12.250000\t14.000000\ta label of two lines 0.50\n"
    )


def test_raven_has_a_box_for_each_event():
    header, first, second = (line.split("\t") for line in raven_table(EVENTS, 8000).splitlines())
    assert header[:7] == [
        *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)")
    ]
    assert first == ["1", "Spectrogram 1", "1", "0.000000", "1.500000", "0.0", "8000.0", "dog_bark", "0.8765"]
    assert second[0] == "2" and second[7] == "a label of two lines" and len(second) == len(header)


def test_a_file_for_each_recording(tmp_path):
    found = [(Recording(Path(f"/x/{name}"), name), []) for name in ("a.wav", "night 1/a.flac")]
    texts = {recording.path: recording.name for recording, _ in found}
    write_per_recording(found, tmp_path, ".Table.1.selections.txt", texts)
    assert (tmp_path / "a.Table.1.selections.txt").read_text() == "a.wav"
    assert (tmp_path / "night 1/a.Table.1.selections.txt").read_text() == "night 1/a.flac"
    both = [*found, (Recording(Path("/y/a.ogg"), "a.ogg"), [])]
    with pytest.raises(UserError, match=r"/x/a\.wav and /y/a\.ogg would both have the labels .*a\.txt"):
        write_per_recording(both, tmp_path / "new", ".txt", texts)
    assert not (tmp_path / "new").exists()
