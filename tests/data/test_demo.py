"""The dataset preparers: the demo set and ESC-10."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from synthio.data import demo as datasets_demo
from tests.rows import rows_of
from tests.scripts import call_script, load_script

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "dataset_csvs" / "prepare.py"
SPLITS = ("train", "valid", "test")
SMALL = ("--train", 6, "--valid", 2, "--test", 4, "--classes", 2)


def demo(folder, *options, ok=True):
    done = call_script(SCRIPT, "demo", "--output_folder", folder, *options)
    assert (done.returncode == 0) == ok, done.stderr
    return done


def audio_bytes(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.wav"))}


# ---- demo


def test_why_clips_that_were_there_are_made_again_is_told(tmp_path):
    first = demo(tmp_path / "d", *SMALL)
    made = audio_bytes(tmp_path / "d")
    (tmp_path / "d/demo.json").write_text("{")
    again = demo(tmp_path / "d", *SMALL)
    told = "demo.json: damaged; the clips of the demo set are made again"
    assert told not in first.stderr and told in again.stderr and audio_bytes(tmp_path / "d") == made


def test_demo_rows_paths_and_format(tmp_path):
    done = demo(tmp_path / "demo", "--train", 21, "--valid", 10, "--test", 10)
    assert len(done.stdout.splitlines()) == 3
    contents = set()
    for split, count in zip(SPLITS, (21, 10, 10), strict=True):
        rows = rows_of(tmp_path / f"demo/{split}.csv")
        assert list(rows[0]) == ["path", "label", "dataset"] and len(rows) == count
        counts = Counter(row["label"] for row in rows)
        assert len(counts) == 10 and max(counts.values()) - min(counts.values()) <= 1
        for row in rows:
            assert not Path(row["path"]).is_absolute()
            info = soundfile.info(tmp_path / "demo" / row["path"])
            assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
            assert 2.0 <= info.duration <= 4.0
            contents.add((tmp_path / "demo" / row["path"]).read_bytes())
    assert len(contents) == 41


def test_demo_depends_on_its_seed_alone(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        demo(tmp_path / name, *SMALL, "--seed", seed)
    a, b, c = (audio_bytes(tmp_path / name) for name in "abc")
    assert a == b and len(a) == 12
    assert a.keys() == c.keys() and not set(a.values()) & set(c.values())
    for split in SPLITS:
        assert (tmp_path / f"a/{split}.csv").read_bytes() == (tmp_path / f"b/{split}.csv").read_bytes()


def test_more_clips_leave_the_first_as_they_are(tmp_path):
    demo(tmp_path, *SMALL)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.wav")}
    demo(tmp_path, *SMALL, "--train", 8)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(rows_of(tmp_path / "train.csv")) == 8


def test_another_seed_removes_the_old_clips(tmp_path):
    demo(tmp_path, *SMALL, "--train", 8)
    old = audio_bytes(tmp_path)
    (tmp_path / "audio/train/mine.wav").write_bytes(b"not ours")
    demo(tmp_path, *SMALL, "--seed", 3)
    new = audio_bytes(tmp_path)
    assert new.pop("audio/train/mine.wav") == b"not ours"
    assert len(new) == 12 and not set(old.values()) & set(new.values())


@pytest.mark.slow
def test_a_killed_demo_goes_on(tmp_path):
    demo(tmp_path / "whole", "--train", 60, "--valid", 10, "--test", 10)
    command = [sys.executable, SCRIPT, "demo", "--output_folder", tmp_path / "cut", "--train", "60"]
    process = subprocess.Popen([*map(str, command), "--valid", "10", "--test", "10"])
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("cut/audio/train/[0-9]*.wav"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut/train.csv").exists()
    done_before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cut/audio/*/[0-9]*.wav")}
    assert len(done_before) >= 5
    demo(tmp_path / "cut", "--train", 60, "--valid", 10, "--test", 10)
    assert {path: path.stat().st_mtime_ns for path in done_before} == done_before
    whole, cut = audio_bytes(tmp_path / "whole"), audio_bytes(tmp_path / "cut")
    assert {name: data for name, data in cut.items() if ".tmp" not in name} == whole


def test_demo_clips_are_not_those_of_the_pretraining_corpus():
    """numpy pads seeds with zeros: [0, 1, 0] would be the corpus's [0, 1]."""
    starts = {np.random.default_rng([0, i]).integers(1 << 62) for i in range(1000)}
    for split in range(3):
        for i in range(200):
            assert np.random.default_rng([0, split, i, datasets_demo.DEMO_STREAM]).integers(1 << 62) not in starts


def test_splits_are_drawn_alike():
    """Same shares of scenes, levels and second events, whatever the split."""
    quiet = []
    for split in range(3):
        draws = [
            datasets_demo.draw_scene(np.random.default_rng([5, split, i, datasets_demo.DEMO_STREAM]))
            for i in range(400)
        ]
        quiet.append(np.mean([scene is None for scene, _ in draws]))
        assert all(-6 <= snr <= 9 for _, snr in draws)
        assert all(snr >= 1 for scene, snr in draws if scene in datasets_demo.AMBIGUOUS_SCENES)
    assert max(quiet) - min(quiet) < 0.09  # 3 standard errors of a share of .15 in 400


