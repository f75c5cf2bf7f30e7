"""Preference optimisation: pairs, what a step computes, and dpo_train.py as people run it, on tiny real models."""

from __future__ import annotations

import csv
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from synthio.audio import write_wav
from synthio.batching import Halving
from synthio.cache import read_tensors, write_tensors
from synthio.cli import UserError
from synthio.files import sha256_file
from synthio.generation import diffusion, pairs, preference
from synthio.generation.options import PreferenceOptions
from synthio.models.adapters import FILES, make_trainable
from synthio.models.load import load_scorer, load_text_to_audio
from synthio.training import Checkpoint
from tests.scripts import call_script
from tests.tiny_models import save_clap, save_stable_audio_3, save_text_to_audio

ROOT = Path(__file__).resolve().parent.parent.parent
DPO, GENERATE = ROOT / "dpo_train.py", ROOT / "stable-audio-tools/generate.py"
OBJECTIVES = ["rectified_flow", "v"]
KINDS = ["lora", "prefix", "all"]
# at these rates a tiny model learns in a few steps
RATES = {"lora": 1e-3, "prefix": 1e-2, "all": 1e-4}


def rows_of(path):
    with Path(path).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write_rows(path, rows, columns=None):
    with Path(path).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns or list(rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Tiny models; seven gold clips of noise, 0.5 to 2.3 s, and two tones for each as its generations."""
    folder = tmp_path_factory.mktemp("world")
    for objective in OBJECTIVES:
        save_text_to_audio(folder / objective, objective)
    save_clap(folder / "clap")
    rng = np.random.default_rng(0)
    gold, losers = [], []
    for i in range(7):
        label = ["dog_bark", "rain", "siren"][i % 3]
        noise = rng.normal(0, 0.1, int(16000 * (0.5 + 0.3 * i)))
        soundfile.write(folder / f"gold_{i}.wav", noise, 16000)
        gold.append({"path": f"gold_{i}.wav", "label": label})
        for k in range(2):
            time_s = np.arange(min(len(noise), 20480)) / 16000
            tone = 0.1 * np.sin(2 * np.pi * (300 + 90 * i + 2000 * k) * time_s)
            soundfile.write(folder / f"made_{i}_{k}.wav", tone + rng.normal(0, 0.01, len(tone)), 16000)
            row = {"path": f"made_{i}_{k}.wav", "label": label, "source_path": f"gold_{i}.wav"}
            losers.append(row | {"prompt": f"Sound of a {label.replace('_', ' ')}"})
    write_rows(folder / "gold.csv", gold)
    write_rows(folder / "losers.csv", losers)
    return folder


def losers_of(world) -> pd.DataFrame:
    """The generations as the script reads them."""
    from synthio.manifest import read_manifest

    return read_manifest(world / "losers.csv")


def dpo(world, out, ok=True, model="rectified_flow", losers="losers.csv", **options):
    """Run the script; the adapter is world/<out>. All share the cache beside it."""
    options = {"num_steps": 4, "batch_size": 4, "learning_rate": 1e-3, "checkpoint_every": 3} | options
    extra = [part for name, value in options.items() for part in (f"--{name}", value)]
    if losers:
        extra += ["--losers_csv", world / losers]
    args = ["--gold_csv", world / "gold.csv", "--output_folder", world / out, "--model", world / model]
    done = call_script(DPO, *args, *extra)
    assert (done.returncode == 0) == ok, done.stderr
    return done


def adapter_bytes(world, out) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (world / out).iterdir()}


def history_of(world, out) -> list[dict[str, float]]:
    return [{k: float(v) for k, v in row.items()} for row in rows_of(world / f"{out}_history.csv")]


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


# ---- pairs


def table(*rows):
    return pd.DataFrame(rows, columns=["path", "source_path", "prompt"])


def test_gold_pairs_keep_the_whole_prompt():
    found = pairs.gold_pairs(table(["a1", "a", "Sound of a dog"], ["a2", "a", "Sound of a dog"]))
    assert found == [("a", "a1", "Sound of a dog"), ("a", "a2", "Sound of a dog")]


def test_ranked_pairs_by_hand():
    """Three generations of a, all alike of b, and a second prompt of a, which is ranked for itself."""
    rows = [["a1", "a", "p"], ["b1", "b", "p"], ["a2", "a", "p"], ["a3", "a", "p"], ["b2", "b", "p"]]
    rows += [["a4", "a", "q"], ["a5", "a", "q"]]
    scores = [0.2, 0.5, -0.3, 0.9, 0.5, 0.1, 0.4]
    assert pairs.ranked_pairs(table(*rows), scores, "x.csv") == [("a3", "a2", "p"), ("a5", "a4", "q")]
    with pytest.raises(UserError, match=r"x.csv row 2: ranked pairs need two generations or more of b"):
        pairs.ranked_pairs(table(*rows[:4]), scores[:4], "x.csv")
    with pytest.raises(UserError, match="equal scores"):
        pairs.ranked_pairs(table(*rows), [0.5] * 7, "x.csv")


def test_scores_are_the_models_cosines_and_are_kept_by_content(world, tmp_path):
    scorer, losers = load_scorer(str(world / "clap")), losers_of(world).iloc[:3].copy()
    cache = tmp_path / "scores.csv"
    found = pairs.clap_scores(losers, str(world / "clap"), "cpu", cache)
    for score, path, prompt in zip(found, losers["path"], losers["prompt"], strict=True):
        audio = soundfile.read(path, dtype="float32")[0][None]
        assert score == pytest.approx(float(scorer.embed_audio([audio])[0] @ scorer.embed_text([prompt])[0]), abs=2e-6)
    pairs._write_scores(dict.fromkeys(pairs._read_scores(cache), 0.777), cache)
    assert pairs.clap_scores(losers, str(world / "clap"), "cpu", cache) == [0.777] * 3  # read, not made
    rows = rows_of(cache)
    rows[0]["clap_score"] = "0.888000"
    write_rows(cache, rows)
    assert pairs.clap_scores(losers, str(world / "clap"), "cpu", cache) == [found[0], 0.777, 0.777]  # damaged: made
    cache.write_bytes(b"\xff" + cache.read_bytes())
    assert pairs.clap_scores(losers, str(world / "clap"), "cpu", cache) == found
    shutil.copy(losers["path"].iloc[0], tmp_path / "other name.wav")
    losers["path"] = [str(tmp_path / "other name.wav"), *losers["path"].iloc[[2, 1]]]
    assert pairs.clap_scores(losers, str(world / "clap"), "cpu", cache)[0] == found[0]
    losers["prompt"] = ["distant rain", *losers["prompt"].iloc[1:]]
    assert pairs.clap_scores(losers, str(world / "clap"), "cpu", cache)[0] != found[0]


def test_winner_and_loser_are_cut_alike_and_the_condition_says_the_winners_length(world, tmp_path):
    model = load_text_to_audio(str(world / "v"))
    made = pairs.gold_pairs(losers_of(world))
    made = [*made[:2], *made[6:8], *made[12:]]
    data = pairs.encode_pairs(made, model, "id", tmp_path)
    # two of the gold clips are of one label and both cut to 1.28 s, so they have one condition
    assert len(data) == 6 and len(data.latents) == 3 + 6 and len(data.condition) == 2
    for row in (0, 5):  # 0.5 s, padded; 2.3 s, cut to 1.28 s from its start
        for path, index in zip(made[row][:2], (data.winners[row], data.losers[row]), strict=True):
            audio = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
            expected = model.encode(audio[None, None])[0]
            torch.testing.assert_close(data.latents[index], expected, atol=1e-4, rtol=1e-4)
            assert data.frames[index] == (16 if row == 0 else 40)  # of 512 samples
        expected = model.condition([made[row].prompt], [0.5 if row == 0 else 1.28])
        torch.testing.assert_close(data.condition.rows(data.prompts[row : row + 1]).cross, expected.cross)


@pytest.mark.parametrize("level", [1.0, 40.0])
def test_winners_go_the_way_of_the_losers_through_decoder_file_and_encoder(world, tmp_path, level):
    """A generation of the winner's own latents, written and read as a file, is what its decoded copy has to equal."""
    model = load_text_to_audio(str(world / "v"))
    model.vae.decoder.conv2.weight_g.data *= level  # at 40 it is louder than full scale, which a file is turned down to
    pair = pairs.gold_pairs(losers_of(world))[0]
    data = pairs.encode_pairs([pair], model, "id", tmp_path, decode_winners=True)
    audio = torch.from_numpy(soundfile.read(pair.winner, dtype="float32")[0])
    made = model.decode(model.encode(audio[None, None]))[0, :, : len(audio)].numpy()
    assert (np.abs(made).max() > 1) == (level > 1)
    write_wav(tmp_path / "copy.wav", made, 16000)
    expected = pairs.encode_pairs([pairs.Pair(str(tmp_path / "copy.wav"), pair.loser, "p")], model, "id", tmp_path)
    torch.testing.assert_close(data.latents[0], expected.latents[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(data.latents[1], expected.latents[1])  # the loser has been there already
    plain = pairs.encode_pairs([pair], model, "id", tmp_path)
    assert (plain.latents[0] - data.latents[0]).abs().max() > 1e-2 and plain.content != data.content


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


def test_clips_of_several_lengths_are_encoded_at_their_own_where_the_model_can(world, tmp_path):
    model = load_text_to_audio(str(save_stable_audio_3(tmp_path / "three")))
    made = [pair for pair in pairs.gold_pairs(losers_of(world)) if pair.winner.endswith(("gold_0.wav", "gold_2.wav"))]
    data = pairs.encode_pairs(made, model, "id", tmp_path)
    assert data.latents.shape[2] == 35  # 1.1 s, the longest of them
    for pair, index in zip(made, data.winners, strict=True):
        audio = pairs.read_clip(pair.winner, 16000, mono=False)
        alone = model.encode(torch.from_numpy(audio)[None])[0]
        frames = int(data.frames[index])
        assert frames == alone.shape[1] == (16 if pair.winner.endswith("gold_0.wav") else 35)
        torch.testing.assert_close(data.latents[index, :, :frames], alone, atol=1e-4, rtol=1e-4)
        assert not data.latents[index, :, frames:].any()


def test_the_cache_is_used_and_follows_the_content(world, tmp_path):
    model = load_text_to_audio(str(world / "v"))
    made = pairs.gold_pairs(losers_of(world))[:4]
    first = pairs.encode_pairs(made, model, "id", tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert {path.suffix for path in written} == {".safetensors"}
    for path in written:
        tensors = read_tensors(path)
        write_tensors(path, {n: tensor * (2 if n in ("latents", "cross") else 1) for n, tensor in tensors.items()})
    second = pairs.encode_pairs(made, model, "id", tmp_path)
    torch.testing.assert_close(second.latents, 2 * first.latents)
    torch.testing.assert_close(second.condition.cross, 2 * first.condition.cross)
    assert second.content == first.content
    before = {path: path.read_bytes() for path in written}

    for path in written:  # as a bad disk gives them: made again
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    again = pairs.encode_pairs(made, model, "id", tmp_path)
    torch.testing.assert_close(again.latents, first.latents, rtol=0, atol=0)
    torch.testing.assert_close(again.condition.cross, first.condition.cross, rtol=0, atol=0)
    for path, data in before.items():
        path.write_bytes(data)

    fewer = pairs.encode_pairs(made[1:], model, "id", tmp_path)  # other losers; the gold clips' file serves again
    assert len(list(tmp_path.iterdir())) == len(written) + 1
    torch.testing.assert_close(fewer.latents[:2], 2 * first.latents[:2])
    torch.testing.assert_close(fewer.latents[2:], first.latents[3:], atol=1e-4, rtol=1e-4)
    pairs.encode_pairs(made, model, "another model", tmp_path)
    assert len(list(tmp_path.iterdir())) > len(written) + 1


def test_an_unreadable_clip_is_named(world, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    model = load_text_to_audio(str(world / "v"))
    with pytest.raises(UserError, match=r"broken.wav: (unreadable|truncated)"):
        pairs.encode_pairs([pairs.Pair(str(tmp_path / "broken.wav"), "", "p")], model, "id", tmp_path)


# ---- the script


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_script_learns_to_prefer_the_gold_clips(world, kind, objective):
    out = f"learn_{kind}_{objective}"
    done = dpo(world, out, model=objective, train=kind, num_steps=40, batch_size=8, learning_rate=RATES[kind])
    history = history_of(world, out)
    assert history[0]["loss"] == pytest.approx(math.log(2), abs=1e-6) and history[0]["accuracy"] == 0.5
    accuracy = np.mean([row["accuracy"] for row in history[-15:]])
    assert accuracy > 0.6, accuracy
    assert np.mean([row["loss"] for row in history[-15:]]) < math.log(2)
    assert np.mean([row["margin"] for row in history[-15:]]) > 0
    assert "14 pairs, 40 steps" in done.stderr and "implicit accuracy " in done.stderr


@pytest.fixture(scope="module")
def plain(world):
    """The adapter of a short training, which every option has to change."""
    dpo(world, "plain", learning_rate=1e-2)
    return adapter_bytes(world, "plain")


@pytest.mark.parametrize(
    "option",
    [
        {"train": "prefix"},
        {"lora_rank": 2},
        {"loss": "sft"},
        {"pairs": "ranked"},
        {"codec_match": "false"},
        {"beta": 1},
        {"winner_weight": 1},
        {"timestep_distribution": "logit_normal"},
        {"condition_dropout": 0.9},
        {"learning_rate": 2e-2},
        {"weight_decay": 1},
        {"warmup_steps": 0},
        {"num_steps": 5},
        {"num_epochs": 1.5},
        {"batch_size": 5},
        {"gradient_accumulation": 2},
        {"ema_decay": 0.9},
        {"seed": 5},
        {"init_adapter": "plain"},
    ],
    ids=lambda option: next(iter(option)),
)
def test_each_option_changes_the_adapter(world, plain, option):
    name = f"option_{next(iter(option))}"
    if "init_adapter" in option:
        option = {"init_adapter": world / "plain"}
    dpo(world, name, **{"learning_rate": 1e-2, "scorer": world / "clap"} | option)
    assert adapter_bytes(world, name) != plain


def test_equal_options_give_equal_bytes(world, plain):
    dpo(world, "again", learning_rate=1e-2)
    assert adapter_bytes(world, "again") == plain


def test_prefix_tokens(world):
    dpo(world, "tokens", train="prefix", prefix_tokens=3)
    assert load_file(world / "tokens/prefix.safetensors")["0.tokens"].shape == (3, 32)


@pytest.mark.parametrize("kind", KINDS)
def test_the_adapter_changes_generation_and_the_model_on_disk_stays_as_it_is(world, kind):
    from synthio.files import fingerprint

    before = fingerprint(world / "v")
    out = f"generate_{kind}"
    dpo(world, out, model="v", train=kind, learning_rate=1e-2)
    prompts = [{"path": "gold_0.wav", "label": "rain", "prompt": "rain", "seed": str(seed)} for seed in (1, 2)]
    write_rows(world / "prompts.csv", prompts)
    rows = {}
    for name, adapter in {"plain": [], "tuned": ["--adapter", world / out]}.items():
        clips = world / f"{out}_{name}"
        args = ["--input_csv", world / "prompts.csv", "--output_csv", clips / "made.csv", "--output_folder", clips]
        done = call_script(GENERATE, *args, "--model", world / "v", "--num_steps", 3, *adapter)
        assert done.returncode == 0, done.stderr
        rows[name] = rows_of(clips / "made.csv")
    assert fingerprint(world / "v") == before
    assert all(a["sha256"] != b["sha256"] for a, b in zip(rows["plain"], rows["tuned"], strict=True))
    assert "+adapter@" in rows["tuned"][0]["model"]


def test_a_second_round_starts_where_the_first_ended(world):
    for kind in KINDS:
        dpo(world, f"round_1_{kind}", train=kind, learning_rate=1e-2)
        first = world / f"round_1_{kind}"
        dpo(world, f"round_2_{kind}", train=kind, init_adapter=first, learning_rate=0)
        weights = FILES[kind][-1]
        assert adapter_bytes(world, f"round_2_{kind}")[weights] == (first / weights).read_bytes()
        assert history_of(world, f"round_2_{kind}")[-1]["loss"] == pytest.approx(math.log(2), abs=1e-6)


def test_averaged_weights_are_what_is_saved(world):
    """With a decay that keeps the start, the average of a LoRA is nearly its start; the last weights are not."""
    dpo(world, "last", learning_rate=1e-2, num_steps=6)
    dpo(world, "average", learning_rate=1e-2, num_steps=6, ema_decay=0.999)
    name = FILES["lora"][-1]
    last, average = (load_file(world / out / name) for out in ("last", "average"))
    ups = [key for key in last if "lora_B" in key]
    sizes = [sum(weights[key].abs().sum().item() for key in ups) for weights in (last, average)]
    assert 0 < sizes[1] < sizes[0]
    losses = [[row["loss"] for row in history_of(world, out)] for out in ("last", "average")]
    assert losses[0] == losses[1]  # the average does not take part in the training


def test_supervised_fine_tuning_needs_no_losers(world):
    done = dpo(world, "sft", losers=None, loss="sft", num_steps=40, learning_rate=1e-2)
    history = history_of(world, "sft")
    assert history[0].keys() == {"step", "loss", "seconds"}
    assert history[-1]["loss"] < history[0]["loss"]
    assert "7 clips, 40 steps; loss " in done.stderr


def test_the_record_says_what_was_done(world):
    from synthio.files import fingerprint, read_json

    dpo(world, "record", pairs="ranked", scorer=world / "clap", num_steps=10)
    record = read_json(world / "record.json")
    assert record["pairs"] == 7 and record["options"]["pairs"] == "ranked"
    assert record["inputs"][str(world / "losers.csv")] == sha256_file(world / "losers.csv")
    assert record["sha256"] == fingerprint(world / "record")
    tail = history_of(world, "record")[-2:]
    assert record["result"]["accuracy"] == pytest.approx(np.mean([row["accuracy"] for row in tail]))
    assert len(rows_of(world / "scores.csv")) == 14


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losers": None}, "--loss dpo needs --losers_csv"),
        ({"loss": "sft", "pairs": "ranked"}, "--loss sft knows no losers"),
        ({"losers": "unknown.csv"}, "row 3: source_path"),
        ({"losers": "silent.csv"}, "row 2: the prompt is empty"),
        ({"losers": "none.csv"}, "nothing to prefer the gold clips to"),
        ({"losers": "single.csv", "pairs": "ranked"}, "row 3: ranked pairs need two generations"),
        ({"init_adapter": "/not/there"}, "no adapter_config.json"),
        ({"learning_rate": 1e30, "warmup_steps": 0}, "at step 2; lower --learning_rate"),
        ({"train": "neck"}, "invalid choice: 'neck'"),
        ({"gradient_accumulation": 0}, "outside [1, inf]"),
    ],
    ids=lambda value: next(iter(value.values())) if isinstance(value, dict) else None,
)
def test_errors(world, changes, message):
    rows = rows_of(world / "losers.csv")
    write_rows(world / "unknown.csv", [*rows[:2], rows[2] | {"source_path": "made_0_0.wav"}])
    write_rows(world / "silent.csv", [rows[0], rows[1] | {"prompt": ""}])
    write_rows(world / "none.csv", [], list(rows[0]))
    write_rows(world / "single.csv", rows[:3])
    done = dpo(world, "errors", ok=False, **{"scorer": world / "clap"} | changes)
    assert message in done.stderr
    assert "Traceback" not in done.stderr and not (world / "errors").exists()


def killed_command(world, out, options):
    command = [sys.executable, DPO, "--gold_csv", world / "gold.csv", "--losers_csv", world / "losers.csv"]
    command += ["--output_folder", world / out, "--model", world / "v"]
    return [str(word) for word in command + [part for name, value in options.items() for part in (f"--{name}", value)]]


def test_killed_trainings_go_on_to_the_weights_of_unbroken_ones(world):
    """Every kind at once, each killed after its first checkpoint; nothing is encoded again."""
    common = {"batch_size": 4, "learning_rate": 1e-3, "checkpoint_every": 3, "num_steps": 60, "ema_decay": 0.9}
    choices = {kind: common | {"train": kind} for kind in KINDS}
    for kind, options in choices.items():
        dpo(world, f"whole_{kind}", model="v", **options)
    processes = {}
    for kind, options in choices.items():
        command = killed_command(world, f"cut_{kind}", options)
        processes[kind] = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while processes and time.monotonic() < deadline:
        for kind in [kind for kind in processes if (world / f"cut_{kind}_checkpoint.pt").exists()]:
            process = processes.pop(kind)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        time.sleep(0.01)
    assert not processes
    encoded = {path: path.stat().st_mtime_ns for path in (world / "cache").iterdir()}
    for kind, options in choices.items():
        assert not (world / f"cut_{kind}").exists()
        done = dpo(world, f"cut_{kind}", model="v", **options)
        assert "going on after step" in done.stderr
        assert adapter_bytes(world, f"cut_{kind}") == adapter_bytes(world, f"whole_{kind}")
        assert not (world / f"cut_{kind}_checkpoint.pt").exists()
    assert encoded == {path: path.stat().st_mtime_ns for path in (world / "cache").iterdir()}


def test_a_long_gradient_is_cut_to_norm_1(world):
    """A short one stays as it is."""
    for factor in (1e6, 1e-6):
        model = load_text_to_audio(str(world / "v"))
        trainable, data, options = make_trainable(model, "prefix"), latent_data(model), step_options()
        for parameter in trainable.parameters.values():
            parameter.register_hook(lambda gradient, by=factor: gradient * by)
        preference.set_gradient(model, trainable, preference.draw(data, options, 0), options, 0, 4)
        before = torch.cat([p.grad.flatten() for p in trainable.parameters.values()]).norm().item()
        optimizer = preference.new_optimizer(trainable, options)
        preference.optimiser_step(model, trainable, data, options, optimizer, 0, Halving(4))
        norm = torch.cat([p.grad.flatten() for p in trainable.parameters.values()]).norm().item()
        assert before > 0 and norm == pytest.approx(min(1.0, before), rel=1e-4)
