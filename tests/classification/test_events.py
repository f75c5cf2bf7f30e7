"""Events: by hand where windows become events, and against scoring of clips that are cut out."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import soundfile
from transformers import pipeline

from synthio.audio import read_audio
from synthio.classification.events import (
    BLOCK_ROWS,
    Event,
    Heard,
    find_events,
    find_recordings,
    hear,
    hear_once,
    hop_of,
)
from synthio.classification.saved import load_classifier, saved_probabilities
from synthio.cli import UserError
from tests.classification.listeners import LABELS, save_ast, save_head, save_world
from tests.classification.toy_clips import PITCHES

NONE = dict.fromkeys("ab", 2.0)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return save_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def recording(make_wav):
    """Seven seconds at 44.1 kHz, stereo: a tone of each label, noise between them."""
    rng = np.random.default_rng(0)
    audio = 0.02 * rng.normal(size=7 * 44100)
    for k, pitch in enumerate(PITCHES.values()):
        at = np.arange(int((0.5 + 2 * k) * 44100), int((1.7 + 2 * k) * 44100))
        audio[at] += 0.3 * np.sin(2 * np.pi * pitch * at / 44100)
    return make_wav("night.wav", audio=np.stack([audio, audio], 1), sample_rate=44100, subtype="FLOAT")


def heard_at(chances, window=1.0, hop=0.5) -> Heard:
    starts = hop * np.arange(len(chances))
    return Heard(starts, starts + window, np.array(chances, float))


def clips_of(heard: Heard, path, folder) -> list[str]:
    """The windows as files of their own, at the classifiers' rate."""
    audio, names = read_audio(path, 16000)[0], []
    for k, (start, end) in enumerate(zip(heard.starts, heard.ends, strict=True)):
        names.append(str(folder / f"window {k}.wav"))
        soundfile.write(names[-1], audio[0, round(start * 16000) : round(end * 16000)], 16000, subtype="FLOAT")
    return names


@pytest.mark.parametrize("multi_label", [False, True])
def test_ast_says_of_a_window_what_it_says_of_the_clip_in_transformers(world, tmp_path, recording, multi_label):
    classifier = load_classifier(save_ast(world, tmp_path / "run", multi_label))
    heard = hear(recording, classifier, hop_of(classifier.window, 0.5))
    assert len(heard.starts) == 13 and heard.seconds == 7.0 and classifier.window == 102
    listen = pipeline("audio-classification", model=str(tmp_path / "run/model"), top_k=None)
    act = "sigmoid" if multi_label else "softmax"
    for clip, row in zip(clips_of(heard, recording, tmp_path), heard.chances, strict=True):
        said = listen(read_audio(clip, 16000)[0][0], function_to_apply=act)
        assert {one["label"]: one["score"] for one in said} == pytest.approx(
            dict(zip(LABELS, row, strict=True)), abs=2e-4
        )
    assert np.ptp(heard.chances, axis=0).max() > 0.03


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", ["fusion", "probe_ast", "zero_shot"])
def test_a_head_says_of_a_window_what_it_says_of_the_clip(world, tmp_path, recording, name, multi_label):
    folder = save_head(world, tmp_path / "run", name, multi_label)
    classifier = load_classifier(folder)
    heard = hear(recording, classifier, hop_of(classifier.window, 0.5))
    paths = clips_of(heard, recording, tmp_path)
    expected, labels = saved_probabilities(folder / "model", paths, tmp_path / "cache")
    np.testing.assert_allclose(heard.chances, expected, atol=1e-5)
    assert labels == classifier.labels == LABELS
    low, high = np.sort(expected, axis=None)[expected.size // 2 :][:2]  # a limit between them is nobody's probability
    limits = dict.fromkeys(labels, float(low + high) / 2)
    events = find_events(heard, labels, limits, multi_label)
    clipwise = find_events(Heard(heard.starts, heard.ends, expected), labels, limits, multi_label)
    shown = [[(e.start_s, e.end_s, e.label, round(e.probability, 4)) for e in found] for found in (events, clipwise)]
    assert shown[0] == shown[1] and events


def test_a_recording_that_is_shorter_than_a_window(world, tmp_path, make_wav):
    for folder in (save_ast(world, tmp_path / "ast", False), save_head(world, tmp_path / "h", "fusion", False)):
        classifier = load_classifier(folder)
        for seconds in (0.003, 0.2):
            heard = hear(make_wav("short.wav", seconds), classifier, 10)
            assert heard.starts.tolist() == [0] and heard.ends[0] == pytest.approx(seconds)
            assert heard.chances.sum() == pytest.approx(1)


def test_windows_of_a_label_that_touch_are_one_event():
    heard = heard_at([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.2], [0.3, 0.2], [0.95, 0.05]])
    events = find_events(heard, ["a", "b"], dict.fromkeys("ab", 0.7), multi_label=False)
    assert events == [Event(0.0, 1.5, "a", 0.9), Event(1.0, 2.0, "b", 0.9), Event(2.5, 3.5, "a", 0.95)]
    joined = find_events(heard, ["a", "b"], dict.fromkeys("ab", 0.7), multi_label=False, gap_s=1.0)
    assert joined == [Event(0.0, 3.5, "a", 0.95), Event(1.0, 2.0, "b", 0.9)]
    assert find_events(heard, ["a", "b"], NONE, multi_label=False) == []


