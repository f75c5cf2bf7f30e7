"""A training that is finished, for another one that is the same: the weights, bit for bit, and nothing else's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import ASTFeatureExtractor

from synthio.classification.finished import WEIGHTS, head_of, keep_training, take_over
from synthio.classification.training import Fitting, scale_logits
from synthio.models.ast_model import load_ast
from tests.classification.toy_clips import PITCHES, save_tiny_ast

HISTORY = [{"step": 0, "valid_loss": 0.75, "alpha": 1.0}, {"step": 20, "valid_loss": 0.5, "alpha": 0.25}]


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    return save_tiny_ast(tmp_path_factory.mktemp("start") / "ast")


def new_ast(start: Path, seed: int):
    return load_ast(str(start), list(PITCHES), 64, False, seed)


@pytest.fixture
def finished(start, tmp_path) -> tuple[Path, dict[str, torch.Tensor]]:
    """A folder whose saved model is calibrated, and the weights before that."""
    model = new_ast(start, 1)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(0.1)
    before, head = {name: tensor.clone() for name, tensor in model.state_dict().items()}, head_of(model)
    scale_logits(model, 1.7, 0.3)
    model.save_pretrained(tmp_path / "model")
    ASTFeatureExtractor(max_length=64, num_mel_bins=32).save_pretrained(tmp_path / "model")
    state = Fitting(
        step=40, history=HISTORY, seconds=9.0, best_step=20, best_loss=0.5, best_state=before, start_state=before
    )
    keep_training(tmp_path, "key", state, head)
    return tmp_path, before


def test_the_weights_before_calibration_come_back_to_the_bit(start, finished):
    folder, before = finished
    model = new_ast(start, 2)
    state = take_over(folder, "key", model)
    assert state == Fitting(step=40, history=HISTORY, best_step=20, best_loss=0.5)
    assert state.best_row() == HISTORY[1]
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_file_holds_the_head_alone(finished):
    folder, before = finished
    kept = torch.load(folder / "finished.pt", weights_only=True)["state"]
    assert (
        set(kept["best_state"]) == {name for name in before if name.startswith("classifier.dense.")}
        and len(kept["best_state"]) == 2
    )
    assert (folder / "finished.pt").stat().st_size < 10_000 < (folder / WEIGHTS).stat().st_size


@pytest.mark.parametrize("case", ["key", "no file", "no weights", "other weights", "damaged"])
def test_nothing_else_is_taken_over(start, finished, case):
    folder, file = finished[0], finished[0] / "finished.pt"
    if case == "no file":
        file.unlink()
    elif case == "no weights":
        (folder / WEIGHTS).unlink()
    elif case == "other weights":
        new_ast(start, 3).save_pretrained(folder / "model")
    elif case == "damaged":
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    model = new_ast(start, 2)
    untouched = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert take_over(folder, "other" if case == "key" else "key", model) is None
    assert all(torch.equal(tensor, untouched[name]) for name, tensor in model.state_dict().items())
