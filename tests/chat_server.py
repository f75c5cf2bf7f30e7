"""A server on loopback that speaks OpenAI's chat protocol and misbehaves on demand.

Its "model" obeys rules: it takes the phrases of a caption apart at the commas, and makes prompts of label, number and
a word of its own; of a sound it says pitch and length. What it was sent is kept.
"""

from __future__ import annotations

import base64
import io
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = "near far soft harsh short long low high dull bright early late wet dry old new".split()


@dataclass
class Answer:
    """What goes over the wire; `text` is the model's reply inside a whole completion, unless `body` is given."""

    text: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    delay_s: float = 0.0
    with_usage: bool = True


def value(text: str, name: str) -> Any:
    """A value of the DATA part of a question."""
    found = re.search(rf"^{name}: (.*)$", text, re.MULTILINE)
    return json.loads(found.group(1)) if found else None


def words_of(message: dict) -> str:
    """The text of a message, whose content may be a list of parts."""
    content = message["content"]
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def sounds_in(body: dict) -> list[tuple[Any, int]]:
    """(samples [T], sample rate) of the sounds of a request; one that is no WAV file fails."""
    import soundfile

    parts = [part for m in body["messages"] if isinstance(m["content"], list) for part in m["content"]]
    found = []
    for part in parts:
        if part["type"] == "input_audio":
            assert set(part["input_audio"]) == {"data", "format"} and part["input_audio"]["format"] == "wav"
            data = base64.b64decode(part["input_audio"]["data"], validate=True)
            with soundfile.SoundFile(io.BytesIO(data)) as file:
                assert (file.format, file.subtype, file.channels) == ("WAV", "PCM_16", 1)
                found.append((file.read(), file.samplerate))
    return found


def heard(body: dict) -> str:
    """What the model hears in a sound: how long it is, and whether it is high."""
    ((samples, rate),) = sounds_in(body)
    crossings = sum((samples[1:] > 0) != (samples[:-1] > 0)) / 2
    return f"a tone of {crossings / len(samples) * rate:.0f} Hz for {len(samples) / rate:.2f} seconds"


def reply_to(body: dict) -> str:
    """What the model says, by its rules."""
    if sounds_in(body):
        return heard(body)
    text = body["messages"][1]["content"]
    if '"events"' in text and "caption of a recording" in text:
        parts = [part.strip(" .") for part in value(text, "caption").split(",")]
        behind = [part for part in parts if part.startswith("with ")]
        return json.dumps({"events": [part for part in parts if part not in behind], "backgrounds": behind})
    label, number = value(text, "label"), value(text, "recording")
    count = int(re.search(r"Write\s(\d+) ", text).group(1))
    attempt = len(body["messages"]) // 2
    names = [f"{label}, {WORDS[(number + k) % len(WORDS)]}, number {number % 9973} {attempt}" for k in range(count)]
    return json.dumps({"prompts": names})


class ChatServer:
    """Use as a context manager.

    Args:
        mishap: (number of the call, request body) -> an `Answer` that replaces the right one, or None.
    """

    def __init__(self, mishap: Callable[[int, dict], Answer | None] | None = None):
        self.mishap = mishap or (lambda number, body: None)
        self.bodies: list[dict] = []
        self.times: list[float] = []
        self.keys: list[str] = []
        self.most_at_once = self._at_once = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """What goes into --llm_base_url."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> ChatServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def asked(self) -> list[str]:
        """The question of each call so far."""
        return [body["messages"][1]["content"] for body in self.bodies]

    def _handler(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *words):
                pass

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = server._answer(self.path, self.headers.get("Authorization", ""), body)
                if answer is None:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                data = answer.body
                for name, text in {"Content-Type": "application/json", **answer.headers}.items():
                    self.send_header(name, text)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        return Handler

    def _answer(self, path: str, key: str, body: dict) -> Answer | None:
        assert path == "/v1/chat/completions", path
        with self._lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.times.append(time.monotonic())
            self.keys.append(key)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            answer = self.mishap(number, body) or Answer(reply_to(body))
            time.sleep(answer.delay_s)
        finally:
            with self._lock:
                self._at_once -= 1
        if answer.status == 0:
            return None
        if answer.body is None:
            answer.body = completion(answer, body)
        return answer


def completion(answer: Answer, body: dict) -> bytes:
    """A whole chat completion around the model's reply."""
    sent = sum(len(words_of(message)) for message in body["messages"]) // 4
    value = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": answer.text}, "finish_reason": "stop"}],
    }
    if answer.with_usage:
        got = len(answer.text) // 4 + 1
        value["usage"] = {"prompt_tokens": sent, "completion_tokens": got, "total_tokens": sent + got}
    return json.dumps(value).encode()


def error(status: int, message: str, **more: Any) -> Answer:
    """An error as OpenAI sends it."""
    return Answer(status=status, body=json.dumps({"error": {"message": message, **more}}).encode())
