"""Captions by an audio LLM of transformers: Qwen2-Audio, Qwen2.5-Omni, Qwen3-Omni, Audio Flamingo 3 and Next.

    captioner = AudioLlm("Qwen/Qwen2-Audio-7B-Instruct", CaptionerOptions(device="cuda"))
    captioner.describe([clip])

Of the omni models only the thinker is loaded, which hears and writes; the talker's weights are left where they are.
A clip longer than a model's window is treated as its own processor states: Qwen2-Audio hears the first 30 s,
Qwen2.5-Omni the first 300 s, Audio Flamingo 3 up to 600 s in windows of 30 s, Audio Flamingo Next and Music Flamingo as
much as their processor says (1200 s or more), Qwen3-Omni the whole clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from synthio.audio import fit_length
from synthio.captions.requests import Captioner, CaptionerOptions, one_line
from synthio.cli import UserError, pick_device, quiet_libraries, set_threads
from synthio.files import fingerprint
from synthio.models.model_ids import auto_source, source
from synthio.models.strict import load_network, refusing

MIN_SAMPLES = 1600  # 0.1 s: the encoders make nothing of less
TURN_END = "<|im_end|>"  # how every one of these models ends its turn


@dataclass(frozen=True)
class Family:
    """How transformers names what belongs to a `model_type`.

    Attributes:
        model, processor: classes.
        since: the first version of transformers that has them.
        sees: the processor has parts for images and videos, which need torchvision; they are left out.
        text_first: the instruction stands before the sound in the chats it was trained on.
        sound_alone: those made for captions were trained on sound without words.
    """

    model: str
    processor: str
    since: str
    sees: bool = False
    text_first: bool = False
    sound_alone: bool = False


_QWEN2_5_OMNI = Family("Qwen2_5OmniThinkerForConditionalGeneration", "Qwen2_5OmniProcessor", "4.52", sees=True)
_QWEN3_OMNI = Family(
    "Qwen3OmniMoeThinkerForConditionalGeneration", "Qwen3OmniMoeProcessor", "4.57", sees=True, sound_alone=True
)
FAMILIES = {
    "qwen2_audio": Family("Qwen2AudioForConditionalGeneration", "Qwen2AudioProcessor", "4.45"),
    "qwen2_5_omni": _QWEN2_5_OMNI,
    "qwen2_5_omni_thinker": _QWEN2_5_OMNI,
    "qwen3_omni_moe": _QWEN3_OMNI,
    "qwen3_omni_moe_thinker": _QWEN3_OMNI,
    "audioflamingo3": Family(
        "AudioFlamingo3ForConditionalGeneration", "AudioFlamingo3Processor", "5.0", text_first=True
    ),
    # Music Flamingo, and Audio Flamingo Next, which is published in its format
    "musicflamingo": Family("MusicFlamingoForConditionalGeneration", "MusicFlamingoProcessor", "5.3", text_first=True),
}


class AudioLlm(Captioner):
    """See `Captioner`. bfloat16 on a CUDA GPU, float32 elsewhere.

    Args:
        model: folder or hub id.
        options: see `CaptionerOptions`.

    Raises:
        UserError: the model cannot be had, is of another kind, or needs a newer transformers.
    """

    def __init__(self, model: str, options: CaptionerOptions):
        quiet_libraries()
        set_threads()
        family = read_family(model)
        self.name = Path(model).name if Path(model).is_dir() else model
        self.batch_size = options.batch_size
        self.device = torch.device(pick_device(options.device))
        # half precision pays on a GPU; on a CPU it is many times slower
        dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        with refusing("captioner", model):
            self.processor = load_processor(family, model)
            self.model = load_model(family, model, dtype, self.device)
        self.processor.tokenizer.padding_side = "left"
        self.sample_rate = self.processor.feature_extractor.sampling_rate
        instruction = options.instruction_for(self.name, family.sound_alone)
        self.prompt = self._prompt(instruction, family.text_first)
        self.settings = self._settings(options.max_new_tokens)
        self.key = (self.name, fingerprint(model), instruction, options.max_new_tokens)

    def _prompt(self, instruction: str, text_first: bool) -> str:
        """The chat in the model's own template, with one marker where the sound goes."""
        content = [{"type": "audio", "audio": ""}]
        if instruction:
            content.insert(0 if text_first else 1, {"type": "text", "text": instruction})
        chat = [{"role": "user", "content": content}]
        return self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)

    def _settings(self, max_new_tokens: int) -> transformers.GenerationConfig:
        """Take the likeliest token, and nothing of what the model's own file says but where a turn ends."""
        tokenizer, own = self.processor.tokenizer, self.model.generation_config.eos_token_id
        ends = {tokenizer.eos_token_id, *(own if isinstance(own, list) else [own]), tokenizer.get_vocab().get(TURN_END)}
        return transformers.GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=sorted(ends - {None}),
        )

    def inputs(self, clips: Sequence[np.ndarray]) -> transformers.BatchFeature:
        """What the model reads of mono clips [1, T], prompts padded on the left."""
        return self.processor(
            text=[self.prompt] * len(clips),
            audio=[fit_length(clip, max(clip.shape[1], MIN_SAMPLES))[0] for clip in clips],
            sampling_rate=self.sample_rate,
            text_kwargs={"padding": True},  # of the sounds each processor decides
            return_tensors="pt",
        ).to(self.device, self.model.dtype)

    @torch.no_grad()
    def describe(self, clips: Sequence[np.ndarray]) -> list[str]:
        """Mono clips [1, T] at `sample_rate` -> captions."""
        inputs = self.inputs(clips)
        out = self.model.generate(**inputs, generation_config=self.settings)
        texts = self.processor.tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return [one_line(text) for text in texts]


