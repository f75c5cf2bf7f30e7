"""Use a classifier that was saved.

    chances, labels = saved_probabilities("W/classifier/synthio/model", ["clip.wav"], cache_folder="embeddings")
    classifier = load_classifier("W/classifier/synthio")
    for span in spans("night.wav", classifier.rates, classifier.window, hop):
        classifier.score(span)

The first is of a head of ast/heads.py and keeps what was heard; the second is of any classifier and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from synthio.classification.experts import Features
from synthio.classification.listening import Listener
from synthio.classification.operating import LISTENING, Points
from synthio.classification.pool import Pool, is_pool, load_pool
from synthio.classification.windows import STEPS_PER_S, Span
from synthio.cli import UserError
from synthio.files import fingerprint, read_object
from synthio.models.classifiers import is_ast, refuse_misfit

if TYPE_CHECKING:
    from synthio.classification.training import Input
    from synthio.models.base import Network

WINDOW_S = 5.0  # of a head that does not say how long its clips were
MODEL_OF = {"ast": "ast", "ast_logits": "ast", "clap": "clap"}  # kind of embedding -> whose it is


def sources(pool: Pool, models: Mapping[str, str]) -> list[dict[str, str]]:
    """The models that a pool listens through, as config.json says it.

    Args:
        models: kind -> model.
    """
    needed = sorted({MODEL_OF[kind] for kind in pool.kinds})
    return [{"kind": kind, "model": models[kind], "sha256": fingerprint(models[kind])} for kind in needed]


def saved_probabilities(
    folder: str | Path,
    paths: Sequence[str],
    cache_folder: str | Path,
    csv: str | Path = "the clips",
    models: Mapping[str, str] | None = None,
    device: str = "cpu",
) -> tuple[np.ndarray, list[str]]:
    """(probabilities float64 [N, C], labels) of clips.

    Args:
        folder: the model/ of a head.
        paths: sound files.
        cache_folder: keeps embeddings by content.
        csv: where the paths come from, for messages.
        models: kind -> where that model is now, if it was moved.
        device: torch device.

    Raises:
        UserError: no such classifier there; a model is not the one it was trained with; a clip cannot be read.
    """
    import torch

    from synthio.classification.metrics import probabilities

    pool, config = load_pool(folder)
    features = Listener(models_of(folder, config, models), cache_folder, device).hear(paths, csv)
    return probabilities(torch.from_numpy(pool.logits(features)), pool.multi_label), config["labels"]


def models_of(folder: str | Path, config: Mapping[str, Any], models: Mapping[str, str] | None = None) -> dict[str, str]:
    """Kind -> model that a head listens through.

    Args:
        folder: of the head, for messages.
        config: its config.json.
        models: kind -> where that model is now, if it was moved.

    Raises:
        UserError: a model is not the one it was trained with.
    """
    found = {}
    for part in config["embeddings"]:
        found[part["kind"]] = (models or {}).get(part["kind"]) or part["model"]
        if fingerprint(found[part["kind"]]) != part["sha256"]:
            raise UserError(
                f"{folder}: its {part['kind']} model is not at {found[part['kind']]} (any more); say where it is"
            )
    return found


class Classifier(Protocol):
    """A saved classifier at work.

    Attributes:
        labels: the C labels, in the order of the probabilities.
        multi_label: each label has a probability of its own.
        rates: sample rates that it hears, in Hz.
        window: how much it hears at once, in steps of 10 ms.
        points: its operating points on the validation clips; None where the model does not say.
        ignored: labels that are no event, but what is none of the others.
        identity: what its answers depend on besides the sound, as JSON.
    """

    labels: list[str]
    multi_label: bool
    rates: tuple[int, ...]
    window: int
    points: Points | None
    ignored: list[str]
    identity: list[str]

    def score(self, span: Span) -> np.ndarray:
        """Calibrated probabilities of the windows, float64 [N, C]."""
        ...


def model_folder(folder: str | Path) -> Path:
    """The folder of a saved classifier's network or head: model/ in that of a run, or the folder itself."""
    inside = Path(folder) / "model"
    return inside if inside.is_dir() else Path(folder)


