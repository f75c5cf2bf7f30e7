"""Parents are labels without which others never come, unless chance would do it."""

from __future__ import annotations

import random

from synthio.data.hierarchy import ancestors_of, leaf_cells, leaves_of


def test_the_parents_of_fsd50k():
    guitar, drum = "Electric_guitar;Guitar;Music", "Drum;Music"
    cells = [guitar] * 5 + ["Guitar;Music"] * 2 + [drum] * 4 + ["Music", "Rain", "Bark;Dog"] + ["Rain"] * 20
    found = ancestors_of([*cells, "Bark;Dog", "Dog"])
    assert found == {
        "Electric_guitar": {"Guitar", "Music"},
        "Guitar": {"Music"},
        "Drum": {"Music"},
        "Bark": {"Dog"},
    }
    assert leaves_of("Drum;Electric_guitar;Guitar;Music", found) == "Drum;Electric_guitar"
    assert leaf_cells(["Music;Guitar", "Rain", "Music"], found) == ["Guitar", "Rain", "Music"]


def test_an_ancestors_ancestor_is_one_though_it_is_common():
    """Half of all clips are Things, so that two rare clips in Things are chance, but for what lies between."""
    cells = ["a;Group;Things"] * 2 + ["Group;Things"] * 6 + ["Things"] * 12 + ["Rain"] * 20
    assert ancestors_of(cells)["a"] == {"Group", "Things"}


def test_flat_labels_have_no_parents():
    """17 labels in twos and threes, of which a rare one may come with a common one alone."""
    for seed in range(20):
        rng = random.Random(seed)
        cells = [";".join(rng.sample([f"l{i}" for i in range(17)], rng.randint(1, 3))) for _ in range(300)]
        assert ancestors_of(cells) == {}
    assert ancestors_of(["rare;common", *["common"] * 30, *["other"] * 30]) == {}  # one clip tells nothing


def test_labels_that_always_come_together_are_equals():
    assert ancestors_of(["a;b"] * 10 + ["c"] * 30) == {}
