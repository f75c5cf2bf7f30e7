"""What caption writers that are language models share: what they are told, and what is done with their replies.

One conversation is about one clip, so that nothing in a clip's caption can reach the prompts of another, but for what
MixCap carries over within a label: phrases of the pool and accepted prompts, in words of a closed list
(`synthio.captions.pools`). Texts from data stand in the user's message alone, as JSON.

A reply is parsed by a schema and checked. A wrong one is asked for again with the error named; when that does not help
either, the embedded grammar writes instead, which is counted. Every reply is kept in a file by the content of its
question, so nothing is asked twice.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, ValidationError

from synthio.cache import AnswerCache
from synthio.captions.composer import compose, extract
from synthio.captions.pools import (
    MAX_PHRASE_WORDS,
    MAX_PHRASES,
    MAX_SHARED_WORDS,
    most_words,
    pick,
    prompt_problem,
    telling_words,
    words_of,
)
from synthio.captions.requests import CaptionRequest, CaptionWriter, Extraction, ServerOptions, WriterOptions
from synthio.cli import UserError, progress

PROMPTS_FILE = Path(__file__).with_name("prompts.toml")
ENTRIES = ("system", "extract", "mixcap", "plain", "plain_wo_caption", "supcon", "rewrite", "wrong")
WRITE_TEMPERATURE = 0.8  # for variety; extraction takes the likeliest words
MAX_POOL = 60  # phrases of a kind shown to the model; the pool of a large class would cost more than it gives
MAX_ACCEPTED = 8  # accepted prompts shown to the model
MAX_VALUE_CHARS = 1000  # of a caption or a label
MAX_REPLY_CHARS = 20_000  # what comes after is not read
BYTES_A_TOKEN = 4.0  # of English text, about


class ExtractionReply(BaseModel):
    """What a caption says besides its label."""

    # a further key does no harm, but servers want a closed schema
    model_config = ConfigDict(json_schema_extra={"additionalProperties": False})
    events: list[str]
    backgrounds: list[str]


class PromptsReply(BaseModel):
    """Prompts for one clip."""

    model_config = ConfigDict(json_schema_extra={"additionalProperties": False})
    prompts: list[str]


ReplyT = TypeVar("ReplyT", bound=BaseModel)


@dataclass(frozen=True)
class Question:
    """What a model is asked.

    Attributes:
        messages: (role, text) in order.
        seed: of the sampling.
        temperature: of the sampling; 0: the likeliest words.
        schema: of the reply; None: any text is one.
        usual_tokens: length of a usual reply, for the estimate.
    """

    messages: tuple[tuple[str, str], ...]
    seed: int
    temperature: float
    schema: type[BaseModel] | None
    usual_tokens: int

    def chat(self) -> list[dict[str, Any]]:
        """The messages as chat models take them."""
        return [{"role": role, "content": text} for role, text in self.messages]

    def size(self) -> int:
        """Bytes of all messages."""
        return sum(len(text.encode("utf-8")) for _, text in self.messages)


@dataclass(frozen=True)
class Reply:
    """What a model answered, and the tokens that took."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class ChatWriter(CaptionWriter):
    """A caption writer that is a language model; see `CaptionWriter`. A backend fills in `_complete`.

    Args:
        name: for the record and for the file of replies.
        options: see `WriterOptions`.
        prompts_file: TOML file of what the model is told.

    Raises:
        UserError: the prompts file cannot be used.
    """

    def __init__(self, name: str, options: WriterOptions, prompts_file: Path = PROMPTS_FILE):
        self.name = name
        self.options = options
        self.told = Told(prompts_file)
        self.cache = AnswerCache(options.cache)
        names = ("requests", "from_cache", "calls", "retries", "replaced", "prompt_tokens", "completion_tokens")
        self.counts = dict.fromkeys(names, 0)

    @abstractmethod
    def _complete(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """(number, reply) of each question, in any order, as they come; counts the calls."""

    def extract(self, captions: Sequence[tuple[str, str]]) -> list[Extraction]:
        """(label in words, caption) of each clip -> what the caption says besides the label."""
        said = [i for i, (_, caption) in enumerate(captions) if words_of(caption)]
        questions = [self._extract_question(*captions[i]) for i in said]
        replies = self._answers(
            "extract",
            questions,
            ExtractionReply,
            lambda k, reply: extraction_problem(reply, clean_value(captions[said[k]][1])),
        )
        out = [Extraction()] * len(captions)
        for i, reply in zip(said, replies, strict=True):
            out[i] = Extraction(tuple(reply.events), tuple(reply.backgrounds)) if reply else extract(*captions[i])
        return out

    def write(self, requests: Sequence[CaptionRequest]) -> list[list[str]]:
        """`count` different prompts for each request; none twice for a label, as long as others can be found."""
        taken: dict[str, set[str]] = {request.label: set() for request in requests}

        def problem(k: int, reply: PromptsReply) -> str:
            reply.prompts = [" ".join(prompt.split()) for prompt in reply.prompts]
            found = prompts_problem(reply.prompts, requests[k], taken[requests[k].label])
            if not found:
                taken[requests[k].label].update(reply.prompts)
            return found

        questions = [self._write_question(request) for request in requests]
        replies = self._answers("write", questions, PromptsReply, problem)
        out = []
        for request, reply in zip(requests, replies, strict=True):
            out.append(reply.prompts if reply else compose(request, taken[request.label]))
            taken[request.label].update(out[-1])
        return out

    def _extract_question(self, label: str, caption: str) -> Question:
        text = self.told.text(
            "extract", label=label, caption=caption, max_phrases=MAX_PHRASES, max_phrase_words=MAX_SHARED_WORDS
        )
        return Question((("system", self.told.text("system")), ("user", text)), 0, 0.0, ExtractionReply, 60)

    def _write_question(self, request: CaptionRequest) -> Question:
        text = self.told.text(
            entry_for(request),
            label=request.label,
            count=request.count,
            domain=request.domain,
            recording=request.seed,
            max_words=most_words(request.label),
            caption=request.caption,
            events=pick(request.pool.events, MAX_POOL, request.seed),
            backgrounds=pick(request.pool.backgrounds, MAX_POOL, request.seed),
            rejected=request.rejected,
            why=request.why,
            accepted=pick(request.accepted, MAX_ACCEPTED, request.seed),
        )
        messages = (("system", self.told.text("system")), ("user", text))
        return Question(messages, request.seed, WRITE_TEMPERATURE, PromptsReply, 20 + 30 * request.count)

    def _answers(
        self, what: str, questions: list[Question], kind: type[ReplyT], check: Callable[[int, ReplyT], str]
    ) -> list[ReplyT | None]:
        """Right replies, in order; None where the model gave none.

        All questions are asked, then all that got a wrong reply again, and so on; the replies of a round are looked at
        in the order of the questions. So nothing depends on which came first.
        """
        self.counts["requests"] += len(questions)
        questions = list(questions)
        answers: list[ReplyT | None] = [None] * len(questions)
        open_ones = list(range(len(questions)))
        for attempt in range(self.options.retries + 1):
            if attempt:
                self.counts["retries"] += len(open_ones)
            replies = self._replies(what, [questions[k] for k in open_ones])
            wrong = []
            for k, text in zip(open_ones, replies, strict=True):
                answer, problem = parse_reply(text, kind)
                if answer is not None:
                    problem = check(k, answer)
                if problem:
                    questions[k] = self._again(questions[k], text, problem)
                    wrong.append(k)
                else:
                    answers[k] = answer
            open_ones = wrong
            if not open_ones:
                break
        self.counts["replaced"] += len(open_ones)
        if questions:
            print(self._spent(what), file=sys.stderr, flush=True)
        return answers

    def _again(self, question: Question, text: str, problem: str) -> Question:
        """The question with the wrong reply and what is wrong with it; of earlier attempts nothing is left."""
        said = ("assistant", text[:MAX_VALUE_CHARS] or "(nothing)")
        messages = (*question.messages[:2], said, ("user", self.told.text("wrong", problem=problem)))
        return replace(question, messages=messages, seed=(question.seed + 1) % 2**31)

    def _replies(self, what: str, questions: Sequence[Question]) -> list[str]:
        """The text of each reply, from the file of replies if it is there."""
        keys = [self._key(question) for question in questions]
        known = [self.cache.get(key) for key in keys]
        missing = [k for k, text in enumerate(known) if text is None]
        self.counts["from_cache"] += len(known) - len(missing)
        if missing:
            asked = [questions[k] for k in missing]
            print(self._expected(what, asked, len(known)), file=sys.stderr, flush=True)
            for i, reply in progress(self._complete(asked), f"{what}: replies", total=len(asked)):
                # half of a surrogate pair cannot be written to any file
                text = reply.text[:MAX_REPLY_CHARS].encode("utf-8", "replace").decode("utf-8")
                self.cache.put(keys[missing[i]], text)
                known[missing[i]] = text
                self.counts["prompt_tokens"] += reply.prompt_tokens
                self.counts["completion_tokens"] += reply.completion_tokens
        return known

    def _key(self, question: Question) -> list:
        """All that decides a reply."""
        sampling = [question.seed, question.temperature, self.options.reply_tokens]
        return [self.name, question.messages, sampling, question.schema.__name__ if question.schema else ""]

    def _expected(self, what: str, questions: Sequence[Question], of: int) -> str:
        """The calls, tokens and costs that lie ahead, about."""
        sent = sum(tokens_in(question.size()) for question in questions)
        got = sum(question.usual_tokens for question in questions)
        return (
            f"{what}: {of} requests to {self.name}, {of - len(questions)} of them answered before; about "
            f"{len(questions)} calls and {sent + got} tokens ({sent} sent){self._price(sent, got)}"
        )

    def _spent(self, what: str) -> str:
        """The calls, tokens and costs so far."""
        counts = self.counts
        sent, got = counts["prompt_tokens"], counts["completion_tokens"]
        return (
            f"{what} done; so far {counts['requests']} requests, {counts['calls']} calls and {sent + got} tokens "
            f"({sent} sent){self._price(sent, got)}; {counts['retries']} wrong replies asked for again, "
            f"{counts['replaced']} replaced by the embedded writer"
        )

    def _price(self, sent: int, got: int) -> str:
        return price_of(self.options, sent, got)


class Told:
    """The texts of a prompts file, with values put in as JSON.

    Raises:
        UserError: the file cannot be used; the message names it and the entry.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            entries = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a readable TOML file ({error})") from None
        missing = [name for name in ENTRIES if not isinstance(entries.get(name), str)]
        if missing:
            raise UserError(f"{path}: no text named {', '.join(missing)}")
        self.environment = ImmutableSandboxedEnvironment(
            loader=jinja2.DictLoader({name: str(text).strip() for name, text in entries.items()}),
            undefined=jinja2.StrictUndefined,
            finalize=as_json,
        )

    def text(self, entry: str, **values: object) -> str:
        """An entry with its values."""
        try:
            return self.environment.get_template(entry).render(values)
        except jinja2.TemplateError as error:
            raise UserError(f"{self.path}: entry '{entry}': {error}") from None


def as_json(value: object) -> str | jinja2.Undefined:
    """A value as JSON without anything that could end the text around it; an undefined one stays an error."""
    if isinstance(value, jinja2.Undefined):
        return value
    if isinstance(value, (list, tuple)):
        return json.dumps([clean_value(one) for one in value], ensure_ascii=False)
    return json.dumps(clean_value(value) if isinstance(value, str) else value, ensure_ascii=False)


def clean_value(text: str) -> str:
    """One printable line of at most 1000 characters, without the brackets that mark roles in chat formats."""
    text = "".join(c if c.isprintable() else " " for c in re.sub(r"[<>\[\]{}|`]", " ", text))
    return " ".join(text.split())[:MAX_VALUE_CHARS]


def entry_for(request: CaptionRequest) -> str:
    """The entry of the prompts file that fits a request."""
    if request.rejected:
        return "rewrite"
    if request.diverse:
        return "supcon"
    if request.caption:
        return "plain"
    return "mixcap" if request.pool.events or request.pool.backgrounds else "plain_wo_caption"


def price_of(options: ServerOptions, sent: int, got: int) -> str:
    """What tokens cost, as the end of a sentence; "" where no price is given."""
    price = (sent * options.input_price + got * options.output_price) / 1e6
    return f", costs {price:.4f}" if options.input_price or options.output_price else ""


def tokens_in(size: int) -> int:
    """Tokens of `size` bytes of text, about."""
    return -int(-size // BYTES_A_TOKEN)


def parse_reply(text: str, schema: type[ReplyT]) -> tuple[ReplyT | None, str]:
    """The last JSON object of a reply that fits a schema, and "", or None and what is wrong.

    The last, because models that think aloud draft first. Prose and code fences around it are passed over.
    """
    problem = ""
    for value in reversed(json_objects(text)):
        try:
            return schema.model_validate(value), ""
        except ValidationError as error:
            first = error.errors()[0]
            problem = problem or f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return None, problem or "there is no complete JSON object in it"


def json_objects(text: str) -> list[dict[str, Any]]:
    """The complete JSON objects in a text that are not part of another."""
    decoder, found, start = json.JSONDecoder(), [], text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
            found.append(value)
        except (ValueError, RecursionError):  # recursion: thousands of nested brackets
            end = start + 1
        start = text.find("{", end)
    return found


def extraction_problem(reply: ExtractionReply, caption: str) -> str:
    """Why an extraction cannot be used; "" if it can. What the caption does not say was not heard."""
    known = {word[:4] for word in words_of(caption)}  # 'dripping' and 'drips' agree
    for kind, phrases in (("events", reply.events), ("backgrounds", reply.backgrounds)):
        if len(phrases) > MAX_PHRASES:
            return f"{kind} has {len(phrases)} phrases, more than {MAX_PHRASES}"
        for phrase in phrases:
            words = words_of(phrase)
            if len(words) > MAX_PHRASE_WORDS:
                return f"'{phrase}' in {kind} has {len(words)} words, more than {MAX_PHRASE_WORDS}"
            strange = [word for word in telling_words(phrase, "") if word[:4] not in known]
            if strange:
                return f"'{phrase}' in {kind} holds words that the caption does not: {', '.join(strange)}"
    return ""


def prompts_problem(prompts: Sequence[str], request: CaptionRequest, taken: set[str]) -> str:
    """Why the prompts for a request cannot be used; "" if they can."""
    if len(prompts) != request.count:
        return f"there are {len(prompts)} prompts, not {request.count}"
    used = taken | {request.rejected, *request.accepted}
    problems = []
    for number, prompt in enumerate(prompts, 1):
        problem = prompt_problem(prompt, request.label)
        if not problem and prompt in used:
            problem = "it is used already; find another one"
        if problem:
            problems.append(f"prompt {number}: {problem}")
        used.add(prompt)
    return "; ".join(problems)
