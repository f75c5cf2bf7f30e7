"""Preference optimisation: what a step computes, and what it leaves as it was."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from synthio.batching import Halving
from synthio.cli import UserError
from synthio.generation import diffusion, pairs, preference
from synthio.generation.options import PreferenceOptions
from synthio.models.adapters import make_trainable
from synthio.models.load import load_text_to_audio
from synthio.training.loop import Checkpoint
from synthio.training.processes import Processes
from tests.generation.toy import KINDS, OBJECTIVES, RATES, losers_of, save_world
from tests.tiny_models import save_stable_audio_3


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Tiny models, gold clips of noise, and tones as their generations."""
    return save_world(tmp_path_factory.mktemp("world"))


# ---- a step, without files


def step_options(**changes):
    return PreferenceOptions(**{"warmup_steps": 0, "batch_size": 4, "beta": 1.0} | changes)


def latent_data(model, count=4) -> pairs.TrainingData:
    """Pairs whose winners lie around +1 and losers around -1."""
    latents = torch.randn(2 * count, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    latents += torch.tensor([1.0, -1.0]).repeat_interleave(count)[:, None, None]
    rows = torch.arange(count)
    condition = model.condition(["rain", "dog bark"], [1.0, 0.5])
    frames = torch.full((2 * count,), model.latent_shape[1])
    return pairs.TrainingData(latents, frames, condition, rows, rows + count, rows % 2, "")


def trained_steps(model, kind, steps, data=None, **changes):
    """(trainable, records) after some steps."""
    options = step_options(**{"learning_rate": RATES[kind]} | changes)
    trainable = make_trainable(model, kind)
    optimizer = preference.new_optimizer(trainable, options)
    data, fitting = data or latent_data(model), Halving(options.batch_size)
    take = lambda step: preference.optimiser_step(model, trainable, data, options, optimizer, step, fitting)  # noqa: E731
    return trainable, [take(step) for step in range(steps)]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kind", KINDS)
def test_starts_at_log_two_then_the_winners_error_falls_and_the_losers_rises(world, kind, objective):
    model = load_text_to_audio(str(world / objective))
    _, records = trained_steps(model, kind, 10)
    assert records[0]["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert (records[0]["accuracy"], records[0]["margin"]) == (0.5, 0.0)
    assert records[-1]["accuracy"] == 1.0 and records[-1]["loss"] < math.log(2)
    assert records[-1]["winner_change"] < 0 < records[-1]["loser_change"]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kind", KINDS)
def test_training_leaves_the_reference_as_it_was(world, kind, objective):
    model = load_text_to_audio(str(world / objective))
    data = latent_data(model)
    draw = preference.draw(data, step_options(), 0)
    before = torch.cat(preference.diffusion_errors(model, draw))
    trainable, _ = trained_steps(model, kind, 5)
    assert not torch.equal(torch.cat(preference.diffusion_errors(model, draw)), before)
    with trainable.reference():
        assert torch.equal(torch.cat(preference.diffusion_errors(model, draw)), before)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_all_four_terms_share_time_noise_condition_and_dropout(world, monkeypatch, objective):
    model = load_text_to_audio(str(world / objective))
    data, seen, predict = latent_data(model, 8), [], model.predict
    monkeypatch.setattr(model, "predict", lambda *inputs: seen.append(inputs) or predict(*inputs))
    trained_steps(model, "lora", 1, data, batch_size=8, condition_dropout=0.5)
    (noisy, t, condition), policy = seen  # reference, then policy
    assert torch.equal(noisy, policy[0]) and torch.equal(t, policy[1])
    assert torch.equal(condition.cross, policy[2].cross)
    assert torch.equal(t[:8], t[8:]) and torch.equal(condition.cross[:8], condition.cross[8:])
    dropped = (condition.cross[:8] == 0).all(dim=(1, 2))
    assert 0 < dropped.sum() < 8
    rows = preference.pair_rows(8, 8, 0, 0)
    alpha, sigma = (c[:, None, None] for c in diffusion.alpha_sigma(objective, t))
    noise = (noisy - alpha * torch.cat([data.latents[rows], data.latents[rows + 8]])) / sigma
    torch.testing.assert_close(noise[:8], noise[8:], atol=1e-3, rtol=1e-3)


def test_preference_loss_of_a_step_by_hand(world):
    """Errors written out again, under a reference that differs: a second round's."""
    model = load_text_to_audio(str(world / "v"))
    data = latent_data(model)
    trainable, _ = trained_steps(model, "prefix", 3)
    options = step_options(beta=3.0, winner_weight=0.25)
    draw = preference.draw(data, options, 5)
    loss, record = preference.batch_loss(model, trainable, draw, options)
    with torch.no_grad():

        def errors(clips):
            alpha, sigma = (
                torch.cos(draw.t * math.pi / 2)[:, None, None],
                torch.sin(draw.t * math.pi / 2)[:, None, None],
            )
            out = model.predict(alpha * clips + sigma * draw.noise, draw.t, draw.condition)
            return ((out - (alpha * draw.noise - sigma * clips)) ** 2).flatten(1).mean(1)

        policy = errors(draw.winners), errors(draw.losers)
        with trainable.reference():
            reference = errors(draw.winners), errors(draw.losers)
    gaps = (policy[0] - policy[1] - (reference[0] - reference[1])).tolist()
    expected = sum(math.log(1 + math.exp(1.5 * gap)) for gap in gaps) / 4
    assert record["loss"] == pytest.approx(expected, abs=1e-5)
    assert loss.item() == pytest.approx(expected + 0.25 * policy[0].mean().item(), abs=1e-5)
    assert record["margin"] == pytest.approx(-1.5 * sum(gaps) / 4, abs=1e-5)
    assert record["winner_change"] == pytest.approx((policy[0] - reference[0]).mean().item(), abs=1e-5)


def test_supervised_loss_is_the_winners_error_and_falls(world):
    model = load_text_to_audio(str(world / "v"))
    full = latent_data(model)
    data = replace(full, latents=full.latents[:4], frames=full.frames[:4], losers=None)
    draw = preference.draw(data, step_options(), 0)
    trainable = make_trainable(model, "lora")
    loss, record = preference.batch_loss(model, trainable, draw, step_options(loss="sft"))
    both = preference.draw(full, step_options(), 0)
    assert loss.item() == pytest.approx(preference.diffusion_errors(model, both)[0].mean().item(), abs=1e-6)
    assert record == {"loss": loss.item()}
    _, records = trained_steps(load_text_to_audio(str(world / "v")), "lora", 40, data, loss="sft", learning_rate=1e-2)
    assert np.mean([r["loss"] for r in records[-5:]]) < 0.9 * np.mean([r["loss"] for r in records[:5]])


def test_accumulation_gives_the_gradient_of_the_whole_batch(world):
    def gradients(batch_size, accumulation):
        model = load_text_to_audio(str(world / "rectified_flow"))
        options = {"batch_size": batch_size, "gradient_accumulation": accumulation}
        trainable, records = trained_steps(model, "prefix", 2, latent_data(model, 7), **options)
        return torch.cat([p.grad.flatten() for p in trainable.parameters.values()]), records[-1]

    (whole, record), (parts, record_of_parts) = gradients(6, 1), gradients(2, 3)
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-4)
    assert record_of_parts == pytest.approx(record, abs=1e-5)
    uneven, _ = gradients(4, 2)  # all seven pairs, as 4 and 3
    torch.testing.assert_close(uneven, gradients(7, 1)[0], atol=1e-6, rtol=1e-4)


def test_warm_up_is_linear(world):
    options = step_options(warmup_steps=4, learning_rate=1e-3)
    model = load_text_to_audio(str(world / "v"))
    trainable, data = make_trainable(model, "prefix"), latent_data(model)
    optimizer, rates = preference.new_optimizer(trainable, options), []
    for step in range(6):
        preference.optimiser_step(model, trainable, data, options, optimizer, step, Halving(4))
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3, 1e-3])


