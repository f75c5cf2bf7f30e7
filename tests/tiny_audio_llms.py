"""Small randomly initialised audio LLMs in the layout of their hub folders, with real tokenizers and processors."""

from __future__ import annotations

from pathlib import Path

import torch

MARKERS = {
    "image_token": "<|IMAGE|>",
    "video_token": "<|VIDEO|>",
    "audio_token": "<|AUDIO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
# content in the order it is given in, as the families' own templates have it
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
    "{% if part.type == 'audio' %}SOUND{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    # far from zero, so that captions of different sounds differ
    "initializer_range": 0.3,
}
AUDIO = {"num_mel_bins": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "d_model": 16}


def byte_tokenizer():
    """Qwen2's tokenizer with a token for each byte, no merges, and the markers that its processors need."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import AddedToken, Qwen2Tokenizer

    vocabulary = {character: k for k, character in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, eos_token="<|im_end|>", extra_special_tokens=MARKERS)
    more = ("<|im_start|>", "<sound>", "<|sound_bos|>", "<|sound_eos|>")
    tokenizer.add_tokens([AddedToken(word, special=True) for word in more])
    return tokenizer


def feature_extractor(window_s: int):
    """Whisper's, with 16 mel bands."""
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(feature_size=16, sampling_rate=16000, chunk_length=window_s)


def save(folder: Path, model, window_s: int, sound: str, processor_class=None) -> Path:
    """Model, tokenizer, feature extractor and chat template; `sound` is what the template writes for a clip.

    The omni processors cannot be made without torchvision; what they consist of can.
    """
    model.save_pretrained(folder)
    tokenizer, template = byte_tokenizer(), CHAT_TEMPLATE.replace("SOUND", sound)
    if processor_class:
        processor = processor_class(feature_extractor(window_s), tokenizer, chat_template=template)
        processor.save_pretrained(folder)
        return folder
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    feature_extractor(window_s).save_pretrained(folder)
    return folder


def marker_ids(**names: str) -> dict[str, int]:
    """Token numbers of markers: marker_ids(audio_token_id="<|AUDIO|>")."""
    tokenizer = byte_tokenizer()
    return {name: tokenizer.convert_tokens_to_ids(marker) for name, marker in names.items()}


def built(model_class, config, seed: int):
    """A model with weights of its own seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return model_class(config).eval()


def text_config() -> dict:
    return TEXT | {"vocab_size": len(byte_tokenizer())}


def save_qwen2_audio(folder: Path, seed: int = 0) -> Path:
    """Qwen2-Audio: windows of 2 s."""
    from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor

    config = Qwen2AudioConfig(
        audio_config=AUDIO | {"max_source_positions": 100},
        text_config=text_config() | {"model_type": "qwen2"},
        **marker_ids(audio_token_index="<|AUDIO|>"),
    )
    model = built(Qwen2AudioForConditionalGeneration, config, seed)
    return save(folder, model, 2, "<|audio_bos|><|AUDIO|><|audio_eos|>", Qwen2AudioProcessor)


FLAMINGO_AUDIO = {
    "num_mel_bins": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "hidden_size": 16,
    "max_source_positions": 100,
}


def save_audio_flamingo(folder: Path, seed: int = 0) -> Path:
    """Audio Flamingo 3: windows of 2 s, as many as the clip has."""
    from transformers import AudioFlamingo3Config, AudioFlamingo3ForConditionalGeneration, AudioFlamingo3Processor

    config = AudioFlamingo3Config(
        audio_config=FLAMINGO_AUDIO,
        text_config=text_config() | {"model_type": "qwen2"},
        **marker_ids(audio_token_id="<sound>"),
    )
    model = built(AudioFlamingo3ForConditionalGeneration, config, seed)
    return save(folder, model, 2, "<sound>", AudioFlamingo3Processor)


def save_music_flamingo(folder: Path, seed: int = 0) -> Path:
    """Audio Flamingo Next, which has Music Flamingo's classes: windows of 2 s, and the time of each frame turned in."""
    from transformers import MusicFlamingoConfig, MusicFlamingoForConditionalGeneration, MusicFlamingoProcessor

    config = MusicFlamingoConfig(
        audio_config=FLAMINGO_AUDIO | {"model_type": "audioflamingo3_encoder"},
        text_config=text_config() | {"model_type": "qwen2"},
        **marker_ids(audio_token_id="<sound>", audio_bos_token_id="<|sound_bos|>", audio_eos_token_id="<|sound_eos|>"),
    )
    model = built(MusicFlamingoForConditionalGeneration, config, seed)
    return save(folder, model, 2, "<sound>", MusicFlamingoProcessor)


