"""What generation and alignment can be told."""

from __future__ import annotations

from dataclasses import dataclass

from synthio.options import LatentLength, Seed, option

AUTO_SAMPLER = "auto"
# Functions of synthio.generation.sampling.
SAMPLERS = ("euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m_sde", "pingpong")
FLOW_ONLY = ("heun", "pingpong")  # for rectified flows


@dataclass(frozen=True)
class Precision:
    """Of what runs a text-to-audio model."""

    dtype: str = option(
        "auto",
        "precision of the text-to-audio model; auto: float16 to generate with a full-size one on CUDA, else float32. "
        "Training takes bfloat16 where float16 is asked for",
        choices=("auto", "float32", "float16", "bfloat16"),
        driver="dtype",
    )


@dataclass(frozen=True)
class SamplingOptions(Precision, LatentLength):
    """How clips are generated. 0 steps and guidance 0 mean what suits the model."""

    sampler: str = option(
        AUTO_SAMPLER,
        "solver; auto: what suits the model; heun and pingpong are for rectified flows alone",
        choices=(AUTO_SAMPLER, *SAMPLERS),
        driver="sampler",
    )
    distilled: str = option(
        "auto",
        "the weights for few steps that the embedded model has beside its own; auto: where neither sampler, num_steps "
        "nor cfg_scale is set, and the adapter, if there is one, is a LoRA",
        choices=("auto", "true", "false"),
        driver="distilled",
    )
    num_steps: int = option(0, "sampling steps; 0: what suits the model", low=0, high=1000, driver="num_steps")
    cfg_scale: float = option(
        0.0, "guidance; 1: none, 0: what suits the model (paper: 7)", low=0, high=100, driver="cfg_scale"
    )
    cfg_rescale: float = option(
        0.0,
        "how far guidance is kept from raising the level; 0: not at all, 1: entirely",
        low=0,
        high=1,
        driver="cfg_rescale",
    )
    batch_size: int = option(
        16,
        "clips generated at once; halved where the GPU's memory does not hold them",
        low=1,
        driver="generate_batch_size",
    )
    seconds: float = option(0.0, "length of every clip; 0: that of its gold clip", low=0)
    initialize_audio: bool = option(
        False, "generation starts from the gold clip plus noise (paper: false)", driver="initialize_audio"
    )
    init_noise_level: float = option(
        0.6,
        "for initialize_audio=true, level of the noise; 0.01 keeps the gold clip, 1 forgets it",
        low=0.01,
        high=1,
        driver="init_noise_level",
    )


@dataclass(frozen=True)
class AttributionOptions:
    """How much is done to tell what each part of the method bought."""

    attribution_clips: int = option(
        16,
        "clips that are generated again for each part, with alignment and without captions, to tell what these bought; "
        "0: none",
        low=0,
        high=1000,
        driver="attribution_clips",
    )


@dataclass(frozen=True)
class PreferenceOptions(Precision, LatentLength, Seed):
    """How the text-to-audio model is aligned with the gold clips."""

    train: str = option(
        "lora",
        "what is trained in the alignment; a prefix (the paper's) needs a rate of about 1e-2",
        choices=("lora", "prefix", "all"),
        driver="dpo_train_parts",
    )
    lora_rank: int = option(16, "rank of a new LoRA", low=1)
    prefix_tokens: int = option(20, "tokens of each new prefix", low=1)
    loss: str = option(
        "dpo",
        'dpo: preference; sft: the plain loss on the gold clips ("ERM" in the paper)',
        choices=("dpo", "sft"),
        driver="dpo_loss",
    )
    pairs: str = option(
        "gold",
        "gold: gold against generated clips; ranked: best against worst generation by CLAP score (CRPO)",
        choices=("gold", "ranked"),
        driver="dpo_pairs",
    )
    codec_match: bool = option(
        True,
        "gold clips go through the model's autoencoder before they are preferred to generated ones, which have been "
        "through it, so that the model cannot learn the autoencoder's marks (paper: false)",
        driver="dpo_codec_match",
    )
    beta: float = option(
        2000.0,
        "strength of the preference in the alignment: half of it multiplies the difference of the errors, each a mean "
        "over the frames that a clip fills (paper: 2000, with the padding in the mean)",
        low=0,
        driver="dpo_beta",
    )
    winner_weight: float = option(
        0.0,
        "weight of the winner's own diffusion loss, an anchor to the gold clips as recorded (TangoFlux; paper: 0)",
        low=0,
        driver="dpo_winner_weight",
    )
    timestep_distribution: str = option(
        "uniform",
        "distribution of the training times of the alignment",
        choices=("uniform", "logit_normal"),
        driver="dpo_timesteps",
    )
    condition_dropout: float = option(0.1, "share of the pairs that are trained without a prompt", low=0, high=1)
    num_steps: int = option(150, "optimiser steps of each round of alignment", low=1, driver="dpo_num_steps")
    num_epochs: float = option(
        0.0,
        "passes over the pairs in a round of alignment; 0: the number of steps counts",
        low=0,
        driver="dpo_num_epochs",
    )
    learning_rate: float = option(
        5e-5, "learning rate of AdamW in the alignment, after warm-up (paper: 5e-5)", low=0, driver="dpo_learning_rate"
    )
    weight_decay: float = option(1e-3, "weight decay of AdamW", low=0)
    warmup_steps: int = option(
        10, "steps of alignment in which the learning rate rises", low=0, driver="dpo_warmup_steps"
    )
    batch_size: int = option(8, "pairs of the alignment in memory at once", low=1, driver="dpo_batch_size")
    gradient_accumulation: int = option(1, "batches of pairs in each optimiser step", low=1, driver="dpo_accumulation")
    gradient_checkpointing: bool = option(
        False,
        "activations of the alignment are computed again for the gradients in place of being kept: a step takes about "
        "a quarter longer, in a fraction of the memory",
        driver="dpo_gradient_checkpointing",
        inert=True,
    )
    ema_decay: float = option(
        0.0,
        "decay of averaged weights of the adapter; 0: the last weights",
        low=0,
        high=0.9999999,
        driver="dpo_ema_decay",
    )
    checkpoint_every: int = option(25, "steps between checkpoints", low=1, inert=True)
