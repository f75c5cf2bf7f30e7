"""Frozen models as networks from waveforms to the embeddings that heads read.

    ear = ear_of(load_embedder(model))
    ear(waveform)  # [B, T] at ear.sample_rate -> [B, E]

A clip is cut as in `embed_audio`, whatever its length.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from synthio.cli import UserError
from synthio.models.ast_model import AstEmbedder
from synthio.models.base import Network, unit
from synthio.models.clap import ClapScorer
from synthio.models.classifiers import hidden_states
from synthio.models.fbank import num_samples
from synthio.models.sound_classifier import SoundEmbedder, most_samples
from synthio.models.windowed import WINDOW_S
from synthio.portable.features import ClapMel, PortableFbank, features_of
from synthio.portable.windows import cut_windows

EXPORTED = (
    "what is: AST and CLAP of transformers, and networks whose feature extractor is that of Wav2Vec2, Wav2Vec2-BERT or "
    "Whisper"
)


class Ear(nn.Module):
    """From waveforms [B, T] at `sample_rate` to embeddings [B, E]."""

    sample_rate: int

    def name(self, pooled: torch.Tensor) -> torch.Tensor:
        """Embeddings [B, E] -> logits [B, K] of its pretrained head."""
        raise NotImplementedError


class AstEar(Ear):
    """See `AstEmbedder`."""

    def __init__(self, ear: AstEmbedder):
        super().__init__()
        self.body, self.head, self.sample_rate = ear.body, ear.head, ear.sample_rate
        self.mean, self.deviation = ear.extractor.mean, ear.extractor.std
        frames = ear.body.config.max_length
        self.samples, self.fbank = num_samples(frames), PortableFbank(frames, ear.body.config.num_mel_bins)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        windows = cut_windows(waveform, self.samples, is_repeated=True)
        features = (self.fbank(windows.flatten(0, 1)) - self.mean) / (2 * self.deviation)
        return self.body(features).pooler_output.unflatten(0, windows.shape[:2]).mean(dim=1)

    def name(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.head(pooled)


class SoundEar(Ear):
    """See `SoundEmbedder`."""

    def __init__(self, ear: SoundEmbedder, features: nn.Module):
        super().__init__()
        self.module, self.sample_rate, self.features = ear.module, ear.sample_rate, features
        self.samples, self.most = round(WINDOW_S * ear.sample_rate), most_samples(ear.extractor)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        windows = cut_windows(waveform, self.samples, is_repeated=False)
        hidden = hidden_states(self.module, self.features(windows.flatten(0, 1)))
        if self.most:
            frames = hidden.shape[1]
            heard = (frames * windows.shape[2] + self.most - 1) // self.most
            hidden = hidden[:, : torch.sym_min(frames, torch.sym_max(heard, 1))]
        return hidden.mean(dim=1).unflatten(0, windows.shape[:2]).mean(dim=1)

    def name(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.module.classifier(self.module.projector(pooled))


class ClapEar(Ear):
    """See `ClapScorer`."""

    def __init__(self, ear: ClapScorer):
        super().__init__()
        self.body, self.projection = without_fusion(ear.module.audio_model), ear.module.audio_projection
        self.sample_rate, self.samples = ear.sample_rate, round(ear.window_s * ear.sample_rate)
        self.features = ClapMel(ear.extractor)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        windows = cut_windows(waveform, self.samples, is_repeated=True)
        vectors = unit(self.projection(self.body(self.features(windows.flatten(0, 1))).pooler_output))
        return unit(vectors.unflatten(0, windows.shape[:2]).mean(dim=1))


def without_fusion(model: Network) -> Network:
    """An audio model that does not ask which windows are longer than its input: none is, here."""
    if not model.audio_encoder.enable_fusion:
        return model
    model = copy.deepcopy(model)
    model.audio_encoder.enable_fusion = model.audio_encoder.patch_embed.enable_fusion = False
    return model


def ear_of(model: Any, name: str) -> Ear:  # Any: of one of the classes below, or of another one
    """A frozen model for export.

    Raises:
        UserError: how it hears is not written in operators of ONNX.
    """
    if isinstance(model, AstEmbedder):
        return AstEar(model)
    if isinstance(model, ClapScorer):
        return ClapEar(model)
    if isinstance(model, SoundEmbedder) and (features := features_of(model.extractor)):
        return SoundEar(model, features)
    raise UserError(f"{name}: how this model hears is not exported; {EXPORTED}")
