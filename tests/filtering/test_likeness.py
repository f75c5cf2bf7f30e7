"""How alike two sounds are: changed and re-encoded copies."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from synthio.filtering.likeness import likeness, read_embedding, spectral_embedding
from tests.filtering.toy import RATE, barks, encoded

CHANGES = {
    "quieter": lambda x: 0.05 * x,
    "louder": lambda x: 1.5 * x,
    "shifted": lambda x: np.concatenate([x[1000:], x[:1000]]),
    "cut": lambda x: x[: int(0.9 * len(x))],
    "noisy": lambda x: x + 0.003 * np.random.default_rng(9).normal(size=len(x)),
    "offset": lambda x: x + 0.1,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found(change):
    copy = CHANGES[change](barks(0))
    cosines = likeness([spectral_embedding(copy[None])], [spectral_embedding(barks(k)[None]) for k in range(8)])[0]
    assert cosines[0] > 0.9
    assert cosines[1:].max() < 0.7


@pytest.mark.parametrize("suffix", ["ogg", "mp3", "flac", "wav"])
def test_a_re_encoded_quieter_copy_is_found(tmp_path, suffix):
    if suffix.upper() not in soundfile.available_formats():
        pytest.skip(f"soundfile writes no {suffix}")
    original = read_embedding(encoded(tmp_path, barks(0), "a.wav"))
    copy = read_embedding(encoded(tmp_path, 0.3 * barks(0), f"b.{suffix}"))
    assert likeness([copy], [original])[0, 0] > 0.9


def test_likeness_is_the_cosine_at_the_best_shift():
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(32, 50)).astype(np.float32) for _ in range(2))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    best = max(
        float((a[:, max(0, lag) : 50 + min(0, lag)] * b[:, max(0, -lag) : 50 + min(0, -lag)]).sum())
        for lag in range(-25, 26)
    )
    moved = np.pad(a, ((0, 0), (25, 0)))
    found = likeness([a], [b, a, moved, np.pad(moved, ((0, 0), (1, 0)))] * 50)  # more than one block
    assert found.shape == (1, 200)
    assert found[0, :3] == pytest.approx([best, 1, 1], abs=1e-5)
    assert found[0, 3] < 0.5 and np.array_equal(found[0, :4], found[0, -4:])
    assert likeness([], [a]).shape == (0, 1) and likeness([a], []).shape == (1, 0)


def test_steady_and_silent_sounds_are_like_nothing():
    tones = [np.sin(2 * np.pi * f * np.arange(2 * RATE) / RATE)[None] for f in (440, 441, 3000)]
    spectra = [spectral_embedding(x) for x in [*tones, np.zeros((1, RATE)), np.zeros((1, 10))]]
    assert all(np.isfinite(x).all() for x in spectra)
    assert likeness(spectra, spectra).max() < 0.5
