"""A stage that is done in a result folder beside this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scripts import ROOT, call_script

STAMP = ROOT / "synthio/pipeline/stamp.py"


def stamp(action, root: Path, gold: Path, *more):
    """A stage of the result root that writes out.csv, which names a clip of its own, and a folder."""
    work = root / "set"
    words = ["--stamp", work / "stamps/a.json", "--inputs", gold, "--outputs", work / "out.csv", work / "model"]
    return call_script(STAMP, action, *words, *more, "--command", "python", ROOT / "merge_csv.py", "--x", "1")


@pytest.fixture
def shared(tmp_path):
    """A result root `a` in which the stage is done, and an empty one `b`."""
    gold = tmp_path / "gold.csv"
    gold.write_text("path,label\n")
    work = tmp_path / "all/a/set"
    (work / "model").mkdir(parents=True)
    (tmp_path / "all/a/set_synthetic").mkdir()
    (tmp_path / "all/a/set_synthetic/1.wav").write_bytes(b"sound")
    (work / "out.csv").write_text("path,label\n../set_synthetic/1.wav,x\n../../../gold.wav,x\n")
    (work / "out.json").write_text('{"rows_in": 2, "rows_out": 2, "rows_dropped": 0}')
    (work / "model/weights").write_bytes(b"1")
    (work / "model_history.csv").write_text("step\n1\n")
    (tmp_path / "gold.wav").write_bytes(b"gold")
    assert stamp("write", tmp_path / "all/a", gold).returncode == 0
    (tmp_path / "all/b").mkdir()
    return tmp_path / "all", gold


def test_a_stage_is_taken_over_from_a_sibling(shared):
    folder, gold = shared
    assert stamp("check", folder / "b", gold).returncode == 3, "not without --siblings"
    asked = stamp("ask", folder / "b", gold, "--siblings")
    assert asked.returncode == 0 and not (folder / "b/set/out.csv").exists(), "a dry run links nothing"
    done = stamp("check", folder / "b", gold, "--siblings")
    assert done.returncode == 0 and done.stdout == "taken over from a\n"
    names = sorted(path.relative_to(folder / "b").as_posix() for path in (folder / "b").rglob("*") if path.is_file())
    names = [name for name in names if "/stamps/" not in name]
    clip = "set_synthetic/1.wav"
    assert names == ["set/model/weights", "set/model_history.csv", "set/out.csv", "set/out.json", clip]
    assert (folder / "b" / clip).samefile(folder / "a" / clip)
    again = stamp("check", folder / "b", gold)
    assert again.returncode == 0 and again.stdout == "2 rows in, 2 out\n"


def test_a_dry_run_needs_no_folder_of_results(shared):
    folder, gold = shared
    asked = stamp("ask", folder / "not/there yet", gold, "--siblings")
    assert asked.returncode == 3 and not asked.stderr


@pytest.mark.parametrize("change", ["input", "output", "clip"])
def test_what_is_not_the_same_is_not_taken_over(shared, change):
    folder, gold = shared
    path = {"input": gold, "output": folder / "a/set/model/weights", "clip": folder / "a/set_synthetic/1.wav"}[change]
    path.write_bytes(path.read_bytes() + b"\n")
    assert stamp("check", folder / "b", gold, "--siblings").returncode == 3
