"""A captioner on a server: what it is sent, whose key, what a failure leaves, and what it may cost."""

from __future__ import annotations

import numpy as np
import pytest

from synthio.captions.load import load_captioner
from synthio.captions.openai_captioner import OpenAICaptioner
from synthio.captions.requests import INSTRUCTION, CaptionerOptions
from synthio.cli import UserError
from tests.captions.chat import KEY
from tests.captions.toy import CAPTION
from tests.chat_server import Answer, ChatServer, error, heard, sounds_in, words_of
from tests.rows import rows_of
from tests.scripts import call_script


def tone(freq_hz: float, seconds: float = 0.5) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * freq_hz * np.arange(round(16000 * seconds)) / 16000)).astype(np.float32)[None]


def captioner_at(server, **options) -> OpenAICaptioner:
    return OpenAICaptioner(CaptionerOptions(server_model="ears", server_url=server.url, **options))


@pytest.fixture
def gold(make_wav, make_manifest):
    """Twelve tones."""
    rows = [(make_wav(f"{k}.wav", 0.3, freq_hz=300 + 100 * k).name, "tone") for k in range(12)]
    return make_manifest("gold.csv", rows)


def caption(gold, server, *words, ok=True):
    out = gold.with_name("captions.csv")
    args = ["--input_csv", gold, "--output_csv", out, "--captioner", "openai", "--caption_model", "ears"]
    done = call_script(CAPTION, *args, "--caption_base_url", server.url, *words)
    assert (done.returncode == 0) == ok, done.stderr
    return done, rows_of(out) if ok else None


def test_each_clip_is_sent_as_a_wav_file_with_the_instruction():
    clips = [tone(400), tone(1000, 1.25), tone(3000, 0.2)]
    with ChatServer() as server:
        captioner = load_captioner("openai", CaptionerOptions(server_model="ears", server_url=server.url))
        said = captioner.describe(clips)
    assert said == [f"a tone of {f} Hz for {s} seconds" for f, s in ((400, "0.50"), (1000, "1.25"), (3000, "0.20"))]
    assert {words_of(body["messages"][0]).strip() for body in server.bodies} == {INSTRUCTION}
    sent = {heard(body): sounds_in(body)[0][0] for body in server.bodies}
    for text, clip in zip(said, clips, strict=True):
        np.testing.assert_allclose(sent[text], clip[0], atol=1 / 32767)
    for body in server.bodies:
        assert body["model"] == "ears" and body["temperature"] == 0 and body["max_tokens"] == 256
        assert "response_format" not in body and len(body["messages"]) == 1


@pytest.mark.parametrize(("own", "sent"), [("", "none"), ("sk-caption-1234567", "sk-caption-1234567")])
def test_the_key_of_openai_goes_to_no_other_server(monkeypatch, own, sent):
    monkeypatch.setenv("CAPTION_API_KEY", own)
    with ChatServer() as server:
        captioner_at(server).describe([tone(400)])
    assert server.keys == [f"Bearer {sent}"]


def test_without_an_address_it_is_the_server_and_the_key_of_openai(monkeypatch):
    with ChatServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        OpenAICaptioner(CaptionerOptions(server_model="ears")).describe([tone(400)])
    assert server.keys == [f"Bearer {KEY}"]
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.setenv("OPENAI_API_KEY", "")
    with pytest.raises(UserError, match=r"--captioner openai needs a key in .* OPENAI_API_KEY, or --caption_base_url"):
        OpenAICaptioner(CaptionerOptions(server_model="ears"))
    with pytest.raises(UserError, match="--captioner openai needs --caption_model"):
        OpenAICaptioner(CaptionerOptions())
    with pytest.raises(UserError, match="--caption_base_url is no http"):
        OpenAICaptioner(CaptionerOptions(server_model="ears", server_url="localhost:8080"))


def test_what_the_script_writes_and_that_nothing_is_asked_twice(gold):
    with ChatServer(lambda _, body: Answer(heard(body), delay_s=0.2)) as server:
        done, rows = caption(gold, server)
        assert [row["caption"] for row in rows] == [f"a tone of {300 + 100 * k} Hz for 0.30 seconds" for k in range(12)]
        assert "captions done: 12 calls" in done.stderr and 1 < server.most_at_once <= 8
        caption(gold, server)
        assert len(server.bodies) == 12
        caption(gold, server, "--instruction", "What is it?")
        assert len(server.bodies) == 24


def test_captions_that_came_before_a_failure_are_kept(gold):
    def after_five(number, body):
        return error(400, "this model takes no sound") if number >= 5 else None

    with ChatServer(after_five) as server:
        done, _ = caption(gold, server, ok=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert len(lines) == 1 and "refuses the request (HTTP 400) this model takes no sound" in lines[0], done.stderr
    with ChatServer() as server:
        _, rows = caption(gold, server)
        assert len(rows) == 12 and len(server.bodies) == 12 - 5


def test_a_limit_holds_to_the_call_and_the_same_command_goes_on(gold):
    with ChatServer() as server:
        for _ in range(2):
            done, _ = caption(gold, server, "--llm_max_calls", 5, ok=False)
            assert "the limit of 5 calls (--llm_max_calls) allows no further call; spent: 5 calls, " in done.stderr
        caption(gold, server, "--llm_max_calls", 5)
        assert len(server.bodies) == 12


def test_sound_counts_by_its_length_for_the_limit_of_tokens(gold):
    with ChatServer() as server:
        done, _ = caption(gold, server, "--llm_max_tokens", 200, ok=False)
    assert "200 tokens (--llm_max_tokens)" in done.stderr and server.bodies == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            Answer(status=302, headers={"Location": "http://[::1]:1/v1"}, body=b""),
            "elsewhere (HTTP 302, to http://[::1]",
        ),
        (error(401, f"no such key {KEY}"), "the server refuses the key (HTTP 401); set CAPTION_API_KEY"),
        (Answer(body=b" " * 9_000_000), "sent a reply of more than 8 MB"),
    ],
)
def test_a_server_that_cannot_be_used_is_told_in_one_line(answer, said):
    with ChatServer(lambda *_: answer) as server, pytest.raises(UserError) as refused:
        captioner_at(server).describe([tone(400)])
    assert said in str(refused.value) and "\n" not in str(refused.value) and KEY not in str(refused.value)
    if answer.status == 302:
        assert "--caption_base_url" in str(refused.value)


def test_a_reply_is_one_line_of_bounded_length():
    with ChatServer(lambda *_: Answer("a dog\n\nbarks " + "x" * 50_000)) as server:
        (text,) = captioner_at(server).describe([tone(400)])
    assert text.startswith("a dog barks x") and len(text) <= 20_000
