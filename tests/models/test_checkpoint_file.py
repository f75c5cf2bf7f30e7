"""Pickled checkpoints: tensors are read, code is not run."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch

from synthio.cli import UserError
from synthio.models import checkpoint_file
from synthio.models.strict import fill


@pytest.fixture
def layer():
    return torch.nn.Sequential(torch.nn.Linear(2, 3))


def test_numbers_of_numpy_are_data(tmp_path):
    content = {"best": np.float64(0.5), "epoch": np.int64(3), "state_dict": {"module.0.bias": torch.ones(3)}}
    torch.save(content, tmp_path / "x.pt")
    found = checkpoint_file.read_checkpoint(tmp_path / "x.pt")
    assert found["best"] == 0.5 and found["epoch"] == 3
    assert list(checkpoint_file.state_dict_of(found, "state_dict", tmp_path)) == ["0.bias"]


def test_pickled_code_is_refused(tmp_path):
    torch.save({"args": argparse.Namespace(lr=1), "state_dict": {}}, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"reading its 'argparse\.Namespace' could run code.*state_dict\(\) alone"):
        checkpoint_file.read_checkpoint(tmp_path / "x.pt")
    with pytest.raises(UserError, match="no such file"):
        checkpoint_file.read_checkpoint(tmp_path / "y.pt")
    with pytest.raises(UserError, match=r"no state dict .* under 'model'"):
        checkpoint_file.state_dict_of({"model": {"epoch": 3}}, "model", tmp_path)


def test_every_place_is_filled(layer, capsys):
    weights = {"0.weight": torch.ones(3, 2).half(), "0.bias": torch.ones(3)}
    fill(layer, weights | {"embeddings.position_ids": torch.ones(1)}, Path("x.pt"), "a layer")
    assert (layer[0].weight == 1).all() and layer[0].weight.dtype == torch.float32 and not capsys.readouterr().err
    with pytest.raises(UserError, match=r"has 1 weights that a layer has no place for: head\.bias"):
        fill(layer, weights | {"head.bias": torch.ones(1)}, Path("x.pt"), "a layer")
    fill(layer, weights | {"head.bias": torch.ones(1)}, Path("x.pt"), "a layer", may_have_more=True)
    assert "1 tensors are no part of a layer, such as head.bias" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"x\.pt: lacks 1 weights of a layer: 0\.bias"):
        fill(layer, {"0.weight": torch.ones(3, 2)}, Path("x.pt"), "a layer")
    with pytest.raises(UserError, match=r"1 weights of another shape: 0\.bias \[1\] in place of \[3\]"):
        fill(layer, weights | {"0.bias": torch.ones(1)}, Path("x.pt"), "a layer")
    with pytest.raises(UserError, match=r"1 of its weights hold NaN or infinity: 0\.bias"):
        fill(layer, weights | {"0.bias": torch.full((3,), torch.nan)}, Path("x.pt"), "a layer")
