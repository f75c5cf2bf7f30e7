"""Small randomly initialised models in the real formats, made by the real libraries."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import torch

SENTENCE = "sound of a the dog bark rain siren bell loud quiet short long in with and distant street room"


def word_tokenizer(max_length: int):
    """A word-level tokenizer of transformers with the special tokens that T5 and RoBERTa need."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", "<s>", *SENTENCE.split()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        bos_token="<s>",
        model_max_length=max_length,
    )


def cosine_scheduler() -> type:
    """The scheduler class of Stable Audio Open. Its module imports torchsde, which only its own noise needs."""
    name = "diffusers.schedulers.scheduling_cosine_dpmsolver_multistep"
    absent = importlib.util.find_spec("torchsde") is None
    if absent:
        sys.modules["torchsde"] = types.ModuleType("torchsde")
    try:
        return importlib.import_module(name).CosineDPMSolverMultistepScheduler
    finally:
        if absent:
            del sys.modules["torchsde"]


def save_text_to_audio(
    folder: Path, objective: str = "rectified_flow", channels: int = 1, seed: int = 0, **transformer: int
) -> Path:
    """A StableAudioPipeline: 16 kHz, 16 latent channels, 40 frames of 512 samples (1.28 s).

    `transformer`: what differs in its config.
    """
    sizes = {"sample_size": 40, "num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2}
    sizes |= {"num_key_value_attention_heads": 2, "cross_attention_dim": 32} | transformer
    from diffusers import (
        AutoencoderOobleck,
        FlowMatchEulerDiscreteScheduler,
        StableAudioDiTModel,
        StableAudioPipeline,
    )
    from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel
    from transformers import T5Config, T5EncoderModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = {
            "transformer": StableAudioDiTModel(
                **sizes,
                in_channels=16,
                out_channels=16,
                cross_attention_input_dim=32,
                global_states_input_dim=64,
                time_proj_dim=16,
            ),
            "vae": AutoencoderOobleck(
                encoder_hidden_size=32,
                downsampling_ratios=[8, 8, 8],
                channel_multiples=[1, 1, 2],
                decoder_channels=8,
                decoder_input_channels=16,
                audio_channels=channels,
                sampling_rate=16000,
            ),
            "text_encoder": T5EncoderModel(
                T5Config(vocab_size=64, d_model=24, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
            ),
            "projection_model": StableAudioProjectionModel(
                text_encoder_dim=24, conditioning_dim=32, min_value=0, max_value=8
            ),
        }
    parts["scheduler"] = FlowMatchEulerDiscreteScheduler() if objective == "rectified_flow" else cosine_scheduler()()
    StableAudioPipeline(**parts, tokenizer=word_tokenizer(16)).save_pretrained(folder)
    return folder


# A small T5Gemma, encoder and decoder alike
T5GEMMA_TEXT = {
    "vocab_size": 64,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 12,
    "pad_token_id": 0,
}


def save_stable_audio_3(folder: Path, distilled: bool = False, seed: int = 0, **transformer: int) -> Path:
    """A StableAudio3Pipeline: 16 kHz stereo, 16 latent channels, frames of 512 samples, at most 2 s.

    `transformer`: what differs in its config.
    """
    sizes = {"embed_dim": 32, "depth": 2, "num_heads": 2} | transformer
    from diffusers import (
        AutoencoderSAME,
        FlowMatchEulerDiscreteScheduler,
        StableAudio3DiTModel,
        StableAudio3Pipeline,
    )
    from diffusers.pipelines.stable_audio_3 import StableAudio3DurationEmbedder
    from transformers import T5GemmaConfig, T5GemmaEncoderModel

    text = T5GEMMA_TEXT
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = {
            "transformer": StableAudio3DiTModel(
                **sizes,
                io_channels=16,
                cond_token_dim=24,
                global_cond_dim=24,
                local_add_cond_dim=17,
                timestep_features_dim=16,
                num_memory_tokens=4,
            ),
            "vae": AutoencoderSAME(
                patch_size=64,
                encoder_channels=8,
                encoder_c_mults=(4,),
                encoder_strides=(8,),
                encoder_transformer_depths=(1,),
                latent_dim=16,
                dim_heads=16,
                sampling_rate=16000,
            ),
            "text_encoder": T5GemmaEncoderModel(
                T5GemmaConfig(encoder=text, decoder=text, vocab_size=64, is_encoder_decoder=False)
            ),
            "duration_embedder": StableAudio3DurationEmbedder(output_dim=24, fourier_dim=16, max_val=2.0),
        }
        for name in ("transformer", "vae"):  # much of them starts at zero, where mistakes would not show
            for parameter in parts[name].parameters():
                if not parameter.any():
                    torch.nn.init.normal_(parameter, std=0.2)
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, stochastic_sampling=distilled)
    StableAudio3Pipeline(**parts, tokenizer=word_tokenizer(16), scheduler=scheduler).save_pretrained(folder)
    return folder


def save_clap(folder: Path, seed: int = 0, rate: int = 16000, fusion: bool = False) -> Path:
    """A ClapModel folder with feature extractor and tokenizer: windows of 2 s."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    audio = {
        "spec_size": 64,
        "num_mel_bins": 32,
        "patch_size": 4,
        "patch_stride": [4, 4],
        "window_size": 4,
        "depths": [1, 1],
        "num_attention_heads": [1, 2],
        "patch_embeds_hidden_size": 16,
        "hidden_size": 32,
        "enable_fusion": fusion,
    }
    text = {
        "vocab_size": 64,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 40,
        "pad_token_id": 0,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = ClapConfig(
            text_config=text | {"projection_dim": 16}, audio_config=audio | {"projection_dim": 16}, projection_dim=16
        )
        ClapModel(config).save_pretrained(folder)
    ClapFeatureExtractor(
        feature_size=32,
        sampling_rate=rate,
        hop_length=rate * 2 // 125,
        max_length_s=2,
        fft_window_size=512,
        truncation="fusion" if fusion else "rand_trunc",
    ).save_pretrained(folder)
    word_tokenizer(38).save_pretrained(folder)
    return folder


CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def save_chat_model(folder: Path, chat_template: str | None = CHAT_TEMPLATE, room: int = 4096, seed: int = 0) -> Path:
    """A Llama chat model with a byte-level tokenizer; what it says is noise."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<pad>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([SENTENCE], trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")
    wrapped.chat_template = chat_template
    wrapped.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(wrapped),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=room,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=1,
            initializer_range=0.3,  # else all tokens are about equally likely
        )
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder
