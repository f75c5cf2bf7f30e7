"""The embedded caption writer: a small grammar. It needs no weights and no network, and a seed decides all it writes.

    main      the label in a phrase ("a recording of a dog bark")
    manner    up to two words or phrases of the pool, one of a kind ("loud", "low-pitched")
    behind    a background of the pool

A label with nothing in its pool gets neutral words (distance, room), which say nothing about what is heard.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence, Set

from synthio.captions.pools import clean_phrase, most_words, telling_words, words_of
from synthio.captions.requests import CaptionRequest, CaptionWriter, Extraction

# How often and how fast a sound comes is not carried over: told to repeat a siren, the generator repeats anything but.
UNSAID = ("single", "two", "three", "several", "slow", "fast")
# One word of a kind at most: a sound is not loud and quiet at once.
KINDS = (
    ("quiet", "faint", "soft", "loud"),
    ("low-pitched", "high-pitched"),
    ("steady", "changing"),
    ("muffled", "rumbling", "hissing"),
    ("close", "distant"),
    ("reverberant", "dry"),
)
KIND_OF = {word: number for number, words in enumerate(KINDS) for word in words}
# What a clip that was too loud, or was not heard, should not be asked for again.
AVOIDED: dict[str, tuple[str, ...]] = {
    "clipped": ("loud", "close"),
    "silent": ("quiet", "faint", "soft", "distant", "muffled"),
}
NEUTRAL = ("quiet", "loud", "close", "distant", "reverberant", "muffled")
PLACES = ("in a small room", "in a large hall", "outdoors", "in the open", "indoors")
# For prompts that go beyond the label.
EVENTS = tuple(
    "people talking;footsteps;a door closing;a car passing by;birds singing;water running;a phone ringing;"
    "dishes clattering;children playing;a bell ringing;keys jingling;leaves rustling".split(";")
)
SCENES = tuple(
    "a busy street;a quiet forest;a kitchen;an office;a train station;a park;a factory;a seashore;a market;"
    "a restaurant;light rain;wind".split(";")
)
TRIES = 300
_BEHIND = re.compile(r"\b(?:with|over|against|amid|amidst|behind)\b|\bin the (?:background|distance)\b|\bbackground\b")
_BREAKS = re.compile(
    r"[.;,]|\b(?:and then|and|while|as well as|followed by|accompanied by|as|then|with|over|amid|amidst)\b"
)


class Composer(CaptionWriter):
    """See `CaptionWriter`."""

    name = "embedded"

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def extract(self, captions: Sequence[tuple[str, str]]) -> list[Extraction]:
        """Split each caption into phrases: (label in words, caption) -> `Extraction`."""
        return [extract(label, caption) for label, caption in captions]

    def write(self, requests: Sequence[CaptionRequest]) -> list[list[str]]:
        """`count` different prompts for each request."""
        taken: dict[str, set[str]] = {}
        out = []
        for request in requests:
            out.append(compose(request, taken.setdefault(request.label, set())))
            taken[request.label].update(out[-1])
        return out


def extract(label: str, caption: str) -> Extraction:
    """Events and backgrounds of a caption, without what only means the label."""
    events: list[str] = []
    backgrounds: list[str] = []
    start, behind = 0, False
    for end, next_start, mark in [*_breaks(caption), (len(caption), len(caption), "")]:
        part = caption[start:end]
        is_background = behind or bool(_BEHIND.search(part.lower()))
        kind = backgrounds if is_background else events
        kind += manner_phrases(_BEHIND.sub(" ", part), label)
        start, behind = next_start, mark in ("with", "over", "amid", "amidst") and _closes(caption[next_start:])
    return Extraction(tuple(dict.fromkeys(events)), tuple(dict.fromkeys(backgrounds)))


def _breaks(caption: str) -> Iterable[tuple[int, int, str]]:
    return ((m.start(), m.end(), m.group()) for m in _BREAKS.finditer(caption.lower()))


def _closes(rest: str) -> bool:
    """Whether the phrase that `rest` starts with is said to be in the background."""
    first = _BREAKS.split(rest.lower())[0]
    return "background" in first or "distance" in first


def manner_phrases(part: str, label: str) -> list[str]:
    """'several loud barks' -> ['loud'] for a dog's bark; a phrase with unknown words stays whole."""
    words = [word for word in telling_words(part, label) if word not in UNSAID]
    if all(word in KIND_OF for word in words):
        return words
    text = clean_phrase(part)
    if text in PLACES:  # of a prompt of ours; it says nothing that was heard
        return []
    return [text if text[1:2].isupper() else text[:1].lower() + text[1:]] if text else []