def test_each_step_is_told_as_it_is_made(world, tmp_path):
    """What a tracker is given; one that goes on from a checkpoint starts with the steps before it."""
    told = []
    tell = lambda history: told.append([row["step"] for row in history])  # noqa: E731
    for num_steps in (2, 3):
        model = load_text_to_audio(str(world / "rectified_flow"))
        options = step_options(num_steps=num_steps, checkpoint_every=2)
        checkpoint = Checkpoint(tmp_path / "checkpoint.pt", "x")
        preference.align(model, make_trainable(model, "lora"), latent_data(model), options, checkpoint, tell)
    assert told == [[0], [0, 1], [0, 1, 2]]


def test_moving_average_by_hand():
    parameter = torch.nn.Parameter(torch.tensor([1.0]))
    trainable, average = SimpleNamespace(parameters={"w": parameter}), {"w": torch.tensor([0.0])}
    preference.update_average(average, trainable, 0.5, step=0)  # (1 + 0) / (10 + 0) is less than 0.5
    assert average["w"].item() == pytest.approx(0.9)
    preference.update_average(average, trainable, 0.5, step=1000)
    assert average["w"].item() == pytest.approx(0.95)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_nan_stops_the_training_before_it_reaches_the_weights(world, what):
    model = load_text_to_audio(str(world / "v"))
    data, options = latent_data(model), step_options(batch_size=2, learning_rate=1e-3)
    trainable = make_trainable(model, "lora")
    optimizer = preference.new_optimizer(trainable, options)
    preference.optimiser_step(model, trainable, data, options, optimizer, 0, Halving(2))
    before = {name: p.detach().clone() for name, p in trainable.parameters.items()}
    if what == "loss":
        data.latents[:] = math.nan
    else:
        next(iter(trainable.parameters.values())).register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(UserError, match=f"the {what} is nan at step 2; lower --learning_rate or --beta"):
        preference.optimiser_step(model, trainable, data, options, optimizer, 1, Halving(2))
    assert all(torch.equal(p, before[name]) for name, p in trainable.parameters.items())


