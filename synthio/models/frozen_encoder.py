"""Encoders of transformers that hear and are not fine-tuned here: PeAudio's, and the audio tower of EmbeddingGemma 2.

    vectors = FrozenEncoder("google/embeddinggemma-2").embed_audio(clips)

A clip's vector is the mean over time of the last hidden states. Folder or hub id of the whole model; what reads texts
and pictures is given up once it is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from synthio.audio import fit_length
from synthio.cli import UserError
from synthio.models.base import Network
from synthio.models.classifiers import kind_of, library_class
from synthio.models.pe_audio import load_pe_audio
from synthio.models.sound_classifier import LEAST_S, load_extractor
from synthio.models.strict import load_network
from synthio.models.windowed import WindowedEmbedder

WHAT = "encoder"


class FrozenEncoder(WindowedEmbedder):
    """See `WindowedEmbedder`.

    Args:
        model: folder or hub id of one of `classifiers.FROZEN`.
        device: torch device.

    Raises:
        UserError: the model cannot be had, is not whole, or has no part that hears; this library lacks its class.
    """

    def __init__(self, model: str, device: str = "cpu"):
        self.device, self.names = torch.device(device), []
        hears = (
            load_gemma_tower(model)
            if kind_of(model) == "embedding_gemma2"
            else load_pe_audio(model, for_clips=False).audio_encoder
        )
        self.module = hears.requires_grad_(False).eval().to(self.device)
        self.extractor = load_extractor(model)
        self.sample_rate: int = self.extractor.sampling_rate

    def vectors(self, waveforms: Sequence[np.ndarray]) -> torch.Tensor:
        """See `WindowedEmbedder`."""
        least = round(LEAST_S * self.sample_rate)
        filled = [fit_length(waveform[None], max(least, len(waveform)))[0] for waveform in waveforms]
        out = self.extractor(filled, sampling_rate=self.sample_rate, return_tensors="pt")
        features, mask = out[self.extractor.model_input_names[0]], out.get("input_features_mask")
        if mask is not None:
            features = features[:, : int(mask[0].sum())]  # sounds of one length have one mask; the rest is padding
        return self.module(features.to(self.device)).last_hidden_state.mean(dim=1)


def load_gemma_tower(model: str) -> Network:
    """The audio tower of an EmbeddingGemma2Model."""
    tower = load_network(library_class("EmbeddingGemma2Model"), model, WHAT, dtype=torch.float32).audio_tower
    if tower is None:
        raise UserError(f"{WHAT} '{model}': has no audio tower (no audio_config); name one that hears")
    return tower
