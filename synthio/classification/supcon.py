"""Supervised contrastive learning (Khosla et al. 2020) beside the cross-entropy of a classifier.

    model = SupConAst(ast, seed=0)
    output = model(features)
    loss = loss_of(output.logits, ...) + weight * supcon_loss(output.projected, targets, temperature)

One stage by default: both losses share the steps, so a run with SupCon costs as many as one without, and the
validation clips choose the step by the classifier's own score. With `supcon_epochs` there are the paper's two: the
contrastive loss alone, then cross-entropy alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from synthio.files import stable_seed
from synthio.models.classifiers import answer, linear_of

PROJECTION_SIZE = 128


@dataclass(frozen=True)
class SupConOutput:
    """Logits [B, C] and unit vectors [B, PROJECTION_SIZE]."""

    logits: torch.Tensor
    projected: torch.Tensor


class SupConAst(nn.Module):
    """A classifier with a projection head on its pooled output; the head is for training alone and is not kept.

    Args:
        ast: ASTForAudioClassification or another one of transformers; it is trained in place.
        seed: of the projection head, two layers as in section 3.1 of the paper.
    """

    def __init__(self, ast, seed: int):
        super().__init__()
        self.ast = ast
        width = linear_of(ast).in_features
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stable_seed(seed, "projection"))
            self.projection = nn.Sequential(
                nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, PROJECTION_SIZE)
            )

    def forward(self, features: torch.Tensor) -> SupConOutput:
        """Features [B, ...] -> logits and projections."""
        logits, pooled = answer(self.ast, features)
        return SupConOutput(logits, functional.normalize(self.projection(pooled), dim=1))


def supcon_loss(z: torch.Tensor, targets: torch.Tensor, temperature: float) -> torch.Tensor:
    """L_out of equation 2: for each anchor i, the mean over its positives p of

        -log( exp(z_i . z_p / T) / sum over a != i of exp(z_i . z_a / T) ),

    and of that the mean over the anchors. Positives are the other clips that share a label, at least one where clips
    have several. An anchor without positives is left out; a batch without any has a loss of 0.

    Args:
        z: unit vectors [B, D].
        targets: 0/1 [B, C].
        temperature: T.
    """
    if len(z) < 2:
        return 0 * z.sum()
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    positive = (targets @ targets.T > 0) & ~itself
    similarity = (z @ z.T / temperature).masked_fill(itself, float("-inf"))
    log_chance = similarity.log_softmax(dim=1)
    counts = positive.sum(dim=1)
    of_anchor = -torch.where(positive, log_chance, 0.0).sum(dim=1) / counts.clamp(min=1)
    return of_anchor.sum() / (counts > 0).sum().clamp(min=1)