def compose(request: CaptionRequest, taken: Set[str] = frozenset()) -> list[str]:
    """The prompts of one request; `taken` ones are avoided as long as others can be found."""
    rng = random.Random(request.seed)
    own = extract(request.label, request.caption)
    pool = Extraction(request.pool.events + own.events, request.pool.backgrounds + own.backgrounds)
    plain = bool(request.rejected) and request.why != "copy"
    if request.rejected:  # say less, unless it was a copy, and say what was heard in the clips that were kept
        kept = [extract(request.label, prompt) for prompt in request.accepted]
        pool = Extraction(tuple(e for k in kept for e in k.events), tuple(b for k in kept for b in k.backgrounds))
    elif request.diverse:
        pool = Extraction(*(beyond(kind, request.label) for kind in (EVENTS, SCENES)))
    out: list[str] = []
    for attempt in range(TRIES * request.count):
        if len(out) == request.count:
            break
        prompt = one_prompt(request, pool, rng, most=1 if plain and attempt < TRIES // 2 else 2)
        is_new = prompt not in out and prompt != request.rejected
        # after many tries the label's words are used up: a prompt that another clip has is better than none
        if is_new and (prompt not in taken or attempt > TRIES * request.count // 2):
            out.append(prompt)
    assert len(out) == request.count, f"the grammar gave {len(out)} of {request.count} prompts for {request.label}"
    return out


def beyond(phrases: Sequence[str], label: str) -> tuple[str, ...]:
    """The phrases that share no word with a label."""
    return tuple(phrase for phrase in phrases if telling_words(phrase, label) == telling_words(phrase, ""))


def one_prompt(request: CaptionRequest, pool: Extraction, rng: random.Random, most: int) -> str:
    """A random sentence of the grammar: at most `most` manners, at least one where something new is wanted."""
    avoided = AVOIDED.get(request.why, ())
    neutral, events = ([word for word in words if word not in avoided] for words in (NEUTRAL, pool.events))
    least = int(request.diverse or request.why == "copy")
    manners = choose_manners(events or neutral, rng.randint(least, most), rng)
    if not request.diverse and rng.random() < 0.3:
        manners = choose_manners((*manners, *neutral), len(manners) + 1, rng)
    text = main_clause(request.label, manners, rng)
    if pool.backgrounds and rng.random() < 0.3:
        text += f", with {rng.choice(pool.backgrounds)} in the background"
    elif rng.random() < 0.3:
        text += f", {rng.choice(PLACES)}"
    if request.domain and rng.random() < 0.5:
        text += f", {request.domain}"
    if len(words_of(text)) <= most_words(request.label):
        return text
    return main_clause(request.label, manners[: int(request.diverse)], rng)


def choose_manners(phrases: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """Up to `count` phrases, at most one of a kind."""
    chosen: dict[object, str] = {}
    for phrase in rng.sample(list(phrases), len(phrases)):
        if len(chosen) == count:
            break
        chosen.setdefault(KIND_OF.get(phrase, phrase), phrase)
    return list(chosen.values())


def main_clause(label: str, manners: Sequence[str], rng: random.Random) -> str:
    """The label with words on how it sounds and other events after it."""
    adjectives = [m for m in manners if m in KIND_OF]
    events = [m for m in manners if m not in KIND_OF]
    if adjectives and rng.random() < 0.4:
        text = f"{', '.join(adjectives)} sound of a {label}"
    else:
        text = rng.choice([f"Sound of a {label}", f"the sound of a {label}", f"a recording of a {label}"])
        text = ", ".join([text, *adjectives])
    if events:
        text += rng.choice([" and ", ", followed by "]) + " and ".join(events)
    return text
