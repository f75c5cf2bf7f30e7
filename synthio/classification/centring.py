"""Bring what frozen models hear in synthetic clips to where they hear the real ones.

    moved = centred(features, targets, is_synthetic)

A generator has a sound of its own, which shifts the embeddings of all its clips alike, whatever they are of. A head
that is fitted to both kinds of clips takes a part of that shift for what tells labels apart. So the means are made
equal: the first order of aligning two domains (Sun et al. 2016, "Return of frustratingly easy domain adaptation"; its
second order gave nothing more here, see docs/classifiers.md).
"""

from __future__ import annotations

import numpy as np

from synthio.classification.experts import Features

UNIT_LENGTH = ("clap",)  # kinds of embeddings that are read as directions


def centred(features: Features, targets: np.ndarray, is_synthetic: np.ndarray) -> Features:
    """Move the synthetic clips' embeddings by one vector, so that their mean is that of the real clips.

    Both means count the labels alike, by the real clips' numbers, so that other shares of labels are no shift. Labels
    that only one kind of clips has are left out of them; if there is no other, nothing is moved.

    Args:
        features: embeddings by kind, [N, E] each.
        targets: 0/1 [N, C].
        is_synthetic: bool [N].
    """
    counts = np.stack([targets[rows].sum(axis=0) for rows in (~is_synthetic, is_synthetic)])
    shares = np.where((counts > 0).all(axis=0), counts[0], 0)
    if not shares.any():
        return features
    real, made = (
        (targets[rows] / np.maximum(count, 1)) @ (shares / shares.sum())
        for rows, count in zip((~is_synthetic, is_synthetic), counts, strict=True)
    )
    moved = {}
    for kind, x in features.items():
        x = x.copy()
        x[is_synthetic] += (real @ x[~is_synthetic] - made @ x[is_synthetic]).astype(x.dtype)
        if kind in UNIT_LENGTH:
            x[is_synthetic] /= np.maximum(np.linalg.norm(x[is_synthetic], axis=1, keepdims=True), 1e-12)
        moved[kind] = x
    return moved
