"""Training the classifier: features, batches, the head that it starts from, and the weights that are kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ASTConfig, ASTFeatureExtractor

from synthio.audio import read_audio, write_wav
from synthio.classification import training as classifier
from synthio.classification.options import ALPHAS
from synthio.classification.pool import fit_weights
from synthio.classification.probe import FEW_CLIPS_C, LinearProbe, fit_probe
from synthio.classification.supcon import SupConAst
from synthio.classification.weighting import TOTALS, draw_rates
from synthio.cli import UserError
from synthio.models import ast_model
from synthio.training.loop import Checkpoint, batch_rows
from synthio.training.processes import ALONE, Processes
from tests.classification.toy_clips import RATE, load_script, options, save_problem


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Model and train, valid, test CSVs of a separable toy problem."""
    return save_problem(tmp_path_factory.mktemp("tones"))


def test_input_length_comes_from_the_data():
    config = ASTConfig(patch_size=16, time_stride=10)
    assert classifier.choose_frames([298] * 99 + [900], 1024, config) == 296
    assert classifier.choose_frames([2000] * 9, 1024, config) == 1016
    assert classifier.choose_frames([3], 1024, config) == 16
    assert classifier.choose_frames([100] * 9 + [1000], 1024, config) == 586  # the percentile, 595, in whole patches
    assert classifier.choose_frames([100] * 9 + [1000], 1024, config, "mean") == 186  # of 190


def test_padding_is_that_of_the_feature_extractor(tmp_path):
    audio = 0.1 * np.random.default_rng(0).normal(size=(1, 5000)).astype(np.float32)
    write_wav(tmp_path / "a.wav", audio, RATE)
    clips = classifier.read_features([str(tmp_path / "a.wav")], "x.csv", 32, 1024)
    norm = classifier.Normalisation(40, -5.0, 3.0)
    extractor = ASTFeatureExtractor(max_length=40, num_mel_bins=32, mean=-5.0, std=3.0)
    waveform = read_audio(tmp_path / "a.wav", RATE)[0][0]
    expected = extractor(waveform, sampling_rate=RATE, return_tensors="pt")["input_values"]
    assert len(clips[0]) == 29
    torch.testing.assert_close(classifier.fill(clips, norm), expected, atol=3e-4, rtol=0)
    kept = classifier.make_split(clips, np.zeros((1, 2), np.float32), norm).features
    assert kept.dtype == torch.float16
    torch.testing.assert_close(kept.float(), expected, atol=2e-3, rtol=0)
    cut = classifier.fill(clips, replace(norm, frames=20))
    torch.testing.assert_close(cut, expected[:, :20], atol=3e-4, rtol=0)