def test_every_epoch_sees_every_pair_once():
    rows = [row for step in range(10) for row in preference.pair_rows(5, 3, seed=0, step=step).tolist()]
    assert [sorted(rows[k : k + 5]) for k in range(0, 30, 5)] == [[0, 1, 2, 3, 4]] * 6


@pytest.mark.parametrize(
    ("options", "steps"),
    [({"num_steps": 9}, 9), ({"num_epochs": 3}, 8), ({"num_epochs": 3, "batch_size": 8}, 4), ({"num_epochs": 0.1}, 1)],
)
def test_epochs_are_counted_in_pairs(options, steps):
    """10 pairs, 4 at a time."""
    assert preference.count_steps(step_options(**options), 10) == steps
    assert preference.count_steps(step_options(**options, gradient_accumulation=100), 10) in (9, 3, 1)


def test_a_long_gradient_is_cut_to_norm_1(world):
    """A short one stays as it is."""
    for factor in (1e6, 1e-6):
        model = load_text_to_audio(str(world / "v"))
        trainable, data, options = make_trainable(model, "prefix"), latent_data(model), step_options()
        for parameter in trainable.parameters.values():
            parameter.register_hook(lambda gradient, by=factor: gradient * by)
        draw = preference.draw(data, options, 0)
        preference.set_gradient(model, trainable, draw, options, 0, torch.arange(4), 4)
        before = torch.cat([p.grad.flatten() for p in trainable.parameters.values()]).norm().item()
        optimizer = preference.new_optimizer(trainable, options)
        preference.optimiser_step(model, trainable, data, options, optimizer, 0, Halving(4))
        norm = torch.cat([p.grad.flatten() for p in trainable.parameters.values()]).norm().item()
        assert before > 0 and norm == pytest.approx(min(1.0, before), rel=1e-4)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("count", [2, 3, 8])
def test_shares_of_a_step_have_the_sum_of_its_gradient_and_record(world, count, size):
    """Five pairs for two, three and eight processes, `size` at a time: uneven parts, and processes without any."""
    model = load_text_to_audio(str(world / "v"))
    data, options = latent_data(model, 5), step_options(batch_size=5, winner_weight=0.1, beta=100.0)
    trainable, _ = trained_steps(model, "prefix", 2, data)
    draw = preference.draw(data, options, 3)

    def take(mine: torch.Tensor, size: int):
        record = preference.set_gradient(model, trainable, draw, options, 3, mine, size)
        return record, [p.grad for p in trainable.parameters.values()]

    record, gradient = take(torch.arange(5), 5)
    parts = [take(Processes(rank, count).share(5), size) for rank in range(count)]
    for name, value in record.items():
        found = sum(part.get(name, 0.0) for part, _ in parts)
        assert found == pytest.approx(value, rel=1e-3, abs=1e-6), name  # differences of errors that are almost equal
    for k, expected in enumerate(gradient):
        found = sum(part[k] for _, part in parts if part[k] is not None)
        assert (found - expected).norm() < 1e-3 * expected.norm()


