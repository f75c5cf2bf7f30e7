"""What the hub says of a model, and which of its files are downloaded."""

from __future__ import annotations

from synthio.models.hub import needed_files
from tests.pipeline.toy import DIFFUSERS, TRANSFORMERS


def test_the_files_that_are_downloaded():
    assert needed_files(list(DIFFUSERS)) == ["model_index.json", "transformer/diffusion.safetensors"]
    assert needed_files(list(TRANSFORMERS)) == ["config.json", "model.safetensors"]
    assert needed_files(["model_config.json", "model.ckpt", ".gitattributes"]) == ["model_config.json", "model.ckpt"]
