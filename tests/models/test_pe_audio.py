"""PeAudio as the filter's model: its own probabilities, of a small random one that the library saved."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, PeAudioConfig, PeAudioFeatureExtractor, PeAudioModel, PeAudioVideoConfig

from synthio.cli import UserError
from synthio.filtering.thresholds import cosine_at, probability
from synthio.models.load import load_scorer
from synthio.models.pe_audio import PeAudioScorer, usual_length
from tests.tiny_classifiers import save_pe_audio

RATE = 16000
TEXTS = ["sound of a dog", "rain", "a loud siren in the distant street"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_pe_audio(tmp_path_factory.mktemp("pe") / "model")


def noise(*seconds: float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(1, round(s * RATE))) * 0.1).astype(np.float32) for s in seconds]


def said_by_the_library(folder, clip, texts):
    """The model's own logits of one clip and some texts."""
    model, tokenizer = PeAudioModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    words = tokenizer(texts, padding=True, return_tensors="pt")
    heard = PeAudioFeatureExtractor.from_pretrained(folder)(clip, sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        out = model(input_ids=words["input_ids"], attention_mask=words["attention_mask"], **heard)
    return out.logits_audio_text[0].numpy()


def test_the_probability_is_the_models_own(folder):
    """Of clips of several lengths, which are neither filled up nor repeated, and texts of several."""
    scorer, clips = load_scorer(str(folder)), noise(0.3, 1.0, 0.3, 4.0)
    assert isinstance(scorer, PeAudioScorer) and (scorer.logit_scale, scorer.logit_bias) == (2.0, -1.0)
    products = scorer.score_audio(clips) @ scorer.score_text(TEXTS).T
    found = [[probability(x, scorer.logit_scale, scorer.logit_bias) for x in row] for row in products]
    expected = [1 / (1 + np.exp(-said_by_the_library(folder, clip[0], TEXTS))) for clip in clips]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(expected) > 0.01


def test_a_long_clip_has_the_mean_of_its_windows(folder):
    scorer, (clip,) = load_scorer(str(folder)), noise(25.0)
    parts = [clip[:, start * RATE : (start + 10) * RATE] for start in (0, 10, 15)]
    np.testing.assert_allclose(scorer.score_audio([clip])[0], scorer.score_audio(parts).mean(axis=0), atol=1e-5)


def test_heads_get_unit_vectors_and_a_scale_of_their_cosine(folder):
    scorer, clips = load_scorer(str(folder)), noise(0.5, 0.7)
    audio, text = scorer.embed_audio(clips), scorer.embed_text(TEXTS)
    for vectors, products in ((audio, scorer.score_audio(clips)), (text, scorer.score_text(TEXTS))):
        np.testing.assert_allclose(vectors, products / np.linalg.norm(products, axis=1, keepdims=True), atol=1e-6)
    lengths = [usual_length(head) for head in (scorer.module.audio_head, scorer.module.text_audio_head)]
    assert scorer.cosine_scale == pytest.approx(2.0 * math.prod(lengths))
    head = scorer.module.audio_head
    x = torch.randn(4000, head.layer_norm.normalized_shape[0], generator=torch.Generator().manual_seed(0))
    assert head(x).norm(dim=1).square().mean().sqrt().item() == pytest.approx(lengths[0], rel=0.05)


def test_a_threshold_is_told_as_a_product():
    assert probability(cosine_at(0.9, 2.0, -1.0), 2.0, -1.0) == pytest.approx(0.9)
    assert cosine_at(0.5, 2.0, -1.0) == 0.5 and probability(0.2, 3.0) == probability(0.2, 3.0, 0.0)


def test_the_part_of_a_model_with_video_that_hears(folder, tmp_path):
    """Published so (pe-av-*); the names of weights are those of the library's own table of shared ones."""
    config, whole = PeAudioConfig.from_pretrained(folder), tmp_path / "av"
    shutil.copytree(folder, whole)
    encoder = {"audio_config": config.audio_config.to_dict()}
    PeAudioVideoConfig(text_config=config.text_config.to_dict(), audio_video_config=encoder).save_pretrained(whole)
    state = load_file(folder / "model.safetensors")
    state = {name if name.startswith("text_model.") else f"audio_model.{name}": x for name, x in state.items()}
    save_file(state | {"video_model.x": torch.zeros(2)}, whole / "model.safetensors", metadata={"format": "pt"})
    (clip,) = noise(0.5)
    # not to the bit: the order of sums depends on where the weights lie in memory
    one, other = (load_scorer(str(path)) for path in (folder, whole))
    np.testing.assert_allclose(one.score_audio([clip]), other.score_audio([clip]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one.score_text(TEXTS), other.score_text(TEXTS), rtol=1e-4, atol=1e-5)


def test_what_has_no_vector_of_a_clip_or_no_scale_is_refused(folder, tmp_path):
    frames = shutil.copytree(folder, tmp_path / "frames")
    config = json.loads((frames / "config.json").read_text())
    (frames / "config.json").write_text(json.dumps(config | {"architectures": ["PeAudioFrameLevelModel"]}))
    with pytest.raises(UserError, match="frames': was trained for frames and has no vector of a clip; name a pe-av"):
        load_scorer(str(frames))
    with pytest.raises(UserError, match="none': its scale is 0; no threshold fits one that is not above 0"):
        load_scorer(str(save_pe_audio(tmp_path / "none", scale=0.0)))


def test_it_is_saved_as_it_came(folder, tmp_path):
    (tmp_path / "again").mkdir()
    load_scorer(str(folder)).save(tmp_path / "again")
    (clip,) = noise(0.5)
    found = load_scorer(str(tmp_path / "again")).score_audio([clip])
    np.testing.assert_array_equal(found, load_scorer(str(folder)).score_audio([clip]))
