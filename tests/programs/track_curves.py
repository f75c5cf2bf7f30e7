"""Log curves with a real tracker and read them back, in the environment trackers:

    .envs/trackers/bin/python tests/programs/track_curves.py tensorboard|wandb|trackio FOLDER
    .envs/trackers/bin/python tests/programs/track_curves.py read FOLDER

A training of three rows, and then one that goes on after a kill: its first row to follow has two before it. Prints as
JSON the (step, values) of each run that was written, in the order of time. `read` writes nothing; it prints those of
each run of TensorBoard in the folder, by name.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from pathlib import Path

HISTORY = [{"step": 5 * i, "train_loss": 1 / i, "valid_accuracy": i / 4, "seconds": 9.0} for i in (1, 2, 3)]


def write(kind: str, folder: Path) -> None:
    """Two runs: one from its first row on, one that takes up a history of two rows."""
    from synthio.training.tracking import Tracker

    for known in (0, 2):
        tracker = Tracker(kind, folder / "my set/tracking", "classifier synthio", {"seed": 3, "model": "ast"})
        for end in range(known + 1, 4):
            tracker.follow(HISTORY[:end])
        tracker.close()


def read_events(run: Path) -> list:
    """(step, values) of a run of TensorBoard, by its own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run)).Reload()
    rows: dict[int, dict[str, float]] = {}
    for name in events.Tags()["scalars"]:
        for event in events.Scalars(name):
            rows.setdefault(event.step, {})[name] = event.value
    return sorted(rows.items())


def read_tensorboard(folder: Path) -> list:
    return [read_events(folder / "my set/tracking/classifier-synthio")]


def wandb_records(path: Path):
    """The records of a .wandb file: a LevelDB log of protobufs, in blocks of 32 KiB, after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    data, position, whole = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        whole += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or last of its parts
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def read_wandb(folder: Path) -> list:
    runs = []
    for path in sorted((folder / "my set/tracking/wandb").glob("offline-run-*/*.wandb"), key=os.path.getctime):
        rows = []
        for record in wandb_records(path):
            if record.WhichOneof("record_type") == "run":
                assert (record.run.project, record.run.display_name) == ("my-set", "classifier-synthio")
            if record.WhichOneof("record_type") == "history":
                items = {
                    "".join([item.key, *item.nested_key]): json.loads(item.value_json) for item in record.history.item
                }
                rows.append((items["_step"], {name: x for name, x in items.items() if not name.startswith("_")}))
        runs.append(rows)
    return runs


def read_trackio(folder: Path) -> list:
    runs: dict[str, list] = {}
    with sqlite3.connect(folder / "trackio/my-set.db") as base:
        for run, step, values in base.execute("SELECT run_id, step, metrics FROM metrics ORDER BY id"):
            runs.setdefault(run, []).append((step, json.loads(values)))
    return list(runs.values())


if __name__ == "__main__":
    tracker_kind, where = sys.argv[1], Path(sys.argv[2])
    if tracker_kind == "read":
        print(json.dumps({run.name: read_events(run) for run in sorted(where.iterdir())}))
        sys.exit()
    write(tracker_kind, where)
    readers = {"tensorboard": read_tensorboard, "wandb": read_wandb, "trackio": read_trackio}
    print("found " + json.dumps(readers[tracker_kind](where)))
