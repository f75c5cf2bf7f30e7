"""Which environment a model needs: one rule, asked by the driver and kept by the stages that load."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from synthio.pipeline.environments import answer
from tests.hub_server import Repo, hub_server
from tests.scripts import copy_driver

ROOT = Path(__file__).resolve().parent.parent.parent
SHELL = shutil.which("dash") or "sh"
TOOLS, DIFFUSERS = {"model_config.json": 9, "model.ckpt": 99}, {"model_config.json": 9, "model_index.json": 9}


@pytest.fixture(scope="module")
def hub():
    """Address of a hub with a model for each library, one of them gated."""
    repos = {"me/tools": Repo(TOOLS), "me/both": Repo(DIFFUSERS), "me/gated": Repo(TOOLS, gated=True)}
    with hub_server(repos) as address:
        yield address


def clean(**more: str) -> dict[str, str]:
    """Variables of this process without those of the hub's client."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | more


def ask(*words: str, python=(sys.executable,), named=(), **more: str) -> list[str]:
    """The lines that `python -m synthio.pipeline.environments` prints for a step with each of these models."""
    command = [*python, "-m", "synthio.pipeline.environments", "--named", *named]
    steps = "".join(f"0\ts{i}\t{shlex.quote(word)}\t\t\tx.py\n" for i, word in enumerate(words))
    environment = clean(PYTHONPATH=str(ROOT), **more)
    done = subprocess.run(command, env=environment, input=steps, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("variable", "model", "told"),
    [
        ("text_to_audio_model", "stabilityai/stable-audio-open-1.0", ("main", "stable_audio_env")),
        ("text_to_audio_model", "stabilityai/stable-audio-3-small-sfx-base", ("main", "stable_audio_env")),
        ("text_to_audio_model", "stabilityai/stable-audio-open-small", ("stable_audio", "stable_audio_env")),
        ("text_to_audio_model", "{}/tools", ("stable_audio", "stable_audio_env")),
        ("text_to_audio_model", "{}/tools/model.ckpt", ("stable_audio", "stable_audio_env")),
        ("text_to_audio_model", "{}/both", ("main", "stable_audio_env")),
        ("text_to_audio_model", "three/part/name", ("unknown", "stable_audio_env")),
        ("clap_model", "laion/clap-htsat-unfused", ("main", "clap_env")),
        ("clap_model", "{}/weights.pt", ("clap", "clap_env")),
        ("clap_model", "{}/weights.pth", ("clap", "clap_env")),
        ("clap_model", "msclap:2023", ("clap", "clap_env")),
        ("captioner", "gama", ("gama", "gama_env")),
        ("captioner", "embedded", ("main", "gama_env")),
        ("ast_model", "MIT/ast", ("main", "ast_env")),
        ("caption_writer", "owner/model", ("main", "-")),
    ],
)
def test_names_and_files_tell(tmp_path, variable, model, told):
    for folder, files in (("tools", TOOLS), ("both", DIFFUSERS)):
        (tmp_path / folder).mkdir()
        for name in files:
            (tmp_path / folder / name).touch()
    environment, interpreter = told
    assert answer([(variable, model.format(tmp_path))]) == (interpreter, environment, variable)


@pytest.mark.parametrize(
    ("models", "told"),
    [
        ("clap_model=a.pt ast_model=a/b", "clap_env clap clap_model"),
        ("clap_model=a/b ast_model=a/b", "clap_env main clap_model"),
        ("text_to_audio_model=stabilityai/stable-audio-open-small clap_model=a/b", "stable_audio_env stable_audio"),
        ("text_to_audio_model=stabilityai/stable-audio-open-small clap_model=a.pt", "stable_audio_env conflict"),
        ("text_to_audio_model=stabilityai/stable-audio-open-1.0 clap_model=msclap:2023", "stable_audio_env conflict"),
    ],
)
def test_one_environment_has_to_hold_all_models_of_a_step(models, told):
    pairs = [tuple(word.split("=")) for word in models.split()]
    assert " ".join(answer(pairs)).startswith(told)


@pytest.mark.parametrize(
    ("kind", "told"), [("pe_audio", "conflict"), ("hubert", "clap"), ("embedding_gemma2", "conflict")]
)
def test_a_class_that_older_libraries_lack_needs_the_main_one(tmp_path, kind, told):
    (tmp_path / "config.json").write_text(f'{{"model_type": "{kind}"}}')
    model = ("ast_model", str(tmp_path))
    assert answer([("clap_model", "a.pt"), model])[1] == told
    assert answer([("clap_model", "a/b"), model])[1] == answer([model])[1] == "main"


