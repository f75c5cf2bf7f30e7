"""Models of the hub in its cache, asked of a stand-in for the hub on this machine."""

from __future__ import annotations

import pytest

from tests.hub_server import Repo, hub_server

REPOS = {
    "some/gated": Repo({"config.json": 1, "model.safetensors": 5}, gated=True),
    "some/model": Repo({"config.json": 1, "model.safetensors": 5}),
}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("some/gated", "some/gated: gated (401); accept its licence at {hub}/some/gated, put a token in HF_TOKEN"),
        ("no/where", "no/where: no such model, or a private one (needs HF_TOKEN); look at {hub}/no/where"),
    ],
)
def test_what_cannot_be_had_is_told_in_a_line(run_script, tmp_path, model, words):
    with hub_server(REPOS) as address:
        environment = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0", "HF_TOKEN": ""}
        done = run_script("-m", "synthio.pipeline.fetch", model, env=environment)
    assert done.returncode == 2 and words.format(hub=address) in done.stderr, done.stderr


def test_what_is_in_the_cache_is_not_asked_for(run_script, tmp_path):
    """Without a network: a copy in the cache is enough, and without one it is told."""
    offline = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = run_script("-m", "synthio.pipeline.fetch", "some/model", env=offline)
    assert done.returncode == 2 and "some/model: not in the cache, and https://" in done.stderr
    folder = tmp_path / "hub/models--some--model"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (folder / "snapshots" / ("0" * 40) / "model.safetensors").write_bytes(b"x")
    done = run_script("-m", "synthio.pipeline.fetch", "some/model", env=offline)
    assert done.returncode == 0 and done.stdout == "", done.stderr
