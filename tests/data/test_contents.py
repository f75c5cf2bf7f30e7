"""Clips that are not what their CSV was written with are named, and only those that changed are read."""

from __future__ import annotations

import os
import shutil
import time

import numpy as np
import pandas as pd
import pytest
import soundfile

from synthio.audio import content_hash, read_audio
from synthio.cli import UserError
from synthio.data import contents
from synthio.data.contents import check_contents, has_content, noted_contents
from synthio.manifest import read_manifest, write_manifest


@pytest.fixture
def csv(make_wav, tmp_path):
    """A CSV of ours with two clips: the hash of the first is that of its channels, of the second that of its mean."""
    made = [make_wav(f"{name}.wav", seconds=0.2, channels=2, seed=i) for i, name in enumerate("ab")]
    audio, rate = read_audio(made[0], mono=False)
    mean, _ = read_audio(made[1])
    hashes = [content_hash(audio, rate), content_hash(mean, rate)]
    table = pd.DataFrame({"path": list(map(str, made)), "label": ["x", "y"], "sha256": hashes})
    write_manifest(table, tmp_path / "made.csv", rows_in=2)
    return tmp_path / "made.csv"


def check(csv) -> None:
    check_contents(read_manifest(csv), csv)


def damage(path) -> None:
    data = bytearray(path.read_bytes())
    data[1000:3000] = os.urandom(2000)
    path.write_bytes(data)


def test_whole_clips_pass_and_need_not_be_read(csv, monkeypatch):
    check(csv)
    monkeypatch.setattr(contents, "has_content", lambda *_: pytest.fail("nothing changed"))
    check(csv)
    os.link(csv.parent / "a.wav", csv.parent / "second name.wav")  # as an exported dataset has it
    check(csv)


@pytest.mark.parametrize("name", ["a.wav", "b.wav"])
def test_a_damaged_clip_is_named(csv, name):
    damage(csv.parent / name)
    row = 1 + (name == "b.wav")
    with pytest.raises(
        UserError, match=rf"made\.csv row {row}: .*{name} is another sound .* Run again what wrote made\.csv"
    ):
        check(csv)


def test_a_clip_with_an_old_time_is_noticed(csv):
    """cp -p and rsync -t keep the time of the copied file."""
    before = (csv.parent / "a.wav").stat()
    damage(csv.parent / "a.wav")
    os.utime(csv.parent / "a.wav", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UserError, match=r"a\.wav is another sound"):
        check(csv)


def test_a_copy_of_all_is_read_and_passes(csv, tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy") / "there"
    shutil.copytree(csv.parent, folder, copy_function=shutil.copyfile)
    time.sleep(0.01)
    for path in folder.glob("*.wav"):
        os.utime(path)
    check(folder / "made.csv")
    audio, rate = soundfile.read(folder / "a.wav")
    soundfile.write(folder / "a.wav", np.roll(audio, 1), rate)
    with pytest.raises(UserError, match=r"a\.wav is another sound"):
        check(folder / "made.csv")


def test_a_hash_of_the_users_own_is_none_of_ours(csv):
    csv.with_suffix(".json").unlink()
    damage(csv.parent / "a.wav")
    check(csv)


def test_what_an_earlier_call_noted(csv, capsys):
    noted = noted_contents(csv)
    assert [has_content(path, digest) for path, digest in noted.items()] == [True, True]
    damage(csv.parent / "a.wav")
    assert [has_content(path, digest) for path, digest in noted.items()] == [False, True]
    assert noted_contents(csv.parent / "absent.csv") == {} and capsys.readouterr().err == ""
    csv.write_bytes(b"\xff")
    assert noted_contents(csv) == {}
    assert capsys.readouterr().err.startswith(f"{csv}: no table of clips with their sounds' hashes; ")
