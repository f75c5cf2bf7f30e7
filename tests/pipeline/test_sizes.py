"""Sizes of models from their files, against the models themselves."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from synthio.files import EMBEDDED
from synthio.models.load import load_text_to_audio
from synthio.pipeline.sizes import PUBLISHED, sizes_of
from tests.programs.small_tools_model import config_of
from tests.published_stable_audio_3 import save_published
from tests.tiny_models import save_stable_audio_3, save_text_to_audio


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


SAVED = {
    "open": save_text_to_audio,
    "three": save_stable_audio_3,
    "published": save_published,
    "embedded": lambda _: EMBEDDED / "text_to_audio",
}


@pytest.mark.parametrize("name", list(SAVED))
def test_a_folder_tells_what_the_loaded_model_has(tmp_path, name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "hf"))
    folder = SAVED[name](tmp_path / name)
    model, sizes = load_text_to_audio(str(folder)), sizes_of(str(folder))
    # a file holds buffers, too: frequencies, and the embedded decoder's latents
    assert sizes.parameters == pytest.approx(count(model.module), rel=1e-3)
    assert sizes.text_parameters == pytest.approx(count(model.text_encoder), rel=1e-3)
    assert sizes.sound_parameters == pytest.approx(count(model.vae), rel=0.02)
    assert (sizes.depth, sizes.grid.frames) == model.latent_shape
    assert sizes.grid.seconds == pytest.approx(model.max_seconds) and sizes.hop == model.hop
    assert sizes.hop_s == pytest.approx(model.hop / model.sample_rate)
    if name != "three":
        assert sizes.grid == model.grid
    assert sizes.is_distilled == getattr(model, "distilled", False) == (name == "published")
    assert (sizes.is_variable, sizes.is_small) == (name in ("three", "published"), name == "embedded")
    cross = model.condition(["dog"], [1.0]).cross
    assert sizes.attended == cross.shape[1]
    x = torch.randn(1, *model.latent_shape)
    seen = []
    blocks = model.module.transformer_blocks
    blocks[0].register_forward_hook(lambda _, inputs, out: seen.append(out.shape))
    with torch.no_grad():
        model.predict(x, torch.tensor([0.5]), model.condition(["dog"], [1.0]))
    assert seen == [(1, sizes.grid.frames + sizes.extra, sizes.width)] and len(blocks) == sizes.layers


def test_a_model_of_stable_audio_tools_tells_by_its_config_and_the_head_of_its_weights(tmp_path):
    (tmp_path / "model_config.json").write_text(json.dumps(config_of("v")))
    state = {
        "model.model.weight": torch.zeros(3, 5),
        "pretransform.weight": torch.zeros(7),
        "conditioner.x": torch.ones(2),
    }
    save_file(state, tmp_path / "model.safetensors")
    for model in (tmp_path, tmp_path / "model.safetensors"):
        sizes = sizes_of(str(model))
        assert (sizes.parameters, sizes.sound_parameters, sizes.width, sizes.layers) == (17, 7, 128, 2)
        assert (sizes.grid.frames, sizes.hop, sizes.grid.seconds) == (40, 512, 1.28) and sizes.is_exact
        assert sizes.attended == 12 + 2 and sizes.channels == (8, 8)


def test_what_is_not_on_this_disk_is_known_as_published_or_not_at_all(tmp_path):
    sizes = sizes_of("stabilityai/stable-audio-open-1.0")
    assert sizes is PUBLISHED["stabilityai/stable-audio-open-1.0"]
    assert sizes.grid.seconds == pytest.approx(47.55, abs=0.01) and sizes.grid.reach == 11
    assert sizes_of("stabilityai/stable-audio-open-1.0@main") is sizes
    assert sizes_of("owner/unknown") is None
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer/config.json").write_text("{")
    assert sizes_of(str(tmp_path)) is None


@pytest.mark.parametrize(("name", "differential"), [("small-sfx", False), ("medium-base", True)])
def test_stable_audio_3_as_its_makers_print_its_config(name, differential):
    """The networks with these sizes; the published file of small-sfx-base has 2,270,384,940 bytes."""
    from diffusers import AutoencoderSAME, StableAudio3DiTModel

    from synthio.models.same import ChunkedSAME

    sizes = PUBLISHED[f"stabilityai/stable-audio-3-{name}"]
    with torch.device("meta"):
        network = StableAudio3DiTModel(
            embed_dim=sizes.width,
            depth=sizes.layers,
            num_heads=sizes.width // 64,
            use_differential_attention=differential,
        )
        large = {"encoder_channels": 256, "encoder_transformer_depths": (12,)}
        sound = AutoencoderSAME(**large) if differential else ChunkedSAME()
    assert sizes.parameters == pytest.approx(count(network), rel=1e-3)
    assert sizes.sound_parameters == pytest.approx(count(sound), rel=3e-3)
    if not differential:
        header = 2_270_384_940 - 4 * (count(network) + count(sound) + 768 * 257)
        assert 50_000 < header < 150_000, "the rest is the list of its weights"
