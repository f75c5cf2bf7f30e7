"""Stable Audio Open and Stable Audio 3 from folders of diffusers' pipelines: our clips are those of the pipelines."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path

import pytest
import soundfile
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from synthio.cli import UserError
from synthio.generation import sampling
from synthio.generation.diffusion import solve
from synthio.manifest import read_table
from synthio.models.adapters import FILES, make_trainable, write_adapter
from synthio.models.diffusers_audio import DiffusersTextToAudio, read_objective
from synthio.models.load import load_text_to_audio
from synthio.models.pipeline_model import pick_dtype
from synthio.models.stable_audio_3 import LAMBDA_RANGE, StableAudio3, check_scheduler
from tests.scripts import call_script, load_script
from tests.tiny_models import cosine_scheduler, save_stable_audio_3, save_text_to_audio

ROOT = Path(__file__).resolve().parent.parent.parent
DPO, GENERATE = ROOT / "dpo_train.py", ROOT / "stable-audio-tools/generate.py"
PROMPTS, SEEDS = ["sound of a dog bark", "rain"], [11, 12]
KINDS = ["lora", "prefix", "all"]
RATES = {"lora": 1e-2, "prefix": 3e-1, "all": 1e-3}  # at which three steps are heard


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Pipelines saved by diffusers: Stable Audio Open in stereo, Stable Audio 3 base and distilled."""
    folder = tmp_path_factory.mktemp("pipelines")
    save_text_to_audio(folder / "open", "v", channels=2)
    save_stable_audio_3(folder / "base")
    save_stable_audio_3(folder / "distilled", distilled=True)
    return folder


@pytest.fixture(scope="module")
def models(folders):
    return {name: load_text_to_audio(str(folders / name)) for name in ("open", "base", "distilled")}


def same_numbers(ours, theirs, tolerance=1e-4):
    assert ours.shape == theirs.shape
    assert theirs.std() > 0.01, "nothing to compare"
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)


# ---------------------------------------------------------------- Stable Audio Open


