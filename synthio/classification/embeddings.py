"""Vectors of clips from a frozen model, kept by content: each model hears each clip once, whatever CSV names it.

cache = EmbeddingCache(folder, "clap", "laion/clap-htsat-unfused")
vectors = embed_clips(cache, lambda: load_scorer(model), paths, "train.csv", batch_size=16)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from synthio.audio import BadAudio, read_audio
from synthio.batching import Halving
from synthio.cache import read_tensors, write_tensors
from synthio.cli import UserError, progress
from synthio.files import Json, fingerprint, sha256_file, sha256_value, sweep
from synthio.manifest import versions

BATCHES_BETWEEN_SAVES = 20
SHAPING = ("synthio", "torch", "transformers", "numpy", "soundfile", "av", "soxr")  # whose versions may change a vector


class EmbeddingCache:
    """Vectors by the SHA-256 of the clip's file, in one safetensors file for each model.

    Args:
        folder: where the files are; made when needed.
        kind: of the model, as it is loaded.
        model: folder, file or hub id; its content counts, not its place.

    Attributes:
        vectors: float32 [E] by the key of what was heard or read.
        facts: what else was asked of the model, as JSON can keep it.
    """

    def __init__(self, folder: str | Path, kind: str, model: str):
        found = versions()
        shaping = {name: found.get(name) for name in SHAPING}
        self.path = Path(folder) / f"{kind}_{sha256_value([kind, fingerprint(model), shaping])[:16]}.safetensors"
        sweep([Path(folder)])
        self.vectors: dict[str, np.ndarray]
        self.facts: dict[str, Json]
        self.vectors, self.facts = _read(self.path)

    def fact(self, name: str, ask: Callable[[], Json]) -> Json:
        """What the model answers to a question; it is asked once, and need not be loaded again for it."""
        if name not in self.facts:
            self.facts[name] = ask()
            if self.vectors:
                self.save()
        return self.facts[name]

    def missing(self, keys: Sequence[str]) -> dict[str, int]:
        """The keys without a vector, each with a position of it."""
        return {key: row for row, key in enumerate(keys) if key not in self.vectors}

    def of(self, keys: Sequence[str], embed: Callable[[list[int]], Sequence[np.ndarray]]) -> np.ndarray:
        """float32 [N, E] by keys; `embed` makes those that are new, from their positions, in one call."""
        rows = self.missing(keys)
        if rows:
            self.vectors |= dict(zip(rows, embed(list(rows.values())), strict=True))
            self.save()
        return np.stack([self.vectors[key] for key in keys])

    def save(self) -> None:
        """Write all vectors and facts, atomically."""
        keys = np.array([list(bytes.fromhex(key)) for key in self.vectors], np.uint8)
        vectors = np.stack(list(self.vectors.values())).astype(np.float32)
        facts = np.frombuffer(json.dumps(self.facts).encode(), np.uint8)
        write_tensors(self.path, {"sha256": keys, "vectors": vectors, "facts": facts})


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Json]]:
    """Vectors and facts of a file; nothing where it is missing or damaged, for then the model is asked again."""
    found = read_tensors(path)
    if found is None:
        return {}, {}
    keys = [bytes(key).hex() for key in found["sha256"]]
    return dict(zip(keys, found["vectors"], strict=True)), json.loads(found["facts"].tobytes())


def embed_clips(
    cache: EmbeddingCache, load: Callable, paths: Sequence[str], csv: str | Path, batch_size: int
) -> np.ndarray:
    """float32 [N, E] of the clips, in their order.

    Args:
        cache: of the model; what is new goes into it.
        load: makes the model (`sample_rate`, `embed_audio`); called when a clip is not in the cache.
        paths: sound files.
        csv: where the paths come from, for messages.
        batch_size: clips embedded at once.

    Raises:
        UserError: a clip cannot be used (CSV, row, path and reason).
    """
    keys = [sha256_file(path) for path in paths]
    rows = cache.missing(keys)
    new = list(rows)
    embedder: Any = load() if new else None  # None is never asked: there is no batch then
    starts, fitting = range(0, len(new), batch_size), Halving(batch_size)
    for number, start in enumerate(progress(starts, f"embeddings of {Path(csv).name}: batches"), 1):
        batch = new[start : start + batch_size]
        clips = [_read_clip(paths[rows[key]], rows[key], csv, embedder.sample_rate) for key in batch]
        cache.vectors |= dict(zip(batch, fitting.run(embedder.embed_audio, clips), strict=True))
        if number % BATCHES_BETWEEN_SAVES == 0 or start + batch_size >= len(new):
            cache.save()
    return np.stack([cache.vectors[key] for key in keys])


def _read_clip(path: str, row: int, csv: str | Path, sample_rate: int) -> np.ndarray:
    try:
        return read_audio(path, sample_rate)[0]
    except BadAudio as error:
        raise UserError(f"{csv} row {row + 1}: {path}: {error}") from None
