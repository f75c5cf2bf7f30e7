"""Label cells as a 0/1 matrix and back."""

from __future__ import annotations

import pytest

from synthio.classification.labels import decode_labels, encode_labels
from synthio.cli import UserError


def test_label_cells():
    labels = ["a", "b", "c"]
    matrix = encode_labels(["a;c", "b"], labels, "x.csv", multi_label=True)
    assert matrix.tolist() == [[1, 0, 1], [0, 1, 0]]
    assert decode_labels(matrix, labels) == ["a;c", "b"]
    with pytest.raises(UserError, match="row 1: several labels"):
        encode_labels(["a;c", "b"], labels, "x.csv", multi_label=False)
