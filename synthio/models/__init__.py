"""Model backends, one file each, and how a stage gets the one it was asked for."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from synthio.cli import UserError

if TYPE_CHECKING:
    from synthio.models.base import AudioTextScorer, TextToAudio


def load_text_to_audio(model: str, adapter: str | None = None, device: str = "cpu") -> TextToAudio:
    """A text-to-audio model by folder or hub id, with an optional adapter."""
    from synthio.models.diffusers_audio import DiffusersTextToAudio

    return DiffusersTextToAudio(model, adapter, device)


SCORER_HELP = (
    "CLAP: folder or hub id of transformers, .pt file of laion_clap, msclap:2022, msclap:2023 or .pth file of msclap"
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
        UserError: the model cannot be had, or this Python lacks its library.
    """
    backend = scorer_backend_of(model)
    if backend == "transformers":
        from synthio.models.clap import ClapScorer

        return ClapScorer(model, device)
    if importlib.util.find_spec(backend) is None:
        raise UserError(
            f"CLAP model '{model}' needs {backend}, which this Python ({sys.executable}) lacks; its environment is "
            f"made by 'bash extras/make_env.sh .envs/clap extras/clap.txt': set clap_env=.envs/clap in run.sh, or run "
            "this with .envs/clap/bin/python"
        )
    if backend == "msclap":
        from synthio.models.msclap import MsclapScorer

        return MsclapScorer(model, device)
    from synthio.models.laion_clap import LaionClapScorer

    return LaionClapScorer(model, device)
