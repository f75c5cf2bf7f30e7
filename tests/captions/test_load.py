"""Which captioner and which writer a name means."""

from __future__ import annotations

import pytest

from synthio.captions.composer import Composer
from synthio.captions.describer import AcousticDescriber
from synthio.captions.load import load_captioner, load_writer
from synthio.captions.openai_writer import OpenAIWriter
from synthio.captions.requests import WriterOptions
from synthio.cli import UserError


def test_names_that_need_no_model():
    assert isinstance(load_captioner("embedded"), AcousticDescriber)
    assert isinstance(load_writer("embedded"), Composer)


def test_a_server_is_asked_with_the_options(tmp_path):
    options = WriterOptions(cache=str(tmp_path / "c.jsonl"), model="m", base_url="http://localhost:1/v1")
    assert isinstance(load_writer("openai", options), OpenAIWriter)


@pytest.mark.parametrize("name", ["", "gamma", "a/b/c", "open ai"])
def test_a_name_that_can_be_no_model_is_refused(name):
    with pytest.raises(UserError, match=f"captioner '{name}' is not known; use 'embedded', 'gama'"):
        load_captioner(name)
    with pytest.raises(UserError, match=f"caption writer '{name}' is not known; use 'embedded', 'openai'"):
        load_writer(name)
