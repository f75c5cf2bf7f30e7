"""What a training begins with, of AST and of others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor

from synthio.audio import read_audio
from synthio.classification.labels import encode_labels
from synthio.classification.options import Recipe
from synthio.classification.ragged import Ragged
from synthio.classification.reading import (
    check_recipe,
    choose_samples,
    counted,
    load_trainable,
    read_own_head,
    read_training_data,
    save_network,
)
from synthio.classification.saved import load_saved
from synthio.classification.script import Evaluation
from synthio.classification.training import Normalisation, predict
from synthio.classification.wave_input import WaveInput
from synthio.cli import UserError
from synthio.manifest import LABEL, PATH, read_manifest
from tests.classification.toy_clips import PITCHES, save_named_ast, save_tones
from tests.tiny_classifiers import extractor_of, save_tiny_classifier

LABELS = sorted(PITCHES)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reading")
    save_named_ast(folder / "ast", LABELS)
    save_tiny_classifier(folder / "hubert", "hubert", LABELS)
    for seed, name in enumerate(("train", "valid")):
        save_tones(folder, name, 6, seed)
    return folder


def read(world, model, **recipe):
    csvs = {split: str(world / f"{split}.csv") for split in ("train", "valid")}
    tables = {split: read_manifest(csv) for split, csv in csvs.items()}
    targets = {split: encode_labels(table[LABEL], LABELS, csvs[split], False) for split, table in tables.items()}
    data = Evaluation(train_csv=csvs["train"], valid_csv=csvs["valid"])
    return tables, *read_training_data(str(world / model), data, tables, targets, Recipe(**recipe))


def test_asts_clips_are_spectrograms_of_one_length(world):
    _, train, valid, norm = read(world, "ast")
    assert isinstance(norm, Normalisation) and (norm.mean, norm.std) == (-6.0, 3.0)
    assert train.features.shape == valid.features.shape == (6, norm.frames, 32)
    assert train.features.dtype == torch.float16 and not train.waveforms


def test_others_clips_are_cut_in_training_and_whole_for_validation(world):
    tables, train, valid, norm = read(world, "hubert", max_length_s=0.45)
    assert isinstance(norm, WaveInput) and isinstance(train.features, Ragged) and norm.samples == 7200
    extractor = AutoFeatureExtractor.from_pretrained(world / "hubert")
    for split, features, most in (("train", train.features, 7200), ("valid", valid.features, None)):
        for path, heard in zip(tables[split][PATH], features, strict=True):
            clip = read_audio(path, 16000)[0][0][:most]
            expected = extractor(clip, sampling_rate=16000, return_tensors="pt")["input_values"][0]
            torch.testing.assert_close(heard.float(), expected, atol=2e-3 if most else 0, rtol=0)
    assert {clip.dtype for clip in train.features} == {torch.float16} and not train.waveforms
    assert len(read(world, "hubert", mixup=0.2)[1].waveforms) == 6


def test_the_length_is_that_of_the_real_clips():
    ear, made = WaveInput(extractor_of("hubert")), np.array([False, False, True, False])
    assert counted([1, 2, 3, 4], made) == [1, 2, 4] and counted([1, 2], np.array([True, True])) == [1, 2]
    lengths = [16000, 16000, 90000, 32000]
    assert choose_samples(lengths, made, ear, Recipe()) == 30400  # between the two last
    assert choose_samples(lengths, made, ear, Recipe(input_length="mean")) == 21334
    assert choose_samples(lengths, made, ear, Recipe(max_length_s=0.5)) == 8000
    assert choose_samples([100], made[:1], ear, Recipe()) == 1600


@pytest.mark.parametrize("model", ["ast", "hubert"])
def test_what_is_saved_is_heard_the_same(world, tmp_path, model):
    _, _, valid, norm = read(world, model)
    network = load_trainable(str(world / model), ["x", "y"], norm, True, seed=1)
    again = load_trainable(str(world / model), ["x", "y"], norm, True, seed=1)
    other = load_trainable(str(world / model), ["x", "y"], norm, True, seed=2)
    states = [one.state_dict() for one in (network, again, other)]
    changed = [name for name in states[0] if not torch.equal(states[0][name], states[2][name])]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert changed == ["classifier.dense.weight" if model == "ast" else "classifier.weight"]
    save_network(network, norm, tmp_path / "m")
    saved, heard = load_saved(tmp_path / "m", "cpu")
    assert heard.record() == {**norm.record(), **({"training_s": None} if model == "hubert" else {})}
    expected = predict(network, valid.features, 4, "cpu")
    torch.testing.assert_close(predict(saved, valid.features, 4, "cpu"), expected)
    assert saved.config.problem_type == "multi_label_classification" and saved.config.id2label == {0: "x", 1: "y"}


def test_own_heads_are_those_of_each_kind(world):
    assert [read_own_head(str(world / model)).names for model in ("ast", "hubert")] == [LABELS, LABELS]


def test_what_only_ast_has_is_refused(world):
    check_recipe(str(world / "ast"), Recipe(spec_augment=True))
    with pytest.raises(UserError, match="--spec_augment masks AST's spectrogram"):
        check_recipe(str(world / "hubert"), Recipe(spec_augment=True))
