"""A caption writer on this machine: a chat model in transformers format, by folder or hub id.

Sampling adds Gumbel noise to the logits and takes the largest, which is the same as drawing from their softmax. The
noise of a row comes from a generator of its own, so that what a clip gets does not depend on the rest of its batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import jinja2
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BatchEncoding,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
)

from synthio.captions.chat_writer import ChatWriter, Question, Reply
from synthio.captions.requests import WriterOptions
from synthio.cli import UserError, pick_device, quiet_libraries, set_threads
from synthio.files import fingerprint
from synthio.models.model_ids import auto_source
from synthio.models.strict import load_network, refusing

BATCH_SIZE = 8


class LocalWriter(ChatWriter):
    """See `ChatWriter`.

    Args:
        model: folder or hub id, e.g. "Qwen/Qwen3-4B-Instruct-2507".
        options: see `WriterOptions`.

    Raises:
        UserError: the model cannot be had, or is not made for chats.
    """

    def __init__(self, model: str, options: WriterOptions):
        quiet_libraries()
        set_threads()
        self.device = torch.device(pick_device(options.device))
        # half precision pays on a GPU; on a CPU it is many times slower
        dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        what = "caption writer"
        with refusing(what, model):
            self.tokenizer = AutoTokenizer.from_pretrained(**auto_source(model), padding_side="left")
            self.model = load_network(AutoModelForCausalLM, model, what, may_have_more=True, dtype=dtype)
        if not self.tokenizer.chat_template:
            raise UserError(
                f"caption writer '{model}' has no chat template, so it was not trained to follow instructions; "
                "use the chat or instruct version of the model"
            )
        super().__init__(Path(model).name if Path(model).is_dir() else model, options)
        self.weights = fingerprint(model)
        self.model.requires_grad_(False).eval().to(self.device)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.room = getattr(self.model.config, "max_position_embeddings", None) or 2**31
        self.takes_system = self._takes_system()

    def _key(self, question: Question) -> list:
        """All that decides a reply, the weights among it: folders of one name hold different models."""
        return [self.weights, *super()._key(question)]

    def _complete(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """See `ChatWriter`. A question that leaves no room for the longest reply gets none."""
        fits = []
        for k, question in enumerate(questions):
            if self._tokens([question]).input_ids.shape[1] + self.options.reply_tokens <= self.room:
                fits.append(k)
            else:
                yield k, Reply("", 0, 0)
        for start in range(0, len(fits), BATCH_SIZE):
            batch = fits[start : start + BATCH_SIZE]
            self.counts["calls"] += len(batch)
            yield from zip(batch, self.generate([questions[k] for k in batch]), strict=True)

    def _tokens(self, questions: Sequence[Question]) -> BatchEncoding:
        """input_ids and attention_mask [B, L], padded on the left."""
        return self.tokenizer.apply_chat_template(
            [self._chat(question) for question in questions],
            add_generation_prompt=True,
            padding=True,
            return_dict=True,
            return_tensors="pt",
            enable_thinking=False,  # known to Qwen's templates; the others pass over it
        )

    @torch.no_grad()
    def generate(self, questions: Sequence[Question]) -> list[Reply]:
        """The replies to one batch."""
        tokens = self._tokens(questions).to(self.device)
        length = tokens.input_ids.shape[1]
        out = self.model.generate(
            input_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            generation_config=self._settings(),
            logits_processor=LogitsProcessorList([GumbelNoise(questions)]),
        )[:, length:]
        texts = self.tokenizer.batch_decode(out, skip_special_tokens=True)
        sent, got = tokens.attention_mask.sum(dim=1).tolist(), (out != self.tokenizer.pad_token_id).sum(dim=1).tolist()
        return [Reply(*reply) for reply in zip(texts, sent, got, strict=True)]

    def _settings(self) -> GenerationConfig:
        """Take the largest logit, and nothing of what the model's own file says but where a reply ends."""
        return GenerationConfig(
            max_new_tokens=self.options.reply_tokens,
            do_sample=False,
            repetition_penalty=1.0,
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.model.generation_config.eos_token_id or self.tokenizer.eos_token_id,
        )

    def _chat(self, question: Question) -> list[dict[str, str]]:
        """The messages, the system's joined to the first of the user where the model knows no system."""
        chat = question.chat()
        if self.takes_system:
            return chat
        first = {"role": "user", "content": f"{chat[0]['content']}\n\n{chat[1]['content']}"}
        return [first, *chat[2:]]

    def _takes_system(self) -> bool:
        """Some chat templates refuse a system message."""
        try:
            self.tokenizer.apply_chat_template(
                [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}], tokenize=False
            )
        except jinja2.TemplateError:
            return False
        return True


class GumbelNoise(LogitsProcessor):
    """Turns the largest logit of each row into a sample at the temperature of its question, by the question's seed."""

    def __init__(self, questions: Sequence[Question]):
        self.temperatures = [question.temperature for question in questions]
        self.generators = [torch.Generator().manual_seed(question.seed) for question in questions]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Logits [B, V] -> the same with noise; those of rows at temperature 0 stay as they are."""
        rows = []
        for row, temperature, generator in zip(scores.float(), self.temperatures, self.generators, strict=True):
            # minus the logarithm of an exponential variable has a Gumbel distribution
            noise = -torch.empty(row.shape).exponential_(generator=generator).log()
            rows.append(row + temperature * noise.to(row.device))
        return torch.stack(rows)
