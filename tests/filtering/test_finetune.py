"""Fine-tuning of a CLAP: the loss by hand, and what a batch is."""

from __future__ import annotations

import math

import pytest

from synthio.filtering.finetune import contrastive_loss


def test_the_contrastive_loss_by_hand():
    import torch

    loss_of = contrastive_loss
    audio = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    texts = torch.eye(2)
    # logits 1 0 / 1 0 / 0 1: each clip finds its text with e / (e + 1)
    to_texts = math.log(math.e + 1) - 1
    # text 0 shares its mass over two right clips, text 1 has one among three
    to_clips = ((math.log(2 * math.e + 1) - 1) + (math.log(2 + math.e) - 1)) / 2
    loss = loss_of(audio, texts, torch.tensor([0, 0, 1]), 1.0)
    assert loss.item() == pytest.approx((to_texts + to_clips) / 2, abs=1e-6)
    assert loss_of(audio[:2], texts[:1], torch.tensor([0, 0]), 1.0).item() == pytest.approx(math.log(2) / 2, abs=1e-6)
