"""The interfaces of the models: conditions, and how a scorer hears a long clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthio.models.base import AudioTextScorer, Condition, TextToAudio, unit


def condition(rows: int, null: bool) -> Condition:
    values = torch.arange(1.0, rows + 1)[:, None, None]
    return Condition(values.expand(rows, 2, 3), 10 * values, 100 * values.expand(rows, 2, 3) if null else None)


@pytest.mark.parametrize("null", [False, True])
def test_rows_of_a_condition_are_dropped_alone_and_joined_again(null):
    whole = condition(3, null)
    dropped = whole.dropped(torch.tensor([False, True, False]))
    assert dropped.cross[:, 0, 0].tolist() == [1, 200 if null else 0, 3]
    assert dropped.pooled[:, 0, 0].tolist() == [10, 20, 30]  # the length is told in any case
    assert whole.unconditional().cross[:, 0, 0].tolist() == ([100, 200, 300] if null else [0, 0, 0])
    joined = Condition.joined([whole.rows(torch.tensor([2])), whole.rows(torch.tensor([0, 1]))])
    assert len(joined) == 3 and joined.cross[:, 0, 0].tolist() == [3, 1, 2]
    assert (joined.null is not None) == null


def test_conditions_of_two_models_are_not_joined():
    with pytest.raises(AssertionError, match="of one model are alike"):
        Condition.joined([condition(1, True), condition(1, False)])


class Silent(TextToAudio):
    """A model that has but a length, and a convolution whose weight is computed from others."""

    name, sample_rate, channels, hop = "silent", 100, 1, 10

    def __init__(self, frames: int, frame_step: int = 1):
        self.latent_shape, self.frame_step = (2, frames), frame_step
        self.autoencoder = torch.nn.utils.weight_norm(torch.nn.Conv1d(1, 2, 3))
        self.reader = torch.nn.Linear(2, 2)

    def parts(self, part):
        return [self.reader] if part == "text" else [self.autoencoder]

    def encode(self, audio):
        return self.autoencoder(audio)

    def decode(self, latents):
        raise NotImplementedError

    condition = predict = decode


def test_fewer_frames_are_what_the_network_takes():
    model = Silent(30, frame_step=4)
    assert (model.samples, model.max_seconds, model.sounding_frames(1.0)) == (300, 3.0, 10)
    model.set_frames(9)
    assert model.latent_shape == (2, 12) and model.is_shortened
    assert (model.samples, model.max_seconds, model.sounding_frames(1.0)) == (120, 1.2, 10)
    other = Silent(30)
    other.set_frames(30)
    assert not other.is_shortened
    for frames in (0, 31):
        with pytest.raises(ValueError, match=f"makes latents of 1 to 30 frames, not of {frames}"):
            other.set_frames(frames)


def test_parts_that_are_given_up_keep_no_memory():
    """Also what weight_norm has computed, which is no parameter."""
    model = Silent(30)
    model.encode(torch.zeros(1, 1, 30))
    model.move("sound", "meta")
    held = [*model.autoencoder.parameters(), *(v for v in vars(model.autoencoder).values() if torch.is_tensor(v))]
    assert len(held) == 4 and {tensor.device.type for tensor in held} == {"meta"}
    assert model.reader.weight.device.type == "cpu"


class Levels(AudioTextScorer):
    """Hears the mean level of a window of four samples; its network has a scale that is not trained."""

    sample_rate, window_s = 4, 1.0

    def __init__(self):
        network = torch.nn.Linear(1, 2)
        network.logit_scale = torch.nn.Parameter(torch.ones(()))
        self.take(network.train(), "cpu")

    def features(self, windows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(windows).mean(dim=1, keepdim=True)

    def audio_vectors(self, features: torch.Tensor) -> torch.Tensor:
        return unit(torch.cat([features, 1 - features], dim=1))

    def text_vectors(self, texts) -> torch.Tensor:
        return unit(torch.tensor([[float(len(text)), 0.0] for text in texts]))

    def save(self, folder) -> None:
        raise NotImplementedError


def test_a_long_clip_is_the_mean_of_its_windows_and_none_hears_another():
    """Windows of levels 1 and 0 have the vectors (1, 0) and (0, 1): their mean points half way."""
    scorer = Levels()
    ones, zeros = np.ones((1, 4), np.float32), np.zeros((1, 4), np.float32)
    vectors = scorer.embed_audio([np.concatenate([ones, zeros], axis=1), ones, zeros])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [[0.5**0.5, 0.5**0.5], [1, 0], [0, 1]], atol=1e-6)
    assert scorer.embed_text(["ab"]).tolist() == [[1, 0]]


def test_a_scorer_is_frozen_and_knows_what_may_be_tuned():
    scorer = Levels()
    assert set(scorer.trainable) == {"weight", "bias"}
    assert not scorer.module.training and not any(p.requires_grad for p in scorer.module.parameters())
