"""CLAP in transformers format (`ClapModel` with its feature extractor and tokenizer), by folder or hub id.

A clip is heard mono, cut into fixed windows whose embeddings are averaged. The feature extractor on its own would
crop a clip longer than its window at a random place, with numpy's global generator; here it never gets one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from synthio.files import scratch_folder
from synthio.models.base import AudioTextScorer, Network, unit
from synthio.models.model_ids import auto_source, source
from synthio.models.strict import load_network, refusing


class ClapScorer(AudioTextScorer):
    """See `AudioTextScorer`.

    Args:
        model: folder or hub id, e.g. "laion/clap-htsat-unfused".
        device: torch device.

    Raises:
        UserError: the model cannot be had, or is not whole.
    """

    def __init__(self, model: str, device: str = "cpu"):
        from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

        with refusing("CLAP model", model):
            self.extractor = ClapFeatureExtractor.from_pretrained(**source(model))
            self.tokenizer = AutoTokenizer.from_pretrained(**auto_source(model))
            self.take(load_network(ClapModel, model, "CLAP model", dtype=torch.float32), device)
            self.sample_rate = int(self.extractor.sampling_rate)
            self.window_s = float(self.extractor.max_length_s)
            self.logit_scale = float(self.module.logit_scale_a.exp())
        self.name = Path(model).name if Path(model).is_dir() else model

    def features(self, windows: np.ndarray) -> torch.Tensor:
        """Windows [W, T] -> log-mel spectrograms [W, 1, frames, bands] (4 channels for a fusion model)."""
        out = self.extractor(list(windows), sampling_rate=self.sample_rate, return_tensors="pt")
        return out["input_features"]

    def audio_vectors(self, features: torch.Tensor) -> torch.Tensor:
        """Spectrograms of W windows -> unit vectors [W, E]."""
        # The extractor of a fusion model would call one window of each batch longer than it is, at random.
        is_longer = torch.zeros(len(features), 1, dtype=torch.bool, device=self.device)
        out = self.module.get_audio_features(input_features=features.to(self.device), is_longer=is_longer)
        return unit(_vectors(out))

    def tokens(self, texts: Sequence[str]):
        """Texts -> input_ids and attention_mask [N, L], cut to what the model can read."""
        longest = self.module.config.text_config.max_position_embeddings - 2  # RoBERTa keeps two positions for itself
        out = self.tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        return {name: out[name].to(self.device) for name in ("input_ids", "attention_mask")}

    def text_vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts -> unit vectors [N, E]."""
        return unit(_vectors(self.module.get_text_features(**self.tokens(texts))))

    def save(self, folder: Path) -> None:
        """Write extractor, tokenizer and model; the weights come last, so a folder that has them is whole."""
        save_parts(folder, self.extractor, self.tokenizer, self.module)


def save_parts(folder: Path, *parts: Network) -> None:
    """Write parts of transformers into a folder that is there, its weights last."""
    with scratch_folder(folder) as temporary:
        for part in parts:
            part.save_pretrained(temporary)
        for path in sorted(temporary.iterdir(), key=lambda path: path.suffix == ".safetensors"):
            path.replace(folder / path.name)


def _vectors(out) -> torch.Tensor:
    """The vectors [N, E] that get_*_features gives: bare in transformers 4, inside an output since 5."""
    return out if isinstance(out, torch.Tensor) else out.pooler_output
