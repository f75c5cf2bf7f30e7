"""Atomic files, stable seeds, hashes."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from synthio import files
from synthio.errors import UserError
from synthio.files import (
    ABANDONED_S,
    atomic_path,
    fingerprint,
    is_temporary,
    link,
    machine,
    read_object,
    sha256_file,
    sha256_value,
    stable_seed,
    sweep,
    temporary_name,
    write_text,
)
from tests.faults_tools import kill_at, small_disk

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
    left = [p.name for p in tmp_path.iterdir() if p != path]
    assert len(left) == 1 and re.fullmatch(rf"\.result\.{machine()}-{process.pid}-\w{{8}}\.tmp\.csv", left[0])
    write_text(path, "new")
    sweep([tmp_path])
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


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


@pytest.fixture
def dead_process() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_living_writer_writes_is_left_alone(tmp_path, dead_process):
    mine = temporary_name(tmp_path / "a.b.wav")
    dead = tmp_path / f".a.b.{machine()}-{dead_process}-01234567.tmp.wav"
    elsewhere = tmp_path / f".a.b.{'0' * 8}-{os.getpid()}-01234567.tmp.wav"
    earlier, others = tmp_path / f".a.{dead_process}.tmp.csv", [tmp_path / name for name in (".odd.tmp.wav", "a.b.wav")]
    living = tmp_path / f".a.{os.getpid()}.tmp.csv"
    for path in (mine, dead, elsewhere, earlier, living, *others):
        path.write_bytes(b"x")
    sweep([tmp_path, tmp_path / "not there"])
    assert sorted(tmp_path.iterdir()) == sorted([mine, elsewhere, living, *others])  # written a moment ago


def test_what_nobody_touched_for_a_day_is_left_behind(tmp_path, monkeypatch):
    elsewhere, earlier = tmp_path / f".a.{'0' * 8}-{os.getpid()}-01234567.tmp.csv", tmp_path / ".a.1.tmp.csv"
    folder = tmp_path / "deep/.adapter.a1b2c3d4"
    folder.mkdir(parents=True)
    for path in (elsewhere, earlier, folder / "weights", tmp_path / ".a.csv"):
        path.write_bytes(b"x")
    now = time.time()
    monkeypatch.setattr(files.time, "time", lambda: now + 2 * ABANDONED_S)
    sweep([tmp_path])
    assert sorted(tmp_path.iterdir()) == [tmp_path / ".a.csv", tmp_path / "deep"] and folder.exists()
    sweep([tmp_path], deep=True)
    assert list(folder.parent.iterdir()) == []


def test_two_writers_of_one_process_do_not_meet(tmp_path):
    path = tmp_path / "a.csv"
    with atomic_path(path) as first, atomic_path(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]  # the outer one ends last


def test_a_long_name_leaves_room_for_that_of_the_temporary_file(tmp_path):
    path = tmp_path / ("ö" * 120 + ".csv")
    write_text(path, "x")
    assert path.read_text() == "x"


REPLACING = """
import sys
from pathlib import Path
from synthio.files import atomic_folder, sweep
sweep([Path(sys.argv[1]).parent])
with atomic_folder(sys.argv[1]) as folder:
    (folder / "new").write_text("new")
"""


@pytest.mark.parametrize("calls", range(1, 4))
def test_a_folder_is_the_old_or_the_new_one_whenever_its_writer_is_killed(tmp_path, run_script, calls):
    path = tmp_path / "dataset"
    path.mkdir()
    (path / "old").write_text("old")
    at = {1: ("rename", "before", 1), 2: ("rename", "after", 1), 3: ("rename", "after", 2)}[calls]
    killed = run_script("-c", REPLACING, path, env=kill_at(tmp_path / "kill", at[0], "*dataset*", at[2], at[1]))
    assert killed.returncode == -signal.SIGKILL
    if calls == 2:
        assert not path.exists()
        sweep([tmp_path])
    assert [p.name for p in path.iterdir()] == [{1: "old", 2: "old", 3: "new"}[calls]]
    assert run_script("-c", REPLACING, path).returncode == 0
    assert [p.name for p in path.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir() if is_temporary(p)] == []


def test_a_full_disk_is_named_with_the_file(tmp_path):
    """A library says it in words of its own, or not at all: libsndfile's are 'System error.'."""
    with small_disk(tmp_path / "disk", 256 * 1024) as disk:
        with pytest.raises(OSError) as caught, atomic_path(disk / "a.bin") as temporary, temporary.open("wb") as stream:
            try:
                stream.write(bytes(1 << 20))
                stream.flush()
            except OSError:
                raise RuntimeError("System error.") from None
        assert caught.value.errno in (errno.ENOSPC, errno.EFBIG) and caught.value.filename == str(disk / "a.bin")
        assert list(disk.iterdir()) == []


@pytest.mark.parametrize("text", ["{", "", "\x00", '{"a": 1}', "[1]", "[" * 99999])
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=r"a\.json: damaged.*run again what made it"):
        read_object(tmp_path / "a.json", "b")


def test_a_link_to_a_link_is_the_file(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far/a.wav").write_bytes(b"sound")
    (tmp_path / "a.wav").symlink_to("far/a.wav")
    link(tmp_path / "a.wav", tmp_path / "near/b.wav")
    assert not (tmp_path / "near/b.wav").is_symlink() and (tmp_path / "near/b.wav").read_bytes() == b"sound"
