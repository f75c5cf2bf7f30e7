"""What a process has loaded, and what a stamp makes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from synthio.files import sha256_file, write_json
from synthio.loaded import normal_name
from synthio.models.hub import cached_revision
from synthio.pipeline import loaded, stamp
from synthio.pipeline.loaded import changed_libraries, installed_libraries, read_notes
from tests.scripts import ROOT, call_script, load_script

STAMP = ROOT / "synthio/pipeline/stamp.py"


def note_of(folder: Path, *words) -> dict[str, dict[str, str]]:
    """The note that a script leaves."""
    environment = os.environ | {"SYNTHIO_LOADED": str(folder), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *map(str, words)], env=environment, check=True, capture_output=True)
    return read_notes(folder)


def test_a_script_notes_the_modules_that_it_loaded(tmp_path):
    source, out = tmp_path / "a.csv", tmp_path / "b.csv"
    source.write_text("path,label\nx.wav,a\n")
    words = [ROOT / "generate_captions_gpt.py", "--input_csv", source, "--output_csv", out, "--mode", "template"]
    note = note_of(tmp_path / "notes", *words)
    for name in ("generate_captions_gpt.py", "synthio/__init__.py", "synthio/manifest.py", "synthio/captions/pools.py"):
        assert note["code"][name] == sha256_file(ROOT / name)
    assert "synthio/captions/sound_words.txt" in note["code"], "a module names it"
    assert not {"synthio/filtering/thresholds.py", "synthio/captions/gama.py", "synthio/pipeline/loaded.py"} & set(
        note["code"]
    )
    assert note["libraries"]["pandas"] == installed_libraries(sys.executable)["pandas"]
    assert "torch" not in note["libraries"]


def test_a_script_that_fails_leaves_no_note(tmp_path):
    environment = os.environ | {"SYNTHIO_LOADED": str(tmp_path / "notes"), "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        ROOT / "merge_csv.py",
        "--input_csvs",
        tmp_path / "no.csv",
        "--output_csv",
        tmp_path / "o",
    ]
    assert subprocess.run(command, env=environment, check=False, capture_output=True).returncode == 2
    assert not (tmp_path / "notes").exists()


# ---- stamps


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository of two modules, one of which a step has loaded, and ask(action, words) for the stamp of the step."""
    root, source, made = tmp_path / "root", tmp_path / "a.csv", tmp_path / "b.csv"
    for name in ("synthio/filtering/thresholds.py", "synthio/generation/sampling.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x = 1\n")
    for path in (source, made):
        path.write_text("label\na\n")
    monkeypatch.setattr(loaded, "ROOT", root)
    monkeypatch.setattr(load_script(ROOT / "synthio/pipeline/loaded.py"), "ROOT", root)

    def ask(action, *words, python="python", model="owner/model"):
        options = ["--stamp", tmp_path / "s.json", "--inputs", source, model, "--outputs", made, *words]
        return call_script(STAMP, action, *options, "--command", python, "-m", "synthio.some", "--model", model)

    ask.root, ask.folder, ask.python = root, tmp_path, tmp_path / "env/bin/python"
    return ask


def do(repository, libraries=(), **more) -> None:
    """The step, up to its stamp."""
    assert repository("check", **more).returncode == 3
    code = {"synthio/filtering/thresholds.py": sha256_file(repository.root / "synthio/filtering/thresholds.py")}
    write_json(repository.folder / "s.loaded/host-1.json", {"code": code, "libraries": dict(libraries)})
    assert repository("write", **more).returncode == 0
    assert not (repository.folder / "s.loaded").exists()


def test_a_module_that_was_loaded_is_named_as_the_reason_and_another_is_none(repository):
    do(repository)
    assert repository("ask").returncode == 0
    (repository.root / "synthio/generation/sampling.py").write_text("x = 2\n")
    assert repository("ask").returncode == 0
    (repository.root / "synthio/filtering/thresholds.py").write_text("x = 2\n")
    done = repository("ask")
    assert (done.returncode, done.stdout) == (3, "synthio/filtering/thresholds.py changed\n")
    (repository.root / "synthio/filtering/thresholds.py").unlink()
    assert repository("ask").stdout == "synthio/filtering/thresholds.py changed\n"


def test_the_code_of_a_whole_run(repository):
    do(repository)
    script = ROOT / "synthio/pipeline/loaded.py"
    assert call_script(script, repository.folder).returncode == 0
    (repository.folder / "folders.json").write_text("{}")
    write_json(repository.folder / "other.json", {"key": {}, "code": {"synthio/generation/sampling.py": "old"}})
    done = call_script(script, repository.folder)
    assert (done.returncode, done.stdout) == (3, "synthio/generation/sampling.py changed\n")


def test_the_code_of_a_sharded_step_is_that_of_its_shards(repository):
    write_json(
        repository.folder / "part.json", {"code": {"synthio/filtering/thresholds.py": "old"}, "libraries": {"a": "1"}}
    )
    repository("check")
    repository("write", "--parts", repository.folder / "part.json")
    assert repository("ask").stdout == "synthio/filtering/thresholds.py changed\n"
    assert json.loads((repository.folder / "s.json").read_text())["libraries"] == {"a": "1"}


def test_other_libraries_are_told_and_a_reason_only_where_that_is_asked_for(repository):
    for name in ("torch-2.11.0+cpu", "scikit_learn-1.9.1"):
        (repository.folder / f"env/lib/python3.11/site-packages/{name}.dist-info").mkdir(parents=True)
    python = str(repository.python)
    do(repository, {"torch": "2.11.0+cpu", "scikit-learn": "1.9.1"}, python=python)
    assert repository("ask", "--strict_env", python=python).returncode == 0
    packages = repository.python.parent.parent / "lib/python3.11/site-packages"
    (packages / "torch-2.11.0+cpu.dist-info").rename(packages / "torch-2.12.0.dist-info")
    told = "made with torch 2.11.0+cpu (now 2.12.0)\n"
    loose, strict = repository("ask", python=python), repository("ask", "--strict_env", python=python)
    assert (loose.returncode, loose.stdout) == (0, told) and (strict.returncode, strict.stdout) == (3, told)
    assert repository("ask").stdout == "\n", "of an environment that is not there nothing is told"
    assert changed_libraries({"scikit-learn": "1.9.1"}, python) == "" and normal_name("Scikit_Learn") == "scikit-learn"


def test_a_hub_model_counts_by_its_revision(repository, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(repository.folder))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    refs = repository.folder / "hub/models--owner--model/refs"
    assert repository("check").returncode == 3
    refs.mkdir(parents=True)
    (refs / "main").write_text("first")  # the step downloads it
    assert repository("write").returncode == 0 and repository("ask").returncode == 0
    assert cached_revision("owner/model") == "first"
    (refs / "main").write_text("second")
    assert repository("ask").stdout == "owner/model changed\n"
    assert stamp.is_hub_id("owner/model") and not stamp.is_hub_id("msclap:2023") and not stamp.is_hub_id("/a/b")
