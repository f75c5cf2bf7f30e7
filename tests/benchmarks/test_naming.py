"""The benchmark of what is heard besides a label: its clips, its measure by hand, and a call."""

from __future__ import annotations

import numpy as np
import pytest

from tests.scripts import ROOT, call_script, load_script

SCRIPT = ROOT / "benchmarks/naming.py"


@pytest.fixture(scope="module")
def benchmark():
    return load_script(SCRIPT)


def test_every_other_clip_holds_more_than_its_label(benchmark):
    clips = benchmark.procedural(12, 1)
    assert all(heard == {label} for _, label, heard in clips[::2])
    more = [label in heard and len(heard) > 1 for _, label, heard in clips[1::2]]
    assert sum(more) >= 4, "but for scenes without a sound of their own, such as a hum"
    again = benchmark.procedural(12, 1)
    assert all(np.array_equal(a, b) for (a, _, _), (b, _, _) in zip(clips, again, strict=True))


def test_real_clips_are_mixed_at_the_level_that_is_drawn(benchmark, make_wav, make_manifest):
    make_wav("a.wav", 1.0, seed=1), make_wav("b.wav", 0.4, seed=2)
    csv = str(make_manifest("real.csv", [("a.wav", "x"), ("b.wav", "y")]))
    clips = benchmark.real(csv, 8, 0)
    assert [heard for _, _, heard in clips][1::2] == [{"x", "y"}] * 4 and all(len(c[2]) == 1 for c in clips[::2])
    assert {len(audio) for audio, _, _ in clips} <= {16000, 6400}


def test_a_precision_and_what_it_names_by_hand(benchmark):
    """Of 12 clips with b besides a, 10 score b high; c is not there, and scores above two of them."""
    scores = np.zeros((12, 3))
    scores[:, 0] = 1  # the label, which is not asked for
    scores[:10, 1], scores[10:, 1] = 0.9, 0.1
    scores[:, 2] = 0.0
    scores[:5, 2] = 0.5
    found = benchmark.named(scores, ["a", "b", "c"], ["a"] * 12, [{"a", "b"}] * 12)
    assert found[0.7] == (17, 1.0), "12 of 17 are right"
    assert found[0.5] == (24, 1.0)
    scores[:10, 1] = 0.0
    assert benchmark.named(scores, ["a", "b", "c"], ["a"] * 12, [{"a", "b"}] * 12)[0.7] == (0, 0.0)


def test_the_script_prints_a_line_for_each_way():
    done = call_script(SCRIPT, "--clips", "4", "--seed", "3")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("4 clips, ") and [line.split("  ")[0] for line in lines[1:]] == [
        "whole",
        "windows",
        "windows and CLAP",
    ]
