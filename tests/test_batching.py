"""Batches that memory does not hold: halved, with the same results, on real small models that claim to be larger."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from synthio import pairs
from synthio.batching import Halving
from synthio.cli import UserError
from synthio.embeddings import EmbeddingCache, embed_clips
from synthio.manifest import read_manifest, read_table
from synthio.models import load_scorer
from synthio.models.audio_llm import AudioLlm
from synthio.models.clap import ClapScorer
from synthio.models.diffusers_audio import DiffusersTextToAudio
from tests.scripts import call_script
from tests.tiny_audio_llms import SAVERS
from tests.tiny_models import save_clap, save_text_to_audio

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_text_to_audio(folder / "flow")
    save_clap(folder / "clap")
    SAVERS["qwen2_audio"](folder / "listener")
    return folder


@pytest.fixture
def clips(make_wav, make_manifest, tmp_path):
    """Seven clips with a prompt each."""
    paths = [make_wav(f"{k}.wav", 0.3 + 0.1 * k, seed=k) for k in range(7)]
    rows = [(path, "dog", "sound of a dog", str(k), path) for k, path in enumerate(paths)]
    make_manifest("clips.csv", rows, ("path", "label", "prompt", "seed", "source_path"))
    return tmp_path


def limit(monkeypatch, kind: type, method: str, most: int) -> list[int]:
    """Let a method run out of memory above `most` rows of its first argument; the sizes that it was called with."""
    whole, sizes = getattr(kind, method), []

    def limited(self, rows, *args):
        sizes.append(len(rows))
        if len(rows) > most:
            raise torch.cuda.OutOfMemoryError(f"tried to allocate {len(rows)} rows")
        return whole(self, rows, *args)

    monkeypatch.setattr(kind, method, limited)
    return sizes


def generated(clips, folders, name, *words, ok=True):
    files = ["--input_csv", clips / "clips.csv", "--output_csv", clips / f"{name}.csv", "--output_folder", clips / name]
    numbers = ["--num_steps", 2, "--cfg_scale", 2, "--device", "cpu", *words]
    done = call_script(ROOT / "stable-audio-tools/generate.py", *files, "--model", folders / "flow", *numbers)
    assert (done.returncode == 0) == ok, done.stderr
    return done.stderr


def test_generation_goes_on_in_halves_with_the_same_clips(clips, folders, monkeypatch):
    generated(clips, folders, "whole")
    sizes = limit(monkeypatch, DiffusersTextToAudio, "predict", 5)  # guidance doubles the rows: two clips at once
    log = generated(clips, folders, "halves")
    assert sizes[:4] == [14, 6, 2, 2] and set(sizes[4:]) == {2}
    assert "no memory for 7 clips at once: going on with 3" in log and "going on with 1" in log
    assert "7 clips, 7 of them generated now" in log
    whole, halves = (read_table(clips / f"{name}.csv")["path"] for name in ("whole", "halves"))
    for one, other in zip(whole, halves, strict=True):
        np.testing.assert_allclose(soundfile.read(clips / one)[0], soundfile.read(clips / other)[0], atol=2 / 2**15)


def test_a_clip_that_does_not_fit_alone_ends_the_run(clips, folders, monkeypatch):
    limit(monkeypatch, DiffusersTextToAudio, "decode", 0)
    log = generated(clips, folders, "none", ok=False)
    assert "the device has no memory for a single clip; use a smaller model" in log


def test_scores_embeddings_and_filter_are_those_of_whole_batches(clips, folders, monkeypatch):
    table = read_manifest(clips / "clips.csv")

    def everything(name):
        kept = clips / f"{name}_kept.csv"
        words = ["--input_csv", clips / "clips.csv", "--kept_csv", kept, "--rejected_csv", clips / f"{name}_no.csv"]
        done = call_script(ROOT / "filter_audios.py", *words, "--model", folders / "clap", "--threshold", 0)
        assert done.returncode == 0, done.stderr
        cache = EmbeddingCache(clips / name, "clap", str(folders / "clap"))
        vectors = embed_clips(cache, lambda: load_scorer(str(folders / "clap")), table["path"], "clips.csv", 4)
        scores = pairs.clap_scores(table, str(folders / "clap"), "cpu", clips / f"{name}_scores.csv")
        return [float(score) for score in read_table(kept)["clap_score"]], vectors, scores

    whole = everything("whole")
    sizes = limit(monkeypatch, ClapScorer, "embed_audio", 2)
    halves = everything("halves")
    assert max(sizes) == 7 and 1 in sizes
    for one, other in zip(whole, halves, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


def test_captions_are_those_of_whole_batches(clips, folders, monkeypatch):
    def captions(name):
        words = ["--input_csv", clips / "clips.csv", "--output_csv", clips / name, "--captioner", folders / "listener"]
        done = call_script(ROOT / "gama_csv_inf.py", *words, "--max_new_tokens", 6, "--device", "cpu")
        assert done.returncode == 0, done.stderr
        return list(read_table(clips / name)["caption"])

    whole = captions("whole.csv")
    sizes = limit(monkeypatch, AudioLlm, "describe", 2)
    assert captions("halves.csv") == whole and sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]


def test_the_size_that_fitted_is_kept_for_the_next_batch():
    tried = []

    def squares(part):
        tried.append(len(part))
        if len(part) > 3:
            raise torch.cuda.OutOfMemoryError
        return np.square(part)

    fitting = Halving(8)
    assert fitting.run(squares, list(range(8))) == [0, 1, 4, 9, 16, 25, 36, 49]
    assert fitting.run(squares, [3, 4]) == [9, 16] and fitting.run(squares, []) == []
    assert (tried, fitting.size) == ([8, 4, 2, 2, 2, 2, 2], 2)


def test_other_errors_are_not_taken_for_full_memory():
    def broken(part):
        raise RuntimeError("a matrix of another shape")

    with pytest.raises(RuntimeError, match="another shape"):
        Halving(4).run(broken, [1, 2])
    with pytest.raises(UserError, match="no memory for a single window"):
        Halving(1, "window").run(limited_to_none, [1, 2])


def limited_to_none(part):
    raise torch.cuda.OutOfMemoryError