def test_a_bad_clip_is_named(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no sound")
    with pytest.raises(UserError, match=r"t\.csv row 1: .*a\.wav: unreadable"):
        classifier.read_features([str(tmp_path / "a.wav")], "t.csv", 32, 100)


def test_a_clip_of_a_few_samples_works(tmp_path):
    write_wav(tmp_path / "a.wav", np.full((1, 10), 0.1, np.float32), RATE)
    assert classifier.read_features([str(tmp_path / "a.wav")], "t.csv", 32, 100)[0].shape == (1, 32)


def test_mixup_blends_features_and_targets_alike():
    features, targets = torch.eye(6)[:, None, :].repeat(1, 2, 1), torch.eye(6)
    blend, mixed = classifier.mixup(0.5, np.random.default_rng(0), features, targets)
    torch.testing.assert_close(blend[:, 0], mixed)
    torch.testing.assert_close(mixed.sum(dim=1), torch.ones(6))
    assert not torch.equal(mixed, targets)
    again, _ = classifier.mixup(0.5, np.random.default_rng(0), features, targets)
    assert torch.equal(blend, again)


def test_spec_augment_masks_one_band_and_one_stretch():
    features = torch.ones(20, 128, 64)
    masked = classifier.spec_augment(features, np.random.default_rng(0))
    assert torch.equal(masked, classifier.spec_augment(features, np.random.default_rng(0)))
    assert features.min() == 1
    gone_frames = (masked == 0).all(dim=2).sum(dim=1)
    gone_bands = (masked == 0).all(dim=1).sum(dim=1)
    assert 0 < gone_frames.max() <= 24
    assert 0 < gone_bands.max() <= 12
    kept = (128 - gone_frames) * (64 - gone_bands)
    assert torch.equal(masked.sum(dim=(1, 2)), kept.float())


# Training


def drawn(weight: float, steps: int = 40) -> list[np.ndarray]:
    is_synthetic = np.array([False, True, True] * 5)
    return [classifier.mixed_rows(is_synthetic, weight, 8, step, seed=0) for step in range(steps)]


@pytest.mark.parametrize("weight", [0.0, 0.1, 0.3, 1.0, 2.0])
def test_a_synthetic_clip_comes_as_often_as_its_weight_says(weight):
    counts = np.bincount(np.concatenate(drawn(weight)), minlength=15)
    real, synthetic = counts[::3], np.delete(counts, np.s_[::3])
    assert counts.sum() == 320
    assert np.ptp(real) <= 1
    assert np.ptp(synthetic) <= 1
    assert synthetic.mean() == pytest.approx(weight * real.mean(), abs=0.5)


def test_all_batches_have_the_same_share_of_synthetic_clips():
    shares = [int(np.sum(rows % 3 > 0)) for rows in drawn(0.3)]
    assert set(shares) == {3}  # 8 * .3 * 10 / (5 + .3 * 10)


def test_without_synthetic_clips_the_rows_are_those_of_one_kind():
    rows = classifier.mixed_rows(np.zeros(5, bool), 0.3, 12, 3, seed=0)
    np.testing.assert_array_equal(rows, batch_rows(5, 12, 3, seed=0))
    only = classifier.mixed_rows(np.ones(5, bool), 0.3, 10, 0, seed=0)
    assert np.bincount(only).tolist() == [2] * 5


def test_scaled_logits_are_divided_and_moved(data):
    model = ast_model.load_ast(str(data / "model"), ["x", "y"], 56, True, seed=1).eval()
    clips = torch.randn(2, 56, 32, generator=torch.Generator().manual_seed(0))
    before = classifier.predict(model, clips, 2, "cpu")
    classifier.scale_logits(model, 2.5, -0.7)
    torch.testing.assert_close(classifier.predict(model, clips, 2, "cpu"), before / 2.5 - 0.7)


def test_the_step_of_the_lowest_loss_is_kept_and_of_several_shares_the_best_is_noted():
    model, state = torch.nn.Linear(1, 1), classifier.Fitting()
    losses = {1: [0.9], 2: [0.5, 0.3, 0.4], 3: [0.6, 0.7, 0.31], 4: [0.3]}
    for step, row in losses.items():
        state.step = step
        for alpha, loss in enumerate(row):
            torch.nn.init.constant_(model.weight, 10 * step + alpha)
            classifier._record(state, model, 1.0, loss, 1 - loss, alpha)
    assert [(row["step"], row["valid_loss"], row["alpha"]) for row in state.history] == [
        *((1, 0.9, 0), (2, 0.3, 1), (3, 0.31, 2), (4, 0.3, 0))
    ]
    assert state.best_step == 2 and state.best_loss == 0.3 and state.best_row()["valid_score"] == 0.7
    assert state.best_state["weight"].item() == 21


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_loss_of_an_evaluation_is_that_after_calibration(data, multi_label):
    """Logits that are ten times as sure, or as modest, are worth the same."""
    model = ast_model.load_ast(str(data / "model"), ["x", "y", "z"], 56, multi_label, seed=1)
    train, valid = noise_splits()
    recipe = recipe_of(data, multi_label=multi_label)
    classifier.fit_head(model, train, valid, recipe, "cpu")
    losses = []
    for temperature in (1.0, 0.1, 100.0):
        classifier.scale_logits(model, temperature, 0.0)
        losses.append(classifier.evaluate(model, valid, recipe, "cpu"))
    logits = classifier.predict(model, valid.features, 8, "cpu")
    assert [loss for loss, _ in losses] == pytest.approx([losses[0][0]] * 3, rel=0.12)  # but for the prior of one clip
    assert losses[0][0] < classifier.loss_of(logits, valid.targets, multi_label)
    assert losses[0][1] == classifier.score_of(logits, valid.targets, multi_label)


@pytest.mark.parametrize("multi_label", [True, False])
def test_weighted_loss_is_that_of_a_clip_that_comes_twice(multi_label):
    rng = np.random.default_rng(0)
    logits, targets = torch.from_numpy(rng.normal(size=(3, 4))), torch.eye(4, dtype=torch.float64)[:3]
    twice = torch.cat([logits, logits[:1]]), torch.cat([targets, targets[:1]])
    weighted = classifier.loss_of(logits, targets, multi_label, torch.tensor([2.0, 1.0, 1.0]) * 3 / 4)
    assert weighted.item() == pytest.approx(classifier.loss_of(*twice, multi_label).item())


def test_settled_weights_are_those_of_the_rates_that_were_chosen(data):
    """Synthetic clips of noise are worth nothing, so they do not come; the classes of the others count the same."""
    model = ast_model.load_ast(str(data / "model"), ["x", "y", "z"], 56, False, seed=1)
    train, valid = noise_splits()
    train = replace(train, is_synthetic=np.arange(16) % 2 == 0)
    recipe = recipe_of(data, synthetic_weight="auto", class_weights=True)
    weighed, settled, history = classifier.settle_weights(model, train, valid, recipe, "cpu")
    assert settled == replace(recipe, synthetic_weight=0.0) and len(history) == 1 + len(TOTALS)
    assert torch.equal(weighed.features, train.features[1::2]) and not weighed.is_synthetic.any()
    given, same, _ = classifier.settle_weights(model, train, valid, replace(recipe, synthetic_weight=0.5), "cpu")
    assert same.synthetic_weight == 0.5 and len(given.features) == 16
    for split, weight in ((weighed, 0.0), (given, 0.5)):
        rates = draw_rates(split.is_synthetic, weight)
        sums = (split.weights.numpy() * rates) @ split.targets.numpy()
        np.testing.assert_allclose(sums, sums.mean(), rtol=1e-5)
    plain, same, history = classifier.settle_weights(model, train, valid, recipe_of(data), "cpu")
    assert plain is train and same == recipe_of(data) and history == []


def noise_splits() -> tuple[classifier.Split, classifier.Split]:
    """16 training and 8 validation clips of noise whose level is the class."""
    rng = np.random.default_rng(0)
    targets = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 24)]
    features = torch.from_numpy(rng.normal(size=(24, 56, 32)) + targets.argmax(1)[:, None, None]).half()
    norm = classifier.Normalisation(56, 0.0, 0.5)
    parts = (slice(0, 16), slice(16, 24))
    return tuple(classifier.Split(features[part], torch.from_numpy(targets[part]), norm) for part in parts)


