"""What is heard in a clip by its signal alone: pitch, attacks, level."""

from __future__ import annotations

import numpy as np
import pytest

from synthio.captions.describer import SAMPLE_RATE, describe, pitch_hz


def tone(freq_hz: float, seconds: float = 2.0, level: float = 0.3) -> np.ndarray:
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (level * sum(np.sin(2 * np.pi * k * freq_hz * t) / k for k in (1, 2, 3))).astype(np.float32)


def bursts(count: int, seconds: float = 3.0, level: float = 0.3, noise: float = 0.0) -> np.ndarray:
    """`count` tone bursts of 0.1 s, evenly spaced."""
    rng = np.random.default_rng(0)
    out = noise * rng.standard_normal(round(seconds * SAMPLE_RATE))
    burst = tone(440, 0.1, level) * np.hanning(SAMPLE_RATE // 10)
    for k in range(count):
        start = round((k + 0.3) * len(out) / count)
        out[start : start + len(burst)] += burst
    return out.astype(np.float32)


@pytest.mark.parametrize("freq_hz", [70, 110, 440, 1000])
def test_pitch_of_a_harmonic_tone(freq_hz):
    assert pitch_hz(tone(freq_hz, 0.064)) == pytest.approx(freq_hz, rel=0.05)


def test_a_pitch_of_few_samples_a_period_is_high_at_least():
    assert pitch_hz(tone(2500, 0.064)) > 1000


def test_noise_has_no_pitch():
    rng = np.random.default_rng(0)
    assert [pitch_hz(rng.standard_normal(1024)) for _ in range(20)].count(0.0) >= 19


@pytest.mark.parametrize(
    ("audio", "words"),
    [
        (tone(110), ["low-pitched", "steady"]),
        (tone(1500), ["high-pitched", "steady"]),
        (tone(440, level=0.6), ["loud"]),
        (tone(440, level=0.02), ["quiet"]),
        (bursts(1), ["a single"]),
        (bursts(2), ["two"]),
        (bursts(3), ["three"]),
        (bursts(4), ["several", "slow"]),
        (bursts(14), ["several", "fast"]),
        (bursts(3, noise=0.003), ["three"]),
        (np.random.default_rng(0).standard_normal(32000).astype(np.float32) * 0.1, ["hissing", "steady"]),
        (np.zeros(16000, np.float32), ["silence"]),
    ],
)
def test_a_clip_is_described_by_what_was_put_into_it(audio, words):
    caption = describe(audio)
    assert [word for word in words if word not in caption] == []


def test_what_is_not_there_or_may_be_the_sound_itself_is_not_said():
    assert "background" not in describe(bursts(3))
    assert "background" not in describe(bursts(3, noise=0.003))
    assert "pitched" not in describe(tone(440))
    assert "steady" not in describe(bursts(5))


def test_a_hum_behind_the_sounds_is_heard():
    hum = tone(60, 3.0, 0.01)
    assert describe(bursts(3) + hum).endswith("with a low hum in the background")


@pytest.mark.parametrize("samples", [1, 100, 511, 513, 1600])
def test_the_shortest_clips_have_a_caption_too(samples):
    assert describe(tone(440, 1.0)[:samples]).endswith(("sound", "sounds", "silence"))
