"""How a stage gets the captioner and the writer that it was asked for."""

from __future__ import annotations

from synthio.captions.requests import BUILT_IN, Captioner, CaptionerOptions, CaptionWriter, WriterOptions, may_be_model
from synthio.cli import UserError


def load_captioner(name: str, options: CaptionerOptions | None = None) -> Captioner:
    """A captioner by name.

    Args:
        name: "embedded" (measured acoustics, no weights), "gama", "openai" (any server of that protocol that takes
            sound), or the folder or hub id of an audio LLM.
        options: of the models.

    Raises:
        UserError: the name can be none of these, or the model cannot be had.
    """
    if name == BUILT_IN:
        from synthio.captions.describer import AcousticDescriber

        return AcousticDescriber()
    if name == "gama":
        from synthio.captions.gama import Gama

        return Gama(options or CaptionerOptions())
    if name == "openai":
        from synthio.captions.openai_captioner import OpenAICaptioner

        return OpenAICaptioner(options or CaptionerOptions())
    if not may_be_model(name):
        raise UserError(
            f"captioner '{name}' is not known; use 'embedded', 'gama', 'openai', or an audio LLM's folder or hub id "
            "(owner/name)"
        )
    from synthio.captions.audio_llm import AudioLlm

    return AudioLlm(name, options or CaptionerOptions())


def load_writer(name: str, options: WriterOptions | None = None) -> CaptionWriter:
    """A caption writer by name.

    Args:
        name: "embedded" (a grammar, no weights), "openai" (any server of that protocol), or the folder or hub id of a
            chat model in transformers format.
        options: of the language models.

    Raises:
        UserError: the name can be none of these, or the model cannot be had.
    """
    if name == BUILT_IN:
        from synthio.captions.composer import Composer

        return Composer()
    if name == "openai":
        from synthio.captions.openai_writer import OpenAIWriter

        return OpenAIWriter(options or WriterOptions())
    if not may_be_model(name):
        raise UserError(
            f"caption writer '{name}' is not known; use 'embedded', 'openai', or a chat model's folder or hub id "
            "(owner/name)"
        )
    from synthio.captions.local_writer import LocalWriter

    return LocalWriter(name, options or WriterOptions())
