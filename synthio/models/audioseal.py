"""AudioSeal's inaudible watermark (San Roman et al. 2024, arXiv 2401.17264) in a sound, by the library of that name.

    seal = Seal("generator_base.pth", message_of("mine"))
    marked = seal.mark(audio, 44100)

The library works at 16 kHz. Of a sound at another rate, the mark is made for its copy at 16 kHz, brought to its rate
and added, so that what it has above 8 kHz stays as it is; the detector hears it again at 16 kHz. A checkpoint is read
without running what a pickle may hold; its keys are those of the published files.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from synthio.audio import fit_length, resample
from synthio.cli import UserError, first_line, making_of
from synthio.files import stable_seed

SAMPLE_RATE = 16000
BITS = 16
CARDS = {"generator": "audioseal_wm_16bits", "detector": "audioseal_detector_16bits"}
HEARD = 0.5  # share of a sound's samples in which the detector must hear the mark


def message_of(run: str) -> list[int]:
    """The 16 bits that clips of a run carry."""
    number = stable_seed("watermark", run) & 0xFFFF
    return [number >> place & 1 for place in range(BITS)]


def load(kind: str, path: str | Path) -> Any:  # Any: audioseal has no types that mypy knows here
    """AudioSeal's "generator" or "detector" with the weights of a checkpoint.

    Raises:
        UserError: the library is missing, or the file is no such checkpoint.
    """
    os.environ.setdefault("NO_TORCH_COMPILE", "1")  # its layers would be compiled for each length of a sound
    try:
        from audioseal import builder, loader
    except ImportError as error:
        raise UserError(
            f"{error}; `{making_of('watermark')}` makes an environment that has it: call .envs/watermark/bin/python"
        ) from None
    state, said = read_checkpoint(Path(path))
    try:
        config = said or {k: v for k, v in settings(loader, CARDS[kind]).items() if k != "checkpoint"}
        form = builder.AudioSealWMConfig if kind == "generator" else builder.AudioSealDetectorConfig
        make = builder.create_generator if kind == "generator" else builder.create_detector
        model = make(loader.AudioSeal.parse_config(config, config_type=form))
        loader.load_state_dict(model, loader.convert_state_dict_for_scriptable_model(state))
    except (AssertionError, KeyError, RuntimeError, AttributeError, ValueError) as error:
        raise UserError(f"{path}: is no {kind} of AudioSeal ({first_line(error)}); give a checkpoint of one") from None
    return model.eval()


def settings(loader: Any, card: str) -> dict[str, Any]:  # Any: as of load
    """What the library says of a published model."""
    from omegaconf import OmegaConf

    return dict(OmegaConf.to_container(loader.load_local_model_config(card)))


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(weights by name, settings or nothing) of a checkpoint, in either form that AudioSeal publishes.

    Raises:
        UserError: it is not there, damaged, or holds what only code could read.
    """
    import torch

    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; get generator_base.pth of facebook/audioseal on the hub")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(
            f"{path}: cannot be read as tensors and plain settings ({first_line(error)}); get it again, and take none "
            "from strangers"
        ) from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds no weights by name; give a checkpoint of AudioSeal")
    state = found.get("best_state", found)
    return state.get("model", state), found.get("xp.cfg", {})


class Seal:
    """A generator that marks sounds with a message of 16 bits."""

    def __init__(self, generator: str | Path, message: list[int]):
        import torch

        self.model = load("generator", generator)
        self.message = torch.tensor([message])

    def mark(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """A sound [C, T] with the mark in each channel, at most at full scale."""
        import torch

        copy = resample(np.ascontiguousarray(audio, np.float32), sample_rate, SAMPLE_RATE)
        with torch.inference_mode():
            marks = [
                self.model.get_watermark(torch.from_numpy(channel[None, None]), SAMPLE_RATE, self.message)[0]
                for channel in copy
            ]
        mark = fit_length(torch.cat(marks).numpy(), copy.shape[1])  # an odd sample at the end has none
        back = fit_length(resample(mark, SAMPLE_RATE, sample_rate), audio.shape[1])
        return np.clip(audio + back, -1.0, 1.0).astype(np.float32)


class Detector:
    """Hears whether a sound has a mark."""

    def __init__(self, detector: str | Path):
        self.model = load("detector", detector)

    def hears(self, audio: np.ndarray, sample_rate: int) -> bool:
        """Whether the mix of a sound [C, T] has a mark, in more than half of its samples."""
        import torch

        mix = resample(audio.mean(axis=0, keepdims=True, dtype=np.float32), sample_rate, SAMPLE_RATE)
        with torch.inference_mode():
            share, _ = self.model.detect_watermark(torch.from_numpy(mix[None]), SAMPLE_RATE)
        return float(share[0]) > HEARD
