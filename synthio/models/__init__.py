"""Model backends, one file each, and how a stage gets the one it was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synthio.models.base import AudioTextScorer, TextToAudio


def load_text_to_audio(model: str, adapter: str | None = None, device: str = "cpu") -> TextToAudio:
    """A text-to-audio model by folder or hub id, with an optional adapter."""
    from synthio.models.diffusers_audio import DiffusersTextToAudio

    return DiffusersTextToAudio(model, adapter, device)


def load_scorer(model: str, device: str = "cpu") -> AudioTextScorer:
    """A CLAP model by folder or hub id."""
    from synthio.models.clap import ClapScorer

    return ClapScorer(model, device)
