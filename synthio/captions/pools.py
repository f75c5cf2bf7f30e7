"""MixCap's bookkeeping (paper, section 3.3): the label template, pools of what was heard, samples of a pool.

Everything here is a pure function. Who reads and writes the sentences is `synthio.captions.requests`.

Of the text about one clip only what is in words of `sound_words.txt` (or of the label) reaches the prompts of other
clips: phrases of four words at most, and prompts whose clips were kept. The list is closed, so nothing depends on
recognising an order when it is seen. It has the words of every name of AudioSet's ontology (Gemmeke et al. 2017), so
that what a captioner trained on AudioSet hears can be pooled.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from synthio.captions.requests import Extraction
from synthio.files import stable_seed
from synthio.manifest import label_words, split_labels

MAX_WORDS = 25  # of a prompt (paper: 20 to 25)
MIN_MORE_WORDS = 12  # that a prompt may have besides those of its label, where that alone is long
MAX_PHRASE_WORDS = 10  # of a phrase for its own clip; a longer one is a sentence, or something worse
MAX_SHARED_WORDS = 4  # of a phrase for other clips
MAX_PHRASES = 10  # of a kind, from one caption
SOUND_WORDS_FILE = Path(__file__).with_name("sound_words.txt")
# they carry no meaning of their own when a phrase is compared with a label
_SMALL_WORDS = frozenset(
    "a an and at audio by clip for from heard in is it of on or recording sound sounds the there time times to "
    "with".split()
)
# where a word group begins (Abney 1991: a chunk is a content word with the small words before it)
_LINKS = frozenset(
    "about above across after against along alongside amid among and around as at before behind below beneath beside "
    "between beyond but by down during for from in inside into like near of off on onto or out outside over past "
    "through to toward towards under until up upon when where while with within without then".split()
)
_DETERMINERS = frozenset("a an another each every her his its many some the their these this those".split())


def label_prompt(label: str) -> str:
    """The template of the paper (section 3.2) for a label cell: 'dog_bark' -> 'Sound of a dog bark'."""
    return f"Sound of a {label_words(label)}"


# Zero-shot classification takes the mean over these, a label's words in the braces.
ZERO_SHOT_TEMPLATES = (
    "Sound of a {}",
    "This is a sound of a {}",
    "A recording of a {}",
    "{}",
    "A {} can be heard",
    "The sound of {} in the background",
)


def zero_shot_prompts(label: str) -> list[str]:
    """Every template, filled in for a label cell."""
    return [template.format(label_words(label)) for template in ZERO_SHOT_TEMPLATES]


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


@lru_cache(maxsize=1)
def sound_words() -> frozenset[str]:
    """Stems of the words that may go from one clip's text to the prompts of another; "=" before a word that may only
    go as it stands."""
    lines = SOUND_WORDS_FILE.read_text(encoding="utf-8").splitlines()
    words = (word for line in lines if not line.startswith("#") for word in line.split())
    return frozenset(word if word.startswith("=") else stem(word) for word in words)


def is_plain(text: str, known: str) -> bool:
    """Whether a text says nothing but what `known` says and sound words, so that other clips' writers may see it."""
    return all(
        stem(word) in sound_words() or f"={word}" in sound_words() or re.fullmatch(r"[0-9]{1,2}", word)
        for word in telling_words(text, known)
    )


def short_phrase(phrase: str) -> str:
    """At most 4 words in lower case; of a longer phrase the first word groups that fit, none cut in two.

    Where the first group that does not fit is the object of a verb ("heavy rain hits | the roof"), the verb goes, too.
    Of a first group that is too long the last words stay, for they hold the noun.
    """
    words = words_of(phrase)
    if len(words) <= MAX_SHARED_WORDS:
        return " ".join(words)
    (first, _), *others = word_groups(phrase)
    kept = first[-MAX_SHARED_WORDS:]
    for group, is_object in others:
        if len(kept) + len(group) > MAX_SHARED_WORDS:
            kept = kept[:-1] if is_object and len(kept) > 1 else kept
            break
        kept = kept + group
    while len(kept) > 1 and kept[-1] in _SMALL_WORDS:
        kept = kept[:-1]
    return " ".join(kept)


