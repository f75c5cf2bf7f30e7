"""Blocks for sounds in the open and from throats, held to their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from synthio.sounds import nature
from synthio.sounds.blocks import SAMPLE_RATE


def test_a_contour_goes_through_its_values_and_never_past_them():
    curve = nature.contour(101, (0, 0.5, 1), (1, 3, 2))
    assert curve[[0, 50, 100]] == pytest.approx([1, 3, 2])
    assert curve.max() <= 3 + 1e-9 and curve.min() >= 1 - 1e-9


def test_impacts_come_at_their_rate_and_in_clusters():
    rng = np.random.default_rng(0)
    plain = nature.bursts(rng, 60 * SAMPLE_RATE, 50, 0.0, 1.0)
    clustered = nature.bursts(rng, 60 * SAMPLE_RATE, 50, 1.5, 1.0)
    assert len(plain) == pytest.approx(3000, abs=5 * 3000**0.5)  # Poisson
    counts = [np.bincount(at // SAMPLE_RATE, minlength=60) for at in (plain, clustered)]
    assert counts[0].var() / counts[0].mean() < 2 < counts[1].var() / counts[1].mean()


def test_levels_follow_a_power_law():
    """Of shape 2 a share of 1 / 4 is above 2; the standard error of 20000 draws is 0.003."""
    levels = nature.pareto(np.random.default_rng(0), 20000, 2, 10)
    assert levels.min() >= 1 and levels.max() == 10
    assert np.mean(levels > 2) == pytest.approx(0.25, abs=0.015)


def test_a_grain_rings_and_dies():
    x = nature.make_grains(np.random.default_rng(0), SAMPLE_RATE, np.array([100]), np.array([1.0]), 999, 1001, 0.1, 1)
    assert not x[:100].any()
    assert np.argmax(np.abs(np.fft.rfft(x))) == pytest.approx(1000, abs=15)
    assert np.abs(x[100 + int(0.2 * SAMPLE_RATE) :]).max() < 1e-3 * np.abs(x).max()  # 60 dB in at most 0.16 s


def test_there_is_a_pulse_each_turn():
    angle = 10 * np.arange(SAMPLE_RATE) / SAMPLE_RATE + 0.5
    pulses = nature.strokes(np.random.default_rng(0), angle, 0.0)
    assert pulses.sum() == pytest.approx(10)
    centres = np.flatnonzero(pulses)
    assert np.ptp(np.diff(centres[:: len(centres) // 10])) <= 1 or len(centres) > 10
    weaker = nature.strokes(np.random.default_rng(0), angle, 0.0, alternate=0.5)
    assert weaker.sum() == pytest.approx(7.5)


def test_formants_pass_what_is_near_them():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(4 * SAMPLE_RATE)
    power = np.abs(np.fft.rfft(nature.through_formants(noise, [1000], [100], floor=0.01))) ** 2
    f = np.fft.rfftfreq(len(noise), 1 / SAMPLE_RATE)
    near, far = (power[np.abs(f - centre) < 50].mean() for centre in (1000, 4000))
    # a gain of 1 + 0.01 against 0.01 + 1 / sqrt(1 + 60 ** 2): 31 dB
    assert 10 * np.log10(near / far) == pytest.approx(31, abs=3)


def test_a_voice_has_the_pitch_of_its_curve():
    voice = nature.cords(np.random.default_rng(0), np.full(2 * SAMPLE_RATE, 200.0), breath=0.0)
    spectrum = np.abs(np.fft.rfft(voice))
    assert np.argmax(spectrum[100:800]) / 2 + 50 == pytest.approx(200, abs=8) or spectrum[400] > spectrum[300]
    assert np.sqrt(np.mean(voice**2)) == pytest.approx(1, abs=0.01)


def test_steady_pressure_is_taken_out():
    assert np.abs(nature.settle(np.ones(SAMPLE_RATE))[-100:]).max() < 1e-9


def test_what_is_far_is_duller():
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE)

    def share_above_4_khz(metres):
        power = np.abs(np.fft.rfft(nature.from_afar(noise, metres))) ** 2
        return power[4000:].sum() / power.sum()

    assert share_above_4_khz(20) > share_above_4_khz(100) > share_above_4_khz(500)


def test_sounds_in_turn_keep_their_gaps():
    sounds, second = [np.ones(100), np.ones(50)], 0.01
    x, count = nature.in_turn(np.random.default_rng(0), 2000, sounds, [second, second], lead=0.0)
    assert np.flatnonzero(x).tolist() == [*range(100), *range(100 + 160, 100 + 160 + 50)] and count == 2