def open_pipeline(folder, noise):
    """diffusers' pipeline of the folder, whose scheduler takes its noise from `noise` and not from a Brownian tree."""
    from diffusers import AutoencoderOobleck, StableAudioDiTModel, StableAudioPipeline
    from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel
    from transformers import AutoTokenizer, T5EncoderModel

    class Given(cosine_scheduler()):
        def set_timesteps(self, *args, **kwargs):
            super().set_timesteps(*args, **kwargs)
            self.noise_sampler = lambda sigma, sigma_next: noise()

    pipeline = StableAudioPipeline(
        vae=AutoencoderOobleck.from_pretrained(folder / "vae"),
        text_encoder=T5EncoderModel.from_pretrained(folder / "text_encoder"),
        projection_model=StableAudioProjectionModel.from_pretrained(folder / "projection_model"),
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        transformer=StableAudioDiTModel.from_pretrained(folder / "transformer"),
        scheduler=Given.from_pretrained(folder / "scheduler"),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize(("num_steps", "cfg_scale"), [(6, 1.0), (12, 7.0), (40, 4.0)])
def test_stable_audio_open_makes_the_clips_of_its_pipeline(folders, models, num_steps, cfg_scale):
    model = models["open"]
    assert isinstance(model, DiffusersTextToAudio)
    noise = sampling.clip_noise(SEEDS, model.latent_shape)
    theirs = open_pipeline(folders / "open", noise)(
        PROMPTS, audio_end_in_s=0.9, num_inference_steps=num_steps, guidance_scale=cfg_scale, latents=noise()
    ).audios
    condition = model.condition(PROMPTS, [0.9, 0.9])
    options = {"num_steps": num_steps, "cfg_scale": cfg_scale, "sampler": "dpmpp_2m_sde"}
    ours = model.decode(sampling.sample(model, condition, SEEDS, **options))
    assert theirs.shape == (2, 2, round(0.9 * 16000))
    same_numbers(ours[:, :, : theirs.shape[2]], theirs)


def test_an_initial_sound_at_full_noise_is_that_of_the_pipeline(folders, models):
    model = models["open"]
    audio = 0.3 * torch.randn(1, 2, model.samples, generator=torch.Generator().manual_seed(0))
    noise = sampling.clip_noise(SEEDS[:1], model.latent_shape)
    pipeline = open_pipeline(folders / "open", noise)
    pipeline.vae.encode = lambda x: type(model.vae.encode(x))(latent_dist=Mean(model.vae.encode(x).latent_dist))
    options = {"latents": noise(), "initial_audio_waveforms": audio, "initial_audio_sampling_rate": 16000}
    theirs = pipeline(PROMPTS[:1], num_inference_steps=8, guidance_scale=1.0, output_type="latent", **options).audios
    ours = sampling.sample(
        model,
        model.condition(PROMPTS[:1], [model.max_seconds]),
        SEEDS[:1],
        num_steps=8,
        cfg_scale=1.0,
        sampler="dpmpp_2m_sde",
        init_latents=model.encode(audio),
    )
    same_numbers(ours, theirs)


class Mean:
    """A posterior that gives its mean for a sample, as our encoder does."""

    def __init__(self, posterior):
        self.posterior = posterior

    def sample(self, generator=None):
        return self.posterior.mode()


@pytest.mark.parametrize("sigma", [0.3, 1.0, 20.0, 500.0])
def test_network_and_data_are_those_of_the_scheduler(folders, models, sigma):
    """c_in, c_noise, c_skip and c_out of the scheduler against the v objective in angles."""
    model, scheduler = models["open"], cosine_scheduler().from_pretrained(folders / "open/scheduler")
    level = sampling.level_at("v", math.atan(sigma) * 2 / math.pi)
    sigma, condition = torch.tensor(sigma), model.condition(PROMPTS, [0.9, 0.5])
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(2, *model.latent_shape, generator=generator) * (sigma**2 + 1).sqrt()
    ours = model.predict(noisy * level.alpha, torch.full((2,), level.time), condition)
    theirs = model.predict(
        scheduler.precondition_inputs(noisy, sigma), scheduler.precondition_noise(sigma).repeat(2), condition
    )
    same_numbers(ours, theirs, 1e-5)
    data, _ = solve("v", noisy * level.alpha, ours, torch.full((2,), level.time))
    same_numbers(data, scheduler.precondition_outputs(noisy, theirs, sigma), 1e-5)


def test_the_noise_range_is_that_of_the_scheduler(models):
    levels = sampling.schedule("v", "dpmpp_2m_sde", 5, noise_range=models["open"].noise_range)
    scheduler = cosine_scheduler()()
    scheduler.set_timesteps(5)
    ours = torch.tensor([level.sigma / level.alpha for level in levels])
    torch.testing.assert_close(ours, scheduler.sigmas, rtol=1e-5, atol=0)


def test_no_brownian_tree_is_asked_for_noise(models, monkeypatch):
    """diffusers issue 13274: torchsde recurses without end where rounding puts a sigma outside of its range."""
    monkeypatch.setitem(sys.modules, "torchsde", None)  # importing it would fail
    model = models["open"]
    condition, latents = model.condition(PROMPTS[:1], [1.0]), torch.zeros(1, *model.latent_shape)
    for sampler in ("dpmpp_2m_sde", "dpmpp_3m_sde"):
        for num_steps, level in ((1, 1.0), (2, 0.01), (7, 0.5), (60, 1.0)):
            options = {"num_steps": num_steps, "cfg_scale": 1.0, "sampler": sampler, "init_noise_level": level}
            assert sampling.sample(model, condition, [3], init_latents=latents, **options).isfinite().all()


def test_each_clip_starts_from_its_own_sound(models):
    """diffusers issue 13629: with several clips of several prompts, sounds went to the wrong prompts."""
    model = models["open"]
    sounds = torch.randn(2, 2, model.samples, generator=torch.Generator().manual_seed(5))
    rows = [0, 0, 1, 1]

    def clips(rows, seeds, order=lambda row: row):
        prompts = [PROMPTS[row] for row in rows]
        return sampling.sample(
            model,
            model.condition(prompts, [1.0] * len(rows)),
            seeds,
            num_steps=4,
            cfg_scale=3.0,
            sampler="dpmpp_3m_sde",
            init_latents=model.encode(torch.stack([sounds[order(row)] for row in rows])),
            init_noise_level=0.3,
        )

    together = clips(rows, [1, 2, 3, 4])
    alone = torch.cat([clips([row], [seed]) for row, seed in zip(rows, [1, 2, 3, 4], strict=True)])
    same_numbers(together, alone)
    assert (together - clips(rows, [1, 2, 3, 4], lambda row: 1 - row)).abs().amax(dim=(1, 2)).min() > 1e-2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_class_name": "EDMDPMSolverMultistepScheduler"}, "says neither a v nor a rectified-flow objective"),
        ({"_class_name": "CosineDPMSolverMultistepScheduler", "prediction_type": "epsilon"}, "epsilon"),
        ({"_class_name": "CosineDPMSolverMultistepScheduler", "sigma_data": 0.5}, "sigma_data 0.5"),
    ],
)
def test_schedulers_of_another_objective_are_refused(tmp_path, config, message):
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler/scheduler_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        read_objective(tmp_path)


