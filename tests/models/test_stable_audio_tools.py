"""Models of stable-audio-tools: equal to the library's own results, however their checkpoints are wrapped."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from synthio.cli import UserError
from synthio.models import tools_checkpoint
from synthio.models.load import backend_of, load_text_to_audio
from tests import small_tools_model
from tests.scripts import call_script, own_python

ROOT = Path(__file__).resolve().parent.parent.parent
CONVERT = ROOT / "stable-audio-tools/convert_checkpoint.py"
WRAPPINGS = ["v", "v_ckpt", "v_lightning"]


# ---------------------------------------------------------------- which library a model is for


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


@pytest.fixture
def hub_cache(tmp_path, monkeypatch) -> Path:
    """The cached snapshot of the hub id me/mine; there is no network."""
    snapshot = tmp_path / "models--me--mine/snapshots/abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--me--mine/refs").mkdir()
    (tmp_path / "models--me--mine/refs/main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return snapshot


def test_a_downloaded_hub_id_is_told_by_its_files(hub_cache):
    (hub_cache / "model_config.json").touch()
    assert backend_of("me/mine") == "stable_audio_tools"
    (hub_cache / "own name.ckpt").touch()
    found = tools_checkpoint.find_model("me/mine")
    assert found == (hub_cache / "model_config.json", hub_cache / "own name.ckpt")


def test_a_hub_id_that_cannot_be_had(hub_cache):
    assert backend_of("me/absent") == "diffusers"
    with pytest.raises(UserError, match=r"'me/absent' is no local file or folder .*HF_TOKEN"):
        tools_checkpoint.find_model("me/absent")


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


# ---------------------------------------------------------------- files and wrappings


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["model_config.json", "model.safetensors", "model.ckpt", "base_model.ckpt"], "model.safetensors"),
        (["model_config.json", "base_model.ckpt", "model.ckpt"], "model.ckpt"),
        (["model_config.json", "epoch=3.ckpt", "README.md"], "epoch=3.ckpt"),
    ],
)
def test_the_checkpoint_of_several_files(names, chosen):
    assert tools_checkpoint.choose_checkpoint(names, "x") == chosen


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["model.ckpt"], "no model_config.json"),
        (["model_config.json"], "has no checkpoint"),
        (["model_config.json", "b.ckpt", "a.ckpt"], r"several checkpoints \(a\.ckpt, b\.ckpt\); name one"),
    ],
)
def test_files_that_leave_no_choice(tmp_path, names, reason):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=reason):
        tools_checkpoint.find_model(str(tmp_path))


def test_a_checkpoint_without_its_config(tmp_path):
    (tmp_path / "a.ckpt").touch()
    with pytest.raises(UserError, match=r"a\.ckpt: has no model_config\.json beside it"):
        tools_checkpoint.find_model(str(tmp_path / "a.ckpt"))
    for name in ("model_config.json", "a_config.json"):  # the second one is the checkpoint's own
        (tmp_path / name).touch()
        assert tools_checkpoint.find_model(str(tmp_path / "a.ckpt")) == (tmp_path / name, tmp_path / "a.ckpt")


def weights() -> dict[str, torch.Tensor]:
    return {"model.model.x": torch.arange(3.0), "pretransform.y": torch.ones(2, 2)}


def test_lightnings_average_is_taken_and_what_serves_training_is_not(tmp_path):
    training = {"discriminator.z": torch.zeros(1), "losses.losses.0.weight": torch.zeros(1)}
    wrapped = small_tools_model.lightning(weights())
    wrapped["state_dict"] |= training
    torch.save(wrapped, tmp_path / "a.ckpt")
    state = tools_checkpoint.read_state(tmp_path / "a.ckpt")
    assert {key: value.tolist() for key, value in state.items()} == {k: v.tolist() for k, v in weights().items()}


def test_lightning_without_an_average(tmp_path):
    torch.save({"state_dict": {f"diffusion.{k}": v for k, v in weights().items()}}, tmp_path / "a.ckpt")
    assert set(tools_checkpoint.read_state(tmp_path / "a.ckpt")) == set(weights())


@pytest.mark.parametrize(
    ("key", "reason"),
    [("autoencoder.x", "one that is known here: autoencoder.x"), ("diffusion_ema.ema_model.new", "model.new")],
)
def test_what_is_neither_model_nor_training_is_refused(tmp_path, key, reason):
    wrapped = small_tools_model.lightning(weights())
    wrapped["state_dict"][key] = torch.zeros(1)
    torch.save(wrapped, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=reason):
        tools_checkpoint.read_state(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.ckpt", b"no weights", "not a checkpoint of plain tensors"),
        ("a.safetensors", b"no weights", "not a whole safetensors file"),
        ("a.ckpt", {"state_dict": {"x": 3}}, "no state dict"),
        ("a.ckpt", [1, 2], "no state dict"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path, name, content, reason):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        torch.save(content, tmp_path / name)
    with pytest.raises(UserError, match=reason):
        tools_checkpoint.read_state(tmp_path / name)


def test_prefixes_are_split_off(tmp_path):
    state = small_tools_model.prefix_state()
    rest, prefixes = tools_checkpoint.split_prefixes(weights() | state, tmp_path)
    assert set(rest) == set(weights())
    assert (
        set(prefixes.tokens)
        == set(prefixes.gates)
        == {f"{i}.{kind}_attn" for i in (0, 1) for kind in ("self", "cross")}
    )
    key = "model.model.transformer.layers.1.cross_attn"
    assert torch.equal(prefixes.tokens["1.cross_attn"], state[f"{key}.adapter_wte.weight"])
    assert prefixes.gates["1.cross_attn"].tolist() == state[f"{key}.gating_factor"].flatten().tolist()
    assert tools_checkpoint.split_prefixes(weights(), tmp_path)[1] is None
    del state[f"{key}.gating_factor"]
    with pytest.raises(UserError, match=r"lack tokens or gate in 1\.cross_attn"):
        tools_checkpoint.split_prefixes(state, tmp_path)


# ---------------------------------------------------------------- checkpoints with pickled code


class Callback:
    """An object whose reading runs code."""

    def __reduce__(self):
        return os.mkdir, ("code-was-run",)


def save_training(folder: Path, **objects) -> Path:
    """A Lightning checkpoint that holds objects beside its tensors."""
    parameters = {"hyper_parameters": argparse.Namespace(lr=1e-4, path=Path("x"), seeds=[1, 2])}
    torch.save(small_tools_model.lightning(weights()) | parameters | objects, folder / "a.ckpt")
    (folder / "model_config.json").write_text('{"sample_size": 1}')
    return folder / "a.ckpt"


def test_pickled_objects_are_refused_with_the_way_out(tmp_path):
    with pytest.raises(
        UserError, match=r"argparse\..*never run; take its tensors out: python .*convert_checkpoint\.py"
    ):
        tools_checkpoint.read_state(save_training(tmp_path))


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


# ---------------------------------------------------------------- the library's own results


@pytest.fixture(scope="module")
def tools_python():
    """call(*words) -> what a program printed, in the environment of stable-audio-tools."""
    python = own_python("stable_audio")

    def call(*words, status: int = 0) -> subprocess.CompletedProcess:
        command, environment = [python, *map(str, words)], {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        return done

    return call


@pytest.fixture(scope="module")
def models(tools_python, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tools models")
    tools_python(small_tools_model.__file__, "make", folder)
    return folder


@pytest.fixture(scope="module")
def found(tools_python, models) -> dict:
    return json.loads(tools_python(small_tools_model.__file__, "compare", models).stdout)


@pytest.mark.slow
@pytest.mark.parametrize("model", [*WRAPPINGS, "rectified_flow", "rf_denoiser"])
def test_every_part_equals_the_librarys(found, model):
    result = found[model]
    assert max(result[name] for name in ("velocity", "encode", "decode", "padding")) < 1e-5
    assert result["velocity_size"] > 1 and result["without_condition"] > 0.01
    assert result["velocity_with_t5_in_half"] < 1e-3  # the library's own precision of the text encoder
    assert result["objective"] == ("v" if model in WRAPPINGS else "rectified_flow")
    assert result["distilled"] == (model == "rf_denoiser")
    assert (result["name"], result["shape"], result["channels"]) == (model, [8, 40], 2)
    assert result["max_seconds"] == 40 * 512 / 16000


@pytest.mark.slow
def test_in_half_precision_the_transformer_alone_rounds(found):
    """bfloat16 has 8 bits; of a velocity of size 1, some of them are lost in two layers."""
    assert 1e-4 < found["bfloat16"]["velocity"] < 0.05 * found["bfloat16"]["size"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("v", "samples"),
        ("v", "samples_from_init"),
        *((flow, sampler) for flow in ("rectified_flow", "rf_denoiser") for sampler in ("samples", "pingpong")),
    ],
)
def test_samples_equal_the_librarys_with_the_same_noise(found, model, name):
    assert found[model][name] < 1e-4 and found[model]["samples_size"] > 1


@pytest.mark.slow
def test_prefixes_of_a_checkpoint_do_what_their_formula_says(found):
    assert found["prefixes"]["velocity"] < 1e-5 and found["prefixes"]["disabled"] < 1e-6
    assert found["prefixes"]["effect"] > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora", "prefix", "all"])
@pytest.mark.parametrize("model", ["v", "v_prefixes", "rf_denoiser"])
def test_adapters_start_at_the_model_and_load_as_trained(found, model, kind):
    result = found[f"{model} {kind}"]
    assert result["start"] == 0 and result["reference"] < 1e-6
    assert result["effect"] > 0.01 and result["loaded"] < 1e-6


# ---------------------------------------------------------------- published sizes


def published_configs() -> dict[str, dict]:
    """Stable Audio Open 1.0 and Small, and Synthio's, by their published sizes; 44.1 kHz stereo."""
    oobleck = {"channels": 128, "c_mults": [1, 2, 4, 8, 16], "strides": [2, 4, 4, 8, 8], "use_snake": True}
    configs = {}
    for name in ("1.0", "small", "synthio"):
        config = small_tools_model.config_of("rf_denoiser" if name == "small" else "v")
        coders = config["model"]["pretransform"]["config"]
        coders["encoder"]["config"] = {**oobleck, "in_channels": 2, "latent_dim": 128}
        coders["decoder"]["config"] = {**oobleck, "out_channels": 2, "latent_dim": 64, "final_tanh": False}
        coders |= {"latent_dim": 64, "downsampling_ratio": 2048}
        config["model"]["conditioning"]["cond_dim"] = 768
        sizes = {"embed_dim": 1536, "depth": 24, "num_heads": 24, "global_cond_dim": 1536}
        if name == "small":
            sizes = {"embed_dim": 1024, "depth": 16, "num_heads": 8, "global_cond_dim": 768}
        config["model"]["diffusion"]["config"] |= {"io_channels": 64, "cond_token_dim": 768, **sizes}
        config["model"]["diffusion"]["config"] |= {"adapter_present": True} if name == "synthio" else {}
        config |= {"sample_rate": 44100, "sample_size": {"1.0": 2097152, "small": 524288, "synthio": 441000}[name]}
        config["model"]["io_channels"] = 64
        configs[name] = config
    return configs


