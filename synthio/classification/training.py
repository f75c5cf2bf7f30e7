"""The audio classifier: AST, or another one of transformers, fitted to a few labelled clips.

    split = make_split(read_features(paths, csv, 128, limit), targets, norm)
    fit(model, train, valid, recipe, device, checkpoint)

Everything random is a function of (seed, step) alone, so a run that was killed goes on from its checkpoint and ends
with the same weights as one that was not. Model selection sees the validation set only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from torch.nn import functional

from synthio.audio import BadAudio, fit_length, read_audio
from synthio.batching import Halving
from synthio.classification.augment import augment
from synthio.classification.metrics import score_of
from synthio.classification.optimisation import make_optimizer, rate_at
from synthio.classification.options import NO_AUGMENT, Recipe
from synthio.classification.probe import FEW_CLIPS_C, LinearProbe, fit_probe, surprise
from synthio.classification.ragged import Features, over_shapes
from synthio.classification.supcon import PROJECTION_SIZE, SupConAst, supcon_loss
from synthio.classification.weighting import choose_synthetic_weight, class_weights, draw_rates
from synthio.cli import AUTO, UserError, progress
from synthio.files import stable_seed
from synthio.models.classifiers import linear_of, read_by_linear
from synthio.models.fbank import SAMPLE_RATE, WINDOW, kaldi_fbank, num_frames, num_samples
from synthio.models.precision import autocast
from synthio.training import loop
from synthio.training.loop import (
    Checkpoint,
    State,
    batch_rows,
    check_finite,
    epoch_order,
    rows_at,
    set_learning_rate,
)
from synthio.training.processes import ALONE, Processes

if TYPE_CHECKING:
    from synthio.models.base import OwnHead

# SpecAugment of AST's ESC-50 recipe: up to 24 of 128 bands and 96 of 512 frames.
MASKED_BANDS, MASKED_TIME = 24 / 128, 96 / 512
CLIPS_AT_ONCE = 256  # whose features are kept while the others are read


Batch = tuple[Features, torch.Tensor, torch.Tensor]  # features, targets [B, C] and weights in the loss [B]


class Input(Protocol):
    """How a network hears a clip: `Normalisation` for AST, `wave_input.WaveInput` for the others.

    Attributes:
        sample_rate: in Hz.
        least: samples that a shorter clip is filled up to, with silence.
    """

    @property
    def sample_rate(self) -> int: ...

    @property
    def least(self) -> int: ...

    def hear(self, waveform: np.ndarray, config: Any) -> torch.Tensor:  # Any: the network's, of transformers
        """What is kept of a clip [T], float32."""
        ...

    def fill(self, clips: Sequence[torch.Tensor]) -> Features:
        """What the network reads of clips that were heard, float32."""
        ...

    def changed(self, waveforms: Sequence[np.ndarray], features: Features) -> Features:
        """What it reads of waveforms that were changed, each [T], in place of these features."""
        ...

    def mixed(self, alpha: float, rng: np.random.Generator, waveforms: Sequence[np.ndarray], batch: Batch) -> Batch:
        """`mixup` of a batch whose waveforms these are, if there are any."""
        ...

    def record(self) -> dict[str, Any]:
        """For scores.json."""
        ...


@dataclass(frozen=True)
class Normalisation:
    """Input length in frames (10 ms) and the statistics of the pretraining audio, as ASTFeatureExtractor keeps them."""

    frames: int
    mean: float
    std: float
    sample_rate: ClassVar[int] = SAMPLE_RATE
    least: ClassVar[int] = WINDOW

    def apply(self, features: torch.Tensor) -> torch.Tensor:
        """(x - mean) / (2 std), which is AST's convention."""
        return (features - self.mean) / (2 * self.std)

    def hear(self, waveform: np.ndarray, config: Any) -> torch.Tensor:  # Any: ASTConfig
        """See `Input`: log-mels [frames, bands]."""
        return log_mel(waveform, config.num_mel_bins, self.frames)

    def fill(self, clips: Sequence[torch.Tensor]) -> torch.Tensor:
        """See `Input`: [N, frames, bands]."""
        return fill(clips, self)

    def changed(self, waveforms: Sequence[np.ndarray], features: Features) -> torch.Tensor:
        """See `Input`: [N, frames, bands]."""
        assert isinstance(features, torch.Tensor), "AST's are of one shape"
        return changed_features(waveforms, self, features.shape[2])

    def mixed(self, alpha: float, rng: np.random.Generator, waveforms: Sequence[np.ndarray], batch: Batch) -> Batch:
        """See `Input`; spectrograms are blended."""
        features, targets, weights = batch
        assert isinstance(features, torch.Tensor), "AST's are of one shape"
        features, targets, weights = mixup(alpha, rng, features, targets, weights)
        return features, targets, weights

    def record(self) -> dict[str, Any]:
        """See `Input`."""
        return vars(self)


