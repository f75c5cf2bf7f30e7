"""Computed peaks against the bytes of tensors that are alive at once, and what is advised."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from synthio.batching import Halving
from synthio.generation import preference, sampling
from synthio.generation.options import PreferenceOptions
from synthio.generation.pairs import TrainingData
from synthio.models.adapters import make_trainable
from synthio.models.base import Condition
from synthio.models.load import load_text_to_audio
from synthio.pipeline import memory
from synthio.pipeline.memory import Alignment, Generation, alignment_gb, generation_gb, peaks
from synthio.pipeline.sizes import PUBLISHED, Sizes, sizes_of
from tests.live_tensors import LiveTensors
from tests.tiny_models import save_stable_audio_3, save_text_to_audio

TOLERANCE = 0.1  # of the peak; found: 0.06 at most
LAYERS, FRAMES, PAIRS = 12, 60, 12
SAO = PUBLISHED["stabilityai/stable-audio-open-1.0"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Layers of width 128, so that activations outweigh what is small."""
    folder = tmp_path_factory.mktemp("models")
    heads = {"num_attention_heads": 2, "attention_head_dim": 64, "num_key_value_attention_heads": 2}
    save_text_to_audio(folder / "open", "v", num_layers=LAYERS, sample_size=FRAMES, **heads)
    save_stable_audio_3(folder / "three", embed_dim=128, depth=LAYERS, num_heads=2)
    return folder


def transformer_alone(folder) -> Sizes:
    """The sizes of a model whose encoders need nothing: of one this small, they would be the peak."""
    return replace(sizes_of(str(folder)), text_parameters=0, sound_parameters=0, channels=(0, 0))


def training_data(model) -> TrainingData:
    latents = torch.randn(2 * PAIRS, model.latent_shape[0], FRAMES)
    one = model.condition(["dog"], [1.0])
    condition = Condition.joined([one] * PAIRS)
    rows = torch.arange(PAIRS)
    return TrainingData(latents, torch.full((2 * PAIRS,), FRAMES), condition, rows, rows + PAIRS, rows, "")


def measured_alignment(model, kind: str, again: bool) -> float:
    """Most GB alive in the second of two optimiser steps, when the moments are there."""
    if again:
        model.recompute_activations()
    data, trainable = training_data(model), make_trainable(model, kind)
    options = PreferenceOptions(train=kind, batch_size=PAIRS, learning_rate=1e-3, warmup_steps=0)
    optimizer, fitting = preference.new_optimizer(trainable, options), Halving(PAIRS)
    preference.optimiser_step(model, trainable, data, options, optimizer, 0, fitting)
    for parameter in trainable.parameters.values():
        parameter.grad = None
    held = [*model.module.parameters(), *(trainable.start or {}).values()]
    moments = [t for state in optimizer.state.values() for t in state.values()]
    with LiveTensors(*held, *moments) as live:
        preference.optimiser_step(model, trainable, data, options, optimizer, 1, fitting)
    return live.peak / 1e9


