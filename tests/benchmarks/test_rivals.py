"""The benchmark of rivals: its draws, its features and what a fixed fusion adds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.scripts import ROOT, load_script


@pytest.fixture(scope="module")
def rivals():
    return load_script(ROOT / "benchmarks/rivals.py")


def test_splits_meet_every_seed_or_one_of_their_own(rivals):
    args = SimpleNamespace(splits=[Path("a"), Path("b")], seeds=[0, 1], paired=False)
    assert list(rivals.draws(args)) == [(Path("a"), 0), (Path("a"), 1), (Path("b"), 0), (Path("b"), 1)]
    args.paired = True
    assert list(rivals.draws(args)) == [(Path("a"), 0), (Path("b"), 1)]
    args.seeds = [0]
    with pytest.raises(ValueError, match="shorter"):
        list(rivals.draws(args))


def test_statistics_of_a_steady_sound_do_not_change(rivals, make_wav):
    """The deviation over time of a tone, and of its change, is next to nothing; the quantiles are the mean."""
    row = rivals.log_mel_statistics([str(make_wav("a.wav", 1.0, freq_hz=1000))])[0].reshape(5, rivals.BANDS)
    loud = row[0] > row[0].max() - 5  # where the tone is; elsewhere there is rounding noise
    assert row[1][loud].max() < 0.05 and row[2][loud].max() < 0.05
    np.testing.assert_allclose(row[3][loud], row[0][loud], atol=0.1)


def test_both_embeddings_have_the_same_total_variance(rivals):
    rng = np.random.default_rng(0)
    heard = {"train": {"ast": 5 * rng.normal(size=(50, 4)) + 3, "clap": 0.1 * rng.normal(size=(50, 9))}}
    both = rivals.side_by_side(heard)["train"]
    assert both[:, :4].var(axis=0).sum() == pytest.approx(1) == both[:, 4:].var(axis=0).sum()
    assert np.abs(both.mean(axis=0)).max() < 1e-9


def test_the_strength_is_chosen_on_the_validation_clips(rivals):
    """Clouds that are far apart: every rival is right."""
    rng = np.random.default_rng(0)
    y = {name: np.arange(20) % 2 for name in ("train", "valid", "test")}
    x = {name: rng.normal(size=(20, 3)) + 10 * classes[:, None] for name, classes in y.items()}
    assert rivals.plain_scores(x, y) == {"SVM": 1.0, "logistic regression": 1.0}
