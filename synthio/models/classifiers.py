"""Which kind of classifier a model is, told by its files alone, and where its head begins.

    kind_of("facebook/wav2vec2-base")  # "wav2vec2", transformers' model_type
    logits, pooled = answer(model, features)

AST (`synthio.models.ast_model`) has a cached filterbank and an input length of its own. Every other class behind
transformers' AutoModelForAudioClassification is heard through its own feature extractor
(`synthio.models.sound_classifier`). Only functions that get a network import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthio.cli import UserError
from synthio.files import read_object
from synthio.models.hub import read_hub_object
from synthio.models.model_ids import OWN_CODE

if TYPE_CHECKING:
    import torch

    from synthio.models.base import Network

AST = "audio-spectrogram-transformer"
# transformers' AutoModelForAudioClassification besides AST; a test says when the library knows others
FINE_TUNED = (
    "data2vec-audio",
    "hubert",
    "sew",
    "sew-d",
    "unispeech",
    "unispeech-sat",
    "wav2vec2",
    "wav2vec2-bert",
    "wav2vec2-conformer",
    "wavlm",
    "whisper",
)
PE_AUDIO = ("pe_audio", "pe_audio_video")
FRAME_LEVEL, NO_CLIPS = (
    "PeAudioFrameLevelModel",
    "was trained for frames and has no vector of a clip; name a pe-av model",
)
FROZEN = (*PE_AUDIO, "embedding_gemma2")  # that hear, and are not fine-tuned here
CALLED = {  # kind -> in print
    AST: "AST",
    "data2vec-audio": "Data2VecAudio",
    "embedding_gemma2": "EmbeddingGemma 2",
    "hubert": "HuBERT",
    "pe_audio": "PeAudio",
    "pe_audio_video": "PeAudio",
    "sew": "SEW",
    "sew-d": "SEW-D",
    "unispeech": "UniSpeech",
    "unispeech-sat": "UniSpeech-SAT",
    "wav2vec2": "Wav2Vec2",
    "wav2vec2-bert": "Wav2Vec2-BERT",
    "wav2vec2-conformer": "Wav2Vec2-Conformer",
    "wavlm": "WavLM",
    "whisper": "Whisper",
}
AST_SUFFIXES = (".pth", ".pt")  # of the AST repository
# torch 2.13 fails over its shapes that change
NOT_COMPILED = "is not compiled, for its clips are of many lengths; the result is the same"
CLASSIFIER_HELP = "folder or hub id of a classifier of transformers (AST, Wav2Vec2, Whisper, ...), or AST's .pth file"


def is_ast_checkpoint(name: str | Path) -> bool:
    """Whether a model's name is that of a checkpoint file of the AST repository, and not of a folder or hub id."""
    return Path(name).suffix in AST_SUFFIXES and not Path(name).is_dir()


def read_config(name: str) -> Mapping[str, Any] | None:
    """config.json of a folder or hub id; None where it cannot be seen, as without a network."""
    folder = Path(name)
    if folder.is_dir():
        return read_object(folder / "config.json") if (folder / "config.json").is_file() else None
    return read_hub_object(name, "config.json")


def kind_of(name: str) -> str:
    """transformers' model_type of a folder, hub id or checkpoint of the AST repository; "": it cannot be seen."""
    if is_ast_checkpoint(name):
        return AST
    return str((read_config(name) or {}).get("model_type") or "")


def called(name: str) -> str:
    """What a folder, hub id or checkpoint is called in print; one that cannot be seen is taken for an AST."""
    return CALLED.get(kind_of(name), CALLED[AST])


def is_ast(name: str) -> bool:
    """Whether a model is an AST; of one that cannot be seen AST's loader says what is wrong."""
    return kind_of(name) in (AST, "")


def misfit(name: str, fine_tuned: bool) -> str:
    """Why a model cannot be the classifier, in words that end with what to do; "" where it can, or is not known.

    Args:
        name: folder, hub id or `.pth` file.
        fine_tuned: it is to be trained; else its embeddings alone are used.
    """
    if is_ast_checkpoint(name):
        return ""
    config = read_config(name)
    kind = str((config or {}).get("model_type") or "")
    if config is None or kind in (AST, *FINE_TUNED):
        return ""
    if kind in FROZEN:
        return f"a '{kind}' hears, but is not fine-tuned; set use_ast=false" if fine_tuned else ""
    if "auto_map" in config:
        return OWN_CODE
    known = ", ".join(sorted((AST, *FINE_TUNED)))
    return f"a '{kind}' is no audio classifier of transformers; it takes {known}"


def scorer_misfit(name: str) -> str:
    """Why a folder or hub id of transformers cannot compare sounds with texts; "" where it can, or is not known."""
    config = read_config(name)
    kind = str((config or {}).get("model_type") or "")
    if config is None or kind == "clap":
        return ""
    if kind in PE_AUDIO:
        return NO_CLIPS if FRAME_LEVEL in (config.get("architectures") or ()) else ""
    if "auto_map" in config:
        return OWN_CODE
    return f"a '{kind}' does not compare sounds with texts; it takes clap, {', '.join(PE_AUDIO)}"


def refuse_misfit(name: str, fine_tuned: bool) -> None:
    """As `misfit`.

    Raises:
        UserError: the model cannot be the classifier.
    """
    text = misfit(name, fine_tuned)
    if text:
        raise UserError(f"classifier '{name}': {text}")


def library_class(name: str) -> type[Network]:
    """A class of transformers that older versions lack.

    Raises:
        UserError: so does this one.
    """
    import transformers

    if not hasattr(transformers, name):
        raise UserError(
            f"transformers {transformers.__version__} has no {name}; .venv has a newer one: use that Python"
        )
    return getattr(transformers, name)


# ---- of a network


def linear_of(model: Network) -> torch.nn.Linear:
    """The last layer of a classifier, which gives the logits."""
    return model.classifier.dense if model.config.model_type == AST else model.classifier


def linear_name(model: Network) -> str:
    """How the names of its weights begin."""
    return "classifier.dense." if model.config.model_type == AST else "classifier."


def answer(model: Network, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(logits [B, C], what the head makes them of [B, H]), both with gradients, of a batch of one shape.

    That is AST's pooled output before the norm of its head, and of others the mean over time that the last layer reads.
    """
    if model.config.model_type == AST:
        pooled = model.audio_spectrogram_transformer(features).pooler_output
        return model.classifier(pooled), pooled
    pooled = model.projector(hidden_states(model, features)).mean(dim=1)
    return model.classifier(pooled), pooled


def hidden_states(model: Network, features: torch.Tensor) -> torch.Tensor:
    """What the head of a classifier that is no AST reads of a batch of one shape: [B, frames, H], with gradients.

    The last hidden states, or, where its config says so, a learnt mean over those of all layers.
    """
    body = model.encoder if model.config.model_type == "whisper" else getattr(model, model.base_model_prefix)
    if not model.config.use_weighted_layer_sum:
        return body(features)[0]
    layers = body(features, output_hidden_states=True).hidden_states
    shares = model.layer_weights.softmax(dim=-1)
    return sum(share * layer for share, layer in zip(shares, layers, strict=True))


def read_by_linear(model: Network, features: torch.Tensor) -> torch.Tensor:
    """What the last layer reads of a batch of one shape, [B, H]."""
    pooled = answer(model, features)[1]
    return model.classifier.layernorm(pooled) if model.config.model_type == AST else pooled