def recipe_of(data: Path, **changes) -> classifier.Recipe:
    """For 16 training clips."""
    return load_script().make_recipe(load_script().get_parser().parse_args(options(data, data, **changes)), 16)


def test_the_fitted_head_is_the_probe_of_the_pooled_output(data):
    model = ast_model.load_ast(str(data / "model"), ["x", "y", "z"], 56, False, seed=1)
    train, valid = noise_splits()
    train = replace(train, is_synthetic=np.arange(16) % 2 == 0)
    classifier.fit_head(model, train, valid, recipe_of(data, synthetic_weight=0.5), "cpu")
    features = torch.cat([train.features, valid.features])
    with torch.no_grad():
        pooled = model.audio_spectrogram_transformer(features.float()).pooler_output
        x = torch.nn.functional.layer_norm(pooled, pooled.shape[1:], eps=1e-12).numpy()
    probe = fit_probe(x[:16], train.targets.numpy(), FEW_CLIPS_C, False, np.tile([1 / 3, 2 / 3], 8))
    logits = classifier.predict(model, features, 8, "cpu")
    np.testing.assert_allclose(logits, probe.logits(x), atol=1e-3)


@pytest.mark.parametrize("multi_label", [False, True])
def test_what_the_pretrained_head_says_is_added_as_the_validation_clips_weigh_it(data, multi_label):
    model = ast_model.load_ast(str(data / "model"), ["x", "y", "z"], 56, multi_label, seed=1)
    train, valid = noise_splits()
    rng = np.random.default_rng(3)
    known = LinearProbe(*(rng.normal(size=size).astype(np.float32) for size in ((3, 32), 3)))
    recipe = recipe_of(data, multi_label=multi_label)
    classifier.fit_head(model, train, valid, recipe, "cpu")
    pair = [classifier.predict(model, split.features, 8, "cpu").double().numpy() for split in (train, valid)]
    classifier.fit_head(model, train, valid, recipe, "cpu", known)
    found = classifier.predict(model, valid.features, 8, "cpu")
    with torch.no_grad():
        pooled = model.audio_spectrogram_transformer(valid.features.float()).pooler_output
        x = torch.nn.functional.layer_norm(pooled, pooled.shape[1:], eps=1e-12).numpy()
    shares, offset = fit_weights([pair[1], known.logits(x)], valid.targets.numpy(), multi_label)
    np.testing.assert_allclose(found, shares[0] * pair[1] + shares[1] * known.logits(x) + offset, atol=2e-3)


