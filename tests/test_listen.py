"""listen.py: recordings in, events out; damaged files, going on, and other programs' tables."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from transformers import ASTForAudioClassification

from synthio.audio import write_wav
from synthio.files import EMBEDDED
from synthio.models.strict import load_network
from tests.classification.listeners import LABELS, save_ast, save_head, save_world
from tests.classification.toy_clips import PITCHES
from tests.rows import rows_of
from tests.scripts import ROOT, call_script, load_script

SCRIPT = ROOT / "listen.py"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A head on tones, an AST without operating points, and two recordings and a damaged one."""
    folder = save_world(tmp_path_factory.mktemp("listen"))
    save_head(folder, folder / "head", "probe", False)
    save_ast(folder, folder / "fine", False)
    for seed, name in enumerate(("in/a.wav", "in/night/b.wav")):
        rng = np.random.default_rng(seed)
        audio = 0.02 * rng.normal(size=(1, 6 * 16000))
        for k, pitch in enumerate(PITCHES.values()):
            at = np.arange((2 * k) * 16000, (2 * k + 2) * 16000)
            audio[0, at] += 0.3 * np.sin(2 * np.pi * pitch * at / 16000)
        write_wav(folder / name, audio, 16000)
    (folder / "in/broken.wav").write_bytes(b"RIFF no sound")
    return folder


@pytest.fixture
def embedded_ast(tmp_path):
    """The embedded AST as ast/train.py saves it, with the labels that it knows."""
    model = load_network(ASTForAudioClassification, EMBEDDED / "ast", "classifier").float()
    model.config.problem_type = "single_label_classification"
    model.save_pretrained(tmp_path / "embedded")
    shutil.copy(EMBEDDED / "ast/preprocessor_config.json", tmp_path / "embedded")
    return tmp_path / "embedded"


def listen(world, out, *words, model="head", **changes):
    chosen = {"model": world / model, "output": out / "events.csv", "device": "cpu", **changes}
    inputs = chosen.pop("input", [world / "in"])
    return call_script(SCRIPT, *(w for n, v in chosen.items() for w in (f"--{n}", v)), "--input", *inputs, *words)


def test_tones_are_found_where_they_are(world, tmp_path):
    done = listen(world, tmp_path, audacity=tmp_path / "labels", raven=tmp_path / "tables")
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "events.csv")
    for label, k in zip(PITCHES, range(3), strict=True):
        own = [r for r in rows if r["label"] == label and r["path"].endswith("a.wav")]
        assert any(float(r["start"]) < 2 * k + 1 < float(r["end"]) for r in own), label
    record = json.loads((tmp_path / "events.json").read_text())
    counts = {"recordings": 3, "heard": 2, "dropped": 1, "events": len(rows)}
    assert {name: record[name] for name in counts} == counts and list(record["thresholds"]) == LABELS
    assert f"{len(rows)} events in 0.2 min of 2 recordings, 1 dropped" in done.stdout
    assert "minutes of audio a second (" in done.stdout
    (dropped,) = rows_of(tmp_path / "events.dropped.csv")
    assert dropped["path"].endswith("in/broken.wav") and dropped["reason"] in done.stderr
    for row in rows:
        assert float(row["probability"]) >= record["thresholds"][row["label"]]["probability"] - 5e-5
    tracks = [(tmp_path / f"labels/{name}.txt").read_text().splitlines() for name in ("a", "night/b")]
    tables = [(tmp_path / f"tables/{n}.Table.1.selections.txt").read_text().splitlines() for n in ("a", "night/b")]
    assert sum(map(len, tracks)) == len(rows) == sum(len(table) - 1 for table in tables)


def test_it_goes_on_and_hears_only_what_is_new(world, tmp_path):
    shutil.copytree(world / "in", tmp_path / "in")
    assert listen(world, tmp_path, input=[tmp_path / "in"]).returncode == 0
    before = (tmp_path / "events.csv").read_bytes()
    done = listen(world, tmp_path, input=[tmp_path / "in"])
    assert "minutes of audio a second" not in done.stdout  # nothing was listened to
    assert (tmp_path / "events.csv").read_bytes() == before
    shutil.copy(world / "in/a.wav", tmp_path / "in/same sound.wav")
    (tmp_path / "in/broken.wav").unlink()
    done = listen(world, tmp_path, input=[tmp_path / "in"])
    assert "of 3 recordings, 0 dropped" in done.stdout and "minutes of audio a second" not in done.stdout
    assert not (tmp_path / "events.dropped.csv").exists()
    assert "minutes of audio a second" in listen(world, tmp_path, input=[tmp_path / "in"], overlap=0).stdout


