"""What a preference training has learnt: the data, or the marks that the model's own autoencoder leaves?

A generated clip has been through the decoder and a gold clip has not, so a model may learn to prefer clips that were
never decoded, which says nothing of how they sound. Two controls tell, with the times and noise of several draws:

* whether the trained model prefers real clips to their own decoded copies, which differ in nothing else. By chance it
  does so in half of the draws;
* by how much its diffusion error has changed on the gold clips, and on clips of the same kind that it has not seen. A
  training that helps does not raise it: a preference is also learnt where the loser's error alone rises.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from synthio.batching import Halving
from synthio.files import stable_seed
from synthio.generation.pairs import TrainingData, encode_pairs, gold_alone
from synthio.generation.preference import Draw, buckets, diffusion_errors, draw_rows
from synthio.models.adapters import Trainable
from synthio.models.base import TextToAudio

if TYPE_CHECKING:
    import pandas as pd

DRAWS = 2  # of time and noise, for each clip: a few seconds on a CPU for the embedded model
MAX_CLIPS = 64  # of each set: the standard error is then a few percent of what is worth knowing
MAX_CODEC_ACCURACY = 0.6  # above, the training has learnt the autoencoder


@dataclass(frozen=True)
class Control:
    """Of one set of real clips, after a training.

    Attributes:
        clips: how many.
        error_change: mean change of the diffusion error by the training.
        error_change_se: its standard error over the clips.
        codec_accuracy: share of the draws in which a real clip is preferred to its decoded copy, ties counting one
            half; None where there were no copies.
    """

    clips: int
    error_change: float
    error_change_se: float
    codec_accuracy: float | None


def control_clips(
    clips: pd.DataFrame, model: TextToAudio, identity: str, cache: Path, seed: int, copies: bool
) -> TrainingData:
    """Real clips under the template of their label, against their own decoded copies or against nothing.

    Args:
        clips: a manifest; of many, some are taken.
        model, identity, cache: as in `encode_pairs`.
        seed: which are taken where there are more than `MAX_CLIPS`.
        copies: whether the decoded copies are there, too.
    """
    order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(stable_seed(seed, "control clips")))
    pairs = gold_alone(clips.iloc[sorted(order[:MAX_CLIPS].tolist())])
    if copies:
        pairs = [pair._replace(loser=pair.winner) for pair in pairs]
    return encode_pairs(pairs, model, identity, cache, decode_losers=copies)


def error_changes(model: TextToAudio, trainable: Trainable, draw: Draw) -> torch.Tensor:
    """By how much the training changed the errors of winners and, where there are losers, theirs: [B, 1 or 2]."""
    with trainable.reference():
        before = torch.stack(diffusion_errors(model, draw), dim=1)
    return (torch.stack(diffusion_errors(model, draw), dim=1) - before).cpu()


def changes_of(model: TextToAudio, trainable: Trainable, draw: Draw, fitting: Halving) -> torch.Tensor:
    """`error_changes` of all rows, in parts that the network can run and memory holds."""
    order = buckets(model, draw)
    parts = [fitting.run(lambda rows: error_changes(model, trainable, draw.rows(rows)), rows) for rows in order]
    return torch.stack([row for part in parts for row in part])[torch.cat(order).argsort()]


@torch.no_grad()
def measure(model: TextToAudio, trainable: Trainable, data: TrainingData, batch_size: int, seed: int) -> Control:
    """The control of what is now in `trainable`.

    Args:
        model: whose module is trained.
        trainable: with the reference that it was trained from.
        data: of `control_clips`.
        batch_size: clips at once.
        seed: of times and noise.
    """
    fitting, rows, found = Halving(batch_size), torch.arange(len(data)), []
    for k in range(DRAWS):
        generator = torch.Generator().manual_seed(stable_seed(seed, "control", k))
        found.append(changes_of(model, trainable, draw_rows(data, rows, generator, "uniform", 0.0), fitting))
    changes = torch.stack(found)  # [DRAWS, clips, sides]
    per_clip = changes[:, :, 0].mean(dim=0)
    spread = float(per_clip.std() / len(data) ** 0.5) if len(data) > 1 else 0.0
    return Control(len(data), float(per_clip.mean()), spread, None if data.losers is None else codec_accuracy(changes))


def codec_accuracy(changes: torch.Tensor) -> float:
    """See `Control`; `changes` [..., 2] are those of a real clip's error and of its decoded copy's."""
    real, copy = changes.unbind(dim=-1)
    return float(((real < copy).float() + 0.5 * (real == copy).float()).mean())


def describe(gold: Control, unseen: Control | None) -> str:
    """One line for people."""
    assert gold.codec_accuracy is not None, "there were copies of the gold clips"
    text = f"real clips are preferred to their own decoded copies in {gold.codec_accuracy:.2f} (chance: 0.50)"
    if gold.codec_accuracy > MAX_CODEC_ACCURACY:
        text += ", so it has learnt the autoencoder"
    for control, which in ((gold, "gold"), (unseen, "unseen validation")):
        if control:
            change = f"{control.error_change:+.2g} (se {control.error_change_se:.1g})"
            text += f"; error change on {control.clips} {which} clips {change}"
    return text
