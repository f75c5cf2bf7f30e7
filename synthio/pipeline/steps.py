"""The steps of a run, as run.sh tells them on standard input before it runs them: its one plan.

A line is number, name, models, reads, writes and command, parted by tabs; the last four are words as a shell quotes
them, a model is variable=model, and the command begins with the script. This module needs nothing but Python.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Step:
    """One process of a run, or one for each shard.

    Attributes:
        number: of the stage, as for --stage.
        name: of its log and stamp, with the number of the round.
        models: (variable of run.sh, model) of each that the process loads.
        reads: files and folders; the first is the table that its rows come from.
        writes: files and folders; the first is its table.
        words: script and options.
    """

    number: int
    name: str
    models: tuple[tuple[str, str], ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The step without its round or classifier."""
        return kind_of(self.name)

    @property
    def options(self) -> dict[str, str]:
        """--name -> value."""
        return options_of(self.words)


def kind_of(name: str) -> str:
    """The name of a step without its generator, round or classifier, and for whichever gold clips it is."""
    return re.sub(r"(_m\d+)?(_(\d+|gold_only|synthio|other|advise|judged))?(_added)?$", "", name)


def options_of(words: Sequence[str]) -> dict[str, str]:
    """--name -> the word after it."""
    return {name: value for name, value in pairwise(words) if name.startswith("--")}


def read_steps(lines: Iterable[str]) -> list[Step]:
    """The steps that run.sh tells, in their order."""
    steps = []
    for line in lines:
        if line.strip():
            number, name, *parts = line.rstrip("\n").split("\t")
            models, reads, writes, words = (tuple(shlex.split(part)) for part in parts)
            named = tuple((variable, model) for variable, _, model in (word.partition("=") for word in models))
            steps.append(Step(int(number), name, named, reads, writes, words))
    return steps


def steps_ahead(steps: Iterable[Step], variables: Mapping[str, str]) -> list[Step]:
    """Those that will run: the driver names them, and the others say what the tables hold by then."""
    names = variables["ahead"].split()
    return [step for step in steps if step.name in names]


def loaded_models(steps: Sequence[Step]) -> list[tuple[str, str]]:
    """(variable, model) of all that the steps load and none of them makes, each once; a variable may have several."""
    made = [path for step in steps for path in step.writes]
    pairs = dict.fromkeys(pair for step in steps for pair in step.models)
    return [
        (variable, model)
        for variable, model in pairs
        if not any(model == path or model.startswith(f"{path}/") for path in made)
    ]


def models_of(steps: Sequence[Step], variable: str) -> list[str]:
    """The models of one variable that the steps load and none of them makes."""
    return [model for name, model in loaded_models(steps) if name == variable]
