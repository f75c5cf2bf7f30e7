"""What is the name of a model on the hub, and of which revision."""

from __future__ import annotations

import pytest

from synthio.models.model_ids import is_hub_id, source, split_id


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("laion/clap-htsat-unfused", ("laion/clap-htsat-unfused", "main")),
        ("owner/name@v1.0", ("owner/name", "v1.0")),
        ("owner/name@refs/pr/3", ("owner/name", "refs/pr/3")),
        ("owner/name@" + "a1" * 20, ("owner/name", "a1" * 20)),
    ],
)
def test_hub_ids(model, expected):
    assert is_hub_id(model) and split_id(model) == expected
    assert source(model) == {"pretrained_model_name_or_path": expected[0], "revision": expected[1]}


@pytest.mark.parametrize(
    "model", ["embedded", "./owner/name", "/owner/name", "a/b/c", "owner/name@", "owner/@v1", ".x/y"]
)
def test_what_is_no_hub_id_stays_whole(model):
    assert not is_hub_id(model) and split_id(model) == (model, "main")


def test_a_folder_is_no_hub_id(tmp_path, monkeypatch):
    """A name of the hub's form that is there is the folder, with an '@' in it, too."""
    (tmp_path / "owner/name@v1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not is_hub_id("owner/name@v1") and split_id("owner/name@v1") == ("owner/name@v1", "main")