def test_what_the_user_names_is_not_looked_up():
    """Nothing answers there, so a look-up would say unknown; GAMA's process runs beside the step all the same."""
    words = ["text_to_audio_model=me/tools", "clap_model=msclap:2023", "clap_model=a.pt", "captioner=gama"]
    offline = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    told = ask(*words, named=("stable_audio_env", "msclap_env", "gama_env"), **offline)
    assert [line.split()[1:3] for line in told] == [
        ["stable_audio_env", "named"],
        ["msclap_env", "named"],
        ["clap_env", "clap"],
        ["gama_env", "gama"],
    ]


def test_the_hub_its_cache_or_nobody_tells(tmp_path, hub):
    words = [f"text_to_audio_model=me/{name}" for name in ("tools", "both", "gated", "absent")]
    told = [line.split()[2] for line in ask(*words, HF_ENDPOINT=hub, HF_HOME=str(tmp_path))]
    assert told == ["stable_audio", "main", "stable_audio", "unknown"]
    snapshot = tmp_path / "hub/models--me--tools/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs/main").write_text("abc")
    (snapshot / "model_config.json").touch()
    for offline in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):  # nobody listens there
        told = [line.split()[2] for line in ask(*words, HF_HOME=str(tmp_path), **offline)]
        assert told == ["stable_audio", "unknown", "unknown", "unknown"]


def test_a_bare_python_tells_all_but_what_the_hub_knows():
    words = ["clap_model=msclap:2022", "text_to_audio_model=me/tools", "captioner=gama"]
    told = ask(*words, python=(sys.executable, "-S"))
    assert [line.split()[2] for line in told] == ["clap", "later", "gama"]


def test_neither_torch_nor_the_hub_is_loaded_for_what_is_known():
    code = (
        "import sys; from synthio.pipeline.environments import answer; answer([('clap_model', 'msclap:2023')]);"
        "answer([('text_to_audio_model', 'README.md')]); print({'torch', 'huggingface_hub'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# ---- the driver


@pytest.fixture
def clone(tmp_path):
    """A clone without .venv: `python3` is a bare Python, and what would make .venv links it and says so."""
    copy_driver(tmp_path)
    (tmp_path / "synthio").symlink_to(ROOT / "synthio")
    for name in ("stable_audio", "clap"):
        (tmp_path / f"extras/environments/{name}.txt").touch()
    real, bare = tmp_path / "real python", tmp_path / "bin/python3"
    bare.parent.mkdir()
    real.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    maker = f'echo "make $1"; mkdir -p "$1/bin"; ln -s "{real}" "$1/bin/python"\n'
    (tmp_path / "extras/environments/make_env.sh").write_text(maker)
    for program in (real, bare):
        program.chmod(0o755)
    return tmp_path


def drive(clone: Path, *words, **more: str) -> subprocess.CompletedProcess:
    """Call the clone's driver."""
    environment = clean(PATH=f"{clone / 'bin'}:{os.environ['PATH']}", CUDA_VISIBLE_DEVICES="", **more)
    command = [SHELL, clone / "run.sh", *words]
    return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)


def pythons(text: str, script: str) -> set[str]:
    """What starts a script, as --dry_run prints it."""
    return set(re.findall(rf"(\S+/bin/python) \S*/{script} ", text))


def test_the_driver_asks_the_hub_where_it_must(clone, hub, tmp_path):
    words = ["--text_to_audio_model", "me/tools", "--dry_run"]
    online = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "home")}
    done = drive(clone, *words, **online)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "(which environments the models need is told when .venv is there)" in done.stdout
    subprocess.run(["sh", clone / "extras/environments/make_env.sh", clone / ".venv"], check=True)
    told = drive(clone, *words, **online).stdout
    assert pythons(told, "generate.py") == pythons(told, "dpo_train.py") == {f"{clone}/.envs/stable_audio/bin/python"}
    assert pythons(told, "filter_audios.py") == {f"{clone}/.venv/bin/python"}
    unknown = drive(clone, *words, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "home"))
    assert unknown.returncode == 0 and "shows the files of me/tools; .venv is taken)" in unknown.stdout
    assert pythons(unknown.stdout, "generate.py") == {f"{clone}/.venv/bin/python"}


def test_a_run_that_cannot_be_told_its_environment_is_refused(clone, tmp_path):
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = drive(clone, "--text_to_audio_model", "me/tools", **offline)
    assert done.returncode == 2 and done.stdout == f"make {clone}/.venv\n"  # which asks the hub
    assert done.stderr.count("\n") == 1 and "the files of me/tools" in done.stderr and "stable_audio_env" in done.stderr
    assert not (clone / "demo").exists()
    named = drive(clone, "--text_to_audio_model", "me/tools", "--stable_audio_env", ".venv", "--dry_run", **offline)
    assert named.returncode == 0 and named.stderr == "" and ".venv is taken" not in named.stdout