def test_a_threshold_of_its_own_for_each_label_and_one_label_at_a_time():
    heard = heard_at([[0.55, 0.45]])
    low = {"a": 0.5, "b": 0.4}
    assert find_events(heard, ["a", "b"], low, multi_label=False) == [Event(0, 1, "a", 0.55)]
    assert find_events(heard, ["a", "b"], low, multi_label=True) == [Event(0, 1, "a", 0.55), Event(0, 1, "b", 0.45)]
    assert find_events(heard, ["a", "b"], {"a": 0.6, "b": 0.4}, multi_label=False) == []


def test_what_is_none_of_the_labels_is_no_event():
    heard = heard_at([[0.2, 0.8]])
    limits = {"a": 0.1, "other": 0.1}
    assert find_events(heard, ["a", "other"], limits, multi_label=False, ignored=["other"]) == []
    assert find_events(heard, ["a", "other"], limits, multi_label=False) == [Event(0, 1, "other", 0.8)]


def test_what_was_heard_once_is_not_listened_to_again(world, tmp_path, recording, monkeypatch):
    classifier = load_classifier(save_ast(world, tmp_path / "run", False))
    told = []
    heard, is_new = hear_once(recording, classifier, 51, tmp_path / "kept", told.append)
    assert is_new and told == [4.59, 7.0]  # after 8 windows, and at the end
    other, _ = hear_once(recording, classifier, 102, tmp_path / "kept")  # other windows
    assert len(other.starts) < len(heard.starts)
    monkeypatch.setattr(classifier, "score", None)
    again, is_new = hear_once(recording, classifier, 51, tmp_path / "kept")
    assert not is_new
    for name in ("starts", "ends", "chances"):
        np.testing.assert_array_equal(getattr(again, name), getattr(heard, name))


def test_recordings_are_the_sounds_of_folders_and_files(make_wav, tmp_path):
    for name in ("in/b.wav", "in/deep/a.flac", "c.wav"):
        make_wav(name, 0.1)
    (tmp_path / "in/notes.txt").write_text("x")
    found = find_recordings([str(tmp_path / "in"), str(tmp_path / "c.wav"), str(tmp_path / "c.wav")])
    assert [recording.name for recording in found] == ["b.wav", "deep/a.flac", "c.wav"]
    (tmp_path / "empty").mkdir()
    for name, text in (("empty", "no sound files in that folder"), ("none", "no such file or folder")):
        with pytest.raises(UserError, match=text):
            find_recordings([str(tmp_path / name)])


def test_how_far_windows_are_apart():
    assert [hop_of(402, share) for share in (0, 0.5, 0.95)] == [402, 201, 20] and hop_of(1, 0.95) == 1


class Counter:
    """A classifier whose answers count the windows; it notes which of its answers are still held."""

    labels, multi_label, rates, window, points, ignored, identity = ["a", "b"], True, (16000,), 4, None, [], []

    def __init__(self):
        self.said, self.held, self.answers = 0, 0, []

    def score(self, span):
        self.held = max(self.held, sum(answer() is not None for answer in self.answers))
        answer = np.arange(self.said, self.said + len(span.starts))[:, None] * np.array([[1.0, -1.0]])
        self.said += len(answer)
        self.answers.append(weakref.ref(answer))
        return answer


def test_what_is_heard_of_hours_is_kept_in_few_pieces(make_wav):
    """Small arrays that stay would keep the memory of the large ones around them from being used again."""
    path, counter = make_wav("x.wav", 2.5 * BLOCK_ROWS * 0.02), Counter()
    heard = hear(path, counter, hop=2)
    assert counter.said > 2 * BLOCK_ROWS and counter.held <= 1  # the answer before, while it is copied
    np.testing.assert_array_equal(heard.chances, np.arange(counter.said)[:, None] * np.array([[1.0, -1.0]]))
    np.testing.assert_allclose(heard.starts, 0.02 * np.arange(counter.said))
