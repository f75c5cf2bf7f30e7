"""Encoders that hear and are not fine-tuned: small random ones, saved by the library."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import EmbeddingGemma2Model, Gemma4AudioFeatureExtractor, PeAudioFeatureExtractor, PeAudioModel

from synthio.cli import UserError
from synthio.models.frozen_encoder import FrozenEncoder, library_class
from synthio.models.load import load_embedder
from synthio.models.strict import check_finite
from tests.tiny_classifiers import save_embedding_gemma, save_pe_audio

RATE = 16000


def noise(*seconds: float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(1, round(second * RATE))).astype(np.float32) for second in seconds]


def test_pe_audio_is_the_mean_of_its_encoder(tmp_path):
    folder = str(save_pe_audio(tmp_path / "pe"))
    clips = noise(0.5, 0.31, 0.5)
    found = load_embedder(folder).embed_audio(clips)
    model, extractor = PeAudioModel.from_pretrained(folder).eval(), PeAudioFeatureExtractor.from_pretrained(folder)
    for clip, vector in zip(clips, found, strict=True):
        inputs = extractor(clip[0], sampling_rate=RATE, return_tensors="pt")
        with torch.no_grad():
            expected = model.audio_encoder(**inputs).last_hidden_state[0].mean(dim=0)
        np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_the_tower_of_embedding_gemma_is_the_mean_of_what_it_hears(tmp_path):
    """Padding of the extractor, which comes in steps of 8 ms, has no part in it."""
    folder = str(save_embedding_gemma(tmp_path / "gemma"))
    clips = noise(0.51, 1.0, 0.05)
    found = load_embedder(folder).embed_audio(clips)
    model, extractor = EmbeddingGemma2Model.from_pretrained(folder).eval(), Gemma4AudioFeatureExtractor()
    for clip, vector in zip(clips[:2], found, strict=False):
        with torch.no_grad():
            out = model.get_audio_features(**extractor([clip[0]], return_tensors="pt"))
        expected = out.last_hidden_state[0][out.attention_mask[0]].mean(dim=0)
        np.testing.assert_allclose(vector, expected, atol=1e-5)
    assert np.isfinite(found).all()


def test_what_does_not_hear_or_is_not_there_is_told(tmp_path):
    folder = str(save_embedding_gemma(tmp_path / "gemma", has_tower=False))
    with pytest.raises(UserError, match=r"gemma': has no audio tower \(no audio_config\); name one that hears"):
        FrozenEncoder(folder)
    with pytest.raises(
        UserError, match=r"transformers 5\..* has no PeOldModel; \.venv has a newer one: use that Python"
    ):
        library_class("PeOldModel")


def test_limits_may_be_infinite_but_are_numbers():
    check_finite({"layer.input_max": torch.tensor(torch.inf)}, "m")
    for state in ({"layer.input_max": torch.tensor(torch.nan)}, {"layer.weight": torch.tensor(-torch.inf)}):
        with pytest.raises(UserError, match="m: 1 of its weights hold NaN or infinity: layer"):
            check_finite(state, "m")
