"""Stage 0: good input passes untouched, bad input is named."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.encoders import encode, tone
from tests.rows import rows_of
from tests.scripts import call_script

SCRIPT = Path(__file__).resolve().parent.parent.parent / "synthio" / "data" / "check_inputs.py"
SPLITS = ("train", "valid", "test")


@pytest.fixture
def data(make_wav, make_manifest, tmp_path):
    """Two classes, different sounds everywhere: data["train"] is a list of rows to change; data.check() runs."""
    seeds = iter(range(1000))

    class Data(dict):
        def wav(self, name, **options):
            make_wav(name, options.pop("seconds", 0.1), seed=next(seeds), sample_rate=8000, **options)
            return name

        def check(self, *options, ok=True):
            csvs = [make_manifest(f"{split}.csv", self[split]) for split in SPLITS]
            return check(tmp_path, *csvs, *options, ok=ok)

    made = Data()
    for split, count in zip(SPLITS, (6, 2, 2), strict=True):
        made[split] = [{"path": made.wav(f"{split}{i}.wav"), "label": "ab"[i % 2]} for i in range(count)]
    return made


def check(folder, train, valid, test, *options, ok=True):
    out = folder / "checked"
    done = call_script(
        SCRIPT, "--train_csv", train, "--valid_csv", valid, "--test_csv", test, "--output_folder", out, *options
    )
    assert done.returncode == (0 if ok else 2), done.stderr
    if not ok:
        assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
        assert not list(out.glob("*")), "nothing may be written"
    return done


def refused(done, *parts):
    assert all(part in done.stderr for part in parts), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_clips_longer_than_the_latents_are_refused_in_one_line(data):
    """The drawn training clips alone are encoded; auto and model hold what there is."""
    data["train"] += [{"path": data.wav(f"long{i}.wav", seconds=0.5 + i), "label": "a"} for i in range(2)]
    data["valid"] += [{"path": data.wav("longer.wav", seconds=3), "label": "a"}]
    done = data.check("--latent_seconds", 0.4, ok=False)
    refused(done, "train.csv: 2 clips longer than latent_seconds 0.4; the longest is row 8: ")
    refused(done, "/long1.wav, 1.50 s. Raise it, or set auto")
    data.check("--latent_seconds", 0.4, "--augment_only")
    for length in (1.5, "auto", "model"):
        data.check("--latent_seconds", length)


# ---- what must work


def test_columns_labels_and_record(data, tmp_path):
    labels = ["NA", "001", "dog_bark", "Hund, laut", "größe 犬", 'say "hi"', "null", "None"]
    for split in SPLITS:
        data[split] = [
            {"path": data.wav(f"{split}/{i}.wav"), "label": label, "fold": f"0{i}", "note": "a;b, c"}
            for i, label in enumerate(labels)
        ]
    done = data.check("--num_samples", 8)
    assert done.stdout.splitlines()[0] == "train: 8 rows, 8 classes, 0.0 min, 8000 Hz, 1 channel, 0.10 to 0.10 s"
    assert "these hold no word: 001" in done.stderr
    for split in SPLITS:
        rows = rows_of(tmp_path / f"checked/{split}.csv")
        assert list(rows[0]) == ["path", "label", "fold", "note", "sha256", "duration_s"]
        assert [row["label"] for row in rows] == labels
        assert [row["fold"] for row in rows] == [f"0{i}" for i in range(8)]
        assert rows[0]["path"] == f"../{split}/0.wav" and rows[0]["duration_s"] == "0.100"
        pcm, _ = soundfile.read(tmp_path / split / "0.wav", dtype="int16")
        assert rows[0]["sha256"] == hashlib.sha256(b"8000:1:" + pcm.astype("<i2").tobytes()).hexdigest()
    record = json.loads((tmp_path / "checked/train.json").read_text())
    assert (record["rows_in"], record["rows_out"]) == (8, 8)
    assert record["sha256"] == hashlib.sha256((tmp_path / "checked/train.csv").read_bytes()).hexdigest()
    assert not list((tmp_path / "checked").glob("*.dropped.csv"))


def test_any_rate_channels_length_and_format(make_wav, make_manifest, tmp_path):
    kinds = [(8000, 1, 0.1), (96000, 2, 0.1), (44100, 2, 1.0), (16000, 1, 60.0), (48000, 6, 0.5)]
    formats = ["wav", "flac", "ogg", "wav", "wav"]
    csvs = []
    for split in SPLITS:
        rows = []
        for i, ((rate, channels, seconds), suffix) in enumerate(zip(kinds, formats, strict=True)):
            name = f"{split}{i}.{suffix}"
            make_wav(name, seconds, sample_rate=rate, channels=channels, seed=i * 10 + len(split))
            rows.append((name, "ab"[i % 2]))
        csvs.append(make_manifest(f"{split}.csv", rows))
    # "train" and "valid" have the same number of letters; other levels make them other sounds
    for i, suffix in enumerate(formats):
        path = tmp_path / f"valid{i}.{suffix}"
        audio, rate = soundfile.read(path)
        soundfile.write(path, audio * 0.5, rate)
    done = check(tmp_path, *csvs)
    assert "8000/16000/44100/48000/96000 Hz, 1/2/6 channels, 0.10 to 60.00 s" in done.stdout
    assert done.stderr == ""


def test_several_labels_a_clip(data):
    data["train"][0]["label"] = "a;b"
    data["test"][0]["label"] = "b; a"
    lines = data.check(ok=False).stderr.splitlines()
    assert lines[0] == "error: 2 rows have several labels:" and "set multi_label=true" in lines[2]
    assert "train: 6 rows, 2 classes" in data.check("--multi_label", "true").stdout


def test_runs_as_a_module_from_any_folder(data, make_manifest, run_script, tmp_path):
    for split in SPLITS:
        make_manifest(f"{split}.csv", data[split])
    words = [word for split in SPLITS for word in (f"--{split}_csv", f"{split}.csv")]
    done = run_script(
        "-m", "synthio.data.check_inputs", *words, "--output_folder", "out", "--augment_only", cwd=tmp_path
    )
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 3, done.stderr
    (tmp_path / "test2.wav").touch()
    make_manifest("test.csv", [*data["test"], {"path": "test2.wav", "label": "a"}])
    done = run_script("-m", "synthio.data.check_inputs", *words, "--output_folder", "out2", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    refused(done, "error: ", "test.csv row 3", "test2.wav: unreadable")


def test_the_result_does_not_depend_on_threads(data, tmp_path, monkeypatch):
    data.check()
    first = (tmp_path / "checked/train.csv").read_bytes()
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    data.check()
    assert (tmp_path / "checked/train.csv").read_bytes() == first


def test_esc10_passes(real_data, tmp_path):
    with (real_data / "esc10/esc10.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    csvs = []
    for split, fold in zip(SPLITS, "123", strict=True):
        csvs.append(tmp_path / f"{split}.csv")
        with csvs[-1].open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ["path", "label"])
            writer.writeheader()
            for row in [row for row in rows if row["fold"] == fold][::8]:
                writer.writerow({"path": real_data / "esc10" / row["path"], "label": row["label"]})
    assert "train: 10 rows" in check(tmp_path, *csvs).stdout


# ---- what must be refused


def test_missing_csv_and_column(data, tmp_path, make_manifest):
    train, test = (make_manifest(f"good_{split}.csv", data[split]) for split in ("train", "test"))
    refused(check(tmp_path, train, tmp_path / "no.csv", test, ok=False), "no.csv: no such CSV file")
    other = make_manifest("other.csv", [{"file": "valid0.wav", "label": "a"}])
    refused(check(tmp_path, train, other, test, ok=False), "other.csv: no column 'path'", "'file', 'label'")
    data["valid"] = []
    refused(data.check(ok=False), "valid.csv: no rows")


def test_missing_file_and_label(data):
    data["valid"][1]["path"] = "gone.wav"
    refused(data.check(ok=False), "valid.csv row 2", "gone.wav")
    data["valid"][1] = {"path": "valid1.wav", "label": " "}
    refused(data.check(ok=False), "valid.csv row 2", "label is empty")


def spoil(folder: Path, name: str, how: str) -> None:
    """Make a clip unusable."""
    path = folder / name
    if how == "nan":
        soundfile.write(path, np.array([0.1, np.nan, 0.2]), 8000, subtype="FLOAT")
    elif how == "empty":
        soundfile.write(path, np.zeros(0), 8000)
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif how == "unreadable":
        path.write_bytes(b"this is no sound at all" * 20)


@pytest.mark.parametrize("how", ["nan", "empty", "truncated", "unreadable"])
def test_bad_audio_is_named_with_its_reason(data, tmp_path, how):
    spoil(tmp_path, "train2.wav", how)
    refused(data.check(ok=False), "train.csv row 3", "train2.wav", how.replace("nan", "NaN"), "on_bad_audio=drop")


def test_all_bad_audio_is_counted_and_twenty_are_listed(data, tmp_path):
    data["train"] += [{"path": data.wav(f"more{i}.wav"), "label": "a"} for i in range(22)]
    for i in range(22):
        spoil(tmp_path, f"more{i}.wav", "empty")
    spoil(tmp_path, "test1.wav", "nan")
    lines = data.check(ok=False).stderr.splitlines()
    assert lines[0].startswith("error: 23 clips cannot be used") and len(lines) == 22
    assert "train.csv row 7" in lines[1] and lines[-1].strip() == "and 3 more: 3 clips cannot be used"


def test_bad_audio_can_be_dropped(data, tmp_path):
    spoil(tmp_path, "train0.wav", "truncated")
    spoil(tmp_path, "train3.wav", "nan")
    data["valid"].append({"path": data.wav("valid2.wav"), "label": "a"})
    spoil(tmp_path, "valid2.wav", "unreadable")
    done = data.check("--on_bad_audio", "drop", "--num_samples", 4)
    assert "train.csv: 2 of 6 clips dropped, the first is row 1" in done.stderr
    assert [row["path"] for row in rows_of(tmp_path / "checked/train.csv")] == [
        f"../train{i}.wav" for i in (1, 2, 4, 5)
    ]
    dropped = rows_of(tmp_path / "checked/train.dropped.csv")
    assert [row["path"] for row in dropped] == ["../train0.wav", "../train3.wav"]
    assert dropped[0]["reason"].startswith("truncated") and "NaN" in dropped[1]["reason"]
    assert len(rows_of(tmp_path / "checked/valid.dropped.csv")) == 1
    record = json.loads((tmp_path / "checked/train.json").read_text())
    assert (record["rows_in"], record["rows_out"], record["rows_dropped"]) == (6, 4, 2)


def test_drops_are_checked_again(data, tmp_path):
    spoil(tmp_path, "train0.wav", "empty")
    out = call(data, tmp_path, "--on_bad_audio", "drop", "--num_samples", 6)
    assert out.returncode == 2 and "5 usable rows, fewer than num_samples 6" in out.stderr
    for i in (2, 4):
        spoil(tmp_path, f"train{i}.wav", "empty")
    out = call(data, tmp_path, "--on_bad_audio", "drop")
    assert out.returncode == 2 and "only one class" in out.stderr
    for i in (0, 1):
        spoil(tmp_path, f"test{i}.wav", "empty")
    out = call(data, tmp_path, "--on_bad_audio", "drop")
    assert out.returncode == 2 and "test.csv: none of its 2 clips can be used" in out.stderr
    assert not (tmp_path / "checked").exists()


def call(data, tmp_path, *options):
    """The script, whatever its status (warnings of drops come before the error)."""
    words = [word for split in SPLITS for word in (f"--{split}_csv", tmp_path / f"{split}.csv")]
    for split in SPLITS:
        with (tmp_path / f"{split}.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ["path", "label"])
            writer.writeheader()
            writer.writerows(data[split])
    return call_script(SCRIPT, *words, "--output_folder", tmp_path / "checked", *options)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_label_without_training_clips(data, split):
    data[split].append({"path": data.wav("new.wav"), "label": "A"})
    refused(data.check(ok=False), "no clip in", "train.csv", f"{split}.csv row 3: label 'A'")
    data[split][-1]["label"] = "a;bb"
    refused(data.check("--multi_label", "true", ok=False), f"{split}.csv row 3: label 'bb'", "(near: 'b')")


def test_numbers_that_cannot_be_drawn(data):
    refused(data.check("--num_samples", 7, ok=False), "train.csv: 6 usable rows", "num_samples 7")
    refused(data.check("--num_samples", 1, ok=False), "num_samples 1 is less than the 2 classes", "set 2 or more")
    for split in SPLITS:
        data[split] = [row | {"label": "a"} for row in data[split]]
    refused(data.check(ok=False), "only one class, 'a'")
    assert call_script(SCRIPT, "--num_samples", "-1").returncode == 2
    assert call_script(SCRIPT, "--train_csv", "a").returncode == 2


@pytest.mark.parametrize(("one", "other"), [("train", "valid"), ("train", "test"), ("valid", "test")])
def test_the_same_sound_in_two_splits(data, tmp_path, one, other):
    audio, rate = soundfile.read(tmp_path / f"{one}1.wav")
    # another name, format, channel number and label; the sound is the same
    soundfile.write(tmp_path / "copy.flac", np.stack([audio, audio], axis=1), rate)
    data[other].append({"path": "copy.flac", "label": "a"})
    done = data.check(ok=False)
    refused(done, f"also in the {one} set", f"{other}.csv row 3 has the same content as", f"{one}.csv row 2")


@pytest.mark.parametrize(("one", "other"), [("train", "valid"), ("train", "test"), ("valid", "test")])
def test_the_same_group_in_two_splits(data, one, other):
    for split in SPLITS:
        data[split] = [row | {"group": f"{split} {i}"} for i, row in enumerate(data[split])]
    data[one][1]["group"] = data[other][0]["group"] = "0042"
    refused(data.check(ok=False), f"{other}.csv row 1 has the same group '0042' as", f"{one}.csv row 2")
    data[one][1]["group"] = data[other][0]["group"] = ""  # an empty group says nothing
    data.check()


def test_the_same_csv_twice(data):
    data["test"] = data["valid"]
    assert data.check(ok=False).stderr.startswith("error: 2 sounds are in two sets:")


def test_doubles_and_silence_are_warned_of(data, make_wav, tmp_path):
    data["train"] += [{"path": "train0.wav", "label": "a"}, {"path": "train1.wav", "label": "a"}]
    make_wav("silence.wav", audio=np.zeros(800), sample_rate=8000)
    data["test"].append({"path": "silence.wav", "label": "a"})
    warnings = data.check().stderr.splitlines()
    assert len(warnings) == 3 and all(line.startswith("warning: ") for line in warnings)
    assert "2 clips more than once, the first is row 7 (the same as row 1)" in warnings[0]
    assert "1 sound with different labels" in warnings[1] and "'b' in row 2 and 'a' in row 8" in warnings[1]
    assert "test.csv row 3: " in warnings[2] and warnings[2].endswith("silence.wav: digital silence")
    assert len(rows_of(tmp_path / "checked/train.csv")) == 8


def test_an_input_is_never_written_over(data, make_manifest, tmp_path):
    csvs = [make_manifest(f"{split}.csv", data[split]) for split in SPLITS]
    before = [path.read_bytes() for path in csvs]
    words = [word for split, path in zip(SPLITS, csvs, strict=True) for word in (f"--{split}_csv", path)]
    done = call_script(SCRIPT, *words, "--output_folder", tmp_path)
    refused(done, "would be overwritten")
    assert [path.read_bytes() for path in csvs] == before


# ---- sounds that are hardly what was meant


def test_channels_that_cancel_are_no_leak(data, make_wav, tmp_path):
    """Two different clips whose mono mix is silent: each is named, and neither is "the same content"."""
    for split in ("train", "test"):
        left = np.random.default_rng(len(split)).uniform(-0.5, 0.5, 8000)
        make_wav(f"{split}/anti.wav", audio=np.stack([left, -left], 1), sample_rate=8000)
        data[split].append({"path": f"{split}/anti.wav", "label": "a"})
    done = data.check(ok=False)
    assert "2 clips cannot be used" in done.stderr and "same content" not in done.stderr
    assert "train.csv row 7: " in done.stderr and "test.csv row 3: " in done.stderr
    assert done.stderr.count("the channels cancel: the mono mix is silent") == 2
    data.check("--on_bad_audio", "drop")
    assert len(rows_of(tmp_path / "checked/train.csv")) == 6


def test_a_class_of_silence_is_no_leak(data, make_wav, tmp_path):
    for split in SPLITS:
        for i in range(2):
            make_wav(f"{split}/silent{i}.wav", audio=np.zeros(8000), sample_rate=8000)
            data[split].append({"path": f"{split}/silent{i}.wav", "label": "silence"})
    done = data.check()
    assert done.stderr.splitlines()[0].startswith("warning: used, but look at them:")
    assert [line.split(": ")[0].rsplit("/")[-1] for line in done.stderr.splitlines() if "digital silence" in line] == [
        f"{split}.csv row {row}" for split in SPLITS for row in ((7, 8) if split == "train" else (3, 4))
    ]
    assert "more than once" not in done.stderr and len(rows_of(tmp_path / "checked/train.csv")) == 8


def test_a_missing_file_can_be_dropped(data, tmp_path):
    data["train"].append({"path": "gone.wav", "label": "a"})
    data["train"].append({"path": "x" * 300 + ".wav", "label": "a"})
    data.check("--on_bad_audio", "drop")
    dropped = rows_of(tmp_path / "checked/train.dropped.csv")
    assert [row["reason"] for row in dropped] == [
        "no such file",
        "the file cannot be opened: File name too long",
    ]


def test_garbage_is_named_with_row_and_value(data, make_wav, tmp_path):
    spike = 0.1 * np.sin(np.arange(8000) / 9)
    spike[4000] = 1.5e29
    make_wav("spike.wav", audio=spike, sample_rate=8000, subtype="FLOAT")
    make_wav("integers.wav", audio=32767 * np.sin(np.arange(8000) / 9), sample_rate=8000, subtype="FLOAT")
    make_wav("slow.wav", audio=np.ones(50) / 9, sample_rate=1)
    (tmp_path / "pointer.wav").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    data["test"] += [{"path": f"{name}.wav", "label": "a"} for name in ("spike", "integers", "slow", "pointer")]
    lines = data.check(ok=False).stderr.splitlines()
    assert lines[0].startswith("error: 4 clips cannot be used")
    for row, (line, part) in enumerate(
        zip(lines[1:], ("+584 dB over", "+90 dB over", "a sample rate of 1 Hz", "Git LFS pointer"), strict=True), 3
    ):
        assert f"test.csv row {row}: " in line and part in line


def test_the_same_sound_in_an_mp3_of_another_name_is_found(data, tmp_path):
    encode(tmp_path / "one.mp3", "libmp3lame", tone(1.0), 16000, write_xing="0")
    (tmp_path / "other.wav").write_bytes((tmp_path / "one.mp3").read_bytes())
    data["train"].append({"path": "one.mp3", "label": "a"})
    data["test"].append({"path": "other.wav", "label": "a"})
    refused(data.check(ok=False), "test.csv row 3 has the same content as", "train.csv row 7")


# ---- several labels


def test_leaf_labels_of_ones_own_are_labels_of_the_clip(data):
    for split in SPLITS:
        data[split] = [row | {"label": f"{row['label']};sound", "leaf_labels": row["label"]} for row in data[split]]
    data["valid"][1]["leaf_labels"] = "c"
    refused(
        data.check("--multi_label", "true", ok=False),
        "valid.csv row 2",
        "leaf label 'c' is not among the labels 'b;sound'",
    )
    data["valid"][1]["leaf_labels"] = "b"
    assert "leaf" not in data.check("--multi_label", "true").stdout  # they are there already


def test_more_labels_than_clips_to_draw_are_told_at_once(data):
    names = [f"l{i}" for i in range(8)]
    for split in SPLITS:
        data[split] = [row | {"label": f"{names[i]};{names[i + 1]}"} for i, row in enumerate(data[split])]
    data["train"][5]["label"] = "l5;l6;l7"
    done = data.check("--num_samples", 3, "--multi_label", "true")
    assert "num_samples 3 is below the 8 labels" in done.stderr and "Stage 1 names them" in done.stderr
