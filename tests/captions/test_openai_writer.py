"""A chat server that is not trusted: where it may send us, how much it may send, how long it may take; and the key."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from email.utils import formatdate
from types import SimpleNamespace

import pytest

from synthio.cache import AnswerCache
from synthio.captions import openai_writer
from synthio.captions.composer import compose, extract
from synthio.captions.load import load_writer
from synthio.captions.openai_writer import LONGEST_RETRY_AFTER_S, OpenAIWriter, retry_after_s
from synthio.captions.pools import prompt_problem
from synthio.captions.requests import CaptionRequest, WriterOptions
from synthio.cli import UserError
from tests.captions.chat import KEY, PROMPTS, SCRIPT, gold_rows, requests_of, run
from tests.chat_server import Answer, ChatServer, completion, error, reply_to, value
from tests.rows import rows_of, write_rows
from tests.scripts import call_script


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
    prompts = [row["prompt"] for row in rows_of(tmp_path / "prompts.csv")]
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


def first(answer):
    """A mishap of the first call alone."""
    return lambda number, body: answer if number == 0 else None


def twisted(change):
    """A mishap of the first call: the right reply, changed."""
    return lambda number, body: Answer(change(reply_to(body))) if number == 0 else None


def cut_body(number, body):
    return Answer(body=completion(Answer(reply_to(body)), body)[:-30]) if number == 0 else None


HARMLESS = {  # the first call's mishap -> calls, wrong replies
    "429": (first(error(429, "slow down")), 1, 0),
    "500": (first(error(500, "oops")), 1, 0),
    "503 of a gateway": (first(Answer(status=503, body=b"<html>", headers={"Content-Type": "text/html"})), 1, 0),
    "time-out": (first(Answer(PROMPTS, delay_s=5)), 1, 0),
    "hangs up": (first(Answer(status=0)), 1, 0),
    "cut body": (cut_body, 1, 0),
    "a web page": (first(Answer(body=b"<html>", headers={"Content-Type": "text/html"})), 1, 0),
    "no choices": (first(Answer(body=b'{"id": "x", "choices": []}')), 1, 0),
    "no response_format": (first(error(400, "Unknown field: response_format")), 1, 0),
    "no response_format, unnamed": (first(error(400, "json_schema is not supported here")), 1, 0),
    "no max_tokens": (first(error(400, "Use 'max_completion_tokens' instead.", param="max_tokens")), 1, 0),
    "no temperature": (first(error(400, "Unsupported value", param="temperature")), 1, 0),
    "no seed": (first(error(422, "extra field: seed")), 1, 0),
    "prose": (twisted(lambda text: f"Sure! Here they are:\n```json\n{text}\n```\nEnjoy."), 0, 0),
    "cut JSON": (twisted(lambda text: text[:-9]), 1, 1),
    "wrong count": (twisted(lambda text: json.dumps({"prompts": json.loads(text)["prompts"][:1]})), 1, 1),
    "no label": (twisted(lambda text: text.replace("dog bark", "an animal")), 1, 1),
    "twice the same": (twisted(lambda text: json.dumps({"prompts": json.loads(text)["prompts"][:1] * 2})), 1, 1),
    "empty": (first(Answer("")), 1, 1),
    "filtered": (first(error(400, "The response was filtered", code="content_filter")), 1, 1),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_one_mishap_costs_one_call_and_no_prompt(name, writer_at, right_prompts):
    mishap, more_calls, wrong = HARMLESS[name]
    requests = requests_of()
    with ChatServer(mishap) as server:
        writer = writer_at(server, timeout_s=1.2 if name == "time-out" else 20, concurrency=4)
        prompts = writer.write(requests)
    assert all(
        prompt_problem(text, request.label) == ""
        for request, texts in zip(requests, prompts, strict=True)
        for text in texts
    )
    if not wrong:
        assert prompts == right_prompts(requests)
    assert len(server.bodies) == writer.counts["calls"] == len(requests) + more_calls
    assert (writer.counts["retries"], writer.counts["replaced"]) == (wrong, 0)


def test_why_a_reply_is_no_completion_is_told(writer_at, capsys):
    with ChatServer(cut_body) as server:
        writer_at(server).write(requests_of())
    assert re.search(r"sent no chat completion \(.*line 1 column \d+", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("option", "substitute"),
    [("response_format", None), ("max_tokens", "max_completion_tokens"), ("temperature", None), ("seed", None)],
)
def test_what_a_server_does_not_know_is_left_out_for_good(option, substitute, writer_at):
    with ChatServer(lambda number, body: error(400, "unknown", param=option) if option in body else None) as server:
        writer = writer_at(server)
        writer.write(requests_of())
    assert sum(option in body for body in server.bodies) == 1  # the first call goes alone
    assert server.bodies[0]["response_format"]["json_schema"]["schema"]["additionalProperties"] is False
    assert {"response_format", "max_tokens", "temperature", "seed"} - {option} <= set(server.bodies[-1])
    assert substitute is None or server.bodies[-1][substitute] == server.bodies[0][option]
    assert writer.counts["replaced"] == 0


def test_the_error_is_named_and_the_wrong_reply_shown(writer_at):
    wrong = json.dumps({"prompts": ["a cat", "a dog bark, near"]})
    with ChatServer(first(Answer(wrong))) as server:
        writer_at(server).write([CaptionRequest("dog bark", 2, 5)])
    again = server.bodies[1]["messages"]
    assert again[:2] == server.bodies[0]["messages"] and again[2] == {"role": "assistant", "content": wrong}
    assert "prompt 1: it does not name the label 'dog bark'" in again[3]["content"]
    assert server.bodies[1]["seed"] != server.bodies[0]["seed"]


def test_a_model_that_never_gets_it_right_is_replaced_and_counted(writer_at, tmp_path):
    requests = requests_of()
    with ChatServer(lambda number, body: Answer("I am sorry.")) as server:
        writer = writer_at(server, retries=2)
        prompts = writer.write(requests)
        found = writer.extract([("dog", "a dog barks loud, with wind in the background")])
        assert writer.counts == {
            "requests": 7,
            "from_cache": 0,
            "calls": 21,
            "retries": 14,
            "replaced": 7,
            "prompt_tokens": writer.counts["prompt_tokens"],
            "completion_tokens": 21 * 3,
        }
        again = writer_at(server, retries=2)
        assert again.write(requests) == prompts
        assert again.counts["calls"] == 0 and again.counts["replaced"] == 6
    assert found == [extract("dog", "a dog barks loud, with wind in the background")]
    taken = {}
    for request, texts in zip(requests, prompts, strict=True):
        assert texts == compose(request, taken.setdefault(request.label, set()))
        taken[request.label].update(texts)


def test_no_prompt_of_a_label_is_given_twice(writer_at):
    """Nor by a model that says the same to every clip; a label of its own may have the same words."""
    same = json.dumps({"prompts": ["rain and a dog, near"]})

    def mishap(number, body):
        return Answer(same) if len(body["messages"]) == 2 else None

    requests = [CaptionRequest(label, 1, seed) for seed, label in enumerate(["dog", "rain", "dog", "dog"])]
    with ChatServer(mishap) as server:
        writer = writer_at(server)
        prompts = writer.write(requests)
    assert prompts[0] == prompts[1] == ["rain and a dog, near"]
    assert len({text for texts in (prompts[0], prompts[2], prompts[3]) for text in texts}) == 3
    assert (writer.counts["retries"], writer.counts["replaced"]) == (2, 0)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": formatdate(time.time() - 60, usegmt=True)}, 0),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after_s(headers) == seconds


def test_retry_after_a_date():
    assert 57 < retry_after_s({"retry-after": formatdate(time.time() + 60, usegmt=True)}) <= 60


def test_the_pause_that_the_server_asks_for_holds_for_all(writer_at):
    busy = error(429, "slow down")
    busy.headers["Retry-After"] = "0.7"

    def mishap(number, body):
        # the others take a while, so that none makes room for a new call before the pause is known
        return busy if number in (4, 5) else Answer(reply_to(body), delay_s=0.3)

    with ChatServer(mishap) as server:
        writer = writer_at(server, concurrency=4)
        writer.write(requests_of(8))
    late = [t - server.times[5] for t in server.times[6:]]
    # calls that were on their way already may come before the pause
    assert sum(t < 0.69 for t in late) <= 2 and sum(t >= 0.69 for t in late) >= 2, late
    assert writer.counts["calls"] == 10


def test_too_long_a_pause_ends_the_run_with_a_word_on_how_to_go_on(writer_at):
    busy = error(429, "come back tomorrow")
    busy.headers["Retry-After"] = "80000"
    with ChatServer(lambda number, body: busy if number == 3 else None) as server:
        writer = writer_at(server, concurrency=1)
        with pytest.raises(UserError, match=r"wait for 80000 s.*cache\.jsonl, and the same command goes on"):
            writer.write(requests_of())
        again = writer_at(server)
        again.write(requests_of())
    assert (again.counts["from_cache"], again.counts["calls"]) == (3, 3)


def test_a_server_that_stays_down_is_given_up(writer_at):
    with ChatServer(lambda number, body: error(502, "bad gateway")) as server:
        with pytest.raises(UserError, match=r"server fails \(HTTP 502\) bad gateway, 7 times"):
            writer_at(server).write(requests_of(1))
        assert len(server.bodies) == 7
    with pytest.raises(UserError, match=r"127\.0\.0\.1:.* cannot be reached"):
        writer_at(server, cache="other.jsonl").write(requests_of(1))


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (error(401, f"Incorrect API key provided: {KEY}"), "refuses the key (HTTP 401)"),
        (error(403, "no"), "refuses the key (HTTP 403)"),
        (error(404, f"no model m for {KEY}"), "(HTTP 404) no model m for ***"),
        (error(429, "You exceeded your quota", code="insufficient_quota"), "(HTTP 429) You exceeded your quota"),
        (error(400, "messages: wrong"), "(HTTP 400) messages: wrong"),
    ],
)
def test_what_no_repetition_mends_ends_the_run_at_once(answer, part, writer_at):
    with ChatServer(lambda number, body: answer) as server:
        with pytest.raises(UserError, match=re.escape(part)) as caught:
            writer_at(server).write(requests_of())
        assert len(server.bodies) <= 5  # 400: without each of the optional parts in turn
    assert KEY not in str(caught.value)


def test_prompts_are_in_their_rows_whatever_comes_first(writer_at, right_prompts):
    """The reply to an early request comes late, and calls overlap."""
    requests = requests_of(24)
    late = {request.seed: 0.004 * (24 - k) for k, request in enumerate(requests)}

    def slow(number, body):
        return Answer(reply_to(body), delay_s=late[value(body["messages"][1]["content"], "recording")])

    with ChatServer(slow) as server:
        writer = writer_at(server, concurrency=6)
        prompts = writer.write(requests)
    assert prompts == right_prompts(requests)
    assert 4 <= server.most_at_once <= 6


def test_replies_without_usage_still_count(writer_at):
    with ChatServer(lambda number, body: Answer(reply_to(body), with_usage=False)) as server:
        writer = writer_at(server)
        writer.write(requests_of(2))
    sent = sum(len(message["content"]) for body in server.bodies for message in body["messages"])
    assert 0.9 * sent / 4 < writer.counts["prompt_tokens"] < 1.1 * sent / 4
    assert writer.counts["completion_tokens"] > 20


def test_the_limit_of_calls_stops_and_the_rest_is_for_the_next_time(tmp_path):
    write_rows(tmp_path / "gold.csv", gold_rows(12))
    words = ["--mode", "plain", "--llm_max_calls", 7, "--llm_input_price", 100, "--llm_output_price", 1000]
    with ChatServer() as server:
        done = run(tmp_path, server, *words, ok=False)
        assert done.returncode == 2 and len(server.bodies) == 7
        assert not (tmp_path / "prompts.csv").exists()
        message = done.stderr.splitlines()[-1]
        assert "limit of 7 calls (--llm_max_calls)" in message and "spent: 7 calls" in message
        assert "5 requests have no reply yet" in message and "prompts.cache.jsonl" in message
        sent, got, price = re.search(r"(\d+) tokens sent and (\d+) received, costs ([\d.]+)", message).groups()
        assert float(price) == pytest.approx((int(sent) * 100 + int(got) * 1000) / 1e6, abs=1e-4)
        done = run(tmp_path, server, *words)
        assert len(server.bodies) == 12
    assert "12 requests to m, 7 of them answered before; about 5 calls" in done.stderr
    assert "write done; so far 12 requests, 5 calls" in done.stderr


def test_the_limit_of_tokens_is_not_passed_at_any_concurrency(writer_at):
    requests = requests_of(30)
    with ChatServer() as server:
        plain = writer_at(server, cache="all.jsonl")
        plain.write(requests)
        each = (plain.counts["prompt_tokens"] + plain.counts["completion_tokens"]) / 30
        limit = round(12 * each)
        writer = writer_at(server, concurrency=8, max_tokens=limit, reply_tokens=60)
        with pytest.raises(UserError, match=rf"{limit} tokens \(--llm_max_tokens\)"):
            writer.write(requests)
        spent = writer.counts["prompt_tokens"] + writer.counts["completion_tokens"]
        assert 9 * each < spent <= limit
        assert len(AnswerCache(writer.options.cache)._answers) == writer.counts["calls"]


def test_a_repeated_run_costs_nothing_and_gives_the_same(tmp_path):
    write_rows(tmp_path / "gold.csv", gold_rows())
    with ChatServer() as server:
        run(tmp_path, server, "--cache", tmp_path / "kept.jsonl")
        calls = len(server.bodies)
        run(tmp_path, server, "--cache", tmp_path / "kept.jsonl", name="again")
        assert len(server.bodies) == calls == 9 + 9
        run(tmp_path, server, "--cache", tmp_path / "kept.jsonl", "--num_captions", 3, name="more")
        assert len(server.bodies) == calls + 9  # the captions were read, the prompts are other ones
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "prompts.csv").read_bytes()
    counts = json.loads((tmp_path / "again.json").read_text())["writer"]
    assert counts["name"] == "m" and counts["from_cache"] == 18 and counts["calls"] == 0


def test_a_killed_run_loses_nothing_that_was_kept(tmp_path):
    write_rows(tmp_path / "gold.csv", gold_rows(12))
    cache = tmp_path / "prompts.cache.jsonl"
    with ChatServer(lambda number, body: Answer(reply_to(body), delay_s=30 if number >= 15 else 0)) as server:
        words = ["--input_csv", tmp_path / "gold.csv", "--output_csv", tmp_path / "prompts.csv", "--llm_concurrency", 2]
        command = [
            sys.executable,
            SCRIPT,
            *words,
            "--writer",
            "openai",
            "--llm_model",
            "m",
            "--llm_base_url",
            server.url,
        ]
        process = subprocess.Popen([*map(str, command)], stderr=subprocess.DEVNULL)
        ends = time.monotonic() + 60
        while (not cache.exists() or cache.read_bytes().count(b"\n") < 15) and time.monotonic() < ends:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "prompts.csv").exists() and cache.read_bytes().count(b"\n") == 15
    cache.write_bytes(cache.read_bytes() + b'{"key": "ab", "answ')  # it was killed while it wrote
    with ChatServer() as server:
        run(tmp_path, server)
        assert len(server.bodies) == 24 - 15
    with ChatServer() as server:
        run(tmp_path, server, name="undisturbed")
    assert (tmp_path / "prompts.csv").read_bytes() == (tmp_path / "undisturbed.csv").read_bytes()


def test_odd_characters_do_not_break_the_file_of_replies(tmp_path):
    cache = AnswerCache(tmp_path / "c.jsonl")
    answers = ["a\u2028b\u0085c\x1cd\ne", "ünï", ""]
    for number, answer in enumerate(answers):
        cache.put([number], answer)
    line = '\n{"key": "x", "answer": "ü'.encode()
    (tmp_path / "c.jsonl").write_bytes((tmp_path / "c.jsonl").read_bytes() + line[:-1])  # cut inside a character
    again = AnswerCache(tmp_path / "c.jsonl")
    assert [again.get([number]) for number in range(4)] == [*answers, None]


def test_half_a_surrogate_pair_is_no_crash(writer_at, tmp_path):
    with ChatServer(first(Answer("\ud83d {"))) as server:
        writer = writer_at(server)
        writer.write(requests_of(1))
        again = writer_at(server)
        again.write(requests_of(1))
    assert writer.counts["retries"] == 1 and again.counts["calls"] == 0


def test_the_key_goes_to_the_server_and_nowhere_else(tmp_path):
    write_rows(tmp_path / "gold.csv", gold_rows(3))
    texts = []
    with ChatServer(first(error(500, f"oops {KEY}"))) as server:
        done = run(tmp_path, server)
        texts += [done.stdout, done.stderr]
        assert set(server.keys) == {f"Bearer {KEY}"}
    with ChatServer(lambda number, body: error(401, f"Incorrect API key provided: {KEY[:8]}***")) as server:
        done = run(tmp_path, server, name="refused", ok=False)
        texts += [done.stdout, done.stderr]
    written = [path.read_bytes().decode() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) >= 4
    assert not [text for text in texts + written if KEY[:8] in text]
    assert "set OPENAI_API_KEY" in texts[-1]


@pytest.mark.parametrize(
    ("words", "key", "part"),
    [
        (["--llm_base_url", "http://me:secret@localhost/v1"], KEY, "give the key in OPENAI_API_KEY"),
        (["--llm_base_url", "http://localhost/v1?api-key=secret"], KEY, "give the key in OPENAI_API_KEY"),
        (["--llm_base_url", "localhost:8000/v1"], KEY, "no http(s) address"),
        (["--llm_base_url", "http://[secret"], KEY, "no http(s) address"),
        ([], "", "needs a key in the variable OPENAI_API_KEY"),
        (["--llm_model", ""], KEY, "needs --llm_model"),
        (["--writer", "embedded"], KEY, "go with --writer openai, not with 'embedded'"),
        (["--llm_model", "", "--writer", "/not/there"], KEY, "use 'embedded', 'openai', or a chat model's folder"),
    ],
)
def test_options_that_cannot_work_are_refused(tmp_path, monkeypatch, words, key, part):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    write_rows(tmp_path / "gold.csv", gold_rows(3))
    args = ["--input_csv", tmp_path / "gold.csv", "--output_csv", tmp_path / "out.csv", "--writer", "openai"]
    done = call_script(SCRIPT, *args, "--llm_model", "m", *words)
    assert done.returncode == 2 and part in done.stderr and "secret" not in done.stderr, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["gold.csv"]


def test_a_server_of_ones_own_needs_no_key_and_may_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "")
    with ChatServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        writer = load_writer("openai", WriterOptions(cache=str(tmp_path / "c.jsonl"), model="m"))
        assert writer.write(requests_of(2)) and len(server.bodies) == 2
