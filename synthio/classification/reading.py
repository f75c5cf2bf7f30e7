"""What a training of the classifier begins with, of whatever kind its model is: clips as it hears them, and a network.

train, valid, norm = read_training_data(model, data, tables, targets, recipe)
network = load_network(model, labels, norm, recipe)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from synthio.classification.augment import MAX_SPEED
from synthio.classification.options import NO_AUGMENT, Recipe
from synthio.classification.script import Evaluation, is_synthetic
from synthio.classification.training import (
    Input,
    Normalisation,
    Split,
    choose_frames,
    log_mel,
    make_split,
    read_features,
    read_waveforms,
)
from synthio.classification.wave_input import WaveInput
from synthio.cli import UserError
from synthio.manifest import PATH
from synthio.models import ast_model, sound_classifier
from synthio.models.base import Network, OwnHead
from synthio.models.classifiers import is_ast, refuse_misfit
from synthio.models.fbank import SAMPLE_RATE, num_frames, num_samples

if TYPE_CHECKING:
    import pandas as pd

Tables = Mapping[str, "pd.DataFrame"]
Targets = Mapping[str, np.ndarray]


def check_recipe(model: str, recipe: Recipe) -> None:
    """Refuse what a model cannot do.

    Raises:
        UserError: it is no classifier, or the recipe asks for what only AST has.
    """
    refuse_misfit(model, fine_tuned=True)
    if recipe.spec_augment and not is_ast(model):
        raise UserError(f"--spec_augment masks AST's spectrogram, and {model} is no AST; leave it out")


def read_training_data(
    model: str, data: Evaluation, tables: Tables, targets: Targets, recipe: Recipe
) -> tuple[Split, Split, Input]:
    """(training clips, validation clips, how the network hears): the input's length is that of real training clips.

    Args:
        model: folder, hub id or `.pth` file.
        data: its CSVs are named in messages.
        tables: manifests of train and valid.
        targets: 0/1 [N, C] of each.
        recipe: gives max_length_s, input_length, waveform_augment and mixup.

    Raises:
        UserError: a clip cannot be used; there is no such model.
    """
    if is_ast(model):
        return read_log_mels(model, data, tables, targets, recipe)
    return read_waves(model, data, tables, targets, recipe)


def counted(lengths: Sequence[int], synthetic: np.ndarray) -> list[int]:
    """The lengths of the real clips, or of all where none is real."""
    return [length for length, made in zip(lengths, synthetic, strict=True) if not made or synthetic.all()]


def read_log_mels(
    model: str, data: Evaluation, tables: Tables, targets: Targets, recipe: Recipe
) -> tuple[Split, Split, Normalisation]:
    """`read_training_data` for AST: the normalisation is the model's own."""
    config = ast_model.load_ast_config(model)
    limit = num_frames(round(recipe.max_length_s * SAMPLE_RATE)) if recipe.max_length_s else config.max_length
    bands, paths = config.num_mel_bins, tables["train"][PATH]
    waveforms: list[np.ndarray] = []
    if recipe.waveform_augment == NO_AUGMENT:
        train = read_features(paths, data.train_csv, bands, limit)
    else:
        longest = round(MAX_SPEED * num_samples(limit))
        waveforms = [waveform[:longest].copy() for waveform in read_waveforms(paths, data.train_csv)]
        train = [log_mel(waveform, bands, limit) for waveform in waveforms]
    valid = read_features(tables["valid"][PATH], data.valid_csv, bands, limit)
    synthetic, extractor = is_synthetic(tables["train"]), ast_model.load_extractor(model)
    heard = [limit] if recipe.max_length_s else counted([len(clip) for clip in train], synthetic)
    norm = Normalisation(choose_frames(heard, limit, config, recipe.input_length), extractor.mean, extractor.std)
    split = make_split(train, targets["train"], norm, waveforms, synthetic)
    return split, make_split(valid, targets["valid"], norm), norm


def read_waves(
    model: str, data: Evaluation, tables: Tables, targets: Targets, recipe: Recipe
) -> tuple[Split, Split, WaveInput]:
    """`read_training_data` for others: a training clip is cut to the length, a validation clip is heard whole."""
    ear = WaveInput(sound_classifier.load_extractor(model))
    paths, synthetic = tables["train"][PATH], is_synthetic(tables["train"])
    waveforms = list(read_waveforms(paths, data.train_csv, ear.sample_rate, ear.least))
    samples = choose_samples([len(x) for x in waveforms], synthetic, ear, recipe)
    norm = WaveInput(ear.extractor, samples)
    longest = round(MAX_SPEED * samples) if recipe.waveform_augment != NO_AUGMENT else samples
    waveforms = [waveform[:longest] for waveform in waveforms]
    train = norm.fill([clip.half() for clip in norm.changed(waveforms)])
    rows = read_waveforms(tables["valid"][PATH], data.valid_csv, norm.sample_rate, norm.least)
    valid = norm.fill([norm.hear(waveform) for waveform in rows])
    is_changed = recipe.waveform_augment != NO_AUGMENT or recipe.mixup > 0
    kept = waveforms if is_changed else ()
    split = Split(train, torch.from_numpy(targets["train"]), norm, kept, None, synthetic)
    return split, Split(valid, torch.from_numpy(targets["valid"]), norm), norm


def choose_samples(lengths: Sequence[int], synthetic: np.ndarray, ear: WaveInput, recipe: Recipe) -> int:
    """How much of a training clip is heard: the 95th percentile of the real ones or their mean, or what is given."""
    if recipe.max_length_s:
        return max(ear.least, round(recipe.max_length_s * ear.sample_rate))
    heard = counted(lengths, synthetic)
    length = np.mean(heard) if recipe.input_length == "mean" else np.percentile(heard, 95)
    return max(ear.least, int(np.ceil(length)))


def load_trainable(model: str, labels: Sequence[str], norm: Input, multi_label: bool, seed: int) -> Network:
    """The pretrained network with a new head, see `load_ast` and `load_sound_classifier`."""
    if isinstance(norm, Normalisation):
        return ast_model.load_ast(model, labels, norm.frames, multi_label, seed)
    return sound_classifier.load_sound_classifier(model, labels, multi_label, seed)


def read_own_head(model: str) -> OwnHead | None:
    """What the pretrained head says, see there."""
    return (ast_model if is_ast(model) else sound_classifier).read_own_head(model)


def save_network(network: Network, norm: Input, folder: Path) -> None:
    """Network and feature extractor, as transformers' pipeline wants them; the folder is whole or not there."""
    from transformers import ASTFeatureExtractor

    from synthio.files import atomic_folder

    if isinstance(norm, Normalisation):
        bands = network.config.num_mel_bins
        extractor = ASTFeatureExtractor(max_length=norm.frames, num_mel_bins=bands, mean=norm.mean, std=norm.std)
    else:
        assert isinstance(norm, WaveInput), "there are two kinds"
        extractor = norm.extractor
    with atomic_folder(folder) as temporary:
        network.save_pretrained(temporary)
        extractor.save_pretrained(temporary)
