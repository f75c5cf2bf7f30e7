"""The picture of the filter."""

from __future__ import annotations

import numpy as np


def test_of_many_classes_the_picture_shows_those_that_lose_most():
    from synthio.filtering.picture import MAX_CLASSES, shown_classes
    from synthio.filtering.thresholds import rows_of_classes

    classes = rows_of_classes([f"{i:03}" for i in range(MAX_CLASSES + 5)] * 2, np.ones(2 * (MAX_CLASSES + 5), bool))
    is_kept = np.array([i >= 3 for i in range(MAX_CLASSES + 5)] + [True] * (MAX_CLASSES + 5))
    shown = shown_classes(classes, is_kept)
    assert len(shown) == MAX_CLASSES and shown[:3] == ["000", "001", "002"] and shown == sorted(shown)
