"""laion_clap and msclap: which library a name needs, what is refused, and, in their environment, the same scores."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

from synthio.models import checkpoint_file
from synthio.models.load import load_scorer
from tests.classification.toy_clips import save_tiny_ast
from tests.programs.clap_library import MODELS
from tests.rows import rows_of, write_rows
from tests.scripts import ROOT, own_python
from tests.tiny_models import save_clap


def test_a_fusion_model_of_transformers_hears_a_batch_the_same_every_time(tmp_path):
    """Its extractor calls a random window of each batch longer than it is."""
    save_clap(tmp_path)
    config = ClapConfig.from_pretrained(tmp_path)
    config.audio_config.enable_fusion = True
    torch.manual_seed(0)
    ClapModel(config).save_pretrained(tmp_path)
    extractor = ClapFeatureExtractor.from_pretrained(tmp_path)
    extractor.truncation = "fusion"
    extractor.save_pretrained(tmp_path)
    scorer = load_scorer(str(tmp_path))
    clips = [np.random.default_rng(i).normal(size=(1, 50000)).astype(np.float32) for i in range(3)]
    vectors = [scorer.embed_audio(clips) for _ in range(6)]
    assert all((v == vectors[0]).all() for v in vectors)
    np.testing.assert_allclose(scorer.embed_audio(clips[:1])[0], vectors[0][0], atol=1e-6)


# The driver


@pytest.mark.parametrize(
    ("model", "environment", "tuned"),
    [("msclap:2023", "ms", "clap.pth"), ("own.pth", "ms", "clap.pth"), ("own.pt", "laion", "clap.pt")],
)
def test_the_driver_takes_the_environment_of_the_model(tmp_path, model, environment, tuned):
    words = ["--filter_w_finetune", "yes", "--use_ast", "no", "--clap_model", model]
    by_script = dry_commands(tmp_path, *words)
    for script in ("finetune_clap.py", "filter_audios.py", "heads.py"):
        assert by_script[script][0] == str(tmp_path / environment / "bin/python")
    heard = by_script["filter_audios.py"]
    assert heard[heard.index("--model") + 1].endswith(f"/clap_finetuned/{tuned}")


@pytest.mark.parametrize(
    ("model", "environment"), [("own.pth", "ms"), ("own.pt", "laion"), ("laion/larger_clap_general", "laion")]
)
def test_heads_have_the_environment_of_their_own_clap(tmp_path, model, environment):
    """Beside a filter of another library; clap_env is for a model of transformers too, once it is named."""
    other = "own.pth" if environment == "laion" else "own.pt"
    by_script = dry_commands(tmp_path, "--clap_model", other, "--probe_clap_model", model)
    python, options = by_script["heads.py"][0], by_script["heads.py"]
    assert python == str(tmp_path / environment / "bin/python") != by_script["filter_audios.py"][0]
    assert Path(options[options.index("--clap_model") + 1]).name == Path(model).name


def dry_commands(folder: Path, *words) -> dict[str, list[str]]:
    """Script -> the words of the last command that runs it, with an environment for each library."""
    for name in ("ms", "laion"):
        (folder / name / "bin").mkdir(parents=True)
        (folder / name / "bin/python").touch(mode=0o755)
    for name in ("own.pth", "own.pt"):
        (folder / name).touch()
    done = run_driver(folder, "--clap_env", "laion", "--msclap_env", "ms", *words, "--dry_run")
    assert done.returncode == 0, done.stderr
    commands = [line.split() for line in done.stdout.splitlines() if line.startswith("    /")]
    return {Path(words[1]).name: words for words in commands}


def test_the_driver_refuses_a_checkpoint_that_is_not_there(tmp_path):
    done = run_driver(tmp_path, "--clap_model", "weights/gone.pt", "--dry_run")
    assert done.returncode == 2 and "no such model file: weights/gone.pt" in done.stderr


def run_driver(folder: Path, *words) -> subprocess.CompletedProcess:
    return subprocess.run(["sh", ROOT / "run.sh", *words], cwd=folder, capture_output=True, text=True, check=False)


# With the libraries


@pytest.fixture(scope="module")
def python():
    """The Python that has laion_clap and msclap."""
    return own_python("clap")


def save_clips(folder: Path) -> None:
    """A long stereo clip, a short one and one of 10 s; split.csv has them all, with labels."""
    import soundfile

    rng = np.random.default_rng(0)
    (folder / "clips").mkdir()
    rows = []
    for number, (seconds, channels, rate) in enumerate([(12.5, 2, 44100), (3, 1, 16000), (10, 1, 48000)]):
        time_s = np.arange(int(seconds * rate)) / rate
        tone = 0.3 * np.sin(2 * np.pi * (300 + 500 * number) * time_s * (1 + time_s / 20))
        audio = tone[:, None] * [1, 0.2][:channels] + 0.05 * rng.normal(size=(len(time_s), channels))
        soundfile.write(folder / f"clips/{number}.wav", audio, rate)
        rows.append({"path": f"clips/{number}.wav", "label": ["dog_bark", "siren"][number % 2]})
    write_rows(folder / "split.csv", rows)


def call(python, world: Path, *words) -> str:
    """Run a script with the libraries' Python, offline; returns what it said on stderr."""
    environment = {**os.environ, "HF_HUB_CACHE": str(world / "hub"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    done = subprocess.run(
        [python, *map(str, words)], env=environment, capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.fixture(scope="module")
def world(python, tmp_path_factory):
    """Checkpoints in the libraries' formats, a hub cache, clips, and theirs.npz; a gigabyte, removed afterwards."""
    folder = tmp_path_factory.mktemp("clap")
    save_clips(folder)
    call(python, folder, ROOT / "tests/programs/clap_library.py", "make", folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def heard(python, world):
    call(python, world, ROOT / "tests/programs/clap_library.py", "hear", world)
    with np.load(world / "theirs.npz") as theirs, np.load(world / "ours.npz") as ours:
        return dict(theirs), dict(ours)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_scores_are_the_librarys_own_on_the_same_windows(heard, name):
    theirs, ours = heard
    for part, found in (("audio", f"{name}_audio0"), ("text", f"{name}_text"), ("scale", f"{name}_scale")):
        np.testing.assert_allclose(ours[found], theirs[f"{name}_{part}"], atol=1e-4, rtol=1e-4)
    expected = theirs[f"{name}_audio"] @ theirs[f"{name}_text"].T
    np.testing.assert_allclose(ours[f"{name}_audio0"] @ ours[f"{name}_text"].T, expected, atol=1e-4)
    assert np.ptp(expected, axis=0).min() > 1e-3  # the clips differ by more than what is tolerated
    assert ours[f"{name}_scale"] == pytest.approx(math.exp(3), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_stereo_and_long_clips_get_one_score(heard, name):
    _, ours = heard
    assert (ours[f"{name}_audio0"] == ours[f"{name}_audio1"]).all()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "model"), [("tiny", "{}/tiny.pt"), ("ms2023", "msclap:2023")])
def test_the_filter_runs(heard, python, world, tmp_path, name, model):
    theirs, _ = heard
    outputs = ["--kept_csv", tmp_path / "kept.csv", "--rejected_csv", tmp_path / "rejected.csv"]
    options = ["--model", model.format(world), "--threshold", 0, "--duplicate_cosine", 1]
    options += ["--input_csv", world / "split.csv"]
    said = call(python, world, ROOT / "filter_audios.py", *outputs, *options)
    assert "kept 3 of 3" in said
    texts = theirs[f"{name}_text"][[0, 1, 0]]  # the labels of split.csv
    expected = (theirs[f"{name}_audio"] * texts).sum(axis=1)
    kept = rows_of(tmp_path / "kept.csv")
    np.testing.assert_allclose([float(row["clap_score"]) for row in kept], expected, atol=1e-4)
    chances = 1 / (1 + np.exp(-math.exp(3) * expected))
    np.testing.assert_allclose([float(row["clap_probability"]) for row in kept], chances, atol=1e-3)


LACKING = [
    ("tiny", "audio_projection.2.bias", "lacks 1 weights of laion_clap's HTSAT-tiny: audio_projection"),
    ("tiny", "audio_branch.patch_embed.proj.weight", "no checkpoint of laion_clap with an HTSAT"),
    ("ms2023", "caption_encoder.base.wte.weight", "lacks 1 weights of msclap 2023: caption_encoder"),
    ("ms2023", "audio_encoder.base.htsat.patch_embed.proj.weight", "no checkpoint of msclap"),
]


@pytest.mark.slow
def test_what_is_refused(python, world, tmp_path):
    """Checkpoints without one of their tensors, an unknown version, and one that is not in the cache."""
    paths = []
    for number, (name, key, _) in enumerate(LACKING):
        content = checkpoint_file.read_checkpoint(world / MODELS[name])
        state = checkpoint_file.state_dict_of(content, "model" if name == "ms2023" else "state_dict", tmp_path)
        paths.append(tmp_path / f"{number}{Path(MODELS[name]).suffix}")
        torch.save({k: v for k, v in state.items() if k != key}, paths[-1])
    said = refusals(python, world, *paths, "msclap:2024", "msclap:2022")
    for path in paths:
        path.unlink()
    expected = [reason for _, _, reason in LACKING]
    expected += ["give msclap:2022 or msclap:2023", "CLAP model 'msclap:2022' could not be downloaded: "]
    assert [bool(re.search(*pair)) for pair in zip(expected, said, strict=True)] == [True] * 6, said


@pytest.mark.slow
def test_an_empty_cache(python, world, tmp_path):
    (said,) = refusals(python, tmp_path, world / "tiny.pt")
    assert said.startswith("text model 'roberta-base': ")


def refusals(python, folder: Path, *models) -> list[str]:
    call(python, folder, ROOT / "tests/programs/clap_library.py", "refuse", folder, *models)
    return json.loads((folder / "refusals.json").read_text())


@pytest.mark.slow
def test_heads_on_laion_clap_beside_ast(python, world, tmp_path):
    save_tiny_ast(tmp_path / "ast")
    csvs = [word for split in ("train", "valid", "test") for word in (f"--{split}_csv", world / "split.csv")]
    models = ["--clap_model", world / "tiny.pt", "--ast_model", tmp_path / "ast", "--device", "cpu"]
    call(python, world, ROOT / "ast/heads.py", *csvs, *models, "--output_folder", tmp_path / "heads")
    for head in ("probe", "zero_shot", "fusion"):
        assert len(rows_of(tmp_path / "heads" / head / "predictions.csv")) == 3


def finetune_words(world: Path, model: Path, folder: Path) -> list:
    csvs = ["--train_csv", world / "split.csv", "--valid_csv", world / "split.csv"]
    sizes = ["--num_steps", 4, "--eval_every", 2, "--batch_size", 2, "--learning_rate", 1e-4, "--device", "cpu"]
    return [ROOT / "extras/finetune_clap.py", *csvs, "--model", model, "--output_folder", folder, *sizes]


@pytest.mark.slow
def test_fine_tuned_laion_clap_is_a_checkpoint_of_the_library(python, world, tmp_path):
    call(python, world, *finetune_words(world, world / "tiny.pt", tmp_path / "tuned"))
    losses = [float(row["valid_loss"]) for row in rows_of(tmp_path / "tuned_history.csv")]
    assert min(losses) < losses[0] - 0.05
    tuned, before = (
        checkpoint_file.read_checkpoint(path)["state_dict"] for path in (tmp_path / "tuned/clap.pt", world / "tiny.pt")
    )
    assert tuned.keys() == before.keys()
    same = [key for key in tuned if torch.equal(tuned[key], before[key])]
    for fixed in ("logit_scale_a", "spectrogram_extractor.stft.conv_real.weight", "logmel_extractor.melW"):
        assert any(fixed in key for key in same)
    assert "module.audio_branch.patch_embed.proj.weight" not in same
    call(python, world, ROOT / "tests/programs/clap_library.py", "load", world, tmp_path / "tuned/clap.pt")
    csvs = ["--input_csv", world / "split.csv", "--kept_csv", tmp_path / "k.csv", "--rejected_csv", tmp_path / "r.csv"]
    options = ["--model", tmp_path / "tuned/clap.pt", "--threshold", 0, "--duplicate_cosine", 1]
    call(python, world, ROOT / "filter_audios.py", *csvs, *options)
    with np.load(world / "loaded.npz") as loaded:
        expected = (loaded["audio"] * loaded["text"][[0, 1, 0]]).sum(axis=1)
    scores = [float(row["clap_score"]) for row in rows_of(tmp_path / "k.csv")]
    np.testing.assert_allclose(scores, expected, atol=1e-4)
