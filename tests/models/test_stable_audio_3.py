"""Stable Audio 3: the clips, the sampling and the adapters of its pipeline."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import torch.nn.functional as F

from synthio.cli import UserError
from synthio.generation import sampling
from synthio.models.adapters import FILES, make_trainable, write_adapter
from synthio.models.load import load_text_to_audio
from synthio.models.stable_audio_3 import LAMBDA_RANGE, StableAudio3, check_scheduler
from tests.models.pipelines import KINDS, PROMPTS, SEEDS, same_numbers


def nothing_to_keep(network, args, kwargs):
    """What the makers' code always gives the layers for inpainting, and the pipeline for text leaves out."""
    latents = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
    return args, kwargs | {"local_add_cond": latents.new_zeros(len(latents), 17, latents.shape[2])}


def pipeline_3(folder, kind="StableAudio3Pipeline"):
    """A pipeline of the folder, loaded by diffusers, whose network gets what the makers' own gets."""
    import diffusers

    loaded = diffusers.StableAudio3Pipeline.from_pretrained(folder)
    loaded.transformer.register_forward_pre_hook(nothing_to_keep, with_kwargs=True)
    pipeline = getattr(diffusers, kind)(**loaded.components)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generators():
    return [torch.Generator().manual_seed(seed) for seed in SEEDS]


@pytest.mark.parametrize(
    ("name", "seconds", "num_steps", "cfg_scale"),
    [("base", 0.7, 9, 1.0), ("base", 1.31, 9, 4.0), ("distilled", 0.7, 8, 1.0), ("distilled", 1.5, 3, 1.0)],
)
def test_stable_audio_3_makes_the_clips_of_its_pipeline(folders, models, name, seconds, num_steps, cfg_scale):
    model = models[name]
    assert isinstance(model, StableAudio3)
    theirs = pipeline_3(folders / name)(
        PROMPTS, seconds, num_inference_steps=num_steps, guidance_scale=cfg_scale, generator=generators()
    ).audios
    latents = sampling.sample(
        model,
        model.condition(PROMPTS, [seconds] * 2),
        SEEDS,
        num_steps=num_steps,
        cfg_scale=cfg_scale,
        sampler=model.sampling.sampler,
        num_frames=model.frames_for(seconds),
    )
    ours = model.decode(latents)[:, :, : theirs.shape[2]]
    assert theirs.shape == (2, 2, int(seconds * 16000))
    same_numbers(ours.clamp(-1, 1), theirs)


@pytest.mark.parametrize("name", ["base", "distilled"])
def test_steps_that_the_pipeline_takes_by_default(folders, models, name):
    own = models[name].sampling
    pipeline = pipeline_3(folders / name)
    pipeline("rain", 0.1, output_type="latent")
    assert pipeline.num_timesteps == own.num_steps
    assert (own.sampler, own.cfg_scale) == (("pingpong", 1.0) if name == "distilled" else ("euler", 7.0))


@pytest.mark.parametrize("name", ["base", "distilled"])
@pytest.mark.parametrize("level", [0.2, 0.7, 1.0])
def test_audio_to_audio_is_that_of_the_pipeline(folders, models, name, level):
    model = models[name]
    audio = 0.3 * torch.randn(2, 2, 13000, generator=torch.Generator().manual_seed(1))
    options = {"audio": audio, "init_noise_level": level, "num_inference_steps": 8, "generator": generators()}
    pipeline = pipeline_3(folders / name, "StableAudio3AudioToAudioPipeline")
    theirs = pipeline(PROMPTS, 13000 / 16000, output_type="latent", **options).audios
    ours = sampling.sample(
        model,
        model.condition(PROMPTS, [13000 / 16000] * 2),
        SEEDS,
        num_steps=8,
        cfg_scale=1.0,
        sampler=model.sampling.sampler,
        init_latents=model.encode(audio),
        init_noise_level=level,
        num_frames=model.frames_for(13000 / 16000),
    )
    same_numbers(ours, theirs)


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m_sde"])
@pytest.mark.parametrize("start", [0.01, 0.5, 1.0])
def test_other_solvers_get_falling_levels_in_the_range_of_the_checkpoint(models, sampler, start):
    levels = sampling.schedule("rectified_flow", sampler, 10, start, LAMBDA_RANGE)
    times = [level.time for level in levels]
    assert times == sorted(times, reverse=True) and (times[0], times[-1], len(times)) == (start, 0.0, 11)
    if start == 1.0:
        evenly = sampling.schedule("rectified_flow", "euler", 10, start, LAMBDA_RANGE)
        assert times == pytest.approx([level.time for level in evenly])
    model = models["base"]
    options = {"num_steps": 5, "cfg_scale": 1.0, "sampler": sampler, "init_noise_level": start, "num_frames": 4}
    latents = torch.zeros(1, 16, 4)
    assert (
        sampling.sample(model, model.condition(["rain"], [0.1]), [1], init_latents=latents, **options).isfinite().all()
    )


