"""Start a training in several processes, a GPU each, through `accelerate launch`; it ends as one process does.

    python -m synthio.pipeline.launch 4 dpo_train.py --gold_csv ...       4 processes
    python -m synthio.pipeline.launch auto ast/train.py --train_csv ...   one for each GPU that is there

Without a GPU `auto` is one process, and a number as many on the CPU. When a process ends that should not, the others
are ended, and one line says what happened.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import shlex
import signal
import sys
import tempfile
from pathlib import Path

from synthio.cli import AUTO, STARTED_BY, WORDS_FOLDER, UserError, in_range, new_parser, run_main


def devices(text: str) -> int | str:
    """Argument type: a number of processes, or `AUTO`."""
    return AUTO if text == AUTO else int(in_range(int, 1)(text))


def get_parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument("devices", type=devices, help="processes; auto: as many as there are GPUs")
    parser.add_argument("script", help="what is started, by path")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="its options")
    return parser


def count_processes(asked: int | str, device: str) -> int:
    """How many processes are started, on a device as the script is told.

    Raises:
        UserError: more than there are GPUs.
    """
    import torch

    gpus = torch.cuda.device_count() if device in (AUTO, "cuda") else 0
    if asked == AUTO:
        return max(1, gpus)
    if gpus and int(asked) > gpus:
        raise UserError(f"{asked} devices are asked for, and there are {gpus} GPUs; take fewer, or auto")
    return int(asked)


def option_of(words: list[str], name: str, default: str) -> str:
    """The value of an option among words."""
    return words[words.index(name) + 1] if name in words[:-1] else default


def launch(count: int, script: str, words: list[str]) -> int:
    """Run `count` processes of a script to their end; the status is that of the first that failed, or 0.

    Raises:
        UserError: accelerate is not in this environment.
    """
    if importlib.util.find_spec("accelerate") is None:
        python = shlex.quote(sys.executable)
        raise UserError(
            f"several processes need accelerate, which is not in this environment; install it with `{python} -m pip "
            "install accelerate`, or take train_devices=1"
        )
    from accelerate.commands.launch import launch_command, launch_command_parser
    from accelerate.utils import patch_environment
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # All that a file of settings of accelerate's could change is said here; port 0 is any that is free.
    said = f"--multi_gpu --num_machines 1 --machine_rank 0 --num_processes {count} --main_process_port 0 "
    said += "--gpu_ids all --mixed_precision no --dynamo_backend no --rdzv_backend static --max_restarts 0"
    logging.disable(logging.CRITICAL)  # pages about each process; `tell_failure` says what counts
    with tempfile.TemporaryDirectory(prefix="synthio") as folder:
        try:
            with patch_environment(**{WORDS_FOLDER: folder, STARTED_BY: os.getpid()}):
                launch_command(launch_command_parser().parse_args([*said.split(), script, *words]))
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            status = failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
            tell_failure(Path(folder), rank, count, failure.exitcode)
            return status
        except SignalException as error:
            return 128 + int(error.sigval)
    return 0


def tell_failure(folder: Path, rank: int, count: int, code: int) -> None:
    """Say what the first process to fail said last; where it had no time to, what ended it."""
    said = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    if said:
        print(said[0].read_text(encoding="utf-8"), file=sys.stderr)
        return
    what = f"was killed (signal {-code}, {signal.Signals(-code).name})" if code < 0 else f"ended with status {code}"
    print(f"error: process {rank + 1} of {count} {what}, and the others with it", file=sys.stderr)


def main() -> int:
    args = get_parser().parse_args()
    count = count_processes(args.devices, option_of(args.words, "--device", AUTO))
    if count == 1:
        os.execv(sys.executable, [sys.executable, args.script, *args.words])
    return launch(count, args.script, args.words)


if __name__ == "__main__":
    run_main(main)
