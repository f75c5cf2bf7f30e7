"""Which backend a model has, and what is said where its library is missing."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from synthio.cli import UserError
from synthio.models.adapters import make_trainable, write_adapter
from synthio.models.base import Sampling
from synthio.models.load import backend_of, load_scorer, load_text_to_audio, scorer_backend_of
from tests.programs import small_tools_model
from tests.scripts import ROOT
from tests.tiny_models import save_text_to_audio


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


@pytest.fixture
def few_steps(tmp_path):
    """A model with weights for few steps beside its own, the other sign of them."""
    folder = save_text_to_audio(tmp_path / "flow")
    (folder / "distilled").mkdir()
    (folder / "distilled/config.json").write_bytes((folder / "transformer/config.json").read_bytes())
    name = "diffusion_pytorch_model.safetensors"
    save_file({k: -v for k, v in load_file(folder / "transformer" / name).items()}, folder / "distilled" / name)
    said = {"sampler": "euler", "num_steps": 5, "cfg_scale": 1.0}
    (folder / "distilled/sampling.json").write_text(json.dumps(said))
    return folder


def test_distilled_weights_are_loaded_where_they_are_asked_for(few_steps):
    own, other = load_text_to_audio(str(few_steps)), load_text_to_audio(str(few_steps), distilled=True)
    assert (own.distilled, own.sampling) == (False, None)
    assert (other.distilled, other.sampling) == (True, Sampling("euler", 5, 1.0))
    parts = zip(own.module.parameters(), other.module.parameters(), strict=True)
    assert all(torch.equal(a, -b) for a, b in parts)


def test_a_model_without_distilled_weights_says_so(tmp_path):
    folder = save_text_to_audio(tmp_path / "flow")
    with pytest.raises(UserError, match=r"has no distilled weights .a folder 'distilled'.; set distilled=auto"):
        load_text_to_audio(str(folder), distilled=True)


def test_an_adapter_of_all_weights_is_none_for_distilled_ones(few_steps, tmp_path):
    model = load_text_to_audio(str(few_steps))
    write_adapter(make_trainable(model, "all"), tmp_path / "adapter")
    with pytest.raises(UserError, match=r"adapter holds every weight, .*; set distilled=auto"):
        load_text_to_audio(str(few_steps), str(tmp_path / "adapter"), distilled=True)


def test_a_lora_of_the_own_weights_is_played_on_the_distilled_ones(few_steps, tmp_path):
    trainable = make_trainable(load_text_to_audio(str(few_steps)), "lora", lora_rank=2)
    with torch.no_grad():
        for parameter in trainable.parameters.values():
            parameter.fill_(0.1)
    write_adapter(trainable, tmp_path / "adapter")
    both = load_text_to_audio(str(few_steps), str(tmp_path / "adapter"), distilled=True)
    name = "transformer_blocks.0.attn1.to_q"
    wanted = load_text_to_audio(str(few_steps), distilled=True).module.get_submodule(name).weight + 2 * 0.1 * 0.1
    torch.testing.assert_close(both.module.merge_and_unload().get_submodule(name).weight, wanted)


@pytest.mark.parametrize(
    ("said", "error"),
    [({"sampler": "euler", "num_steps": 5}, "does not say cfg_scale"), ({"num_steps": "x"}, "num_steps is 'x'")],
)
def test_a_damaged_sampling_json_is_named(few_steps, said, error):
    whole = said if "sampler" in said else {"sampler": "euler", "cfg_scale": 1.0} | said
    (few_steps / "distilled/sampling.json").write_text(json.dumps(whole))
    with pytest.raises(UserError, match=rf"sampling\.json.*{error}"):
        load_text_to_audio(str(few_steps), distilled=True)
