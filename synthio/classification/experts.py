"""What can say something of a clip's label: each expert turns the embeddings of frozen models into logits.

    expert = LinearExpert(("ast", "clap"), weight, bias)
    expert.logits({"ast": x, "clap": y})  # [N, C]

Embeddings come as a mapping of kind to float32 [N, E]: `ast`, the pooled output of an AST; `ast_logits`, what its
pretrained head says; `clap`, unit vectors of a CLAP. Every expert is arrays and settings, so that it is kept as
safetensors and JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from synthio.classification.probe import LinearProbe

Features = Mapping[str, np.ndarray]


class Expert(Protocol):
    """Logits from embeddings; `form` names the class in a saved model, `kinds` are the embeddings that it reads."""

    form: ClassVar[str]

    @property
    def kinds(self) -> tuple[str, ...]: ...

    def logits(self, features: Features) -> np.ndarray:
        """Float64 [N, C]."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """What is learnt."""
        ...

    def settings(self) -> dict[str, Any]:
        """What else makes it, as JSON can keep it."""
        ...


def beside(features: Features, kinds: Sequence[str]) -> np.ndarray:
    """The embeddings of some kinds side by side, [N, sum of E]."""
    return np.concatenate([features[kind] for kind in kinds], axis=1)


@dataclass(frozen=True)
class LinearExpert:
    """weight [C, sum of E] and bias [C] on the embeddings of `kinds`: a probe, class means, or CLAP's text vectors."""

    kinds: tuple[str, ...]
    probe: LinearProbe
    form: ClassVar[str] = "linear"

    def logits(self, features: Features) -> np.ndarray:
        return self.probe.logits(beside(features, self.kinds))

    def arrays(self) -> dict[str, np.ndarray]:
        return {"weight": self.probe.weight, "bias": self.probe.bias}

    def settings(self) -> dict[str, Any]:
        return {"kinds": list(self.kinds)}

    @classmethod
    def restored(cls, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> LinearExpert:
        return cls(tuple(settings["kinds"]), LinearProbe(arrays["weight"], arrays["bias"]))


@dataclass(frozen=True)
class NamingExpert:
    """What AST's pretrained head calls a clip; members bool [C, K] says which of its K names mean a label.

    A label's logit is the logarithm of the share that its names have of all K (softmax). Labels without a name have
    the share of the names that belong to none, in equal parts.
    """

    members: np.ndarray
    form: ClassVar[str] = "naming"
    kinds: ClassVar[tuple[str, ...]] = ("ast_logits",)

    def logits(self, features: Features) -> np.ndarray:
        from scipy.special import log_softmax, logsumexp

        shares = log_softmax(features["ast_logits"].astype(np.float64), axis=1)
        out = np.empty((len(shares), len(self.members)))
        known, free = self.members.any(axis=1), ~self.members.any(axis=0)
        for row in np.flatnonzero(known):
            out[:, row] = logsumexp(shares[:, self.members[row]], axis=1)
        if not known.all():
            rest = logsumexp(shares[:, free], axis=1) if free.any() else np.full(len(shares), np.log(1e-9))
            out[:, ~known] = (rest - np.log((~known).sum()))[:, None]
        return out

    def arrays(self) -> dict[str, np.ndarray]:
        return {"members": self.members.astype(np.uint8)}

    def settings(self) -> dict[str, Any]:
        return {}

    @classmethod
    def restored(cls, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> NamingExpert:
        return cls(arrays["members"].astype(bool))


@dataclass(frozen=True)
class CacheExpert:
    """Tip-Adapter (Zhang et al. 2022, equation 4): zero-shot logits, and labels of training clips that sound alike.

    logits = scale * x @ texts.T + alpha * exp(-beta * (1 - x @ keys.T)) @ values. In the trained form, Tip-Adapter-F,
    the keys are learnt.

    Attributes:
        keys: [N, E], of the training clips.
        values: [N, C], their targets, each times the clip's weight.
        texts: unit vectors of the labels' prompts [C, E].
        scale: of the zero-shot logits.
        alpha: how much the training clips say beside the prompts.
        beta: how much nearer clips say more than far ones.
    """

    keys: np.ndarray
    values: np.ndarray
    texts: np.ndarray
    scale: float
    alpha: float
    beta: float
    form: ClassVar[str] = "cache"
    kinds: ClassVar[tuple[str, ...]] = ("clap",)

    def logits(self, features: Features) -> np.ndarray:
        x = features["clap"].astype(np.float64)
        near = np.exp(-self.beta * (1 - x @ self.keys.T.astype(np.float64)))
        return self.scale * x @ self.texts.T.astype(np.float64) + self.alpha * near @ self.values.astype(np.float64)

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name).astype(np.float32) for name in ("keys", "values", "texts")}

    def settings(self) -> dict[str, Any]:
        return {name: float(getattr(self, name)) for name in ("scale", "alpha", "beta")}

    @classmethod
    def restored(cls, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> CacheExpert:
        return cls(arrays["keys"], arrays["values"], arrays["texts"], **settings)


FORMS = {expert.form: expert for expert in (LinearExpert, NamingExpert, CacheExpert)}
