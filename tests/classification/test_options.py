"""What the classifiers' scripts can be told."""

from __future__ import annotations

from dataclasses import fields

import pytest

from synthio.classification import augment
from synthio.classification.options import ALPHAS, HEADS_ALONE, WAVEFORM_AUGMENTS, Recipe


@pytest.mark.parametrize(("given", "tried"), [("auto", ALPHAS), (0.3, (0.3,)), ("0.3", (0.3,)), (1, (1.0,))])
def test_auto_tries_several_shares_of_the_trained_weights(given, tried):
    assert Recipe(wise_ft_alpha=given).alphas == tried


def test_every_augmentation_is_one_that_there_is():
    assert all(callable(getattr(augment, name, None)) for name in WAVEFORM_AUGMENTS)


def test_what_heads_use_is_in_the_recipe():
    assert set(HEADS_ALONE) <= {one.name for one in fields(Recipe)}
