"""The control of a preference training, on a tiny real model."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from synthio.batching import Halving
from synthio.generation import control, preference
from synthio.generation.options import PreferenceOptions
from synthio.models.adapters import make_trainable
from synthio.models.load import load_text_to_audio
from tests.generation.test_preference import world  # noqa: F401 # a fixture
from tests.test_dpo_train import dpo
from tests.tiny_models import save_stable_audio_3


def manifest(folder: Path, count: int = 7) -> pd.DataFrame:
    return pd.DataFrame([{"path": str(folder / f"gold_{i}.wav"), "label": "rain"} for i in range(count)])


def train(model, trainable, data, steps, **changes):
    options = PreferenceOptions(**{"warmup_steps": 0, "batch_size": 7, "beta": 100.0, "learning_rate": 3e-3} | changes)
    optimizer = preference.new_optimizer(trainable, options)
    for step in range(steps):
        preference.optimiser_step(model, trainable, data, options, optimizer, step, Halving(7))


def test_it_knows_what_was_learnt(world, tmp_path):  # noqa: F811
    """Nothing yet; to tell real clips from their own copies; to make real clips likelier."""
    model = load_text_to_audio(str(world / "v"))
    data = control.control_clips(manifest(world), model, "id", tmp_path, 0, copies=True)
    trainable = make_trainable(model, "lora")
    assert control.measure(model, trainable, data, 4, 0) == control.Control(7, 0.0, 0.0, 0.5)
    train(model, trainable, data, 30)
    told_apart = control.measure(model, trainable, data, 4, 0)
    assert told_apart.codec_accuracy > 0.9
    assert "so it has learnt the autoencoder" in control.describe(told_apart, None)
    unseen = control.control_clips(manifest(world), model, "id", tmp_path, 0, copies=False)
    model = load_text_to_audio(str(world / "v"))
    trainable = make_trainable(model, "lora")
    train(model, trainable, unseen, 30, loss="sft")
    likelier = control.measure(model, trainable, unseen, 4, 0)
    assert likelier.error_change < -4 * likelier.error_change_se < 0 and likelier.codec_accuracy is None


def test_numbers_by_hand_with_clips_of_several_lengths(world, tmp_path):  # noqa: F811
    """Each clip by itself gives the change and the standard error that all give in buckets."""
    model = load_text_to_audio(str(save_stable_audio_3(tmp_path / "three")))
    data = control.control_clips(manifest(world, 3), model, "id", tmp_path, 0, copies=True)
    trainable = make_trainable(model, "prefix")
    train(model, trainable, data, 3, learning_rate=3e-1)
    rows = torch.arange(3)
    changes = []
    for k in range(control.DRAWS):
        generator = torch.Generator().manual_seed(control.stable_seed(5, "control", k))
        draw = preference.draw_rows(data, rows, generator, "uniform", 0.0)
        with torch.no_grad():
            changes.append(torch.cat([control.error_changes(model, trainable, draw.rows(row[None])) for row in rows]))
    changes = torch.stack(changes)
    found = control.measure(model, trainable, data, 2, 5)
    assert found.error_change == pytest.approx(changes[:, :, 0].mean().item(), rel=1e-3)
    expected = changes[:, :, 0].mean(dim=0).std().item() / 3**0.5
    assert found.error_change_se == pytest.approx(expected, rel=1e-2)
    assert found.codec_accuracy == control.codec_accuracy(changes)


def test_ties_count_one_half():
    assert control.codec_accuracy(torch.tensor([[0.0, 0.0], [1.0, 2.0], [2.0, 1.0], [3.0, 5.0]])) == 2.5 / 4


def test_of_many_clips_some_are_taken(world, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(control, "MAX_CLIPS", 3)
    model = load_text_to_audio(str(world / "v"))
    picked = [control.control_clips(manifest(world), model, "id", tmp_path, seed, False) for seed in (0, 0, 1)]
    assert [len(data) for data in picked] == [3, 3, 3]
    assert picked[0].content == picked[1].content != picked[2].content


def test_every_training_reports_it(world):  # noqa: F811
    """In the log and in the record, with the clips that it has not seen only where they are given."""
    done = dpo(world, "controlled", valid_csv=world / "gold.csv")
    record = json.loads((world / "controlled.json").read_text())
    gold, unseen = record["control"]["gold"], record["control"]["unseen"]
    assert gold["clips"] == unseen["clips"] == 7 and 0 <= gold["codec_accuracy"] <= 1
    assert unseen["error_change"] == gold["error_change"]  # the same clips
    line = next(line for line in done.stderr.splitlines() if line.startswith("control: "))
    assert f"decoded copies in {gold['codec_accuracy']:.2f}" in line and "7 unseen validation clips" in line
    assert str(world / "gold.csv") in record["inputs"]
    done = dpo(world, "averaged", loss="sft", losers=None, ema_decay=0.999)
    assert "unseen" not in json.loads((world / "averaged.json").read_text())["control"]
    assert "control: real clips" in done.stderr and "unseen" not in done.stderr


def test_a_validation_clip_that_cannot_be_read_ends_it_before_the_training(world, tmp_path):  # noqa: F811
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    (tmp_path / "valid.csv").write_text("path,label\nbroken.wav,rain\n")
    done = dpo(world, "broken", ok=False, valid_csv=tmp_path / "valid.csv")
    assert "broken.wav: " in done.stderr and "Traceback" not in done.stderr and "dpo: steps" not in done.stderr
    assert not (world / "broken_checkpoint.pt").exists()
