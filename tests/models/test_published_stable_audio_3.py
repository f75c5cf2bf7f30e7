"""Stable Audio 3 as it is published: converted once, whole or not at all, to the networks of its makers' library."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from synthio.cli import UserError
from synthio.models.load import backend_of, load_text_to_audio
from synthio.models.published_stable_audio_3 import CONFIG, WEIGHTS, place_of
from tests.hub_server import COMMIT, Repo, hub_server
from tests.models.pipelines import same_numbers
from tests.published_stable_audio_3 import HOP, PROMPTS, REFERENCE, SECONDS, asked, save_published
from tests.scripts import ROOT
from tests.toy_clips import GENERATE, save_noise

KINDS = ("small", "small-base", "medium")
LOAD = "import sys; from synthio.cli import run_main; from synthio.models.load import load_text_to_audio"
LOAD += "; run_main(lambda: load_text_to_audio(sys.argv[1]) and 0)"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """One folder of each kind in the published layout."""
    folder = tmp_path_factory.mktemp("published")
    for kind in KINDS:
        save_published(folder / kind, kind)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of this test's own."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "hf/synthio"


def converted(cache):
    """What lies in the cache, but for locks."""
    return sorted(path.name for path in cache.glob("*") if path.suffix != ".lock")


@pytest.mark.parametrize("kind", ["small", "medium"])
def test_the_networks_are_those_of_the_makers(published, kind):
    folder = published / kind
    assert backend_of(str(folder)) == "diffusers"
    model, given, theirs = load_text_to_audio(str(folder)), asked(), load_file(REFERENCE)
    with torch.no_grad():
        velocity = model.predict(given["latents"], given["times"], model.condition(PROMPTS, SECONDS))
    same_numbers(velocity, theirs[f"{kind}.velocity"], 5e-4)  # their norms add 1e-5 to a variance, diffusers' 1e-6
    same_numbers(model.encode(given["audio"]), theirs[f"{kind}.encoded"], 1e-5)
    same_numbers(model.decode(given["latents"][:1]), theirs[f"{kind}.decoded"], 1e-5)


@pytest.mark.parametrize(
    ("kind", "sampling", "step"),
    [("small", ("pingpong", 8, 1.0), 2), ("small-base", ("euler", 100, 7.0), 2), ("medium", ("euler", 100, 7.0), 1)],
)
def test_how_it_is_sampled_and_how_long_it_can_be(published, kind, sampling, step):
    model = load_text_to_audio(str(published / kind))
    own = model.sampling
    assert (own.sampler, own.num_steps, own.cfg_scale) == sampling and model.distilled == (kind == "small")
    assert model.max_seconds == pytest.approx(2.0, abs=2 * HOP / 16000)
    assert model.frames_for(5 * HOP / 16000) == 5 + (step == 2)


def test_it_is_converted_once_and_told_once(published, cache, capsys):
    load_text_to_audio(str(published / "small"))
    target = place_of(published / "small")
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    assert "converted once, about" in capsys.readouterr().err and converted(cache) == [target.name]
    load_text_to_audio(str(published / "small"))
    assert "converted" not in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == before


def test_a_disk_without_locks_is_told_of(published, cache, capsys, monkeypatch):
    def flock(*_):  # what such a disk of a network answers
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    load_text_to_audio(str(published / "small"))
    assert "this disk has no locks; do not convert in two processes" in capsys.readouterr().err
    assert converted(cache) == [place_of(published / "small").name]


def hub_of(folder: Path, **more) -> dict[str, Repo]:
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files |= {"svd_bases.pt": b"of training alone", "README.md": b"its card"}
    return {"some/three": Repo(files, **more)}


def test_one_command_downloads_converts_and_generates_and_the_next_needs_no_hub(published, tmp_path, cache, run_script):
    data = save_noise(tmp_path)
    known = {"HF_HOME": str(cache.parent), "HF_TOKEN": "", "HF_HUB_DISABLE_XET": "1"}

    def generate(name, **environment):
        out = tmp_path / name
        words = ["--input_csv", data / "prompts.csv", "--output_csv", out / "g.csv", "--output_folder", out / "wav"]
        done = run_script(GENERATE, *words, "--model", "some/three", "--num_steps", 2, env=known | environment)
        assert done.returncode == 0, done.stderr
        return done.stderr, {path.name: path.read_bytes() for path in (out / "wav").glob("*.wav")}

    with hub_server(hub_of(published / "small")) as address:
        said, first = generate("first", HF_ENDPOINT=address, HF_HUB_OFFLINE="0")
    assert "some/three: converted once" in said and converted(cache) == [f"some--three-{COMMIT[:12]}-1"]
    assert not list(cache.parent.rglob("svd_bases.pt")), "it is not needed"
    said, second = generate("second", HF_HUB_OFFLINE="1")
    assert "converted" not in said and len(first) == 7 and first == second


@pytest.mark.slow
def test_a_kill_half_way_leaves_nothing_that_counts(published, cache, run_script):
    kill = "import os; from synthio.models import published_stable_audio_3 as three"
    kill += "; three.Published._save_text_encoder = lambda *_: os.kill(os.getpid(), 9)"
    done = run_script("-c", f"{kill}; {LOAD}", published / "small")
    assert done.returncode == -signal.SIGKILL
    (left,) = converted(cache)
    assert left.startswith(".") and (cache / left / "vae/config.json").is_file(), "it had begun"
    done = run_script("-c", LOAD, published / "small")
    assert done.returncode == 0 and converted(cache) == [place_of(published / "small").name], done.stderr


@pytest.mark.slow
def test_of_two_that_want_it_at_once_one_makes_it(published, cache):
    command = [sys.executable, "-c", LOAD, str(published / "medium")]
    both = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("converted once" in text for text in said) == 1 and len(converted(cache)) == 1


def test_a_disk_without_room_is_told_in_one_line(published, cache):
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # noqa: E731
    heeded = f"import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); {LOAD}"
    command = [sys.executable, "-c", heeded, published / "small"]
    done = subprocess.run(command, cwd=ROOT, preexec_fn=limit, capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert done.returncode and len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    assert "the file would be larger than is allowed" in lines[0] and converted(cache) == []


@pytest.mark.parametrize(
    ("model", "environment", "said"),
    [
        ("some/three", {}, r"gated (401); accept its licence at {hub}/some/three, put a token in HF_TOKEN"),
        (
            "some/three",
            {"HF_TOKEN": "hf_other"},
            "your token has no access (403); accept the licence at {hub}/some/three",
        ),
        ("some/absent", {}, "no such model, or a private one (needs HF_TOKEN); look at {hub}/some/absent"),
        ("some/three@v9", {"HF_TOKEN": "good"}, "it has no revision 'v9'; look at its page"),
        ("some/three", {"HF_HUB_OFFLINE": "1"}, "not in the cache, and {hub} is out of reach; go online once"),
    ],
)
def test_why_the_hub_gives_nothing(published, cache, run_script, model, environment, said):
    known = {"HF_HOME": str(cache.parent), "HF_TOKEN": "", "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    with hub_server(hub_of(published / "small", gated=True, accepted=("good",))) as address:
        done = run_script("-c", LOAD, model, env=known | {"HF_ENDPOINT": address} | environment)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert done.returncode == 2 and len(errors) == 1, done.stderr
    assert errors[0].endswith(f"on the hub: {said.format(hub=address)}"), errors
    assert "Traceback" not in done.stderr and not cache.exists()


def changed(folder: Path, out: Path, path: str, value: object) -> Path:
    """A copy whose config says something else."""
    shutil.copytree(folder, out)
    config = json.loads((out / CONFIG).read_text())
    *parents, name = path.split(".")
    place = config
    for parent in parents:
        place = place[parent]
    place[name] = value
    (out / CONFIG).write_text(json.dumps(config))
    return out


@pytest.mark.parametrize(
    ("kind", "path", "value", "said"),
    [
        ("small", "model.diffusion.config.timestep_features_logsnr", True, "timestep_features_logsnr is true"),
        ("small", "model.diffusion.diffusion_objective", "v", 'diffusion_objective is "v"'),
        ("small", "model.pretransform.config.decoder.soft_clip", True, "soft_clip is true"),
        (
            "small",
            "model.pretransform.config.decoder.config.chunk_size",
            8,
            "chunk_size differs between encoder and dec",
        ),
        ("medium", "model.pretransform.config.decoder.config.conv_mapping", True, "sliding_window of [1, 1]"),
        ("medium", "model.pretransform.config.decoder.config.sliding_window", [1, 2], "sliding_window differs"),
        ("small", "model.conditioning.configs", [], "no conditioner 'seconds_total'"),
        ("small", "model.diffusion.config.attn_kwargs.qk_norm", "ln", 'qk_norm is "ln"'),
    ],
)
def test_what_these_networks_do_not_do_is_refused(published, tmp_path, cache, kind, path, value, said):
    folder = changed(published / kind, tmp_path / "other", path, value)
    with pytest.raises(UserError) as refused:
        load_text_to_audio(str(folder))
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert converted(cache) == []


@pytest.mark.parametrize(
    ("drop", "add", "said"),
    [
        ("model.model.transformer.memory_tokens", "", "lacks 1 weights of the transformer: memory_tokens"),
        ("pretransform.model.encoder.layers.2.bias", "", "lacks 1 weights of the vae: encoder.proj.bias"),
        ("conditioner.conditioners.seconds_total.embedder.embedding.1.bias", "", "lacks 1 weights of the duration"),
        (
            "",
            "pretransform.model.pretransform.postfilter.0.bias",
            "1 weights that the vae has no place for: pretransform",
        ),
        ("", "conditioner.conditioners.prompt.proj_out.bias", "1 weights that Stable Audio 3 has no place for: cond"),
    ],
)
def test_every_weight_has_its_place_and_every_place_its_weight(published, tmp_path, cache, drop, add, said):
    shutil.copytree(published / "small", tmp_path / "other")
    weights = load_file(tmp_path / "other" / WEIGHTS)
    weights.pop(drop, None)
    if add:
        weights[add] = torch.ones(2)
    save_file(weights, tmp_path / "other" / WEIGHTS)
    with pytest.raises(UserError, match=r"model.safetensors: (lacks|has)") as refused:
        load_text_to_audio(str(tmp_path / "other"))
    assert said in str(refused.value) and converted(cache) == []


@pytest.mark.parametrize("name", [WEIGHTS, "t5gemma-b-b-ul2/model.safetensors"])
def test_half_a_file_is_refused(published, tmp_path, cache, name):
    shutil.copytree(published / "small", tmp_path / "other")
    os.truncate(tmp_path / "other" / name, 5000)
    with pytest.raises(UserError) as refused:
        load_text_to_audio(str(tmp_path / "other"))
    assert "\n" not in str(refused.value) and converted(cache) == []


def test_a_trained_text_encoder_in_the_checkpoint_counts(published, tmp_path):
    shutil.copytree(published / "small", tmp_path / "other")
    own = load_text_to_audio(str(published / "small"))
    trained = {name: tensor + 0.1 for name, tensor in own.text_encoder.state_dict().items()}
    weights = load_file(tmp_path / "other" / WEIGHTS)
    start = "conditioner.conditioners.prompt.model."
    save_file(weights | {f"{start}{name}": tensor for name, tensor in trained.items()}, tmp_path / "other" / WEIGHTS)
    model = load_text_to_audio(str(tmp_path / "other"))
    found = model.text_encoder.state_dict()
    assert found.keys() == trained.keys() and all(torch.equal(found[name], trained[name]) for name in found)


def test_code_beside_the_text_encoder_is_not_run(published, tmp_path, run_script):
    shutil.copytree(published / "small", tmp_path / "other")
    inner = tmp_path / "other/t5gemma-b-b-ul2"
    (inner / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    for name, auto in (("config.json", "AutoConfig"), ("tokenizer_config.json", "AutoTokenizer")):
        said = json.loads((inner / name).read_text())
        value = ["evil.Evil", None] if auto == "AutoTokenizer" else "evil.Evil"
        (inner / name).write_text(json.dumps(said | {"auto_map": {auto: value}}))
    done = run_script("-c", LOAD, tmp_path / "other")
    assert done.returncode == 0 and not (tmp_path / "ran").exists(), done.stderr
