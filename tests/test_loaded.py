"""What code a process has loaded, and the files that it names."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from synthio import loaded


def test_a_module_that_changed_after_the_start_is_never_up_to_date():
    assert "" not in loaded.loaded_code(time.time_ns()).values()
    assert set(loaded.loaded_code(0).values()) == {""}


def test_files_that_a_module_names_count_and_others_do_not(tmp_path, monkeypatch):
    monkeypatch.setattr(loaded, "ROOT", tmp_path)
    folder = tmp_path / "package"
    folder.mkdir()
    for name in ("package/words.txt", "above.toml", "package/worker.py", "package/unnamed.txt"):
        (tmp_path / name).touch()
    module = folder / "module.py"
    module.write_text('WORDS = "words.txt"; ABOVE = "above.toml"; "worker.py"; "gone.txt"; x = "see unnamed.txt"')
    names = {path.relative_to(tmp_path).as_posix() for path in loaded.named_files(module)}
    assert names == {"package/words.txt", "above.toml", "package/worker.py"}


def test_what_is_installed_in_the_repository_is_not_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(loaded, "ROOT", tmp_path)
    own = {"a.py": True, "synthio/x.py": True, ".venv/lib/x.py": False, "synthio/pipeline/steps.py": False}
    assert {name: loaded.is_own(tmp_path / name) for name in own} == own
    assert not loaded.is_own(Path("/elsewhere/a.py"))


def test_names_of_packages_are_compared_as_pip_does():
    assert loaded.normal_name("Ruff_Lint.Tool") == "ruff-lint-tool"
    assert loaded.loaded_libraries()["pytest"] == pytest.__version__
