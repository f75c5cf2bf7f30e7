"""An option is declared once: as a field of a frozen dataclass beside its use.

    @dataclass(frozen=True)
    class Recipe:
        mixup: float = option(0.0, "alpha of mixup's Beta distribution; 0: no mixup", low=0, driver="ast_mixup")

    add_options(parser, Recipe)
    recipe = from_args(Recipe, parser.parse_args())

What the parser accepts follows from the default and the range. `synthio.pipeline.variables` makes run.sh's block of the
fields that have a name in the driver. Only the standard library is imported, so that `--help` stays instant.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, TypeVar

from synthio.cli import AUTO, UserError, in_range, number_or_word, str2bool

Options = TypeVar("Options")
Value = Any  # bool, number, text or a tuple of texts: mypy reads the annotation of the field, not what `option` returns
KEY = "option"  # of a field's metadata
NONZERO = "nonzero"  # of a Need: any number but 0, any text but none


@dataclass(frozen=True)
class Need:
    """That a value of an option goes with one value of another option of its class alone; the driver checks it, too.

    Attributes:
        value: of the option; NONZERO: every one that is something.
        field: of the other option.
        wanted: the other's value, a word.
        why: what a user is told.
    """

    value: str
    field: str
    wanted: str
    why: str

    def concerns(self, value: Value) -> bool:
        """Whether an option has the value that needs another."""
        return value not in (0, "") if self.value == NONZERO else value == self.value


@dataclass(frozen=True)
class Option:
    """What is known of an option besides its name.

    Attributes:
        default: what it is when nobody says anything; its type is the option's. A tuple: a list of words.
        help: one sentence that stands alone.
        low, high: range of a number; no `high`: none.
        choices: the words that are allowed.
        words: what it may be besides a number within the range, such as `AUTO`.
        noun: what the message about a number that may be a word asks for.
        driver: its variable in run.sh; "" for none.
        inert: it says where, how fast and how long the work is done and who is told, not what comes out.
        required: a user must say it; its default is never used.
        flag: its name on the command line; "": that of the field.
        kind: what run.sh allows, where that is not what the script allows.
        card: its name in a model's card; "": the card does not show it.
        reads: the function that reads its value, where default and range do not say it.
        need: what its value needs of another option; None for nothing.
    """

    default: Value
    help: str
    low: float | None = None
    high: float | None = None
    choices: Sequence[str] = ()
    words: Sequence[str] = ()
    noun: str = "number"
    driver: str = ""
    inert: bool = False
    required: bool = False
    flag: str = ""
    kind: str = ""
    card: str = ""
    reads: Callable[[str], Value] | None = None
    need: Need | None = None

    def parser_words(self) -> dict[str, Any]:
        """What argparse is told."""
        words: dict[str, Any] = {"default": self.default, "help": self.help.replace("%", "%%")}
        if self.required:
            words = {"required": True, "help": words["help"]}
        if isinstance(self.default, tuple):
            return words | {"nargs": "*", "default": list(self.default)}
        if self.choices:
            return words | {"choices": list(self.choices)}
        return words | {"type": self.type()}

    def type(self) -> Callable[[str], Value]:
        """The function that reads its value, and refuses a wrong one."""
        if self.reads:
            return self.reads
        if isinstance(self.default, bool):
            return str2bool
        if self.low is None:
            return str
        high = float("inf") if self.high is None else self.high
        if self.words:
            return number_or_word(self.low, high, self.noun, self.words)
        return in_range(type(self.default), self.low, high)

    def kind_text(self) -> str:
        """What run.sh's block says of its values."""
        if self.kind:
            return self.kind
        if isinstance(self.default, bool):
            return "bool"
        if self.choices:
            return "|".join(self.choices)
        if self.low is None:
            return "text"
        whole = isinstance(self.default, int) and not self.words
        limits = number_text(self.low) + ".." + ("" if self.high is None else number_text(self.high))
        return " or ".join([f"{'whole' if whole else 'number'} {limits}", *self.words])

    def default_text(self) -> str:
        """Its default as the driver writes it."""
        if isinstance(self.default, bool):
            return str(self.default).lower()
        return self.default if isinstance(self.default, str) else number_text(self.default)


