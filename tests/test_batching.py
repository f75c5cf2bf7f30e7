"""Batches that memory does not hold: halved, with the same results, on real small models that claim to be larger."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from synthio.batching import Halving
from synthio.captions.audio_llm import AudioLlm
from synthio.classification import training as classifier
from synthio.classification.embeddings import EmbeddingCache, embed_clips
from synthio.classification.supcon import SupConAst
from synthio.cli import UserError
from synthio.generation import pairs, preference
from synthio.manifest import read_manifest, read_table
from synthio.models.adapters import make_trainable
from synthio.models.ast_model import load_ast
from synthio.models.clap import ClapScorer
from synthio.models.diffusers_audio import DiffusersTextToAudio
from synthio.models.load import load_scorer, load_text_to_audio
from tests.classification.toy_clips import save_tiny_ast
from tests.generation.test_preference import latent_data, step_options
from tests.scripts import call_script, load_script
from tests.tiny_audio_llms import SAVERS
from tests.tiny_models import save_clap, save_text_to_audio

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_text_to_audio(folder / "flow")
    save_clap(folder / "clap")
    SAVERS["qwen2_audio"](folder / "listener")
    return folder


@pytest.fixture
def clips(make_wav, make_manifest, tmp_path):
    """Seven clips with a prompt each."""
    paths = [make_wav(f"{k}.wav", 0.3 + 0.1 * k, seed=k) for k in range(7)]
    rows = [(path, "dog", "sound of a dog", str(k), path) for k, path in enumerate(paths)]
    make_manifest("clips.csv", rows, ("path", "label", "prompt", "seed", "source_path"))
    return tmp_path


def limit(monkeypatch, kind: type, method: str, most: int) -> list[int]:
    """Let a method run out of memory above `most` rows of its first argument; the sizes that it was called with."""
    whole, sizes = getattr(kind, method), []

    def limited(self, rows, *args):
        sizes.append(len(rows))
        if len(rows) > most:
            raise torch.cuda.OutOfMemoryError(f"tried to allocate {len(rows)} rows")
        return whole(self, rows, *args)

    monkeypatch.setattr(kind, method, limited)
    return sizes


def generated(clips, folders, name, *words, ok=True):
    files = ["--input_csv", clips / "clips.csv", "--output_csv", clips / f"{name}.csv", "--output_folder", clips / name]
    numbers = ["--num_steps", 2, "--cfg_scale", 2, "--device", "cpu", *words]
    done = call_script(ROOT / "stable-audio-tools/generate.py", *files, "--model", folders / "flow", *numbers)
    assert (done.returncode == 0) == ok, done.stderr
    return done.stderr


def test_generation_goes_on_in_halves_with_the_same_clips(clips, folders, monkeypatch):
    generated(clips, folders, "whole")
    sizes = limit(monkeypatch, DiffusersTextToAudio, "predict", 5)  # guidance doubles the rows: two clips at once
    log = generated(clips, folders, "halves")
    assert sizes[:4] == [14, 6, 2, 2] and set(sizes[4:]) == {2}
    assert "no memory for 7 clips at once: going on with 3" in log and "going on with 1" in log
    assert "7 clips, 7 of them generated now" in log
    whole, halves = (read_table(clips / f"{name}.csv")["path"] for name in ("whole", "halves"))
    for one, other in zip(whole, halves, strict=True):
        np.testing.assert_allclose(soundfile.read(clips / one)[0], soundfile.read(clips / other)[0], atol=2 / 2**15)


def test_memory_that_runs_out_in_the_decoder_loses_nothing_that_was_sampled(clips, folders, monkeypatch):
    """The clips are sampled once, all seven together; the decoder alone goes on in smaller parts."""
    generated(clips, folders, "whole")
    decoded = limit(monkeypatch, DiffusersTextToAudio, "decode", 1)
    sampled = limit(monkeypatch, DiffusersTextToAudio, "predict", 100)
    log = generated(clips, folders, "parts")
    assert sampled == [14, 14] and max(decoded) > 1 and decoded.count(1) == 7
    assert "decoded clips at once: going on with 1" in log
    whole, parts = (read_table(clips / f"{name}.csv")["path"] for name in ("whole", "parts"))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(soundfile.read(clips / one)[0], soundfile.read(clips / other)[0], atol=2 / 2**15)


def test_a_clip_that_does_not_fit_alone_ends_the_run(clips, folders, monkeypatch):
    limit(monkeypatch, DiffusersTextToAudio, "decode", 0)
    log = generated(clips, folders, "none", ok=False)
    assert "the device has no memory for a single decoded clip; use a smaller model" in log


def test_scores_embeddings_and_filter_are_those_of_whole_batches(clips, folders, monkeypatch):
    table = read_manifest(clips / "clips.csv")

    def everything(name):
        kept = clips / f"{name}_kept.csv"
        words = ["--input_csv", clips / "clips.csv", "--kept_csv", kept, "--rejected_csv", clips / f"{name}_no.csv"]
        done = call_script(ROOT / "filter_audios.py", *words, "--model", folders / "clap", "--threshold", 0)
        assert done.returncode == 0, done.stderr
        cache = EmbeddingCache(clips / name, "clap", str(folders / "clap"))
        vectors = embed_clips(cache, lambda: load_scorer(str(folders / "clap")), table["path"], "clips.csv", 4)
        scores = pairs.clap_scores(table, str(folders / "clap"), "cpu", clips / f"{name}_scores.csv")
        return [float(score) for score in read_table(kept)["clap_score"]], vectors, scores

    whole = everything("whole")
    sizes = limit(monkeypatch, ClapScorer, "embed_audio", 2)
    halves = everything("halves")
    assert max(sizes) == 7 and 1 in sizes
    for one, other in zip(whole, halves, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


def test_captions_are_those_of_whole_batches(clips, folders, monkeypatch):
    def captions(name):
        words = ["--input_csv", clips / "clips.csv", "--output_csv", clips / name, "--captioner", folders / "listener"]
        done = call_script(ROOT / "gama_csv_inf.py", *words, "--max_new_tokens", 6, "--device", "cpu")
        assert done.returncode == 0, done.stderr
        return list(read_table(clips / name)["caption"])

    whole = captions("whole.csv")
    sizes = limit(monkeypatch, AudioLlm, "describe", 2)
    assert captions("halves.csv") == whole and sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]


def pair_gradients(folders, loss, fitting, batch_size=7, accumulation=1):
    """(gradients after a step of a LoRA that has learnt something, record)."""
    model = load_text_to_audio(str(folders / "flow"))
    options = step_options(loss=loss, batch_size=batch_size, gradient_accumulation=accumulation)
    trainable = make_trainable(model, "lora")
    generator = torch.Generator().manual_seed(0)
    for parameter in trainable.parameters.values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    optimizer, data = preference.new_optimizer(trainable, options), latent_data(model, 8)
    data = replace(data, losers=None) if loss == "sft" else data
    record = preference.optimiser_step(model, trainable, data, options, optimizer, 0, fitting)
    return {name: parameter.grad for name, parameter in trainable.parameters.items()}, record


@pytest.mark.parametrize(("loss", "most", "tried"), [("dpo", 6, [14, 6, 6, 6, 6, 2, 2]), ("sft", 3, [7, 3, 3, 1])])
def test_a_step_on_pairs_in_halves_has_the_gradient_of_the_whole(folders, monkeypatch, capsys, loss, most, tried):
    whole, record = pair_gradients(folders, loss, Halving(7, "pair"))
    sizes = limit(monkeypatch, DiffusersTextToAudio, "predict", most)
    parts, record_of_parts = pair_gradients(folders, loss, Halving(7, "pair"))
    assert sizes == tried and "no memory for 7 pairs at once: going on with 3" in capsys.readouterr().err
    assert record_of_parts == pytest.approx(record, abs=1e-6)
    assert max(gradient.abs().max() for gradient in whole.values()) > 1e-3
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-5)


def test_what_was_added_before_memory_ran_out_is_forgotten(folders, monkeypatch):
    """Memory runs out on the way back, in the second of two batches: the first one's gradient is there by then."""
    whole, _ = pair_gradients(folders, "dpo", Halving(4), 4, 2)
    backward, calls = torch.Tensor.backward, []

    def limited(self):
        calls.append(self)
        backward(self)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("tried to allocate gradients")

    monkeypatch.setattr(torch.Tensor, "backward", limited)
    fitting = Halving(4)
    parts, _ = pair_gradients(folders, "dpo", fitting, 4, 2)
    assert (len(calls), fitting.size) == (2 + 4, 2)
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-5)


