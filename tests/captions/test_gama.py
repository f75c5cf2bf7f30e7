"""GAMA as captioner: its features and checkpoints here; GAMA itself where a clone and its environment are.

The slow tests build a small GAMA of the repository's own classes. They want SYNTHIO_GAMA_DIR, a clone of
github.com/Sreyan88/GAMA, and its environment (see `own_python`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from synthio.audio import read_audio
from synthio.captions.gama import Gama, check_clone, features, find_checkpoint, interpreter
from synthio.captions.gama_worker import BASE_MODEL, SOURCES, TEMPLATE
from synthio.captions.requests import CaptionerOptions
from synthio.cli import UserError
from synthio.manifest import read_table
from tests.captions.weights import written
from tests.programs import gama_small
from tests.scripts import ROOT, call_script, own_python

CAPTION = ROOT / "gama_csv_inf.py"
QUESTION = "What is heard?"


def sound(seconds: float, freq_hz: float) -> np.ndarray:
    """A tone in noise, [1, T] at 16 kHz."""
    t = np.arange(round(seconds * 16000)) / 16000
    noise = 0.02 * np.random.default_rng(0).standard_normal(len(t))
    return (0.3 * np.sin(2 * np.pi * freq_hz * t) + noise).astype(np.float32)[None]


# ---- features


@pytest.mark.parametrize("seconds", [0.01, 0.5, 10.24, 12.0])
def test_features_are_those_of_the_scripts_of_gama(seconds):
    """Their chain: mean removed, Kaldi's 128 bands, zeros or a cut to 1024 frames, then -5.081 and 4.4849."""
    from transformers import ASTFeatureExtractor

    clip = sound(seconds, 440) + 0.1
    kaldi = ASTFeatureExtractor(max_length=1024, do_normalize=False)
    if seconds < 0.025:  # no whole frame: padding alone
        wanted = np.zeros((1024, 128))
    else:
        wanted = kaldi(clip[0] - clip.mean(), sampling_rate=16000, return_tensors="np").input_values[0]
    np.testing.assert_allclose(features(clip).numpy(), (wanted + 5.081) / 4.4849, atol=2e-4)


# ---- what is missing is named


def fake_clone(folder: Path) -> Path:
    """The folders that are asked for, with nothing in them that could run."""
    for source in SOURCES:
        (folder / source).mkdir(parents=True)
    (folder / TEMPLATE).parent.mkdir()
    (folder / TEMPLATE).write_text('{"prompt_no_input": "{instruction}"}')
    (folder / BASE_MODEL).mkdir()
    (folder / BASE_MODEL / "config.json").write_text("{}")
    return folder


def test_each_missing_part_of_the_clone_is_named(tmp_path):
    with pytest.raises(UserError, match="needs --gama_dir"):
        check_clone("")
    with pytest.raises(UserError, match="is no clone of the GAMA repository: it has no hf-dev-train"):
        check_clone(str(tmp_path))
    clone = fake_clone(tmp_path / "clone")
    assert check_clone(str(clone)) == clone
    (clone / BASE_MODEL / "config.json").unlink()
    with pytest.raises(UserError, match=r"has no Llama-2-7b-chat-hf-qformer/config\.json"):
        check_clone(str(clone))


def test_a_checkpoint_is_a_file_or_the_folder_of_one(tmp_path):
    with pytest.raises(UserError, match="needs --gama_checkpoint"):
        find_checkpoint("")
    with pytest.raises(UserError, match=r"no such file: .*pytorch_model\.bin"):
        find_checkpoint(str(tmp_path))
    path = written(tmp_path / "pytorch_model.bin")
    assert find_checkpoint(str(tmp_path)) == find_checkpoint(str(path)) == path


def test_an_environment_is_a_folder_or_a_name_that_conda_knows(tmp_path, monkeypatch):
    assert interpreter(sys.prefix) == [str(Path(sys.prefix).absolute() / "bin" / "python")]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"'gama' is no venv folder .* and there is no conda"):
        interpreter("gama")


