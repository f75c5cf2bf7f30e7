"""What the filter hears of a clip: whether it can be used, and how near it is to its label."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from synthio.filtering.hearing import FULL_SCALE, Heard, load_clip, score


def test_a_clip_is_refused_by_its_share_of_clipped_samples(make_wav):
    """100 of 1600 samples are at full scale."""
    audio = np.full(1600, 0.5) * np.resize([1, -1], 1600)
    audio[:100] = 1.0
    path = str(make_wav("a.wav", audio=audio, subtype="FLOAT"))
    mono, rate, reason = load_clip(path, max_clipped=100 / 1600)
    assert (mono.shape, rate, reason) == ((1, 1600), 16000, "")
    assert load_clip(path, max_clipped=99 / 1600)[::2] == (None, "clipped: 6.2 % of the samples are at full scale")
    assert FULL_SCALE < 32767 / 32768


def test_a_constant_is_silence_and_stereo_is_heard_as_its_mean(make_wav):
    path = str(make_wav("a.wav", audio=np.full(1600, 0.25), subtype="FLOAT"))
    assert load_clip(path, 1.0)[2].startswith("silent: peak ")
    channels = np.stack([np.resize([0.5, -0.5], 1600), np.zeros(1600)], axis=1)
    mono, _, reason = load_clip(str(make_wav("b.wav", audio=channels, subtype="FLOAT")), 1.0)
    assert reason == "" and np.abs(mono).max() == pytest.approx(0.25)


class Scorer:
    """Every label but rain is up."""

    logit_scale, logit_bias = 2.0, 0.0

    def score_text(self, texts):
        self.asked = texts
        return np.array([[1.0, 0.0] if "rain" in text else [0.0, 1.0] for text in texts])


def test_scores_are_the_cosine_and_its_probability_and_unusable_clips_have_none():
    table = pd.DataFrame({"path": ["a", "b", "c"], "label": ["rain", "dog_bark", "rain"]})
    heard = [Heard(np.array([0.6, 0.8]), None, ""), Heard(np.array([0.6, 0.8]), None, ""), Heard(None, None, "silent")]
    scorer = Scorer()
    scored = score(table, heard, scorer)
    assert scorer.asked == ["Sound of a dog bark", "Sound of a rain"]
    assert list(scored["clap_score"]) == ["0.600000", "0.800000", ""]
    chances = [1 / (1 + math.exp(-2 * cosine)) for cosine in (0.6, 0.8)]
    assert list(scored["clap_probability"]) == [f"{chance:.6f}" for chance in chances] + [""]
    assert list(scored["reason"]) == ["", "", "silent"] and list(scored["path"]) == ["a", "b", "c"]
    scorer.logit_bias = -1.0
    chances = [1 / (1 + math.exp(1 - 2 * product)) for product in (0.6, 0.8)]
    assert list(score(table, heard, scorer)["clap_probability"]) == [f"{chance:.6f}" for chance in chances] + [""]
