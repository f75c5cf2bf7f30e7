"""Text-to-audio models in the folder layout of diffusers' Stable Audio pipelines.

The embedded model and Stable Audio Open are loaded by the same code: the folder (or hub id) holds `transformer`
(StableAudioDiTModel), `vae` (AutoencoderOobleck, or the embedded MelAutoencoder), `text_encoder` (T5),
`tokenizer`, `projection_model` and `scheduler`. The scheduler's class says which objective the model was trained
with. A folder `distilled` may hold a second transformer, trained on for few steps without guidance, and how it is
sampled, `sampling.json`. Stable Audio 3 has other parts: see `stable_audio_3`. Sampling is ours
(`synthio.generation.sampling`), so the pipeline classes themselves are never used, nor the Brownian tree that their
scheduler draws noise from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from synthio.cli import UserError
from synthio.files import read_object
from synthio.models.base import Condition, Objective, Sampling, TextToAudio, reach_of
from synthio.models.hub import snapshot
from synthio.models.model_ids import is_hub_id
from synthio.models.pipeline_model import PipelineModel, check_parts, read_scheduler
from synthio.models.strict import finite_number, load_network

SIGMAS = (("sigma_min", 0.3), ("sigma_max", 500.0))  # and what the scheduler's class takes where it is silent
DISTILLED = "distilled"  # folder of a second transformer
INDEX, CONFIG = "model_index.json", "model_config.json"  # in diffusers' format, and as Stability AI publishes
COMPONENTS = ("transformer", "vae", "text_encoder", "tokenizer", "projection_model", "scheduler")


def resolve_folder(model: str) -> Path:
    """A local folder as it is; a hub id through huggingface_hub's cache (downloaded on first use).

    Of Stable Audio 3 as it is published, what it is converted to.

    Raises:
        UserError: no such folder, no such hub id, or no access to it.
    """
    if not Path(model).is_dir() and not is_hub_id(model):
        raise UserError(f"no model folder at '{model}' (a hub id looks like 'owner/name')")
    folder = Path(model) if Path(model).is_dir() else snapshot(model, [INDEX, CONFIG])
    if (folder / CONFIG).is_file() and not (folder / INDEX).is_file():
        from synthio.models.published_stable_audio_3 import PATTERNS, prepare

        return prepare(folder if Path(model).is_dir() else snapshot(model, PATTERNS), model)
    parts = (INDEX, *(f"{part}/*" for part in (*COMPONENTS, "duration_embedder")))
    return folder if Path(model).is_dir() else snapshot(model, parts)


def load_pipeline(model: str, adapter: str | None, device: str, dtype: str, distilled: bool = False) -> TextToAudio:
    """Stable Audio Open, Stable Audio 3 or the embedded model, by what its folder holds.

    Args:
        distilled: take its distilled weights; see `has_distilled` of `synthio.models.load`.
    """
    folder = resolve_folder(model)
    name = Path(model).name if Path(model).is_dir() else model
    if (folder / "duration_embedder").is_dir():
        from synthio.models.stable_audio_3 import StableAudio3

        return StableAudio3(folder, name, adapter, device, dtype)
    return DiffusersTextToAudio(folder, name, adapter, device, dtype, distilled)


def read_sampling(folder: Path) -> Sampling:
    """How a distilled transformer is sampled, by the sampling.json beside its weights.

    Raises:
        UserError: it is missing, or says something else.
    """
    file = folder / "sampling.json"
    said = read_object(file, "sampler", "num_steps", "cfg_scale")
    steps, scale = (finite_number(said, name, 0, file) for name in ("num_steps", "cfg_scale"))
    return Sampling(str(said["sampler"]), int(steps), scale)


def read_objective(folder: Path) -> tuple[Objective, tuple[float, float] | None]:
    """The training objective and the noise range of its schedule, told by the folder's scheduler.

    CosineDPMSolverMultistepScheduler works in x / alpha, where the noise is sigma = tan(pi t / 2). Its preconditioning,
    with sigma_data 1, is the v objective in angles: c_in = 1 / sqrt(sigma^2 + 1) = alpha takes x / alpha back to x,
    c_noise = 2 atan(sigma) / pi is t, and c_skip x / alpha + c_out v = alpha x - sin(pi t / 2) v is the data. The other
    EDM schedulers give the network a time of log(sigma) / 4, so nothing here fits what they say of its training.

    Raises:
        UserError: it is none of ours.
    """
    config = read_scheduler(folder)
    name = str(config.get("_class_name", ""))
    if name.startswith("FlowMatch"):
        return "rectified_flow", None
    if name == "CosineDPMSolverMultistepScheduler":
        prediction, spread = config.get("prediction_type", "v_prediction"), config.get("sigma_data", 1.0)
        if prediction == "v_prediction" and spread == 1:
            low, high = (finite_number(config, *part, folder / "scheduler") for part in SIGMAS)
            return "v", (low, high)
        raise UserError(f"{folder}/scheduler: prediction_type {prediction} and sigma_data {spread} are no v objective")
    raise UserError(
        f"{folder}/scheduler: '{name}' says neither a v nor a rectified-flow objective; those of Stable Audio are "
        "CosineDPMSolverMultistepScheduler and FlowMatchEulerDiscreteScheduler"
    )


class DiffusersTextToAudio(PipelineModel):
    """The embedded model and Stable Audio Open; see `TextToAudio`.

    Args:
        folder: of the pipeline.
        name: what it is called.
        adapter: folder of an adapter for the transformer (see `synthio.models.adapters`), or None.
        device: torch device.
        dtype: see `PipelineModel`; the embedded model is small, and in float32 unless told otherwise.
        distilled: take the transformer of the folder's `distilled`.

    Raises:
        UserError: a part is missing, or the adapter belongs to another model.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        adapter: str | None = None,
        device: str = "cpu",
        dtype: str = "auto",
        distilled: bool = False,
    ):
        from diffusers import AutoencoderOobleck, StableAudioDiTModel
        from diffusers.models.embeddings import get_1d_rotary_pos_embed
        from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel
        from transformers import AutoTokenizer, T5EncoderModel

        check_parts(folder, COMPONENTS, "Stable Audio")
        embedded = read_object(folder / "vae/config.json", "_class_name")["_class_name"] == "MelAutoencoder"
        super().__init__(name, device, "float32" if embedded and dtype == "auto" else dtype)
        self.objective, self.noise_range = read_objective(folder)
        self.distilled, weights = distilled, folder / (DISTILLED if distilled else "transformer")
        self.module = load_network(StableAudioDiTModel, weights, "transformer", torch_dtype=self.dtype)
        if embedded:
            from synthio.models.mel_autoencoder import MelAutoencoder

            # its Fourier transforms know no half precision
            self._set_vae(MelAutoencoder, folder / "vae", torch.float32)
            self.sampling = Sampling("euler", 24, 1.5)  # with more guidance, its clips of a label are too much alike
        else:
            from synthio.models.snake import in_pieces

            self._set_vae(AutoencoderOobleck, folder / "vae", self.dtype)
            in_pieces(self.vae)
            self.decoder_reach = reach_of(self.vae.decoder)
        if distilled:
            self.sampling = read_sampling(weights)
        self.text_encoder = load_network(T5EncoderModel, folder / "text_encoder", "text encoder", dtype=torch.float32)
        self.projection = load_network(
            StableAudioProjectionModel, folder / "projection_model", "projection", torch_dtype=torch.float32
        )
        self.tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", trust_remote_code=False)
        config = self.module.config
        self.latent_shape = (config.in_channels, config.sample_size)
        self.sample_rate = self.vae.config.sampling_rate
        self.channels = self.vae.config.audio_channels
        self.hop = self.vae.hop_length
        # One global token (length and time) stands before the latent frames, hence + 1; half of each head rotates.
        self._rotary = get_1d_rotary_pos_embed(
            config.attention_head_dim // 2, config.sample_size + 1, use_real=True, repeat_interleave_real=False
        )
        self._place(adapter, self.text_encoder, self.projection)

    @torch.no_grad()
    def encode(self, audio: torch.Tensor) -> torch.Tensor:
        """Audio [B, C, T] -> latents [B, D, L], the mean of the posterior (so it is deterministic)."""
        short = self.samples - audio.shape[2]
        audio = torch.nn.functional.pad(audio, (0, short)) if short > 0 else audio[:, :, : self.samples]
        return self._through_vae(lambda vae, x: vae.encode(x).latent_dist.mode(), self._in_channels(audio))

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents [B, D, L] -> audio [B, C, L * hop]."""
        return super().decode(latents)[:, :, : self.samples]

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
        assert condition.pooled is not None, "made by `condition`"
        tokens = latents.shape[2] + 1
        rotary = tuple(part[:tokens].to(latents.device) for part in self._rotary)
        return self.module(
            latents.to(self.dtype),
            t.to(self.dtype),
            encoder_hidden_states=condition.cross.to(self.dtype),
            global_hidden_states=condition.pooled.to(self.dtype),
            rotary_embedding=rotary,
            return_dict=False,
        )[0].float()
