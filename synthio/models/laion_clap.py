"""CLAP checkpoints of the laion_clap library (`.pt`), such as 630k-audioset-best.pt.

The kind of model (HTSAT-tiny, -base or -large, fusion or not) is read from the shapes. Of a hub only the tokenizer and
the configuration of RoBERTa are asked for. The logit scale is exp(logit_scale_a).

The library crops a clip of more than 10 s at a random place (a fusion model also takes three random parts of it).
Here it hears fixed windows of 10 s, so that no window is ever longer than the model's own length: fusion has nothing
to add then, and the model is deterministic.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from synthio.cli import UserError
from synthio.files import atomic_path
from synthio.models.base import AudioTextScorer, unit
from synthio.models.checkpoint_file import from_hub, read_checkpoint, state_dict_of, untrained_text_model
from synthio.models.strict import fill

FILE_NAME = "clap.pt"
TEXT_MODEL = "roberta-base"
TEXT_LENGTH = 77  # tokens
PATCHES = "audio_branch.patch_embed.proj.weight"  # [embedding width, 1, 4, 4]
STFT = "audio_branch.spectrogram_extractor.stft.conv_real.weight"  # [n_fft / 2 + 1, 1, n_fft]
FUSION = "audio_branch.patch_embed.fusion_model."
KINDS = {
    (96, 1024): "HTSAT-tiny",
    (96, 1536): "HTSAT-tiny-win-1536",
    (128, 1024): "HTSAT-base",
    (256, 1024): "HTSAT-large",
}
TEXT = "text_branch.embeddings."


class LaionClapScorer(AudioTextScorer):
    """See `AudioTextScorer`.

    Args:
        model: the file.
        device: torch device.

    Raises:
        UserError: the file cannot be used, or RoBERTa's tokenizer cannot be had.
    """

    def __init__(self, model: str, device: str = "cpu"):
        from transformers import RobertaTokenizer

        path = Path(model)
        weights = state_dict_of(read_checkpoint(path), "state_dict", path)
        kind, self.is_fusion = kind_of(weights, path)
        module, config = build(kind, self.is_fusion)  # first: without a hub, a missing configuration is plainly told
        self.tokenizer = from_hub(RobertaTokenizer.from_pretrained, TEXT_MODEL)
        what = f"laion_clap's {kind}{' with fusion' if self.is_fusion else ''}"
        fill(module, weights, path, what, may_have_more=True)
        self.take(module, device)
        self.name = path.name
        audio = config["audio_cfg"]
        self.sample_rate = audio["sample_rate"]
        self.window_s = audio["clip_samples"] / audio["sample_rate"]
        self.logit_scale = float(self.module.logit_scale_a.exp())
        if self.is_fusion:
            self.log_mel = log_mel(audio).to(self.device)

    def features(self, windows: np.ndarray) -> torch.Tensor:
        """Windows [W, T] -> the same at the 16 bits that the library rounds (towards zero) to."""
        pcm = (np.clip(windows, -1, 1) * 32767).astype(np.int16)
        return torch.from_numpy((pcm / 32767).astype(np.float32))

    def audio_vectors(self, features: torch.Tensor) -> torch.Tensor:
        """Windows [W, T] -> unit vectors [W, E]."""
        heard = {"waveform": features.to(self.device)}
        if self.is_fusion:
            longer = torch.zeros(len(features), dtype=torch.bool, device=self.device)
            # the library stacks it four times, [W, 4, frames, bands]; of a window that is not longer, one is read
            mel = self.log_mel(heard["waveform"]).transpose(1, 2)[:, None]
            heard = {"mel_fusion": mel, "longer": longer}
        embedded = self.module.encode_audio(heard, device=self.device)["embedding"]
        return unit(self.module.audio_projection(embedded))

    def text_vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts -> unit vectors [N, E]."""
        tokens = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=TEXT_LENGTH, return_tensors="pt"
        )
        return unit(self.module.encode_text(tokens, device=self.device))

    def save(self, folder: Path) -> None:
        """Write clap.pt, which laion_clap's own load_ckpt reads too."""
        state = {f"module.{name}": tensor.cpu() for name, tensor in self.module.state_dict().items()}
        # load_ckpt deletes the positions, and fails without them
        state[f"module.{TEXT}position_ids"] = torch.arange(self.module.text_branch.config.max_position_embeddings)[None]
        with atomic_path(folder / FILE_NAME) as temporary:
            torch.save({"state_dict": state}, temporary)


def kind_of(weights: dict[str, torch.Tensor], path: Path) -> tuple[str, bool]:
    """(the library's name of the audio encoder, whether it has fusion), from the shapes.

    Raises:
        UserError: another model.
    """
    if PATCHES not in weights or STFT not in weights or not any(name.startswith(TEXT) for name in weights):
        raise UserError(
            f"{path}: no checkpoint of laion_clap with an HTSAT audio encoder and RoBERTa (it has no {PATCHES}); "
            "msclap checkpoints end in .pth"
        )
    sizes = weights[PATCHES].shape[0], weights[STFT].shape[2]
    if sizes not in KINDS:
        raise UserError(f"{path}: width {sizes[0]} with an FFT of {sizes[1]} is none of {', '.join(KINDS.values())}")
    return KINDS[sizes], any(name.startswith(FUSION) for name in weights)


def build(kind: str, is_fusion: bool) -> tuple[torch.nn.Module, dict]:
    """The library's model with random weights, and its configuration.

    `import laion_clap` would first fetch the tokenizers of three text models; its model code needs none of them.
    """
    spec = importlib.util.find_spec("laion_clap")
    assert spec is not None and spec.submodule_search_locations, "a package of .envs/clap"
    folder = spec.submodule_search_locations[0]
    if folder not in sys.path:
        sys.path.append(folder)  # as the library does
    from clap_module import create_model, model

    fusion = {"enable_fusion": True, "fusion_type": "aff_2d"} if is_fusion else {}
    with untrained_text_model(model, "RobertaModel"):
        return create_model(kind, "roberta", device=torch.device("cpu"), **fusion)


def log_mel(config: dict) -> torch.nn.Module:
    """Waveform [W, T] -> log-mel spectrogram in dB [W, bands, frames], as a fusion model is given it."""
    from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

    spectrogram = MelSpectrogram(
        config["sample_rate"],
        n_fft=config["window_size"],
        hop_length=config["hop_size"],
        f_min=config["fmin"],
        f_max=config["fmax"],
        n_mels=config["mel_bins"],
    )
    return torch.nn.Sequential(spectrogram, AmplitudeToDB())
