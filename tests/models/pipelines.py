"""Folders of tiny pipelines."""

from __future__ import annotations

import torch

PROMPTS, SEEDS = ["sound of a dog bark", "rain"], [11, 12]
KINDS = ["lora", "prefix", "all"]


def same_numbers(ours, theirs, tolerance=1e-4):
    assert ours.shape == theirs.shape
    assert theirs.std() > 0.01, "nothing to compare"
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)