def test_a_long_recording_is_told_of(world, tmp_path, monkeypatch):
    monkeypatch.setattr(load_script(SCRIPT), "TELL_EVERY_S", 0.0)
    done = listen(world, tmp_path)
    assert "night/b.wav: 0 min heard, " in done.stderr and " x real time\n" in done.stderr


def test_a_higher_precision_gives_fewer_events_of_higher_probability(world, tmp_path):
    seconds = []
    for threshold in (0.4, 0.6, 0.9):
        assert listen(world, tmp_path, threshold=threshold).returncode == 0
        rows = rows_of(tmp_path / "events.csv")
        assert all(float(row["probability"]) >= threshold - 5e-5 for row in rows)
        seconds.append(sum(float(row["end"]) - float(row["start"]) for row in rows))
    assert seconds[0] >= seconds[1] >= seconds[2] and seconds[0] > seconds[2]


def test_what_the_validation_clips_do_not_tell_is_said(world, tmp_path):
    shutil.copytree(world / "head", tmp_path / "head")
    said = tmp_path / "head/model/listening.json"
    known = json.loads(said.read_text())
    known["labels"][LABELS[0]] = {"threshold": [], "precision": [], "recall": []}
    known["labels"][LABELS[1]] = {"threshold": [0.8], "precision": [0.5], "recall": [1.0]}
    said.write_text(json.dumps(known))
    done = listen(world, tmp_path, model=tmp_path / "head")
    assert f"{LABELS[0]}: no validation clip was rightly called so; its threshold is .5\n" in done.stderr
    assert f"{LABELS[1]}: no threshold has a precision of 0.9 on the validation clips; taken is 0.800 with 0.50\n" in (
        done.stderr
    )


def test_what_is_refused(world, tmp_path):
    done = listen(world, tmp_path, model="fine")
    assert done.returncode == 2 and "does not say how sure it is (no listening.json); give a --threshold" in done.stderr
    assert listen(world, tmp_path, model="fine", threshold=0.5).returncode == 0
    done = listen(world, tmp_path, on_bad_audio="stop")
    assert done.returncode == 2 and "broken.wav" in done.stderr and "set --on_bad_audio drop" in done.stderr
    done = listen(world, tmp_path, input=[world / "in/broken.wav"])
    assert done.returncode == 2 and "none of the 1 recordings can be read" in done.stderr
    done = listen(world, tmp_path, model="clap")
    assert done.returncode == 2
    done = listen(world, tmp_path, model="nothing")
    assert done.returncode == 2 and "no classifier there" in done.stderr


def peak_mb(model, recording, out) -> float:
    """The most memory that listen.py takes as a process of its own, on one thread."""
    words = ["--model", model, "--input", recording, "--output", out / "events.csv", "--threshold", 0.5]
    code = (
        "import pathlib, runpy, sys\n"
        "sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally: print('peak', pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, SCRIPT, *map(str, words), "--device", "cpu"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "events in" in done.stdout, done.stderr
    return int(done.stdout.split("peak ")[1]) * 1024 / 1e6


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_does_not_grow_with_a_recording(embedded_ast, tmp_path):
    """30 minutes take what 3 do: their file is 140 MB larger, and there are 750 windows more."""
    peaks = []
    for minutes in (3, 30):
        name = tmp_path / f"{minutes}.flac"
        with soundfile.SoundFile(name, "w", 44100, 1) as file:
            for k in range(minutes):
                file.write(np.random.default_rng(k).uniform(-0.1, 0.1, 60 * 44100))
        peaks.append(peak_mb(embedded_ast, name, tmp_path / f"{minutes}"))
    assert peaks[1] < peaks[0] + 20 and peaks[1] <= 500, peaks
