"""Channel matching against chains that are known: what was put on the gold clips is found again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import signal

from synthio.generation import channel as module
from synthio.generation.channel import (
    MAX_BOOST_DB,
    MAX_CUT_DB,
    MAX_PEAK,
    QUIETEST_DB,
    channel_of,
    estimate_channel,
    filter_taps,
    fit_filter,
    measure,
    nothing,
    room_response,
)

RATE = 16000


def bursts(count: int, seed: int, seconds: float = 1.5, rate: int = RATE) -> list[np.ndarray]:
    """Bursts of white noise of 0.1 s with gaps of 0.4 s between them, at levels 6 dB apart at most."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    gate = (time % 0.5) < 0.1
    return [rng.standard_normal(len(time)) * gate * 10 ** (rng.uniform(-32, -26) / 20) for _ in range(count)]


def gains_at(channel, frequencies) -> np.ndarray:
    return np.interp(np.log(frequencies), np.log(channel.bands_hz), channel.gains_db)


def levels_at(audio: np.ndarray, frequencies, rate: int = RATE) -> np.ndarray:
    """Power per Hz in dB."""
    found, density = signal.welch(audio, rate, nperseg=2048)
    return 10 * np.log10(np.interp(frequencies, found, density))


def test_a_known_filter_is_found_within_a_decibel():
    low_pass = signal.butter(2, 2000, fs=RATE, output="sos")
    gold = [0.5 * signal.sosfilt(low_pass, clip) for clip in bursts(16, 0)]
    found = estimate_channel(gold, bursts(16, 1), RATE)
    frequencies = np.array([200, 500, 1000, 2000, 3000, 4000])
    _, response = signal.sosfreqz(low_pass, frequencies, fs=RATE)
    assert gains_at(found, frequencies) == pytest.approx(20 * np.log10(0.5 * np.abs(response)), abs=1.5)
    assert not found.room_s and not found.tones


def test_what_is_filtered_has_the_spectrum_of_the_gold_clips():
    low_pass = signal.butter(2, 1500, fs=RATE, output="sos")
    generated = bursts(12, 1)
    gold = [signal.sosfilt(low_pass, clip) for clip in generated]
    found = estimate_channel(gold, generated, RATE)
    matched = [found.apply(clip[None], seed)[0] for seed, clip in enumerate(generated)]
    frequencies = np.array([300, 1000, 2000, 3500])
    wanted, own = (levels_at(np.concatenate(clips), frequencies) for clips in (gold, matched))
    assert own == pytest.approx(wanted, abs=1.5)


def test_a_known_noise_floor_is_found_within_two_decibels():
    rng = np.random.default_rng(2)
    gold = [clip + 0.003 * rng.standard_normal(len(clip)) for clip in bursts(16, 0)]
    found = estimate_channel(gold, bursts(16, 1), RATE)
    noise = found.noise(20 * RATE, seed=3)
    wanted = 10 * np.log10(0.003**2 / (RATE / 2))
    assert levels_at(noise, np.array([200, 1000, 4000])) == pytest.approx(wanted, abs=2)
    assert gains_at(found, np.array([500, 2000])) == pytest.approx(0, abs=1.5)


def test_hum_comes_as_tones_of_its_frequency_and_level():
    time = np.arange(round(1.5 * RATE)) / RATE
    hum = [0.01 * np.sin(2 * np.pi * 100 * time + phase) for phase in range(12)]
    gold = [clip + one for clip, one in zip(bursts(12, 0), hum, strict=True)]
    found = estimate_channel(gold, bursts(12, 1), RATE)
    assert len(found.tones) == 1
    frequency, amplitude = found.tones[0]
    assert frequency == pytest.approx(100, abs=1.5)
    assert 20 * np.log10(amplitude / 0.01) == pytest.approx(0, abs=1)


def test_a_room_is_heard_where_clips_fall_slowly_and_not_where_they_do_not():
    response = room_response(0.5, 0.0, RATE)
    gold = [signal.oaconvolve(clip, response)[: len(clip)] for clip in bursts(16, 0)]
    found = estimate_channel(gold, bursts(16, 1), RATE)
    assert found.room_s in (0.25, 0.5, 0.8)
    assert estimate_channel(bursts(16, 0), bursts(16, 1), RATE).room_s == 0