def test_rows_of_labels_are_those_of_their_names():
    """Of several names of a label the mean; a head that does not know every label is of no use."""
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(4, 5)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    head = ast_model.OwnHead(["rain", "dog_bark", "siren", "dog_whine"], weight, bias)
    rows = classifier.rows_of_labels(head, ["dog", "rain"])
    np.testing.assert_allclose(rows.weight, [(weight[1] + weight[3]) / 2, weight[0]], rtol=1e-6)
    np.testing.assert_allclose(rows.bias, [(bias[1] + bias[3]) / 2, bias[0]], rtol=1e-6)
    assert classifier.rows_of_labels(head, ["dog", "cat"]) is None
    assert classifier.rows_of_labels(None, ["dog"]) is None


def fitted(data: Path, folder: Path, **changes) -> tuple[classifier.Fitting, dict[str, torch.Tensor]]:
    """(state, weights) of a training that soon does harm: at a rate that is far too high."""
    recipe = recipe_of(data, head_init="probe", num_steps=12, eval_every=1, learning_rate=0.5, **changes)
    ast = ast_model.load_ast(str(data / "model"), ["x", "y", "z"], 56, False, seed=1)
    state = classifier.fit(ast, *noise_splits(), recipe, "cpu", Checkpoint(folder / "checkpoint.pt", "key"))
    return state, ast.state_dict()


def test_training_ends_where_patience_does_with_what_the_whole_one_keeps(data, tmp_path):
    whole, kept = fitted(data, tmp_path / "whole", patience=0)
    assert whole.step == 12
    assert whole.best_step < 8, "else nothing is told by what follows"
    for patience in (3, 4):
        state, weights = fitted(data, tmp_path / str(patience), patience=patience)
        assert (state.step, state.best_step) == (whole.best_step + patience, whole.best_step)
        assert state.history == whole.history[: len(state.history)]
        assert all(torch.equal(weights[name], tensor) for name, tensor in kept.items())
    again, weights = fitted(data, tmp_path / "3", patience=3)  # its checkpoint is there: no step is left
    assert again.step == whole.best_step + 3
    assert all(torch.equal(weights[name], tensor) for name, tensor in kept.items())


def test_the_result_is_the_mean_of_start_and_trained_weights(data, tmp_path):
    """Training goes on from the trained weights, not from the mean: step 4 of both runs is the same."""
    states, history = {}, {}
    for alpha in (0.25, 1.0, "auto"):
        recipe = recipe_of(data, head_init="probe", num_steps=4, eval_every=2, wise_ft_alpha=alpha)
        recipe = replace(recipe, learning_rate=1e-6)  # too little to change a score, so that the last step is kept
        ast = ast_model.load_ast(str(data / "model"), ["x", "y", "z"], 56, False, seed=1)
        train, valid = noise_splits()
        state = classifier.fit(ast, train, valid, recipe, "cpu", Checkpoint(tmp_path / str(alpha), "key"))
        assert state.best_step == 4
        assert classifier.evaluate(ast, valid, recipe, "cpu")[0] == pytest.approx(state.best_row()["valid_loss"])
        states[alpha], history[alpha] = ast.state_dict(), state.history
        chosen = state.best_row()["alpha"]
        assert chosen == alpha or (alpha == "auto" and chosen in ALPHAS)
    start = ast_model.load_ast(str(data / "model"), ["x", "y", "z"], 56, False, seed=1)
    classifier.fit_head(start, train, valid, recipe, "cpu")
    for name, tensor in start.state_dict().items():
        for alpha, share in ((0.25, 0.25), ("auto", chosen)):
            torch.testing.assert_close(states[alpha][name], tensor.lerp(states[1.0][name], share), rtol=0, atol=1e-7)
    assert not torch.equal(states[0.25]["classifier.dense.weight"], states[1.0]["classifier.dense.weight"])
    assert [row["train_loss"] for row in history[0.25]] == [row["train_loss"] for row in history[1.0]]
    losses = {}
    for share in ALPHAS:
        mixed = {name: tensor.lerp(states[1.0][name], share) for name, tensor in start.state_dict().items()}
        ast.load_state_dict(mixed)
        losses[share] = classifier.evaluate(ast, valid, recipe, "cpu")[0]
    assert losses[chosen] == pytest.approx(min(losses.values()), abs=1e-6)
    assert recipe_of(data, head_init="random", wise_ft_alpha=0.25).wise_ft_alpha == 1


