"""The network that is exported: the saved model's own probabilities, for clips of every length."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthio.classification.portable import PortableAst, PortableFbank
from synthio.classification.saved import load_classifier
from synthio.classification.windows import Span
from synthio.models.fbank import kaldi_fbank
from tests.classification.listeners import save_ast


def test_its_filterbank_is_ours():
    """Also of a loud tone, whose quiet bands are what float32 would lose, and of a clip with an offset."""
    seconds = torch.arange(9000) / 16000
    sounds = torch.stack([torch.sin(6283 * seconds), 1e-3 * torch.cos(3000 * seconds) + 0.4, torch.zeros(9000)])
    sounds[1:2] += 1e-4 * torch.randn(1, 9000, generator=torch.Generator().manual_seed(0))
    expected = kaldi_fbank(sounds, 32)
    torch.testing.assert_close(PortableFbank(54, 32)(sounds), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(PortableFbank(20, 32)(sounds), expected[:, :20], atol=1e-4, rtol=0)
    longer = PortableFbank(70, 32)(sounds)
    torch.testing.assert_close(longer[:, :54], expected, atol=1e-4, rtol=0)
    assert not longer[:, 54:].any()  # as training pads


@pytest.mark.parametrize("multi_label", [False, True])
def test_it_says_what_the_saved_model_says(tmp_path, multi_label):
    classifier = load_classifier(save_ast(tmp_path, tmp_path / "run", multi_label))
    network = PortableAst(classifier.model, classifier.norm, multi_label).eval()
    rng = np.random.default_rng(0)
    for samples in (1, 399, 400, 559, 560, 4800, 16160, 16240, 40000):
        clip = rng.normal(0, 0.1, samples).astype(np.float32)
        wanted = classifier.score(Span(0, {16000: clip}, [0], classifier.window))
        with torch.inference_mode():
            found = network(torch.from_numpy(clip)[None])
        np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)
        assert (wanted.sum() == pytest.approx(1)) != multi_label
