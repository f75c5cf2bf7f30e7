"""Linear probe: embeddings and their cache, the regression, the script, and its place in the results."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file
from transformers import ASTFeatureExtractor, ASTForAudioClassification

from synthio import embeddings, probe, results
from synthio.audio import read_audio, write_wav
from synthio.cli import UserError
from synthio.fbank import SAMPLE_RATE, num_samples
from synthio.models import load_scorer
from synthio.models.ast_model import AstEmbedder
from tests.scripts import call_script
from tests.test_classifier import ROOT, add_mislabelled, save_tiny_ast, save_tones
from tests.tiny_models import save_clap

PROBE = ROOT / "ast/probe.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Models and train, valid, test CSVs of tones, one pitch a label."""
    folder = tmp_path_factory.mktemp("probe")
    save_tiny_ast(folder / "ast")
    save_clap(folder / "clap")
    for seed, (name, clips) in enumerate([("train", 18), ("valid", 9), ("test", 9)]):
        save_tones(folder, name, clips, seed)
    return folder


def run(data, out, *more, **changes):
    chosen = {f"{split}_csv": data / f"{split}.csv" for split in ("train", "valid", "test")}
    chosen |= {"output_folder": out, "ast_model": data / "ast", "device": "cpu", **changes}
    return call_script(PROBE, *more, *(part for name, value in chosen.items() for part in (f"--{name}", value)))


# Embeddings


def test_ast_embeddings_are_the_pooled_output(tmp_path):
    """Of one window, with the folder's own normalisation; a short clip is repeated, a long one averaged."""
    folder = save_tiny_ast(tmp_path / "ast", head=True)
    ASTFeatureExtractor(max_length=100, num_mel_bins=32, mean=-6.0, std=3.0).save_pretrained(folder)
    embedder = AstEmbedder(str(folder))
    samples = num_samples(100)
    clip = 0.1 * np.random.default_rng(0).normal(size=(1, samples)).astype(np.float32)
    model = ASTForAudioClassification.from_pretrained(folder, dtype=torch.float32).eval()
    inputs = ASTFeatureExtractor.from_pretrained(folder)(clip[0], sampling_rate=SAMPLE_RATE, return_tensors="pt")
    with torch.no_grad():
        expected = model.audio_spectrogram_transformer(**inputs).pooler_output[0].numpy()
    half = clip[:, : samples // 2]
    found = embedder.embed_audio([clip, half, np.tile(half, 2), np.concatenate([clip, clip], axis=1)])
    np.testing.assert_allclose(found[0], expected, atol=1e-3)
    np.testing.assert_allclose(found[1], found[2], atol=1e-4)
    np.testing.assert_allclose(found[3], found[0], atol=1e-4)
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_each_clip_is_heard_once_whatever_names_it(data, tmp_path):
    heard = []

    class Listener:
        sample_rate = 16000

        def embed_audio(self, clips):
            heard.extend(len(clip[0]) for clip in clips)
            return np.array([[len(clip[0]), 1.0] for clip in clips], np.float32)

    paths = [str(path) for path in sorted((data / "train").glob("*.wav"))[:5]]
    copy = tmp_path / "copy.wav"
    copy.write_bytes((data / "train/0.wav").read_bytes())
    cache = embeddings.EmbeddingCache(tmp_path, "x", "model")
    first = embeddings.embed_clips(cache, Listener, [*paths, str(copy), paths[0]], "a.csv", 2)
    assert len(heard) == 5 and first[5].tolist() == first[0].tolist() == first[6].tolist()
    again = embeddings.EmbeddingCache(tmp_path, "x", "model")
    np.testing.assert_array_equal(embeddings.embed_clips(again, Listener, paths[::-1], "b.csv", 2), first[:5][::-1])
    assert len(heard) == 5
    other = embeddings.EmbeddingCache(tmp_path, "x", "other model")
    assert not other.vectors and other.path != cache.path


@pytest.mark.parametrize("damage", [lambda raw: raw[:-7], lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), lambda raw: b""])
def test_a_damaged_cache_is_not_used(tmp_path, damage):
    cache = embeddings.EmbeddingCache(tmp_path, "x", "model")
    cache.vectors = {"ab" * 32: np.arange(3.0, dtype=np.float32)}
    cache.save()
    assert embeddings.EmbeddingCache(tmp_path, "x", "model").vectors["ab" * 32].tolist() == [0, 1, 2]
    cache.path.write_bytes(damage(cache.path.read_bytes()))
    assert embeddings.EmbeddingCache(tmp_path, "x", "model").vectors == {}


def test_a_clip_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no sound")
    cache = embeddings.EmbeddingCache(tmp_path, "x", "model")

    class Listener:
        sample_rate = 16000

    with pytest.raises(UserError, match=r"t\.csv row 1: .*a\.wav: unreadable"):
        embeddings.embed_clips(cache, Listener, [str(tmp_path / "a.wav")], "t.csv", 4)


# Regression


