"""How the reasons of the filter begin, and what a rewrite is told of them."""

from __future__ import annotations

import pytest

from synthio.filtering.reasons import rejection_of


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("near-duplicate of the better clip 3.wav (cosine 0.950)", "copy"),
        ("clipped: 12.0 % of the samples are at full scale", "clipped"),
        ("silent: peak -80 dBFS", "silent"),
        ("clap_probability 0.8 is below 0.85", "unlike"),
        ("", "unlike"),
    ],
)
def test_the_beginning_tells_the_kind(reason, kind):
    assert rejection_of(reason) == kind
