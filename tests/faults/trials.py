"""What a trial of the fault suite is, how it ends, and how much there may be of everything.

A part is a module with

    COUNT      trials at full size
    LEAST      trials that are worth a process
    WAIT_S     the longest that a trial may take
    trials(numbers, seed, folder, shared) -> an Outcome for each number, in order

Trials depend on seed and number alone, so that one can be had again: `--part tables --only 17`.
"""

from __future__ import annotations

import random
import resource
import time
import traceback
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

RIGHT, SILENT, STUCK, TRACEBACK = "right", "silent", "stuck", "traceback"
KINDS = (RIGHT, SILENT, STUCK, TRACEBACK)
MAX_LINE_CHARS = 2000  # of a message; a longer one is no line that a person reads
SLOW_S = 30.0  # a small damaged input that takes longer would keep a stage from its end
MAX_GROWTH_MB = 400  # of the memory of a process by one small damaged input


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        number: of the trial.
        kind: right; silent: something is wrong, missing or left behind and nothing says so; stuck: it does not end, or
            the same command never goes on; traceback: it broke without a message, or crashed.
        what: the trial and what was seen, in a line.
    """

    number: int
    kind: str
    what: str


class Silent(Exception):
    """What a trial raises when something is wrong and nobody was told."""


class Stuck(Exception):
    """What a trial raises when the same command does not go on."""


def rng_of(*parts: object) -> random.Random:
    """A source of randomness that depends on `parts` alone."""
    return random.Random(":".join(map(str, parts)))


def check_message(text: str) -> None:
    """A message to a user is one line, of characters that a terminal shows."""
    if not text.strip():
        raise Silent("a refusal without a word")
    if len(text) > MAX_LINE_CHARS:
        raise Silent(f"a message of {len(text)} characters")


def harmless(text: str) -> bool:
    """Whether a terminal only shows it."""
    return all(char.isprintable() or char in "\n\t" or unicodedata.category(char) == "Zs" for char in text)


def memory_mb() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def judged(
    numbers: Iterable[int],
    seed: int,
    part: str,
    trial: Callable[[random.Random], str],
    refusals: tuple[type, ...],
    slow_s: float = SLOW_S,
) -> Iterator[Outcome]:
    """Run `trial` for each number, and say how it ended.

    Args:
        trial: does it, and returns what was done; what it says of itself by `Silent` or `Stuck` counts.
        refusals: errors that are an answer.
        slow_s: what takes longer is stuck.
    """
    for number in numbers:
        rng, before, started = rng_of(seed, part, number), memory_mb(), time.monotonic()
        kind, what = RIGHT, ""
        try:
            what = trial(rng)
        except Silent as error:
            kind, what = SILENT, str(error)
        except Stuck as error:
            kind, what = STUCK, str(error)
        except refusals as error:
            what = str(error)
            if not what.strip() or len(what) > MAX_LINE_CHARS:
                kind, what = SILENT, f"a refusal of {len(what)} characters"
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            kind, what = TRACEBACK, f"{type(error).__name__} at {where.filename}:{where.lineno}: {error}"
        if kind == RIGHT and memory_mb() - before > MAX_GROWTH_MB:
            kind, what = STUCK, f"took {memory_mb() - before:.0f} MB: {what}"
        if kind == RIGHT and time.monotonic() - started > slow_s:
            kind, what = STUCK, f"took {time.monotonic() - started:.0f} s: {what}"
        yield Outcome(number, kind, " ".join(what.split())[:400])
