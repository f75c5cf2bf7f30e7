"""What every stage script does at its edge: typed arguments, one-line errors, progress that suits the terminal.

This module imports nothing heavy, so that `--help` stays instant.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import suppress
from typing import NoReturn, TextIO, TypeVar, cast

from synthio import __version__
from synthio.errors import UserError as UserError
from synthio.errors import trouble

T = TypeVar("T")

TRUE_WORDS = ("true", "yes", "on", "1")
FALSE_WORDS = ("false", "no", "off", "0")

# Python looks for circles of garbage after so many new objects, and at older ones after so many such looks. By its own
# numbers (700, 10, 10) that is a fifth of the time that torch, transformers and diffusers take to be imported.
GARBAGE_COLLECTION = (10_000, 10, 50)


def first_line(error: Exception) -> str:
    """What a library's message says first; the rest is advice to its developers."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def making_of(environment: str) -> str:
    """The command that makes an environment of extras/environments, for messages."""
    return f"bash extras/environments/make_env.sh .envs/{environment} extras/environments/{environment}.txt"


# What a terminal obeys (cursor, colours, title), or what changes the order or look of the text around it: C0, DEL and
# C1, marks of direction, characters without a width, tags, halves of surrogate pairs. Joiners and variation selectors
# belong to some scripts and to emoji: they stay behind a character that is not ASCII.
_ORDERS = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]"
    "|\r(?!\n)|(?<![^\x00-\x7f])[\u200c\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)


def printable(text: str) -> str:
    """Text of a user's or a library's as it can be shown: what a terminal would obey stands there as an escape.

    Line breaks and tabs stay.
    """
    return _ORDERS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


class PrintableStream:
    """A text stream that writes everything as `printable` shows it, in characters that its encoding has.

    A progress bar may go back to the start of its own line.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._at_start = True  # of a line, or of a bar

    def write(self, text: str) -> int:
        back = "\r" if self._at_start and text.startswith("\r") else ""
        if text:
            self._at_start = bool(back) or text.endswith("\n")
        encoding = self._stream.encoding or "utf-8"
        shown = back + printable(text[len(back) :])
        self._stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def guard_terminal() -> None:
    """Let nothing that this process prints be an order to the terminal, whoever says it: a label, a path, a library.

    It lasts to the end of the process: what nobody catches is printed when `main` is over.
    """
    sys.stdout = cast(TextIO, PrintableStream(sys.stdout))
    sys.stderr = cast(TextIO, PrintableStream(sys.stderr))


def str2bool(text: str) -> bool:
    """Parse a boolean option. `type=bool` would make True of the text 'false'."""
    word = text.strip().lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise argparse.ArgumentTypeError(f"'{text}' is not a boolean; use true or false")


AUTO = "auto"
STARTED_NS = time.time_ns()  # of the process, nearly
# What synthio.pipeline.launch tells the processes that it starts: a folder for their last words, and its own number.
WORDS_FOLDER, STARTED_BY = "SYNTHIO_WORDS", "SYNTHIO_STARTED_BY"


def in_range(kind: type, low: float, high: float = float("inf")) -> Callable[[str], float]:
    """Argument type: a number of `kind` within [low, high]."""

    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not {'a whole' if kind is int else 'a'} number") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is outside [{low:g}, {high:g}]")
        return value

    return parse


def number_or_word(
    low: float, high: float = float("inf"), noun: str = "number", words: Sequence[str] = (AUTO,)
) -> Callable[[str], float | str]:
    """Argument type: a number within [low, high], or one of some words; `noun` is what the message asks for."""

    def parse(text: str) -> float | str:
        try:
            return text if text in words else in_range(float, low, high)(text)
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{error}; give a {noun} or {' or '.join(words)}") from None

    return parse


class Parser(argparse.ArgumentParser):
    """A parser that says of a mistake one line, not all options; of a name that is none, the nearest that is."""

    words: Sequence[str] = ()  # that it is parsing

    def parse_known_args(self, args=None, namespace=None):
        self.words = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {self._unknown() or message} (see --help)\n")

    def _unknown(self) -> str:
        """The first word that is no option, which argparse names only where nothing else is wrong."""
        known = self._option_string_actions
        names = (word.partition("=")[0] for word in self.words if word.startswith("--"))
        name = next((name for name in names if name not in (*known, "--")), "")
        if not name or self._subparsers:  # these have options of their own
            return ""
        import difflib

        near = difflib.get_close_matches(name, known, 1)
        return f"unknown option {name}{f'; did you mean {near[0]}?' if near else ''}"


def new_parser(doc: str) -> argparse.ArgumentParser:
    """A parser whose help is the script's docstring and shows each default once."""

    class Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
        pass

    parser = Parser(description=doc, formatter_class=Formatter, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"synthio {__version__}")
    return parser