def read_family(model: str) -> Family:
    """The family of a folder or hub id, by the `model_type` in its config.json."""
    with refusing("captioner", model):
        config, _ = transformers.PretrainedConfig.get_config_dict(**source(model))
    if not config:  # transformers gives an empty one for a folder without
        raise UserError(f"captioner '{model}' could not be loaded: it has no config.json")
    kind = config.get("model_type", "")
    if kind not in FAMILIES:
        raise UserError(f"captioner '{model}' is of the type '{kind}', which is none of {', '.join(FAMILIES)}")
    return FAMILIES[kind]


def find_class(name: str, since: str) -> type[Any]:  # found by its name, which mypy cannot follow
    """A class of the installed transformers."""
    found = getattr(transformers, name, None)
    if found is None:
        raise UserError(
            f"transformers {transformers.__version__} has no {name}; "
            f"install a newer one: pip install 'transformers>={since}'"
        )
    return found


def load_processor(family: Family, model: str) -> transformers.ProcessorMixin:
    """The model's own processor; of one that sees too, tokenizer and feature extractor alone."""
    kind = find_class(family.processor, family.since)
    if not family.sees:
        return kind.from_pretrained(**source(model))
    stored, _ = kind.get_processor_dict(**source(model))
    tokenizer = transformers.AutoTokenizer.from_pretrained(**auto_source(model))
    return hearing_only(kind)(
        feature_extractor=transformers.AutoFeatureExtractor.from_pretrained(**auto_source(model)),
        tokenizer=tokenizer,
        chat_template=stored.get("chat_template") or tokenizer.chat_template,
    )


def hearing_only(kind: type[Any]) -> type[Any]:  # of `find_class`
    """A processor class that may lack parts: the one for images needs torchvision, which sound does not."""

    class HearingOnly(kind):
        def check_argument_for_proper_class(self, argument_name, argument):
            """As the base class, for the parts that are there."""
            return argument and super().check_argument_for_proper_class(argument_name, argument)

    return HearingOnly


def load_model(family: Family, model: str, dtype: torch.dtype, device: torch.device) -> transformers.PreTrainedModel:
    """The frozen model with all of its weights: one that is missing would be random, which nothing would tell."""
    loaded = load_network(
        find_class(family.model, family.since),
        model,
        "captioner",
        may_have_more=True,  # what speaks lies beside what listens
        dtype=dtype,
        device_map={"": device},
    )
    return loaded.requires_grad_(False).eval()
