"""Each expert against its formula."""

from __future__ import annotations

import numpy as np
import pytest

from synthio.classification.experts import FORMS, CacheExpert, LinearExpert, NamingExpert, beside
from synthio.classification.probe import LinearProbe
from tests.classification.toy import hear, make_task


def example(form: str, clips: int = 7):
    """(an expert of a form, embeddings)."""
    task = make_task()
    features = hear(task.targets[:clips], np.random.default_rng(9))
    rng = np.random.default_rng(1)
    probe = LinearProbe(rng.normal(size=(3, 11)).astype(np.float32), rng.normal(size=3).astype(np.float32))
    values = (task.targets * task.rates[:, None]).astype(np.float32)
    experts = {
        "linear": lambda: LinearExpert(("clap", "ast"), probe),
        "naming": lambda: NamingExpert(task.members),
        "cache": lambda: CacheExpert(task.train["clap"], values, task.texts, 10.0, 3.0, 0.7),
    }
    return experts[form](), features


def test_a_linear_expert_reads_its_kinds_in_their_order():
    expert, features = example("linear")
    weight, bias = expert.probe.weight.astype(float), expert.probe.bias
    expected = features["clap"] @ weight[:, :5].T + features["ast"] @ weight[:, 5:].T + bias
    np.testing.assert_allclose(expert.logits(features), expected, rtol=1e-6)
    assert beside(features, ("ast", "clap")).shape == (7, 11)


def shares(logits: np.ndarray) -> np.ndarray:
    """Softmax of each row."""
    e = np.exp(logits.astype(float))
    return e / e.sum(axis=1, keepdims=True)


def test_a_label_has_the_share_of_its_names():
    """Label 0 has two names, label 1 one; two names are free, and labels 2 and 3 have half of their share each."""
    logits = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    members = np.zeros((4, 5), bool)
    members[0, [0, 3]] = members[1, 2] = True
    found = np.exp(NamingExpert(members).logits({"ast_logits": logits}))
    p = shares(logits)
    expected = np.stack([p[:, 0] + p[:, 3], p[:, 2], (p[:, 1] + p[:, 4]) / 2, (p[:, 1] + p[:, 4]) / 2], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_without_free_names_an_unknown_label_is_next_to_impossible():
    members = np.array([[True, False], [False, True], [False, False]])
    logits = NamingExpert(members).logits({"ast_logits": np.array([[2.0, 0.0], [900.0, 0.0]], np.float32)})
    assert np.isfinite(logits).all() and np.exp(logits[:, 2]).max() < 1e-8
    assert (logits[:, 0] > logits[:, 1]).all()


def test_tip_adapter_is_its_formula():
    expert, features = example("cache")
    found = expert.logits(features)
    for row, x in enumerate(features["clap"].astype(float)):
        for label in range(3):
            near = sum(
                np.exp(-0.7 * (1 - x @ key)) * value[label]
                for key, value in zip(expert.keys, expert.values, strict=True)
            )
            assert found[row, label] == pytest.approx(10 * x @ expert.texts[label] + 3 * near, rel=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_what_an_expert_keeps_makes_it_again(form):
    expert, features = example(form)
    again = FORMS[form].restored(expert.arrays(), expert.settings())
    assert again.kinds == expert.kinds and again.form == form
    np.testing.assert_array_equal(again.logits(features), expert.logits(features))
    assert expert.logits(features).dtype == np.float64
