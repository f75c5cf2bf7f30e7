"""What the hub says of a model, which of its files are downloaded, and of which revision."""

from __future__ import annotations

import pytest

from synthio.files import EMBEDDED
from synthio.models.hub import cached_revision, exact_name, needed_files
from tests.hub_server import COMMIT, Repo, hub_server
from tests.pipeline.toy import DIFFUSERS, TRANSFORMERS

TAGGED = "89abcdef" * 5  # a commit


def test_the_files_that_are_downloaded():
    assert needed_files(list(DIFFUSERS)) == ["model_index.json", "transformer/diffusion.safetensors"]
    assert needed_files(list(TRANSFORMERS)) == ["config.json", "model.safetensors"]
    assert needed_files(["model_config.json", "model.ckpt", ".gitattributes"]) == ["model_config.json", "model.ckpt"]


@pytest.mark.slow
def test_a_revision_is_what_is_loaded(run_script, tmp_path, monkeypatch):
    """The tag is fetched, and loaded by transformers without a network; `main` was not asked for."""
    files = {path.name: path.read_bytes() for path in (EMBEDDED / "ast").iterdir()}
    known = {"HF_HOME": str(tmp_path), "HF_TOKEN": "", "HF_HUB_DISABLE_XET": "1"}
    with hub_server({"some/ast": Repo(files, revisions={"main": COMMIT, "v1": TAGGED})}) as address:
        online = known | {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0"}
        done = run_script("-m", "synthio.pipeline.fetch", "some/ast@v1", env=online)
        assert done.returncode == 0 and "downloading some/ast@v1" in done.stdout, done.stderr
        done = run_script("-m", "synthio.pipeline.fetch", "some/ast@v2", env=online)
        assert done.returncode == 2 and "some/ast@v2: it has no revision 'v2'" in done.stderr
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert [cached_revision(f"some/ast{end}") for end in ("", "@v1", f"@{TAGGED}")] == ["", TAGGED, TAGGED]
    assert exact_name("some/ast@v1") == f"some/ast@{TAGGED}" and exact_name("some/ast") == "some/ast"
    assert exact_name(str(tmp_path)) == str(tmp_path)
    load = "import sys; from synthio.models.ast_model import load_pretrained_ast; load_pretrained_ast(sys.argv[1])"
    offline = known | {"HF_HUB_OFFLINE": "1"}
    assert run_script("-c", load, "some/ast@v1", env=offline).returncode == 0
    done = run_script("-c", load, "some/ast", env=offline)
    assert done.returncode and "some/ast" in done.stderr