@pytest.mark.parametrize("count", [2, 3, 9])
def test_shares_of_a_step_have_the_sum_of_its_gradient_and_loss(data, count):
    """Seven weighted clips for two, three and nine processes, two at a time: uneven parts, also none at all."""
    model = ast_model.load_ast(str(data / "model"), ["x", "y", "z"], 56, False, seed=1)
    for part in model.modules():  # as in AST's own
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    train, _ = noise_splits()
    batch = train.features[:7].float(), train.targets[:7], torch.arange(1.0, 8.0)

    def take(processes: Processes, size: int):
        loss = classifier._set_gradient(model, batch, 0, recipe_of(data), "cpu", processes, size)
        return loss, [p.grad for p in model.parameters()]

    loss, gradient = take(ALONE, 7)
    parts = [take(Processes(rank, count), 2) for rank in range(count)]
    assert sum(part for part, _ in parts) == pytest.approx(loss, rel=1e-5)
    for k, expected in enumerate(gradient):
        found = sum(part[k] for _, part in parts if part[k] is not None)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_more_processes_than_clips_cannot_compare_them():
    with pytest.raises(UserError, match="--supcon compares 7 clips, which 9 processes cannot share; use fewer"):
        classifier._check_whole(7, 1, 1, 9)


@pytest.mark.parametrize("is_supcon", [False, True])
def test_a_training_that_goes_on_does_not_fit_its_head_again(data, tmp_path, monkeypatch, is_supcon):
    changes = {"head_init": "probe", "wise_ft_alpha": 0.5, "num_steps": 4, "eval_every": 2, "supcon": is_supcon}
    recipe, splits = recipe_of(data, **changes), noise_splits()
    fit_head, fitted = classifier.fit_head, []
    monkeypatch.setattr(classifier, "fit_head", lambda *words: (fitted.append(words), fit_head(*words)))

    def run(name: str, on_eval=None) -> dict[str, torch.Tensor]:
        ast = ast_model.load_ast(str(data / "model"), ["x", "y", "z"], 56, False, seed=1)
        model = SupConAst(ast, 1) if is_supcon else ast
        state = classifier.fit(model, *splits, recipe, "cpu", Checkpoint(tmp_path / name, "key"), on_eval)
        assert [row["step"] for row in state.history] == [0, 2, 4]
        return ast.state_dict()

    def stop(state):
        raise KeyboardInterrupt

    unbroken = run("unbroken")
    with pytest.raises(KeyboardInterrupt):
        run("broken", stop)
    assert len(fitted) == 2
    resumed = run("broken")
    assert len(fitted) == 2
    assert all(torch.equal(resumed[name], tensor) for name, tensor in unbroken.items())


def test_the_moments_are_those_of_asts_recipe(data, tmp_path, monkeypatch):
    """Decays .95 and .999, not Adam's: the moving averages of a parameter by hand, over three steps."""
    found, first, second = [], 0.0, 0.0

    class Watched(torch.optim.AdamW):
        def step(self, *words):
            parameter = self.param_groups[0]["params"][-1]
            gradient = parameter.grad.clone()
            super().step(*words)
            state = self.state[parameter]
            found.append((gradient, state["exp_avg"].clone(), state["exp_avg_sq"].clone()))

    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    ast = ast_model.load_ast(str(data / "model"), ["x", "y", "z"], 56, False, seed=1)
    recipe = recipe_of(data, head_init="random", num_steps=3)
    classifier.fit(ast, *noise_splits(), recipe, "cpu", Checkpoint(tmp_path / "checkpoint", "key"))
    assert len(found) == 3
    for gradient, average, squares in found:
        first, second = 0.95 * first + 0.05 * gradient, 0.999 * second + 0.001 * gradient**2
        torch.testing.assert_close(average, first, rtol=1e-5, atol=1e-10)
        torch.testing.assert_close(squares, second, rtol=1e-5, atol=1e-12)
