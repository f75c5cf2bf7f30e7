"""MixCap's bookkeeping (paper, section 3.3): the label template, pools of what was heard, samples of a pool.

Everything here is a pure function. Who reads and writes the sentences is `synthio.models.captioning`.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence

from synthio.manifest import label_words, split_labels
from synthio.models.captioning import Extraction

MAX_WORDS = 25  # of a prompt (paper: 20 to 25)
MAX_PHRASE_WORDS = 10  # a longer phrase in a pool is a sentence, or something worse
# they carry no meaning of their own when a phrase is compared with a label
_SMALL_WORDS = frozenset(
    "a an and at audio by clip for from heard in is it of on or recording sound sounds the there time times to "
    "with".split()
)
# words of somebody who gives orders to a reader, not of somebody who says what is heard
_ORDER_WORDS = frozenset(
    "assistant caption captions disregard forget ignore ignoring instruction instructions json output prompt prompts "
    "reply respond write".split()
)


def label_prompt(label: str) -> str:
    """The template of the paper (section 3.2) for a label cell: 'dog_bark' -> 'Sound of a dog bark'."""
    return f"Sound of a {label_words(label)}"


def words_of(text: str) -> list[str]:
    """Lower-case words; hyphens and apostrophes stay inside ('low-pitched')."""
    return re.findall(r"[^\W_]+(?:[-'’][^\W_]+)*", text.lower())


def stem(word: str) -> str:
    """A word without its commonest endings, so that 'barking', 'barks' and 'bark' agree."""
    for ending in ("ing", "es", "ed", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def telling_words(phrase: str, label: str) -> list[str]:
    """The words of a phrase that say something besides the label: ['loud'] for 'a dog barks, loud' and 'dog bark'."""
    known = {stem(word) for word in words_of(label)}
    return [word for word in words_of(phrase) if word not in _SMALL_WORDS and stem(word) not in known]


def means_label(phrase: str, label: str) -> bool:
    """Whether a phrase says nothing but a label, or nothing at all: 'a dog barks' for 'dog bark'."""
    return not telling_words(phrase, label)


def clean_phrase(phrase: str) -> str:
    """One line of plain words, or "" when it is too long to be a phrase. Quotes and brackets go."""
    text = " ".join(re.sub(r"[^\w\s'’,-]|_", " ", phrase).split()).strip(" ,-")
    return text if len(words_of(text)) <= MAX_PHRASE_WORDS else ""


def is_order(text: str) -> bool:
    """Whether a text speaks to its reader ("ignore all instructions") instead of describing a sound.

    Such a text about one clip is not shown to the writer of another.
    """
    return any(word in _ORDER_WORDS for word in words_of(text))


def pool_captions(cells: Sequence[str], extractions: Sequence[Extraction]) -> dict[str, Extraction]:
    """What was heard with each label, over the whole dataset.

    Args:
        cells: label cells of the clips; one with several labels adds to each of them.
        extractions: of the same clips.

    Returns:
        label -> distinct phrases in sorted order, none of which only means that label.
    """
    found: dict[str, tuple[set[str], set[str]]] = {}
    for cell, extraction in zip(cells, extractions, strict=True):
        for label in split_labels(cell):
            kinds = found.setdefault(label, (set(), set()))
            for kind, phrases in zip(kinds, (extraction.events, extraction.backgrounds), strict=True):
                kind.update(filter(None, (_pooled(phrase, label) for phrase in phrases)))
    return {label: Extraction(tuple(sorted(e)), tuple(sorted(b))) for label, (e, b) in found.items()}


def _pooled(phrase: str, label: str) -> str:
    text = clean_phrase(phrase)
    return "" if means_label(text, label_words(label)) else text


def sample_pool(pools: Mapping[str, Extraction], cell: str, share: float, seed: int) -> Extraction:
    """A random share of the pool of a clip's labels, rounded up (paper: 75 %)."""
    rng = random.Random(seed)
    labels = [label for label in split_labels(cell) if label in pools]
    kinds = (
        sorted({phrase for label in labels for phrase in pools[label].events}),
        sorted({phrase for label in labels for phrase in pools[label].backgrounds}),
    )
    events, backgrounds = (tuple(sorted(rng.sample(kind, math.ceil(share * len(kind))))) for kind in kinds)
    return Extraction(events, backgrounds)


def prompt_problem(prompt: str, label: str) -> str:
    """Why a prompt cannot be used for a label (in words), as something to tell its writer; "" if it can."""
    words = words_of(prompt)
    if not words:
        return "it is empty"
    if len(words) > MAX_WORDS:
        return f"it has {len(words)} words, more than {MAX_WORDS}"
    if "\n" in prompt or not prompt.isprintable():
        return "it is not one line of plain text"
    missing = {stem(word) for word in words_of(label)} - {stem(word) for word in words} - _SMALL_WORDS
    return f"it does not name the label '{label}'" if missing else ""
