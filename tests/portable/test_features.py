"""What networks read of a sound, against the feature extractors that they were trained with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthio.models.fbank import kaldi_fbank
from synthio.models.sound_classifier import hear
from synthio.portable.features import ClapMel, PortableFbank, Wave, features_of

SAMPLES = (1, 1601, 4800, 24000, 33333)


def sounds(samples: int) -> np.ndarray:
    """Noise, and a loud tone that rises, with an offset: its quiet bands are what float32 would lose; float32 [2, T].

    A tone that stays has bands that hardly change, which are divided by next to nothing: one would see how a library
    rounds.
    """
    noise, place = np.random.default_rng(0).normal(0, 0.1, samples), np.arange(samples)
    return np.stack([noise, 0.2 + 0.7 * np.sin(0.39 * place + 3e-5 * place**2)]).astype(np.float32)


def test_its_filterbank_is_ours():
    """Also of a loud tone, whose quiet bands are what float32 would lose, and of a clip with an offset."""
    seconds = torch.arange(9000) / 16000
    clips = torch.stack([torch.sin(6283 * seconds), 1e-3 * torch.cos(3000 * seconds) + 0.4, torch.zeros(9000)])
    clips[1:2] += 1e-4 * torch.randn(1, 9000, generator=torch.Generator().manual_seed(0))
    expected = kaldi_fbank(clips, 32)
    torch.testing.assert_close(PortableFbank(54, 32)(clips), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(PortableFbank(20, 32)(clips), expected[:, :20], atol=1e-4, rtol=0)
    longer = PortableFbank(70, 32)(clips)
    torch.testing.assert_close(longer[:, :54], expected, atol=1e-4, rtol=0)
    assert not longer[:, 54:].any()  # as training pads


def extractors():
    from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

    return {
        "wave": Wav2Vec2FeatureExtractor(do_normalize=False),
        "normalised wave": Wav2Vec2FeatureExtractor(),
        "normalised wave with a mask": Wav2Vec2FeatureExtractor(return_attention_mask=True),
        "seamless": SeamlessM4TFeatureExtractor(),
        "whisper": WhisperFeatureExtractor(feature_size=20, chunk_length=2),  # which cuts the longest of these sounds
    }


@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize("name", extractors())
def test_each_reads_what_its_feature_extractor_gives(name, samples):
    """1e-3 of features whose deviation is about 1: the library rounds its spectra to float32."""
    extractor, clips = extractors()[name], sounds(samples)
    wanted = torch.stack([hear(extractor, clip) for clip in clips])
    found = features_of(extractor)(torch.from_numpy(clips))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
def test_clap_reads_windows_as_its_feature_extractor_does(truncation):
    from transformers import ClapFeatureExtractor

    extractor = ClapFeatureExtractor(sampling_rate=32000, hop_length=320, max_length_s=1, truncation=truncation)
    windows = sounds(32000)
    wanted = extractor(list(windows), sampling_rate=32000, return_tensors="pt")["input_features"]
    torch.testing.assert_close(ClapMel(extractor)(torch.from_numpy(windows)), wanted[:, :1], atol=2e-3, rtol=0)  # dB


def test_what_is_not_written_or_draws_at_random_is_said_to_be_unknown():
    from transformers import ClapFeatureExtractor, EncodecFeatureExtractor, WhisperFeatureExtractor

    for extractor in (EncodecFeatureExtractor(), ClapFeatureExtractor(), WhisperFeatureExtractor(dither=1e-4)):
        assert features_of(extractor) is None
    assert isinstance(features_of(extractors()["wave"]), Wave)


def test_no_matrix_of_sines_is_kept():
    """It is a function of few numbers, and was 9 MB of each file."""
    from transformers import ClapFeatureExtractor

    for features in (PortableFbank(54, 128), ClapMel(ClapFeatureExtractor())):
        kept = {name: part.numel() * part.element_size() for name, part in features.state_dict().items()}
        filters = kept.pop("mel.filters" if "mel.filters" in kept else "mel.mel.filters")
        assert sum(kept.values()) < 50_000 < filters