def clouds(classes: int, clips: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points around a centre for each class, far from the origin and unequally scaled; targets 0/1."""
    rng = np.random.default_rng(seed)
    truth = np.arange(clips) % classes
    centres = 3 * np.random.default_rng(99).normal(size=(classes, 6))
    x = (centres[truth] + rng.normal(size=(clips, 6))) * [1, 10, 0.1, 1, 1, 1] + 5
    return x.astype(np.float32), np.eye(classes, dtype=np.float32)[truth]


@pytest.mark.parametrize("classes", [2, 4])
def test_weights_give_scikit_learns_probabilities(classes):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, targets = clouds(classes, 60, 0)
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000)).fit(x, targets.argmax(axis=1))
    logits = torch.from_numpy(probe.fit_probe(x, targets, 0.1, False).logits(x))
    np.testing.assert_allclose(logits.softmax(dim=1).numpy(), fitted.predict_proba(x), atol=1e-4)


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_clip_of_weight_2_counts_as_two_clips(multi_label):
    rng = np.random.default_rng(0)
    x, targets = rng.normal(size=(30, 4)), np.eye(3, dtype=np.float32)[np.arange(30) % 3]
    x = (x - x.mean(axis=0)) / x.std(axis=0)  # so that scaling is the same with and without the second copy
    mirrored, doubled = np.concatenate([x, -x]), np.concatenate([targets, targets[::-1]])
    weights = np.ones(60)
    weights[:5] = weights[30:35] = 2
    rows = np.concatenate([np.arange(60), np.arange(5), np.arange(30, 35)])
    weighted = probe.fit_probe(mirrored, doubled, 1.0, multi_label, weights)
    from_copies = probe.fit_probe(mirrored[rows], doubled[rows], 1.0, multi_label)
    plain = probe.fit_probe(mirrored, doubled, 1.0, multi_label)
    np.testing.assert_allclose(weighted.logits(x), from_copies.logits(x), atol=0.15)
    assert np.abs(weighted.logits(x) - from_copies.logits(x)).max() < np.abs(weighted.logits(x) - plain.logits(x)).max()


def test_classes_without_clips_and_with_all_clips():
    x, targets = clouds(2, 20, 0)
    absent = np.insert(targets, 1, 0, axis=1)
    chances = torch.from_numpy(probe.fit_probe(x, absent, 1.0, False).logits(x)).softmax(dim=1)
    assert chances[:, 1].max() < 1e-6 and (chances.argmax(dim=1).numpy() == absent.argmax(axis=1)).all()
    everywhere = np.insert(absent, 0, 1, axis=1)
    chances = torch.from_numpy(probe.fit_probe(x, everywhere, 1.0, True).logits(x)).sigmoid().numpy()
    assert ((chances > 0.5) == everywhere).all()
    with pytest.raises(UserError, match="same label"):
        probe.choose_probe((x, np.tile([0.0, 1.0], (20, 1))), (x, targets), False)


def test_the_penalty_is_chosen_on_the_validation_clips():
    """A fifth of the training labels are wrong: a weak penalty learns the mistakes, and only validation can tell."""
    rng = np.random.default_rng(0)

    def draw(clips):
        truth = np.arange(clips) % 2
        return rng.normal(size=(clips, 40)).astype(np.float32) + 0.5 * (2 * truth - 1)[:, None], truth

    (x, truth), (valid, valid_truth) = draw(60), draw(200)
    wrong = np.where(np.arange(60) % 5 == 0, 1 - truth, truth)
    targets, valid_targets = np.eye(2, dtype=np.float32)[wrong], np.eye(2, dtype=np.float32)[valid_truth]
    chosen, best, history = probe.choose_probe((x, targets), (valid, valid_targets), False)
    assert [row["C"] for row in history] == list(probe.C_GRID)
    assert best["valid_loss"] == min(row["valid_loss"] for row in history)
    assert best["C"] <= 0.1 and best["valid_score"] > history[-1]["valid_score"] + 0.05
    assert best["train_loss"] > history[-1]["train_loss"] + 0.1
    assert (chosen.logits(valid).argmax(axis=1) == valid_truth).mean() == pytest.approx(best["valid_score"])


# Script


def test_the_script_weighs_synthetic_clips(data, tmp_path):
    """Wrong labels on synthetic clips cost accuracy where these count as much as real ones; auto finds that out."""
    mixed, scores = add_mislabelled(data, 36, 7), {}
    for weight in ("1", "auto"):
        done = run(data, tmp_path / weight, train_csv=mixed, synthetic_weight=weight)
        assert done.returncode == 0, done.stderr
        assert ("synthetic_weight auto: a synthetic clip comes 0.05 times" in done.stderr) == (weight == "auto")
        scores[weight] = json.loads((tmp_path / weight / "scores.json").read_text())
    assert scores["auto"]["accuracy"] > scores["1"]["accuracy"] + 0.3
    assert scores["auto"]["options"]["synthetic_weight"] == pytest.approx(0.05)
    done = run(data, tmp_path / "bad", synthetic_weight="some")
    assert done.returncode == 2 and "'some' is not a number; give a number or auto" in done.stderr


def test_script_writes_everything_and_its_model_gives_the_predictions(data, tmp_path):
    done = run(data, tmp_path / "out", clap_model=data / "clap")
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "out/scores.json").read_text())
    assert scores["accuracy"] > 0.8 and "test accuracy" in done.stdout
    assert {"best_C", "best_valid", "interval_95", "per_class", "confusion", "versions", "options"} <= scores.keys()
    penalties = pd.read_csv(tmp_path / "out/penalties.csv")
    assert list(penalties.columns) == ["C", "train_loss", "valid_loss", "valid_accuracy"]
    assert scores["best_valid"]["loss"] == pytest.approx(penalties["valid_loss"].min())
    weights, config = load_file(tmp_path / "out/model/model.safetensors"), tmp_path / "out/model/config.json"
    config = json.loads(config.read_text())
    assert [part["kind"] for part in config["embeddings"]] == ["clap", "ast"]
    assert config["labels"] == scores["labels"] and config["C"] == scores["best_C"]
    predictions = results.read_scores(f"x={tmp_path / 'out/scores.json'}")["predictions"]
    clip, clap = predictions["path"][0], load_scorer(str(data / "clap"))
    heard = [
        model.embed_audio([read_audio(clip, model.sample_rate)[0]])[0] for model in (clap, AstEmbedder(data / "ast"))
    ]
    logits = torch.from_numpy(weights["weight"] @ np.concatenate(heard) + weights["bias"])
    for label, chance in zip(config["labels"], logits.softmax(dim=0).tolist(), strict=True):
        assert float(predictions[f"probability_{label}"][0]) == pytest.approx(chance, abs=1e-3)
    chances, labels = probe.probe_probabilities(tmp_path / "out/model", predictions["path"], tmp_path / "cache")
    assert chances == pytest.approx(predictions[[f"probability_{label}" for label in labels]].to_numpy(float), abs=1e-6)


def test_the_card_says_how_to_load_it(data, tmp_path):
    assert run(data, tmp_path / "out").returncode == 0
    card = (tmp_path / "out/model/README.md").read_text()
    assert "linear probe" in card and "inverse strength" in card and str(tmp_path) not in card
    assert 'probe_probabilities("this folder", ["clip.wav"], cache_folder="embeddings")' in card


def test_a_saved_probe_refuses_another_model(data, tmp_path):
    assert run(data, tmp_path / "out").returncode == 0
    save_tiny_ast(tmp_path / "other", head=True)
    with pytest.raises(UserError, match="its ast model is not at"):
        probe.probe_probabilities(tmp_path / "out/model", [], tmp_path / "c", models={"ast": str(tmp_path / "other")})
    with pytest.raises(UserError, match="no linear probe"):
        probe.load_probe(data / "ast")


def test_runs_share_a_cache_and_test_clips_do_not_touch_the_model(data, tmp_path):
    assert run(data, tmp_path / "a", cache_folder=tmp_path / "cache").returncode == 0
    (cache,) = (tmp_path / "cache").iterdir()
    before = cache.stat().st_mtime_ns
    save_tones(data, "wrong", 9, 2, swap=True)  # the test clips with other labels
    done = run(data, tmp_path / "b", cache_folder=tmp_path / "cache", test_csv=data / "wrong.csv")
    assert done.returncode == 0 and cache.stat().st_mtime_ns == before
    a, b = (json.loads((tmp_path / name / "scores.json").read_text()) for name in "ab")
    assert a["accuracy"] > 0.8 and b["accuracy"] < 0.2
    files = [(tmp_path / name / "model/model.safetensors").read_bytes() for name in "ab"]
    assert files[0] == files[1]


def test_multi_label(data, tmp_path):
    for name, seed in (("train", 5), ("valid", 6), ("test", 7)):
        table = pd.read_csv(save_tones(tmp_path, name, 16, seed, {"low": 300, "high": 2700}), dtype=str)
        for i in range(0, 16, 2):  # every pair of clips once more, together
            low, high = (read_audio(tmp_path / name / f"{j}.wav")[0][:, :6400] for j in (i, i + 1))
            write_wav(tmp_path / name / f"both{i}.wav", (low + high) / 2, SAMPLE_RATE)
            table.loc[len(table)] = [f"{name}/both{i}.wav", "high;low"]
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    done = run(tmp_path, tmp_path / "out", ast_model=data / "ast", multi_label="true")
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "out/scores.json").read_text())
    assert scores["metric"] == "mAP" and scores["mAP"] > 0.9 and "accuracy" not in scores
    predicted = pd.read_csv(tmp_path / "out/predictions.csv", keep_default_na=False)["predicted"]
    assert {"high", "low", "high;low"} >= set(predicted) and "high;low" in set(predicted)


def test_no_model_is_refused(data, tmp_path):
    done = run(data, tmp_path / "out", ast_model="")
    assert done.returncode == 2 and "give --clap_model, --ast_model, or both" in done.stderr
