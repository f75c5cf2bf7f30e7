"""Answer the short questions of a run in one process, so that none of them waits for Python to start.

    python -m synthio.pipeline.helpers    (run.sh starts it with the first question)

A question comes on standard input: the number of its words, then a module of ours and its command line. The answer is
the status of the module's main and what it printed. Each of these ends with a zero byte, which no word holds. What the
module says on stderr is seen at once. The end of the input is the end.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from itertools import islice
from typing import BinaryIO, TextIO, cast

from synthio.cli import PrintableStream, new_parser, run_main, status_of

END = b"\0"


def get_parser():
    return new_parser(__doc__)


def words_in(stream: BinaryIO) -> Iterator[str]:
    """The words that come in, as command lines are decoded; a last one without its end is none."""
    rest = b""
    while piece := os.read(stream.fileno(), 1 << 16):
        *whole, rest = (rest + piece).split(END)
        yield from map(os.fsdecode, whole)


def questions_in(stream: BinaryIO) -> Iterator[list[str]]:
    """Questions, each a module and the words of its command line."""
    words = words_in(stream)
    for count in words:
        question = list(islice(words, int(count)))
        if len(question) == int(count):
            yield question


def answer(module: str, words: Sequence[str]) -> tuple[int, str]:
    """(status, what was printed) of a module that is called with these words."""
    printed, sys.argv = io.StringIO(), [module, *words]
    with redirect_stdout(cast(TextIO, PrintableStream(printed))):
        try:
            status = status_of(importlib.import_module(module).main)
        except SystemExit as stop:  # of the parser
            status = int(stop.code or 0)
    return status, printed.getvalue()


def main() -> int:
    get_parser().parse_args()
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as out:
        for module, *words in questions_in(sys.stdin.buffer):
            status, text = answer(module, words)
            for part in (str(status), text.rstrip("\n")):
                out.write(part.encode("utf-8", "backslashreplace").replace(END, b"") + END)
            out.flush()
    return 0


if __name__ == "__main__":
    run_main(main)
