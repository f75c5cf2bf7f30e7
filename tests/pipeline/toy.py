"""The files of models as the hub lists them."""

from __future__ import annotations

GB = 10**9
DIFFUSERS = {"model_index.json": 500, "transformer/diffusion.safetensors": 4 * GB, "model.safetensors": 5 * GB}
TRANSFORMERS = {"config.json": 400, "model.safetensors": GB, "pytorch_model.bin": GB, "tf_model.h5": GB}
