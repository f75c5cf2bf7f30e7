"""Every head as one network: the probabilities of the saved one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthio.audio import resample
from synthio.classification.saved import load_classifier
from synthio.classification.windows import Span
from synthio.portable.networks import portable
from tests.classification.listeners import save_head, save_world
from tests.tiny_models import save_clap

WHOLE = 10**9  # a window that no clip fills


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return save_world(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", ["probe", "probe_names", "own_names", "tip_adapter", "fusion"])
def test_it_says_what_the_saved_head_says(world, tmp_path, name, multi_label):
    classifier = load_classifier(save_head(world, tmp_path / "head", name, multi_label))
    check(classifier)


def heard_by(classifier, clip: np.ndarray) -> np.ndarray:
    """What the saved classifier says of a clip [T] at the highest of its rates, heard whole."""
    audio = {rate: resample(clip[None], max(classifier.rates), rate)[0] for rate in classifier.rates}
    return classifier.score(Span(0, audio, [0], WHOLE))


def check(classifier) -> None:
    network, rng, heard = portable(classifier, "x"), np.random.default_rng(0), []
    rate = max(classifier.rates)
    assert network.sample_rate == rate
    for samples in (160, 4800, 16000, 40000, 82000):
        clip = rng.uniform(-0.5, 0.5, (1, samples * rate // 16000)).astype(np.float32)
        wanted = heard_by(classifier, clip[0])
        with torch.inference_mode():
            found = network(torch.from_numpy(clip))
        assert found.dtype == torch.float32
        # vectors of a tiny CLAP hardly differ, so that a probe makes much of their last bits
        np.testing.assert_allclose(found.numpy(), wanted, atol=1e-4)
        heard.append(wanted[0])
    assert np.ptp(np.log(heard), axis=0).max() > 1e-3, "it tells these sounds from each other"


def test_labels_without_a_name_share_what_is_left(world, tmp_path):
    """Of three labels AST's head has a name for one, and two names that mean none."""
    classifier = load_classifier(save_head(world, tmp_path / "head", "own_names", False))
    members = classifier.pool.experts[0].members
    members[:] = False
    members[1, 0] = True
    check(classifier)
    members[1] = True  # and no name is left, so that no sound is another than the next
    network, clip = portable(classifier, "x"), np.ones((1, 5000), np.float32)
    np.testing.assert_allclose(
        network(torch.from_numpy(clip)).detach().numpy(), heard_by(classifier, clip[0]), atol=1e-6
    )


def test_models_of_two_rates_are_given_one_sound(world, tmp_path):
    """CLAP at 48 kHz beside AST at 16."""
    save_clap(tmp_path / "clap", rate=48000)
    for part in ("ast", "train.csv", "valid.csv", "train", "valid"):
        (tmp_path / part).symlink_to(world / part)
    classifier = load_classifier(save_head(tmp_path, tmp_path / "head", "fusion", False))
    assert set(classifier.rates) == {16000, 48000}
    check(classifier)
