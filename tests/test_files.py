"""Atomic files, stable seeds, hashes."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys

import pytest

from synthio.files import (
    atomic_path,
    fingerprint,
    remove_orphans,
    sha256_file,
    sha256_value,
    stable_seed,
    write_text,
)

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


def test_only_orphans_of_the_named_files_are_removed(tmp_path):
    for name in (".a.b.12.tmp.wav", ".other.12.tmp.wav", ".odd.tmp.wav", "a.b.wav"):
        (tmp_path / name).write_bytes(b"x")
    remove_orphans([tmp_path / "a.b.wav", tmp_path / "not there" / "c.wav"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".odd.tmp.wav", ".other.12.tmp.wav", "a.b.wav"]
