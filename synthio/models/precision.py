"""Which passes of a network may compute in half precision. What is multiplied in float32 is up to `pick_device`."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from synthio.cli import AUTO


def autocast(device: str | torch.device, precision: str) -> AbstractContextManager:
    """A block in which matrices are multiplied in bfloat16 and the rest is as precise as torch thinks it has to be.

    The weights stay as they are, and so does what the loss is made of if it is made outside.

    Args:
        device: where the network is.
        precision: "float32": nothing changes; "bfloat16"; "auto": bfloat16 on a GPU that computes in it.
    """
    kind = torch.device(device).type
    has_it = kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "bfloat16" or (precision == AUTO and has_it):
        return torch.autocast(kind, torch.bfloat16)
    return nullcontext()
