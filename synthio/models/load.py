"""How a stage gets the model backend that it was asked for.

Nothing heavy is imported here: synthio/pipeline/environments.py asks `known_backend` for run.sh.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from synthio.cli import UserError, making_of
from synthio.models import CHECKPOINT_SUFFIXES, is_published_stable_audio_3
from synthio.models.model_ids import is_hub_id, split_id

if TYPE_CHECKING:
    import numpy as np

    from synthio.models.base import AudioTextScorer, TextToAudio

Backend = Literal["diffusers", "stable_audio_tools"]
# Which library's files a hub id has. Stable Audio Open 1.0 has both kinds: diffusers needs no environment of its own.
# Stable Audio 3 is published in a third one, which is converted to that of diffusers.
HUB_BACKENDS: dict[str, Backend] = {
    "stabilityai/stable-audio-open-1.0": "diffusers",
    **{
        f"stabilityai/stable-audio-3-{size}{kind}": "diffusers"
        for size in ("small-sfx", "small-music", "medium")
        for kind in ("", "-base")
    },
    "stabilityai/stable-audio-open-small": "stable_audio_tools",
    "sonalkum/synthio-stable-audio-open": "stable_audio_tools",
}


def known_backend(model: str) -> Backend | None:
    """The library that a text-to-audio model is for, told by its files.

    Args:
        model: folder, file or hub id; one that is not known is looked up, on the hub or in its cache.

    Returns:
        None where there are no files to tell it by.
    """
    path = Path(model)
    if path.is_file():
        return "stable_audio_tools" if path.suffix in CHECKPOINT_SUFFIXES else "diffusers"
    if path.is_dir():
        return _told_by([file.name for file in path.iterdir()])
    repo, _ = split_id(model)
    if repo in HUB_BACKENDS:
        return HUB_BACKENDS[repo]
    if not is_hub_id(model):
        return None
    from synthio.models.hub import file_names

    names = file_names(model)
    return _told_by(names) if names else None


def _told_by(names: Sequence[str]) -> Backend:
    is_tools = "model_config.json" in names and "model_index.json" not in names
    return "stable_audio_tools" if is_tools and not is_published_stable_audio_3(names) else "diffusers"


def backend_of(model: str) -> Backend:
    """As `known_backend`; what cannot be told is "diffusers", whose loader then says what is wrong."""
    return known_backend(model) or "diffusers"


def has_distilled(model: str) -> bool:
    """Whether a model has weights for few steps beside its own: a folder `distilled`, as the embedded one."""
    return (Path(model) / "distilled").is_dir()


def load_text_to_audio(
    model: str, adapter: str | None = None, device: str = "cpu", dtype: str = "auto", distilled: bool = False
) -> TextToAudio:
    """A text-to-audio model by folder, checkpoint file or hub id, with an optional adapter.

    Args:
        dtype: as in `PipelineModel`.
        distilled: take the weights for few steps that the model has beside its own.

    Raises:
        UserError: the model or the adapter cannot be had, is not whole, or is of another kind.
    """
    from synthio.models.strict import refusing

    if distilled and not has_distilled(model):
        raise UserError(f"{model} has no distilled weights (a folder 'distilled'); set distilled=auto")
    with refusing("model", model):
        if distilled and adapter:
            _check_goes_with_distilled(adapter)
        return _load_text_to_audio(model, adapter, device, dtype, distilled)


def _check_goes_with_distilled(adapter: str) -> None:
    """Refuse an adapter that would take the place of the distilled weights."""
    from synthio.models.adapters import adapter_kind

    if adapter_kind(adapter) == "all":
        raise UserError(f"{adapter} holds every weight, those of the own transformer; set distilled=auto")


def _load_text_to_audio(model: str, adapter: str | None, device: str, dtype: str, distilled: bool) -> TextToAudio:
    if backend_of(model) == "stable_audio_tools":
        from synthio.models.stable_audio_tools import StableAudioToolsTextToAudio

        return StableAudioToolsTextToAudio(model, adapter, device, dtype)
    from synthio.models.diffusers_audio import load_pipeline

    return load_pipeline(model, adapter, device, dtype, distilled)


SCORER_HELP = (
    "CLAP: folder or hub id of transformers (ClapModel, PeAudio), .pt file of laion_clap, msclap:2022, msclap:2023 or "
    ".pth file of msclap"
)


def scorer_backend_of(name: str) -> str:
    """The library that a CLAP needs, by its name alone: "transformers", "laion_clap" or "msclap".

    Args:
        name: what `SCORER_HELP` says.
    """
    if name.startswith("msclap:"):
        return "msclap"
    if Path(name).is_dir():
        return "transformers"
    return {".pt": "laion_clap", ".pth": "msclap"}.get(Path(name).suffix, "transformers")


def load_scorer(model: str, device: str = "cpu") -> AudioTextScorer:
    """A CLAP by its name, see `scorer_backend_of`.

    Raises:
        UserError: the model cannot be had or is not whole, or this Python lacks its library.
    """
    from synthio.models.strict import refusing

    with refusing("CLAP model", model):
        return _load_scorer(model, device)


def _load_scorer(model: str, device: str) -> AudioTextScorer:
    backend = scorer_backend_of(model)
    if backend == "transformers":
        from synthio.models.classifiers import PE_AUDIO, kind_of

        if kind_of(model) in PE_AUDIO:
            from synthio.models.pe_audio import PeAudioScorer

            return PeAudioScorer(model, device)
        from synthio.models.clap import ClapScorer

        return ClapScorer(model, device)
    if importlib.util.find_spec(backend) is None:
        raise UserError(
            f"CLAP model '{model}' needs {backend}, which this Python ({sys.executable}) lacks; its environment is "
            f"made by '{making_of('clap')}': set clap_env=.envs/clap in run.sh, or run this with .envs/clap/bin/python"
        )
    if backend == "msclap":
        from synthio.models.msclap import MsclapScorer

        return MsclapScorer(model, device)
    from synthio.models.laion_clap import LaionClapScorer

    return LaionClapScorer(model, device)


class AudioEmbedder(Protocol):
    """A frozen network that hears.

    Attributes:
        sample_rate: in Hz.
        names: the K classes of its pretrained head; empty where it has none, or no names for it.
    """

    sample_rate: int
    names: list[str]

    def embed_audio(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Mono clips [1, T] at `sample_rate` -> float32 [N, E]."""
        ...

    def name(self, pooled: np.ndarray) -> np.ndarray:
        """What the pretrained head says of these vectors: logits float32 [N, K] of `names`."""
        ...


def load_embedder(model: str, device: str = "cpu") -> AudioEmbedder:
    """A frozen network for embeddings, by the folder, hub id or `.pth` file of a classifier or encoder.

    Raises:
        UserError: the model cannot be had, is not whole, or is none that hears.
    """
    from synthio.models.classifiers import FROZEN, is_ast, kind_of, refuse_misfit

    refuse_misfit(model, fine_tuned=False)
    if kind_of(model) in FROZEN:
        from synthio.models.frozen_encoder import FrozenEncoder

        return FrozenEncoder(model, device)
    if is_ast(model):
        from synthio.models.ast_model import AstEmbedder

        return AstEmbedder(model, device)
    from synthio.models.sound_classifier import SoundEmbedder

    return SoundEmbedder(model, device)
