"""What frozen models hear in clips and know of labels: embeddings from a cache, the names of AST's own head, prompts.

listener = Listener({"ast": ast_model, "clap": clap_model}, "embeddings", device="cpu")
features = listener.hear(paths, "train.csv")  # {"ast": [N, E], "ast_logits": [N, K], "clap": [N, E]}
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from synthio.captions.pools import zero_shot_prompts
from synthio.classification.embeddings import EmbeddingCache, embed_clips
from synthio.classification.experts import Features
from synthio.files import sha256_value
from synthio.models.load import load_embedder, load_scorer


class Listener:
    """An AST and a CLAP, or one of them, each loaded when it is first needed.

    Args:
        models: kind ("ast", "clap") -> model, see `load_embedder` and `load_scorer`.
        cache_folder: keeps embeddings by content.
        device: torch device.
        batch_size: clips embedded at once.
    """

    def __init__(self, models: Mapping[str, str], cache_folder: str | Path, device: str, batch_size: int = 16):
        self.models = dict(models)
        self.caches = {kind: EmbeddingCache(cache_folder, kind, model) for kind, model in self.models.items()}
        if "ast" in self.models:
            self.said = EmbeddingCache(cache_folder, "ast_logits", self.models["ast"])
        self.device, self.batch_size = device, batch_size

    @cached_property
    def ast(self):
        return load_embedder(self.models["ast"], self.device)

    @cached_property
    def clap(self):
        return load_scorer(self.models["clap"], self.device)

    @property
    def names(self) -> list[str]:
        """The classes of AST's pretrained head; empty where the checkpoint has none."""
        return self.caches["ast"].fact("names", lambda: self.ast.names) if "ast" in self.models else []

    @property
    def logit_scale(self) -> float:
        """What CLAP multiplies its cosines with."""
        return self.caches["clap"].fact("logit_scale", lambda: float(self.clap.cosine_scale))

    def hear(self, paths: Sequence[str], csv: str | Path) -> Features:
        """Embeddings of clips, float32 [N, E] by kind.

        Args:
            paths: sound files.
            csv: where they come from, for messages.

        Raises:
            UserError: a clip cannot be used (CSV, row, path and reason).
        """
        loaders = {"ast": lambda: self.ast, "clap": lambda: self.clap}
        found = {
            kind: embed_clips(cache, loaders[kind], paths, csv, self.batch_size) for kind, cache in self.caches.items()
        }
        if self.names:
            pooled = found["ast"]
            keys = [hashlib.sha256(vector.tobytes()).hexdigest() for vector in pooled]
            found["ast_logits"] = self.said.of(keys, lambda rows: self.ast.name(pooled[rows]))
        return found

    def label_vectors(self, labels: Sequence[str]) -> np.ndarray:
        """Unit vectors float32 [C, E] of labels: the mean of several prompts' (Radford et al. 2021)."""
        means = [self._read_texts(zero_shot_prompts(label)).mean(axis=0) for label in labels]
        return np.stack([mean / np.linalg.norm(mean) for mean in means])

    def _read_texts(self, texts: Sequence[str]) -> np.ndarray:
        keys = [sha256_value(["text", text]) for text in texts]
        return self.caches["clap"].of(keys, lambda rows: self.clap.embed_text([texts[row] for row in rows]))
