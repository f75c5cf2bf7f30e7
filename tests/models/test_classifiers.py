"""Which kind of classifier a model is, and what cannot be one."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForAudioClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES as KNOWN

from synthio.cli import UserError
from synthio.models.ast_model import load_ast
from synthio.models.classifiers import (
    AST,
    CALLED,
    FINE_TUNED,
    FROZEN,
    answer,
    called,
    hidden_states,
    is_ast,
    kind_of,
    linear_of,
    misfit,
    read_by_linear,
    refuse_misfit,
)
from synthio.models.sound_classifier import load_sound_classifier
from tests.classification.toy_clips import save_tiny_ast
from tests.tiny_classifiers import KINDS, save_tiny_classifier


def save_config(folder, **values):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(values))
    return str(folder)


def test_every_classifier_of_the_library_is_known_and_tried():
    assert {AST, *FINE_TUNED} == set(KNOWN) and set(FINE_TUNED) == set(KINDS)


def test_files_tell_the_kind(tmp_path):
    assert kind_of("model.pth") == AST and is_ast("model.pth")
    assert kind_of(save_config(tmp_path / "a", model_type="hubert")) == "hubert"
    assert kind_of(str(tmp_path / "absent")) == "" and is_ast(str(tmp_path / "absent"))
    save_tiny_ast(tmp_path / "ast")
    assert is_ast(str(tmp_path / "ast")) and misfit(str(tmp_path / "ast"), fine_tuned=True) == ""


def test_what_is_no_classifier_is_refused_with_what_would_be(tmp_path):
    bert = save_config(tmp_path / "bert", model_type="bert")
    assert misfit(bert, fine_tuned=True).startswith("a 'bert' is no audio classifier of transformers; it takes audio-")
    frozen = save_config(tmp_path / "pe", model_type="pe_audio")
    assert misfit(frozen, fine_tuned=True) == "a 'pe_audio' hears, but is not fine-tuned; set use_ast=false"
    assert misfit(frozen, fine_tuned=False) == ""
    own = save_config(tmp_path / "own", model_type="beats", auto_map={"AutoModel": "model.Beats"})
    with pytest.raises(UserError, match=r"own': it needs code of its own \(auto_map\), which is never run; name a"):
        refuse_misfit(own, fine_tuned=False)


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("kind", FINE_TUNED)
def test_parts_make_what_the_whole_network_says(tmp_path, kind, is_weighted):
    """Also where the head reads a learnt mean over the layers."""
    folder = save_tiny_classifier(tmp_path / "m", kind, ["x", "y"], use_weighted_layer_sum=is_weighted)
    model = AutoModelForAudioClassification.from_pretrained(folder).eval()
    rng = torch.Generator().manual_seed(0)
    if is_weighted:
        torch.nn.init.normal_(model.layer_weights, generator=rng)
    shape = {"whisper": (2, 80, 3000), "wav2vec2-bert": (2, 30, 160)}.get(kind, (2, 4000))
    features = torch.randn(shape, generator=rng)
    with torch.no_grad():
        torch.testing.assert_close(answer(model, features)[0], model(features).logits)
        pooled = model.projector(hidden_states(model, features)).mean(dim=1)
        torch.testing.assert_close(read_by_linear(model, features), pooled)


@pytest.mark.parametrize("kind", ["ast", "wavlm"])
def test_the_head_is_found(tmp_path, kind):
    """Logits are the last layer's of what is said to be read by it."""
    if kind == "ast":
        model = load_ast(str(save_tiny_ast(tmp_path / "m")), ["x", "y"], 56, False, seed=1)
        features = torch.randn(3, 56, 32)
    else:
        model = load_sound_classifier(str(save_tiny_classifier(tmp_path / "m", kind)), ["x", "y"], False, seed=1)
        features = torch.randn(3, 4000)
    model.eval()
    with torch.no_grad():
        logits, pooled = answer(model, features)
        read = read_by_linear(model, features)
        torch.testing.assert_close(logits, model(features).logits)
        torch.testing.assert_close(logits, linear_of(model)(read))
    assert pooled.shape == read.shape == (3, 32)


def test_every_kind_has_a_name_in_print(tmp_path):
    assert set(CALLED) == {AST, *FINE_TUNED, *FROZEN}
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2-bert"}')
    assert called(str(tmp_path)) == "Wav2Vec2-BERT" and called("ast.pth") == "AST"
