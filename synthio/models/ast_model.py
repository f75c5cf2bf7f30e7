"""AST of transformers (`ASTForAudioClassification`): loading, other input lengths, a new head, and embeddings.

    model = load_ast("MIT/ast-finetuned-audioset-10-10-0.4593", labels, frames=512, multi_label=False, seed=0)
    vectors = AstEmbedder("ast.pth").embed_audio(clips)

A model is named by a folder, a hub id, or a checkpoint of the AST repository (`.pth`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from synthio.audio import cut_windows
from synthio.cli import UserError, first_line
from synthio.files import read_object, stable_seed
from synthio.models.ast_checkpoint import read_ast_checkpoint
from synthio.models.base import OwnHead, head_names
from synthio.models.classifiers import AST, is_ast_checkpoint
from synthio.models.fbank import SAMPLE_RATE, kaldi_fbank, num_samples
from synthio.models.model_ids import auto_source, source
from synthio.models.strict import finite_number, load_reported, refusing

SPECIAL_TOKENS = 2  # AST's cls and distillation token
WINDOWS_AT_ONCE = 16


def resize_positions(positions: torch.Tensor, bands: int, time_steps: int) -> torch.Tensor:
    """Fit AST's position embedding to another input length.

    As the AST repository does: for a shorter input the middle is cut out, so that neighbours keep their distance;
    for a longer one it is stretched, bilinear. The grid of patches is laid out frequency first, [bands x time];
    strides do not matter, for overlapping patches are a finer grid. The two special tokens keep their own positions.

    Args:
        positions: [1, 2 + bands * T, D].
        bands: rows of the grid (12 for 128 mel bands, patch 16, stride 10).
        time_steps: wanted columns.

    Returns:
        [1, 2 + bands * time_steps, D].

    Raises:
        ValueError: the table is no grid with `bands` rows.
    """
    patches = positions.shape[1] - SPECIAL_TOKENS
    if patches % bands:
        raise ValueError(f"{patches} positions are no grid of {bands} bands")
    special, grid = positions[:, :SPECIAL_TOKENS], positions[:, SPECIAL_TOKENS:]
    grid = grid.transpose(1, 2).unflatten(2, (bands, patches // bands))
    if time_steps <= grid.shape[3]:
        start = grid.shape[3] // 2 - time_steps // 2
        grid = grid[..., start : start + time_steps]
    else:
        grid = functional.interpolate(grid, size=(bands, time_steps), mode="bilinear", align_corners=False)
    return torch.cat([special, grid.flatten(2).transpose(1, 2)], dim=1)


def finer_stride(config, frames: int) -> int:
    """Frames from one patch to the next for an input of `frames`: the model's own, halved while the grid still fits.

    A clip that is shorter than the model's input would have few patches, all of one phase. Patches that overlap hear it
    at more places, in no more columns than the model was trained on: as a clip is heard that is repeated up to that
    length, but by no trick that transformers' pipeline does not know. Less than a quarter of a patch gave
    no more. A grid that overlaps already stays as it is.
    """
    stride, patch = config.time_stride, config.patch_size
    if stride < patch:
        return stride
    columns = (config.max_length - patch) // stride + 1
    while stride > max(1, patch // 4) and (frames - patch) // (stride // 2) < columns:
        stride //= 2
    return stride


def load_ast_config(name: str):
    """The ASTConfig of a folder, hub id or `.pth` checkpoint.

    Raises:
        UserError: there is none, or it belongs to another kind of model.
    """
    from transformers import AutoConfig

    if is_ast_checkpoint(name):
        return read_ast_checkpoint(name)[0]
    with refusing("AST", name):
        config = AutoConfig.from_pretrained(**auto_source(name))
    if config.model_type != AST:
        raise UserError(f"AST '{name}': is a '{config.model_type}', not an {AST}")
    return config


def load_pretrained_ast(name: str, config=None):
    """ASTForAudioClassification in float32 with its own input length; the head may be new. See `_load`."""
    return _load(name, config)[0]


def _load(name: str, config=None):
    """(ASTForAudioClassification in float32 with its own input length, whether its head was in the checkpoint).

    Args:
        name: folder or hub id, of ASTModel or ASTForAudioClassification, or `.pth` checkpoint.
        config: another ASTConfig than the model's own, which may differ in what concerns the head.

    Raises:
        UserError: no such model, another kind of model, or weights of its body are missing or of other shapes.
    """
    from transformers import ASTForAudioClassification

    config = config or load_ast_config(name)
    options = {"state_dict": read_ast_checkpoint(name)[1]} if is_ast_checkpoint(name) else {}
    model, without = load_reported(
        ASTForAudioClassification,
        None if options else name,
        "AST",
        may_lack=("classifier.",),
        config=config,
        dtype=torch.float32,
        **options,
    )
    return model, not without


def load_ast(name: str, labels: Sequence[str], frames: int, multi_label: bool, seed: int):
    """A pretrained AST in float32 with `frames` input frames, see `finer_stride`, and a new head for `labels`.

    The head (norm and linear layer) is always new, also when the old one happens to have as many classes.

    Args:
        name: see `load_pretrained_ast`.
        labels: class names; their order is the order of the logits, and it is kept in the config.
        frames: input length in frames of 10 ms.
        multi_label: how a pipeline should turn the logits into probabilities.
        seed: of the new head.

    Raises:
        UserError: see `load_pretrained_ast`.
    """
    config = load_ast_config(name)
    with refusing("AST", name):
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: i for i, label in enumerate(labels)}
        config.problem_type = "multi_label_classification" if multi_label else "single_label_classification"
        model = load_pretrained_ast(name, config)
        _set_time_stride(model, finer_stride(config, frames))
        set_input_length(model, frames)
        _reset_head(model, seed)
    return model


@torch.no_grad()
def set_input_length(model, frames: int) -> None:
    """Let an ASTForAudioClassification take `frames` frames of 10 ms."""
    model.config.max_length = frames
    embeddings = model.audio_spectrogram_transformer.embeddings
    bands, time_steps = embeddings.get_shape(model.config)
    embeddings.position_embeddings = torch.nn.Parameter(
        resize_positions(embeddings.position_embeddings.data, bands, time_steps).clone()
    )


def _set_time_stride(model, frames: int) -> None:
    """Let the patches of an ASTForAudioClassification start `frames` frames apart, in any program that loads it."""
    model.config.time_stride = frames
    projection = model.audio_spectrogram_transformer.embeddings.patch_embeddings.projection
    projection.stride = (projection.stride[0], frames)


@torch.no_grad()
def _reset_head(model, seed: int) -> None:
    generator = torch.Generator().manual_seed(stable_seed(seed, "head"))
    head = model.classifier
    head.layernorm.reset_parameters()
    head.dense.weight.normal_(0, model.config.initializer_range, generator=generator)
    head.dense.bias.zero_()


def read_own_head(name: str) -> OwnHead | None:
    """The pretrained head of an AST; None where the checkpoint has none, or no names for its classes.

    Raises:
        UserError: see `load_pretrained_ast`.
    """
    model, has_head = _load(name)
    with refusing("AST", name):
        names = head_names(model.config, has_head)
    if not names:
        return None
    norm, dense = model.classifier.layernorm, model.classifier.dense
    with torch.no_grad():
        return OwnHead(names, (dense.weight * norm.weight).numpy(), (dense.bias + dense.weight @ norm.bias).numpy())


class AstEmbedder:
    """The pooled output of a pretrained AST: the mean of its two special tokens after the last norm.

    A clip is cut into windows of the model's own input length, whose outputs are averaged; a shorter clip is repeated,
    since AST hears more in it than in one that is padded. So a clip's vector depends on nothing but the clip.

    Args:
        model: see `load_pretrained_ast`. A folder's feature extractor has the normalisation; without one it is
            AudioSet's.
        device: torch device.

    Attributes:
        names: the K classes of its pretrained head; empty where the checkpoint has no head, or no names for it.

    Raises:
        UserError: see `load_pretrained_ast`.
    """

    sample_rate = SAMPLE_RATE

    def __init__(self, model: str, device: str = "cpu"):
        self.device = torch.device(device)
        whole, has_head = _load(model)
        self.body, self.head = whole.audio_spectrogram_transformer, whole.classifier
        self.body.requires_grad_(False).eval().to(self.device)
        self.extractor = load_extractor(model)
        with refusing("AST", model):
            self.names = head_names(whole.config, has_head)

    @torch.no_grad()
    def name(self, pooled: np.ndarray) -> np.ndarray:
        """What the pretrained head says of pooled outputs [N, E]: logits float32 [N, K] of `names`."""
        return self.head(torch.from_numpy(pooled)).numpy()

    @torch.no_grad()
    def embed_audio(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Mono clips [1, T] at 16 kHz -> float32 [N, E]."""
        config = self.body.config
        windows = [cut_windows(clip, num_samples(config.max_length))[:, 0] for clip in clips]
        features = kaldi_fbank(torch.from_numpy(np.concatenate(windows)), config.num_mel_bins)
        features = (features - self.extractor.mean) / (2 * self.extractor.std)
        pooled = [self.body(part.to(self.device)).pooler_output.cpu() for part in features.split(WINDOWS_AT_ONCE)]
        means = [part.mean(dim=0) for part in torch.cat(pooled).split([len(w) for w in windows])]
        return torch.stack(means).numpy()


def load_extractor(name: str):
    """The feature extractor beside a model, or one with AudioSet's normalisation."""
    from transformers import ASTFeatureExtractor

    if is_ast_checkpoint(name):
        return ASTFeatureExtractor()
    settings = Path(name) / "preprocessor_config.json"
    if settings.parent.is_dir():
        if not settings.exists():  # only the model was saved
            return ASTFeatureExtractor()
        config = read_object(settings)
        for part in ("mean", "std"):
            finite_number(config, part, 0.0, settings)
    try:
        return ASTFeatureExtractor.from_pretrained(**source(name))
    except OSError as error:  # of a hub id: only the model was saved, or the hub cannot be reached
        print(
            f"{name}: no preprocessor_config.json ({first_line(error)}); AudioSet's normalisation is taken",
            file=sys.stderr,
        )
        return ASTFeatureExtractor()