@dataclass(frozen=True)
class Split:
    """Clips ready for the model: normalised features float16 [N, frames, bands], targets float32 [N, C].

    Of other networks than AST the features are of each clip's own length, those of validation clips in float32. The
    waveforms, float32 [T] at the network's rate, are kept only where they are changed. Of training clips: `weights`
    float32 [N] in the loss, None: all the same; `is_synthetic` bool [N], None: none is. `settle_weights` sets the
    weights.
    """

    features: Features
    targets: torch.Tensor
    norm: Input
    waveforms: Sequence[np.ndarray] = ()
    weights: torch.Tensor | None = None
    is_synthetic: np.ndarray | None = None

    def rows(self, kept: np.ndarray) -> Split:
        """Some of the clips, bool [N]."""
        if kept.all():
            return self
        waveforms = (
            [waveform for waveform, keep in zip(self.waveforms, kept, strict=True) if keep] if self.waveforms else ()
        )
        weights = None if self.weights is None else self.weights[kept]
        is_synthetic = None if self.is_synthetic is None else self.is_synthetic[kept]
        return Split(self.features[kept], self.targets[kept], self.norm, waveforms, weights, is_synthetic)


@dataclass
class Fitting(State):
    """A training of the classifier; `history` has its evaluations.

    `best_*` are of the step chosen so far, `start_state` is what the weights are averaged with, if they are.
    """

    best_step: int = 0
    best_loss: float = math.inf
    best_state: dict[str, torch.Tensor] = field(default_factory=dict)
    start_state: dict[str, torch.Tensor] = field(default_factory=dict)

    def best_row(self) -> dict[str, Any]:
        """The evaluation of the step chosen so far."""
        return next(row for row in self.history if row["step"] == self.best_step)

    def is_stuck(self, patience: int) -> bool:
        """Whether the last `patience` evaluations brought nothing better; never for 0."""
        return 0 < patience <= sum(row["step"] > self.best_step for row in self.history)


# Features


def read_waveforms(
    paths: Sequence[str], csv: str | Path, rate: int = SAMPLE_RATE, least: int = WINDOW
) -> Iterator[np.ndarray]:
    """Each clip, mono float32 [T] at a rate in Hz. One of less than `least` samples is filled up with silence.

    Raises:
        UserError: a clip cannot be used (CSV, row, path and reason).
    """
    for row, path in enumerate(progress(paths, f"features of {Path(csv).name}"), 1):
        try:
            audio, _ = read_audio(path, rate)
        except BadAudio as error:
            raise UserError(f"{csv} row {row}: {path}: {error}") from None
        yield fit_length(audio, max(least, audio.shape[1]))[0]


def log_mel(waveform: np.ndarray, num_mel_bins: int, limit: int) -> torch.Tensor:
    """The first `limit` frames of a clip's features, float32 [frames, num_mel_bins].

    The mean of the waveform needs no removal: the filterbank removes it from each frame.
    """
    return kaldi_fbank(torch.from_numpy(waveform)[None], num_mel_bins)[0, :limit]