def word_groups(phrase: str) -> list[tuple[list[str], bool]]:
    """The word groups of a phrase, from its first word that means something on; of each, whether it may be an object.

    A group begins at a comma, a preposition, a conjunction, or an article that follows none of these. The last is what
    an object looks like.
    """
    groups: list[tuple[list[str], bool]] = []
    for part in re.split(r"[,;:]", phrase):
        words = words_of(part)
        if not groups:
            words = words[next((i for i, word in enumerate(words) if word not in _SMALL_WORDS), 0) :]
        for position, word in enumerate(words):
            is_linked = position > 0 and words[position - 1] in _LINKS
            is_object = position > 0 and word in _DETERMINERS and not is_linked
            if position == 0 or is_object or (word in _LINKS and not is_linked):
                groups.append(([], is_object))
            groups[-1][0].append(word)
    return groups


def own_phrases(extraction: Extraction, label: str) -> Extraction:
    """A clip's phrases, short, at most 10 of a kind, without those that only mean its label (in words)."""
    short = ([short_phrase(phrase) for phrase in kind] for kind in (extraction.events, extraction.backgrounds))
    events, backgrounds = (
        tuple(dict.fromkeys(text for text in kind if not means_label(text, label)))[:MAX_PHRASES] for kind in short
    )
    return Extraction(events, backgrounds)


def pool_captions(cells: Sequence[str], extractions: Sequence[Extraction]) -> dict[str, Extraction]:
    """What was heard with each label, over the whole dataset, as far as other clips may hear of it.

    Args:
        cells: label cells of the clips; one with several labels adds to each of them.
        extractions: of the same clips.

    Returns:
        label -> distinct short phrases of sound words in sorted order, none of which only means that label.
    """
    found: dict[str, tuple[set[str], set[str]]] = {}
    for cell, extraction in zip(cells, extractions, strict=True):
        for label in split_labels(cell):
            words = label_words(label)
            own = own_phrases(extraction, words)
            kinds = found.setdefault(label, (set(), set()))
            for kind, phrases in zip(kinds, (own.events, own.backgrounds), strict=True):
                kind.update(phrase for phrase in phrases if is_plain(phrase, words))
    return {label: Extraction(tuple(sorted(e)), tuple(sorted(b))) for label, (e, b) in found.items()}


def pick(texts: Iterable[str], most: int, seed: int) -> tuple[str, ...]:
    """At most `most` of the texts, in sorted order; a text more or less changes one of those that are picked."""
    ranked = sorted(set(texts), key=lambda text: (stable_seed(seed, text), text))
    return tuple(sorted(ranked[:most]))


def sample_pool(
    pools: Mapping[str, Extraction], cell: str, share: float, seed: int, own: Extraction | None = None
) -> Extraction:
    """A random share of the pool of a clip's labels and of its own phrases, rounded up (paper: 75 %)."""
    parts = [pools[label] for label in split_labels(cell) if label in pools] + ([own] if own else [])
    kinds = ({p for part in parts for p in part.events}, {p for part in parts for p in part.backgrounds})
    events, backgrounds = (pick(kind, math.ceil(share * len(kind)), seed) for kind in kinds)
    return Extraction(events, backgrounds)


def most_words(label: str) -> int:
    """The most words of a prompt for a label (in words): 25, or more where the label is of many labels."""
    return max(MAX_WORDS, len(words_of(label)) + MIN_MORE_WORDS)


def prompt_problem(prompt: str, label: str) -> str:
    """Why a prompt cannot be used for a label (in words), as something to tell its writer; "" if it can."""
    words = words_of(prompt)
    if not words:
        return "it is empty"
    if len(words) > most_words(label):
        return f"it has {len(words)} words, more than {most_words(label)}"
    if "\n" in prompt or not prompt.isprintable():
        return "it is not one line of plain text"
    missing = {stem(word) for word in words_of(label)} - {stem(word) for word in words} - _SMALL_WORDS
    return f"it does not name the label '{label}'" if missing else ""
