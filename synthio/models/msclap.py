"""CLAP of the msclap library: `msclap:2022` and `msclap:2023` from the hub, or a checkpoint file (`.pth`).

The version of a file is read from its names: 2022 hears with Cnn14 and reads with BERT, 2023 with HTSAT and GPT-2. The
logit scale is exp(logit_scale).

The library flattens a stereo clip into a mono one of double length and crops it at a random place, so that the score
of one clip varies from call to call. Here it hears mono in fixed windows of its own length (5 s in 2022, 7 s in 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from synthio.cli import UserError, first_line
from synthio.files import atomic_path
from synthio.models.base import AudioTextScorer, unit
from synthio.models.checkpoint_file import from_hub, read_checkpoint, state_dict_of, untrained_text_model
from synthio.models.strict import fill

FILE_NAME = "clap.pth"
AUDIO = "audio_encoder.base."
VERSIONS = {f"{AUDIO}conv_block1.conv1.weight": "2022", f"{AUDIO}htsat.patch_embed.proj.weight": "2023"}


class MsclapScorer(AudioTextScorer):
    """See `AudioTextScorer`.

    Args:
        model: "msclap:2022", "msclap:2023", or a file.
        device: torch device.

    Raises:
        UserError: the model, or its text model's tokenizer, cannot be had; or the file cannot be used.
    """

    def __init__(self, model: str, device: str = "cpu"):
        from transformers import AutoTokenizer

        path = download(model) if model.startswith("msclap:") else Path(model)
        weights = state_dict_of(read_checkpoint(path), "model", path)
        version = version_of(weights, path)
        self.config = read_config(version)
        self.tokenizer = from_hub(AutoTokenizer.from_pretrained, self.config["text_model"])
        module = build(self.config)
        fill(module, weights, path, f"msclap {version}", may_have_more=True)
        self.take(module, device)
        self.is_gpt = "gpt" in self.config["text_model"]
        if self.is_gpt:
            self.tokenizer.add_special_tokens({"pad_token": "!"})  # id 0, which the model counts as padding
        self.name = model if model.startswith("msclap:") else path.name
        self.sample_rate = self.config["sampling_rate"]
        self.window_s = float(self.config["duration"])
        self.logit_scale = float(self.module.logit_scale.exp())

    def features(self, windows: np.ndarray) -> torch.Tensor:
        """Windows [W, T] as they are."""
        return torch.from_numpy(windows)

    def audio_vectors(self, features: torch.Tensor) -> torch.Tensor:
        """Windows [W, T] -> unit vectors [W, E]."""
        return unit(self.module.audio_encoder(features.to(self.device))[0])

    def text_vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts -> unit vectors [N, E]."""
        if self.is_gpt:
            texts = [f"{text} <|endoftext|>" for text in texts]  # the model reads the state at this token
        tokens = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self.config["text_len"], return_tensors="pt"
        )
        return unit(self.module.caption_encoder(dict(tokens.to(self.device))))

    def save(self, folder: Path) -> None:
        """Write clap.pth, which msclap's CLAPWrapper reads too."""
        with atomic_path(folder / FILE_NAME) as temporary:
            torch.save({"model": {name: tensor.cpu() for name, tensor in self.module.state_dict().items()}}, temporary)


def download(name: str) -> Path:
    """The file of "msclap:VERSION", from where the library has it.

    Raises:
        UserError: no such version, or no way to it.
    """
    from huggingface_hub import hf_hub_download
    from msclap import CLAP

    version = name.removeprefix("msclap:")
    if version not in VERSIONS.values():
        raise UserError(f"CLAP model '{name}': give {' or '.join(f'msclap:{v}' for v in VERSIONS.values())}, or a file")
    try:
        return Path(hf_hub_download(CLAP.model_repo, CLAP.model_name[version]))
    except OSError as error:
        raise UserError(f"CLAP model '{name}' could not be downloaded: {first_line(error)}") from None


def version_of(weights: dict[str, torch.Tensor], path: Path) -> str:
    """The version of a checkpoint, by its names.

    Raises:
        UserError: another model.
    """
    for name, version in VERSIONS.items():
        if name in weights:
            return version
    raise UserError(
        f"{path}: no checkpoint of msclap 2022 or 2023 (it has neither {' nor '.join(VERSIONS)}); "
        "laion_clap checkpoints end in .pt"
    )


def read_config(version: str) -> dict:
    """The library's own settings of a version."""
    import msclap
    import yaml

    return yaml.safe_load((Path(msclap.__file__).parent / f"configs/config_{version}.yml").read_text(encoding="utf-8"))


def build(config: dict) -> torch.nn.Module:
    """The library's model with random weights."""
    from msclap.models import clap

    names = ("window_size", "hop_size", "mel_bins", "fmin", "fmax", "out_emb", "text_model", "transformer_embed_dim")
    with untrained_text_model(clap, "AutoModel"):
        return clap.CLAP(
            audioenc_name=config["audioenc_name"],
            sample_rate=config["sampling_rate"],
            classes_num=config["num_classes"],
            d_proj=config["d_proj"],
            **{name: config[name] for name in names},
        )
