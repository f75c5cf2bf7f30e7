"""What a finished training leaves, so that the same one is not done again.

    state = take_over(other_folder, key, model) or fit(...)    # the key: a hash of all that shapes the weights
    keep_training(folder, key, state, head_of(model))    # once model/ is there

The second classifier of a run trains on the gold clips alone where synthetic ones do not help on the validation clips:
that training is the first one's, to the bit.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from synthio.classification.script import FINISHED
from synthio.files import sha256_file, sha256_value
from synthio.models.classifiers import linear_name
from synthio.training.loop import Checkpoint

if TYPE_CHECKING:
    from synthio.classification.training import Fitting

WEIGHTS = "model/model.safetensors"


def head_of(model) -> dict[str, torch.Tensor]:
    """A copy, on the CPU, of the weights of a classifier that calibration changes."""
    head = linear_name(model)
    return {name: tensor.cpu().clone() for name, tensor in model.state_dict().items() if name.startswith(head)}


def keep_training(folder: Path, key: str, state: Fitting, head: dict[str, torch.Tensor]) -> None:
    """Write beside the model of a finished training what `take_over` needs besides: a small file.

    Args:
        folder: output folder, with the calibrated model in `model/`, whose weights but the head's are as trained.
        key: of the training.
        state: that it ended with.
        head: from `head_of`, before calibration.
    """
    _file(folder, key).save(replace(state, best_state=head, start_state={}, seconds=0.0), {})


def take_over(folder: str | Path, key: str, model) -> Fitting | None:
    """Bring a network to the weights that a finished training chose, if it is the one of this key; returns its state.

    Args:
        folder: its output folder.
        key: of the training that is wanted.
        model: untrained, of the same labels and input length.

    Returns:
        The state without tensors, whose `seconds` are 0; None where the folder has no such training, or one whose files
        are damaged or not those that it left. The model is as it was then.
    """
    from synthio.classification.saved import load_saved
    from synthio.classification.training import Fitting

    folder, state = Path(folder), Fitting()
    if not (folder / FINISHED).is_file() or not (folder / WEIGHTS).is_file():
        return None
    if not _file(folder, key).restore(state, {}):
        return None
    saved, _ = load_saved((folder / WEIGHTS).parent, "cpu")
    model.load_state_dict({**saved.state_dict(), **state.best_state})
    return replace(state, best_state={})


def _file(folder: Path, key: str) -> Checkpoint:
    """The file, which is of no use with other weights than those that it was written for."""
    return Checkpoint(folder / FINISHED, sha256_value([key, sha256_file(folder / WEIGHTS)]))
