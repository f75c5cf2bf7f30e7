"""A chat server that is not trusted: where it may send us, how much it may send, how long it may take; and the key."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import threading
import time
import tracemalloc
import zlib
from types import SimpleNamespace

import pytest

from synthio.captions import openai_writer
from synthio.captions.openai_writer import LONGEST_RETRY_AFTER_S, OpenAIWriter, retry_after_s
from synthio.captions.requests import WriterOptions
from synthio.cli import UserError
from tests.captions.test_chat_writer import KEY, first, gold_rows, read_rows, requests_of, run, write_rows
from tests.chat_server import Answer, ChatServer, completion, reply_to, value


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch):
    """The key and the server come from the test alone; pauses are short."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(openai_writer, "FIRST_PAUSE_S", 0.02)


@pytest.fixture
def writer_at(tmp_path):
    """writer_at(server, **options) -> an `OpenAIWriter` with a file of replies in tmp_path."""

    def make(server, cache="cache.jsonl", **options):
        return OpenAIWriter(WriterOptions(cache=str(tmp_path / cache), model="m", base_url=server.url, **options))

    return make


@pytest.fixture
def right_prompts(writer_at):
    """right_prompts(requests) -> what the server's model says when nothing goes wrong."""

    def ask(requests):
        with ChatServer() as server:
            return writer_at(server, cache="right.jsonl").write(requests)

    return ask


# ---- a server that is not trusted


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("place", ["file:///etc/passwd", "/v1/elsewhere", "http://[::1]:1/v1", "http://[bad", "\\x"])
def test_a_redirection_ends_the_run_at_once(status, place, writer_at):
    answer = Answer(status=status, headers={"Location": place}, body=b"")
    with ChatServer(lambda number, body: answer) as server:
        with pytest.raises(UserError, match=rf"elsewhere \(HTTP {status}, to .*--llm_base_url.*goes on from there"):
            writer_at(server).write(requests_of())
        assert len(server.bodies) == 1


def test_a_redirection_without_a_place(writer_at):
    server = ChatServer(lambda number, body: Answer(status=304, body=b""))
    with server, pytest.raises(UserError, match=r"elsewhere \(HTTP 304\)"):
        writer_at(server).write(requests_of(1))


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, gzip", ""])
def test_a_response_without_end_is_not_read(status, encoding, writer_at):
    body = b" " * 300_000_000
    for name in filter(None, encoding.split(", ")):
        body = (gzip if name == "gzip" else zlib).compress(body, 1 if name == "gzip" else 9)
    headers = {"Content-Encoding": encoding} if encoding else {}
    tracemalloc.start()
    try:
        with ChatServer(lambda number, _: Answer(status=status, headers=headers, body=body)) as server:
            with pytest.raises(UserError, match=r"sent a reply of more than 8 MB; the replies so far"):
                writer_at(server).write(requests_of(1))
            assert len(server.bodies) == 1
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


def test_a_compressed_reply_is_read(writer_at, right_prompts):
    def zipped(number, body):
        return Answer(
            headers={"Content-Encoding": "gzip"}, body=gzip.compress(completion(Answer(reply_to(body)), body))
        )

    with ChatServer(zipped) as server:
        assert writer_at(server).write(requests_of(2)) == right_prompts(requests_of(2))


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_server_that_drips_is_given_up_in_time(part, writer_at, monkeypatch):
    monkeypatch.setattr(openai_writer, "TRIES", 2)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.sendall(head[:20] if part == "head" else head)
                    with contextlib.suppress(OSError):
                        for _ in range(200):
                            connection.sendall(b"x")
                            time.sleep(0.05)

        threading.Thread(target=drip, daemon=True).start()
        server = SimpleNamespace(url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        started = time.monotonic()
        with pytest.raises(UserError, match=r"sent no whole reply in 0\.5 s, 2 times"):
            writer_at(server, timeout_s=0.5).write(requests_of(1))
        assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100_000,
        "null",
        "[]",
        '"text"',
        '{"choices": 7}',
        '{"choices": [null]}',
        '{"choices": [{"message": null}]}',
        '{"choices": {"0": {"message": {"content": "x"}}}}',
        '{"choices": [[]]}',
        "\ud800",
    ],
)
def test_what_is_no_completion_is_asked_again_and_no_crash(body, writer_at, right_prompts):
    broken = Answer(body=body.encode("utf-8", "surrogatepass"))
    with ChatServer(lambda number, _: broken if number == 0 else None) as server:
        writer = writer_at(server)
        assert writer.write(requests_of(2)) == right_prompts(requests_of(2))
        assert writer.counts["calls"] == 3


