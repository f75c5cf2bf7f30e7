"""Pipelines in half precision: what auto means, and what overflows."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from synthio.cli import UserError
from synthio.models.load import load_text_to_audio
from synthio.models.pipeline_model import pick_dtype
from tests.models.pipelines import PROMPTS


def test_precision_that_auto_means():
    found = [pick_dtype("auto", torch.device(name)) for name in ("cpu", "cuda", "mps")]
    assert found == [torch.float32, torch.float16, torch.float32]
    assert pick_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["open", "base"])
def test_half_precision_is_near_single(folders, models, name, dtype):
    half = load_text_to_audio(str(folders / name), dtype=dtype)
    assert {p.dtype for p in half.module.parameters()} == {half.dtype} == {getattr(torch, dtype)}
    latents = torch.randn(2, 16, half.frames_for(1.28), generator=torch.Generator().manual_seed(2))

    def predicted(model):
        with torch.no_grad():
            return model.predict(latents, torch.tensor([0.2, 0.9]), model.condition(PROMPTS, [1.28, 1.28]))

    for run in (predicted, lambda model: model.decode(latents)):
        ours, exact = run(half), run(models[name])
        assert ours.dtype == torch.float32
        assert 0 < (ours - exact).std() < 0.05 * exact.std()


def test_clips_that_overflow_in_half_precision_are_decoded_in_single(folders, tmp_path, capsys):
    """Of two clips the loud one overflows: it alone is done again, so the other does not depend on it."""
    shutil.copytree(folders / "base", tmp_path / "loud")
    weights = tmp_path / "loud/vae/diffusion_pytorch_model.safetensors"
    save_file(load_file(weights) | {"bottleneck.running_std": torch.tensor([1000.0])}, weights)
    half = load_text_to_audio(str(tmp_path / "loud"), dtype="float16")
    latents = (
        torch.randn(2, 16, 9, generator=torch.Generator().manual_seed(2)) * torch.tensor([1e-3, 1e3])[:, None, None]
    )
    audio = half.decode(latents)
    assert "the autoencoder overflows in torch.float16" in capsys.readouterr().err
    assert torch.equal(audio[:1], half.decode(latents[:1]))
    exact = load_text_to_audio(str(tmp_path / "loud")).decode(latents)
    assert torch.equal(audio[1], exact[1]) and not torch.equal(audio[0], exact[0])


def test_latents_that_are_no_numbers_are_not_decoded(models):
    with pytest.raises(UserError, match=r"base gave NaN or infinity in torch\.float32; use --dtype bfloat16"):
        models["base"].decode(torch.full((1, 16, 3), float("nan")))
