"""Any classifier of transformers but AST (AutoModelForAudioClassification): Wav2Vec2, HuBERT, WavLM, Whisper and so on.

    model = load_sound_classifier("facebook/wav2vec2-base", labels, multi_label=False, seed=0)
    vectors = SoundEmbedder("facebook/wav2vec2-base").embed_audio(clips)

All of them have one form: a body, whose hidden states [B, frames, H] a linear layer `projector` reads, the mean over
time, and a linear layer `classifier`. A sound comes to them through the feature extractor beside the model, alone and
unpadded, as transformers' pipeline hears it. A model is named by a folder or a hub id, of the body alone or of any
network that has it: what else lies in the checkpoint, such as a decoder, is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from synthio.audio import fit_length
from synthio.cli import UserError
from synthio.files import stable_seed
from synthio.models.base import Network, OwnHead, head_names
from synthio.models.classifiers import hidden_states, refuse_misfit
from synthio.models.model_ids import auto_source
from synthio.models.strict import load_reported, refusing
from synthio.models.windowed import WindowedEmbedder

LEAST_S = 0.1  # of silence is a shorter sound filled up to: the convolutions give no frame of less than .04 s
HEAD = ("projector.", "classifier.")
WHAT = "classifier"
EXTRACTOR_FILES = ("preprocessor_config.json", "processor_config.json")


def load_extractor(name: str):
    """The feature extractor beside a model.

    Raises:
        UserError: there is none, or it does not say its sample rate.
    """
    from transformers import AutoFeatureExtractor

    if Path(name).is_dir() and not any((Path(name) / file).is_file() for file in EXTRACTOR_FILES):
        raise UserError(
            f"{WHAT} '{name}': no {EXTRACTOR_FILES[0]}, which says what it hears; save its feature extractor beside it"
        )
    with refusing("feature extractor of", name):
        extractor = AutoFeatureExtractor.from_pretrained(**auto_source(name))
    rate = getattr(extractor, "sampling_rate", None)
    if not isinstance(rate, int) or rate <= 0 or rate % 100:
        raise UserError(f"{WHAT} '{name}': its sampling_rate is {rate!r}; a multiple of 100 Hz is needed")
    return extractor


def hear(extractor, waveform: np.ndarray) -> torch.Tensor:
    """What the network reads of one sound.

    Args:
        extractor: from `load_extractor`.
        waveform: mono float32 [T] at its rate; less than `LEAST_S` is filled up with silence.

    Returns:
        float32: the waveform, normalised or not [T], or its spectrogram [frames, bands] ([bands, frames] of Whisper).
    """
    rate = extractor.sampling_rate
    filled = fit_length(waveform[None], max(round(LEAST_S * rate), len(waveform)))[0]
    out = extractor(filled, sampling_rate=rate, return_tensors="pt")
    features, mask = out[extractor.model_input_names[0]][0], out.get("attention_mask")
    if mask is not None and mask.shape[1] == len(features):
        features = features[: int(mask.sum())]  # the rest is masked; without it no mask is needed
    return features.float()


def most_samples(extractor) -> int | None:
    """So much of a sound its input holds; None: all of it. Whisper's is padded to that, too."""
    return getattr(extractor, "n_samples", None)


def _load(name: str, config=None) -> tuple[Network, bool]:
    """(network in float32, whether its head was in the checkpoint); `config` may be another one for the head.

    Raises:
        UserError: no such model, another kind of model, or weights of its body are missing or of other shapes.
    """
    from transformers import AutoModelForAudioClassification

    config = config or load_config(name)
    prefix = AutoModelForAudioClassification._model_mapping[type(config)].base_model_prefix
    model, without = load_reported(
        AutoModelForAudioClassification,
        name,
        WHAT,
        may_lack=(*HEAD, f"{prefix}.masked_spec_embed"),  # what stands for frames that are masked in pretraining
        may_have_more=True,
        config=config,
        dtype=torch.float32,
    )
    return model, not any(key.startswith(HEAD) for key in without)