@pytest.mark.parametrize("content", [7, ["a"], {"a": 1}, None, True])
@pytest.mark.parametrize("usage", [7, {"prompt_tokens": "many", "completion_tokens": -5}, {"prompt_tokens": 10**30}])
def test_odd_values_in_a_completion_are_no_crash(content, usage, writer_at):
    value = {"choices": [{"index": 0, "message": {"role": "assistant", "content": content}}], "usage": usage}
    with ChatServer(first(Answer(body=json.dumps(value).encode()))) as server:
        writer = writer_at(server)
        writer.write(requests_of(1))
    assert writer.counts["retries"] == 1 and 0 < writer.counts["prompt_tokens"] < 10_000


@pytest.mark.parametrize("date", ["Mon, 99 Jan 2030 00:00:00", "Mon, 01 Jan 999999999 00:00:00", "9" * 400])
def test_a_pause_that_is_no_time(date):
    pause = retry_after_s({"retry-after": date})
    assert pause is None or pause > LONGEST_RETRY_AFTER_S


# ---- a reply that repeats the key


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(char):04X}" for char in text)


@pytest.mark.parametrize("said", [KEY, KEY.upper(), escaped(KEY), KEY[:5] + escaped(KEY[5:])])
def test_the_key_in_a_reply_is_masked_before_anything_is_written(said, tmp_path):
    write_rows(tmp_path / "gold.csv", gold_rows(3))

    def parrot(number, body):
        label, count = value(body["messages"][1]["content"], "label"), 2
        names = ", ".join(f'"{label}, {said} number {number} {k}"' for k in range(count))
        return Answer('{"events": [], "backgrounds": [], "prompts": [' + names + "]}")

    with ChatServer(parrot) as server:
        done = run(tmp_path, server)
    prompts = [row["prompt"] for row in read_rows(tmp_path / "prompts.csv")]
    assert any("***" in prompt for prompt in prompts)
    written = [path.read_bytes().decode() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [text for text in [done.stdout, done.stderr, *written] if KEY.lower() in text.lower()]
    assert not [text for text in written if escaped(KEY).lower() in text.lower()]


def test_a_word_in_place_of_a_key_is_no_secret(writer_at, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "near")
    with ChatServer() as server:
        texts = writer_at(server).write(requests_of(9))
    assert any(" near" in text for row in texts for text in row)


@pytest.mark.parametrize(
    ("key", "url", "part"),
    [
        ("sk-кл", "http://h/v1", "characters that no key has"),
        ("sk-a\nb", "http://h/v1", "characters that no key has"),
        ("sk-12345", "http://h/sk-12345/v1", "holds the key"),
        ("sk-12345", "file:///etc/passwd", "no http(s) address"),
        ("sk-12345", "ftp://h/v1", "no http(s) address"),
        ("sk-12345", "unix:///run/docker.sock", "no http(s) address"),
    ],
)
def test_keys_and_addresses_that_cannot_be(key, url, part, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UserError, match=re.escape(part)) as caught:
        OpenAIWriter(WriterOptions(cache=str(tmp_path / "c"), model="m", base_url=url))
    assert key not in str(caught.value)
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(UserError, match=re.escape(part)):
        OpenAIWriter(WriterOptions(cache=str(tmp_path / "c"), model="m"))
