"""The card of a classifier: which of its options it says."""

from __future__ import annotations

from synthio.classification.card import base_models, training_rows

OPTIONS = {"num_steps": 7, "synthetic_weight": 0.5, "seed": 3, "mixup": 0.2, "verbose": 1}


def test_a_fine_tuned_ast_says_how_it_was_trained():
    rows = training_rows({"head": "ast", "options": OPTIONS, "best_step": 5})
    assert rows == {
        "optimiser steps": 7,
        "synthetic clips for a real one": 0.5,
        "seed": 3,
        "mixup alpha": 0.2,
        "step chosen on the validation clips": 5,
    }


def test_a_head_says_nothing_of_steps():
    rows = training_rows({"head": "probe", "options": OPTIONS})
    assert rows == {"synthetic clips for a real one": 0.5, "seed": 3}


def test_models_are_those_that_are_named(tmp_path):
    (tmp_path / "ast").mkdir()
    found = base_models({"model": "", "clap_model": "laion/clap-htsat-fused", "ast_model": str(tmp_path / "ast")})
    assert [row["name"] for row in found] == ["laion/clap-htsat-fused", "ast"]
