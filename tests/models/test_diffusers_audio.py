"""Stable Audio Open and Stable Audio 3 from folders of diffusers' pipelines: our clips are those of the pipelines."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import soundfile
import torch

from synthio.cli import UserError
from synthio.generation import sampling
from synthio.generation.diffusion import solve
from synthio.manifest import read_table
from synthio.models.diffusers_audio import DiffusersTextToAudio, read_objective
from synthio.models.load import load_text_to_audio
from tests.models.pipelines import KINDS, PROMPTS, SEEDS, same_numbers
from tests.scripts import ROOT, call_script, load_script
from tests.tiny_models import cosine_scheduler

DPO, GENERATE = ROOT / "dpo_train.py", ROOT / "stable-audio-tools/generate.py"
RATES = {"lora": 1e-2, "prefix": 3e-1, "all": 1e-3}  # at which three steps are heard


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


SHORT = 13  # latent frames of the model's 40


@pytest.fixture
def short(folders):
    model = load_text_to_audio(str(folders / "open"))
    model.set_frames(SHORT)
    return model


def test_short_latents_make_the_clips_of_a_pipeline_of_that_length(folders, short):
    """diffusers takes the length from the transformer's config; nothing in the weights depends on it."""
    noise = sampling.clip_noise(SEEDS, (16, SHORT))
    pipeline = open_pipeline(folders / "open", noise)
    pipeline.transformer.register_to_config(sample_size=SHORT)
    options = {"num_inference_steps": 12, "guidance_scale": 5.0}
    theirs = pipeline(PROMPTS, audio_end_in_s=0.4, latents=noise(), **options).audios
    condition = short.condition(PROMPTS, [0.4, 0.4])
    options = {"num_steps": 12, "cfg_scale": 5.0, "sampler": "dpmpp_2m_sde"}
    latents = sampling.sample(short, condition, SEEDS, **options)
    assert latents.shape == (2, 16, SHORT)
    same_numbers(short.decode(latents)[:, :, : theirs.shape[2]], theirs)


def test_short_latents_go_through_the_network_as_it_is_called_by_hand(models, short):
    """Rotary embeddings of the clip's own length and the token before it; the condition says the same seconds."""
    from diffusers.models.embeddings import get_1d_rotary_pos_embed

    x, t = torch.randn(2, 16, SHORT, generator=torch.Generator().manual_seed(3)), torch.tensor([0.9, 0.2])
    condition = short.condition(PROMPTS, [0.4, 0.3])
    same_numbers(condition.cross, models["open"].condition(PROMPTS, [0.4, 0.3]).cross, 0)
    rotary = get_1d_rotary_pos_embed(8, SHORT + 1, use_real=True, repeat_interleave_real=False)
    inputs = {"encoder_hidden_states": condition.cross, "global_hidden_states": condition.pooled}
    with torch.no_grad():
        by_hand = short.module(x, t, **inputs, rotary_embedding=rotary, return_dict=False)[0]
        same_numbers(short.predict(x, t, condition), by_hand, 1e-6)


def test_short_latents_are_encoded_and_decoded_at_their_length(models, short):
    audio = 0.3 * torch.randn(1, 2, 20480, generator=torch.Generator().manual_seed(0))
    found = short.encode(audio)
    assert found.shape == (1, 16, SHORT) and short.decode(found).shape == (1, 2, SHORT * 512)
    same_numbers(found, short.encode(audio[:, :, : SHORT * 512]), 0)
    inside = SHORT - 9  # where the encoder does not hear what was cut off
    same_numbers(found[:, :, :inside], models["open"].encode(audio)[:, :, :inside], 1e-5)


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
@pytest.mark.slow
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
