"""The real run.sh from clips to scores with models that want environments of their own, each made by its library."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from synthio.files import read_json
from tests.classification.toy_clips import save_tiny_ast
from tests.driver.test_run import call, options, rows_of, save_tones, stage_answers
from tests.programs import clap_library, small_tools_model
from tests.scripts import own_python

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def environments() -> dict[str, Path]:
    """Those of generation and filter, as run.sh takes them."""
    return {
        "stable_audio_env": own_python("stable_audio").parent.parent,
        "clap_env": own_python("clap").parent.parent,
    }


@pytest.fixture(scope="module")
def world(environments, tmp_path_factory) -> Path:
    """Data, tools/v of stable-audio-tools, tiny.pt of laion_clap (with its cache of the hub) and an AST."""
    folder = tmp_path_factory.mktemp("own environments")
    for part in ("data", "tools"):
        (folder / part).mkdir()
    for split, clips in {"train": 9, "valid": 6, "test": 6}.items():
        save_tones(folder / "data", split, clips)
    save_tiny_ast(folder / "models/ast")
    makers = {
        "stable_audio_env": [small_tools_model.__file__, "make", folder / "tools"],
        "clap_env": [clap_library.__file__, "save", folder],
    }
    for name, words in makers.items():
        command = [environments[name] / "bin/python", *words]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_all_stages_with_models_of_other_environments(world, environments):
    """A run with one round of self-reflection; then nothing is left to do."""
    changes = {"text_to_audio_model": "tools/v", "clap_model": "tiny.pt", "num_steps": 3, "num_iters": 1}
    changes |= {"threshold_kind": "rank", "keep_percent": 50, "duplicate_cosine": 1, "max_clipped": 1}
    words = options("results", cpu_shards=1, **changes, **environments)
    done = call(*words, cwd=world, timeout=3600, HF_HUB_CACHE=str(world / "hub"))
    assert done.returncode == 0, done.stdout + done.stderr
    work = world / "results/tiny set"
    assert [row["name"] for row in read_json(work / "scores.json")["methods"]] == ["gold-only", "synthio"]
    made = rows_of(work / "round_0/generated.csv")
    assert len(made) == 6 and {row["model"].split("@")[0] for row in made} == {"v"}
    assert all("+adapter@" in row["model"] for row in made)
    parted = [len(rows_of(work / f"round_{k}/{name}.csv")) for k in (0, 1) for name in ("kept", "rejected")]
    assert parted[0] and parted[1] and sum(parted[:2]) == 6 and sum(parted[2:]) == parted[1]
    scores = {float(row["clap_score"]) for row in rows_of(work / "round_0/kept.csv")}
    assert len(scores) > 1 and all(-1 <= score <= 1 for score in scores)
    lines = [line.split("\t") for line in (work / "durations.tsv").read_text().splitlines()]
    folders = {stage: Path(command.split("/bin/python")[0].strip("'")) for stage, *_, command in lines}
    for stage in ("losers", "dpo", "generate", "generate_1"):
        assert folders[stage] == environments["stable_audio_env"]
    for stage in ("filter", "filter_1", "heads_gold_only", "quality", "heads_synthio"):
        assert folders[stage] == environments["clap_env"]
    assert folders["classify_synthio"] == folders["choose_synthio"] == ROOT / ".venv"
    again = call(*words, cwd=world, HF_HUB_CACHE=str(world / "hub"))
    assert again.returncode == 0 and all("up to date" in said for said in stage_answers(again.stdout).values())
