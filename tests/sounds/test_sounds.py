"""The procedural sounds: sound, true to their captions, and a function of the generator alone."""

from __future__ import annotations

import numpy as np
import pytest

from synthio import sounds
from tests.sounds.toy import raw


def clip(label, seed=0, seconds=4.0, **options):
    return sounds.make_clip(label, np.random.default_rng(seed), seconds, **options)


@pytest.mark.parametrize("label", sounds.labels())
def test_every_label_gives_usable_audio_of_the_asked_length(label):
    for seconds in (0.1, 2.3):
        made = clip(label, seconds=seconds)
        assert made.audio.dtype == np.float32
        assert len(made.audio) == round(seconds * 16000)
        assert np.isfinite(made.audio).all()
        assert 0.01 < np.abs(made.audio).max() <= 0.991
        assert made.label == made.events[0] == label


def test_the_same_generator_gives_the_same_clip_and_another_gives_another():
    assert np.array_equal(clip("siren").audio, clip("siren").audio)
    assert clip("siren").caption == clip("siren").caption
    assert not np.array_equal(clip("siren", 0).audio, clip("siren", 1).audio)


def test_two_draws_of_a_label_are_less_alike_than_a_clip_and_itself_shifted():
    """Variety: the magnitude spectra of ten draws of a label differ."""
    spectra = [
        np.log(np.abs(np.fft.rfft(clip("dog_bark", s, background=None).audio))[: 8000 * 4] + 1e-3) for s in range(10)
    ]
    correlations = np.corrcoef([s.reshape(-1, 100).mean(axis=1) for s in spectra])
    assert np.median(correlations[np.triu_indices(10, 1)]) < 0.97


def test_captions_say_what_is_heard():
    for seed in range(40):
        made = sounds.random_clip(np.random.default_rng([3, seed]), 1.0)
        assert all(sounds.phrase(event) in made.caption for event in made.events)
        assert made.background in made.caption
        assert 2 <= len(made.caption.split()) <= 30


def test_background_and_second_event_can_be_chosen():
    made = clip("bell", background="light rain", second_event="cow", snr_db=0)
    assert made.events == ("bell", "cow")
    assert made.background == "light rain" and "light rain" in made.caption
    plain = clip("bell", background=None, second_event=None)
    assert (plain.events, plain.background) == (("bell",), "")


def test_snr_sets_the_level_of_the_background():
    """At -20 dB the scene dominates: two different events over one scene then sound alike in level over time."""
    levels = {}
    for snr_db in (-20, 40):
        audio = clip("gun_shot", 5, background="white noise", snr_db=snr_db, second_event=None).audio
        rms = np.sqrt(np.mean(audio[: len(audio) // 100 * 100].reshape(100, -1) ** 2, axis=1))
        levels[snr_db] = rms.max() / np.median(rms)
    assert levels[-20] < 1.5 < levels[40]


@pytest.mark.parametrize("label", ["rooster", "person_sneeze", "dog_bark", "coughing", "cat_meow"])
def test_what_happens_once_begins_at_different_times(label):
    onsets = [np.argmax(np.abs(x) > 0.1 * np.abs(x).max()) / 16000 for x in (raw(label, s)[0] for s in range(12))]
    assert np.std(onsets) > 0.2


def test_errors_list_near_matches():
    with pytest.raises(ValueError, match="dog_bark"):
        clip("dog_barks")
    with pytest.raises(ValueError, match="light rain"):
        clip("bell", background="heavy metal")
    with pytest.raises(ValueError, match="positive"):
        clip("bell", seconds=0)


def test_the_demo_has_ten_labels():
    assert len(sounds.DEMO_LABELS) == 10
    assert set(sounds.DEMO_LABELS) <= set(sounds.labels())