@pytest.fixture
def listener(tmp_path):
    """(AST without dropout, 12 clips of three classes, a recipe of 8 clips a step)."""
    model = load_ast(str(save_tiny_ast(tmp_path / "ast")), ["x", "y", "z"], 56, False, seed=1)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    rng = np.random.default_rng(0)
    targets = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 12)]
    features = torch.from_numpy(rng.normal(size=(12, 56, 32)) + targets.argmax(1)[:, None, None]).half()
    weights = torch.from_numpy(rng.uniform(0.5, 1.5, 12).astype(np.float32))
    split = classifier.Split(
        features, torch.from_numpy(targets), classifier.Normalisation(56, 0.0, 0.5), weights=weights
    )
    args = ["--train_csv", "x", "--valid_csv", "x", "--test_csv", "x", "--output_folder", "x", "--batch_size", "8"]
    train = load_script(ROOT / "ast/train.py")
    return model, split, train.make_recipe(train.get_parser().parse_args([*args, "--mixup", "0.3"]), 12)


def clip_gradients(model, split, recipe, fitting):
    """(gradients after a step that leaves the weights, loss)."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    loss = classifier.train_step(model, optimizer, split, 0, replace(recipe, learning_rate=0.0), "cpu", fitting)
    return {name: parameter.grad for name, parameter in model.named_parameters()}, loss


def test_the_classifier_in_halves_is_that_of_the_whole_batch(listener, monkeypatch):
    model, split, recipe = listener
    whole, loss = clip_gradients(model, split, recipe, Halving(8))
    logits = classifier.predict(model, split.features, 8, "cpu")
    sizes = limit(monkeypatch, type(model), "forward", 3)
    fitting = Halving(8)
    parts, loss_of_parts = clip_gradients(model, split, recipe, fitting)
    assert sizes == [8, 4, 2, 2, 2, 2] and fitting.size == 2
    assert loss_of_parts == pytest.approx(loss, abs=1e-6)
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(classifier.predict(model, split.features, 8, "cpu"), logits, atol=1e-6, rtol=1e-5)


def test_a_contrastive_loss_is_not_cut(listener, monkeypatch):
    model, split, recipe = listener
    learner = SupConAst(model, 0)
    limit(monkeypatch, SupConAst, "forward", 4)
    with pytest.raises(UserError, match=r"no memory for 8 clips, and --supcon compares all clips.*lower --batch_size"):
        clip_gradients(learner, split, replace(recipe, mixup=0.0, supcon_weight=1.0), Halving(8))


def test_the_size_that_fitted_is_kept_for_the_next_batch():
    tried = []

    def squares(part):
        tried.append(len(part))
        if len(part) > 3:
            raise torch.cuda.OutOfMemoryError
        return np.square(part)

    fitting = Halving(8)
    assert fitting.run(squares, list(range(8))) == [0, 1, 4, 9, 16, 25, 36, 49]
    assert fitting.run(squares, [3, 4]) == [9, 16] and fitting.run(squares, []) == []
    assert (tried, fitting.size) == ([8, 4, 2, 2, 2, 2, 2], 2)


def test_other_errors_are_not_taken_for_full_memory():
    def broken(part):
        raise RuntimeError("a matrix of another shape")

    with pytest.raises(RuntimeError, match="another shape"):
        Halving(4).run(broken, [1, 2])
    with pytest.raises(UserError, match="no memory for a single window"):
        Halving(1, "window").run(limited_to_none, [1, 2])


def limited_to_none(part):
    raise torch.cuda.OutOfMemoryError
