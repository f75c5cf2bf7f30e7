"""What is found in a user's tables, told all at once: problems, with file, row, value and mend, and warnings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from synthio.cli import UserError

MAX_LISTED = 20


@dataclass(frozen=True)
class Problem:
    """One line; those of a kind are counted together where there are too many lines."""

    kind: str
    text: str


@dataclass
class Findings:
    """What stage 0 and --check say."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, kind: str, lines: Iterable[str]) -> None:
        """Add problems of one kind."""
        self.problems += [Problem(kind, line) for line in lines]

    def lines(self, most: int = MAX_LISTED) -> list[str]:
        """The problems in order, at most so many of them, some of each kind, and a count of the rest by kind."""
        if len(self.problems) <= most:
            return [problem.text for problem in self.problems]
        kinds: dict[str, list[int]] = defaultdict(list)
        for i, problem in enumerate(self.problems):
            kinds[problem.kind].append(i)
        in_turn = [i for turn in zip_longest(*kinds.values()) for i in turn if i is not None]
        taken = set(in_turn[:most])
        left = {kind: sum(i not in taken for i in rows) for kind, rows in kinds.items()}
        rest = ", ".join(f"{count} {kind}" for kind, count in left.items() if count)
        return [*(self.problems[i].text for i in sorted(taken)), f"and {len(self.problems) - most} more: {rest}"]

    def refuse(self) -> None:
        """Raise all problems as one error, if there are any.

        Raises:
            UserError: one problem on the same line, several below each other.
        """
        lines = self.lines()
        if len(self.problems) == 1:
            raise UserError(lines[0])
        if lines:
            kinds = {problem.kind for problem in self.problems}
            what = kinds.pop() if len(kinds) == 1 else "problems"
            raise UserError("".join([f"{len(self.problems)} {what}:", *(f"\n  {line}" for line in lines)]))


def listed(lines: Sequence[str]) -> str:
    """One finding on the same line; several below each other, the first ones and how many more."""
    if len(lines) == 1:
        return lines[0]
    more = [f"and {len(lines) - MAX_LISTED} more"] if len(lines) > MAX_LISTED else []
    return "".join(f"\n  {line}" for line in [*lines[:MAX_LISTED], *more])


def number(count: int, noun: str) -> str:
    """'1 clip', '2 clips'."""
    return f"{count} {noun}{'s' * (count != 1)}"
