"""Frozen models as networks: the embeddings that heads were fitted to, of clips of every length."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthio.cli import UserError
from synthio.models.load import load_embedder, load_scorer
from synthio.portable.ears import ear_of
from tests.classification.toy_clips import save_named_ast
from tests.tiny_classifiers import save_pe_audio, save_tiny_classifier
from tests.tiny_models import save_clap

SECONDS = (0.01, 0.3, 1.0, 2.5, 5.0, 10.0, 12.0)


def check(model, tolerance=2e-5):
    """Both say the same of two clips of each length, alone and together. In float32, as the models compute."""
    ear, rng = ear_of(model, "x").eval(), np.random.default_rng(0)
    with torch.inference_mode():
        for seconds in SECONDS:
            clips = rng.normal(0, 0.1, (2, round(seconds * model.sample_rate))).astype(np.float32)
            wanted = model.embed_audio([clip[None] for clip in clips])
            np.testing.assert_allclose(ear(torch.from_numpy(clips)).numpy(), wanted, atol=tolerance)
            np.testing.assert_allclose(ear(torch.from_numpy(clips[:1])).numpy(), wanted[:1], atol=tolerance)
        if getattr(model, "names", None):
            named = ear.name(torch.from_numpy(wanted)).numpy()
            np.testing.assert_allclose(named, model.name(wanted), atol=tolerance)
    return ear


def test_ast(tmp_path):
    save_named_ast(tmp_path, ["a", "b", "c"])
    check(load_embedder(str(tmp_path)))


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2-bert", "whisper"])
def test_other_networks(tmp_path, kind):
    """Whisper's hidden states are of 30 s, of which those of the clip count."""
    check(load_embedder(str(save_tiny_classifier(tmp_path, kind, ["a", "b"]))), 2e-4)


def test_clap(tmp_path):
    check(load_scorer(str(save_clap(tmp_path))))


def test_a_clap_with_fusion_stays_what_it_is(tmp_path):
    """Its export asks no more which windows are longer than its input, and the loaded model goes on asking."""
    model = load_scorer(str(save_clap(tmp_path, fusion=True)))
    check(model)
    assert model.module.audio_model.audio_encoder.enable_fusion
    check(model)


def test_another_model_is_refused_with_those_that_work(tmp_path):
    with pytest.raises(UserError, match=r"x: how this model hears is not exported; what is: AST and CLAP"):
        ear_of(load_scorer(str(save_pe_audio(tmp_path))), "x")
