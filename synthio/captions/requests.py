"""Interfaces of the models that hear clips and write captions, and what passes between them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Extraction:
    """What a caption says besides the label (paper, section 3.3).

    Attributes:
        events: further sounds, and how the labelled one sounds.
        backgrounds: scenes behind them.
    """

    events: tuple[str, ...] = ()
    backgrounds: tuple[str, ...] = ()


@dataclass(frozen=True)
class CaptionRequest:
    """One clip that needs prompts.

    Attributes:
        label: in words, as the prompts must say it.
        count: prompts wanted, all different.
        seed: of everything random in the writer.
        domain: where the sounds come from, or "".
        caption: what was heard in the gold clip, or "".
        pool: MixCap's sample of what was heard with this label.
        rejected: the prompt whose clip the filter refused (self-reflection), or "".
        accepted: prompts of this label whose clips it kept.
        diverse: new events and scenes are wanted, beyond what the label says (contrastive training).
    """

    label: str
    count: int
    seed: int
    domain: str = ""
    caption: str = ""
    pool: Extraction = Extraction()
    rejected: str = ""
    accepted: tuple[str, ...] = ()
    diverse: bool = False


@dataclass(frozen=True)
class WriterOptions:
    """How a language model is asked. All but the first four matter to a server alone.

    Attributes:
        cache: JSON Lines file that keeps its replies.
        retries: how often a wrong reply is asked for again, with the error named.
        reply_tokens: longest reply, in tokens.
        device: torch device of a local model.
        model: name of the model on the server.
        base_url: of the server; "": OPENAI_BASE_URL, else OpenAI's own.
        concurrency: calls in flight at once.
        timeout_s: longest wait for a reply, in seconds.
        max_calls: limit of calls; 0: none.
        max_tokens: limit of tokens, both ways together; 0: none.
        input_price, output_price: of a million tokens sent and received; 0: no costs are shown.
    """

    cache: str = "captions_cache.jsonl"
    retries: int = 2
    reply_tokens: int = 1024
    device: str = "auto"
    model: str = ""
    base_url: str = ""
    concurrency: int = 8
    timeout_s: float = 120.0
    max_calls: int = 0
    max_tokens: int = 0
    input_price: float = 0.0
    output_price: float = 0.0


# What an audio LLM is asked. The answer is a caption as it is, so it must be one sentence and hold no guesses.
INSTRUCTION = (
    "Describe what is heard in this recording in one sentence: each sound, what makes it and how it sounds, "
    "and the scene behind it. Leave out what cannot be heard."
)


@dataclass(frozen=True)
class CaptionerOptions:
    """How a captioner is run.

    Attributes:
        device: torch device, or "auto".
        batch_size: clips described at once.
        instruction: what the model is asked; "auto": `INSTRUCTION`, but no words for a model made for captions alone;
            "none": no words.
        max_new_tokens: longest caption, in tokens.
        gama_dir: folder of a clone of the GAMA repository.
        gama_checkpoint: GAMA's weights, a file or the folder of one.
        gama_env: venv folder or conda environment that GAMA runs in.
    """

    device: str = "auto"
    batch_size: int = 8
    instruction: str = "auto"
    max_new_tokens: int = 256
    gama_dir: str = ""
    gama_checkpoint: str = ""
    gama_env: str = ""

    def instruction_for(self, model: str) -> str:
        """The words that go with a sound. Qwen3-Omni's captioner was trained on sound without any."""
        if self.instruction == "auto":
            return "" if "captioner" in model.lower() else INSTRUCTION
        return "" if self.instruction == "none" else self.instruction


class Captioner(ABC):
    """A model that puts in words what it hears.

    Attributes:
        name: for the record.
        key: all that decides a caption besides the sound; captions are kept by it.
        sample_rate: in Hz; clips are resampled to it.
        batch_size: clips it takes at once.
    """

    name: str
    key: tuple
    sample_rate: int
    batch_size: int

    @abstractmethod
    def describe(self, clips: Sequence[np.ndarray]) -> list[str]:
        """Mono clips [1, T] at `sample_rate` -> one caption each. A caption never depends on the other clips."""


class CaptionWriter(ABC):
    """A model that writes prompts.

    Attributes:
        name: for the record.
        counts: what happened (calls, replies from the cache, replies that had to be replaced), for the record.
    """

    name: str
    counts: dict[str, int]

    @abstractmethod
    def extract(self, captions: Sequence[tuple[str, str]]) -> list[Extraction]:
        """(label in words, caption) of each clip -> what the caption says besides the label."""

    @abstractmethod
    def write(self, requests: Sequence[CaptionRequest]) -> list[list[str]]:
        """`count` different prompts for each request, at most 25 words each, with the label as a phrase.

        Prompts of one label are not repeated as long as others can be found.
        """


def one_line(text: str) -> str:
    """A model's answer as a cell of a table."""
    return " ".join(text.split())


def may_be_model(name: str) -> bool:
    """Whether a name is a folder, or can be a hub id (owner/name)."""
    return Path(name).is_dir() or bool(re.fullmatch(r"[\w.-]+/[\w.-]+", name))
