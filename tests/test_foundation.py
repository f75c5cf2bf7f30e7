"""The foundation: atomic files, stable seeds, typed options, the data contract, audio that can be trusted."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.signal
import soundfile

from synthio import audio as audio_module
from synthio.audio import (
    BadAudio,
    content_hash,
    cut_windows,
    fit_length,
    peak_db,
    probe,
    read_audio,
    resample,
    write_wav,
)
from synthio.cli import UserError, in_range, progress, str2bool
from synthio.files import (
    atomic_path,
    fingerprint,
    remove_orphans,
    sha256_file,
    sha256_value,
    stable_seed,
    write_text,
)
from synthio.manifest import (
    all_labels,
    label_words,
    read_manifest,
    read_table,
    split_labels,
    write_manifest,
    write_table,
)

# ---- cli


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), (" YES ", True), ("0", False)])
def test_str2bool(text, value):
    assert str2bool(text) is value


@pytest.mark.parametrize("text", ["", "maybe", "2", "none", "truefalse"])
def test_str2bool_refuses(text):
    with pytest.raises(argparse.ArgumentTypeError, match="true or false"):
        str2bool(text)


def test_in_range():
    assert in_range(int, 0)("0") == 0 and isinstance(in_range(int, 0)("7"), int)
    assert in_range(float, 0, 1)("0.5") == 0.5
    for kind, low, high, text in [
        (int, 1, 5, "6"),
        (int, 1, 5, "1.5"),
        (int, 1, 5, "x"),
        (float, 0, 1, "-0.1"),
        (float, 0, 1, "nan"),
        (float, 0, 1, "inf"),
    ]:
        with pytest.raises(argparse.ArgumentTypeError, match=text):
            in_range(kind, low, high)(text)


MAIN = "from synthio.cli import run_main, UserError\ndef main():\n    {}\nrun_main(main)"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("raise UserError('row 3 is odd')", 2, "error: row 3 is odd\n"),
        ("raise KeyboardInterrupt", 130, "stopped by the user; a rerun goes on from here\n"),
        ("return 0", 0, ""),
        ("return 3", 3, ""),
    ],
)
def test_run_main(run_script, body, status, message):
    done = run_script("-c", MAIN.format(body))
    assert (done.returncode, done.stderr) == (status, message)


def test_run_main_keeps_the_traceback_of_our_own_faults(run_script):
    done = run_script("-c", MAIN.format("raise ValueError('a fault of ours')"))
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_progress_gives_every_item_once(capsys):
    assert list(progress(range(5), "work", every_s=0)) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err.splitlines()[-1].startswith("work: 5/5 in ")
    assert list(progress(iter("ab"), "work")) == ["a", "b"]


# ---- files

KILLED_WRITER = """
import sys, time
from synthio.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half of the n")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "result.csv"
    path.write_text("old")
    process = subprocess.Popen([sys.executable, "-c", KILLED_WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "writing\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir() if p != path] == [f".result.{process.pid}.tmp.csv"]
    write_text(path, "new")
    assert path.read_text() == "new"


def test_a_failed_writer_leaves_nothing_new(tmp_path):
    path = tmp_path / "deep" / "result.csv"

    def fail(temporary):
        temporary.write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"), atomic_path(path) as temporary:
        fail(temporary)
    assert list(path.parent.iterdir()) == []
    with pytest.raises(FileNotFoundError), atomic_path(path):
        pass  # a block that writes nothing is a mistake
    assert not path.exists()


def test_stable_seed_is_the_same_everywhere():
    # fixed values: another Python, machine or order of work must give these (echo -n '[0,"a",1]' | sha256sum)
    assert stable_seed(0, "a", 1) == 1287546484
    assert stable_seed("größe", None, 1.5) == 119514653
    assert stable_seed(0, 1) != stable_seed(1, 0) != stable_seed("1", 0)
    seeds = {stable_seed(7, i) for i in range(10000)}
    assert len(seeds) > 9995 and all(0 <= seed < 2**31 for seed in seeds)


def test_sha256_of_values_and_files(tmp_path):
    assert sha256_value({"a": 1, "b": [2]}) == sha256_value({"b": [2], "a": 1})
    assert sha256_value({"a": 1}) != sha256_value({"a": "1"})
    data = bytes(range(256)) * 9000  # more than two chunks
    (tmp_path / "x").write_bytes(data)
    assert sha256_file(tmp_path / "x") == hashlib.sha256(data).hexdigest()


def test_fingerprint(tmp_path):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/a.txt").write_text("a")
    (folder / "b.txt").write_text("b")
    first = fingerprint(folder)
    os.utime(folder / "b.txt", (0, 0))
    (folder / ".b.123.tmp.txt").write_text("left by a killed writer")
    assert fingerprint(folder) == first
    (folder / "b.txt").write_text("c")
    assert fingerprint(folder) != first
    (folder / "b.txt").rename(folder / "c.txt")
    (folder / "c.txt").write_text("b")
    assert fingerprint(folder) != first
    assert fingerprint(folder / "c.txt") == sha256_file(folder / "c.txt")
    assert fingerprint("laion/clap") == fingerprint("laion/clap") != fingerprint("laion/clap2")


# ---- manifest

ODD = ["NA", "001", "None", "null", "nan", "", "1e3", "TRUE", "Hund, laut", 'say "hi"', " x ", "größe 犬", "two\nlines"]


def test_text_stays_text(tmp_path):
    write_table(pd.DataFrame({"note": ODD, "n": [str(i) for i in range(len(ODD))]}), tmp_path / "t.csv")
    assert list(read_table(tmp_path / "t.csv")["note"]) == ODD


@pytest.mark.parametrize("head", ["path,label\n", "\ufeffpath,label\n", "path,label\r\n", '"path","label"\n'])
def test_byte_order_mark_line_ends_and_quotes(tmp_path, head):
    (tmp_path / "t.csv").write_bytes((head + 'a.wav,"x, y"\n\nb.wav,z').encode())
    table = read_table(tmp_path / "t.csv", ("path", "label"))
    assert table.to_dict("list") == {"path": ["a.wav", "b.wav"], "label": ["x, y", "z"]}
    assert list(table.index) == [0, 1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"file,class\na.wav,x\n", "no column 'path', 'label'; the columns found are 'file', 'class'"),
        (b"", "is empty; a header with path, label"),
        (b"path,label\na.wav,Hund, laut\n", "more cells than the header"),
        (b"path,label\na.wav,x\nb.wav,Hund, laut\n", "quote cells that hold commas"),
        (b"path,label\na.wav,x,\nb.wav,y,\n", "more cells than the header"),
        (b'path,label\n"a.wav,x\n', "not a readable UTF-8 CSV"),
        (b"path,label\na.wav,gr\xf6\xdfe\n", "not a readable UTF-8 CSV"),
    ],
)
def test_unusable_tables(tmp_path, data, message):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(UserError) as error:
        read_manifest(tmp_path / "t.csv")
    assert message in str(error.value) and "t.csv" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match="no such CSV"):
        read_table(tmp_path / "missing.csv")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("gone.wav", "x"), "row 2: no such file: "),
        (("", "x"), "row 2: the path is empty"),
        (("a.wav", " ; "), "row 2: the label is empty"),
        ((".", "x"), "row 2: no such file: "),
    ],
)
def test_unusable_rows(make_wav, make_manifest, row, message):
    make_wav("a.wav", 0.1)
    csv = make_manifest("t.csv", [("a.wav", "x"), row])
    with pytest.raises(UserError, match=message):
        read_manifest(csv)