def test_sets_of_one_kind_stay_as_they_are():
    clips = bursts(12, 0)
    same = estimate_channel(clips, clips, RATE)
    assert same == nothing(RATE)
    audio = np.stack(clips[:2]).astype(np.float32)
    assert same.apply(audio, 0) is audio
    other = estimate_channel(bursts(16, 0), bursts(16, 1), RATE)
    assert np.abs(other.gains_db).mean() < 0.4 and np.abs(other.gains_db).max() < 3
    assert max(other.more_noise_db) == QUIETEST_DB


def test_gains_are_bounded_around_the_level():
    own = np.full((10, 3), 1e-8)
    wanted = own * np.array([1e-4, 1e12, 1e-12])
    gains = fit_filter(wanted, own, np.zeros(3))
    assert gains[1] - gains[0] == pytest.approx(MAX_BOOST_DB)
    assert gains[0] - gains[2] == pytest.approx(MAX_CUT_DB)


def test_a_band_that_is_noise_alone_is_not_raised():
    own, noise = np.full((10, 1), 1e-9), np.array([1e-6])
    assert fit_filter(np.full((10, 1), 1e-6), own, noise)[0] < -20


def test_nothing_clips_and_a_clip_depends_on_its_seed_alone():
    loud = [0.9 * clip / np.abs(clip).max() for clip in bursts(10, 0)]
    found = estimate_channel([5 * clip for clip in loud], [0.01 * clip for clip in loud], RATE)
    heard = found.apply(np.stack([loud[0], loud[0]]).astype(np.float32), 1)
    assert heard.dtype == np.float32 and np.abs(heard).max() <= MAX_PEAK + 1e-6
    noisy = module.replace(nothing(RATE), noise_db=(-80.0,) * 1025, more_noise_db=(-60.0,) * 1025)
    quiet = np.zeros((1, 4000), np.float32)
    assert np.array_equal(noisy.apply(quiet, 1), noisy.apply(quiet, 1))
    assert not np.array_equal(noisy.apply(quiet, 1), noisy.apply(quiet, 2))


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("seconds", [0.06, 0.5])
def test_short_clips_of_any_rate_and_few_of_them(rate, seconds):
    found = estimate_channel([0.3 * x for x in bursts(2, 0, seconds, rate)], bursts(2, 1, seconds, rate), rate)
    heard = found.apply(bursts(1, 2, seconds, rate)[0][None], 0)
    assert heard.shape == (1, round(seconds * rate))
    assert np.isfinite(heard).all()


def test_silent_and_tiny_clips_are_passed_over():
    assert estimate_channel([np.zeros(RATE)] * 5, bursts(5, 1), RATE) == nothing(RATE)
    assert estimate_channel(bursts(1, 0), bursts(5, 1), RATE) == nothing(RATE)
    assert len(measure([np.zeros(RATE), np.ones(10), *bursts(2, 0)], RATE)) == 2


def test_a_channel_survives_json():
    time = np.arange(RATE) / RATE
    gold = [0.5 * clip + 0.01 * np.sin(2 * np.pi * 100 * time) for clip in bursts(6, 0, 1.0)]
    found = estimate_channel(gold, bursts(6, 1, 1.0), RATE)
    assert channel_of(json.loads(json.dumps(found.record()))) == found
    assert "hum at 100 Hz" in found.summary()
    assert nothing(RATE).summary() == "none to be told from theirs"


def test_the_filter_has_the_gains_that_it_was_given_and_comes_after_its_cause():
    bands = tuple(30.0 * 2 ** (k / 3) for k in range(25))
    gains = tuple(6.0 if hz > 1000 else -6.0 for hz in bands)
    taps = filter_taps(bands, gains, RATE)
    _, response = signal.freqz(taps, worN=[400, 3000], fs=RATE)
    assert 20 * np.log10(np.abs(response)) == pytest.approx([-6, 6], abs=0.5)
    assert np.abs(taps).argmax() < 5