def save_qwen2_5_omni(folder: Path, seed: int = 0) -> Path:
    """Qwen2.5-Omni with its talker and vocoder, as it is on the hub: windows of 4 s."""
    from transformers import Qwen2_5OmniConfig, Qwen2_5OmniForConditionalGeneration

    text = text_config() | {
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
    }
    thinker = {
        "audio_config": AUDIO | {"max_source_positions": 200, "n_window": 20, "output_dim": 32},
        "vision_config": {
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [0],
        },
        "text_config": text,
        **marker_ids(
            audio_token_index="<|AUDIO|>",
            image_token_index="<|IMAGE|>",
            video_token_index="<|VIDEO|>",
            vision_start_token_id="<|vision_bos|>",
            audio_start_token_id="<|audio_bos|>",
            audio_end_token_id="<|audio_eos|>",
        ),
    }
    talker = text | {"vocab_size": 40, "embedding_size": 32, "head_dim": 8}
    vocoder = {
        "dit_config": {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "head_dim": 8,
            "emb_dim": 8,
            "num_embeds": 41,
            "enc_emb_dim": 8,
            "enc_dim": 8,
            "enc_channels": [8, 8, 8, 8, 24],
            "enc_attention_channels": 4,
            "enc_se_channels": 4,
        },
        "bigvgan_config": {"upsample_initial_channel": 64},
    }
    config = Qwen2_5OmniConfig(thinker_config=thinker, talker_config=talker, token2wav_config=vocoder)
    model = built(Qwen2_5OmniForConditionalGeneration, config, seed)
    return save(folder, model, 4, "<|audio_bos|><|AUDIO|><|audio_eos|>")


def save_qwen3_omni(folder: Path, seed: int = 0) -> Path:
    """Qwen3-Omni without a talker, as its captioner is: it hears clips whole."""
    from transformers import Qwen3OmniMoeConfig, Qwen3OmniMoeForConditionalGeneration

    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    text = text_config() | {
        "rope_parameters": rope,
        "head_dim": 8,
        "moe_intermediate_size": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
    }
    thinker = {
        "audio_config": AUDIO
        | {"max_source_positions": 200, "output_dim": 32, "downsample_hidden_size": 8, "n_window": 50},
        "vision_config": {
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 32,
            "deepstack_visual_indexes": [0],
            "num_position_embeddings": 16,
        },
        "text_config": text,
        **marker_ids(
            audio_token_id="<|AUDIO|>",
            image_token_id="<|IMAGE|>",
            video_token_id="<|VIDEO|>",
            vision_start_token_id="<|vision_bos|>",
            audio_start_token_id="<|audio_bos|>",
        ),
    }
    config = Qwen3OmniMoeConfig(thinker_config=thinker, enable_audio_output=False)
    model = built(Qwen3OmniMoeForConditionalGeneration, config, seed)
    return save(folder, model, 2, "<|audio_bos|><|AUDIO|><|audio_eos|>")


SAVERS = {
    "qwen2_audio": save_qwen2_audio,
    "qwen2_5_omni": save_qwen2_5_omni,
    "qwen3_omni_moe": save_qwen3_omni,
    "audioflamingo3": save_audio_flamingo,
    "musicflamingo": save_music_flamingo,
}