def test_paths_resolve_against_the_csv_and_move_with_it(make_wav, make_manifest, tmp_path, monkeypatch):
    wav = make_wav("set/audio/größe 1.wav", 0.1)
    csv = make_manifest("set/lists/train.csv", [("../audio/größe 1.wav", "x"), (str(wav), "y")])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    table = read_manifest(os.path.relpath(csv))
    assert list(table["path"]) == [str(wav)] * 2
    table["source_path"] = [str(wav), ""]
    write_manifest(table, "deep/out.csv", rows_in=2)  # relative to the current folder
    text = (elsewhere / "deep/out.csv").read_text()
    assert text.splitlines()[1] == "../../set/audio/größe 1.wav,x,../../set/audio/größe 1.wav"
    monkeypatch.chdir(tmp_path)
    again = read_manifest(elsewhere / "deep/out.csv")
    assert again.to_dict("list") == table.to_dict("list")
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("set", "elsewhere"):
        (tmp_path / name).rename(moved / name)
    assert Path(read_manifest(moved / "elsewhere/deep/out.csv")["path"][0]).is_file()


def test_links_keep_the_names_their_owner_gave(make_wav, make_manifest, tmp_path):
    wav = make_wav("store/0123.wav", 0.1)
    (tmp_path / "dog.wav").symlink_to(wav)
    assert read_manifest(make_manifest("t.csv", [("dog.wav", "dog")]))["path"][0] == str(tmp_path / "dog.wav")


