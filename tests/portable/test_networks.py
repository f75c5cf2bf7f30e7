"""The network that is exported: the saved classifier's own probabilities, for clips of every length."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from synthio.classification.saved import load_classifier
from synthio.classification.windows import Span
from synthio.cli import UserError
from synthio.models.classifiers import FINE_TUNED
from synthio.portable.networks import portable, refuse_foreign
from tests.classification.listeners import LABELS, save_ast
from tests.tiny_classifiers import save_loud_classifier


def check(classifier, samples) -> None:
    network, rng = portable(classifier, "x"), np.random.default_rng(0)
    for count in samples:
        clip = rng.normal(0, 0.1, count).astype(np.float32)
        wanted = classifier.score(Span(0, {16000: clip}, [0], 10**9))
        with torch.inference_mode():
            found = network(torch.from_numpy(clip)[None])
        np.testing.assert_allclose(found.numpy(), wanted, atol=5e-5)
        assert (wanted.sum() == pytest.approx(1)) != classifier.multi_label


@pytest.mark.parametrize("multi_label", [False, True])
def test_ast_says_what_the_saved_one_says(tmp_path, multi_label):
    classifier = load_classifier(save_ast(tmp_path, tmp_path / "run", multi_label))
    check(classifier, (1, 399, 400, 559, 560, 4800, 16160, 16240, 40000))


@pytest.mark.parametrize("kind", FINE_TUNED)
def test_every_other_network_does(tmp_path, kind):
    save_loud_classifier(tmp_path / "run/model", kind, LABELS)
    check(load_classifier(tmp_path / "run"), (160, 4800, 16000, 40001))


def test_an_unknown_feature_extractor_is_refused(tmp_path):
    from transformers import EncodecFeatureExtractor

    save_loud_classifier(tmp_path / "run/model", "hubert", LABELS)
    EncodecFeatureExtractor(sampling_rate=16000).save_pretrained(tmp_path / "run/model")
    with pytest.raises(UserError, match=r"^x: how this network hears is not exported; what is: AST and CLAP"):
        portable(load_classifier(tmp_path / "run"), "x")


def test_a_clap_of_another_library_is_refused_before_that_is_asked_for(tmp_path):
    head = {"kind": "pool of experts", "embeddings": [{"kind": "clap", "model": "msclap:2023", "sha256": ""}]}
    (tmp_path / "head/model").mkdir(parents=True)
    (tmp_path / "head/model/config.json").write_text(json.dumps(head))
    for folder in ("head", "head/model"):
        with pytest.raises(UserError, match="msclap:2023: how this model hears is not exported"):
            refuse_foreign(tmp_path / folder, {})
        refuse_foreign(tmp_path / folder, {"clap": "laion/clap-htsat-unfused"})  # it was replaced by one that is
