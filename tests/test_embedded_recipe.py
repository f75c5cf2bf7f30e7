"""The recipe of the embedded models: its training loop, and each script on a corpus of a few clips."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from tests.scripts import call_script

ROOT = Path(__file__).parent.parent
HERE = ROOT / "extras/embedded"
sys.path.append(str(HERE))

from training import fit  # noqa: E402


def options(folder, **changed):
    return argparse.Namespace(
        **{"steps": 9, "learning_rate": 0.1, "scratch": folder, "device": "cpu", "workers": 0} | changed
    )


def train(folder, stop_at=None, **changed):
    """Fit a line to seeded batches; the weights afterwards. The step `stop_at` fails, as an interruption would."""
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 1)

    def batch_of(step):
        if step == stop_at:
            raise KeyboardInterrupt
        return {"x": torch.from_numpy(np.random.default_rng(step).standard_normal((4, 3), dtype=np.float32))}

    def loss_of(batch):
        return {"loss": (module(batch["x"]) - batch["x"].sum(1, keepdim=True)).square().mean()}

    fit("line", module, batch_of, loss_of, args=options(folder, **changed), export=lambda: None, every=2)
    return torch.cat([module.weight.detach().flatten(), module.bias.detach()])


def test_a_training_that_was_interrupted_ends_at_the_same_weights(tmp_path):
    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", stop_at=5)
    assert torch.equal(train(tmp_path / "parts"), whole)
    steps = pd.read_csv(tmp_path / "parts/line.csv")["step"]
    assert list(steps) == [2, 4, 6, 8]


def test_batches_that_workers_make_are_the_same(tmp_path):
    assert torch.equal(train(tmp_path / "workers", workers=2), train(tmp_path / "none"))


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path):
    with pytest.raises(SystemExit, match="not finite in the steps before 2"):
        train(tmp_path, learning_rate=1e38, steps=4)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """corpus.py on four recordings of each set, one of them held out, and 40 procedural clips."""
    data, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    sets = {"us8k_part": ["dog_bark", "siren"], "philharmonia": ["flute", "violin"], "sonicpi": ["bd_fat", "elec_tick"]}
    for name, labels in sets.items():
        rows = []
        (data / name).mkdir()
        for i in range(4):
            soundfile.write(data / name / f"{i}.ogg", 0.1 * rng.standard_normal(16000 + 12000 * i), 16000)
            fold = {"us8k_part": "10", "philharmonia": "5"}.get(name, "") if i == 3 else "1"
            rows.append({"path": f"{i}.ogg", "label": labels[i % 2], "name": labels[i % 2], "fold": fold})
        pd.DataFrame(rows).to_csv(data / name / f"{name}.csv", index=False)
    cache = tmp_path_factory.mktemp("corpus")
    done = call_script(HERE / "corpus.py", "--data", data, "--cache", cache, "--procedural", 40)
    assert done.returncode == 0, done.stderr
    return cache


def test_the_corpus_holds_all_sources_and_its_held_out_clips(corpus):
    table = pd.read_csv(corpus / "table.csv", dtype=str)
    counts = table.groupby(["source", "heldout"]).size().to_dict()
    assert counts[("procedural", "1")] == 2 and counts[("us8k_part", "1")] == 1 and counts[("philharmonia", "1")] == 1
    assert ("sonicpi", "1") not in counts and len(table) == 52
    assert np.load(corpus / "audio.npy", mmap_mode="r").shape == (52, 80000)


@pytest.mark.parametrize(
    ("name", "weights", "part"),
    [
        ("generator", "text_to_audio", "transformer/diffusion_pytorch_model.safetensors"),
        ("clap", "clap", "model.safetensors"),
        ("ast", "ast", "model.safetensors"),
        ("autoencoder", "text_to_audio/vae", "diffusion_pytorch_model.safetensors"),
    ],
)
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
