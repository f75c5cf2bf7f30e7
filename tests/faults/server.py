"""A hostile chat server: prompts for every clip, or one line; the key nowhere; an end in time."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st

from synthio.captions import openai_writer
from synthio.captions.openai_writer import OpenAIWriter
from synthio.captions.requests import CaptionRequest, WriterOptions
from synthio.cli import UserError
from tests.chat_server import Answer, ChatServer, completion, reply_to
from tests.faults.trials import Outcome, Silent, check_message, judged

COUNT, LEAST, WAIT_S = 150, 30, 60

KEY = "sk-test-9f8e7d6c5b4a"
TEXTS = st.one_of(
    st.text(max_size=60), st.sampled_from([KEY, f"x {KEY.upper()} y", '{"prompts": []}', "\x1b[2J", "{" * 5000])
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=8,
)
CHOICES = st.one_of(
    VALUES, st.lists(st.fixed_dictionaries({"message": st.one_of(VALUES, st.fixed_dictionaries({"content": VALUES}))}))
)
BODIES = st.one_of(
    st.binary(max_size=200),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries({"choices": CHOICES, "usage": VALUES}).map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries({"error": VALUES}).map(lambda value: json.dumps(value).encode()),
    st.just(b" " * 8_100_000),
)  # fmt: skip
REPLIES = st.one_of(
    TEXTS,
    st.lists(TEXTS, max_size=3).map(lambda prompts: json.dumps({"prompts": prompts})),
    st.lists(TEXTS, max_size=3).map(lambda prompts: json.dumps({"events": prompts, "backgrounds": prompts})),
)
HEADERS = st.dictionaries(
    st.sampled_from(["Location", "Retry-After", "Content-Encoding", "Content-Type", "X-Key"]),
    st.sampled_from(["file:///etc/passwd", "http://127.0.0.1:1/", "0", "0.01",
         "99999", "gzip", "br", "text/html", "identity", KEY, ""]),
    max_size=3,
)  # fmt: skip
STATUSES = st.sampled_from(
    [200, 200, 200, 200, 201, 204, 206, 301, 302, 307, 304, 400, 401, 404, 408, 409, 418, 422, 429, 500, 503]
)


@st.composite
def answers(draw) -> Answer:
    """Anything that a server can say."""
    if draw(st.booleans()):
        return Answer(draw(REPLIES), headers=draw(HEADERS))
    body = draw(BODIES)
    if draw(st.booleans()):
        return Answer(status=draw(STATUSES), headers={"Content-Encoding": "gzip"}, body=gzip.compress(body))
    return Answer(status=draw(STATUSES), headers=draw(HEADERS), body=body)


def drawn(number: int, count: int) -> list[Answer]:
    """Answers that depend on the number alone."""
    found: list[Answer] = []

    @hypothesis_seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(answers())
    def collect(answer: Answer) -> None:
        found.append(answer)

    collect()
    return found


def check_files(folder: Path, said: str) -> None:
    """The key is nowhere."""
    texts = [said, *(path.read_text(encoding="utf-8") for path in folder.iterdir())]
    if any(KEY.lower() in text.lower() for text in texts):
        raise Silent("the key is in a message or in the file of replies")


def trials(numbers: Iterable[int], seed: int, folder: Path, shared: Path) -> Iterator[Outcome]:
    os.environ |= {"OPENAI_API_KEY": KEY, "NO_PROXY": "127.0.0.1"}
    openai_writer.FIRST_PAUSE_S, openai_writer.TRIES = 0.001, 3
    openai_writer.LONGEST_RETRY_AFTER_S = 0.05
    folder.mkdir(parents=True, exist_ok=True)

    def trial(rng: random.Random) -> str:
        said = drawn(rng.randrange(1 << 30), 4)
        cache = folder / "replies.jsonl"
        cache.unlink(missing_ok=True)

        def mishap(number: int, body: dict) -> Answer | None:
            answer = said[number % len(said)]
            if answer.body is None:  # built anew for each call
                return Answer(headers=answer.headers, body=completion(answer, body))
            return answer if number < 12 else Answer(reply_to(body))

        requests = [CaptionRequest(label, 2, seed=k) for k, label in enumerate(["dog bark", "rain", "siren"])]
        with ChatServer(mishap) as server:
            options = WriterOptions(cache=str(cache), model="m", base_url=server.url, timeout_s=5, retries=1)
            try:
                prompts = OpenAIWriter(options).write(requests)
            except UserError as error:
                check_message(str(error))
                check_files(folder, str(error))
                raise
        check_files(folder, json.dumps(prompts))
        if [len(texts) for texts in prompts] != [2, 2, 2]:
            raise Silent(f"prompts are missing: {prompts}")
        return f"{len(server.bodies)} calls"

    return judged(numbers, seed, "server", trial, (UserError,))
