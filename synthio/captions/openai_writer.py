"""A caption writer on a server that speaks OpenAI's chat protocol: OpenAI itself, vLLM, llama.cpp, Ollama and so on.

The key comes from OPENAI_API_KEY and goes nowhere but to the server. Calls run at once, up to `concurrency` of them;
one thread alone decides what is sent, so the limits hold to the call, and a pause that the server asks for holds for
all.
"""

from __future__ import annotations

import email.utils
import json
import os
import re
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any
from urllib.parse import urlsplit

import openai

from synthio.captions.chat_writer import ChatWriter, Question, Reply, tokens_in
from synthio.captions.requests import WriterOptions
from synthio.cli import UserError

TRIES = 7  # of a call that fails for no fault of its own
FIRST_PAUSE_S = 2.0  # doubled with every try: two minutes in all, longer than the minute that rate limits look at
LONGEST_PAUSE_S = 60.0
LONGEST_RETRY_AFTER_S = 300.0  # a server that asks for more is done with us for now
# What a server may not know, in the order in which it is given up when the error names none.
OPTIONAL = ("response_format", "max_tokens", "temperature", "seed")
# A 400 or 422 with such words is about what the caption says or how long it is, not about how we ask.
_REFUSED_TEXT = re.compile(r"content.?(filter|policy|management)|context.?length|maximum context|safety", re.IGNORECASE)


class OpenAIWriter(ChatWriter):
    """See `ChatWriter`.

    Raises:
        UserError: no model is named, or there is neither a key nor a base URL.
    """

    def __init__(self, options: WriterOptions):
        if not options.model:
            raise UserError("--writer openai needs --llm_model, the name of a model on the server")
        super().__init__(options.model, options)
        base_url = options.base_url or os.environ.get("OPENAI_BASE_URL", "")
        check_url(base_url)
        self._secret = os.environ.get("OPENAI_API_KEY", "").strip()
        if not self._secret and not base_url:
            raise UserError("--writer openai needs a key in the variable OPENAI_API_KEY, or --llm_base_url of a server")
        self.client = openai.OpenAI(
            api_key=self._secret or "none", base_url=base_url or None, timeout=options.timeout_s, max_retries=0
        )
        self._at_once = 1  # calls in flight; grows with every success, so that the first call tries what is accepted
        self._not_before = 0.0  # no call starts before this time (of the monotonic clock)
        self._given_up: set[str] = set()  # of OPTIONAL

    def _complete(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """See `ChatWriter`. An error that makes going on useless is raised when the calls in flight have been kept."""
        waiting, tries = deque(range(len(questions))), [0] * len(questions)
        running: dict[Future, int] = {}
        stop: UserError | None = None
        with ThreadPoolExecutor(self.options.concurrency) as threads:
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
                    running[threads.submit(self._call, questions[k])] = k
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
        if stop is not None:
            raise stop

    def _call(self, question: Question) -> object:
        """Send one request; runs in a thread of its own."""
        while (pause := self._not_before - time.monotonic()) > 0:
            time.sleep(pause)
        return self.client.chat.completions.create(
            model=self.options.model,
            messages=question.chat(),  # type: ignore[arg-type]  # one dict for all roles, not a class for each
            **self._settings(question),
        )

    def _settings(self, question: Question) -> dict[str, Any]:
        """The optional parts of a request that the server has not refused yet."""
        schema = {"name": question.schema.__name__, "strict": True, "schema": question.schema.model_json_schema()}
        length = self.options.reply_tokens
        wanted = {
            "response_format": {"type": "json_schema", "json_schema": schema},
            "max_tokens": length,
            "temperature": question.temperature,
            "seed": question.seed,
        }
        settings = {name: value for name, value in wanted.items() if name not in self._given_up}
        # its newer name, which older servers do not know
        return settings if "max_tokens" in settings else settings | {"max_completion_tokens": length}

    def _reply(self, future: Future, question: Question, tries: int) -> Reply | None:
        """What a call gave; None: it is to be sent again.

        Raises:
            UserError: sending it again is useless.
        """
        try:
            completion = future.result()
        except openai.APIStatusError as error:
            return self._after_refusal(error, tries)
        except openai.APIConnectionError as error:  # time-outs too
            self._pause(f"the server at {self.client.base_url} cannot be reached ({error.message})", tries)
            return None
        except (json.JSONDecodeError, UnicodeDecodeError):
            completion = None
        if not getattr(completion, "choices", None):  # a page of some gateway comes as str
            self._pause(f"the server at {self.client.base_url} sent no chat completion", tries)
            return None
        self._at_once = min(self._at_once + 1, self.options.concurrency)
        text, usage = completion.choices[0].message.content or "", completion.usage
        return Reply(
            text,
            (usage and usage.prompt_tokens) or tokens_in(question.size()),
            (usage and usage.completion_tokens) or tokens_in(len(text.encode("utf-8", "replace"))),
        )

    def _after_refusal(self, error: openai.APIStatusError, tries: int) -> Reply | None:
        """What follows an HTTP error: a pause, a request with less in it, a reply without text, or the end."""
        status, said = error.status_code, self._said(error)
        if status in (401, 403):  # the server's own words may hold a part of the key
            raise UserError(f"the server refuses the key (HTTP {status}); set OPENAI_API_KEY to one that it knows")
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
        text = " ".join(str(body or "").split())[:300]
        return text.replace(self._secret, "***") if self._secret else text

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
        most = sum(question.size() // 3 + options.reply_tokens for question in held)
        if options.max_tokens and counts["prompt_tokens"] + counts["completion_tokens"] + most > options.max_tokens:
            return f"{options.max_tokens} tokens (--llm_max_tokens)"
        return ""

    def _limit_error(self, limit: str, left: int) -> UserError:
        counts = self.counts
        sent, got = counts["prompt_tokens"], counts["completion_tokens"]
        return UserError(
            f"the limit of {limit} allows no further call; spent: {counts['calls']} calls, {sent} tokens sent and "
            f"{got} received{self._price(sent, got)}; {left} requests have no reply yet. Raise the limit, or repeat "
            f"the command as it is to spend as much again: {self._go_on()}"
        )

    def _go_on(self) -> str:
        return f"the replies so far are in {self.options.cache}, and the same command goes on from there"


def check_url(url: str) -> None:
    """Refuse a base URL that is none, or that holds a secret: it is written into the record of the output."""
    if not url:
        return
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError("--llm_base_url is no http(s) address; such as http://localhost:8000/v1")
    if parts.username or parts.password or parts.query:
        raise UserError("--llm_base_url holds a user, a password or a query; give the key in OPENAI_API_KEY instead")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The pause in seconds that a response asks for: a number, or a date; None if it does not ask."""
    text = headers.get("retry-after-ms") or headers.get("retry-after") or ""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text) / (1000 if headers.get("retry-after-ms") else 1)
    date = email.utils.parsedate_tz(text)
    return None if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())