def run_main(main: Callable[[], int | None]) -> None:
    """Run a script's main, and end the process with `status_of` it."""
    gc.set_threshold(*GARBAGE_COLLECTION)
    guard_terminal()
    # Pictures go to files. A notebook that calls this names its own backend, which is not in every environment.
    os.environ.pop("MPLBACKEND", None)
    status = status_of(main)
    if status and WORDS_FOLDER in os.environ:  # torch would wait for processes that wait for this one, or abort
        sys.stdout.flush()
        os._exit(status)
    gc.freeze()  # else Python would look through all libraries once more before it ends: half a second
    sys.exit(status)


def status_of(main: Callable[[], int | None]) -> int:
    """The status of a script's main.

    A user's mistake ends it with one line on stderr and status 2, a disk or memory that is full with one line and
    status 1, and a fault of ours with its traceback.
    """
    try:
        status = main()
        if folder := os.environ.get("SYNTHIO_LOADED"):  # run.sh asks
            from synthio.loaded import leave_note

            leave_note(folder, STARTED_NS)
    except UserError as error:
        say_last(f"error: {error}")
        status = 2
    except KeyboardInterrupt:
        print("stopped by the user; the same command goes on from here", file=sys.stderr, flush=True)
        status = 130
    except BrokenPipeError:
        # The reader (head, less) has gone; pointing stdout at nothing keeps the interpreter's last flush quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except Exception as error:
        words = trouble(error)
        if not words and WORDS_FOLDER not in os.environ:
            raise
        with suppress(OSError):  # the log may lie on the disk that is full
            say_last(f"error: {words}" if words else traceback.format_exc().rstrip())
        status = 1
    return status or 0


def say_last(words: str) -> None:
    """Say why this process ends. Of several that train together, who started them says what the first has said."""
    if folder := os.environ.get(WORDS_FOLDER):
        with open(os.path.join(folder, str(os.getpid())), "w", encoding="utf-8") as stream:  # noqa: PTH118, PTH123
            stream.write(words)
    else:
        print(words, file=sys.stderr, flush=True)


def progress(items: Iterable[T], what: str, total: int | None = None, every_s: float = 20.0) -> Iterator[T]:
    """Iterate with a bar on a terminal, and with a plain line at most every `every_s` seconds in a log."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=what, total=total, dynamic_ncols=True)
        return
    started = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= every_s:
            last = now
            print(f"{what}: {done}/{total or '?'} in {now - started:.0f} s", file=sys.stderr, flush=True)


def quiet_libraries() -> None:
    """Keep the model libraries' progress bars and deprecation notes out of our logs; their errors still come."""
    import warnings

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"(torch|transformers|diffusers|peft)\.")
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


def set_threads() -> None:
    """Use the number of threads the driver grants (OMP_NUM_THREADS), or every core when run by hand."""
    import torch

    granted = os.environ.get("OMP_NUM_THREADS", "")
    if granted.isdigit() and int(granted) > 0:
        torch.set_num_threads(int(granted))


def pick_device(name: str) -> str:
    """Turn `auto` into `cuda`, `mps` or `cpu`, whichever is there; anything else is taken as it is.

    A GPU then multiplies float32 matrices with TF32: sums stay float32, factors are rounded to 10 bits, some 0.05 %.
    Of several processes that train together (synthio.training.processes), each has the GPU of its number.
    """
    import torch

    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device '{name}' was asked for, but torch sees no CUDA GPU; use --device cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if name.startswith("cuda"):
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
    return name


def compile_network(module, device: str) -> None:
    """Let torch compile a network (torch.nn.Module) in place: its type and the names of its weights stay.

    Raises:
        UserError: torch cannot compile here. A sum is tried first, for the network itself would fail after minutes.
    """
    import torch

    try:
        torch.compile(lambda x: x + 1)(torch.zeros(2, device=device))
    except RuntimeError as error:
        raise UserError(
            f"--compile true: torch.compile does not work here ({first_line(error)}); it needs a C++ compiler, and "
            "triton on a GPU. Install them, or leave --compile out"
        ) from None
    module.compile()
