"""What frozen models hear and know, with small ones in the real formats."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import pipeline

from synthio.audio import read_audio, write_wav
from synthio.captions.pools import ZERO_SHOT_TEMPLATES
from synthio.classification.listening import Listener
from synthio.cli import UserError
from synthio.models.ast_model import AstEmbedder, read_own_head
from synthio.models.fbank import SAMPLE_RATE, num_samples
from tests.classification.toy_clips import save_named_ast, save_tiny_ast
from tests.tiny_models import save_clap

NAMES = ["dog_bark", "rain", "siren"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """An AST that names its classes, a CLAP, and clips of 1 s, which is one window of the AST."""
    folder = tmp_path_factory.mktemp("listening")
    save_named_ast(folder / "ast", NAMES)
    save_clap(folder / "clap")
    rng = np.random.default_rng(0)
    for i in range(3):
        write_wav(folder / f"{i}.wav", 0.1 * rng.normal(size=(1, num_samples(100))).astype(np.float32), SAMPLE_RATE)
    return folder


def models(world, *kinds):
    return {kind: str(world / kind) for kind in kinds or ("ast", "clap")}


def test_it_hears_with_both_models_and_asks_asts_own_head(world, tmp_path):
    paths = [str(world / f"{i}.wav") for i in range(3)]
    listener = Listener(models(world), tmp_path, "cpu", batch_size=2)
    heard = listener.hear(paths, "x.csv")
    assert {kind: x.shape for kind, x in heard.items()} == {"ast": (3, 32), "clap": (3, 16), "ast_logits": (3, 3)}
    assert {x.dtype for x in heard.values()} == {np.dtype(np.float32)} and listener.names == NAMES
    np.testing.assert_allclose(np.linalg.norm(heard["clap"], axis=1), 1, rtol=1e-5)
    listen = pipeline("audio-classification", model=str(world / "ast"), top_k=None)
    for path, logits in zip(paths, heard["ast_logits"], strict=True):
        found = {answer["label"]: answer["score"] for answer in listen(read_audio(path, SAMPLE_RATE)[0][0])}
        chances = np.exp(logits) / np.exp(logits).sum()
        assert found == pytest.approx(dict(zip(NAMES, chances, strict=True)), abs=1e-3)


def test_what_was_heard_is_kept_and_no_model_is_loaded_again(world, tmp_path):
    paths = [str(world / f"{i}.wav") for i in range(3)]
    listener = Listener(models(world), tmp_path, "cpu")
    first, read = listener.hear(paths, "x.csv"), listener.label_vectors(["rain", "siren"])
    scale = listener.logit_scale
    again = Listener(models(world), tmp_path, "cpu")
    heard = again.hear(paths[::-1], "x.csv")
    assert all(np.array_equal(heard[kind], first[kind][::-1]) for kind in first)
    assert again.names == NAMES and again.logit_scale == scale
    np.testing.assert_array_equal(again.label_vectors(["siren", "rain"]), read[::-1])
    assert not {"ast", "clap"} & set(vars(again))


def test_an_ast_whose_head_has_no_names_is_not_asked(world, tmp_path):
    path = [str(world / "0.wav")]
    for folder in (save_tiny_ast(tmp_path / "unnamed", head=True), save_tiny_ast(tmp_path / "headless")):
        listener = Listener({"ast": str(folder)}, tmp_path, "cpu")
        assert listener.names == [] and set(listener.hear(path, "x.csv")) == {"ast"}
        assert read_own_head(str(folder)) is None
    listener = Listener(models(world, "clap"), tmp_path, "cpu")
    assert listener.names == [] and set(listener.hear(path, "x.csv")) == {"clap"}


def test_an_own_head_is_a_linear_layer_on_the_normalised_output(world):
    """As `AstEmbedder.name` has it, with the scale and shift of the head's own norm in the weights."""
    x = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    z = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    head = read_own_head(str(world / "ast"))
    assert head.names == NAMES
    np.testing.assert_allclose(z @ head.weight.T + head.bias, AstEmbedder(str(world / "ast")).name(x), atol=1e-4)


def test_a_labels_vector_is_the_mean_of_its_prompts(world, tmp_path):
    listener = Listener(models(world, "clap"), tmp_path, "cpu")
    found = listener.label_vectors(["dog_bark", "rain"])
    assert found.shape == (2, 16) and found.dtype == np.float32 and len(ZERO_SHOT_TEMPLATES) == 6
    for vector, words in zip(found, ("dog bark", "rain"), strict=True):
        mean = listener.clap.embed_text([text.format(words) for text in ZERO_SHOT_TEMPLATES]).mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), rtol=1e-5)
    assert listener.logit_scale == pytest.approx(listener.clap.logit_scale)


def test_a_clip_that_cannot_be_read_is_named(world, tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no sound")
    with pytest.raises(UserError, match=r"t\.csv row 2: .*a\.wav: unreadable"):
        Listener(models(world), tmp_path, "cpu").hear([str(world / "0.wav"), str(tmp_path / "a.wav")], "t.csv")