def read_features(paths: Sequence[str], csv: str | Path, num_mel_bins: int, limit: int) -> list[torch.Tensor]:
    """`log_mel` of each clip; raises as `read_waveforms`."""
    return [log_mel(waveform, num_mel_bins, limit) for waveform in read_waveforms(paths, csv)]


def choose_frames(counts: Sequence[int], limit: int, config, rule: str = "percentile") -> int:
    """Input length for clips with `counts` frames: their 95th percentile or mean, at most `limit`, in whole patches.

    A clip padded to ten seconds does badly and costs the square of its length, hence from the data.
    """
    length = np.mean(counts) if rule == "mean" else np.percentile(counts, 95)
    frames = max(min(math.ceil(length), limit), config.patch_size)
    return frames - (frames - config.patch_size) % config.time_stride


def make_split(
    features: Sequence[torch.Tensor],
    targets: np.ndarray,
    norm: Normalisation,
    waveforms: Sequence[np.ndarray] = (),
    is_synthetic: np.ndarray | None = None,
) -> Split:
    """Clips as the model hears them (`fill`), kept as float16."""
    return Split(fill(features, norm, torch.float16), torch.from_numpy(targets), norm, waveforms, None, is_synthetic)


def fill(features: Sequence[torch.Tensor], norm: Normalisation, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Log-mels, each [frames, bands], cut or padded to `norm.frames` and normalised: [N, norm.frames, bands].

    Padding is 0 before normalisation, which is what ASTFeatureExtractor does: a saved model must hear the same.
    """
    batch = torch.empty(len(features), norm.frames, features[0].shape[1], dtype=dtype)
    for i, clip in enumerate(features):
        clip = functional.pad(clip[: norm.frames], (0, 0, 0, max(0, norm.frames - len(clip))))
        batch[i] = norm.apply(clip)
    return batch


def changed_features(changed: Sequence[np.ndarray], norm: Normalisation, num_mel_bins: int) -> torch.Tensor:
    """Features of waveforms, normalised and padded as in `make_split`, float32 [B, frames, bands].

    One filterbank for all: the clips are filled up with silence, and the frames that hear it become padding.
    """
    samples = num_samples(norm.frames)
    changed = [waveform[:samples] for waveform in changed]
    batch = np.concatenate([fit_length(waveform[None], samples) for waveform in changed])
    features = kaldi_fbank(torch.from_numpy(batch), num_mel_bins)
    counts = torch.tensor([max(1, num_frames(len(waveform))) for waveform in changed])
    padding = torch.arange(norm.frames)[None] >= counts[:, None]
    return norm.apply(features.masked_fill(padding[:, :, None], 0.0))


def draw_mixup(alpha: float, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(share of each of so many clips, the clip that it is blended with): Zhang et al. 2018, equation 1."""
    return rng.beta(alpha, alpha, count), rng.permutation(count)


def mixup(alpha: float, rng: np.random.Generator, *tensors: torch.Tensor) -> list[torch.Tensor]:
    """Blend each clip with another of the batch: features [B, F, M], targets [B, C] and so on by the same weight.

    The weight is Beta(alpha, alpha), one for each clip.
    """
    drawn = draw_mixup(alpha, rng, len(tensors[0]))
    return blend(*drawn, *tensors)


def blend(shares_of: np.ndarray, others: np.ndarray, *tensors: torch.Tensor) -> list[torch.Tensor]:
    """share * x + (1 - share) * x of the other, of each tensor [B, ...]."""
    share = torch.from_numpy(shares_of).to(tensors[0])
    other = torch.from_numpy(others).to(share.device)
    shares = [share.reshape(-1, *[1] * (x.ndim - 1)) for x in tensors]
    return [w * x + (1 - w) * x[other] for w, x in zip(shares, tensors, strict=True)]


def spec_augment(features: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Set one band of frequencies and one stretch of time of each clip [B, F, M] to the training mean, which is 0.

    Widths are uniform up to the AST recipe's (Park et al. 2019, section 2, without time warping).
    """
    features = features.clone()
    for clip in features:
        for axis, share in ((0, MASKED_TIME), (1, MASKED_BANDS)):
            size = clip.shape[axis]
            width = int(rng.integers(0, int(share * size) + 1))
            start = int(rng.integers(0, size - width + 1))
            clip.narrow(axis, start, width).zero_()
    return features


# Training


def mixed_rows(is_synthetic: np.ndarray, weight: float, batch_size: int, step: int, seed: int) -> np.ndarray:
    """`batch_rows` where a synthetic clip comes `weight` times as often as a real one; each kind has epochs of its own.

    The two kinds are spread evenly, so that all batches have the same share of synthetic clips, but for one clip.
    """
    real, synthetic = np.flatnonzero(~is_synthetic), np.flatnonzero(is_synthetic)
    share = weight * len(synthetic) / (len(real) + weight * len(synthetic))
    places = np.arange(step * batch_size, (step + 1) * batch_size + 1)
    before = np.floor(places * share).astype(int)  # synthetic clips before each place
    chosen = np.diff(before) > 0
    rows = np.empty(batch_size, int)
    orders = (
        partial(epoch_order, len(synthetic), stable_seed(seed, "synthetic")),
        partial(epoch_order, len(real), seed),
    )
    rows[chosen] = synthetic[rows_at(before[:-1][chosen], len(synthetic), orders[0])]
    rows[~chosen] = real[rows_at((places - before)[:-1][~chosen], len(real), orders[1])]
    return rows


def loss_of(
    logits: torch.Tensor, targets: torch.Tensor, multi_label: bool, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Binary cross-entropy for multi-label targets [B, C], else cross-entropy (targets may be blends).

    The mean over the clips of the batch, each times its weight [B], if there are any.
    """
    if multi_label:
        losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)
    else:
        losses = functional.cross_entropy(logits, targets, reduction="none")
    return (losses if weights is None else losses * weights).mean()


@torch.inference_mode()
def predict(model, features: Features, batch_size: int, device: str) -> torch.Tensor:
    """Logits float32 [N, C] on the CPU of the features of N clips, in evaluation mode."""
    model.eval()
    return _in_batches(lambda batch: model(batch).logits, features, batch_size, device)


def predict_clips(
    model, norm: Input, paths: Sequence[str], csv: str | Path, batch_size: int, device: str
) -> torch.Tensor:
    """Logits float32 [N, C] of sound files, N >= 1, as the saved model gives them in transformers' pipeline.

    Raises:
        UserError: a clip cannot be used (CSV, row, path and reason).
    """
    logits, waiting = [], []
    for row, waveform in enumerate(read_waveforms(paths, csv, norm.sample_rate, norm.least), 1):
        waiting.append(norm.hear(waveform, model.config))
        if len(waiting) == CLIPS_AT_ONCE or row == len(paths):
            logits.append(predict(model, norm.fill(waiting), batch_size, device))
            waiting = []
    return torch.cat(logits)


def _in_batches(
    function: Callable[[torch.Tensor], torch.Tensor], features: Features, batch_size: int, device: str
) -> torch.Tensor:
    """function(features on the device), float32 on the CPU, at most `batch_size` clips at a time, fewer if need be."""

    def run(clips: torch.Tensor) -> torch.Tensor:
        return torch.stack(Halving(batch_size).run(lambda part: function(part.to(device).float()).float().cpu(), clips))

    return over_shapes(run, features)


def evaluate(model, split: Split, recipe: Recipe, device: str) -> tuple[float, float]:
    """(loss at the best temperature, score) on a split; the score is the accuracy, or mAP for multi-label data."""
    from synthio.classification.pool import fit_temperature

    logits, targets = predict(model, split.features, recipe.batch_size, device), split.targets.numpy()
    temperature, offset = fit_temperature(logits.double().numpy(), targets, recipe.multi_label)
    loss = surprise(logits.double().numpy() / temperature + offset, targets, recipe.multi_label).mean()
    return float(loss), score_of(logits, split.targets, recipe.multi_label)


def settle_weights(
    model,
    train: Split,
    valid: Split,
    recipe: Recipe,
    device: str,
    known: LinearProbe | None = None,
    processes: Processes = ALONE,
) -> tuple[Split, Recipe, list[dict[str, float]]]:
    """Give the training clips the weights that the recipe wants; one of "auto" is chosen on the validation clips.

    Args:
        model: from `load_ast`, on `device`; a probe of its untrained body does the choosing.
        train: training clips, with `is_synthetic`.
        valid: validation clips.
        recipe: gives synthetic_weight, class_weights, multi_label and batch_size.
        device: torch device.
        known: what the probe is added to, as in `fit_head`.
        processes: that train together; the main one chooses.

    Returns:
        (training clips that come at all, with their `weights`; the recipe with a number; history of
        `choose_synthetic_weight`, empty where there was nothing to choose).

    Raises:
        UserError: no clip would come, or all training clips have one label.
    """
    assert train.is_synthetic is not None, "of training clips it is known"
    targets = train.targets.numpy()
    history: list[dict[str, float]] = []
    if recipe.synthetic_weight == AUTO:
        weight, history = processes.from_main(lambda: _choose_weight(model, train, valid, recipe, device, known))
        recipe = replace(recipe, synthetic_weight=weight)
    rates = draw_rates(train.is_synthetic, float(recipe.synthetic_weight))
    train, targets, rates = train.rows(rates > 0), targets[rates > 0], rates[rates > 0]
    if recipe.class_weights:
        train = replace(train, weights=torch.from_numpy(class_weights(targets, rates)))
    return train, recipe, history


def _choose_weight(
    model, train: Split, valid: Split, recipe: Recipe, device: str, known: LinearProbe | None
) -> tuple[float, list[dict[str, float]]]:
    """`choose_synthetic_weight` by a probe of the untrained body."""
    assert train.is_synthetic is not None, "of training clips it is known"
    x, valid_x = (_pooled(model, split.features, recipe.batch_size, device).numpy() for split in (train, valid))
    return choose_synthetic_weight(
        (x, train.targets.numpy()),
        (valid_x, valid.targets.numpy()),
        train.is_synthetic,
        recipe.multi_label,
        recipe.class_weights,
        () if known is None else [known.logits(valid_x)],
    )


def fit_head(model, train: Split, valid: Split, recipe: Recipe, device: str, known: LinearProbe | None = None) -> None:
    """Start the linear layer of the head at a linear probe of the untrained body (Kumar et al. 2022, LP-FT).

    From a random head, the first steps bend what the body has learnt to suit the head; few clips do not mend that.
    Where the pretrained head has names for the labels, what it says is added: the sum of two linear layers is one. How
    much each counts is what the validation clips find least surprising.

    Args:
        model: from `load_ast`, on `device`; its head is changed.
        train: what the probe is fitted to.
        valid: what weighs the two.
        recipe: gives multi_label, synthetic_weight and batch_size.
        device: torch device.
        known: the pretrained head's rows of the labels, from `rows_of_labels`; None: the probe alone.

    Raises:
        UserError: all training clips have one label.
    """
    from synthio.classification.pool import fit_weights

    pooled = _pooled(model, train.features, recipe.batch_size, device).numpy()
    weights = np.ones(len(pooled)) if train.weights is None else train.weights.numpy()
    if train.is_synthetic is not None:
        weights = weights * draw_rates(train.is_synthetic, float(recipe.synthetic_weight))
    probe = fit_probe(pooled, train.targets.numpy(), FEW_CLIPS_C, recipe.multi_label, weights)
    if known is not None:
        heard = _pooled(model, valid.features, recipe.batch_size, device).numpy()
        logits = [part.logits(heard) for part in (probe, known)]
        shares, offset = fit_weights(logits, valid.targets.numpy(), recipe.multi_label)
        probe = LinearProbe.summed((probe, known), shares, offset)
    with torch.no_grad():
        linear_of(model).weight.copy_(torch.from_numpy(probe.weight))
        linear_of(model).bias.copy_(torch.from_numpy(probe.bias))


def rows_of_labels(head: OwnHead | None, labels: Sequence[str]) -> LinearProbe | None:
    """What a pretrained head says of labels, as a linear layer: of several names of a label the mean.

    Softmax over some of its classes needs no more than their logits. None where it does not know every label.
    """
    from synthio.classification.naming import match_names

    if head is None:
        return None
    members = match_names(labels, head.names)
    if not members.any(axis=1).all():
        return None
    shares = (members / members.sum(axis=1, keepdims=True)).astype(np.float32)
    return LinearProbe(shares @ head.weight, shares @ head.bias)


@torch.inference_mode()
def _pooled(model, features: Features, batch_size: int, device: str) -> torch.Tensor:
    """What the linear layer of the head reads, float32 [N, H] on the CPU."""
    model.eval()
    return _in_batches(partial(read_by_linear, model), features, batch_size, device)


@torch.no_grad()
def scale_logits(model, temperature: float, offset: float) -> None:
    """Turn a network's logits into logits / temperature + offset, in its own weights, so that any program has them."""
    dense = linear_of(model)
    dense.weight.div_(temperature)
    dense.bias.div_(temperature).add_(offset)


def _drawn_rows(train: Split, recipe: Recipe, step: int) -> np.ndarray:
    if train.is_synthetic is None:
        return batch_rows(len(train.features), recipe.batch_size, step, recipe.seed)
    return mixed_rows(train.is_synthetic, float(recipe.synthetic_weight), recipe.batch_size, step, recipe.seed)


def train_step(
    model,
    optimizer,
    train: Split,
    step: int,
    recipe: Recipe,
    device: str,
    fitting: Halving,
    processes: Processes = ALONE,
) -> float:
    """One optimiser step (from 0), with as many clips at a time as fit; returns the loss.

    The clips are shared out to the processes. All of them are drawn and changed in each, for they share what is random.

    Raises:
        UserError: the loss is not finite.
    """
    rng = np.random.default_rng(stable_seed(recipe.seed, "step", step))
    rows = torch.from_numpy(_drawn_rows(train, recipe, step))
    features, targets = train.features[rows].float(), train.targets[rows]
    weights = torch.ones(len(rows)) if train.weights is None else train.weights[rows]
    waveforms = [train.waveforms[row] for row in rows] if train.waveforms else []
    if recipe.waveform_augment != NO_AUGMENT:
        rate = train.norm.sample_rate
        waveforms = [augment(waveform, rate, recipe.waveform_augment, rng) for waveform in waveforms]
        features = train.norm.changed(waveforms, features)
    if recipe.mixup > 0:
        features, targets, weights = train.norm.mixed(recipe.mixup, rng, waveforms, (features, targets, weights))
    if recipe.spec_augment:
        assert isinstance(features, torch.Tensor), "of other networks than AST it is refused"
        features = spec_augment(features, rng)
    set_learning_rate(optimizer, rate_at(step, len(train.features), recipe))
    model.train()
    batch = (features, targets, weights)
    mine = len(processes.share(len(rows)))
    share = partial(_set_gradient, model, batch, step, recipe, device, processes)
    loss = processes.sum_values({"loss": fitting.retry(share, max(1, mine))})["loss"]
    processes.sum_gradients(model.parameters())
    optimizer.step()
    return loss


def _set_gradient(
    model,
    batch: Batch,
    step: int,
    recipe: Recipe,
    device: str,
    processes: Processes,
    size: int,
) -> float:
    """Give the parameters the gradient of a step's loss, computed `size` clips at a time; returns the loss.

    Of the clips that this process computes: their part of both. Dropout, which AST has none of, draws other masks for
    another number of processes.
    """
    # dropout takes no generator; `fit` shields the state
    torch.manual_seed(stable_seed(recipe.seed, "step", step) + processes.rank)
    model.zero_grad(set_to_none=True)
    count, total = len(batch[0]), 0.0
    mine = processes.share(count)
    if recipe.supcon_weight > 0:
        _check_whole(count, len(mine), size, processes.count)
    for rows in mine.split(size) if len(mine) else ():
        features, targets, weights = batch[0][rows].to(device), batch[1][rows].to(device), batch[2][rows].to(device)
        with autocast(device, recipe.precision):
            logits, projections = _outputs(model, features, recipe)
        loss = contrast = torch.zeros((), device=device)
        if recipe.cross_entropy:
            loss = len(rows) / count * loss_of(logits.float(), targets, recipe.multi_label, weights)
        if recipe.supcon_weight > 0:  # of the whole batch, in each process
            projected = processes.joined(projections.float(), count)
            contrast = supcon_loss(projected, batch[1].to(device), recipe.supcon_temperature)
            loss = loss + recipe.supcon_weight * contrast
        check_finite(loss, "training loss", step)
        loss.backward()
        total += loss.item() - (1 - 1 / processes.count) * recipe.supcon_weight * contrast.item()
    return total


def _outputs(model, features: Features, recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
    """(logits [B, C], projections [B, P]) of a batch; P is 0 where the recipe has no contrastive loss."""

    def run(batch: torch.Tensor) -> torch.Tensor:
        output = model(batch)
        return torch.cat([output.logits, output.projected], dim=1) if recipe.supcon_weight > 0 else output.logits

    if isinstance(features, torch.Tensor):
        output = model(features)
        return output.logits, output.projected if recipe.supcon_weight > 0 else output.logits[:, :0]
    both = over_shapes(run, features)
    classes = both.shape[1] - (PROJECTION_SIZE if recipe.supcon_weight > 0 else 0)
    return both[:, :classes], both[:, classes:]


def _check_whole(count: int, mine: int, size: int, processes: int) -> None:
    """Refuse what cannot be compared at once: SupCon's loss is not that of parts."""
    if processes > count:
        raise UserError(f"--supcon compares {count} clips, which {processes} processes cannot share; use fewer")
    if size < mine:
        raise UserError(
            f"the device has no memory for {mine} clips, and --supcon compares all clips of a batch, so that its loss "
            "is not that of parts; lower --batch_size"
        )


def fit(
    model,
    train: Split,
    valid: Split,
    recipe: Recipe,
    device: str,
    checkpoint: Checkpoint,
    on_eval: Callable[[Fitting], None] | None = None,
    known: LinearProbe | None = None,
    processes: Processes = ALONE,
) -> Fitting:
    """Train, from the head on that the recipe wants, and leave the weights of the chosen step in `model`.

    That is the step with the lowest loss on the validation clips after calibration: before it, weights that are surer
    than they are right would lose against earlier ones that are right less often.

    What is evaluated and left is the mean of the starting and the trained weights where `wise_ft_alpha`, the share of
    the trained ones, is below 1 (WiSE-FT, Wortsman et al. 2022): a few clips also unlearn what the start knew. How much
    of it is worth keeping depends on the labels, so that "auto" lets the validation clips choose the share, too.

    The training ends where so many evaluations as the recipe's `patience` brought nothing better.

    Args:
        model: from `load_ast`, on `device`; inside a `SupConAst` where the recipe wants SupCon.
        train: training clips.
        valid: validation clips; the only data that selection sees.
        recipe: how to train.
        device: torch device.
        checkpoint: written after each evaluation, and gone on from.
        on_eval: called with the state after each evaluation.
        known: see `fit_head`; for a recipe whose head starts at "names".
        processes: that train together. The main one evaluates: in the others neither state nor weights tell the choice.

    Raises:
        UserError: the loss is not finite.
    """
    optimizer = make_optimizer(model.parameters(), recipe)
    state, parts = Fitting(), {"model": model, "optimizer": optimizer}
    checkpoint.load(state, parts)
    take_step = _stepper(model, optimizer, train, recipe, device, processes)
    if state.step == 0 and processes.is_main:
        _set_out(state, model, train, valid, recipe, device, known)
    with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        loop.train(
            state,
            parts,
            checkpoint,
            recipe.num_steps,
            recipe.eval_every,
            take_step,
            evaluate=partial(_record_shares, state, model, valid, recipe, device),
            tell=on_eval and partial(on_eval, state),
            is_over=partial(state.is_stuck, recipe.patience),
            processes=processes,
        )
    if processes.is_main:
        model.load_state_dict(state.best_state)
    return state


def _stepper(model, optimizer, train: Split, recipe: Recipe, device: str, processes: Processes):
    """(step) -> its loss. How many clips the device has memory for at once is remembered from step to step."""
    size = Halving(recipe.batch_size)
    processes.tell_idle(recipe.batch_size, "clips")

    def take_step(step: int) -> float:
        return train_step(model, optimizer, train, step, recipe, device, size, processes)

    return take_step


def _set_out(state: Fitting, model, train: Split, valid: Split, recipe: Recipe, device: str, known) -> None:
    """Fit the head that the recipe wants, and note what training starts from."""
    if recipe.head_init != "random":
        fit_head(model.ast if isinstance(model, SupConAst) else model, train, valid, recipe, device, known)
        loss = evaluate(model, train, recipe, device)[0]  # the start may be better than all that follows
        _record(state, model, loss, *evaluate(model, valid, recipe, device), 1.0)
    if recipe.alphas != (1.0,):
        state.start_state = _copy_state(model)


def _copy_state(model) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


@contextmanager
def _averaged(model, start: dict[str, torch.Tensor], alpha: float) -> Iterator[None]:
    """Inside, the model has (1 - alpha) x the starting weights + alpha x its own."""
    if not start or alpha == 1:
        yield
        return
    trained = _copy_state(model)
    model.load_state_dict({name: _mean(start[name], tensor, alpha) for name, tensor in trained.items()})
    try:
        yield
    finally:
        model.load_state_dict(trained)


def _mean(start: torch.Tensor, trained: torch.Tensor, alpha: float) -> torch.Tensor:
    """The weighted mean; a whole number, such as how often a batch norm was asked, stays that of the training."""
    return torch.lerp(start, trained, alpha) if trained.is_floating_point() else trained


def _record_shares(state: Fitting, model, valid: Split, recipe: Recipe, device: str, losses: list[float]) -> None:
    """Evaluate and note the weights, with every share of the trained ones that the recipe asks for."""
    for alpha in recipe.alphas:
        with _averaged(model, state.start_state, alpha):
            _record(state, model, float(np.mean(losses)), *evaluate(model, valid, recipe, device), alpha)


def _record(state: Fitting, model, train_loss: float, valid_loss: float, score: float, alpha: float) -> None:
    """Note an evaluation, and keep the weights if they are the best so far; of several at a step, the best is noted."""
    row = {"step": state.step, "train_loss": train_loss, "valid_loss": valid_loss, "valid_score": score, "alpha": alpha}
    if state.history and state.history[-1]["step"] == state.step:
        if valid_loss < state.history[-1]["valid_loss"]:
            state.history[-1] = row
    else:
        state.history.append(row)
    if not state.best_state or valid_loss < state.best_loss:
        state.best_step, state.best_loss, state.best_state = state.step, valid_loss, _copy_state(model)