def test_a_model_of_variable_length_is_given_each_clip_at_its_own(tmp_path, monkeypatch):
    """Pairs of three lengths in a step: no frame of padding is seen, and the errors are those of each pair alone."""
    model = load_text_to_audio(str(save_stable_audio_3(tmp_path / "three")))
    frames = torch.tensor([9, 4, 9, 6] * 2)
    data = latent_data(model)
    data = replace(data, latents=data.latents[:, :, :9], frames=frames)
    seen, predict = [], model.predict
    monkeypatch.setattr(model, "predict", lambda x, *more: seen.append(x.shape) or predict(x, *more))
    _, (record,) = trained_steps(model, "lora", 1, data)
    assert sorted((shape[0], shape[2]) for shape in seen) == [(2, 4), (2, 4), (2, 6), (2, 6), (4, 9), (4, 9)]
    assert record["loss"] == pytest.approx(math.log(2), abs=1e-6)
    draw = preference.draw(data, step_options(), 0)
    for bucket in preference.buckets(model, draw):
        together = torch.stack(preference.diffusion_errors(model, draw.rows(bucket)), dim=1)
        for row, expected in zip(bucket, together, strict=True):
            length, one = int(draw.frames[row]), draw.rows(row[None])
            alone = replace(one, winners=one.winners[:, :, :length], losers=one.losers[:, :, :length])
            alone = replace(alone, noise=one.noise[:, :, :length])
            found = torch.cat(preference.diffusion_errors(model, alone))
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_only_the_frames_that_both_clips_fill_count(world):
    """Clips of 1 s or less in a model of 1.28 s: margin and supervised loss are those over their own frames."""
    model = load_text_to_audio(str(world / "v"))
    frames = torch.tensor([31, 20, 8, 31, 31, 25, 8, 40])  # 4 winners, 4 losers
    data = replace(latent_data(model), frames=frames)
    trainable, _ = trained_steps(model, "prefix", 3, data)
    for loss, own in (("dpo", [31, 20, 8, 31]), ("sft", frames[:4].tolist())):
        options = step_options(beta=3.0, loss=loss)
        draw = preference.draw(data if loss == "dpo" else replace(data, losers=None), options, 5)
        rows = preference.pair_rows(4, 4, 0, 5).tolist()
        assert draw.frames.tolist() == [own[row] for row in rows]
        found, record = preference.batch_loss(model, trainable, draw, options)
        errors = []
        for clips in (draw.winners, draw.losers)[: 1 if loss == "sft" else 2]:
            noisy, target = diffusion.add_noise("v", clips, draw.noise, draw.t)
            with torch.no_grad():
                apart = (model.predict(noisy, draw.t, draw.condition) - target) ** 2
                with trainable.reference():
                    before = (model.predict(noisy, draw.t, draw.condition) - target) ** 2
            cut = [slice(0, own[row]) for row in rows]
            errors.append([row[:, part].mean().item() for row, part in zip(apart, cut, strict=True)])
            errors.append([row[:, part].mean().item() for row, part in zip(before, cut, strict=True)])
        if loss == "sft":
            assert found.item() == pytest.approx(np.mean(errors[0]), rel=1e-5)
        else:
            gaps = np.subtract(errors[0], errors[1]) - np.subtract(errors[2], errors[3])
            assert record["margin"] == pytest.approx(-1.5 * gaps.mean(), abs=1e-5)


def test_the_anchor_is_the_clip_as_it_was_recorded(world, tmp_path):
    """Else a winner that went through the decoder would pull the model towards decoded sound."""
    model = load_text_to_audio(str(world / "v"))
    made = pairs.gold_pairs(losers_of(world))[:4]
    data = pairs.encode_pairs(made, model, "id", tmp_path, decode_winners=True, anchored=True)
    plain = pairs.encode_pairs(made, model, "id", tmp_path)
    torch.testing.assert_close(data.latents[data.anchors], plain.latents[plain.winners])
    assert not torch.allclose(data.latents[data.winners], plain.latents[plain.winners], atol=1e-2)
    assert plain.anchors is None
    trainable, options = make_trainable(model, "lora"), step_options(winner_weight=0.5)
    draw, seen = preference.draw(data, options, 0), preference.draw(plain, options, 0)
    loss, record = preference.batch_loss(model, trainable, draw, options)
    anchor = preference.diffusion_errors(model, seen)[0]  # same times and noise, as recorded
    assert loss.item() == pytest.approx(record["loss"] + 0.5 * anchor.mean().item(), rel=1e-5)
    assert preference.batch_loss(model, trainable, draw, step_options())[0].item() == pytest.approx(record["loss"])
