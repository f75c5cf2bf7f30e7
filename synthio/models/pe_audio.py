"""PeAudio in transformers format (Perception Encoder; `PeAudioModel` with its feature extractor and tokenizer).

It learnt a scale and a bias with a loss that asks of each pair whether the text suits the sound, so that

    sigmoid(scale * product + bias)

is a probability. The product is of the two heads' vectors as they are: no unit ones, and hence no cosine. The models
with video (`pe_audio_video`, published as pe-av-*) hold one, which is all that is loaded of them. What was trained for
frames (`PeAudioFrameLevelModel`, pe-a-frame-*) has no vector of a clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from synthio.cli import UserError
from synthio.models.base import AudioTextScorer, Network, unit
from synthio.models.clap import save_parts
from synthio.models.classifiers import FRAME_LEVEL, NO_CLIPS, library_class
from synthio.models.model_ids import auto_source
from synthio.models.strict import load_network, refusing
from synthio.models.windowed import WINDOW_S, WindowedEmbedder

WHAT = "PeAudio model"


def load_pe_audio(model: str, for_clips: bool = True) -> Network:
    """The PeAudioModel of a folder or hub id, in float32.

    Args:
        model: see above.
        for_clips: its vectors of clips are wanted; else its hidden states alone.

    Raises:
        UserError: there is none, weights are missing, or it was trained for frames.
    """
    from transformers import AutoConfig

    kind = library_class("PeAudioModel")
    with refusing(WHAT, model):
        config = AutoConfig.from_pretrained(**auto_source(model))
        if for_clips and FRAME_LEVEL in (config.architectures or ()):
            raise UserError(f"{WHAT} '{model}': {NO_CLIPS}")
        if config.model_type == "pe_audio_video":
            config = config.audio_config
        return load_network(kind, model, WHAT, may_have_more=True, config=config, dtype=torch.float32)


class PeAudioScorer(AudioTextScorer):
    """See `AudioTextScorer`; it is not fine-tuned here, for its loss is another one than CLAP's.

    Args:
        model: folder or hub id, e.g. "facebook/pe-av-base".
        device: torch device.

    Raises:
        UserError: the model cannot be had, is not whole, or has a scale that is not above 0.
    """

    similarity = "product"

    def __init__(self, model: str, device: str = "cpu"):
        from transformers import AutoFeatureExtractor, AutoTokenizer

        with refusing(WHAT, model):
            self.extractor = AutoFeatureExtractor.from_pretrained(**auto_source(model))
            self.tokenizer = AutoTokenizer.from_pretrained(**auto_source(model))
        self.take(load_pe_audio(model), device)
        self.trainable = {}
        self.sample_rate, self.window_s = int(self.extractor.sampling_rate), WINDOW_S
        self.logit_scale = float(self.module.text_audio_logit_scale)
        self.logit_bias = float(self.module.text_audio_logit_bias)
        if not self.logit_scale > 0:
            raise UserError(
                f"{WHAT} '{model}': its scale is {self.logit_scale:g}; no threshold fits one that is not above 0"
            )
        self.name = Path(model).name if Path(model).is_dir() else model

    @property
    def cosine_scale(self) -> float:
        """The scale of the product times the usual lengths of both vectors."""
        return self.logit_scale * usual_length(self.module.audio_head) * usual_length(self.module.text_audio_head)

    def features(self, windows: np.ndarray) -> torch.Tensor:
        """Windows [W, T] -> waveforms [W, 1, T'], filled up to whole frames."""
        return self.extractor(list(windows), sampling_rate=self.sample_rate, return_tensors="pt")["input_values"]

    def audio_products(self, features: torch.Tensor) -> torch.Tensor:
        """Waveforms of W windows -> the head's vectors [W, E]."""
        return self.module.get_audio_embeds(features.to(self.device))

    def text_products(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts -> the head's vectors [N, E], of the first token's last hidden state, as the model's forward has it."""
        longest = self.module.config.text_config.max_position_embeddings
        out = self.tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        words = {name: out[name].to(self.device) for name in ("input_ids", "attention_mask")}
        hidden = self.module.text_model(**words, output_hidden_states=True).hidden_states[-1]
        return self.module.text_audio_head(hidden[:, 0])

    def audio_vectors(self, features: torch.Tensor) -> torch.Tensor:
        """Waveforms of W windows -> unit vectors [W, E]."""
        return unit(self.audio_products(features))

    def text_vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts -> unit vectors [N, E]."""
        return unit(self.text_products(texts))

    def score_audio(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Mono clips [1, T] -> the head's vectors [N, E]; a clip is heard as long as it is, see `WindowedEmbedder`."""
        return _Ear(self).embed_audio(clips)

    def embed_audio(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """The same at length 1."""
        return unit(torch.from_numpy(self.score_audio(clips))).numpy()

    @torch.no_grad()
    def score_text(self, texts: Sequence[str]) -> np.ndarray:
        """Texts -> the head's vectors [N, E]."""
        return self.text_products(texts).cpu().numpy()

    def save(self, folder: Path) -> None:
        """Write extractor, tokenizer and model."""
        save_parts(folder, self.extractor, self.tokenizer, self.module)


class _Ear(WindowedEmbedder):
    """The vectors of clips of any length."""

    def __init__(self, scorer: PeAudioScorer):
        self.scorer, self.sample_rate, self.names = scorer, scorer.sample_rate, []

    def vectors(self, waveforms: Sequence[np.ndarray]) -> torch.Tensor:
        return self.scorer.audio_products(self.scorer.features(np.stack(waveforms)))


@torch.no_grad()
def usual_length(head: Network) -> float:
    """The root of the mean square of a head's vector: its input is normalised, so that the weights alone tell."""
    spread = head.proj.weight * head.layer_norm.weight
    return float((spread.square().sum() + (head.proj.weight @ head.layer_norm.bias).square().sum()).sqrt())
