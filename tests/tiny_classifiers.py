"""Tiny classifiers and encoders of every kind that transformers has, with random weights, saved by the library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

WIDTH = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
# Three convolutions of stride 10, 4 and 4 in place of seven: a frame each 10 ms of 16 kHz, as in no published model.
CONVOLUTIONS = {"conv_dim": (16, 16, 16), "conv_stride": (10, 4, 4), "conv_kernel": (10, 8, 8)}
WAVES = {**WIDTH, **CONVOLUTIONS, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
SQUEEZED = {**WAVES, "squeeze_factor": 2}
# kind -> what its configuration needs to be tiny
KINDS: dict[str, dict[str, Any]] = {
    "wav2vec2": WAVES,
    "hubert": WAVES,
    "wavlm": {**WAVES, "num_buckets": 20, "max_bucket_distance": 40},
    "unispeech": WAVES,
    "unispeech-sat": WAVES,
    "data2vec-audio": {**WAVES, "num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5},
    "sew": SQUEEZED,
    "sew-d": {**SQUEEZED, "pos_att_type": ("p2c", "c2p"), "max_position_embeddings": 64, "position_buckets": 16},
    "wav2vec2-conformer": {**WAVES, "conv_depthwise_kernel_size": 5},
    "wav2vec2-bert": {
        **WIDTH,
        "feature_projection_input_dim": 160,
        "conv_depthwise_kernel_size": 5,
        "left_max_position_embeddings": 8,
        "right_max_position_embeddings": 4,
    },
    "whisper": {
        "d_model": 32,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "decoder_layers": 1,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 48,
        "num_mel_bins": 80,
        "vocab_size": 60,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
        "init_std": 0.2,  # livelier than the usual .02
        "begin_suppress_tokens": None,
        "suppress_tokens": None,
    },
}
NORMS = ("group", "layer")  # of the first convolution; the extractor of models of the second kind gives a mask


def save_tiny_classifier(
    folder: Path, kind: str, labels: Sequence[str] = (), norm: str = "group", seed: int = 0, **changes: Any
) -> Path:
    """A classifier with a head for `labels`, or, without any, what it is made from, and its feature extractor."""
    from transformers import AutoConfig, AutoModel, AutoModelForAudioClassification

    more: dict[str, Any] = {"feat_extract_norm": norm} if "conv_dim" in KINDS[kind] else {}
    config = AutoConfig.for_model(kind, **KINDS[kind] | more | changes)
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: i for i, label in enumerate(labels)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = (AutoModelForAudioClassification if labels else AutoModel).from_config(config)
    model.save_pretrained(folder)
    extractor_of(kind, norm).save_pretrained(folder)
    return folder


def save_loud_classifier(folder: Path, kind: str, labels: Sequence[str]) -> Path:
    """The same with a head whose logits are so far apart that its probabilities tell sounds from each other."""
    from transformers import AutoModelForAudioClassification

    save_tiny_classifier(folder, kind, labels)
    model = AutoModelForAudioClassification.from_pretrained(folder)
    with torch.no_grad():
        model.classifier.weight.mul_(1.0 if kind == "whisper" else 20.0)
    model.save_pretrained(folder)
    return folder


def extractor_of(kind: str, norm: str = "group"):
    """What the published models of a kind are fed by."""
    from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

    if kind == "whisper":
        return WhisperFeatureExtractor()
    if kind == "wav2vec2-bert":
        return SeamlessM4TFeatureExtractor()
    return Wav2Vec2FeatureExtractor(return_attention_mask=norm == "layer")


def save_pe_audio(folder: Path, scale: float = 2.0, bias: float = -1.0, seed: int = 0) -> Path:
    """A PeAudioModel with feature extractor and tokenizer: 16 kHz, a frame each 32 samples."""
    from transformers import PeAudioConfig, PeAudioFeatureExtractor, PeAudioModel

    from tests.tiny_models import word_tokenizer

    tokenizer = word_tokenizer(40)
    marks = {"pad_token_id": 0, "bos_token_id": 3, "eos_token_id": 1, "cls_token_id": 3, "sep_token_id": 1}
    text = {"model_type": "modernbert", "vocab_size": len(tokenizer), "max_position_embeddings": 40, **WIDTH, **marks}
    codec = {"model_type": "dac", "downsampling_ratios": [2, 4, 4], "encoder_hidden_size": 4, "codebook_dim": 8}
    config = PeAudioConfig(
        text_config=text | {"global_attn_every_n_layers": 1},
        audio_config={"dac_config": codec | {"hidden_size": 32}, "head_dim": 16, **WIDTH},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PeAudioModel(config)
        for head in (model.audio_head, model.text_audio_head):
            torch.nn.init.normal_(head.proj.weight, std=0.2)  # livelier than the usual .02
        torch.nn.init.constant_(model.text_audio_logit_scale, scale)
        torch.nn.init.constant_(model.text_audio_logit_bias, bias)
    model.save_pretrained(folder)
    PeAudioFeatureExtractor(sampling_rate=16000, hop_length=32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_embedding_gemma(folder: Path, has_tower: bool = True, seed: int = 0) -> Path:
    """An EmbeddingGemma2Model that hears, or reads alone, with a feature extractor: 16 kHz."""
    from transformers import EmbeddingGemma2Config, EmbeddingGemma2Model, Gemma4AudioFeatureExtractor

    text = {"vocab_size": 40, "num_key_value_heads": 1, "head_dim": 16, "global_head_dim": 16, "embedding_dim": 16}
    audio = {"model_type": "gemma4_audio", "subsampling_conv_channels": [128, 4], "output_proj_dims": 24, **WIDTH}
    config = EmbeddingGemma2Config(
        text_config=text | {"hidden_size_per_layer_input": 8, **WIDTH},
        vision_config=None,
        audio_config=audio if has_tower else None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = EmbeddingGemma2Model(config)
    model.save_pretrained(folder)
    Gemma4AudioFeatureExtractor().save_pretrained(folder)
    return folder