@pytest.mark.parametrize("again", [False, True], ids=["kept", "again"])
@pytest.mark.parametrize("kind", ["lora", "prefix", pytest.param("all", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["open", "three"])
def test_the_peak_of_an_alignment_step_is_what_is_computed(folders, name, kind, again):
    model, sizes = load_text_to_audio(str(folders / name)), transformer_alone(folders / name)
    work = Alignment(kind, PAIRS, FRAMES, gradient_checkpointing=again)
    parts = alignment_gb(sizes, work)
    assert sum(parts.values()) == pytest.approx(measured_alignment(model, kind, again), rel=TOLERANCE)


@pytest.mark.parametrize("kind", ["lora", "prefix"])
def test_half_precision_keeps_half_but_for_what_peft_copies(folders, kind):
    model, sizes = load_text_to_audio(str(folders / "open"), dtype="bfloat16"), transformer_alone(folders / "open")
    computed = sum(alignment_gb(sizes, Alignment(kind, PAIRS, FRAMES, bytes=2)).values())
    assert computed == pytest.approx(measured_alignment(model, kind, False), rel=TOLERANCE)


@pytest.mark.parametrize("name", ["open", "three"])
def test_the_peak_of_a_batch_that_is_sampled_is_what_is_computed(folders, name):
    model, sizes = load_text_to_audio(str(folders / name)), sizes_of(str(folders / name))
    condition = Condition.joined([model.condition(["dog"], [1.0])] * 8)
    options = {"num_steps": 2, "cfg_scale": 2.0, "sampler": "euler", "num_frames": FRAMES}
    with LiveTensors(*model.module.parameters(), condition.cross) as live:
        sampling.sample(model, condition, list(range(8)), **options)
    parts = generation_gb(replace(sizes, sound_parameters=0), Generation(8, FRAMES, 2, 4))
    assert sum(parts.values()) == pytest.approx(live.peak / 1e9, rel=TOLERANCE)


@pytest.mark.parametrize("frames", [30, 60])
def test_the_peak_of_coding_a_clip_is_what_is_computed(folders, frames):
    model, sizes = load_text_to_audio(str(folders / "open")), sizes_of(str(folders / "open"))
    model.set_frames(frames)
    audio, latents = torch.randn(1, 1, model.samples), torch.randn(1, 16, frames)
    for run, channels in (
        (lambda: model.encode(audio), sizes.channels[0]),
        (lambda: model.decode(latents), sizes.channels[1]),
    ):
        run()  # weights of weight_norm are made
        with torch.no_grad(), LiveTensors(audio, latents) as live:
            base = live.live
            run()
        own = 4 * memory.NORMED * sizes.sound_parameters  # they are made anew in each call
        found, computed = live.peak - base, memory.coding(sizes, frames, channels, 4)
        assert computed * 0.75 < found < computed * 1.25 + own


def test_each_setting_that_is_advised_needs_less_than_the_one_before():
    needed = list(peaks(4, SAO, dpo_words(), None, on_gpu=True))
    assert [peak.words for peak in needed] == [
        "",
        "dpo_gradient_checkpointing=true",
        "dpo_gradient_checkpointing=true dpo_batch_size=2 dpo_accumulation=4",
        "dpo_gradient_checkpointing=true dpo_batch_size=1 dpo_accumulation=8",
        "dpo_gradient_checkpointing=true dpo_batch_size=1 dpo_accumulation=8 dtype=bfloat16",
    ]
    sizes = [peak.gb for peak in needed]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < sizes[0] / 3
    made = list(peaks(6, SAO, generate_words(), None, on_gpu=True))
    assert [peak.words for peak in made] == ["", *(f"generate_batch_size={n}" for n in (8, 4, 2, 1))]
    assert [peak.gb for peak in made] == sorted((peak.gb for peak in made), reverse=True)


def dpo_words(**changes) -> dict[str, str]:
    words = {"dtype": "auto", "loss": "dpo", "winner_weight": "0", "codec_match": "true", "train": "lora"}
    words |= {"batch_size": "4", "gradient_accumulation": "2", "gradient_checkpointing": "false", "ema_decay": "0"}
    return {f"--{name}": value for name, value in (words | {"latent_seconds": "auto"} | changes).items()}


def generate_words(**changes) -> dict[str, str]:
    words = {"dtype": "auto", "batch_size": "16", "cfg_scale": "7", "latent_seconds": "auto"} | changes
    return {f"--{name}": value for name, value in words.items()}


def test_without_a_gpu_python_and_what_reads_prompts_count():
    """4.8 GB was the peak of a process with random weights of these sizes."""
    sizes = PUBLISHED["stabilityai/stable-audio-3-small-sfx"]
    words = generate_words(batch_size="1", cfg_scale="0")
    one, gpu = (next(peaks(6, sizes, words, 4.0, on_gpu=on_gpu)) for on_gpu in (False, True))
    assert one.gb == pytest.approx(4.8, rel=TOLERANCE) and "text encoder 1.1" in one.text()
    assert "text encoder" not in gpu.text() and gpu.gb < 2.5
    assert memory.generation_of(sizes, words, 4.0, False) == Generation(1, 44, 1, 4)


def test_words_of_a_step_become_its_work():
    work = memory.alignment_of(SAO, dpo_words(), 4.0)
    assert work == Alignment("lora", 4, 98, False, 4, 2, 2)  # 87 frames and 11 beyond
    changes = {"loss": "sft", "dtype": "float16", "latent_seconds": "model", "ema_decay": ".9", "init_adapter": "x"}
    assert memory.alignment_of(SAO, dpo_words(**changes), 4.0) == Alignment("lora", 4, 1024, False, 2, 1, 2, True, True)
    assert memory.alignment_of(SAO, dpo_words(winner_weight="1"), 4.0).sides == 3
    assert memory.generation_of(SAO, generate_words(), 4.0, True) == Generation(16, 98, 2, 2)
    assert memory.generation_of(SAO, generate_words(cfg_scale="1"), None, False) == Generation(16, 1024, 1, 4)


def test_full_size_by_hand():
    """Stable Audio Open, LoRA, 8 rows of 1025 tokens: 24 layers of 24 units and 130 attended tokens of 2.2."""
    unit = 8 * 1536 * 4
    kept = 24 * unit * (24 * 1025 + 2.2 * 130)
    parts = alignment_gb(SAO, Alignment("lora", 4, 1024))
    assert parts["activations and gradients"] == pytest.approx((kept + 12.5 * 1025 * unit) / 1e9, rel=1e-6)
    lora = 24 * 16 * (12 * 1536 + 4 * 768)
    assert (
        parts["weights"] == pytest.approx((1057e6 * 4 + 4 * lora) / 1e9)
        and parts["moments and copies"] == 8 * lora / 1e9
    )
    short = alignment_gb(SAO, Alignment("lora", 4, 98))
    assert sum(short.values()) < sum(parts.values()) / 3
