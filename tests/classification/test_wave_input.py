"""How a network that is no AST hears clips."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthio.classification.wave_input import WaveInput
from tests.tiny_classifiers import extractor_of

RATE = 16000


def noise(*seconds: float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=round(second * RATE)).astype(np.float32) for second in seconds]


@pytest.mark.parametrize("kind", ["hubert", "whisper", "wav2vec2-bert"])
def test_a_clip_is_heard_as_its_extractor_has_it(kind):
    """All of it, whatever the length of training clips; frames that are masked are not there."""
    extractor = extractor_of(kind, "layer")
    norm = WaveInput(extractor, samples=100)
    (clip,) = noise(1.005)  # 99 frames: the pair of the last one is masked
    heard = norm.hear(clip)
    out = extractor(clip, sampling_rate=RATE, return_tensors="pt")
    expected = out[extractor.model_input_names[0]][0]
    if kind == "wav2vec2-bert":
        assert out["attention_mask"][0].tolist() == [1] * 49 + [0]
        expected = expected[:49]
    torch.testing.assert_close(heard, expected)
    assert norm.sample_rate == RATE and norm.least == 1600


def test_a_changed_training_clip_is_cut():
    norm = WaveInput(extractor_of("hubert"), samples=RATE // 2)
    assert [len(clip) for clip in norm.changed(noise(0.2, 0.7))] == [3200, 8000]
    assert norm.record() == {"feature_extractor": "Wav2Vec2FeatureExtractor", "training_s": 0.5}


def test_mixup_blends_sounds_and_targets_alike():
    extractor = extractor_of("hubert")
    extractor.do_normalize = False
    norm = WaveInput(extractor, samples=RATE)
    waveforms = [np.full(size, value, np.float32) for value, size in ((1.0, 4000), (2.0, 8000), (3.0, 6000))]
    batch = (norm.fill([]), torch.eye(3), torch.tensor([1.0, 2.0, 3.0]))
    features, targets, weights = norm.mixed(0.5, np.random.default_rng(3), waveforms, batch)
    assert [len(clip) for clip in features] == [4000, 8000, 6000]
    values = torch.tensor([1.0, 2.0, 3.0])
    for clip, target, weight in zip(features, targets, weights, strict=True):
        assert clip[0].item() == pytest.approx(float(target @ values), rel=1e-5)
        assert weight.item() == pytest.approx(clip[0].item(), rel=1e-5) and target.sum().item() == pytest.approx(1)
    assert any(target.max() < 0.999 for target in targets)
