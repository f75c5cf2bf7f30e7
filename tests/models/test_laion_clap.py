"""Checkpoints of laion_clap: what the shapes tell. What the library itself says of clips is in test_clap.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from synthio.cli import UserError
from synthio.models import laion_clap
from synthio.models.laion_clap import FUSION, KINDS, PATCHES, STFT, TEXT, LaionClapScorer, kind_of

PATH = Path("clap.pt")


def weights(width: int, fft: int, *names: str) -> dict[str, torch.Tensor]:
    shapes = {PATCHES: (width, 1, 4, 4), STFT: (fft // 2 + 1, 1, fft), f"{TEXT}word_embeddings.weight": (2, 2)}
    return {name: torch.empty(shape) for name, shape in shapes.items()} | {name: torch.empty(1) for name in names}


@pytest.mark.parametrize(("sizes", "name"), KINDS.items())
def test_the_shapes_tell_the_kind(sizes, name):
    assert kind_of(weights(*sizes), PATH) == (name, False)
    assert kind_of(weights(*sizes, f"{FUSION}conv.weight"), PATH) == (name, True)


@pytest.mark.parametrize("missing", [PATCHES, STFT, f"{TEXT}word_embeddings.weight"])
def test_another_checkpoint_is_refused_with_a_word_on_what_it_may_be(missing):
    found = weights(96, 1024)
    del found[missing]
    with pytest.raises(UserError, match=r"clap\.pt: no checkpoint of laion_clap .*msclap checkpoints end in \.pth"):
        kind_of(found, PATH)


def test_sizes_that_no_model_has_are_named():
    with pytest.raises(UserError, match=r"width 97 with an FFT of 1024 is none of HTSAT-tiny, .*HTSAT-large"):
        kind_of(weights(97, 1024), PATH)


def test_windows_are_heard_at_16_bits_rounded_towards_zero():
    """As the library does: 1.9 steps are one, and what is beyond full scale is full scale."""
    step = 1 / 32767
    windows = np.array([[1.9 * step, -1.9 * step, 2.0, -2.0]], np.float32)
    heard = LaionClapScorer.features(None, windows)
    assert heard.dtype == torch.float32
    assert heard.tolist() == [pytest.approx([step, -step, 1, -1])]


def test_the_file_that_it_writes_is_one_that_is_loaded():
    """By its ending, which tells the backend of a model."""
    from synthio.models.load import scorer_backend_of

    assert scorer_backend_of(laion_clap.FILE_NAME) == "laion_clap"
