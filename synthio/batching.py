"""The batch size that a device's memory holds, found by halving."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Protocol, Self, TypeVar

from synthio.cli import UserError


class Sliceable(Protocol):
    """What is cut into batches: a sequence, an array or a tensor."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Self: ...


T = TypeVar("T")
R = TypeVar("R")
Items = TypeVar("Items", bound=Sliceable)


class Halving:
    """Runs a function over batches, in smaller parts where a GPU has no memory for the whole.

    Args:
        size: most items at once.
        what: what an item is, for messages.

    Attributes:
        size: what fitted so far; it is halved each time memory runs out, down to 1.
    """

    def __init__(self, size: int, what: str = "clip"):
        self.size, self.what = size, what

    def run(self, function: Callable[[Items], Iterable[R]], items: Items) -> list[R]:
        """The results of function(part), one an item, over consecutive parts of the items.

        A part that did not fit is done again from its start. So that the results are those of an unbroken run, an
        item's must not depend on the others in its part.

        Raises:
            UserError: a single item does not fit.
        """
        results: list[R] = []
        while len(results) < len(items):
            part = items[len(results) : len(results) + self.size]
            found = attempt(function, part)
            if found is None:
                self._halve(len(part))
            else:
                results.extend(found)
        return results

    def retry(self, function: Callable[[int], R], count: int) -> R:
        """function(size), which goes over `count` items, `size` at a time; it is called again where memory runs out.

        For one result of all items, such as a gradient. Each call must start from nothing.

        Raises:
            UserError: a single item does not fit.
        """
        while True:
            size = min(self.size, count)
            found = attempt(function, size)
            if found is not None:
                return found
            self._halve(size)

    def _halve(self, tried: int) -> None:
        if tried == 1:
            raise UserError(
                f"the device has no memory for a single {self.what}; use a smaller model, half precision "
                "(--dtype, where there is one) or another --device"
            )
        self.size = tried // 2
        print(f"no memory for {tried} {self.what}s at once: going on with {self.size}", file=sys.stderr, flush=True)


def attempt(function: Callable[[T], R], argument: T) -> R | None:
    """function(argument), or None where the GPU's memory ran out."""
    try:
        return function(argument)
    except RuntimeError as error:
        # By its name: torch is not imported for those who compute without it.
        if type(error).__name__ != "OutOfMemoryError":
            raise
    # Only here has the traceback gone that held the failed call's tensors.
    import torch

    torch.cuda.empty_cache()
    return None
