"""Which backend a model has, and what is said where its library is missing."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from safetensors.torch import save_file

from synthio.cli import UserError
from synthio.models.load import backend_of, load_scorer, load_text_to_audio, scorer_backend_of
from tests.programs import small_tools_model
from tests.scripts import ROOT


# Names and files; no library is needed
def test_the_library_is_told_by_the_name(tmp_path):
    (tmp_path / "folder.pt").mkdir()
    names = {
        "laion/clap-htsat-unfused": "transformers",
        str(tmp_path / "folder.pt"): "transformers",
        "weights/630k-audioset-best.pt": "laion_clap",
        "msclap:2023": "msclap",
        "CLAP_weights_2022.pth": "msclap",
    }
    assert {name: scorer_backend_of(name) for name in names} == names


@pytest.mark.parametrize(("name", "library"), [("x.pt", "laion_clap"), ("msclap:2023", "msclap")])
def test_a_missing_library_is_named_with_its_environment(name, library):
    if importlib.util.find_spec(library):
        pytest.skip(f"{library} is installed here")
    with pytest.raises(
        UserError, match=rf"'{name}' needs {library}.*make_env\.sh \.envs/clap extras/environments/clap\.txt.*clap_env"
    ):
        load_scorer(name)


@pytest.mark.parametrize(
    ("model", "backend"),
    [
        ("stabilityai/stable-audio-open-1.0", "diffusers"),
        ("stabilityai/stable-audio-open-small", "stable_audio_tools"),
        ("sonalkum/synthio-stable-audio-open", "stable_audio_tools"),
        ("no such folder", "diffusers"),
        ("./absent/folder", "diffusers"),
        (str(ROOT / "extras/embedded/weights/text_to_audio"), "diffusers"),
    ],
)
def test_backend_of_names(model, backend):
    assert backend_of(model) == backend


@pytest.mark.parametrize(
    ("files", "backend"),
    [
        (["model_config.json", "model.ckpt"], "stable_audio_tools"),
        (["model_config.json", "model_index.json", "model.safetensors"], "diffusers"),
        (["model.ckpt"], "diffusers"),
    ],
)
def test_backend_of_files(tmp_path, files, backend):
    for name in files:
        (tmp_path / name).touch()
    assert backend_of(str(tmp_path)) == backend
    assert backend_of(str(tmp_path / files[-1])) == "stable_audio_tools"


def test_asking_for_the_backend_imports_nothing_heavy(run_script):
    code = (
        "import sys; from synthio.models.load import backend_of; print(backend_of('README.md'), 'torch' in sys.modules)"
    )
    assert run_script("-c", code).stdout.split() == ["diffusers", "False"]


def test_without_the_library_the_error_names_its_environment(tmp_path):
    (tmp_path / "model_config.json").write_text(json.dumps(small_tools_model.config_of("v")))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"make_env\.sh .envs/stable_audio extras/environments/stable_audio\.txt"):
        load_text_to_audio(str(tmp_path))
