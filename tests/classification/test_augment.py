"""Augmented waveforms, SupCon, and training with both."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from synthio.classification import augment
from synthio.classification import training as classifier
from synthio.models.fbank import kaldi_fbank, num_samples
from tests.classification.toy_clips import save_problem, train

RATE = 16000


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Model and train, valid, test CSVs of tones."""
    return save_problem(tmp_path_factory.mktemp("tones"), {"train": 12, "valid": 6, "test": 6})


def sound(freq_hz: float = 1000.0, samples: int = RATE) -> np.ndarray:
    return (0.1 * np.sin(2 * np.pi * freq_hz * np.arange(samples) / RATE)).astype(np.float32)


def loudest_hz(audio: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
    return float(np.argmax(spectrum) * RATE / len(audio))


def power_db(audio: np.ndarray) -> float:
    return 10 * math.log10(np.mean(np.square(audio, dtype=np.float64)))


class Fixed(np.random.Generator):
    """A generator whose uniform numbers lie at one place of their range; the rest is random."""

    def __init__(self, place: float, choice: int = 0):
        super().__init__(np.random.PCG64(0))
        self.place, self.choice = place, choice

    def uniform(self, low=0.0, high=1.0, size=None):
        return low + self.place * (high - low)

    def integers(self, *_args, **_kwargs):
        return self.choice


# Waveforms


@pytest.mark.parametrize(("place", "snr_db"), [(0, 5), (1, 40)])
def test_noise_has_the_drawn_level(place, snr_db):
    clean = sound()
    added = augment.augment(clean, RATE, "noise", Fixed(place)) - clean
    assert power_db(clean) - power_db(added) == pytest.approx(snr_db, abs=0.2)
    assert abs(np.corrcoef(added[1:], added[:-1])[0, 1]) < 0.05  # white
    assert not augment.noise(np.zeros(100), RATE, Fixed(place)).any()


@pytest.mark.parametrize(("place", "semitones"), [(0, -4), (0.5, 0), (1, 4)])
@pytest.mark.parametrize("method", ["pitch", "speed"])
def test_a_tone_is_moved_by_the_drawn_semitones(method, place, semitones):
    out = augment.augment(sound(), RATE, method, Fixed(place))
    factor = 2 ** (semitones / 12)
    assert len(out) == pytest.approx(RATE if method == "pitch" else RATE / factor, abs=2)
    assert loudest_hz(out) == pytest.approx(1000 * factor, abs=2)
    # at its ends a stretched tone is faded in and out over half a window, 32 ms of a second
    assert power_db(out) == pytest.approx(power_db(sound()), abs=0.3)


@pytest.mark.parametrize("place", [0, 1])
def test_pitch_keeps_the_tempo_and_speed_does_not(place):
    """Bursts of a tone, two a second: where they are loud. The vocoder smears their edges over its window."""
    time_s = np.arange(2 * RATE) / RATE
    bursts = (0.3 * np.sin(2 * np.pi * 800 * time_s) * (time_s % 0.5 < 0.2)).astype(np.float32)

    def envelope(audio):
        return np.convolve(np.abs(audio), np.ones(800) / 800, "same")

    pitch, speed = (augment.augment(bursts, RATE, method, Fixed(place)) for method in ("pitch", "speed"))
    assert len(pitch) == len(bursts) and np.corrcoef(envelope(pitch), envelope(bursts))[0, 1] > 0.75
    shared = min(len(speed), len(bursts))
    assert np.corrcoef(envelope(speed)[:shared], envelope(bursts)[:shared])[0, 1] < 0.3


@pytest.mark.parametrize("samples", [400, 1023, 5000])
def test_short_clips_have_their_length_after_a_change_of_pitch(samples):
    out = augment.augment(sound(samples=samples), RATE, "pitch", Fixed(1))
    assert len(out) == samples and np.isfinite(out).all() and not augment.pitch(np.zeros(samples), RATE, Fixed(1)).any()


def test_the_margin_is_what_the_highest_speed_needs():
    longest = round(augment.MAX_SPEED * num_samples(50))
    assert len(augment.speed(sound(samples=longest), RATE, Fixed(1))) >= num_samples(50) - 1


def test_gain_and_shift_by_hand():
    assert augment.gain(np.array([1.0, -0.5]), RATE, Fixed(0)) == pytest.approx([10**-0.6, -0.5 * 10**-0.6])
    assert augment.shift(np.arange(4.0), RATE, Fixed(0)).tolist() == [2, 3, 0, 1]
    assert augment.shift(np.arange(4.0), RATE, Fixed(0.75)).tolist() == [3, 0, 1, 2]


@pytest.mark.parametrize(("choice", "kept_hz", "cut_hz"), [(0, 100, 7000), (1, 7000, 30)])
def test_filters_keep_one_side_and_cut_the_other(choice, kept_hz, cut_hz):
    """Low-pass at sqrt(1000 * 7500) = 2739 Hz, high-pass at sqrt(20 * 2400) = 219 Hz, 12 dB an octave."""
    cutoff = (2739, 219)[choice]
    octaves = abs(math.log2(cut_hz / cutoff))
    for freq_hz, least, most in ((kept_hz, -0.5, 0.5), (cut_hz, -60, -12 * octaves + 3), (cutoff, -3.2, -2.8)):
        out = augment.filter_band(sound(freq_hz), RATE, Fixed(0.5, choice))
        assert least < power_db(out[4000:]) - power_db(sound(freq_hz)[4000:]) < most


@pytest.mark.parametrize("method", augment.METHODS)
def test_augmentation_is_float32_seeded_and_never_twice_the_same(method):
    def change(seed):
        return augment.augment(sound(), RATE, method, np.random.default_rng(seed))

    assert change(1).dtype == np.float32 and np.array_equal(change(1), change(1))
    clean = sound()
    different = {change(seed).tobytes() for seed in range(8)}
    assert len(different) >= 7  # the chain may leave a clip as it is
    assert np.array_equal(clean, sound()), "the clip itself must stay"


def test_features_of_a_batch_are_those_of_each_clip():
    """One filterbank for clips of several lengths: equal to reading each, cutting, padding and normalising."""
    clips = [sound(samples=n) + 0.01 for n in (400, 3000, 5000, 20000)]
    norm = classifier.Normalisation(30, -5.0, 3.0)
    found = classifier.changed_features(clips, norm, 32)
    features = [kaldi_fbank(torch.from_numpy(clip)[None], 32)[0] for clip in clips]
    expected = classifier.make_split(features, np.zeros((4, 2), np.float32), norm).features
    torch.testing.assert_close(found, expected.float(), atol=2e-3, rtol=0)


TWO_STAGES = {"supcon": "true", "supcon_epochs": 5}
PAPER = {"epochs": 40, "optimizer": "adam", "schedule": "step", "input_length": "mean"}


@pytest.mark.parametrize(
    "changes", [{"supcon": "true"}, TWO_STAGES, PAPER, {"waveform_augment": "chain"}, {"waveform_augment": "speed"}]
)
def test_training_with_options_learns_and_repeats(data, tmp_path, monkeypatch, changes):
    scores = train(monkeypatch, data, tmp_path / "a", **changes)
    assert scores["accuracy"] > 0.9
    assert not [key for key in load_keys(tmp_path / "a") if key.startswith(("ast.", "projection."))]
    train(monkeypatch, data, tmp_path / "b", **changes)
    model = "model/model.safetensors"
    assert (tmp_path / "a" / model).read_bytes() == (tmp_path / "b" / model).read_bytes()
    train(monkeypatch, data, tmp_path / "c")
    assert (tmp_path / "a" / model).read_bytes() != (tmp_path / "c" / model).read_bytes()


def load_keys(folder):
    from safetensors import safe_open

    with safe_open(folder / "model/model.safetensors", framework="pt") as file:
        return list(file.keys())


TWO_STAGES = {"supcon": "true", "supcon_epochs": 5}
