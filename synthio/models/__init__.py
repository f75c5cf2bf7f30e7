"""Model backends, one file each, and how a stage gets the one it was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synthio.models.base import AudioTextScorer, TextToAudio


def load_text_to_audio(model: str, adapter: str | None = None, device: str = "cpu", dtype: str = "auto") -> TextToAudio:
    """A text-to-audio model by folder or hub id, with an optional adapter; `dtype` as in `PipelineModel`."""
    from synthio.models.diffusers_audio import load_pipeline

    return load_pipeline(model, adapter, device, dtype)


def load_scorer(model: str, device: str = "cpu") -> AudioTextScorer:
    """A CLAP model by folder or hub id."""
    from synthio.models.clap import ClapScorer

    return ClapScorer(model, device)
