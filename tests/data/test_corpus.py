"""Sounds without labels: what is wrong with them is told before a stage with a model needs them."""

from __future__ import annotations

import pytest

from synthio.data import corpus
from synthio.data.corpus import check_sounds
from synthio.data.problems import Findings
from tests.scripts import ROOT, call_script


def found(**given):
    findings = Findings()
    check_sounds({name: str(value) for name, value in given.items()}, findings)
    return findings.lines(), findings.warnings


@pytest.fixture
def sounds(make_wav, tmp_path):
    """A folder of three sounds, a damaged one and a text; list.csv names two sounds, the damaged and a missing one."""
    for i in range(3):
        make_wav(f"s/{i}.wav", 0.2, seed=i)
    (tmp_path / "s/bad.wav").write_bytes(bytes(100))
    (tmp_path / "s/note.txt").write_text("hello")
    (tmp_path / "list.csv").write_text("path\ns/0.wav\ns/1.wav\ns/bad.wav\ns/gone.wav\n")
    return tmp_path


def test_a_corpus_has_to_be_whole_and_of_others_some_can_be_missing(sounds):
    lines, warnings = found(retrieval_csv=sounds / "list.csv")
    assert len(lines) == 2 and not warnings
    assert "list.csv row 4: " in lines[0] and "gone.wav: no such file; get it, or remove it" in lines[0]
    assert "list.csv row 3: " in lines[1] and lines[1].endswith("repair or remove it")
    lines, warnings = found(other_csv=sounds / "s")
    assert not lines and len(warnings) == 1 and "1 sound of 4 cannot be used and will be left out" in warnings[0]


def test_lists_that_hold_nothing(sounds):
    for name in ("empty", "deaf"):
        (sounds / name).mkdir()
    (sounds / "empty/note.txt").write_text("hello")
    (sounds / "deaf/a.wav").write_bytes(bytes(100))
    (sounds / "header.csv").write_text("path\n")
    (sounds / "binary.csv").write_bytes(b"path\n\0\1\2")
    (sounds / "other.csv").write_text("name,label\na.wav,dog\n")
    for name, said in {
        "empty": "no sounds there",
        "deaf": "none of its sounds can be used",
        "header.csv": "no sounds there",
        "binary.csv": "holds a zero byte",
        "other.csv": "no column 'path'",
    }.items():
        (line,), warnings = found(other_csv=sounds / name)
        assert line.startswith("--other_csv: ") and name in line and said in line and not warnings


def test_many_sounds_are_sampled(sounds, monkeypatch):
    """Of four, the first and the third: the damaged one is the last."""
    assert len(found(retrieval_csv=sounds / "s")[0]) == 1
    monkeypatch.setattr(corpus, "MAX_LISTENED", 2)
    assert found(retrieval_csv=sounds / "s") == ([], [])


def test_stage_0_tells_it_with_all_else(sounds, make_wav, make_manifest):
    csvs = []
    for k, split in enumerate(("train", "valid", "test")):
        rows = [(make_wav(f"a/{split}{i}.wav", 0.2, seed=100 * k + i + 10), "dog cat".split()[i % 2]) for i in range(4)]
        csvs += [f"--{split}_csv", make_manifest(f"{split}.csv", rows)]
    script = ROOT / "synthio/data/check_inputs.py"
    done = call_script(script, *csvs, "--output_folder", sounds / "out", "--retrieval_csv", sounds / "list.csv")
    assert done.returncode == 2 and "gone.wav: no such file" in done.stderr and "row 3" in done.stderr
    assert not (sounds / "out/train.csv").exists()
    done = call_script(script, *csvs, "--output_folder", sounds / "out", "--other_csv", sounds / "s")
    assert done.returncode == 0 and "will be left out" in done.stderr
