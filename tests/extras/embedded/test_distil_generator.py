"""The distillation of the embedded generator: the teacher's paths, what the student learns from them, the recipe."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import distil_generator as recipe
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from synthio.generation.sampling import sample
from synthio.models.load import load_text_to_audio
from tests.extras.embedded.recipes import HERE
from tests.scripts import call_script
from tests.tiny_models import save_text_to_audio


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_text_to_audio(str(save_text_to_audio(tmp_path_factory.mktemp("model") / "flow")))


@pytest.fixture
def in_single(monkeypatch):
    """float32 on every processor, so that paths can be compared."""
    from contextlib import nullcontext

    monkeypatch.setattr(recipe, "in_half", lambda device: nullcontext())


def drawn(start=1.0, rows=()):
    captions, seconds = np.array(["dog bark", "rain"]), np.array([1.0, 0.5], np.float32)
    return {"captions": captions, "seconds": seconds, "seeds": np.array([3, 4]), "start": start, "rows": np.array(rows)}


def sampled(model, **options):
    options = {"num_steps": 24, "cfg_scale": 1.5, "sampler": "euler"} | options
    return sample(model, model.condition(["dog bark", "rain"], [1.0, 0.5]), [3, 4], **options)


def test_a_path_ends_at_the_clip_of_24_steps_with_guidance(model, in_single):
    path = recipe.walk(model, drawn(), None)
    assert path.shape == (2, 9, *model.latent_shape)
    torch.testing.assert_close(path[:, -1], sampled(model))
    noise = [torch.randn(model.latent_shape, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4)]
    assert torch.equal(path[:, 0], torch.stack(noise))


def test_a_path_from_a_clip_is_that_of_initialize_audio(model, in_single):
    audio = 0.1 * torch.randn(2, model.samples, generator=torch.Generator().manual_seed(0))
    corpus = SimpleNamespace(waveforms=lambda rows: audio[rows].numpy())
    path = recipe.walk(model, drawn(0.6, [0, 1]), corpus)
    wanted = sampled(model, init_latents=model.encode(audio[:, None]), init_noise_level=0.6)
    torch.testing.assert_close(path[:, -1], wanted)


def straight_paths(start):
    """Two paths of a constant velocity, 1 and 2, which is `pooled` of their condition."""
    velocity = torch.tensor([1.0, 2.0]).reshape(2, 1, 1)
    times = start * (1 - torch.arange(9) / 8)
    paths = object.__new__(recipe.Paths)
    paths.path = (velocity[:, None] * times[:, None, None]).expand(2, 9, 3, 4).half()
    paths.start, paths.cross, paths.pooled = torch.full((2,), start), torch.zeros(2, 1, 1), velocity
    return paths


def oracle(error=0.0):
    def predict(x, t, condition):
        return condition.pooled.expand_as(x) + error

    return SimpleNamespace(predict=predict, objective="rectified_flow")


@pytest.mark.parametrize("own_share", [0.0, 1.0])
@pytest.mark.parametrize("start", [1.0, 0.5])
@pytest.mark.parametrize("steps", [8, 4])
def test_the_velocity_of_a_path_has_no_loss(steps, start, own_share, in_single):
    batch = straight_paths(start).step_batch(np.random.default_rng(0), 32, steps, own_share)
    assert set((batch["times"][1] - batch["times"][2]).tolist()) == {start / steps}
    assert float(recipe.step_loss(oracle(), batch)) < 1e-4  # of float16
    assert bool(batch["own"].any()) == (own_share > 0)


def test_from_its_own_level_the_student_is_to_come_back_to_the_path(in_single):
    """A velocity that is 0.5 too large leads 0.5 dt too low, and 0.5 less is wanted next: an error of 1."""
    batch = straight_paths(1.0).step_batch(np.random.default_rng(0), 256, 8, 1.0)
    share = float(batch["own"].float().mean())
    assert 0.8 < share < 0.95  # all but the first of eight steps
    assert float(recipe.step_loss(oracle(0.5), batch)) == pytest.approx(share * 1 + (1 - share) * 0.25, abs=1e-2)


def test_the_distance_is_that_of_the_clips(in_single):
    paths = straight_paths(1.0)
    paths.path = paths.path + 1  # data is 1, not 0
    assert recipe.distance(oracle(), paths, 4)["distance_from_noise"] == pytest.approx(0, abs=1e-3)
    assert recipe.distance(oracle(0.2), paths, 4)["distance_from_noise"] == pytest.approx(0.2, abs=1e-3)


@pytest.mark.slow
def test_the_recipe_writes_weights_that_are_sampled_in_eight_steps_without_guidance(corpus, tmp_path):
    output = tmp_path / "text_to_audio"
    shutil.copytree(HERE / "weights/text_to_audio", output, ignore=shutil.ignore_patterns("distilled"))
    options = ["--cache", corpus, "--scratch", tmp_path / "scratch", "--output", output, "--paths", 16]
    done = call_script(HERE / "distil_generator.py", *options, "--steps", 2, "--batch_size", 4, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    name = "diffusion_pytorch_model.safetensors"
    mine, teacher = load_file(output / "distilled" / name), load_file(output / "transformer" / name)
    assert {k: (v.shape, v.dtype) for k, v in mine.items()} == {k: (v.shape, v.dtype) for k, v in teacher.items()}
    assert any(not torch.equal(mine[k], teacher[k]) for k in mine)
    model = load_text_to_audio(str(output), distilled=True)
    assert model.distilled and vars(model.sampling) == {"sampler": "euler", "num_steps": 8, "cfg_scale": 1.0}