def load_config(name: str):
    """The configuration of a folder or hub id.

    Raises:
        UserError: there is none, or it belongs to another kind of model.
    """
    from transformers import AutoConfig

    refuse_misfit(name, fine_tuned=True)
    with refusing(WHAT, name):
        return AutoConfig.from_pretrained(**auto_source(name))


def load_sound_classifier(name: str, labels: Sequence[str], multi_label: bool, seed: int) -> Network:
    """A pretrained network in float32 with a new head for `labels`, ready to be trained.

    The projector of the head is as wide as the hidden states and starts as the identity, so that the last layer reads
    their mean, from which a linear probe is a head. Its own way of dropping layers and of masking frames is off: both
    draw from other generators than ours, and the latter fails on short sounds. The convolutions that read a waveform
    stay as they are, as in transformers' own example.

    Args:
        name: folder or hub id.
        labels: class names; their order is the order of the logits, and it is kept in the config.
        multi_label: how a pipeline should turn the logits into probabilities.
        seed: of the new head.

    Raises:
        UserError: no such model, another kind of model, or weights of its body are missing or of other shapes.
    """
    config = load_config(name)
    with refusing(WHAT, name):
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: i for i, label in enumerate(labels)}
        config.problem_type = "multi_label_classification" if multi_label else "single_label_classification"
        config.classifier_proj_size = config.hidden_size
        config.apply_spec_augment = False
        for dropped in ("layerdrop", "encoder_layerdrop"):
            if hasattr(config, dropped):
                setattr(config, dropped, 0.0)
        model, _ = _load(name, config)
    if hasattr(model, "freeze_feature_encoder"):
        model.freeze_feature_encoder()
    _reset_head(model, seed)
    return model


@torch.no_grad()
def _reset_head(model: Network, seed: int) -> None:
    config, generator = model.config, torch.Generator().manual_seed(stable_seed(seed, "head"))
    deviation = getattr(config, "initializer_range", None) or config.init_std
    torch.nn.init.eye_(model.projector.weight)
    model.projector.bias.zero_()
    model.classifier.weight.normal_(0, deviation, generator=generator)
    model.classifier.bias.zero_()


def read_own_head(name: str) -> OwnHead | None:
    """The pretrained head, both layers as one on the mean of the hidden states; None: it has none, or no names.

    Raises:
        UserError: as `load_sound_classifier`.
    """
    model, has_head = _load(name)
    with refusing(WHAT, name):
        names = head_names(model.config, has_head)
    if not names:
        return None
    inner, outer = model.projector, model.classifier
    with torch.no_grad():
        weight, bias = outer.weight @ inner.weight, outer.bias + outer.weight @ inner.bias
    return OwnHead(names, weight.numpy(), bias.numpy())


class SoundEmbedder(WindowedEmbedder):
    """The mean over time of a pretrained network's last hidden states, of the frames that hear the clip.

    Args:
        model: folder or hub id.
        device: torch device.

    Raises:
        UserError: as `load_sound_classifier`.
    """

    def __init__(self, model: str, device: str = "cpu"):
        self.device = torch.device(device)
        whole, has_head = _load(model)
        self.module = whole.requires_grad_(False).eval().to(self.device)
        self.extractor = load_extractor(model)
        self.sample_rate: int = self.extractor.sampling_rate
        with refusing(WHAT, model):
            self.names = head_names(whole.config, has_head)

    @torch.no_grad()
    def name(self, pooled: np.ndarray) -> np.ndarray:
        """See `WindowedEmbedder`."""
        vectors = torch.from_numpy(pooled).to(self.device)
        return self.module.classifier(self.module.projector(vectors)).cpu().numpy()

    def vectors(self, waveforms: Sequence[np.ndarray]) -> torch.Tensor:
        """See `WindowedEmbedder`."""
        features = torch.stack([hear(self.extractor, waveform) for waveform in waveforms])
        hidden, most = hidden_states(self.module, features.to(self.device)), most_samples(self.extractor)
        frames = hidden.shape[1]
        if most:
            frames = min(frames, max(1, -(-frames * len(waveforms[0]) // most)))
        return hidden[:, :frames].mean(dim=1)