def test_rows_drops_and_record(make_wav, make_manifest, tmp_path):
    for name in "abc":
        make_wav(f"{name}.wav", 0.1)
    source = make_manifest("in.csv", [(f"{name}.wav", "NA") for name in "abc"])
    table, out = read_manifest(source), tmp_path / "out" / "x.csv"
    dropped = table.iloc[2:].assign(reason="too short")
    with pytest.raises(AssertionError, match="1 unaccounted for"):
        write_manifest(table.iloc[:2], out, rows_in=3)
    with pytest.raises(AssertionError, match="-1 unaccounted for"):
        write_manifest(table, out, rows_in=3, dropped=dropped)
    with pytest.raises(AssertionError, match="without a reason"):
        write_manifest(table.iloc[:2], out, rows_in=3, dropped=dropped.assign(reason=""))
    assert not out.parent.exists()
    options = {"seed": 3, "folder": Path("a/b")}
    write_manifest(table.iloc[:2], out, rows_in=3, dropped=dropped, options=options, inputs=[source])
    assert pd.read_csv(out.with_suffix(".dropped.csv"))["reason"].tolist() == ["too short"]
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["sha256"] == sha256_file(out)
    assert record["inputs"] == {str(source): sha256_file(source)}
    assert [record[f"rows_{k}"] for k in ("in", "out", "dropped")] == [3, 2, 1]
    assert record["options"] == {"seed": 3, "folder": "a/b"} and record["versions"]["python"]
    write_manifest(table, out, rows_in=3)
    assert not out.with_suffix(".dropped.csv").exists(), "drops of an earlier run"


def test_an_empty_table_passes(make_manifest, tmp_path):
    table = read_manifest(make_manifest("in.csv", []))
    write_manifest(table, tmp_path / "out.csv", rows_in=0)
    assert (tmp_path / "out.csv").read_text() == "path,label\n"


def test_labels():
    assert split_labels("dog; rain ;;Hund, laut") == ["dog", "rain", "Hund, laut"]
    assert all_labels(["b;a", "c", "a"]) == ["a", "b", "c"]
    assert label_words("dog_bark") == "dog bark" and label_words("dog;rain") == "dog and rain"


# ---- audio


def test_mono_is_the_mean_and_stereo_is_kept(tmp_path):
    left, right = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 800)).astype(np.float32)
    soundfile.write(tmp_path / "s.wav", np.stack([left, right], 1), 8000, subtype="FLOAT")
    both, rate = read_audio(tmp_path / "s.wav", mono=False)
    assert rate == 8000 and both.shape == (2, 800) and both.dtype == np.float32
    np.testing.assert_array_equal(both, [left, right])
    one, _ = read_audio(tmp_path / "s.wav")
    assert one.shape == (1, 800)
    np.testing.assert_allclose(one[0], (left + right) / 2, atol=1e-7)
    assert probe(tmp_path / "s.wav") == (8000, 2, 800)


