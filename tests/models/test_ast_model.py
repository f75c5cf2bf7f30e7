"""ast/train.py on an AST of the published configuration and on the embedded one: short clips, and the pipeline."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, ASTModel, AutoConfig, pipeline

from synthio.audio import read_audio, write_wav
from synthio.classification import scored
from synthio.cli import UserError
from synthio.models import ast_model
from synthio.models.fbank import SAMPLE_RATE, kaldi_fbank, num_frames
from tests.classification.toy_clips import TRAIN, save_tiny_ast
from tests.scripts import ROOT, call_script

PITCHES = {"low": 300, "middle": 900, "high": 2700}
SECONDS = (0.3, 1.0, 2.5, 5.0, 12.0)  # of the test clips
EMBEDDED = ROOT / "extras/embedded/weights/ast"


def save_tone(path, label: str, seconds: float, rng) -> None:
    """A noisy tone whose loudness rises, so that the first second says something else than all of it."""
    t = np.arange(round(SAMPLE_RATE * seconds)) / SAMPLE_RATE
    tone = 0.3 * np.sin(2 * np.pi * PITCHES[label] * rng.uniform(0.95, 1.05) * t) * (0.2 + 0.8 * t / seconds)
    write_wav(path, (tone + 0.02 * rng.normal(size=len(t)))[None].astype(np.float32), SAMPLE_RATE)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The published AST but for its width and depth, with random weights; clips of 1 s, test clips of many lengths."""
    folder = tmp_path_factory.mktemp("published")
    config = ASTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, num_labels=3)
    published = (config.num_mel_bins, config.max_length, config.patch_size, config.time_stride, config.frequency_stride)
    assert published == (128, 1024, 16, 10, 10)
    config.id2label, config.label2id = dict(enumerate(PITCHES)), {name: i for i, name in enumerate(PITCHES)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ASTForAudioClassification(config)
        torch.nn.init.normal_(model.audio_spectrogram_transformer.embeddings.position_embeddings, std=0.1)
        torch.nn.init.normal_(model.classifier.dense.weight, std=0.5)
    model.save_pretrained(folder / "ast")
    ASTFeatureExtractor().save_pretrained(folder / "ast")
    rng, labels = np.random.default_rng(0), list(PITCHES)
    for name, lengths in (("train", [1.0] * 9), ("valid", [1.0] * 6), ("test", SECONDS)):
        rows = [(f"{name}/{i}.wav", labels[i % 3]) for i in range(len(lengths))]
        for (path, label), seconds in zip(rows, lengths, strict=True):
            save_tone(folder / path, label, seconds, rng)
        pd.DataFrame(rows, columns=["path", "label"]).to_csv(folder / f"{name}.csv", index=False)
    return folder


def train(world, model, out, **changes) -> dict:
    chosen = {f"{split}_csv": world / f"{split}.csv" for split in ("train", "valid", "test")}
    chosen |= {"model": model, "output_folder": out, "num_steps": 3, "batch_size": 4, "device": "cpu", **changes}
    done = call_script(TRAIN, *(part for name, value in chosen.items() for part in (f"--{name}", value)))
    assert done.returncode == 0, done.stderr
    return json.loads((out / "scores.json").read_text())


def check_pipeline(folder, function_to_apply="softmax") -> None:
    """transformers' pipeline gives what predictions.csv says of clips of every length."""
    predictions = scored.read_scores(f"x={folder / 'scores.json'}")["predictions"]
    assert len(predictions) == len(SECONDS)
    listen = pipeline("audio-classification", model=str(folder / "model"), top_k=None)
    spread = []
    for row in predictions.to_dict("records"):
        waveform = read_audio(row["path"], SAMPLE_RATE)[0][0]
        answers = listen(waveform, function_to_apply=function_to_apply)
        found = {answer["label"]: answer["score"] for answer in answers}
        assert found == pytest.approx({name: float(row[f"probability_{name}"]) for name in found}, abs=1e-4)
        spread.append([found[name] for name in PITCHES])
    assert np.ptp(spread, axis=0).max() > 1e-3  # it does tell clips apart


@pytest.mark.parametrize("model", ["published", "embedded"])
@pytest.mark.parametrize("options", [{"head_init": "names"}, {"learning_rate": 1e-3}, {"multi_label": "true"}])
def test_the_pipeline_gives_the_predictions_on_clips_of_any_length(world, tmp_path, model, options):
    scores = train(world, {"published": world / "ast", "embedded": EMBEDDED}[model], tmp_path, **options)
    frames = scores["input"]["frames"]
    assert 80 < frames <= num_frames(SAMPLE_RATE) == 98  # of the clips, not of the pretraining
    extractor = ASTFeatureExtractor.from_pretrained(tmp_path / "model")
    own = ASTFeatureExtractor() if model == "published" else ASTFeatureExtractor.from_pretrained(EMBEDDED)
    assert (extractor.max_length, extractor.mean, extractor.std) == (frames, own.mean, own.std)
    assert AutoConfig.from_pretrained(tmp_path / "model").time_stride == {"published": 10, "embedded": 4}[model]
    check_pipeline(tmp_path, "sigmoid" if "multi_label" in options else "softmax")


def test_the_length_is_that_of_the_real_clips(world, tmp_path):
    """Synthetic clips that are longer do not make the input longer."""
    rng = np.random.default_rng(1)
    table = pd.read_csv(world / "train.csv").assign(source_path="")
    for i, label in enumerate(PITCHES):
        save_tone(world / f"made/{i}.wav", label, 4.0, rng)
        table.loc[len(table)] = [f"made/{i}.wav", label, "train/0.wav"]
    table.to_csv(world / "mixed.csv", index=False)
    scores = train(world, world / "ast", tmp_path, train_csv=world / "mixed.csv")
    assert 80 < scores["input"]["frames"] <= 98
    assert scores["splits"]["train"] == {"clips": 12, "gold": 9, "synthetic": 3}
    check_pipeline(tmp_path)


def test_longer_inputs_can_be_asked_for(world, tmp_path):
    scores = train(world, world / "ast", tmp_path, max_length_s=2.0)
    assert 180 < scores["input"]["frames"] <= num_frames(2 * SAMPLE_RATE)
    check_pipeline(tmp_path)


@pytest.mark.parametrize(
    ("frames", "stride", "columns"), [(16, 4, 1), (48, 4, 9), (96, 4, 21), (256, 8, 31), (272, 16, 17), (496, 16, 31)]
)
def test_a_short_clip_has_a_finer_grid_of_no_more_columns(frames, stride, columns):
    model = ast_model.load_ast(str(EMBEDDED), ["x", "y"], frames, False, seed=0).eval()
    body, whole = model.audio_spectrogram_transformer, ast_model.load_pretrained_ast(str(EMBEDDED))
    assert model.config.time_stride == stride
    positions = body.embeddings.position_embeddings
    assert positions.shape[1] == 2 + 4 * columns <= 2 + 4 * 31
    trained = whole.audio_spectrogram_transformer.embeddings.position_embeddings
    assert torch.equal(positions, ast_model.resize_positions(trained, 4, columns))
    assert body.embeddings(torch.zeros(1, frames, 64)).shape[1] == positions.shape[1]


def test_a_grid_that_overlaps_stays(world):
    assert ast_model.load_ast(str(world / "ast"), ["x"], 96, False, seed=0).config.time_stride == 10


def test_a_short_clip_is_heard_as_one_that_is_repeated():
    """By the pooled output of noises of half a second, in bands of their own."""
    rng, embedder = np.random.default_rng(0), ast_model.AstEmbedder(str(EMBEDDED))
    clips = [np.convolve(rng.normal(size=8000), rng.normal(size=9), "same").astype(np.float32) for _ in range(12)]
    clips = [0.1 * clip[None] * np.linspace(1, rng.uniform(0, 2), 8000, dtype=np.float32) for clip in clips]
    wanted = torch.from_numpy(embedder.embed_audio(clips))
    features = kaldi_fbank(torch.from_numpy(np.concatenate(clips)), 64)[:, :48]
    features = (features - embedder.extractor.mean) / (2 * embedder.extractor.std)
    fine = ast_model.load_ast(str(EMBEDDED), ["x"], 48, False, seed=0).eval()
    coarse = ast_model.load_pretrained_ast(str(EMBEDDED)).eval()
    ast_model.set_input_length(coarse, 48)
    with torch.no_grad():
        heard = [model.audio_spectrogram_transformer(features).pooler_output for model in (fine, coarse)]
    errors = [float((found - wanted).square().mean() / wanted.var(dim=0).mean()) for found in heard]
    assert errors[0] < 0.8 * errors[1]


def test_positions_of_the_same_length_stay():
    positions = torch.randn(1, 2 + 12 * 7, 5)
    assert torch.equal(ast_model.resize_positions(positions, 12, 7), positions)


@pytest.mark.parametrize("time_steps", [3, 4, 20])
def test_positions_keep_bands_and_special_tokens(time_steps):
    special = torch.tensor([[100.0, 200.0]])
    grid = torch.arange(12.0)[:, None] * 1000 + torch.arange(8.0)[None]  # band * 1000 + time
    positions = torch.cat([special, grid.reshape(1, -1)], dim=1)[..., None]
    out = ast_model.resize_positions(positions, 12, time_steps)[0, :, 0]
    assert out[:2].tolist() == [100, 200]
    stretched = ((torch.arange(20.0) + 0.5) * 8 / 20 - 0.5).clamp(0, 7)
    columns = {3: torch.arange(3.0, 6.0), 4: torch.arange(2.0, 6.0), 20: stretched}[time_steps]
    torch.testing.assert_close(out[2:].reshape(12, -1), torch.arange(12.0)[:, None] * 1000 + columns)


def test_positions_that_are_no_grid():
    with pytest.raises(ValueError, match="no grid"):
        ast_model.resize_positions(torch.zeros(1, 2 + 13, 4), 12, 2)


@pytest.mark.parametrize("head", [False, True])
def test_load_ast_is_float32_with_a_new_seeded_head(tmp_path, head):
    folder = str(save_tiny_ast(tmp_path / "m", head))
    model = ast_model.load_ast(folder, ["x", "y", "z"], 56, False, seed=1)
    same = ast_model.load_ast(folder, ["x", "y", "z"], 56, False, seed=1)
    other = ast_model.load_ast(folder, ["x", "y", "z"], 56, False, seed=2)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.config.id2label == {0: "x", 1: "y", 2: "z"}
    assert model(torch.zeros(2, 56, 32)).logits.shape == (2, 3)
    assert torch.equal(model.classifier.dense.weight, same.classifier.dense.weight)
    assert not torch.equal(model.classifier.dense.weight, other.classifier.dense.weight)
    pretrained = ASTModel.from_pretrained(folder, dtype=torch.float32)
    body = model.audio_spectrogram_transformer
    assert torch.equal(body.layers[1].mlp.fc1.weight, pretrained.layers[1].mlp.fc1.weight)
    assert torch.equal(body.embeddings.cls_token, pretrained.embeddings.cls_token)


def test_load_ast_refuses_other_folders(tmp_path):
    with pytest.raises(UserError, match="could not be loaded"):
        ast_model.load_ast_config(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "clap"}')
    with pytest.raises(UserError, match="is a 'clap'"):
        ast_model.load_ast_config(str(tmp_path))


def test_a_hub_model_whose_normalisation_cannot_be_had_is_told_of(monkeypatch, capsys):
    """AudioSet's stood in for it without a word, also where the network was gone."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert ast_model.load_extractor("some/absent").mean == ASTFeatureExtractor().mean
    assert capsys.readouterr().err.startswith("some/absent: no preprocessor_config.json (")
