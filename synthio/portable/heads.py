"""A head on frozen models as one network from a waveform to its probabilities.

network = PortablePool(pool, {"ast": ear, "clap": other})
network(waveform)  # [B, T] at network.sample_rate -> [B, C]
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from synthio.classification.experts import CacheExpert, LinearExpert, NamingExpert
from synthio.classification.pool import Pool
from synthio.portable.ears import Ear
from synthio.portable.resampling import Resampler

Heard = Mapping[str, torch.Tensor]


def double(array: np.ndarray) -> torch.Tensor:
    """As a buffer of a head, float64."""
    return torch.from_numpy(np.asarray(array, np.float64))


class Linear(nn.Module):
    """See `LinearExpert`."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, expert: LinearExpert):
        super().__init__()
        self.kinds = expert.kinds
        self.register_buffer("weight", double(expert.probe.weight.T))
        self.register_buffer("bias", double(expert.probe.bias))

    def forward(self, heard: Heard) -> torch.Tensor:
        beside = torch.cat([heard[kind] for kind in self.kinds], dim=1)
        return beside.double() @ self.weight + self.bias


class Naming(nn.Module):
    """See `NamingExpert`."""

    def __init__(self, expert: NamingExpert):
        super().__init__()
        free = np.flatnonzero(~expert.members.any(axis=0))
        unknown = int((~expert.members.any(axis=1)).sum())
        own = [np.flatnonzero(row) for row in expert.members]
        self.names = [torch.from_numpy(names if len(names) else free) for names in own]
        self.less = [0.0 if len(names) else math.log(unknown) for names in own]

    def forward(self, heard: Heard) -> torch.Tensor:
        shares = heard["ast_logits"].double().log_softmax(dim=1)
        nothing = torch.full_like(shares[:, 0], math.log(1e-9))
        parts = [shares[:, names].logsumexp(dim=1) if len(names) else nothing for names in self.names]
        return torch.stack([part - less for part, less in zip(parts, self.less, strict=True)], dim=1)


class Cache(nn.Module):
    """See `CacheExpert`."""

    keys: torch.Tensor
    values: torch.Tensor
    texts: torch.Tensor

    def __init__(self, expert: CacheExpert):
        super().__init__()
        self.scale, self.alpha, self.beta = expert.scale, expert.alpha, expert.beta
        self.register_buffer("keys", double(expert.keys.T))
        self.register_buffer("values", double(expert.values))
        self.register_buffer("texts", double(expert.texts.T))

    def forward(self, heard: Heard) -> torch.Tensor:
        x = heard["clap"].double()
        near = torch.exp(-self.beta * (1 - x @ self.keys))
        return self.scale * (x @ self.texts) + self.alpha * (near @ self.values)


FORMS: Mapping[type, type[nn.Module]] = {LinearExpert: Linear, NamingExpert: Naming, CacheExpert: Cache}


class PortablePool(nn.Module):
    """See `Pool`.

    Args:
        pool: the head.
        ears: kind of model ("ast", "clap") -> the network that hears.

    Attributes:
        sample_rate: in Hz; a model that hears less is given the sound resampled.
    """

    def __init__(self, pool: Pool, ears: Mapping[str, Ear]):
        super().__init__()
        self.sample_rate = max(ear.sample_rate for ear in ears.values())
        self.ears = nn.ModuleDict(ears)
        self.resamplers = nn.ModuleDict(
            {kind: Resampler(self.sample_rate, ear.sample_rate) for kind, ear in ears.items()}
        )
        self.is_named = "ast_logits" in pool.kinds
        self.experts = nn.ModuleList([FORMS[type(expert)](expert) for expert in pool.experts])
        self.weights, self.offset, self.multi_label = [float(w) for w in pool.weights], pool.offset, pool.multi_label

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """[B, T] -> probabilities [B, C]."""
        heard = {kind: ear(self.resamplers[kind](waveform)) for kind, ear in self.ears.items()}
        if self.is_named:
            namer = self.ears["ast"]
            assert isinstance(namer, Ear)
            heard["ast_logits"] = namer.name(heard["ast"])
        # of the pool's log softmax only a number for each clip would be left, which the softmax takes away
        weighed = [weight * expert(heard) for weight, expert in zip(self.weights, self.experts, strict=True)]
        return chances(torch.stack(weighed).sum(dim=0) + self.offset, self.multi_label).float()


def chances(logits: torch.Tensor, multi_label: bool) -> torch.Tensor:
    """Logits [B, C] -> probabilities [B, C]."""
    return logits.sigmoid() if multi_label else logits.softmax(dim=1)
