"""Save a small AudioSeal of random weights as the published ones are, in the environment watermark:

    .envs/watermark/bin/python tests/programs/small_audioseal.py FOLDER

The published checkpoints are older than the library, whose layers have one more name now: they lack it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from audioseal import builder, loader
from omegaconf import OmegaConf

MODELS = {
    "generator": ("audioseal_wm_16bits", builder.AudioSealWMConfig, builder.create_generator),
    "detector": ("audioseal_detector_16bits", builder.AudioSealDetectorConfig, builder.create_detector),
}


def save(kind: str, folder: Path) -> None:
    """<kind>.pth, with the settings in it, and <kind>.bare.pth without."""
    card, form, make = MODELS[kind]
    said = OmegaConf.to_container(loader.load_local_model_config(card))
    del said["checkpoint"]
    said["seanet"] |= {"n_filters": 4, "dimension": 16, "lstm": 1}
    torch.manual_seed(0)
    model = make(loader.AudioSeal.parse_config({**said}, config_type=form))
    with torch.no_grad():
        for parameter in model.parameters():  # as quiet as a mark is
            parameter.mul_(0.5)
    state = {name.replace(".inner_conv.", "."): value for name, value in model.state_dict().items()}
    torch.save({"xp.cfg": said, "model": state}, folder / f"{kind}.pth")
    torch.save({"model": state}, folder / f"{kind}.bare.pth")


if __name__ == "__main__":
    for name in MODELS:
        save(name, Path(sys.argv[1]))
