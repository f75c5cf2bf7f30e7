"""Writers of prompts at a server of the test's own."""

from __future__ import annotations

import pytest

from synthio.captions import openai_writer
from synthio.captions.openai_writer import OpenAIWriter
from synthio.captions.requests import WriterOptions
from tests.captions.chat import KEY


@pytest.fixture
def writer_at(tmp_path):
    """writer_at(server, **options) -> an `OpenAIWriter` with a file of replies in tmp_path."""

    def make(server, cache="cache.jsonl", **options):
        return OpenAIWriter(WriterOptions(cache=str(tmp_path / cache), model="m", base_url=server.url, **options))

    return make


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch):
    """The key and the server come from the test alone; pauses are short."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(openai_writer, "FIRST_PAUSE_S", 0.02)
