"""Checkpoints of stable-audio-tools: which file, what is in it, and what is left out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from synthio.cli import UserError
from synthio.models import tools_checkpoint
from synthio.models.load import backend_of
from tests.models.trained import save_training, weights
from tests.programs import small_tools_model


@pytest.fixture
def hub_cache(tmp_path, monkeypatch) -> Path:
    """The cached snapshot of the hub id me/mine; there is no network."""
    snapshot = tmp_path / "models--me--mine/snapshots/abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--me--mine/refs").mkdir()
    (tmp_path / "models--me--mine/refs/main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return snapshot


def test_a_downloaded_hub_id_is_told_by_its_files(hub_cache):
    (hub_cache / "model_config.json").touch()
    assert backend_of("me/mine") == "stable_audio_tools"
    (hub_cache / "own name.ckpt").touch()
    found = tools_checkpoint.find_model("me/mine")
    assert found == (hub_cache / "model_config.json", hub_cache / "own name.ckpt")


def test_a_hub_id_that_cannot_be_had(hub_cache):
    assert backend_of("me/absent") == "diffusers"
    with pytest.raises(UserError, match=r"'me/absent' is no local file or folder; on the hub: not in the cache"):
        tools_checkpoint.find_model("me/absent")


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["model_config.json", "model.safetensors", "model.ckpt", "base_model.ckpt"], "model.safetensors"),
        (["model_config.json", "base_model.ckpt", "model.ckpt"], "model.ckpt"),
        (["model_config.json", "epoch=3.ckpt", "README.md"], "epoch=3.ckpt"),
    ],
)
def test_the_checkpoint_of_several_files(names, chosen):
    assert tools_checkpoint.choose_checkpoint(names, "x") == chosen


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["model.ckpt"], "no model_config.json"),
        (["model_config.json"], "has no checkpoint"),
        (["model_config.json", "b.ckpt", "a.ckpt"], r"several checkpoints \(a\.ckpt, b\.ckpt\); name one"),
    ],
)
def test_files_that_leave_no_choice(tmp_path, names, reason):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=reason):
        tools_checkpoint.find_model(str(tmp_path))


def test_a_checkpoint_without_its_config(tmp_path):
    (tmp_path / "a.ckpt").touch()
    with pytest.raises(UserError, match=r"a\.ckpt: has no model_config\.json beside it"):
        tools_checkpoint.find_model(str(tmp_path / "a.ckpt"))
    for name in ("model_config.json", "a_config.json"):  # the second one is the checkpoint's own
        (tmp_path / name).touch()
        assert tools_checkpoint.find_model(str(tmp_path / "a.ckpt")) == (tmp_path / name, tmp_path / "a.ckpt")


def test_lightnings_average_is_taken_and_what_serves_training_is_not(tmp_path):
    training = {"discriminator.z": torch.zeros(1), "losses.losses.0.weight": torch.zeros(1)}
    wrapped = small_tools_model.lightning(weights())
    wrapped["state_dict"] |= training
    torch.save(wrapped, tmp_path / "a.ckpt")
    state = tools_checkpoint.read_state(tmp_path / "a.ckpt")
    assert {key: value.tolist() for key, value in state.items()} == {k: v.tolist() for k, v in weights().items()}


def test_lightning_without_an_average(tmp_path):
    torch.save({"state_dict": {f"diffusion.{k}": v for k, v in weights().items()}}, tmp_path / "a.ckpt")
    assert set(tools_checkpoint.read_state(tmp_path / "a.ckpt")) == set(weights())


@pytest.mark.parametrize(
    ("key", "reason"),
    [("autoencoder.x", "one that is known here: autoencoder.x"), ("diffusion_ema.ema_model.new", "model.new")],
)
def test_what_is_neither_model_nor_training_is_refused(tmp_path, key, reason):
    wrapped = small_tools_model.lightning(weights())
    wrapped["state_dict"][key] = torch.zeros(1)
    torch.save(wrapped, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=reason):
        tools_checkpoint.read_state(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.ckpt", b"no weights", "not a checkpoint of plain tensors"),
        ("a.safetensors", b"no weights", "not a whole safetensors file"),
        ("a.ckpt", {"state_dict": {"x": 3}}, "no state dict"),
        ("a.ckpt", [1, 2], "no state dict"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path, name, content, reason):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        torch.save(content, tmp_path / name)
    with pytest.raises(UserError, match=reason):
        tools_checkpoint.read_state(tmp_path / name)


def test_prefixes_are_split_off(tmp_path):
    state = small_tools_model.prefix_state()
    rest, prefixes = tools_checkpoint.split_prefixes(weights() | state, tmp_path)
    assert set(rest) == set(weights())
    assert (
        set(prefixes.tokens)
        == set(prefixes.gates)
        == {f"{i}.{kind}_attn" for i in (0, 1) for kind in ("self", "cross")}
    )
    key = "model.model.transformer.layers.1.cross_attn"
    assert torch.equal(prefixes.tokens["1.cross_attn"], state[f"{key}.adapter_wte.weight"])
    assert prefixes.gates["1.cross_attn"].tolist() == state[f"{key}.gating_factor"].flatten().tolist()
    assert tools_checkpoint.split_prefixes(weights(), tmp_path)[1] is None
    del state[f"{key}.gating_factor"]
    with pytest.raises(UserError, match=r"lack tokens or gate in 1\.cross_attn"):
        tools_checkpoint.split_prefixes(state, tmp_path)


def test_pickled_objects_are_refused_with_the_way_out(tmp_path):
    with pytest.raises(
        UserError, match=r"argparse\..*never run; take its tensors out: python .*convert_checkpoint\.py"
    ):
        tools_checkpoint.read_state(save_training(tmp_path))
