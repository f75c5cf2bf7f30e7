"""Embeddings of clips: what they are, and what is kept of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import ASTFeatureExtractor, ASTForAudioClassification

from synthio.classification import embeddings
from synthio.cli import UserError
from synthio.models.ast_model import AstEmbedder
from synthio.models.fbank import SAMPLE_RATE, num_samples
from tests.classification.toy_clips import save_tiny_ast, save_tones


def test_ast_embeddings_are_the_pooled_output(tmp_path):
    """Of one window, with the folder's own normalisation; a short clip is repeated, a long one averaged."""
    folder = save_tiny_ast(tmp_path / "ast", head=True)
    ASTFeatureExtractor(max_length=100, num_mel_bins=32, mean=-6.0, std=3.0).save_pretrained(folder)
    embedder = AstEmbedder(str(folder))
    samples = num_samples(100)
    clip = 0.1 * np.random.default_rng(0).normal(size=(1, samples)).astype(np.float32)
    model = ASTForAudioClassification.from_pretrained(folder, dtype=torch.float32).eval()
    inputs = ASTFeatureExtractor.from_pretrained(folder)(clip[0], sampling_rate=SAMPLE_RATE, return_tensors="pt")
    with torch.no_grad():
        expected = model.audio_spectrogram_transformer(**inputs).pooler_output[0].numpy()
    half = clip[:, : samples // 2]
    found = embedder.embed_audio([clip, half, np.tile(half, 2), np.concatenate([clip, clip], axis=1)])
    np.testing.assert_allclose(found[0], expected, atol=1e-3)
    np.testing.assert_allclose(found[1], found[2], atol=1e-4)
    np.testing.assert_allclose(found[3], found[0], atol=1e-4)
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_each_clip_is_heard_once_whatever_names_it(tmp_path):
    heard = []
    save_tones(tmp_path, "train", 5, 0)

    class Listener:
        sample_rate = 16000

        def embed_audio(self, clips):
            heard.extend(len(clip[0]) for clip in clips)
            return np.array([[len(clip[0]), 1.0] for clip in clips], np.float32)

    paths = [str(path) for path in sorted((tmp_path / "train").glob("*.wav"))]
    copy = tmp_path / "copy.wav"
    copy.write_bytes((tmp_path / "train/0.wav").read_bytes())
    cache = embeddings.EmbeddingCache(tmp_path, "x", "model")
    first = embeddings.embed_clips(cache, Listener, [*paths, str(copy), paths[0]], "a.csv", 2)
    assert len(heard) == 5 and first[5].tolist() == first[0].tolist() == first[6].tolist()
    again = embeddings.EmbeddingCache(tmp_path, "x", "model")
    np.testing.assert_array_equal(embeddings.embed_clips(again, Listener, paths[::-1], "b.csv", 2), first[:5][::-1])
    assert len(heard) == 5
    other = embeddings.EmbeddingCache(tmp_path, "x", "other model")
    assert not other.vectors and other.path != cache.path


@pytest.mark.parametrize("damage", [lambda raw: raw[:-7], lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), lambda raw: b""])
def test_a_damaged_cache_is_not_used(tmp_path, damage):
    cache = embeddings.EmbeddingCache(tmp_path, "x", "model")
    cache.vectors = {"ab" * 32: np.arange(3.0, dtype=np.float32)}
    cache.save()
    assert embeddings.EmbeddingCache(tmp_path, "x", "model").vectors["ab" * 32].tolist() == [0, 1, 2]
    cache.path.write_bytes(damage(cache.path.read_bytes()))
    assert embeddings.EmbeddingCache(tmp_path, "x", "model").vectors == {}


def test_a_clip_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no sound")
    cache = embeddings.EmbeddingCache(tmp_path, "x", "model")

    class Listener:
        sample_rate = 16000

    with pytest.raises(UserError, match=r"t\.csv row 1: .*a\.wav: unreadable"):
        embeddings.embed_clips(cache, Listener, [str(tmp_path / "a.wav")], "t.csv", 4)
