"""What passes between captioners, writers and stages."""

from __future__ import annotations

import pytest

from synthio.captions.requests import INSTRUCTION, CaptionerOptions, may_be_model, one_line


@pytest.mark.parametrize(
    ("said", "model", "words"),
    [
        ("auto", "Qwen/Qwen2-Audio-7B-Instruct", INSTRUCTION),
        ("auto", "Qwen/Qwen3-Omni-30B-A3B-Captioner", ""),
        ("none", "Qwen/Qwen2-Audio-7B-Instruct", ""),
        ("What is it?", "Qwen/Qwen3-Omni-30B-A3B-Captioner", "What is it?"),
    ],
)
def test_a_model_made_for_captions_is_asked_nothing_unless_the_user_asks(said, model, words):
    assert CaptionerOptions(instruction=said).instruction_for(model) == words


def test_an_answer_is_one_line():
    assert one_line(" a dog\n\tbarks  twice ") == "a dog barks twice"


def test_a_folder_or_owner_and_name_may_be_a_model(tmp_path):
    assert may_be_model(str(tmp_path)) and may_be_model("owner/a.model-1_b")
    assert not any(may_be_model(name) for name in ("", "model", "a/b/c", "/a", "a b/c", f"{tmp_path}/none"))
