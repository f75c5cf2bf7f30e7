"""Shared code of the Synthio stage scripts: manifests, audio, prompts, diffusion and model backends."""

__version__ = "0.1.0"
