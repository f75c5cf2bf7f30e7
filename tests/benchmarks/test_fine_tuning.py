"""The benchmark of fine-tuning: clips are cut before anything hears them, and what is done is not done again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile

from synthio.manifest import read_manifest
from tests.classification.test_scored import save
from tests.scripts import ROOT, load_script


@pytest.fixture(scope="module")
def benchmark():
    return load_script(ROOT / "benchmarks/fine_tuning.py")


def test_clips_are_cut_to_their_first_seconds(benchmark, tmp_path, make_wav, make_manifest):
    make_wav("long.wav", 1.0, seed=0), make_wav("short.wav", 0.1, seed=1)
    table = read_manifest(make_manifest("a.csv", [("long.wav", "x"), ("short.wav", "y")]))
    benchmark.cut_clips(table, 0.25, tmp_path / "cut", tmp_path / "cut.csv")
    made = read_manifest(tmp_path / "cut.csv")
    assert list(made["label"]) == ["x", "y"]
    heard = [soundfile.read(path)[0] for path in made["path"]]
    assert [len(audio) for audio in heard] == [4000, 1600]
    assert heard[0] == pytest.approx(soundfile.read(tmp_path / "long.wav")[0][:4000], abs=1e-6)
    benchmark.cut_clips(table, 0, tmp_path / "cut", tmp_path / "whole.csv")
    assert list(read_manifest(tmp_path / "whole.csv")["path"]) == list(table["path"])


def test_a_draw_that_is_done_is_not_done_again(benchmark, tmp_path):
    """Its scores are read; neither the split nor the models are there."""
    args = SimpleNamespace(
        work=tmp_path, num_samples=5, ast_model="none", clap_model="none", cache_folder="none", device="cpu"
    )
    work = tmp_path / "split_n5_seed1_0.5s"
    (work / "heads").mkdir(parents=True)
    save(work / "ast", {0, 1})
    save(work / "heads/probe_ast", {0, 1, 2, 3})
    ast, probe, gain = benchmark.measure(args, Path("/nowhere/split"), 1, 0.5)
    assert (ast, probe, gain.difference) == (0.75, 0.5, 0.25)