def option(default: Value, help: str, **more: Value) -> Value:
    """A field of a dataclass that is an option; `more`: the other attributes of `Option`."""
    made = Option(default, help, **more)
    return field(default=default, metadata={KEY: made})


def number_text(value: float) -> str:
    """A number as people write it: 2000, 0.85, 3e-4."""
    text = f"{value:e}" if 0 < abs(value) < 1e-3 else repr(value)
    text = re.sub(r"\.?0*e", "e", text) if "e" in text else text.removesuffix(".0")
    return re.sub(r"e([+-])0*", lambda sign: "e" + sign[1].strip("+"), text)


def declared(kind: type) -> list[tuple[Field, Option]]:
    """The options of a dataclass, in its order; fields that are none are left out."""
    return [(one, one.metadata[KEY]) for one in fields(kind) if KEY in one.metadata]


def flag_of(one: Field) -> str:
    """The name of an option on the command line, and in the Namespace."""
    return one.metadata[KEY].flag or one.name


def check_needs(options: object) -> None:
    """Refuse an object of options where one has a value that goes with another value of a second one.

    Raises:
        UserError: there is such.
    """
    known = {one.name: (one, getattr(options, one.name)) for one, _ in declared(type(options))}
    for one, value in known.values():
        need = one.metadata[KEY].need
        if need and need.concerns(value) and known[need.field][1] != need.wanted:
            raise UserError(
                f"--{flag_of(one)} {value} needs --{flag_of(known[need.field][0])} {need.wanted}: {need.why}"
            )


def add_options(parser: argparse.ArgumentParser, kind: type, only: Collection[str] = ()) -> None:
    """Add the options of a dataclass to a parser; `only`: those of these fields."""
    for one, said in declared(kind):
        if not only or one.name in only:
            parser.add_argument(f"--{flag_of(one)}", **said.parser_words())


def from_args(kind: type[Options], args: argparse.Namespace, **more: Value) -> Options:
    """The object of what the parser read; `more`: its fields that are no options."""
    read = {one.name: getattr(args, flag_of(one)) for one, _ in declared(kind) if one.name not in more}
    return kind(**read, **more)


def shaping(options: object) -> dict[str, Any]:
    """Name -> value of the options that shape the result."""
    inert = {one.name for one, said in declared(type(options)) if said.inert}
    return {name: value for name, value in vars(options).items() if name not in inert}


@dataclass(frozen=True)
class Seed:
    """Of what is random."""

    # the driver gives one step the seed + 1
    seed: int = option(0, "seed of everything random", low=0, driver="seed", kind="whole 0..2147483647", card="seed")


@dataclass(frozen=True)
class MultiLabel:
    """Of what reads labels."""

    multi_label: bool = option(False, "clips have several labels, joined by ';' in the CSV", driver="multi_label")


@dataclass(frozen=True)
class Device:
    """Of what computes."""

    device: str = option("auto", "auto, cpu, cuda, cuda:N or mps", inert=True)


WHOLE = "model"  # of latent_seconds


@dataclass(frozen=True)
class LatentLength:
    """Of what works on latents: stages 3, 4, 6 and 8, and stage 0, which refuses longer clips."""

    latent_seconds: float | str = option(
        AUTO,
        "length of the latents that are made and trained on. auto: the longest training clip and what the decoder "
        "hears beyond it, at most the model's; model: always the model's; a number: seconds. The embedded model keeps "
        "its own under auto (paper: model)",
        low=0.1,
        words=(AUTO, WHOLE),
        noun="number of seconds",
        driver="latent_seconds",
    )


@dataclass(frozen=True)
class ReportClips:
    """Of what shows clips."""

    max_clips: int = option(60, "clips that can be listened to in report.html", low=0, driver="report_clips")


@dataclass(frozen=True)
class Compiling:
    """Of what runs one network many times."""

    compile: bool = option(
        False,
        "torch.compile the network of generation, alignment or AST: minutes at the start, after which a GPU may be "
        "faster",
        driver="compile",
        inert=True,
    )
