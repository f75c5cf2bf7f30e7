"""A captioner behind a server of OpenAI's chat protocol that takes sound: llama.cpp, vLLM, OpenAI itself.

    OpenAICaptioner(CaptionerOptions(server_model="m", server_url="http://localhost:8080/v1")).describe([clip])

A clip goes there as a WAV file in 16 bits, mono, 16 kHz, in an `input_audio` part beside the instruction. Client,
limits, key and what is refused are those of `synthio.captions.openai_writer`. The key of a server that is named comes
from CAPTION_API_KEY alone: one for OpenAI is sent to no other place.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthio.captions.chat_writer import BYTES_A_TOKEN, MAX_REPLY_CHARS, Question, price_of
from synthio.captions.openai_writer import Asked, Server
from synthio.captions.requests import Captioner, CaptionerOptions, one_line

SAMPLE_RATE = 16000
TOKENS_A_SECOND = 25  # of sound, as audio LLMs have it; for estimates and limits
USUAL_TOKENS = 60  # of a caption
CLIPS_FOR_EACH_CALL = 8  # in memory for one that is in flight


@dataclass(frozen=True)
class SoundQuestion(Question):
    """An instruction with a clip.

    Attributes:
        sound: mono [1, T] at `SAMPLE_RATE`.
    """

    sound: np.ndarray | None = None

    def chat(self) -> list[dict[str, Any]]:
        """See `Question`."""
        assert self.sound is not None, "made by the captioner"
        data = base64.b64encode(wav_bytes(self.sound)).decode("ascii")
        parts: list[dict[str, Any]] = [{"type": "text", "text": text} for _, text in self.messages]
        parts.append({"type": "input_audio", "input_audio": {"data": data, "format": "wav"}})
        return [{"role": "user", "content": parts}]

    def size(self) -> int:
        """See `Question`; the sound counts by its length."""
        assert self.sound is not None, "made by the captioner"
        return super().size() + round(self.sound.shape[1] / SAMPLE_RATE * TOKENS_A_SECOND * BYTES_A_TOKEN)


class OpenAICaptioner(Captioner):
    """See `Captioner`. Captions come as the server answers; its batches are calls that may be in flight at once.

    Raises:
        UserError: see `Server`.
    """

    is_served = True
    sample_rate = SAMPLE_RATE

    def __init__(self, options: CaptionerOptions):
        key = "CAPTION_API_KEY" if options.server_url else "OPENAI_API_KEY"
        asked = Asked(
            "--captioner openai",
            options.server_model,
            options.server_url,
            options.max_new_tokens,
            "the captions' .cache.jsonl",
            "--caption_model",
            "--caption_base_url",
            key,
        )
        self._at = Server(asked, options)
        self.name = options.server_model
        self.batch_size = max(options.batch_size, CLIPS_FOR_EACH_CALL * options.concurrency)
        self.instruction = options.instruction_for(self.name, may_be_alone=False)
        self.key = ("openai", self.name, self.instruction, options.max_new_tokens)

    def describe(self, clips: Sequence[np.ndarray]) -> list[str]:
        """Mono clips [1, T] at `sample_rate` -> captions."""
        captions = dict(self.describe_each(clips))
        return [captions[k] for k in range(len(clips))]

    def describe_each(self, clips: Sequence[np.ndarray]) -> Iterator[tuple[int, str]]:
        """See `Captioner`."""
        words = (("user", self.instruction),) if self.instruction else ()
        questions = [SoundQuestion(words, 0, 0.0, None, USUAL_TOKENS, clip) for clip in clips]
        for k, reply in self._at.complete(questions):
            self._at.counts["prompt_tokens"] += reply.prompt_tokens
            self._at.counts["completion_tokens"] += reply.completion_tokens
            yield k, one_line(reply.text[:MAX_REPLY_CHARS].encode("utf-8", "replace").decode("utf-8"))

    def spent(self) -> str:
        """See `Captioner`."""
        counts = self._at.counts
        sent, got = counts["prompt_tokens"], counts["completion_tokens"]
        costs = price_of(self._at.options, sent, got)
        return f"captions done: {counts['calls']} calls, {sent} tokens sent and {got} received{costs}"


def wav_bytes(clip: np.ndarray) -> bytes:
    """A mono clip [1, T] at `SAMPLE_RATE` as a WAV file in 16 bits."""
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, clip[0], SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return out.getvalue()