@pytest.mark.parametrize(("source", "target"), [(44100, 16000), (8000, 16000), (48000, 44100), (96000, 16000)])
def test_resample_keeps_frequency_and_level(make_wav, source, target):
    """A tone of 1 kHz at -10 dB, against its formula and against scipy's resampler."""
    level = 10 ** (-10 / 20)
    tone, _ = read_audio(make_wav("t.wav", 1.0, sample_rate=source, freq_hz=1000, level=level, subtype="FLOAT"))
    ours, rate = read_audio(make_wav("t.wav", 1.0, sample_rate=source, freq_hz=1000, level=level), sample_rate=target)
    assert rate == target and ours.dtype == np.float32
    assert abs(ours.shape[1] - target) <= 1
    common = np.gcd(source, target)
    theirs = scipy.signal.resample_poly(tone[0].astype(np.float64), target // common, source // common)
    middle = slice(target // 10, -target // 10)
    t = np.arange(ours.shape[1]) / target
    for other in (level * np.sin(2 * np.pi * 1000 * t), theirs[: ours.shape[1]]):
        assert np.abs(ours[0, middle] - other[middle]).max() < 0.01 * level  # 0.086 dB
    rms_db = 20 * np.log10(np.sqrt(np.mean(ours[0, middle] ** 2)) * np.sqrt(2))
    assert abs(rms_db + 10) < 0.1
    spectrum = np.abs(np.fft.rfft(ours[0] * np.hanning(ours.shape[1])))
    assert abs(np.argmax(spectrum) * target / ours.shape[1] - 1000) <= 1.1


def test_resample_removes_what_would_alias(make_wav):
    out, _ = read_audio(make_wav("t.wav", 1.0, sample_rate=44100, freq_hz=12000), sample_rate=16000)
    assert peak_db(out[:, 1600:-1600]) < -90


def test_resample_edges():
    assert resample(np.full((1, 1), 0.5, np.float32), 96000, 8000).shape == (1, 1)
    stereo = np.stack([np.zeros(4410), np.sin(np.arange(4410) / 20)]).astype(np.float32)
    out = resample(stereo, 44100, 16000)
    assert out.shape == (2, 1600) and not out[0].any() and out.flags.c_contiguous
    assert resample(stereo, 16000, 16000) is stereo


def bad(path, message, **options):
    with pytest.raises(BadAudio, match=message) as error:
        read_audio(path, **options)
    assert str(path) not in str(error.value)
    assert isinstance(error.value, UserError)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "aiff", "au", "w64", "rf64", "caf", "mp3"])
@pytest.mark.parametrize("part", [0.97, 0.5])
def test_truncated_files(make_wav, suffix, part):
    path = make_wav(f"a.{suffix}", 2.0, seed=0)
    assert read_audio(path)[0].shape == (1, 32000)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    bad(path, r"truncated: \d+ (bytes )?of|unreadable: ")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "unreadable"),
        (b"\x00" * 5000, "unreadable"),
        (b"RIFF", "unreadable"),
        (np.random.default_rng(0).bytes(5000), "unreadable"),
        (b"<html>404 not found</html>" * 50, "unreadable"),
    ],
)
def test_garbage(tmp_path, data, message):
    for name in ("x.wav", "x.flac", "x.ogg", "x.mp3"):
        (tmp_path / name).write_bytes(data)
        bad(tmp_path / name, message)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(make_wav, value):
    bad(make_wav("a.wav", audio=np.array([0.1, value, 0.1]), subtype="FLOAT"), "NaN or infinite")
    assert probe(make_wav("b.wav", audio=np.array([0.1, value, 0.1]), subtype="FLOAT")) == (16000, 1, 3)


def test_no_samples_missing_and_folder(make_wav, tmp_path):
    bad(make_wav("a.wav", audio=np.zeros(0)), "empty: 0 samples")
    bad(tmp_path / "gone.wav", "no such file")
    bad(tmp_path, "no such file")


