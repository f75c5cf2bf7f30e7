"""Stable Audio 3 (small-sfx, small-music, medium), in the folder layout of diffusers' StableAudio3Pipeline.

As it is published it has another layout, which `published_stable_audio_3` converts.

A rectified flow over the latents of AutoencoderSAME. T5Gemma reads the prompt; what is padding of it is one learned
vector. The length in seconds is embedded, attended to as the last token, and added to every layer. "No condition" is
the empty prompt, with the length.

Latents are as long as their clip. The transformer was trained so, and padding would drain the sound's energy; so clips
of one batch must have equal numbers of latent frames (`frames_for`).

The scheduler says which checkpoint it is: with `stochastic_sampling` the distilled one, made for eight steps without
guidance, else the base, which can be trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from synthio.cli import UserError
from synthio.files import read_object
from synthio.models.base import Condition, Network, Sampling
from synthio.models.pipeline_model import PipelineModel, check_parts, read_scheduler
from synthio.models.strict import load_network

COMPONENTS = ("transformer", "vae", "text_encoder", "tokenizer", "duration_embedder", "scheduler")
# The pipeline's log-SNR range: lambda = log((1 - sigma) / sigma).
LAMBDA_RANGE = (-6.2, 2.0)
# Steps are the pipeline's; guidance 7 is what the makers advise for the base checkpoints.
DISTILLED, BASE = Sampling("pingpong", 8, 1.0), Sampling("euler", 100, 7.0)
LONGEST_PROMPT = 256  # tokens
SHIFTS = ("shift", "use_dynamic_shifting", "shift_terminal")


def check_scheduler(folder: Path) -> bool:
    """Whether the checkpoint is distilled.

    Raises:
        UserError: a scheduler that gives the network times or levels other than ours.
    """
    config = read_scheduler(folder)
    name, steps = config.get("_class_name", ""), config.get("num_train_timesteps", 1000)
    # The pipeline hands sigma * num_train_timesteps to a network that takes times in [0, 1].
    shifts = [name for name in SHIFTS if config.get(name) not in (None, False, 1.0)]
    if name != "FlowMatchEulerDiscreteScheduler" or steps != 1 or shifts:
        raise UserError(
            f"{folder}/scheduler: Stable Audio 3 wants FlowMatchEulerDiscreteScheduler with num_train_timesteps 1 and "
            f"no shift, and this is {name or 'unnamed'} with {steps}; convert the checkpoint with a current diffusers"
        )
    return bool(config.get("stochastic_sampling", False))


def autoencoder_of(folder: Path) -> type[Network]:
    """The class of the folder's autoencoder: SAME-L is diffusers' own, SAME-S is not."""
    if read_object(folder / "vae/config.json").get("_class_name") == "ChunkedSAME":
        from synthio.models.same import ChunkedSAME

        return ChunkedSAME
    from diffusers import AutoencoderSAME

    return AutoencoderSAME


class StableAudio3(PipelineModel):
    """See `TextToAudio`.

    Args:
        folder: of the pipeline.
        name: what it is called.
        adapter: folder of an adapter for the transformer (see `synthio.models.adapters`), or None.
        device: torch device.
        dtype: see `PipelineModel`.

    Raises:
        UserError: a part is missing, or the adapter belongs to another model.
    """

    objective = "rectified_flow"
    noise_range = LAMBDA_RANGE
    variable_length = True

    def __init__(self, folder: Path, name: str, adapter: str | None = None, device: str = "cpu", dtype: str = "auto"):
        from diffusers import StableAudio3DiTModel
        from diffusers.pipelines.stable_audio_3 import StableAudio3DurationEmbedder
        from transformers import AutoTokenizer, T5GemmaEncoderModel

        check_parts(folder, COMPONENTS, "Stable Audio 3")
        super().__init__(name, device, dtype)
        self.distilled = check_scheduler(folder)
        self.sampling = DISTILLED if self.distilled else BASE
        self.module = load_network(StableAudio3DiTModel, folder / "transformer", "transformer", torch_dtype=self.dtype)
        self._set_vae(autoencoder_of(folder), folder / "vae", self.dtype)
        self.text_encoder = load_network(
            T5GemmaEncoderModel, folder / "text_encoder", "text encoder", dtype=torch.float32
        )
        self.duration = load_network(
            StableAudio3DurationEmbedder, folder / "duration_embedder", "duration embedder", torch_dtype=torch.float32
        )
        self.tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", trust_remote_code=False)
        self.sample_rate = self.vae.config.sampling_rate
        self.channels = self.vae.config.audio_channels
        self.hop = self.vae.downsampling_ratio
        frames = int(self.duration.config.max_val * self.sample_rate / self.hop)
        self.frame_step = getattr(self.vae, "frame_step", 1)
        self.latent_shape = (self.vae.config.latent_dim, frames // self.frame_step * self.frame_step)
        # Part of the conditioner in training, though the transformer keeps it: taken before an adapter comes on it.
        self._padding = self.module.prompt_padding_embedding.detach().to(self.device, torch.float32, copy=True)
        self._inpainted = self.module.config.local_add_cond_dim  # before an adapter comes on it
        self._place(adapter, self.text_encoder, self.duration)

    @torch.no_grad()
    def encode(self, audio: torch.Tensor) -> torch.Tensor:
        """Audio [B, C, T] -> latents [B, D, ceil(T / hop)]; the end is padded with silence."""
        audio = audio[:, :, : self.latent_shape[1] * self.hop]
        return self._through_vae(lambda vae, x: vae.encode(x).latents, self._in_channels(audio))

    def _text(self, prompts: Sequence[str]) -> torch.Tensor:
        """Prompts -> states [B, S, E], with the learned vector in the place of padding."""
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=min(self.tokenizer.model_max_length, LONGEST_PROMPT),
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
        states = self.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        return torch.where(tokens.attention_mask.bool().unsqueeze(-1), states, self._padding)

    @torch.no_grad()
    def condition(self, prompts: Sequence[str], seconds: Sequence[float]) -> Condition:
        """Text states and the length's, of the prompts and of the empty one, as the pipeline lays them."""
        length = self.duration(torch.tensor(list(seconds), dtype=torch.float32, device=self.device)).unsqueeze(1)
        empty = self._text([""]).expand(len(prompts), -1, -1)
        return Condition(torch.cat([self._text(prompts), length], dim=1), length, torch.cat([empty, length], dim=1))

    def predict(self, latents: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        """The transformer's output [B, D, L] at times t [B].

        The layers for inpainting are told that nothing is kept, as in the makers' code: they were trained so, and what
        they add for it is not zero. diffusers' pipeline for text leaves them out.
        """
        assert condition.pooled is not None, "made by `condition`"
        latents = latents.to(self.dtype)
        return self.module(
            latents,
            t,
            local_add_cond=latents.new_zeros(len(latents), self._inpainted, latents.shape[2]),
            encoder_hidden_states=condition.cross.to(self.dtype),
            global_hidden_states=condition.pooled[:, 0].to(self.dtype),
            return_dict=False,
        )[0].float()
