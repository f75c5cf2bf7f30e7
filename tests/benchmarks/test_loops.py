"""Each case does its work once, on both sides, at a tiny size; nothing is timed."""

from __future__ import annotations

import pytest
import soundfile

from synthio.cli import quiet_libraries
from tests.scripts import ROOT, load_script


@pytest.fixture(scope="module")
def loops():
    quiet_libraries()
    return load_script(ROOT / "benchmarks/loops.py")


@pytest.mark.parametrize("side", ["ours", "others"])
@pytest.mark.parametrize("case", ["generation", "alignment", "filter", "classifier"])
def test_the_work_is_done(loops, tmp_path, case, side):
    size = loops.SIZES["tiny"]
    work = getattr(loops.CASES[case], side)(size, "cpu", tmp_path)
    told = work()
    assert told is None or told > (-1 if case == "alignment" else 0)  # there it is a difference of two
    if (case, side) == ("generation", "ours"):
        clips = sorted((tmp_path / "turn_0").glob("*.wav"))
        assert [soundfile.info(clip).frames for clip in clips] == [round(size.clip_s * 44100)] * size.generated


def test_the_embedded_generator_makes_what_its_base_does_in_other_steps(loops, tmp_path):
    size = loops.SIZES["tiny"]
    for side in ("ours", "others"):
        (tmp_path / side).mkdir()
        work = getattr(loops.CASES["embedded"], side)(size, "cpu", tmp_path / side)
        assert work() > 0 and len(list((tmp_path / side / "turn_0").glob("*.wav"))) == size.generated
