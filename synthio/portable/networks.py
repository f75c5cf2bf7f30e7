"""A saved classifier of any kind as one network from waveforms to probabilities, for export.

network = portable(load_classifier("W/classifier/synthio"), "W/classifier/synthio")
network(waveform)  # [B, T] at network.sample_rate, any T -> [B, C]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from synthio.classification.pool import is_pool
from synthio.classification.saved import AstClassifier, Classifier, PoolClassifier, SoundClassifier, model_folder
from synthio.classification.wave_input import WaveInput
from synthio.cli import UserError
from synthio.files import read_object
from synthio.models.load import scorer_backend_of
from synthio.portable.ears import EXPORTED, ear_of
from synthio.portable.features import PortableFbank, features_of
from synthio.portable.heads import PortablePool, chances


class PortableAst(nn.Module):
    """See `AstClassifier`. From waveforms [B, T] to probabilities [B, C]."""

    def __init__(self, classifier: AstClassifier):
        super().__init__()
        self.model, self.norm, self.multi_label = classifier.model, classifier.norm, classifier.multi_label
        self.sample_rate = self.norm.sample_rate
        self.fbank = PortableFbank(self.norm.frames, self.model.config.num_mel_bins)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        return chances(self.model(self.norm.apply(self.fbank(waveform))).logits, self.multi_label)


class PortableSound(nn.Module):
    """See `SoundClassifier`. From waveforms [B, T] to probabilities [B, C]."""

    def __init__(self, classifier: SoundClassifier, features: nn.Module):
        super().__init__()
        self.model, self.multi_label, self.features = classifier.model, classifier.multi_label, features
        self.sample_rate = classifier.norm.sample_rate

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        return chances(self.model(self.features(waveform)).logits, self.multi_label)


def portable(classifier: Classifier, name: str) -> PortableAst | PortableSound | PortablePool:
    """The network of a classifier. Its `sample_rate` is that of the waveform in Hz, whose full scale is 1.

    Args:
        classifier: as `load_classifier` gives it.
        name: of it, for messages.

    Raises:
        UserError: how it, or a model that it listens through, hears is not written in operators of ONNX.
    """
    if isinstance(classifier, AstClassifier):
        return PortableAst(classifier).eval()
    if isinstance(classifier, PoolClassifier):
        ears = {kind: ear_of(ear, classifier.models[kind]) for kind, ear in classifier.ears.items()}
        return PortablePool(classifier.pool, ears).eval()
    if isinstance(classifier, SoundClassifier):
        assert isinstance(classifier.norm, WaveInput), "it is no AST"
        if features := features_of(classifier.norm.extractor):
            return PortableSound(classifier, features).eval()
    raise UserError(f"{name}: how this network hears is not exported; {EXPORTED}")


def refuse_foreign(folder: str | Path, models: Mapping[str, str]) -> None:
    """Refuse a head whose CLAP is of another library than transformers, before that library is asked for.

    Args:
        folder: of the classifier, or the model/ in it.
        models: kind -> where that model is now, if it was moved.

    Raises:
        UserError: it is.
    """
    folder = model_folder(folder)
    if not is_pool(folder):
        return
    for part in read_object(folder / "config.json", "embeddings")["embeddings"]:
        name = models.get(part["kind"]) or part["model"]
        if part["kind"] == "clap" and scorer_backend_of(name) != "transformers":
            raise UserError(f"{name}: how this model hears is not exported; {EXPORTED}")