@pytest.mark.slow
def test_published_configs_have_the_published_sizes(tools_python, tmp_path):
    """In millions: 1057 and 156 for Open 1.0 (its paper), 341 for the transformer of Small; prefixes by arithmetic."""
    (tmp_path / "configs.json").write_text(json.dumps(published_configs()))
    counts = json.loads(tools_python(small_tools_model.__file__, "published", tmp_path / "configs.json").stdout)
    assert {name: round(count["dit"] / 1e6) for name, count in counts.items()} == {
        "1.0": 1057,
        "small": 341,
        "synthio": 1057,
    }
    assert {round(count["autoencoder"] / 1e6) for count in counts.values()} == {156}
    assert counts["synthio"]["prefixes"] == 24 * (20 * (1536 + 768) + 2 * 24)


# ---------------------------------------------------------------- what is refused, and the scripts


@pytest.mark.slow
def test_what_does_not_fit_is_refused_by_name(tools_python, models, tmp_path):
    state = load_file(models / "v/model.safetensors")
    config = json.loads((models / "v/model_config.json").read_text())
    config["model"]["conditioning"]["configs"][0]["config"]["t5_model_name"] = str(models / "text_encoder")
    inpaint = json.loads(json.dumps(config)) | {"model_type": "diffusion_cond_inpaint"}
    unbuilt, no_t5 = json.loads(json.dumps(config)), json.loads(json.dumps(config))
    unbuilt["model"]["diffusion"]["config"]["no_such_option"] = 1
    no_t5["model"]["conditioning"]["configs"][0]["config"]["t5_model_name"] = "absent"
    key = "model.model.transformer.layers.1.self_attn.to_out.weight"
    some_prefixes = {k: v for k, v in small_tools_model.prefix_state().items() if "layers.0" in k}
    cases = [
        (
            config,
            {k: v for k, v in state.items() if k != key},
            f"its model_config.json describes: {key}",
        ),
        (config, state | {"extra.key": torch.zeros(2)}, "no place for: extra.key"),
        (config, state | {key: torch.zeros(3, 4)}, f"another shape: {key} [3, 4] in place of [128, 128]"),
        (config, state | some_prefixes, "one a layer; 1.cross_attn, 1.self_attn"),
        (inpaint, state, "model_type: not what this backend is for"),
        (unbuilt, state, "no_such_option"),
        (no_t5, state, "'absent' is neither a T5 that the library knows nor a folder"),
    ]
    for i, (case, weights_, _) in enumerate(cases):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "model_config.json").write_text(json.dumps(case))
        save_file(weights_, tmp_path / str(i) / "model.safetensors")
    code = (
        "import sys\nfrom synthio.cli import UserError\nfrom synthio.models.load import load_text_to_audio\n"
        "for folder in sys.argv[1:]:\n    try: load_text_to_audio(folder); print('loaded')\n"
        "    except UserError as error: print(error)"
    )
    lines = tools_python("-c", code, *(tmp_path / str(i) for i in range(len(cases)))).stdout.splitlines()
    for line, (_, _, reason) in zip(lines, cases, strict=True):
        assert reason in line