# ---------------------------------------------------------------- Stable Audio 3


def pipeline_3(folder, kind="StableAudio3Pipeline"):
    """A pipeline of the folder, loaded by diffusers."""
    import diffusers

    loaded = diffusers.StableAudio3Pipeline.from_pretrained(folder)
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


# ---------------------------------------------------------------- training Stable Audio 3


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


@pytest.fixture
def gold(make_wav, make_manifest, tmp_path):
    """Three gold clips of different lengths, and two prompts for each."""
    rows = [(make_wav(f"{k}.wav", 0.3 + 0.2 * k, seed=k), ["dog", "rain", "siren"][k]) for k in range(3)]
    make_manifest("gold.csv", rows)
    prompts = [(*row, f"sound of a {row[1]}", str(10 * k + j)) for k, row in enumerate(rows) for j in range(2)]
    make_manifest("prompts.csv", prompts, ("path", "label", "prompt", "seed"))
    return tmp_path


def generate_words(gold, model, name, *words):
    files = ["--input_csv", gold / "prompts.csv", "--output_csv", gold / f"{name}.csv", "--output_folder", gold / name]
    return [*files, "--model", model, "--num_steps", 3, "--device", "cpu", *words]


def dpo_words(gold, model, *words):
    files = ["--gold_csv", gold / "gold.csv", "--losers_csv", gold / "losers.csv", "--output_folder", gold / "adapter"]
    numbers = ["--num_steps", 3, "--batch_size", 4, "--warmup_steps", 0, "--device", "cpu"]
    return [*files, "--model", model, *numbers, *words]


def read_clips(gold, name):
    return [soundfile.read(gold / path)[0] for path in read_table(gold / f"{name}.csv")["path"]]


@pytest.mark.parametrize("kind", KINDS)
def test_generation_alignment_and_generation_with_the_adapter(folders, gold, run_script, kind):
    """As processes for the LoRA, the default; the other kinds in this one."""

    def run(script, words):
        done = run_script(script, *words, timeout=600) if kind == "lora" else call_script(script, *words)
        assert done.returncode == 0, done.stderr
        return done.stderr

    run(GENERATE, generate_words(gold, folders / "base", "losers"))
    lengths = [len(audio) for audio in read_clips(gold, "losers")]
    assert lengths == [4800, 4800, 8000, 8000, 11200, 11200]
    assert "6 pairs, 3 steps" in run(
        DPO, dpo_words(gold, folders / "base", "--train", kind, "--learning_rate", RATES[kind])
    )
    run(GENERATE, generate_words(gold, folders / "base", "aligned", "--adapter", gold / "adapter"))
    pairs = zip(read_clips(gold, "losers"), read_clips(gold, "aligned"), strict=True)
    assert all(abs(before - after).max() > 1e-4 for before, after in pairs)


def test_the_distilled_checkpoint_generates_and_is_not_trained(folders, gold):
    done = call_script(GENERATE, *generate_words(gold, folders / "distilled", "losers"))
    assert "'cfg_scale': 1.0" in done.stderr and "'sampler': 'pingpong'" in done.stderr, done.stderr
    done = call_script(DPO, *dpo_words(gold, folders / "distilled"))
    assert done.returncode == 2 and "distilled is distilled" in done.stderr and "-base" in done.stderr


def test_clips_of_several_lengths_are_those_of_the_clips_alone(folders, gold):
    words = ["--initialize_audio", "true", "--init_noise_level", 0.5]
    for name, size in (("together", 4), ("alone", 1)):
        done = call_script(GENERATE, *generate_words(gold, folders / "base", name, *words, "--batch_size", size))
        assert done.returncode == 0, done.stderr
    for together, alone in zip(read_clips(gold, "together"), read_clips(gold, "alone"), strict=True):
        assert abs(together - alone).max() <= 2 / 2**15


