"""Tiny pipelines of every kind."""

from __future__ import annotations

import pytest

from synthio.models.load import load_text_to_audio
from tests.tiny_models import save_stable_audio_3, save_text_to_audio


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Pipelines saved by diffusers: Stable Audio Open in stereo, Stable Audio 3 base and distilled."""
    folder = tmp_path_factory.mktemp("pipelines")
    save_text_to_audio(folder / "open", "v", channels=2)
    save_stable_audio_3(folder / "base")
    save_stable_audio_3(folder / "distilled", distilled=True)
    return folder


@pytest.fixture(scope="module")
def models(folders):
    return {name: load_text_to_audio(str(folders / name)) for name in ("open", "base", "distilled")}
