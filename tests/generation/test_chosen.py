"""Which adapter clips are made with, from a folder or from what was found of one."""

from __future__ import annotations

import json

import pytest

from synthio.cli import UserError
from synthio.generation.chosen import chosen_adapter


@pytest.mark.parametrize(("used", "folder"), [(True, "dpo/adapter"), (False, "")])
def test_what_was_found_decides_and_may_be_moved(tmp_path, used, folder):
    for place in (tmp_path / "a/dpo", tmp_path / "b/dpo"):
        place.mkdir(parents=True)
        (place / "judged.json").write_text(json.dumps({"adapter": "adapter", "used": used}))
        assert chosen_adapter(str(place / "judged.json")) == (str(place.parent / folder) if folder else "")


def test_a_folder_stands_for_itself_and_nothing_for_none():
    assert chosen_adapter("W/dpo/adapter") == "W/dpo/adapter" and chosen_adapter("") == ""


@pytest.mark.parametrize("text", ["{", "[]", '{"adapter": "adapter"}', '{"used": true}'])
def test_a_damaged_file_is_refused(tmp_path, text):
    (tmp_path / "judged.json").write_text(text)
    with pytest.raises(UserError, match=r"judged\.json: damaged"):
        chosen_adapter(str(tmp_path / "judged.json"))
