"""Interfaces of the models that hear clips and write captions, and what passes between them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from synthio.models.model_ids import is_hub_id
from synthio.options import Device, Seed, option

if TYPE_CHECKING:
    import numpy as np

BUILT_IN = "embedded"  # the captioner and the writer without weights
MODES = ("mixcap", "plain", "plain_wo_caption", "supcon", "template", "rewrite")  # how prompts are made


@dataclass(frozen=True)
class Extraction:
    """What a caption says besides the label (paper, section 3.3).

    Attributes:
        events: further sounds, and how the labelled one sounds.
        backgrounds: scenes behind them.
    """

    events: tuple[str, ...] = ()
    backgrounds: tuple[str, ...] = ()


# Why the filter refused a clip: it did not sound like its label, is nearly a recording that is there already, is
# distorted by its level, or has no sound.
Rejection = Literal["unlike", "copy", "clipped", "silent"]


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
        why: why it was refused.
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
    why: Rejection = "unlike"
    accepted: tuple[str, ...] = ()
    diverse: bool = False


@dataclass(frozen=True)
class PromptOptions(Seed):
    """Which prompts are written."""

    mode: str = option("mixcap", "how prompts are made, see above", choices=MODES)
    num_captions: int = option(2, "synthetic clips for each gold clip (paper: 2)", low=1, high=100, driver="num_iters")
    pool_share: float = option(0.75, "share of MixCap's pool that a clip's prompts mix (paper: 0.75)", low=0, high=1)
    domain: str = option("", 'where the sounds come from, for the prompts ("urban street recordings")', driver="domain")
    writer: str = option(
        BUILT_IN,
        "what writes the prompts: embedded, openai, or a chat model's folder or Hugging Face id",
        driver="caption_writer",
    )


SERVED = "for a server (caption_writer=openai, captioner=openai), "


@dataclass(frozen=True)
class ServerOptions:
    """How a model behind OpenAI's chat protocol is asked, for captions or for prompts."""

    concurrency: int = option(8, "openai: calls in flight at once", low=1, high=256, flag="llm_concurrency")
    timeout_s: float = option(120.0, "openai: longest wait for a reply, in seconds", low=0.1, flag="llm_timeout_s")
    max_calls: int = option(
        0,
        f"{SERVED}calls that stages 2 and 5, and each round of 8, may make; 0: no limit",
        low=0,
        flag="llm_max_calls",
        driver="llm_max_calls",
        inert=True,
    )
    max_tokens: int = option(
        0,
        f"{SERVED}tokens that a step may send and receive; 0: no limit",
        low=0,
        flag="llm_max_tokens",
        driver="llm_max_tokens",
        inert=True,
    )
    input_price: float = option(
        0.0,
        f"{SERVED}price of a million tokens sent; 0: costs are not told",
        low=0,
        flag="llm_input_price",
        driver="llm_input_price",
        inert=True,
    )
    output_price: float = option(
        0.0,
        f"{SERVED}price of a million tokens received; 0: costs are not told",
        low=0,
        flag="llm_output_price",
        driver="llm_output_price",
        inert=True,
    )


@dataclass(frozen=True)
class WriterOptions(ServerOptions, Device):
    """How a language model is asked. What has `openai` in its help matters to a server alone."""

    cache: str = option("", "JSON Lines file that keeps the replies of language models; empty: <output>.cache.jsonl")
    retries: int = option(2, "how often a wrong reply is asked for again, the error named", low=0, flag="llm_retries")
    reply_tokens: int = option(
        1024, "longest reply, in tokens; models that reason need more", low=1, flag="llm_reply_tokens"
    )
    model: str = option(
        "",
        "for caption_writer=openai, whose key is in OPENAI_API_KEY: name of the model there",
        flag="llm_model",
        driver="llm_model",
    )
    base_url: str = option(
        "",
        "for caption_writer=openai, the server, http://localhost:8000/v1; empty: OPENAI_BASE_URL, else OpenAI",
        flag="llm_base_url",
        driver="llm_base_url",
    )


# What an audio LLM is asked. The answer is a caption as it is, so it must be one sentence and hold no guesses.
INSTRUCTION = (
    "Describe what is heard in this recording in one sentence: each sound, what makes it and how it sounds, "
    "and the scene behind it. Leave out what cannot be heard."
)


@dataclass(frozen=True)
class CaptionerOptions(ServerOptions, Device):
    """How a captioner is run. What has `openai` in its help matters to a server alone."""

    captioner: str = option(
        BUILT_IN,
        "what describes the gold clips: embedded, gama, openai, or an audio LLM's folder or Hugging Face id",
        driver="captioner",
    )
    instruction: str = option(
        "auto",
        "what a captioner that is a model is asked; auto: our wording, but no words for a model with 'captioner' in "
        "its name, which takes sound alone; none: no words",
        driver="caption_instruction",
    )
    max_new_tokens: int = option(
        256, "longest caption of a captioner that is a model, in tokens", low=1, driver="caption_max_tokens"
    )
    batch_size: int = option(
        8, "clips that a captioner that is a model describes at once", low=1, driver="caption_batch_size"
    )
    server_model: str = option(
        "",
        "for captioner=openai, name of a model that hears, on a server of OpenAI's protocol (llama.cpp, vLLM, OpenAI)",
        flag="caption_model",
        driver="caption_model",
    )
    server_url: str = option(
        "",
        "for captioner=openai, the server, http://localhost:8080/v1, whose key is in CAPTION_API_KEY; empty: that of "
        "OPENAI_BASE_URL, else OpenAI, with OPENAI_API_KEY",
        flag="caption_base_url",
        driver="caption_base_url",
    )
    gama_dir: str = option(
        "", "for captioner=gama, clone of its repository, with the folder of its base model in it", driver="gama_dir"
    )
    gama_checkpoint: str = option(
        "", "for captioner=gama, its weights, a file or the folder of one", driver="gama_checkpoint"
    )
    gama_env: str = option(
        "",
        "venv folder or conda environment of the captioner; empty: .venv, or the .envs/<name> that it needs",
        driver="gama_env",
        inert=True,
    )

    def instruction_for(self, model: str, may_be_alone: bool = True) -> str:
        """The words that go with a sound. Qwen3-Omni's captioner was trained on sound without any.

        Args:
            model: its name.
            may_be_alone: models of its family that are made for captions take none.
        """
        if self.instruction == "auto":
            return "" if may_be_alone and "captioner" in model.lower() else INSTRUCTION
        return "" if self.instruction == "none" else self.instruction


class Captioner(ABC):
    """A model that puts in words what it hears.

    Attributes:
        name: for the record.
        key: all that decides a caption besides the sound; captions are kept by it.
        sample_rate: in Hz; clips are resampled to it.
        batch_size: clips it takes at once.
        is_served: a server answers for it, each clip by itself, as `describe_each` tells.
    """

    name: str
    key: tuple
    sample_rate: int
    batch_size: int
    is_served: bool = False

    @abstractmethod
    def describe(self, clips: Sequence[np.ndarray]) -> list[str]:
        """Mono clips [1, T] at `sample_rate` -> one caption each. A caption never depends on the other clips."""

    def describe_each(self, clips: Sequence[np.ndarray]) -> Iterator[tuple[int, str]]:
        """(number, caption) of each clip, in any order, as they come."""
        yield from enumerate(self.describe(clips))

    def spent(self) -> str:
        """What the captions took, where that is more than time."""
        return ""


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
    """Whether a name is a folder, or can be a hub id (owner/name, owner/name@revision)."""
    return name != "" and (Path(name).is_dir() or is_hub_id(name))
