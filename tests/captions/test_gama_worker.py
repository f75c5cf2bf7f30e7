"""The process that holds GAMA: its weights, all of them, and nothing else."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from synthio.captions.gama_worker import Refused, load_weights
from tests.captions.weights import layer, written


def test_every_weight_is_taken_from_the_checkpoint(tmp_path):
    state = {key: 2 * value for key, value in layer().state_dict().items()}
    save_file(state, tmp_path / "all.safetensors")
    for path in (written(tmp_path / "all.bin"), tmp_path / "all.safetensors"):
        model = layer()
        load_weights(model, path)
        assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"0.weight": None}, r"1 key missing \(0\.weight\)"),
        ({"0.weight": None, "1.weight": None}, r"2 keys missing \(0\.weight, 1\.weight\)"),
        ({"2.weight": torch.ones(1)}, r"1 key unexpected \(2\.weight\)"),
        ({"0.bias": torch.ones(4)}, r"1 key of another shape \(0\.bias\)"),
        ({"0.bias": None, "0.b": torch.ones(3)}, r"missing \(0\.bias\); 1 key unexpected \(0\.b\)"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path, changed, message):
    """Loading with strict=False, as the repository's scripts do, would leave random weights and tell nobody."""
    with pytest.raises(Refused, match=message):
        load_weights(layer(), written(tmp_path / "other.bin", **changed))


def test_numbers_that_follow_from_the_shapes_may_be_there_or_not(tmp_path):
    load_weights(layer(), written(tmp_path / "more.bin", **{"layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}))


def test_a_checkpoint_with_code_in_it_is_refused_with_the_way_out(tmp_path):
    torch.save({"0.weight": torch.ones(1), "args": argparse_like()}, tmp_path / "code.bin")
    with pytest.raises(Refused, match=r"could run code \(.*save its state dict with safetensors"):
        load_weights(layer(), tmp_path / "code.bin")


def argparse_like():
    import argparse

    return argparse.Namespace(learning_rate=1.0)


@pytest.mark.parametrize("name", ["cut.bin", "cut.safetensors"])
def test_half_a_checkpoint_is_refused(tmp_path, name):
    whole = written(tmp_path / "whole.bin").read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Refused, match="downloaded whole"):
        load_weights(layer(), tmp_path / name)