# ---------------------------------------------------------------- precision


def test_precision_that_auto_means():
    found = [pick_dtype("auto", torch.device(name)) for name in ("cpu", "cuda", "mps")]
    assert found == [torch.float32, torch.float16, torch.float32]
    assert pick_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["open", "base"])
def test_half_precision_is_near_single(folders, models, name, dtype):
    half = load_text_to_audio(str(folders / name), dtype=dtype)
    assert {p.dtype for p in half.module.parameters()} == {half.dtype} == {getattr(torch, dtype)}
    latents = torch.randn(2, 16, half.frames_for(1.28), generator=torch.Generator().manual_seed(2))

    def predicted(model):
        with torch.no_grad():
            return model.predict(latents, torch.tensor([0.2, 0.9]), model.condition(PROMPTS, [1.28, 1.28]))

    for run in (predicted, lambda model: model.decode(latents)):
        ours, exact = run(half), run(models[name])
        assert ours.dtype == torch.float32
        assert 0 < (ours - exact).std() < 0.05 * exact.std()


def test_clips_that_overflow_in_half_precision_are_decoded_in_single(folders, tmp_path, capsys):
    """Of two clips the loud one overflows: it alone is done again, so the other does not depend on it."""
    shutil.copytree(folders / "base", tmp_path / "loud")
    weights = tmp_path / "loud/vae/diffusion_pytorch_model.safetensors"
    save_file(load_file(weights) | {"bottleneck.running_std": torch.tensor([1000.0])}, weights)
    half = load_text_to_audio(str(tmp_path / "loud"), dtype="float16")
    latents = (
        torch.randn(2, 16, 9, generator=torch.Generator().manual_seed(2)) * torch.tensor([1e-3, 1e3])[:, None, None]
    )
    audio = half.decode(latents)
    assert "the autoencoder overflows in torch.float16" in capsys.readouterr().err
    assert torch.equal(audio[:1], half.decode(latents[:1]))
    exact = load_text_to_audio(str(tmp_path / "loud")).decode(latents)
    assert torch.equal(audio[1], exact[1]) and not torch.equal(audio[0], exact[0])


def test_latents_that_are_no_numbers_are_not_decoded(models):
    with pytest.raises(UserError, match=r"base gave NaN or infinity in torch\.float32; use --dtype bfloat16"):
        models["base"].decode(torch.full((1, 16, 3), float("nan")))


def test_clips_of_another_precision_are_other_files(folders, gold):
    names = []
    for dtype in ("auto", "float32", "bfloat16"):
        call_script(GENERATE, *generate_words(gold, folders / "base", dtype, "--dtype", dtype))
        names.append([Path(path).name for path in read_table(gold / f"{dtype}.csv")["path"]])
    assert names[0] == names[1] and not set(names[0]) & set(names[2])


@pytest.mark.parametrize(
    ("words", "dtype"),
    [([], "float32"), (["--dtype", "float16"], "bfloat16"), (["--dtype", "bfloat16", "--train", "prefix"], "bfloat16")],
)
def test_precision_of_the_training(words, dtype):
    script = load_script(DPO)
    args = script.get_parser().parse_args(["--gold_csv", "x", "--output_folder", "x", *words])
    assert script.training_dtype(args) == dtype


@pytest.mark.parametrize(("name", "kind"), [("open", "lora"), ("open", "prefix"), ("base", "prefix"), ("base", "all")])
def test_training_on_frozen_weights_in_half_precision(folders, gold, name, kind):
    assert call_script(GENERATE, *generate_words(gold, folders / name, "losers")).returncode == 0
    done = call_script(DPO, *dpo_words(gold, folders / name, "--train", kind, "--dtype", "bfloat16"))
    if kind == "all":
        assert done.returncode == 2 and "--train all needs --dtype float32" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    trained = load_text_to_audio(str(folders / name), str(gold / "adapter"), dtype="bfloat16")
    part = "lora_" if kind == "lora" else "prefixes."
    assert {p.dtype for name, p in trained.module.named_parameters() if part in name} == {torch.float32}
