"""A training's checkpoint as Lightning writes it."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from tests.programs import small_tools_model


def weights() -> dict[str, torch.Tensor]:
    return {"model.model.x": torch.arange(3.0), "pretransform.y": torch.ones(2, 2)}


def save_training(folder: Path, **objects) -> Path:
    """A Lightning checkpoint that holds objects beside its tensors."""
    parameters = {"hyper_parameters": argparse.Namespace(lr=1e-4, path=Path("x"), seeds=[1, 2])}
    torch.save(small_tools_model.lightning(weights()) | parameters | objects, folder / "a.ckpt")
    (folder / "model_config.json").write_text('{"sample_size": 1}')
    return folder / "a.ckpt"