@pytest.mark.parametrize("env", [sys.prefix, "a_conda_name"])
def test_an_environment_that_cannot_run_gama_ends_with_one_line(env, tmp_path, make_wav, make_manifest, run_script):
    """The main environment has no torchvision. A stand-in for conda drops `run -n NAME --no-capture-output python`."""
    clone, checkpoint = fake_clone(tmp_path / "clone"), written(tmp_path / "x.bin")
    (tmp_path / "conda").write_text(
        f'#!/bin/sh\ntest "$3" = a_conda_name || exit 9\nshift 5\nexec {sys.executable} "$@"\n'
    )
    (tmp_path / "conda").chmod(0o755)
    table = make_manifest("gold.csv", [(make_wav("a.wav"), "a")])
    words = ["--input_csv", table, "--output_csv", tmp_path / "out.csv", "--captioner", "gama", "--device", "cpu"]
    words += ["--gama_dir", clone, "--gama_checkpoint", checkpoint, "--gama_env", env]
    done = run_script(CAPTION, *words, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert done.returncode == 2 and not (tmp_path / "out.csv").exists()
    assert "No module named 'torchvision'" in done.stderr
    assert done.stderr.splitlines()[-1] == "error: GAMA's process ended with status 1; its own words stand above"


def test_gama_needs_an_instruction(tmp_path):
    options = CaptionerOptions(
        instruction="none",
        gama_dir=str(fake_clone(tmp_path / "clone")),
        gama_checkpoint=str(written(tmp_path / "x.bin")),
    )
    with pytest.raises(UserError, match="needs an instruction"):
        Gama(options)


# ---- GAMA itself


@pytest.fixture(scope="module")
def gama_python() -> Path:
    """The Python of GAMA's environment; the test is skipped without it, or without a clone."""
    if not Path(os.environ.get("SYNTHIO_GAMA_DIR", "-")).is_dir():
        pytest.skip("no clone of GAMA in SYNTHIO_GAMA_DIR")
    return own_python("gama")


@pytest.fixture(scope="module")
def small_gama(gama_python, tmp_path_factory) -> Path:
    """A small GAMA with all that its worker looks for in a clone."""
    folder = tmp_path_factory.mktemp("gama") / "clone"
    subprocess.run([gama_python, gama_small.__file__, "make", os.environ["SYNTHIO_GAMA_DIR"], folder], check=True)
    return folder


@pytest.fixture(scope="module")
def options(gama_python, small_gama) -> CaptionerOptions:
    return CaptionerOptions(
        device="cpu",
        max_new_tokens=4,
        instruction=QUESTION,
        gama_dir=str(small_gama),
        gama_checkpoint=str(small_gama),
        gama_env=str(gama_python.parent.parent),
    )


@pytest.mark.slow
def test_captions_are_those_of_the_repository_and_of_their_own_clips(gama_python, small_gama, options, tmp_path):
    clips = [sound(0.5, 127), sound(12, 3800)]
    captioner = Gama(options)
    together = captioner.describe(clips)
    assert [captioner.describe([clip])[0] for clip in clips] == together and len(set(together)) == 2

    save_file({"features": torch.stack([features(clip) for clip in clips])}, tmp_path / "clips.safetensors")
    command = [gama_python, gama_small.__file__, "caption", small_gama, tmp_path / "clips.safetensors", QUESTION, "4"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    assert [" ".join(text.split()) for text in json.loads(done.stdout)] == together


@pytest.mark.slow
def test_the_script_drives_gama_and_goes_on_where_it_stopped(options, make_wav, make_manifest):
    rows = [(make_wav("low.wav", 0.5, freq_hz=127), "a"), (make_wav("high.wav", 3, freq_hz=3800), "b")]
    table, output = make_manifest("gold.csv", rows), rows[0][0].parent / "captions.csv"
    words = ["--input_csv", table, "--output_csv", output, "--captioner", "gama", "--device", "cpu"]
    words += ["--instruction", QUESTION, "--max_new_tokens", 4, "--gama_dir", options.gama_dir]
    words += ["--gama_checkpoint", options.gama_checkpoint, "--gama_env", options.gama_env]
    done = call_script(CAPTION, *words)
    assert done.returncode == 0, done.stderr
    wanted = Gama(options).describe([read_audio(path, 16000)[0] for path, _ in rows])
    assert list(read_table(output)["caption"]) == wanted

    cache = output.with_suffix(".cache.jsonl")
    key = json.loads(cache.read_text().splitlines()[0])["key"]
    first = {"key": key, "answer": "kept from before"}  # as earlier releases wrote it
    cache.write_text(json.dumps(first) + "\n")  # as if stopped after one
    assert call_script(CAPTION, *words).returncode == 0
    assert list(read_table(output)["caption"]) == ["kept from before", wanted[1]]


@pytest.mark.slow
def test_a_checkpoint_without_the_query_tokens_is_refused(options, small_gama, tmp_path):
    from dataclasses import replace

    state = torch.load(small_gama / "pytorch_model.bin", weights_only=True, mmap=True)
    key = "base_model.model.model.query_tokens"
    save_file({name: value.clone() for name, value in state.items() if name != key}, tmp_path / "less.safetensors")
    with pytest.raises(UserError, match=rf"does not fit GAMA: 1 key missing \({key}\)"):
        Gama(replace(options, gama_checkpoint=str(tmp_path / "less.safetensors")))
