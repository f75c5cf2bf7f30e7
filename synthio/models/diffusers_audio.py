"""Text-to-audio models in the folder layout of diffusers' StableAudioPipeline.

The embedded model and Stable Audio Open are loaded by the same code: the folder (or hub id) holds `transformer`
(StableAudioDiTModel), `vae` (AutoencoderOobleck, or the embedded MelAutoencoder), `text_encoder` (T5),
`tokenizer`, `projection_model` and `scheduler`. The scheduler's class says which objective the model was trained
with. Sampling is ours (`synthio.diffusion`), so the pipeline class itself is never used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from synthio.cli import UserError, first_line
from synthio.models.adapters import load_adapter
from synthio.models.base import Condition, Objective, TextToAudio

COMPONENTS = ("transformer", "vae", "text_encoder", "tokenizer", "projection_model", "scheduler")


def resolve_folder(model: str) -> Path:
    """A local folder as it is; a hub id through huggingface_hub's cache (downloaded on first use).

    Raises:
        UserError: no such folder, no such hub id, or no access to it.
    """
    if Path(model).is_dir():
        return Path(model)
    if model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise UserError(f"no model folder at '{model}' (a hub id looks like 'owner/name')")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["model_index.json", *(f"{component}/*" for component in COMPONENTS)]
    try:
        return Path(snapshot_download(model, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = first_line(error)
        raise UserError(
            f"model '{model}' is no local folder and could not be had from the hub: {reason}. "
            "A gated model needs its licence accepted on its page and a token (HF_TOKEN)"
        ) from None


def read_objective(folder: Path) -> Objective:
    """The training objective, told by the class of the folder's scheduler."""
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    name = config.get("_class_name", "")
    if name.startswith("FlowMatch"):
        return "rectified_flow"
    if name in ("EDMDPMSolverMultistepScheduler", "CosineDPMSolverMultistepScheduler"):
        return "v"
    raise UserError(f"{folder}/scheduler: '{name}' says neither a v nor a rectified-flow objective")


def _load_vae(folder: Path) -> torch.nn.Module:
    name = json.loads((folder / "vae" / "config.json").read_text())["_class_name"]
    if name == "MelAutoencoder":
        from synthio.models.mel_autoencoder import MelAutoencoder

        return MelAutoencoder.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    from diffusers import AutoencoderOobleck

    return AutoencoderOobleck.from_pretrained(folder / "vae", torch_dtype=torch.float32)


class DiffusersTextToAudio(TextToAudio):
    """See `TextToAudio`; every part is loaded in float32 and frozen.

    Args:
        model: folder or hub id.
        adapter: folder of an adapter for the transformer (see `synthio.models.adapters`), or None.
        device: torch device.

    Raises:
        UserError: a part is missing, or the adapter belongs to another model.
    """

    def __init__(self, model: str, adapter: str | None = None, device: str = "cpu"):
        from diffusers import StableAudioDiTModel
        from diffusers.models.embeddings import get_1d_rotary_pos_embed
        from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel
        from transformers import AutoTokenizer, T5EncoderModel

        folder = resolve_folder(model)
        missing = [name for name in COMPONENTS if not (folder / name).is_dir()]
        if missing:
            raise UserError(f"{folder}: not a Stable Audio folder of diffusers; it has no {', '.join(missing)}")
        self.name = Path(model).name if Path(model).is_dir() else model
        self.device = torch.device(device)
        self.objective = read_objective(folder)
        as_float = {"torch_dtype": torch.float32}
        self.module = StableAudioDiTModel.from_pretrained(folder / "transformer", **as_float)
        self.vae = _load_vae(folder)
        self.text_encoder = T5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
        self.projection = StableAudioProjectionModel.from_pretrained(folder / "projection_model", **as_float)
        self.tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
        config = self.module.config
        self.latent_shape = (config.in_channels, config.sample_size)
        self.sample_rate = self.vae.config.sampling_rate
        self.channels = self.vae.config.audio_channels
        self.samples = config.sample_size * self.vae.hop_length
        self.max_seconds = self.samples / self.sample_rate
        # One global token (length and time) stands before the latent frames, hence + 1; half of each head rotates.
        self._rotary = get_1d_rotary_pos_embed(
            config.attention_head_dim // 2, config.sample_size + 1, use_real=True, repeat_interleave_real=False
        )
        if adapter:
            self.module = load_adapter(self.module, adapter)
        for part in (self.module, self.vae, self.text_encoder, self.projection):
            part.requires_grad_(False).eval().to(self.device)

    @torch.no_grad()
    def encode(self, audio: torch.Tensor) -> torch.Tensor:
        """Audio [B, C, T] -> latents [B, D, L], the mean of the posterior (so it is deterministic)."""
        short = self.samples - audio.shape[2]
        audio = torch.nn.functional.pad(audio, (0, short)) if short > 0 else audio[:, :, : self.samples]
        if audio.shape[1] != self.channels:
            audio = audio.mean(dim=1, keepdim=True).expand(-1, self.channels, -1)
        return self.vae.encode(audio.to(self.device)).latent_dist.mode()

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents [B, D, L] -> audio [B, C, L * hop]."""
        return self.vae.decode(latents).sample[:, :, : self.samples]

    @torch.no_grad()
    def condition(self, prompts: Sequence[str], seconds: Sequence[float]) -> Condition:
        """Text states masked where padded, then start (always 0 s) and end in seconds, as the pipeline lays them."""
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
        states = self.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        end_s = torch.tensor(list(seconds), dtype=torch.float32, device=self.device)
        out = self.projection(text_hidden_states=states, start_seconds=torch.zeros_like(end_s), end_seconds=end_s)
        text = out.text_hidden_states * tokens.attention_mask.unsqueeze(-1)
        ends = (out.seconds_start_hidden_states, out.seconds_end_hidden_states)
        return Condition(torch.cat([text, *ends], dim=1), torch.cat(ends, dim=2))

    def predict(self, latents: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        """The transformer's output [B, D, L] at times t [B]."""
        rotary = tuple(part.to(latents.device) for part in self._rotary)
        return self.module(
            latents,
            t,
            encoder_hidden_states=condition.cross,
            global_hidden_states=condition.pooled,
            rotary_embedding=rotary,
            return_dict=False,
        )[0]
