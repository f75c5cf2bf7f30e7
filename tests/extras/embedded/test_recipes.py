"""Each recipe of the embedded models, run as it is on a corpus of a few clips."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file

from tests.extras.embedded.recipes import HERE
from tests.scripts import call_script


@pytest.mark.parametrize(
    ("name", "weights", "part"),
    [
        ("generator", "text_to_audio", "transformer/diffusion_pytorch_model.safetensors"),
        ("clap", "clap", "model.safetensors"),
        ("ast", "ast", "model.safetensors"),
        ("autoencoder", "text_to_audio/vae", "diffusion_pytorch_model.safetensors"),
    ],
)
@pytest.mark.slow
def test_each_script_trains_and_writes_weights_that_its_class_loads(corpus, tmp_path, name, weights, part):
    output = tmp_path / weights
    if name == "generator":
        shutil.copytree(HERE / "weights/text_to_audio/vae", output / "vae")
    options = ["--cache", corpus, "--scratch", tmp_path / "scratch", "--output", output]
    done = call_script(HERE / f"train_{name}.py", *options, "--steps", 2, "--batch_size", 4, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    mine, shipped = load_file(output / part), load_file(HERE / "weights" / weights / part)
    if name != "ast":  # its head has a row for each label of the corpus
        assert {k: v.shape for k, v in mine.items()} == {k: v.shape for k, v in shipped.items()}
    assert all(torch.isfinite(v).all() for v in mine.values())


def test_all_weights_together_stay_below_40_mb():
    assert sum(file.stat().st_size for file in (HERE / "weights").rglob("*") if file.is_file()) < 40e6


@pytest.mark.slow
def test_a_generator_goes_on_from_the_weights_and_tokenizer_of_a_folder(corpus, tmp_path):
    shipped, output = HERE / "weights/text_to_audio", tmp_path / "text_to_audio"
    shutil.copytree(shipped / "vae", output / "vae")
    options = ["--cache", corpus, "--scratch", tmp_path / "scratch", "--output", output, "--init", shipped]
    still = ["--steps", 1, "--batch_size", 4, "--device", "cpu", "--learning_rate", 1e-12]
    done = call_script(HERE / "train_generator.py", *options, *still)
    assert done.returncode == 0, done.stderr
    for file in ("transformer/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"):
        mine, before = load_file(output / file), load_file(shipped / file)
        assert all(torch.equal(mine[name], before[name]) for name in before)
    assert (output / "tokenizer/tokenizer.json").read_text() == (shipped / "tokenizer/tokenizer.json").read_text()
    assert "_name_or_path" not in (output / "transformer/config.json").read_text()  # a path of this machine
