"""Names of a pretrained classifier that mean a label."""

from __future__ import annotations

import pytest

from synthio.classification.naming import match_names

OWN = ["dog_bark", "baby_cry", "fire_crackle", "engine", "rain", "car_horn", "dog_whine"]
AUDIOSET = [
    "Speech",
    "Dog",
    "Bark",
    "Baby cry, infant cry",
    "Crackle",
    "Church bell",
    "Vehicle horn, car horn, honking",
    "Rain",
    "Rain on surface",
    "Sound effect (electronic)",
    "Bow-wow",
]


def matched(label: str, names: list[str]) -> list[str]:
    (row,) = match_names([label], names)
    return [name for name, member in zip(names, row, strict=True) if member]


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("dog", ["dog_bark", "dog_whine"]),  # all that have its words
        ("crying_baby", ["baby_cry"]),  # other endings, another order
        ("crackling_fire", ["fire_crackle"]),
        ("Dog Barking", ["dog_bark"]),
        ("engine_idling", ["engine"]),  # part of the label's words
        ("rain", ["rain"]),
        ("helicopter", []),
        ("car", ["car_horn"]),
        ("siren horn", []),  # a word in common is not enough
    ],
)
def test_names_of_words_joined_by_underscores(label, expected):
    assert matched(label, OWN) == expected


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("dog", ["Dog"]),
        ("dog_bark", ["Dog", "Bark"]),  # both are words of the label alone
        ("crying_baby", ["Baby cry, infant cry"]),
        ("infant_cry", ["Baby cry, infant cry"]),
        ("car_horn", ["Vehicle horn, car horn, honking"]),
        ("honk", ["Vehicle horn, car horn, honking"]),
        ("church_bells", ["Church bell"]),
        ("rain", ["Rain"]),  # the same words come before more words
        ("surface rain", ["Rain on surface"]),  # more words come before fewer
        ("sound effect", ["Sound effect (electronic)"]),  # brackets explain, they do not name
        ("electronic", []),
        ("baby_infant", []),  # words of two terms are no name
        ("bow-wow", ["Bow-wow"]),
    ],
)
def test_names_of_audioset_have_several_terms(label, expected):
    assert matched(label, AUDIOSET) == expected


def test_rows_are_labels_and_columns_are_names():
    members = match_names(["dog", "crying_baby", "drum"], ["dog_bark", "baby_cry", "rain"])
    assert members.dtype == bool
    assert members.tolist() == [[True, False, False], [False, True, False], [False, False, False]]
    assert match_names(["a"], []).shape == (1, 0)


def test_a_term_without_words_means_nothing():
    assert matched("dog", ["Cat, ", "(dog)", ""]) == []


@pytest.mark.parametrize("label", ["?", "_", "&&"])
def test_a_label_without_words_has_no_name(label):
    assert matched(label, OWN) == []
