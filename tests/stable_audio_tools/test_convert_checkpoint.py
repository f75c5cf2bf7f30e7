"""The script stable-audio-tools/convert_checkpoint.py."""

from __future__ import annotations

import json
import os

from safetensors.torch import load_file

from tests.models.trained import save_training, weights
from tests.scripts import ROOT, call_script

CONVERT = ROOT / "stable-audio-tools/convert_checkpoint.py"


class Callback:
    """An object whose reading runs code."""

    def __reduce__(self):
        return os.mkdir, ("code-was-run",)


def test_convert_takes_the_tensors_out(tmp_path):
    folder = tmp_path / "out"
    done = call_script(CONVERT, "--checkpoint", save_training(tmp_path), "--output_folder", folder)
    assert done.returncode == 0, done.stderr
    assert "2 tensors, 7 numbers" in done.stdout
    state = load_file(folder / "model.safetensors")
    assert {key: value.tolist() for key, value in state.items()} == {k: v.tolist() for k, v in weights().items()}
    assert json.loads((folder / "model_config.json").read_text()) == {"sample_size": 1}


def test_convert_runs_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call_script(CONVERT, "--checkpoint", save_training(tmp_path, callbacks=Callback()), "--output_folder", "out")
    assert not (tmp_path / "code-was-run").exists()
    assert done.returncode == 2 and "posix.mkdir" in done.stderr


def test_convert_needs_a_config(tmp_path):
    checkpoint = save_training(tmp_path)
    (tmp_path / "model_config.json").unlink()
    done = call_script(CONVERT, "--checkpoint", checkpoint, "--output_folder", tmp_path / "out")
    assert done.returncode == 2 and "model_config.json: no such file" in done.stderr