def test_too_long_is_refused_before_it_is_decoded(make_wav, monkeypatch):
    path = make_wav("a.flac", 3.0)
    bad(path, "3 s long, more than the 2 s allowed", max_duration_s=2)
    assert read_audio(path, max_duration_s=3)[0].shape[1] == 48000
    monkeypatch.setattr(soundfile, "read", lambda *_, **__: pytest.fail("decoded"))
    bad(path, "more than the 2 s", max_duration_s=2)
    assert audio_module.MAX_DURATION_S >= 60


def set_sizes(path, riff, data):
    """Overwrite the two sizes in a WAV header."""
    raw = bytearray(path.read_bytes())
    at = raw.index(b"data") + 4
    raw[4:8], raw[at : at + 4] = struct.pack("<I", riff), struct.pack("<I", data)
    path.write_bytes(raw)


@pytest.mark.parametrize(("riff", "data"), [(0xFFFFFFFF, 0xFFFFFFFF), (0x7FFFF024, 0x7FFFF000), (0, 0xFFFFFFFF)])
def test_a_wav_from_a_pipe_is_read(make_wav, riff, data):
    path = make_wav("a.wav", 0.5, seed=1)
    before, _ = read_audio(path)
    set_sizes(path, riff, data)
    np.testing.assert_array_equal(read_audio(path)[0], before)


def test_a_wav_that_promises_more_than_it_has(make_wav):
    path = make_wav("a.wav", 0.5)
    set_sizes(path, 36 + 3200000, 3200000)
    bad(path, "truncated: 16044 bytes of the 3200044")


def test_a_flac_of_unknown_length_is_refused_in_words(make_wav):
    path = make_wav("a.flac", 0.5)
    raw = bytearray(path.read_bytes())
    raw[21] &= 0xF0  # the 36 bits of the number of samples in STREAMINFO
    raw[22:26] = bytes(4)
    path.write_bytes(raw)
    bad(path, "does not tell its length")


def test_a_missing_pad_byte_and_a_tail_are_harmless(make_wav):
    path = make_wav("a.wav", 0.5)
    data = path.read_bytes()
    path.write_bytes(data + b"junk behind the sound")
    assert read_audio(path)[0].shape == (1, 8000)


def test_content_hash(make_wav, tmp_path):
    audio, rate = read_audio(make_wav("a.wav", 0.5, seed=3))
    soundfile.write(tmp_path / "b.flac", audio.T, rate, subtype="PCM_16")
    soundfile.write(tmp_path / "c.wav", audio.T, rate, subtype="FLOAT")
    digest = content_hash(audio, rate)
    assert digest == content_hash(*read_audio(tmp_path / "b.flac")) == content_hash(*read_audio(tmp_path / "c.wav"))
    assert digest != content_hash(audio, 8000)
    assert digest != content_hash(audio[:, :-1], rate)
    assert digest != content_hash(np.repeat(audio, 2, 0), rate)
    assert content_hash(np.full((1, 4), 5.0), rate) == content_hash(np.full((1, 4), 1.0), rate)  # no wrap-around


