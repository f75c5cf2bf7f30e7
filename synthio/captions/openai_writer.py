"""A model on a server that speaks OpenAI's chat protocol, OpenAI itself, vLLM, llama.cpp, Ollama and so on; and a
caption writer that is one.

The key comes from OPENAI_API_KEY and goes nowhere but to the server: where a reply repeats it, it is masked. Calls run
at once, up to `concurrency` of them; one thread alone decides what is sent, so the limits hold to the call, and a pause
that the server asks for holds for all.

The server is not trusted. A call ends after `timeout_s`, however the server spends that time; no more than
MAX_RESPONSE_BYTES of a response are read, decompressed; a redirection is not followed.
"""

from __future__ import annotations

import asyncio
import email.utils
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import openai

from synthio.captions.chat_writer import ChatWriter, Question, Reply, price_of, tokens_in
from synthio.captions.requests import ServerOptions, WriterOptions
from synthio.cli import UserError, first_line

TRIES = 7  # of a call that fails for no fault of its own
FIRST_PAUSE_S = 2.0  # doubled with every try: two minutes in all, longer than the minute that rate limits look at
LONGEST_PAUSE_S = 60.0
LONGEST_RETRY_AFTER_S = 300.0  # a server that asks for more is done with us for now
MAX_RESPONSE_BYTES = 8_000_000  # decompressed; a long reply of a model that reasons has a tenth of it
MAX_LOCATION_CHARS = 100  # of a redirection, as shown
# What a server may not know, in the order in which it is given up when the error names none.
OPTIONAL = ("response_format", "max_tokens", "temperature", "seed")
# A 400 or 422 with such words is about what the caption says or how long it is, not about how we ask.
_REFUSED_TEXT = re.compile(r"content.?(filter|policy|management)|context.?length|maximum context|safety", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """A model on a server, and what messages call what decides it.

    Attributes:
        user: what wants it, as an option: "--writer openai".
        model, base_url: of the options of the names `model_option` and `url_option`.
        key: the environment variable that holds the key.
        reply_tokens: the longest reply.
        kept_in: the file that keeps the replies.
    """

    user: str
    model: str
    base_url: str
    reply_tokens: int
    kept_in: str
    model_option: str = "--llm_model"
    url_option: str = "--llm_base_url"
    key: str = "OPENAI_API_KEY"


class Server:
    """A model behind OpenAI's chat protocol.

    Args:
        asked: which one.
        options: limits and prices.

    Attributes:
        counts: calls and tokens so far; who asks may count more in it.

    Raises:
        UserError: no model is named, there is neither a key nor a base URL, or one of these cannot be.
    """

    def __init__(self, asked: Asked, options: ServerOptions):
        self.asked, self.options = asked, options
        self.counts = dict.fromkeys(("calls", "prompt_tokens", "completion_tokens"), 0)
        if not asked.model:
            raise UserError(f"{asked.user} needs {asked.model_option}, the name of a model on the server")
        base_url = asked.base_url or os.environ.get("OPENAI_BASE_URL", "")
        check_url(base_url, asked)
        self._secret = os.environ.get(asked.key, "").strip()
        if not self._secret and not base_url:
            raise UserError(f"{asked.user} needs a key in the variable {asked.key}, or {asked.url_option} of a server")
        if not self._secret.isascii() or not self._secret.isprintable():
            raise UserError(f"{asked.key} holds characters that no key has; copy the key once more")
        self._key_pattern = key_pattern(self._secret)
        if self._key_pattern and self._key_pattern.search(base_url):
            raise UserError(
                f"{asked.url_option} holds the key, and is written into records; give it in {asked.key} alone"
            )
        self._base_url = base_url
        self._server = f"the server at {base_url or 'OpenAI'}"
        self._at_once = 1  # calls in flight; grows with every success, so that the first call tries what is accepted
        self._not_before = 0.0  # no call starts before this time (of the monotonic clock)
        self._given_up: set[str] = set()  # of OPTIONAL

    def _client(self) -> openai.AsyncOpenAI:
        """A client of the event loop that uses it first."""
        return openai.AsyncOpenAI(
            api_key=self._secret or "none",
            base_url=self._base_url or None,
            timeout=self.options.timeout_s,
            max_retries=0,
            http_client=BoundedClient(self.asked.url_option),
        )

    def complete(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """(number, reply) of each question, in any order, as they come.

        An error that makes going on useless is raised when the calls in flight have been kept.

        Raises:
            UserError: the server refuses, fails for long, or a limit is reached.
        """
        waiting, tries = deque(range(len(questions))), [0] * len(questions)
        running: dict[Future, int] = {}
        stop: UserError | None = None
        client = self._client()
        with event_loop() as loop:
            while running or (waiting and stop is None):
                while waiting and stop is None and len(running) < self._at_once:
                    over = self._over_limit([questions[k] for k in (waiting[0], *running.values())])
                    if over and not running:  # else a call in flight may take less than is held for it
                        stop = self._limit_error(over, len(waiting))
                    if over:
                        break
                    k = waiting.popleft()
                    tries[k] += 1
                    self.counts["calls"] += 1
                    running[asyncio.run_coroutine_threadsafe(self._call(client, questions[k]), loop)] = k
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    k = running.pop(future)
                    try:
                        reply = self._reply(future, questions[k], tries[k])
                    except UserError as error:
                        stop = stop or error
                        continue
                    if reply is None:
                        waiting.appendleft(k)
                    else:
                        yield k, reply
            asyncio.run_coroutine_threadsafe(client.close(), loop).result()
        if stop is not None:
            raise stop

    async def _call(self, client: openai.AsyncOpenAI, question: Question) -> object:
        """Send one request. The client's own time-out is that of one read: a server could drip."""
        while (pause := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(pause)
        async with asyncio.timeout(self.options.timeout_s):
            return await client.chat.completions.create(
                model=self.asked.model,
                messages=question.chat(),  # type: ignore[arg-type]  # one dict for all roles, not a class for each
                **self._settings(question),
            )

    def _settings(self, question: Question) -> dict[str, Any]:
        """The optional parts of a request that the server has not refused yet."""
        length = self.asked.reply_tokens
        wanted: dict[str, Any] = {"max_tokens": length, "temperature": question.temperature, "seed": question.seed}
        if question.schema is not None:
            schema = {"name": question.schema.__name__, "strict": True, "schema": question.schema.model_json_schema()}
            wanted["response_format"] = {"type": "json_schema", "json_schema": schema}
        settings = {name: wanted[name] for name in OPTIONAL if name in wanted and name not in self._given_up}
        # its newer name, which older servers do not know
        return settings if "max_tokens" in settings else settings | {"max_completion_tokens": length}

    def _reply(self, future: Future, question: Question, tries: int) -> Reply | None:
        """What a call gave; None: it is to be sent again.

        Raises:
            UserError: sending it again is useless.
        """
        found, fault = None, ""
        try:
            found = read_completion(future.result())
        except openai.APIStatusError as error:
            return self._after_refusal(error, tries)
        except UnusableResponse as error:
            raise UserError(f"{self._server} {self._masked(str(error))}; {self._go_on()}") from None
        except openai.APIConnectionError as error:
            self._pause(f"{self._server} cannot be reached ({error.message})", tries)
            return None
        except TimeoutError:
            self._pause(f"{self._server} sent no whole reply in {self.options.timeout_s:g} s", tries)
            return None
        except (ValueError, RecursionError) as error:  # no JSON, or brackets without end
            fault = f" ({self._masked(first_line(error))})"
        if found is None:  # a page of some gateway, too
            self._pause(f"{self._server} sent no chat completion{fault}", tries)
            return None
        self._at_once = min(self._at_once + 1, self.options.concurrency)
        text, sent, got = self._masked(found[0]), *found[1:]
        return Reply(text, sent or tokens_in(question.size()), got or tokens_in(len(text.encode("utf-8", "replace"))))

    def _after_refusal(self, error: openai.APIStatusError, tries: int) -> Reply | None:
        """What follows an HTTP error: a pause, a request with less in it, a reply without text, or the end."""
        status, said = error.status_code, self._said(error)
        if status in (401, 403):  # the server's own words may hold a part of the key
            raise UserError(f"the server refuses the key (HTTP {status}); set {self.asked.key} to one that it knows")
        if status == 429 and error.code != "insufficient_quota":
            self._at_once = max(1, self._at_once // 2)
            self._pause("the server asks for fewer calls (HTTP 429)", tries, error.response.headers)
            return None
        if status in (408, 409) or status >= 500:
            self._pause(f"the server fails (HTTP {status}) {said}", tries, error.response.headers)
            return None
        if status in (400, 422):
            if _REFUSED_TEXT.search(f"{error.code} {said}"):
                return Reply("", 0, 0)
            if tries < TRIES and self._give_up(error, said):
                return None
        raise UserError(f"the server refuses the request (HTTP {status}) {said}; {self._go_on()}")

    def _give_up(self, error: openai.APIStatusError, said: str) -> bool:
        """Leave out an optional part of all further requests: the one the error names, else the first still there."""
        said_words = re.findall(r"\w+", said)
        named = [name for name in OPTIONAL if name == error.param] or [name for name in OPTIONAL if name in said_words]
        left = [name for name in OPTIONAL if name not in self._given_up]
        if named and named[0] in self._given_up:
            return True  # another call has found out
        if not left:
            return False
        self._given_up.add((named or left)[0])
        return True

    def _said(self, error: openai.APIStatusError) -> str:
        """The server's own words, short and without the key."""
        body = error.body.get("message", error.body) if isinstance(error.body, dict) else error.body
        return self._masked(" ".join(str(body or "").split()))[:300]

    def _masked(self, text: str) -> str:
        """A text of the server's without the key."""
        return self._key_pattern.sub("***", text) if self._key_pattern else text

    def _pause(self, reason: str, tries: int, headers: Mapping[str, str] | None = None) -> None:
        """Let no call start for a while; at the last try, end.

        Raises:
            UserError: it was the last try, or the server asks for too long a pause.
        """
        asked = retry_after_s(headers or {})
        if tries >= TRIES:
            raise UserError(f"{reason}, {tries} times; {self._go_on()}")
        if asked is not None and asked > LONGEST_RETRY_AFTER_S:
            raise UserError(f"{reason} and to wait for {asked:.0f} s; {self._go_on()}")
        pause = min(FIRST_PAUSE_S * 2 ** (tries - 1), LONGEST_PAUSE_S) if asked is None else asked
        self._not_before = max(self._not_before, time.monotonic() + pause)
        print(f"{reason}; next call in {pause:.1f} s", file=sys.stderr, flush=True)

    def _over_limit(self, held: Sequence[Question]) -> str:
        """The limit that could be passed by the calls in flight and the next one; "" if none.

        Held for a call are the longest reply and a token for every three bytes that are sent.
        """
        options, counts = self.options, self.counts
        if options.max_calls and counts["calls"] >= options.max_calls:
            return f"{options.max_calls} calls (--llm_max_calls)"
        most = sum(question.size() // 3 + self.asked.reply_tokens for question in held)
        if options.max_tokens and counts["prompt_tokens"] + counts["completion_tokens"] + most > options.max_tokens:
            return f"{options.max_tokens} tokens (--llm_max_tokens)"
        return ""

    def _limit_error(self, limit: str, left: int) -> UserError:
        counts = self.counts
        sent, got = counts["prompt_tokens"], counts["completion_tokens"]
        costs = price_of(self.options, sent, got)
        return UserError(
            f"the limit of {limit} allows no further call; spent: {counts['calls']} calls, {sent} tokens sent and "
            f"{got} received{costs}; {left} requests have no reply yet. Raise the limit, or repeat the command as it "
            f"is to spend as much again: {self._go_on()}"
        )

    def _go_on(self) -> str:
        return f"the replies so far are in {self.asked.kept_in}, and the same command goes on from there"


class OpenAIWriter(ChatWriter):
    """See `ChatWriter`.

    Raises:
        UserError: see `Server`.
    """

    def __init__(self, options: WriterOptions):
        asked = Asked("--writer openai", options.model, options.base_url, options.reply_tokens, options.cache)
        self._at = Server(asked, options)
        super().__init__(options.model, options)
        self.counts |= self._at.counts
        self._at.counts = self.counts

    def _complete(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """See `ChatWriter`."""
        return self._at.complete(questions)


class UnusableResponse(Exception):
    """What a server sent that no repetition of the call mends; the message goes on from "the server"."""


class BoundedClient(openai.DefaultAsyncHttpxClient):
    """The HTTP client: it reads at most MAX_RESPONSE_BYTES of a response, decompressed, and goes nowhere else.

    Args:
        url_option: what gave the address, for the message.
    """

    def __init__(self, url_option: str) -> None:
        # other ways to compress than these could hold a gigabyte in a kilobyte
        headers = {"Accept-Encoding": "gzip, deflate"}
        refuse = partial(refuse_redirection, url_option=url_option)
        super().__init__(follow_redirects=False, headers=headers, event_hooks={"response": [refuse]})

    async def send(self, request, **options):
        """See httpx; the body has been read.

        Raises:
            UnusableResponse: it is too long.
        """
        response = await super().send(request, **options | {"stream": True})
        content = bytearray()
        try:
            async for piece in response.aiter_bytes():
                content += piece
                if len(content) > MAX_RESPONSE_BYTES:
                    raise UnusableResponse(f"sent a reply of more than {MAX_RESPONSE_BYTES // 1_000_000} MB")
        finally:
            await response.aclose()
        told = ("content-encoding", "content-length", "transfer-encoding")  # of the bytes on the wire
        headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in told]
        return type(response)(response.status_code, headers=headers, content=bytes(content), request=request)


async def refuse_redirection(response, url_option: str) -> None:
    """What a server names may be any host or file: it would get captions, or sounds.

    Raises:
        UnusableResponse: the response is a redirection.
    """
    if 300 <= response.status_code < 400:
        place = response.headers.get("location", "")[:MAX_LOCATION_CHARS]
        raise UnusableResponse(
            f"sends the call elsewhere (HTTP {response.status_code}{place and f', to {place}'}), where it does not go; "
            f"give the address that answers itself in {url_option}"
        )


@contextmanager
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own; what still runs at the end is cancelled."""
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        ready.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    loop, stop = ready.result()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def read_completion(completion: object) -> tuple[str, int, int] | None:
    """(text, tokens sent, tokens received) of a chat completion; 0 where it does not count. None: it is none.

    openai's client takes any JSON for a completion.
    """
    choices = getattr(completion, "choices", None)
    message = getattr(choices[0], "message", None) if isinstance(choices, list) and choices else None
    if message is None:
        return None
    text = getattr(message, "content", None)
    counted = [getattr(getattr(completion, "usage", None), name, 0) for name in ("prompt_tokens", "completion_tokens")]
    sent, got = (count if type(count) is int and 0 <= count < MAX_RESPONSE_BYTES else 0 for count in counted)
    return (text if isinstance(text, str) else ""), sent, got


def key_pattern(key: str) -> re.Pattern[str] | None:
    """What finds a key in a reply, also with characters that are escaped as JSON does; None if there is no secret.

    Servers of one's own take words for a key ("none", "ollama"), which are no secret, and which a caption may say.
    """
    if not key or (key.isalpha() and len(key) < 16):
        return None
    parts = (rf"(?:\\?{re.escape(char)}|\\u{ord(char):04x})" for char in key)
    return re.compile("".join(parts), re.IGNORECASE)


def check_url(url: str, asked: Asked) -> None:
    """Refuse a base URL that is none, or that holds a secret: it is written into the record of the output."""
    if not url:
        return
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"{asked.url_option} is no http(s) address; such as http://localhost:8000/v1")
    if parts.username or parts.password or parts.query:
        raise UserError(f"{asked.url_option} holds a user, a password or a query; give the key in {asked.key} instead")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The pause in seconds that a response asks for: a number, or a date; None if it does not ask."""
    text = headers.get("retry-after-ms") or headers.get("retry-after") or ""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text) / (1000 if headers.get("retry-after-ms") else 1)
    date = email.utils.parsedate_tz(text)
    try:
        return None if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())
    except (ValueError, OverflowError):  # the 99th of a month
        return None
