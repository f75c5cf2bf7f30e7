"""Which classes of a pretrained classifier mean a label: what it knows of a dataset before it has heard a clip of it.

members = match_names(["dog", "crying_baby"], ["dog_bark", "baby_cry", "rain"])  # [2, 3]: dog_bark, baby_cry
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from synthio.captions.pools import stem, words_of
from synthio.manifest import label_words


def match_names(labels: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Names of a pretrained classifier by label, bool [C, K]; a row without any is a label that it does not know.

    A label and a name agree by the stems of their words, in any order. The first of these that any name meets counts:
    the same words; all words of the label and more ("dog" finds "dog_bark"); words of the label alone
    ("engine_idling" finds "engine"). Of a name of several terms, as AudioSet has them ("Baby cry, infant cry"), one
    must agree.

    Args:
        labels: the C labels.
        names: the K names, in the order of the logits.
    """
    known = [_terms(name) for name in names]
    members = np.zeros((len(labels), len(names)), bool)
    for row, label in enumerate(labels):
        wanted = _stems(label)
        if not wanted:
            continue
        for agrees in (frozenset.__eq__, frozenset.issuperset, frozenset.issubset):
            members[row] = [any(term and agrees(term, wanted) for term in terms) for terms in known]
            if members[row].any():
                break
    return members


def _stems(text: str) -> frozenset[str]:
    return frozenset(stem(word) for word in words_of(label_words(text)))


def _terms(name: str) -> list[frozenset[str]]:
    """The words of each term of a name; what stands in brackets explains it."""
    return [_stems(term) for term in re.sub(r"\(.*?\)", "", name).split(",")]