def test_nothing_is_heard_of_the_text_under_no_condition(models):
    condition = models["base"].condition(PROMPTS, [0.7, 1.2])
    empty = models["base"].condition(["", ""], [0.7, 1.2])
    assert torch.equal(condition.unconditional().cross, empty.cross)
    assert torch.equal(condition.unconditional().pooled, condition.pooled)
    half = condition.dropped(torch.tensor([True, False]))
    assert torch.equal(half.cross, torch.stack([empty.cross[0], condition.cross[1]]))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"num_train_timesteps": 1000}, "with 1000"), ({"shift": 3.0}, "no shift"), ({"_class_name": "DDIM"}, "is DDIM")],
)
def test_schedulers_with_other_times_are_refused(folders, tmp_path, change, message):
    config = json.loads((folders / "base/scheduler/scheduler_config.json").read_text())
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler/scheduler_config.json").write_text(json.dumps(config | change))
    with pytest.raises(UserError, match=message):
        check_scheduler(tmp_path)


def test_a_folder_without_one_of_its_parts_is_refused(folders, tmp_path):
    shutil.copytree(folders / "base", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut/text_encoder")
    with pytest.raises(UserError, match="not a Stable Audio 3 folder of diffusers; it has no text_encoder"):
        load_text_to_audio(str(tmp_path / "cut"))


def output(model):
    latents = torch.randn(2, 16, 9, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return model.predict(latents, torch.tensor([0.2, 0.9]), model.condition(PROMPTS, [0.28, 0.28]))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_adapter_fits_stable_audio_3(folders, tmp_path, kind):
    model = load_text_to_audio(str(folders / "base"))
    base = output(model)
    trainable = make_trainable(model, kind)
    assert torch.equal(output(model), base)
    generator = torch.Generator().manual_seed(3)
    for parameter in trainable.parameters.values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    moved = output(model)
    assert (moved - base).abs().max() > 1e-3
    with trainable.reference():
        assert torch.equal(output(model), base)
    write_adapter(trainable, tmp_path / "adapter")
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == set(FILES[kind])
    assert torch.equal(output(load_text_to_audio(str(folders / "base"), str(tmp_path / "adapter"))), moved)


def test_lora_is_on_every_attention_projection_and_every_trained_weight_has_a_gradient(folders):
    shapes = []
    for kind in KINDS:
        model = load_text_to_audio(str(folders / "base"))
        trainable = make_trainable(model, kind, lora_rank=3)
        for parameter in trainable.parameters.values():
            parameter.data += 0.01
        latents = torch.randn(2, 16, 9, generator=torch.Generator().manual_seed(2))
        model.predict(latents, torch.tensor([0.2, 0.9]), model.condition(PROMPTS, [0.28] * 2)).square().sum().backward()
        assert [name for name, p in trainable.parameters.items() if p.grad is None or not p.grad.any()] == []
        shapes.append(len(trainable.parameters))
    assert shapes[:2] == [2 * (2 + 3) * 2, 2 * 2 * 2]  # blocks, layers, then A and B, or tokens and gate


@pytest.mark.parametrize("layer", ["self_attn", "cross_attn"])
def test_a_prefix_adds_the_difference_of_two_gated_attentions(folders, layer):
    model = load_text_to_audio(str(folders / "base"))
    make_trainable(model, "prefix", prefix_tokens=3)
    attention = getattr(model.module.transformer.transformer_blocks[1], layer)
    prefix = attention.processor.prefix
    prefix.gate.data = torch.tensor([0.7, -0.2])
    x, context = torch.randn(2, 2, 5, 32, generator=torch.Generator().manual_seed(4))
    places = {"context": context} if layer == "cross_attn" else {"rope": torch.zeros(5, 8)}
    with torch.no_grad():
        added = attention(x, **places)
        model.module.enabled = False
        added = added - attention(x, **places)
        if layer == "self_attn":
            q1, q2 = attention.to_qkv(x).chunk(5, dim=-1)[:2]
            k1, k2, v = attention.to_qkv(prefix.tokens).chunk(5, dim=-1)[2:]
        else:
            (q1, q2), (k1, k2, v) = attention.to_q(x).chunk(2, -1), attention.to_kv(prefix.tokens).chunk(3, -1)
        found = []
        for head, gate in enumerate((0.7, -0.2)):
            part = slice(16 * head, 16 * head + 16)
            scores = [
                attention.q_norm(q[..., part]) @ attention.k_norm(k[..., part]).T / 4 for q, k in ((q1, k1), (q2, k2))
            ]
            weights = scores[0].softmax(-1) - scores[1].softmax(-1)
            found.append(torch.tanh(torch.tensor(gate)) * weights @ v[:, part])
        expected = F.linear(torch.cat(found, dim=-1), attention.to_out.weight)
    same_numbers(added, expected, 1e-5)
