"""CLAP in transformers format (`ClapModel` with its feature extractor and tokenizer), by folder or hub id.

A clip is heard mono, cut into fixed windows whose embeddings are averaged. The feature extractor on its own would
crop a clip longer than its window at a random place, with numpy's global generator; here it never gets one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from synthio.audio import cut_windows
from synthio.cli import UserError, first_line
from synthio.models.base import AudioTextScorer


class ClapScorer(AudioTextScorer):
    """See `AudioTextScorer`.

    Args:
        model: folder or hub id, e.g. "laion/clap-htsat-unfused".
        device: torch device.

    Raises:
        UserError: the model cannot be had.
    """

    def __init__(self, model: str, device: str = "cpu"):
        from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

        try:
            self.extractor = ClapFeatureExtractor.from_pretrained(model)
            self.tokenizer = AutoTokenizer.from_pretrained(model)
            self.model = ClapModel.from_pretrained(model, dtype=torch.float32)
        except OSError as error:
            raise UserError(f"CLAP model '{model}' could not be loaded: {first_line(error)}") from None
        self.device = torch.device(device)
        self.model.requires_grad_(False).eval().to(self.device)
        self.name = Path(model).name if Path(model).is_dir() else model
        self.sample_rate = self.extractor.sampling_rate
        self.window_s = float(self.extractor.max_length_s)
        self.logit_scale = float(self.model.logit_scale_a.exp())

    @torch.no_grad()
    def embed_audio(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Mono clips [1, T] at `sample_rate` -> unit vectors [N, E]: the mean over windows, normalised again."""
        length = round(self.window_s * self.sample_rate)
        windows = [cut_windows(clip, length)[:, 0] for clip in clips]
        features = self.extractor(
            list(np.concatenate(windows)), sampling_rate=self.sample_rate, return_tensors="pt"
        ).to(self.device)
        embedded = _unit(self.model.get_audio_features(**features).pooler_output)
        means = [part.mean(dim=0) for part in embedded.split([len(w) for w in windows])]
        return _unit(torch.stack(means)).cpu().numpy()

    def tokens(self, texts: Sequence[str]):
        """Texts -> input_ids and attention_mask [N, L], cut to what the model can read."""
        longest = self.model.config.text_config.max_position_embeddings - 2  # RoBERTa keeps two positions for itself
        out = self.tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        return {name: out[name].to(self.device) for name in ("input_ids", "attention_mask")}

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """Texts -> unit vectors [N, E]."""
        return _unit(self.model.get_text_features(**self.tokens(texts)).pooler_output).cpu().numpy()


def _unit(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(x, dim=-1)