def test_second_events_are_never_another_class():
    from synthio.sounds import DEMO_LABELS, labels, scenes

    seconds = [datasets_demo.draw_second(np.random.default_rng(i), "rain") for i in range(400)]
    named = [name for name in seconds if name]
    assert 0.4 < len(named) / 400 < 0.6
    assert set(named) <= set(labels()) - set(DEMO_LABELS)
    assert set(datasets_demo.AMBIGUOUS_SCENES) <= set(scenes())


def test_demo_mistakes(tmp_path):
    done = demo(tmp_path / "demo", "--test", 9, ok=False)
    assert done.stderr == "error: --test 9 is less than the 10 classes\n"
    assert not (tmp_path / "demo").exists()
    assert demo(tmp_path, "--classes", 11, ok=False).returncode == 2
    assert call_script(SCRIPT).returncode == 2
    assert call_script(SCRIPT, "esc11").returncode == 2


# ---- ESC-10


def esc50_clone(folder, make_wav):
    """The layout of the ESC-50 repository, two of the classes in ESC-10."""
    rows = []
    for fold in range(1, 6):
        for j, (category, member) in enumerate([("dog", "True"), ("rain", "True"), ("cat", "False")]):
            name = f"{fold}-{100 * fold + j}-A-{j}.wav"
            make_wav(f"esc50/audio/{name}", 0.1, seed=10 * fold + j)
            rows.append(f"{name},{fold},{j},{category},{member},{100 * fold + j},A")
    (folder / "esc50/meta").mkdir()
    header = "filename,fold,target,category,esc10,src_file,take"
    (folder / "esc50/meta/esc50.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder / "esc50"


def esc10(source, folder, *options, ok=True):
    done = call_script(SCRIPT, "esc10", "--source", source, "--output_folder", folder, *options)
    assert (done.returncode == 0) == ok, done.stderr
    return done


@pytest.mark.parametrize(
    ("options", "valid", "test"),
    [((), "4", "5"), (("--test_fold", 1), "5", "1"), (("--test_fold", 2, "--valid_fold", 5), "5", "2")],
)
def test_folds_are_never_mixed(tmp_path, make_wav, options, valid, test):
    esc10(esc50_clone(tmp_path, make_wav), tmp_path / "out", *options)
    folds = {split: {row["fold"] for row in rows_of(tmp_path / f"out/{split}.csv")} for split in SPLITS}
    assert folds == {"train": set("12345") - {valid, test}, "valid": {valid}, "test": {test}}
    rows = rows_of(tmp_path / "out/test.csv")
    assert [(row["label"], row["group"]) for row in rows] == [("dog", f"{test}00"), ("rain", f"{test}01")]
    assert (tmp_path / "out" / rows[0]["path"]).is_file()


def test_esc10_mistakes(tmp_path, make_wav):
    assert "get ESC-50" in esc10(tmp_path, tmp_path / "out", ok=False).stderr
    source = esc50_clone(tmp_path, make_wav)
    assert "test fold" in esc10(source, tmp_path / "out", "--valid_fold", 5, ok=False).stderr
    assert esc10(source, tmp_path / "out", "--test_fold", 6, ok=False).returncode == 2
    (source / "audio/3-301-A-1.wav").unlink()
    assert "3-301-A-1.wav" in esc10(source, tmp_path / "out", ok=False).stderr
    assert not (tmp_path / "out").exists()


def test_the_real_esc10(real_data, tmp_path):
    esc10(real_data / "esc10", tmp_path / "out")
    rows = {split: rows_of(tmp_path / f"out/{split}.csv") for split in SPLITS}
    assert {split: len(found) for split, found in rows.items()} == {"train": 240, "valid": 80, "test": 80}
    groups = [{row["group"] for row in found} for found in rows.values()]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert set(Counter(row["label"] for row in rows["test"]).values()) == {8}
    assert (tmp_path / "out" / rows["test"][0]["path"]).resolve().is_relative_to(real_data.resolve())
    record = json.loads((tmp_path / "out/test.json").read_text())
    assert record["options"]["test_fold"] == 5 and record["rows_out"] == 80


HELP_WORDS = {
    "demo": ("synthio/sounds", "MIT"),
    "esc10": ("github.com/karolpiczak/ESC-50", "CC BY"),
    "esc50": ("github.com/karolpiczak/ESC-50", "CC BY-NC 3.0"),
    "us8k": ("urbansounddataset.weebly.com", "CC BY-NC 3.0"),
    "tut2018": ("1228142", "non-commercial"),
    "vocalsound": ("github.com/YuanGongND/vocalsound", "CC BY-SA 4.0"),
    "dcase2017": ("download_audio.py", "CC BY 4.0"),
    "fsd50k": ("4060432", "CC BY 4.0"),
    "gtzan": ("marsyas.info", "research"),
    "medley": ("3464194", "CC BY 4.0"),
    "nsynth": ("magenta.tensorflow.org", "CC BY 4.0"),
    "musdb18": ("3338373", "NC-SA"),
    "folder": ("CLASS/clip.wav", "licence"),
    "audiofolder": ("file_name", "licence"),
    "kaldi": ("utt2label", "licence"),
    "csv": ("--fold_column", "licence"),
}


def test_every_dataset_has_help():
    assert set(HELP_WORDS) == set(load_script(SCRIPT).DATASETS)


@pytest.mark.parametrize("name", HELP_WORDS)
def test_help_tells_source_and_licence(name):
    done = call_script(SCRIPT, name, "--help")
    assert done.returncode == 0 and all(word in done.stdout for word in HELP_WORDS[name])
