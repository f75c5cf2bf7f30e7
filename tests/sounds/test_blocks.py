"""Building blocks of sounds, held to their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from synthio.sounds import blocks
from synthio.sounds.blocks import SAMPLE_RATE


def power(x) -> np.ndarray:
    return np.abs(np.fft.rfft(x)) ** 2


def peak_hz(x) -> float:
    return float(np.argmax(power(x))) * SAMPLE_RATE / len(x)


def test_an_envelope_falls_by_60_db_in_its_time():
    fall = blocks.decay(SAMPLE_RATE, 0.5, attack_s=0.1)
    assert fall[SAMPLE_RATE // 10] == pytest.approx(1)
    assert fall[SAMPLE_RATE // 20] == pytest.approx(0.5 * 1)
    assert 20 * np.log10(fall[SAMPLE_RATE * 6 // 10]) == pytest.approx(-60)


def test_a_hump_rises_and_falls_in_its_shares():
    hump = blocks.hump(1000, 0.2, 0.3)
    assert hump[0] == 0 and hump[100] == pytest.approx(0.5)  # half a cosine, half way
    assert (hump[200:700] == 1).all() and hump[850] == pytest.approx(0.5)


@pytest.mark.parametrize("tilt", [0.0, 0.5, 1.0])
def test_the_power_of_noise_falls_by_6_db_an_octave_times_the_tilt(tilt):
    x = blocks.make_noise(np.random.default_rng(0), 1 << 17, tilt)
    f, p = np.fft.rfftfreq(len(x), 1 / SAMPLE_RATE), power(x)
    bands = [10 * np.log10(p[(f >= low) & (f < 2 * low)].mean()) for low in (250, 500, 1000, 2000)]
    # of 4000 values each, whose mean has a standard error of 0.07 dB at the most
    assert np.diff(bands) == pytest.approx([-20 * np.log10(2) * tilt] * 3, abs=0.5)
    assert x.std() == pytest.approx(1, abs=0.01)


def test_a_tone_has_its_partials_and_none_above_half_the_sample_rate():
    audio = blocks.tone(np.full(SAMPLE_RATE, 3000.0), harmonics=5, rolloff=2.0)
    spectrum = np.abs(np.fft.rfft(audio)) / SAMPLE_RATE * 2
    assert spectrum[3000] == pytest.approx(1, abs=1e-6) and spectrum[6000] == pytest.approx(1 / 4, abs=1e-6)
    assert np.delete(spectrum, [3000, 6000]).max() < 1e-6


def test_a_resonator_rings_at_its_centre():
    x = blocks.resonate(np.random.default_rng(0).standard_normal(1 << 16), [1500], [20])
    assert peak_hz(x) == pytest.approx(1500, abs=20)  # within its bandwidth


def test_modes_above_half_the_sample_rate_are_silent():
    rng = np.random.default_rng(0)
    assert peak_hz(blocks.modes(rng, SAMPLE_RATE, 500, [2], 5.0, 0.0)) == pytest.approx(1000, abs=2)
    assert not blocks.modes(rng, SAMPLE_RATE, 5000, [2], 5.0, 0.0).any()


def test_sounds_are_placed_and_cut_at_the_end():
    one = np.array([1.0, 2.0, 3.0])
    assert blocks.place_at(6, [0, 2, 5, 6, -1], [one] * 5).tolist() == [1, 2, 4, 2, 3, 1]


def test_what_repeats_comes_each_period():
    x, count = blocks.repeat(np.random.default_rng(0), SAMPLE_RATE, 0.25, 0.0, lambda rng, k: np.ones(1), first_s=0.1)
    assert np.flatnonzero(x).tolist() == [blocks.samples(s) - 1 for s in (0.1, 0.35, 0.6, 0.85)]
    assert count == 4


def test_few_sounds_do_not_overlap():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, count = blocks.few(rng, 4 * SAMPLE_RATE, 1, 3, 0.5, lambda rng, k: np.ones(blocks.samples(0.5)))
        assert 1 <= count <= 3 and x.max() == 1


def test_words_by_hand():
    assert [blocks.height_word(f, 100, 400) for f in (100, 200, 400)] == ["low-pitched", "", "high-pitched"]
    assert [blocks.pace_word(rate, 2, 3) for rate in (1, 2.5, 4)] == ["slow", "", "fast"]
    assert [blocks.count_word(count) for count in (1, 2, 3, 9)] == ["single", "two", "three", "several"]
    assert np.sqrt(np.mean(blocks.unit(np.array([3.0, -4.0])) ** 2)) == pytest.approx(1)