@pytest.mark.slow
def test_generate_and_dpo_train_end_to_end(tools_python, models, make_wav, make_manifest, tmp_path):
    import pandas as pd
    import soundfile

    gold = [(make_wav(f"gold{i}.wav", seconds=0.5 + 0.2 * i, seed=i), "dog") for i in range(3)]
    gold_csv = make_manifest("gold.csv", gold)
    rows = [
        {"path": path, "label": label, "prompt": "sound of a dog", "seed": i} for i, (path, label) in enumerate(gold)
    ]
    prompts = make_manifest("prompts.csv", rows)

    def generate(name, model, *options):
        output = tmp_path / f"{name}.csv"
        places = ["--input_csv", prompts, "--output_csv", output, "--output_folder", tmp_path / name, "--device", "cpu"]
        done = tools_python("stable-audio-tools/generate.py", *places, "--model", model, *options)
        return done.stderr, pd.read_csv(output, dtype=str)

    _, losers = generate("losers", models / "v", "--num_steps", 6)
    for row in losers.to_dict("records"):
        audio, sample_rate = soundfile.read(tmp_path / row["path"])
        assert (
            sample_rate == 16000 and audio.shape == (round(float(row["duration_s"]) * 16000), 2) and audio.std() > 1e-4
        )
    adapter = tmp_path / "dpo/adapter"
    places = ["--gold_csv", gold_csv, "--losers_csv", tmp_path / "losers.csv", "--output_folder", adapter]
    options = ["--model", models / "v", "--num_steps", 3, "--batch_size", 2, "--learning_rate", 0.01]
    done = tools_python("dpo_train.py", *places, *options, "--warmup_steps", 0, "--lora_rank", 4, "--device", "cpu")
    assert "3 pairs, 3 steps" in done.stderr
    history = pd.read_csv(adapter.with_name("adapter_history.csv"))
    assert history["loss"][0] == pytest.approx(0.693147, abs=1e-5) and history["loss"].iloc[-1] != history["loss"][0]
    _, tuned = generate("tuned", models / "v", "--num_steps", 6, "--adapter", adapter, "--initialize_audio", "true")
    assert set(tuned["path"]).isdisjoint(losers["path"])
    said, _ = generate("few", models / "rf_denoiser/model.safetensors")
    assert "'num_steps': 8, 'cfg_scale': 1.0" in said and "'sampler': 'pingpong'" in said
