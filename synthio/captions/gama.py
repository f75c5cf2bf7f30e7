"""Captions by GAMA, the paper's captioner: a clone of its repository, run in an environment of its own.

    Gama(CaptionerOptions(gama_dir="GAMA", gama_checkpoint="stage5/pytorch_model.bin")).describe([clip])

GAMA needs its own changed transformers and peft, so it lives in another process (`gama_worker`), which the clone's
Python runs. Sound goes there as log-mel features in a safetensors file, requests and captions as lines of JSON.
A clip longer than GAMA's window of 10.24 s is cut at its end, a shorter one padded, as its own scripts do.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from synthio.captions import gama_worker
from synthio.captions.requests import Captioner, CaptionerOptions, one_line
from synthio.cli import UserError, making_of, pick_device
from synthio.files import ROOT, sha256_file
from synthio.models.fbank import SAMPLE_RATE, kaldi_fbank

FRAMES = 1024  # 10.24 s
MEAN, STD = -5.081, 4.4849  # the constants of GAMA's scripts; silence padded to FRAMES is 0 before them
DEFAULT_ENV = ROOT / ".envs" / "gama"


class Gama(Captioner):
    """See `Captioner`.

    Args:
        options: see `CaptionerOptions`; `gama_dir` and `gama_checkpoint` are needed.

    Raises:
        UserError: a part of GAMA is missing, or its checkpoint does not fit it.
    """

    name = "gama"
    sample_rate = SAMPLE_RATE

    def __init__(self, options: CaptionerOptions):
        folder = check_clone(options.gama_dir)
        checkpoint = find_checkpoint(options.gama_checkpoint)
        instruction = options.instruction_for(self.name)
        if not instruction:
            raise UserError("captioner 'gama' needs an instruction; it was not trained without one")
        self.batch_size = options.batch_size
        self.key = (self.name, sha256_file(checkpoint), instruction, options.max_new_tokens)
        self._scratch = tempfile.TemporaryDirectory(prefix="gama-")
        self._process = subprocess.Popen(
            [
                *interpreter(options.gama_env),
                gama_worker.__file__,
                *("--gama_dir", str(folder), "--checkpoint", str(checkpoint), "--instruction", instruction),
                *("--max_new_tokens", str(options.max_new_tokens), "--device", pick_device(options.device)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        # its input closes with this process, however that ends, and so it ends too; this is for ends within a process
        self._end = weakref.finalize(self, _stop, self._process)
        self._read()

    def describe(self, clips: Sequence[np.ndarray]) -> list[str]:
        """Mono clips [1, T] at 16 kHz -> captions."""
        assert self._process.stdin is not None, "opened as a pipe"
        path = Path(self._scratch.name) / "batch.safetensors"
        save_file({"features": torch.stack([features(clip) for clip in clips])}, path)
        try:
            self._process.stdin.write(json.dumps({"features": str(path)}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: reading its answer says so, and with which status
        return [one_line(caption) for caption in self._read()["captions"]]

    def _read(self) -> dict:
        """The next answer."""
        assert self._process.stdout is not None, "opened as a pipe"
        line = self._process.stdout.readline()
        if not line:
            raise UserError(f"GAMA's process ended with status {self._process.wait()}; its own words stand above")
        reply = json.loads(line)
        if "error" in reply:
            raise UserError(f"captioner 'gama': {reply['error']}")
        return reply


def _stop(process: subprocess.Popen) -> None:
    """End the process; it has nothing to save."""
    process.kill()
    process.communicate()


def features(clip: np.ndarray) -> torch.Tensor:
    """Mono clip [1, T] at 16 kHz -> normalised log-mel features [1024, 128], as GAMA's scripts compute them."""
    audio = torch.from_numpy(clip)
    frames = kaldi_fbank(audio - audio.mean())[0, :FRAMES]
    frames = torch.nn.functional.pad(frames, (0, 0, 0, FRAMES - len(frames)))
    return (frames - MEAN) / STD


def check_clone(path: str) -> Path:
    """The folder of the clone, with all that is needed in it."""
    if not path:
        raise UserError("captioner 'gama' needs --gama_dir, a clone of github.com/Sreyan88/GAMA")
    folder = Path(path).absolute()
    for name in (*gama_worker.SOURCES, gama_worker.TEMPLATE):
        if not (folder / name).exists():
            raise UserError(f"{folder} is no clone of the GAMA repository: it has no {name}")
    if not (folder / gama_worker.BASE_MODEL / "config.json").is_file():
        raise UserError(
            f"{folder} has no {gama_worker.BASE_MODEL}/config.json; GAMA's README says where that folder is (a link "
            "to it will do)"
        )
    return folder


def find_checkpoint(path: str) -> Path:
    """The checkpoint's file; of a folder that of Hugging Face's trainer."""
    if not path:
        raise UserError("captioner 'gama' needs --gama_checkpoint, its stage 4 or 5 pytorch_model.bin")
    found = Path(path).absolute()
    if found.is_dir():
        found = found / "pytorch_model.bin"
    if not found.is_file():
        raise UserError(f"--gama_checkpoint: no such file: {found}")
    return found


def interpreter(env: str) -> list[str]:
    """The words that start Python in a venv folder or conda environment; "" is the one made for GAMA."""
    python = Path(env or DEFAULT_ENV).absolute() / "bin" / "python"
    if python.is_file():
        return [str(python)]
    if not env:
        raise UserError(f"GAMA's environment is not there; make it with: {making_of('gama')}")
    if not shutil.which("conda"):
        raise UserError(f"--gama_env: '{env}' is no venv folder (no {python}), and there is no conda to ask for it")
    return ["conda", "run", "-n", env, "--no-capture-output", "python"]
