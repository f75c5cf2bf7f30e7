"""Use a classifier of ast/heads.py that was saved.

chances, labels = saved_probabilities("W/classifier/synthio/model", ["clip.wav"], cache_folder="embeddings")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from synthio.classification.listening import Listener
from synthio.classification.pool import Pool, load_pool
from synthio.cli import UserError
from synthio.files import fingerprint

MODEL_OF = {"ast": "ast", "ast_logits": "ast", "clap": "clap"}  # kind of embedding -> whose it is


def sources(pool: Pool, models: Mapping[str, str]) -> list[dict[str, str]]:
    """The models that a pool listens through, as config.json says it.

    Args:
        models: kind -> model.
    """
    needed = sorted({MODEL_OF[kind] for kind in pool.kinds})
    return [{"kind": kind, "model": models[kind], "sha256": fingerprint(models[kind])} for kind in needed]


def saved_probabilities(
    folder: str | Path,
    paths: Sequence[str],
    cache_folder: str | Path,
    csv: str | Path = "the clips",
    models: Mapping[str, str] | None = None,
    device: str = "cpu",
) -> tuple[np.ndarray, list[str]]:
    """(probabilities float64 [N, C], labels) of clips.

    Args:
        folder: the model/ of a head.
        paths: sound files.
        cache_folder: keeps embeddings by content.
        csv: where the paths come from, for messages.
        models: kind -> where that model is now, if it was moved.
        device: torch device.

    Raises:
        UserError: no such classifier there; a model is not the one it was trained with; a clip cannot be read.
    """
    import torch

    from synthio.classification.metrics import probabilities

    pool, config = load_pool(folder)
    found = {}
    for part in config["embeddings"]:
        found[part["kind"]] = (models or {}).get(part["kind"], part["model"])
        if fingerprint(found[part["kind"]]) != part["sha256"]:
            raise UserError(
                f"{folder}: its {part['kind']} model is not at {found[part['kind']]} (any more); say where it is"
            )
    features = Listener(found, cache_folder, device).hear(paths, csv)
    return probabilities(torch.from_numpy(pool.logits(features)), pool.multi_label), config["labels"]
