"""When a step is up to date, and the reason when it is not."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from synthio.files import sha256_file
from synthio.pipeline.stamp import LARGE_FILE_BYTES, content
from tests.scripts import ROOT, call_script

STAMP = ROOT / "synthio/pipeline/stamp.py"


@pytest.fixture
def stage(tmp_path):
    """A stage that copies a.csv to b.csv: script, input, output and a function that asks or writes its stamp."""
    script, source, made = tmp_path / "copy.py", tmp_path / "a.csv", tmp_path / "b.csv"
    (tmp_path / "x.wav").write_bytes(b"sound")
    script.write_text("pass\n")
    for path in (source, made):
        path.write_text("path,label\nx.wav,a\n")

    def stamp(action, *extra, watch=False, inputs=(source,), python="python"):
        words = [action, "--stamp", tmp_path / "s.json", "--inputs", *inputs, "--outputs", made]
        words += ["--watch_audio", source] if watch else []
        return call_script(
            STAMP, *words, "--command", python, script, "--input_csv", source, "--output_csv", made, *extra
        )

    stamp.folder = tmp_path
    return stamp


def test_a_stamp_stands_until_something_changes(stage):
    first = stage("check", "--n", 1)
    assert (first.returncode, first.stdout) == (3, "not done yet\n")
    assert stage("write", "--n", 1).returncode == 0
    assert stage("check", "--n", 1).returncode == 0
    assert stage("check", "--n", 1, "--device", "cpu", python="other/python").returncode == 0
    changed = stage("ask", "--n", 2)
    assert (changed.returncode, changed.stdout) == (3, "changed: --n 2\n")
    assert stage("ask", "--n", 1).returncode == 0


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.csv", "path,label\nx.wav,b\n", "a.csv changed"),
        ("b.csv", "path,label\nx.wav,b\n", "b.csv is not what was written"),
        ("copy.py", "fail\n", "copy.py changed"),
        ("x.wav", "sound, longer", "b.csv names a clip that is not what was written"),
        ("x.wav", "SOUND", "b.csv names a clip that is not what was written"),
        ("b.json", "{", "b.json is not what was written"),
        ("b.dropped.csv", "path,label,reason\n", "b.dropped.csv is not what was written"),
        *[
            ("s.json", text, "s.json is damaged")
            for text in ("{", "", "[]", '{"key": 1}', '{"key": {}, "outputs": []}')
        ],
    ],
)
def test_a_stamp_sees_each_change(stage, name, text, reason):
    stage("check")
    stage("write")
    (stage.folder / name).write_text(text)
    done = stage("ask")
    assert done.returncode == 3 and reason in done.stdout


def test_damaged_parts_of_a_stamp_are_no_crash_and_never_up_to_date(stage):
    (stage.folder / "b.json").write_text('{"rows_in": 1, "rows_out": 1, "rows_dropped": 0}')
    stage("check")
    stage("write")
    assert stage("ask").stdout == "1 rows in, 1 out\n"
    whole = json.loads((stage.folder / "s.json").read_text())
    others = ("", 1, None, [], {}, [1], {"a": 1}, [[]], {"command": [], "inputs": [], "clips": [], "script": ""})
    for part in whole:
        for other in others:
            (stage.folder / "s.json").write_text(json.dumps(whole | {part: other}))
            done = stage("ask")
            # without the note of what it loaded, no change of it could be seen; an empty one is that of this stage
            assert done.returncode == 3 or (part in ("code", "libraries") and other == {}), (part, other, done)
            assert "Traceback" not in done.stderr
    (stage.folder / "s.json").write_text(json.dumps(whole))
    for other in ('{"a": 1}', '{"a": ["b", 7]}', "[]", "{"):
        (stage.folder / "folders.json").write_text(other)
        assert stage("ask").returncode == 0
    for other in ("{", "{}", "[]"):  # a record that is no more: the stage writes it again
        (stage.folder / "b.json").write_text(other)
        assert "b.json is not what was written" in stage("check").stdout
    (stage.folder / "s.begun").write_text('{"inputs": 1}')
    assert stage("write").returncode == 0 and stage("ask").returncode == 0
    for data in (b"path\n\xff\n", b"path\nx\0.wav\n", b'path\n"x'):
        (stage.folder / "b.csv").write_bytes(data)
        assert "b.csv is not what was written" in stage("ask").stdout


def test_a_copied_result_folder_is_up_to_date(stage, tmp_path_factory):
    """Its clips have other inodes and times: they are read again, and are the same."""
    stage("check")
    stage("write")
    folder = tmp_path_factory.mktemp("copied") / "there"
    shutil.copytree(stage.folder, folder, copy_function=shutil.copyfile)
    words = ["--stamp", folder / "s.json", "--inputs", folder / "a.csv", "--outputs", folder / "b.csv", "--command"]
    words += ["python", folder / "copy.py", "--input_csv", folder / "a.csv", "--output_csv", folder / "b.csv"]
    assert call_script(STAMP, "ask", *words).returncode == 0
    (folder / "x.wav").write_bytes(b"SOUND")
    assert "names a clip that is not what was written" in call_script(STAMP, "ask", *words).stdout


def test_a_stamp_sees_missing_outputs_and_clips(stage):
    stage("check")
    stage("write")
    (stage.folder / "x.wav").unlink()
    assert "lacks a clip" in stage("ask").stdout
    (stage.folder / "b.csv").unlink()
    assert "b.csv is missing" in stage("ask").stdout
    failed = stage("write")
    assert failed.returncode == 2 and "did not write" in failed.stderr


def test_watched_clips_count_even_when_their_size_stays(stage):
    stage("check", watch=True)
    stage("write", watch=True)
    assert stage("ask", watch=True).returncode == 0
    before = (stage.folder / "x.wav").stat()
    os.utime(stage.folder / "x.wav", (1, 1))
    assert stage("ask", watch=True).returncode == 0  # a copy, or touched: the same sound
    (stage.folder / "x.wav").write_bytes(b"SOUND")
    os.utime(stage.folder / "x.wav", ns=(before.st_atime_ns, before.st_mtime_ns))  # as cp -p leaves it
    assert "its clips changed" in stage("ask", watch=True).stdout


def test_an_input_that_changes_while_the_stage_runs_counts_as_changed(stage):
    stage("check")
    (stage.folder / "a.csv").write_text("path,label\nx.wav,new\n")
    stage("write")
    assert "a.csv changed" in stage("ask").stdout


def test_folders_and_hub_ids_are_inputs(stage):
    model = stage.folder / "model"
    (model / "part").mkdir(parents=True)
    (model / "part/weights").write_text("1")
    inputs = (model, "owner/model")
    stage("check", inputs=inputs)
    stage("write", inputs=inputs)
    assert stage("check", inputs=inputs).returncode == 0
    (model / "part/weights").write_text("22")
    assert "model changed" in stage("ask", inputs=inputs).stdout
    (model / "part/weights").write_text("1")
    assert stage("ask", inputs=inputs).returncode == 0
    assert "changed" in stage("ask", inputs=(model, "owner/other")).stdout


def test_a_large_file_is_read_again_only_when_it_changed(tmp_path):
    path, cache = tmp_path / "weights.bin", {}
    with path.open("wb") as stream:
        stream.truncate(LARGE_FILE_BYTES)
    assert content(str(path), cache) == sha256_file(path)
    cache[str(path)][1] = "as it was read"
    assert content(str(path), cache) == "as it was read"
    with path.open("r+b") as stream:
        stream.write(b"x")
    assert content(str(path), cache) == sha256_file(path)


def test_results_may_be_moved(stage, tmp_path_factory):
    stage("check")
    stage("write")
    folder = tmp_path_factory.mktemp("moved") / "there"
    shutil.move(stage.folder, folder)
    words = ["--stamp", folder / "s.json", "--inputs", folder / "a.csv", "--outputs", folder / "b.csv", "--command"]
    words += ["python", folder / "copy.py", "--input_csv", folder / "a.csv", "--output_csv", folder / "b.csv"]
    assert call_script(STAMP, "ask", *words).returncode == 0


def test_of_a_table_the_records_and_clips_count_too(stage):
    table = stage.folder / "t.csv"
    table.write_text("path,label\nx.wav,a\n")
    words = ["--stamp", stage.folder / "s.end", "--outputs", stage.folder / "b.csv", "--tables", table]

    def stamp(action):
        return call_script(STAMP, action, *words, "--command", "python", "-m", "synthio.some", table)

    stamp("check")
    assert stamp("write").returncode == 0 and stamp("ask").returncode == 0
    table.with_suffix(".json").write_text("{}")
    done = stamp("ask")
    assert done.returncode == 3 and "t.csv changed" in done.stdout
    table.with_suffix(".json").unlink()
    assert stamp("ask").returncode == 0
    (stage.folder / "x.wav").write_bytes(b"SOUND")
    assert "t.csv changed" in stamp("ask").stdout