def load_classifier(
    folder: str | Path, models: Mapping[str, str] | None = None, device: str = "cpu", window_s: float = 0.0
) -> Classifier:
    """The classifier of a folder: that of a run, or the model/ in it, a network or a head.

    Args:
        folder: see above.
        models: kind ("ast", "clap") -> where a model is that a head listens through, if it was moved.
        device: torch device.
        window_s: how much is heard at once; 0: as much as its clips had. An AST's own input says it.

    Raises:
        UserError: there is none; a model is not the one it was trained with.
    """
    folder = model_folder(folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: no classifier there (no config.json); give a run's classifier/synthio")
    said = read_object(folder / LISTENING, "window_s", "ignored", "labels") if (folder / LISTENING).is_file() else None
    window_s = window_s or (said["window_s"] if said else WINDOW_S)
    if is_pool(folder):
        return PoolClassifier(folder, said, models, device, window_s)
    return (
        AstClassifier(folder, said, device) if is_ast(str(folder)) else SoundClassifier(folder, said, device, window_s)
    )


def load_saved(folder: Path, device: str) -> tuple[Network, Input]:
    """(network, how it hears) as ast/train.py saved them.

    Raises:
        UserError: weights are missing, or none of its; there is no feature extractor.
    """
    from transformers import ASTForAudioClassification, AutoModelForAudioClassification

    from synthio.classification.training import Normalisation
    from synthio.classification.wave_input import WaveInput
    from synthio.models.sound_classifier import load_extractor
    from synthio.models.strict import load_network

    if not is_ast(str(folder)):
        refuse_misfit(str(folder), fine_tuned=True)
        model = load_network(AutoModelForAudioClassification, folder, "classifier").to(device)
        return model, WaveInput(load_extractor(str(folder)))
    model = load_network(ASTForAudioClassification, folder, "classifier").to(device)
    extractor = read_object(folder / "preprocessor_config.json", "max_length", "mean", "std")
    return model, Normalisation(extractor["max_length"], extractor["mean"], extractor["std"])


class SoundClassifier:
    """A fine-tuned network of another kind, or any whose head has the labels. See `Classifier`."""

    def __init__(self, folder: Path, said: Mapping[str, Any] | None, device: str, window_s: float):
        self.model, self.norm = load_saved(folder, device)
        config = self.model.config
        self.labels = [config.id2label[i] for i in range(config.num_labels)]
        self.multi_label = config.problem_type == "multi_label_classification"
        self.rates: tuple[int, ...] = (self.norm.sample_rate,)
        self.window = round(window_s * STEPS_PER_S)
        self.points, self.ignored = said and said["labels"], said["ignored"] if said else []
        self.identity = [fingerprint(folder / "model.safetensors"), fingerprint(folder / "preprocessor_config.json")]
        self.device = device

    def score(self, span: Span) -> np.ndarray:
        import torch

        from synthio.audio import fit_length
        from synthio.classification.metrics import probabilities
        from synthio.classification.training import predict

        windows = span.cut(self.norm.sample_rate)
        clips = [fit_length(window, max(self.norm.least, window.shape[1]))[0] for window in windows]
        with torch.inference_mode():
            heard = self.norm.fill([self.norm.hear(clip, self.model.config) for clip in clips])
            logits = predict(self.model, heard, len(clips), self.device)
        return probabilities(logits, self.multi_label)


class AstClassifier:
    """A fine-tuned AST, or any other whose head has the labels. See `Classifier`."""

    def __init__(self, folder: Path, said: Mapping[str, Any] | None, device: str):
        from synthio.classification.training import Normalisation
        from synthio.models.fbank import SAMPLE_RATE, num_samples

        self.model, norm = load_saved(folder, device)
        assert isinstance(norm, Normalisation), "it is an AST"
        self.norm = norm
        config = self.model.config
        self.labels = [config.id2label[i] for i in range(config.num_labels)]
        self.multi_label = config.problem_type == "multi_label_classification"
        self.rates: tuple[int, ...] = (SAMPLE_RATE,)
        self.window = -(-num_samples(self.norm.frames) * STEPS_PER_S // SAMPLE_RATE)
        self.points, self.ignored = said and said["labels"], said["ignored"] if said else []
        self.identity = [fingerprint(folder / "model.safetensors"), fingerprint(folder / "preprocessor_config.json")]
        self.device = device

    def score(self, span: Span) -> np.ndarray:
        import torch

        from synthio.audio import fit_length
        from synthio.classification.metrics import probabilities
        from synthio.classification.training import fill, log_mel, predict
        from synthio.models.fbank import WINDOW

        (audio,) = span.audio.values()
        audio = fit_length(audio[None], max(WINDOW, len(audio)))[0]
        # windows share the frames in which they overlap: a frame's features are its own alone, and a step is a frame
        frames = log_mel(audio, self.model.config.num_mel_bins, len(audio))
        parts = [frames[start : start + self.norm.frames] for start in span.starts]
        with torch.inference_mode():
            logits = predict(self.model, fill(parts, self.norm), len(parts), self.device)
        return probabilities(logits, self.multi_label)


class PoolClassifier:
    """A head on frozen models. See `Classifier`."""

    def __init__(
        self,
        folder: Path,
        said: Mapping[str, Any] | None,
        models: Mapping[str, str] | None,
        device: str,
        window_s: float,
    ):
        self.pool, config = load_pool(folder)
        self.labels, self.multi_label = config["labels"], self.pool.multi_label
        self.models, self.device = models_of(folder, config, models), device
        self.kinds = sorted(self.pool.kinds)
        self.window = round(window_s * STEPS_PER_S)
        self.points, self.ignored = said and said["labels"], said["ignored"] if said else []
        files = [str(folder / name) for name in ("model.safetensors", "config.json")]
        self.identity = [fingerprint(path) for path in (*files, *self.models.values())]
        self.rates = tuple({self.ears[kind].sample_rate for kind in self.models})

    @cached_property
    def ears(self) -> dict[str, Any]:  # Any: AST or CLAP, both with `sample_rate` and `embed_audio`
        from synthio.models.load import load_embedder, load_scorer

        load = {"ast": load_embedder, "clap": load_scorer}
        return {kind: load[kind](model, self.device) for kind, model in self.models.items()}

    def score(self, span: Span) -> np.ndarray:
        import torch

        from synthio.classification.metrics import probabilities

        heard: Features = {kind: ear.embed_audio(span.cut(ear.sample_rate)) for kind, ear in self.ears.items()}
        if "ast_logits" in self.kinds:
            heard = {**heard, "ast_logits": self.ears["ast"].name(heard["ast"])}
        return probabilities(torch.from_numpy(self.pool.logits(heard)), self.multi_label)
