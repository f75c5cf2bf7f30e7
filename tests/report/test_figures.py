"""Pictures: what is drawn is what was given, whatever a label holds."""

from __future__ import annotations

import base64
import io
import math
from xml.etree import ElementTree

import numpy as np
import pytest

from synthio.report import figures


@pytest.fixture
def axes():
    from matplotlib.figure import Figure

    return Figure().subplots()


def content_of(uri: str) -> bytes:
    return base64.b64decode(uri.partition(",")[2])


def test_a_picture_is_the_same_each_time_and_says_its_labels_as_text():
    def plot(axes):
        axes.set_title(figures.short("$x$ <b> & \x07"))

    uri = figures.as_svg(plot, 2.0, 1.0)
    assert uri == figures.as_svg(plot, 2.0, 1.0) and uri.startswith("data:image/svg+xml;base64,")
    root = ElementTree.fromstring(content_of(uri))
    assert root.get("width") == "144pt" and root.get("height") == "72pt"  # an inch is 72 points
    assert "$x$ <b> & �" in "".join(root.itertext())


def test_long_labels_are_cut():
    assert figures.short("a" * 22) == "a" * 22
    assert figures.short("a" * 23) == "a" * 21 + "…"


def test_scores_stand_at_their_values_with_their_intervals(axes):
    figures.plot_scores(axes, [("gold only", 50, 40, 60), ("synthio", 70, 65, 80)], "accuracy")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["gold only", "synthio"]
    assert [list(line.get_xdata()) for line in axes.lines] == [[40, 60], [50], [65, 80], [70]]


def test_a_confusion_is_drawn_in_shares_of_the_true_class(axes):
    figures.plot_confusion(axes, np.array([[3, 1], [0, 2]]), ["a", "b"])
    assert {text.get_text() for text in axes.texts} >= {"3", "1", "2"}


def test_a_spectrogram_is_loudest_at_the_tone():
    """Kaldi's mel scale is 1127 ln(1 + f / 700); 64 bands from 20 to 8000 Hz, the low ones at the bottom."""
    import matplotlib.image

    seconds = np.arange(16000) / 16000
    uri = figures.spectrogram_png(np.sin(2 * np.pi * 4000 * seconds)[None].astype(np.float32), 16000)
    picture = matplotlib.image.imread(io.BytesIO(content_of(uri)), format="png")
    assert picture.shape[0] == 64
    low, tone, high = (math.log(1 + f / 700) for f in (20, 4000, 8000))
    row = int(np.argmax(picture[..., :3].sum(axis=(1, 2))))
    assert row == pytest.approx(64 * (1 - (tone - low) / (high - low)), abs=1.5)


def test_a_clip_is_played_at_its_own_rate_or_at_the_highest():
    import soundfile

    for rate, expected in ((16000, 16000), (44100, 24000)):
        audio = 0.1 * np.random.default_rng(0).standard_normal((1, rate)).astype(np.float32)
        info = soundfile.info(io.BytesIO(content_of(figures.ogg(audio, rate))))
        assert info.samplerate == expected and info.duration == pytest.approx(1, abs=0.01)
