"""The file that a cell means, where it does not name it exactly."""

from __future__ import annotations

import unicodedata

import pytest

from synthio.data.find_clips import find_clip


@pytest.fixture
def folder(tmp_path):
    for name in ("a/One.wav", "a/two.flac", "a/two.wav", "a/three.ogg", "Ä/größe.wav"):
        path = tmp_path / unicodedata.normalize("NFD", name)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("a/One.wav", "a/One.wav"),
        (" a/One.wav ", "a/One.wav"),
        ("a\\One.wav", "a/One.wav"),
        (".\\a\\One.wav", "a/One.wav"),
        ("A/one.WAV", "a/One.wav"),
        ("a/three", "a/three.ogg"),
        ("a/three.wav", "a/three.ogg"),
        ("a/two", None),  # two files are alike
        ("a/two.wav", "a/two.wav"),
        ("a", None),
        ("", None),
        ("a/\0", None),
        ("x" * 300, None),
        ("b/One.wav", None),
    ],
)
def test_what_a_cell_means(folder, cell, found):
    assert find_clip(cell, folder) == (found and str(folder / found))


def test_unicode_forms_addresses_and_homes(folder, monkeypatch):
    want = str(folder / unicodedata.normalize("NFD", "Ä/größe.wav"))
    assert find_clip(unicodedata.normalize("NFC", "Ä/größe.wav"), folder) == want
    assert find_clip((folder / "a/One.wav").as_uri(), "/") == str(folder / "a/One.wav")
    monkeypatch.setenv("HOME", str(folder))
    assert find_clip("~/a/One.wav", "/") == str(folder / "a/One.wav")
    assert find_clip("~nobody-at-all/a.wav", folder) is None
