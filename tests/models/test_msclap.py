"""Checkpoints of msclap: what their names tell. What the library itself says of clips is in test_clap.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from synthio.cli import UserError
from synthio.models.load import scorer_backend_of
from synthio.models.msclap import FILE_NAME, VERSIONS, MsclapScorer, version_of


@pytest.mark.parametrize(("name", "version"), VERSIONS.items())
def test_the_names_tell_the_version(name, version):
    assert version_of({"logit_scale": torch.empty(()), name: torch.empty(1)}, Path("clap.pth")) == version


def test_another_checkpoint_is_refused_with_a_word_on_what_it_may_be():
    with pytest.raises(UserError, match=r"clap\.pth: no checkpoint of msclap .*laion_clap checkpoints end in \.pt"):
        version_of({"weight": torch.empty(1)}, Path("clap.pth"))


def test_windows_are_heard_as_they_are():
    windows = np.array([[0.5, -2.0]], np.float32)
    assert MsclapScorer.features(None, windows).tolist() == [[0.5, -2.0]]


def test_the_file_that_it_writes_is_one_that_is_loaded():
    assert scorer_backend_of(FILE_NAME) == "msclap"
