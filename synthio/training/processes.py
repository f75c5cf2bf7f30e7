"""Several processes that do one training together, a GPU each.

    processes = join(pick_device(args.device))       # a script that was started once is alone
    mine = processes.share(len(batch))               # rows of the batch that this process computes
    ...                                              # their part of the gradient of the mean over the whole batch
    processes.sum_gradients(parameters)              # now that of all rows, the same in every process
    processes.leave()                                # after the training

Every process draws the whole batch, by seed and step alone, and takes its rows of it. So the batch, what is drawn for
it and the gradient are those of one process, whatever the number of processes; the order in which the gradient is
summed is not. Only the main process evaluates, writes and tells.

`python -m synthio.pipeline.launch 4 SCRIPT WORDS...` starts them, through `accelerate`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import distributed

from synthio.cli import STARTED_BY, UserError

T = TypeVar("T")
# The main process may evaluate for hours while the others wait. That one has died is seen by who started them.
PATIENCE = timedelta(days=7)
SUMMED_AT_ONCE = 2**24  # numbers: 64 MB, so that the copy is small beside the weights
UNTIL_WE_ARE_ENDED_S = 30.0


@dataclass(frozen=True)
class Processes:
    """The processes of a training, as one of them sees it; by default it is alone.

    Attributes:
        rank: number of this process, from 0; 0 is the main one.
        count: of all.
        device: where what is sent has to lie.
    """

    rank: int = 0
    count: int = 1
    device: str = "cpu"

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that evaluates, writes and tells."""
        return self.rank == 0

    def share(self, count: int) -> torch.Tensor:
        """Which of `count` rows this process computes, int64; every row has one process."""
        return torch.arange(count)[self.rank :: self.count]

    def tell_idle(self, rows: int, what: str) -> None:
        """Say where a step has fewer rows than there are processes. The rest wait for them, which changes no result."""
        if self.count > rows:
            idle = f"{self.count - rows} of {self.count} processes have nothing to do"
            print(f"a step has {rows} {what}: {idle}, so fewer are as fast", file=sys.stderr)

    def sum_gradients(self, parameters: Iterable[torch.Tensor]) -> None:
        """Give each parameter the sum of its gradients in all processes; where none has one, it stays None."""
        if self.count == 1:
            return
        known = list(parameters)
        owners = self._sum(torch.tensor([float(one.grad is not None) for one in known], device=self.device))
        learning = [one for one, owned in zip(known, owners.tolist(), strict=True) if owned]
        for part in cut(learning, SUMMED_AT_ONCE):
            pieces = [torch.zeros_like(one) if one.grad is None else one.grad for one in part]
            total = self._sum(torch.cat([piece.reshape(-1) for piece in pieces]))
            for one, piece in zip(part, total.split([one.numel() for one in part]), strict=True):
                one.grad = piece.view_as(one).to(one.dtype)

    def sum_values(self, values: Mapping[str, float]) -> dict[str, float]:
        """The sum of each of some numbers over the processes. A process without rows may have none of them."""
        if self.count == 1:
            return dict(values)
        names = self.from_main(lambda: list(values))
        here = [values.get(name, 0.0) for name in names]
        total = self._sum(torch.tensor(here, dtype=torch.float64, device=self.device))
        return dict(zip(names, total.tolist(), strict=True))

    def joined(self, rows: torch.Tensor, count: int) -> torch.Tensor:
        """Rows of all processes in their order, [count, ...], of those of `share`, [B, ...].

        A gradient goes back to the own rows alone. The gradient of a loss of all rows is then, for the parameters, the
        sum over the processes.
        """
        if self.count == 1:
            return rows
        mine = self.share(count).to(rows.device)
        whole = torch.zeros(count, *rows.shape[1:], dtype=rows.dtype, device=rows.device)
        whole = self._sum(whole.index_copy(0, mine, rows.detach()))
        return whole.index_copy(0, mine, rows)

    def same_start(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give all processes the main one's values, in place."""
        if self.count > 1:
            for tensor in tensors:
                sent = tensor.detach().to(self.device)
                self._call(partial(distributed.broadcast, sent, src=0))
                tensor.detach().copy_(sent)

    def from_main(self, make: Callable[[], T]) -> T:
        """What the main process makes, in all."""
        if self.count == 1:
            return make()
        made = [make() if self.is_main else None]
        self._call(lambda: distributed.broadcast_object_list(made, src=0, device=torch.device(self.device)))
        return made[0]  # type: ignore[return-value] # None is of who receives

    def wait_for_main(self) -> None:
        """Until the main process is here."""
        self.from_main(bool)

    def leave(self) -> None:
        """Part from the others, all at the same place: what is left to do is the main process's."""
        if self.count > 1:
            self._call(distributed.destroy_process_group)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Inside, the others start when the main process has ended: what it has left in a cache is not made again."""
        if not self.is_main:
            self.wait_for_main()
        yield
        if self.is_main:
            self.wait_for_main()

    def _sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over the processes, in place; the same bits in all."""
        self._call(lambda: distributed.all_reduce(tensor))
        return tensor

    def _call(self, collective: Callable[[], object]) -> None:
        try:
            collective()
        except RuntimeError as error:
            if type(error).__name__ == "OutOfMemoryError":
                raise
            # Another process has ended. Who started us says why, and ends us.
            time.sleep(UNTIL_WE_ARE_ENDED_S)
            raise UserError("another process of this training has ended; the same command goes on") from None


ALONE = Processes()


def cut(tensors: Iterable[torch.Tensor], limit: int) -> Iterator[list[torch.Tensor]]:
    """Consecutive parts of at most `limit` numbers; a larger tensor is a part of its own."""
    part: list[torch.Tensor] = []
    size = 0
    for tensor in tensors:
        if part and size + tensor.numel() > limit:
            yield part
            part, size = [], 0
        part.append(tensor)
        size += tensor.numel()
    if part:
        yield part


def join(device: str) -> Processes:
    """Meet the other processes of this training; only the main one is heard from then on.

    Args:
        device: of this process, from `pick_device`.

    Raises:
        UserError: the device is none that processes can share a training on.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "LOCAL_RANK" not in os.environ:
        return ALONE
    if device not in ("cpu", f"cuda:{os.environ['LOCAL_RANK']}"):
        raise UserError(f"several processes train on CUDA GPUs, one each, or on CPUs, not on {device}")
    from accelerate import PartialState

    end_with_parent()
    state = PartialState(cpu=device == "cpu", timeout=PATIENCE)
    if not state.is_main_process:
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 # to the end of the process
    return Processes(state.process_index, state.num_processes, device)


def end_with_parent() -> None:
    """Let this process be killed when who started it has died (Linux): in a session of its own, nobody else would."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    set_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    if os.environ.get(STARTED_BY, str(os.getppid())) != str(os.getppid()):
        os._exit(1)  # it has died meanwhile
