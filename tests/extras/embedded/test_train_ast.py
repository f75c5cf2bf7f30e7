"""The recipe of the embedded AST: pieces of clips, padding, statistics and its teacher."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.extras.embedded.recipes import HERE
from tests.scripts import call_script, load_script


@pytest.fixture
def recipe():
    return load_script(HERE / "train_ast.py")


def test_pieces_are_of_the_clip_and_of_all_lengths(recipe):
    """Half as long as the input, a quarter the clip as it is, a quarter shorter, down to 0.3 s."""
    mels = np.repeat(np.arange(recipe.FRAMES, dtype=np.float16)[:, None], recipe.BANDS, axis=1)
    rng, lengths = np.random.default_rng(0), []
    for _ in range(600):
        piece = recipe.sounding_piece(mels, 120, 304, rng)
        assert piece.dtype == np.float32 and piece.shape[1] == recipe.BANDS
        assert set(np.diff(piece[:, 0])) <= {1, 1 - recipe.FRAMES}  # of the clip, from anywhere in it
        lengths.append(len(piece))
    shares = [np.mean(np.array(lengths) == length) for length in (304, 120)]
    assert shares == [pytest.approx(0.5, abs=0.06), pytest.approx(0.25, abs=0.06)]
    assert recipe.SHORTEST_SOUND <= min(lengths) < 40 and max(lengths) == 304
    assert {len(recipe.sounding_piece(mels, 400, 96, rng)) for _ in range(50)} <= set(range(28, 97))


def test_short_sounds_are_filled_up_as_the_extractor_does_it(recipe):
    """0 before it normalises: a sound of 0.5 s in an input of 5 s."""
    from transformers import ASTFeatureExtractor

    waveform = 0.1 * np.random.default_rng(0).normal(size=8000).astype(np.float32)
    extractor = ASTFeatureExtractor.from_pretrained(HERE / "weights/ast")
    expected = extractor(waveform, sampling_rate=16000, return_tensors="pt")["input_values"]
    sounding = recipe.fbank(waveform[None], "cpu")[0]
    found = (recipe.padded([sounding], recipe.FRAMES) - extractor.mean) / (2 * extractor.std)
    assert len(sounding) == 48 and found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=3e-4, rtol=0)


def test_clips_of_a_batch_keep_their_lengths_up_to_that_of_the_input(recipe):
    a, b = np.ones((3, recipe.BANDS), np.float32), np.full((5, recipe.BANDS), 2, np.float32)
    out = recipe.padded([a, b], 5)
    assert out[:, :, 0].tolist() == [[1, 1, 1, 0, 0], [2, 2, 2, 2, 2]]
    again = recipe.repeated([np.arange(3, dtype=np.float32)[:, None].repeat(recipe.BANDS, 1)])
    assert again.shape == (1, recipe.FRAMES, recipe.BANDS) and again[0, :7, 0].tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_statistics_are_of_the_sound_not_of_what_fills_it_up(recipe):
    rng = np.random.default_rng(0)
    clips = [torch.from_numpy(rng.normal(size=(length, 4)).astype(np.float32)) for length in (30, 70)]
    found = recipe.describe(clips)
    for row, clip in zip(found, clips, strict=True):
        x = clip.numpy().astype(float)
        parts = [x.mean(0), x.std(0, ddof=1), np.diff(x, axis=0).std(0, ddof=1), *np.quantile(x, [0.1, 0.9], axis=0)]
        np.testing.assert_allclose(row, np.concatenate(parts), atol=1e-5)


def test_a_draw_has_sounds_their_input_length_and_their_events(recipe, corpus, tmp_path):
    from corpus import Corpus

    clips = Corpus(corpus)
    names = sorted({name for cell in clips.table["events"] for name in cell.split(";")})
    matrix = recipe.label_matrix(clips, names)
    mels = recipe.encode_corpus(clips, tmp_path / "mels.npy", "cpu")
    lengths = set()
    for seed in range(4):
        sounding, frames, labels = recipe.draw(clips, mels, matrix, np.random.default_rng(seed), 16)
        assert len(sounding) == len(labels) == 16 and max(map(len, sounding)) == frames <= recipe.FRAMES
        assert all(np.isfinite(mel).all() and mel.dtype == np.float32 for mel in sounding)
        np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)
        lengths |= set(map(len, sounding))
    assert min(lengths) < 100


def run_ast(corpus, output, *words):
    options = ["--cache", corpus, "--scratch", output / "scratch", "--output", output, "--device", "cpu"]
    return call_script(HERE / "train_ast.py", *options, "--steps", 1, "--batch_size", 4, *words)


def test_a_training_goes_on_from_another_ast(corpus, tmp_path):
    """With its labels, its normalisation and its weights; another corpus than its own is refused."""
    assert run_ast(corpus, tmp_path / "first").returncode == 0
    done = run_ast(corpus, tmp_path / "second", "--init", tmp_path / "first", "--learning_rate", 1e-12)
    assert done.returncode == 0, done.stderr
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    texts = [(tmp_path / name / "preprocessor_config.json").read_text() for name in ("first", "second")]
    assert texts[0] == texts[1]
    refused = run_ast(corpus, tmp_path / "third", "--init", HERE / "weights/ast")
    assert refused.returncode == 2 and "its labels are not those of" in refused.stderr


def test_a_teacher_is_one_more_loss(corpus, tmp_path):
    """The weights are others than those without it, after the same steps on the same clips."""
    found = []
    for name, words in (("alone", []), ("taught", ["--teacher", HERE / "weights/ast"])):
        done = run_ast(corpus, tmp_path / name, "--steps", 2, *words)
        assert done.returncode == 0, done.stderr
        found.append(load_file(tmp_path / name / "model.safetensors"))
    assert not all(torch.equal(found[0][name], found[1][name]) for name in found[0])
