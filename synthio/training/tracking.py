"""Send training curves and scores to TensorBoard, Weights & Biases or trackio. Off unless it is asked for.

    python -m synthio.training.tracking --log_to wandb    # says whether the library is there

    tracker = open_tracker(from_args(Tracking, args), "classifier synthio", vars(args))
    tracker.follow(history)  # after each row that is added to it
    tracker.close()

Every process writes a run of its own, with all rows of the history from the first: one that goes on after a kill tells
the whole story, and nothing has to be taken up where it broke off.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthio.cli import UserError, first_line, new_parser, run_main
from synthio.options import add_options, option

NONE = "none"
NOT_CURVES = ("step", "seconds")  # columns of a history


def check(kind: str) -> None:
    """Raise a UserError, with the command that mends it, where the library is missing."""
    found = None if kind == NONE else importlib.util.find_spec(kind)
    # a folder of that name where the call is made, such as wandb's own of earlier runs, is a package without a file
    if kind != NONE and (found is None or found.origin is None):
        raise UserError(
            f"log_to {kind}: the package is not in this environment; install it with "
            f"`{shlex.quote(sys.executable)} -m pip install {kind}`, or use log_to none"
        )


def slug(name: str) -> str:
    """A name as every tracker, and a file system, takes it."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-") or "run"


class TensorBoard:
    """Event files in `<folder>/<run>`; those of an earlier process are replaced."""

    def __init__(self, folder: Path, run: str, config: Mapping[str, Any]):
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(folder / run, ignore_errors=True)
        self.writer = SummaryWriter(str(folder / run))
        self.writer.add_text("options", "\n".join(f"    {name}: {value}" for name, value in config.items()))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class Wandb:
    """A run of Weights & Biases; its own variables (WANDB_MODE, WANDB_ENTITY, ...) hold.

    Raises:
        UserError: it cannot be started, for want of a login, say.
    """

    def __init__(self, folder: Path, run: str, config: Mapping[str, Any]):
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        project = slug(folder.absolute().parent.name)
        try:
            self.run = wandb.init(project=project, name=run, dir=str(folder), config=dict(config), reinit="create_new")
        except wandb.errors.Error as error:
            raise UserError(f"wandb: {first_line(error)}; run `wandb login`, or set WANDB_MODE=offline") from None

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


class Trackio:
    """A run of trackio, in its own folder (TRACKIO_DIR); `trackio show` displays it."""

    def __init__(self, folder: Path, run: str, config: Mapping[str, Any]):
        import trackio

        self.trackio = trackio
        trackio.init(project=slug(folder.absolute().parent.name), name=run, config=dict(config), embed=False)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.trackio.log(dict(values), step=step)

    def close(self) -> None:
        self.trackio.finish()


# By the name of the package.
BACKENDS: dict[str, type[TensorBoard] | type[Wandb] | type[Trackio]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "trackio": Trackio,
}
KINDS = (NONE, *BACKENDS)


@dataclass(frozen=True)
class Tracking:
    """Where the curves of a training go."""

    log_to: str = option(
        NONE, "where training curves and scores are sent, too", choices=KINDS, driver="log_to", inert=True
    )
    log_folder: str = option(
        "tracking", "folder for the files of TensorBoard and wandb; its parent names the project", inert=True
    )


class Tracker:
    """Opens its backend with the first row, for none of them can take back a run that never began.

    Args:
        kind: one of KINDS.
        folder: of the files.
        name: of the run.
        config: options that are shown beside it.

    Raises:
        UserError: the library is missing.
    """

    def __init__(self, kind: str, folder: str | Path, name: str, config: Mapping[str, Any]):
        check(kind)
        self.kind, self.folder, self.name, self.config = kind, Path(folder), slug(name), config
        self.backend: TensorBoard | Wandb | Trackio | None = None

    def follow(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Log the last row; at the first call, all rows."""
        if self.kind == NONE:
            return
        rows = history[-1:]
        if self.backend is None:
            self.backend = BACKENDS[self.kind](self.folder, self.name, self.config)
            rows = history
        for row in rows:
            self.backend.log({name: float(x) for name, x in row.items() if name not in NOT_CURVES}, int(row["step"]))

    def close(self) -> None:
        """Finish the run, if it began."""
        if self.backend is not None:
            self.backend.close()


def open_tracker(options: Tracking, name: str, config: Mapping[str, Any]) -> Tracker:
    """The tracker that the options ask for; the arguments are those of `Tracker`."""
    return Tracker(options.log_to, options.log_folder, name, config)


def get_parser():
    parser = new_parser(__doc__)
    add_options(parser, Tracking, only=("log_to",))
    return parser


def main() -> int:
    check(get_parser().parse_args().log_to)
    return 0


if __name__ == "__main__":
    run_main(main)