@pytest.mark.parametrize("length", [1, 3, 10, 11, 20, 25, 30, 101])
def test_windows_cover_every_sample(length):
    audio = np.stack([np.arange(length), -np.arange(length)]).astype(np.float32)
    windows = cut_windows(audio, 10)
    assert windows.shape == (max(1, -(-length // 10)), 2, 10)
    assert set(windows[:, 0].ravel()) == set(audio[0])
    np.testing.assert_array_equal(windows[:, 1], -windows[:, 0])
    if length >= 10:
        np.testing.assert_array_equal(windows[-1, 0], audio[0, -10:])
        assert all((np.diff(window[0]) == 1).all() for window in windows)
    else:
        np.testing.assert_array_equal(windows[0, 0], np.arange(10) % length)


def test_fit_length_and_peak():
    audio = np.ones((2, 5), np.float32)
    assert fit_length(audio, 3).shape == (2, 3)
    assert fit_length(audio, 7).sum() == 10 and fit_length(audio, 7).shape == (2, 7)
    assert peak_db(audio * 0.5) == pytest.approx(-6.0206, abs=1e-3)
    assert peak_db(np.zeros((1, 4))) == float("-inf") == peak_db(np.zeros((1, 0)))


def test_a_16_bit_round_trip_is_exact(tmp_path):
    """Every 16-bit value, from two channels, read and written twice."""
    pcm = np.arange(-32768, 32768, dtype=np.int16).reshape(2, -1)
    soundfile.write(tmp_path / "a.wav", pcm.T, 16000, subtype="PCM_16")
    audio, rate = read_audio(tmp_path / "a.wav", mono=False)
    write_wav(tmp_path / "b.wav", audio, rate)
    written, _ = soundfile.read(tmp_path / "b.wav", dtype="int16")
    np.testing.assert_array_equal(written.T, pcm)
    assert content_hash(audio, rate) == content_hash(*read_audio(tmp_path / "b.wav", mono=False))


def test_write_wav_is_within_half_a_step_and_keeps_the_level(tmp_path):
    audio = np.random.default_rng(0).uniform(-0.99, 0.99, (1, 5000)).astype(np.float32)
    write_wav(tmp_path / "new/a.wav", audio, 22050)
    back, rate = read_audio(tmp_path / "new/a.wav")
    assert rate == 22050 and np.abs(back - audio).max() <= 0.5001 / 32768
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.wav"]
    write_wav(tmp_path / "again.wav", audio, 22050)
    assert (tmp_path / "again.wav").read_bytes() == (tmp_path / "new/a.wav").read_bytes()


def test_too_loud_is_turned_down_not_clipped(tmp_path):
    t = np.arange(16000) / 16000
    write_wav(tmp_path / "a.wav", 3 * np.sin(2 * np.pi * 100 * t)[None], 16000)
    back, _ = read_audio(tmp_path / "a.wav")
    assert np.abs(back[0] - np.sin(2 * np.pi * 100 * t)).max() < 5e-5  # clipping would differ by up to 0.6
    write_wav(tmp_path / "full.wav", np.array([[1.0, -1.0]]), 16000)
    pcm, _ = soundfile.read(tmp_path / "full.wav", dtype="int16")
    assert pcm.tolist() == [32767, -32768]


def test_silence_stays_silence(tmp_path):
    write_wav(tmp_path / "a.wav", np.zeros((1, 800), np.float32), 16000)
    back, _ = read_audio(tmp_path / "a.wav", sample_rate=8000)
    assert back.shape == (1, 400) and not back.any()


@pytest.mark.parametrize("audio", [np.array([[0.1, np.nan]]), np.array([[np.inf]]), np.zeros((1, 0)), np.zeros(5)])
def test_write_wav_refuses(tmp_path, audio):
    with pytest.raises(ValueError, match=r"a\.wav"):
        write_wav(tmp_path / "a.wav", audio, 16000)
    assert list(tmp_path.iterdir()) == []


def test_libraries_are_not_loaded_by_the_foundation(run_script):
    """--help of every stage depends on it."""
    code = "import sys, synthio.cli, synthio.files, synthio.manifest; print([m for m in ('torch', 'pandas', 'numpy', "
    started = time.monotonic()
    done = run_script("-c", code + "'soundfile') if m in sys.modules])")
    assert done.stdout == "[]\n", done.stderr
    assert time.monotonic() - started < 2


def test_only_orphans_of_the_named_files_are_removed(tmp_path):
    for name in (".a.b.12.tmp.wav", ".other.12.tmp.wav", ".odd.tmp.wav", "a.b.wav"):
        (tmp_path / name).write_bytes(b"x")
    remove_orphans([tmp_path / "a.b.wav", tmp_path / "not there" / "c.wav"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".odd.tmp.wav", ".other.12.tmp.wav", "a.b.wav"]
