"""Kaldi's filterbank: transformers' own numbers, and its edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import ASTFeatureExtractor

from synthio.models.fbank import kaldi_fbank, num_frames, num_samples
from tests.classification.toy_clips import RATE


def test_fbank_equals_transformers():
    rng = np.random.default_rng(0)
    seconds = np.arange(9000) / RATE
    tone = np.sin(2 * np.pi * 1000 * seconds)
    sounds = np.stack([0.1 * rng.normal(size=9000), tone, np.zeros(9000), 1e-4 * rng.normal(size=9000) + 0.3])
    sounds = sounds.astype(np.float32)
    for bins in (128, 32):
        extractor = ASTFeatureExtractor(do_normalize=False, max_length=num_frames(9000), num_mel_bins=bins)
        expected = np.stack(extractor(list(sounds), sampling_rate=RATE)["input_values"])
        found = kaldi_fbank(torch.from_numpy(sounds), bins).numpy()
        assert found.shape == expected.shape == (4, 54, bins)
        np.testing.assert_allclose(found, expected, atol=2e-3)  # of 16: the quiet clip is rounding noise


def test_fbank_edges():
    assert kaldi_fbank(torch.zeros(2, 399)).shape == (2, 0, 128)
    assert [num_frames(n) for n in (0, 399, 400, 559, 560)] == [0, 0, 1, 1, 2]
    assert all(num_frames(num_samples(n)) == n > num_frames(num_samples(n) - 1) for n in (1, 2, 54))
    sound = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(kaldi_fbank(sound), kaldi_fbank(sound + 0.5), atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match=r"\[B, T\]"):
        kaldi_fbank(torch.zeros(400))
