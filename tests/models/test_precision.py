"""What half precision and TF32 change, on a CPU: bfloat16 as torch's autocast does it, TF32 by rounding the factors."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from synthio.batching import Halving
from synthio.classification import training
from synthio.classification.options import Recipe
from synthio.cli import pick_device
from synthio.files import EMBEDDED
from synthio.generation import preference
from synthio.models.adapters import make_trainable
from synthio.models.ast_model import load_ast
from synthio.models.load import load_scorer, load_text_to_audio
from synthio.models.precision import autocast
from tests.generation.test_preference import latent_data, step_options

LOGIT_TOLERANCE = 0.01  # of AST under autocast: a twentieth of the spread of its logits, of a new head
COSINE_TOLERANCE = 1e-3  # of CLAP with TF32: the filter's scores are read with three decimals
MARGIN_TOLERANCE = 0.1  # of DPO with TF32, relative, mean over draws, which scatter by a third of it themselves


def tf32(x: torch.Tensor) -> torch.Tensor:
    """Rounded to 10 bits of mantissa, as a tensor core rounds its factors."""
    return ((x.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


@contextmanager
def simulated_tf32(monkeypatch):
    """A block in which linear layers and attention round what they multiply; sums are those of float32."""
    linear, attention = torch.nn.functional.linear, torch.nn.functional.scaled_dot_product_attention
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.functional, "linear", lambda x, w, b=None: linear(tf32(x), tf32(w), b))
        rounded = lambda q, k, v, *args, **more: attention(tf32(q), tf32(k), tf32(v), *args, **more)  # noqa: E731
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", rounded)
        yield


def ast():
    return load_ast(str(EMBEDDED / "ast"), ["a", "b", "c"], 256, False, 0)


def features(count: int) -> torch.Tensor:
    return torch.randn(count, 256, 64, generator=torch.Generator().manual_seed(0)) * 0.5


def test_rounding_to_tf32_by_hand():
    assert tf32(torch.tensor([1 + 2**-10, 1 + 2**-12, -(1 + 3 * 2**-11)])).tolist() == [1 + 2**-10, 1, -(1 + 2**-9)]


@pytest.mark.parametrize(
    ("name", "has_gpu", "precision"),
    [("auto", True, "high"), ("cuda:1", True, "high"), ("cpu", True, "highest"), ("auto", False, "highest")],
)
def test_a_gpu_multiplies_with_tf32_and_a_cpu_as_before(monkeypatch, name, has_gpu, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    try:
        assert pick_device(name) == ("cuda" if name == "auto" and has_gpu else "cpu" if name == "auto" else name)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
def test_ast_under_autocast_is_near_float32(precision):
    model, x = ast().eval(), features(8)
    with torch.no_grad():
        exact = model(x).logits
        with autocast("cpu", precision):
            found = model(x).logits.float()
    apart = (found - exact).abs().max().item()
    assert apart == 0 if precision != "bfloat16" else 0 < apart < LOGIT_TOLERANCE
    assert exact.std() > 15 * LOGIT_TOLERANCE


def test_a_step_of_ast_in_bfloat16_keeps_its_weights_in_float32_and_its_loss_near():
    losses, weights = {}, {}
    targets = torch.eye(3)[torch.arange(8) % 3]
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        model = ast()
        recipe = replace(
            Recipe(), precision=precision, num_steps=4, batch_size=8, warmup_fraction=0.0, supcon_weight=0.0
        )
        split = training.Split(features(8), targets, training.Normalisation(256, 0.0, 1.0))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        steps = [training.train_step(model, optimizer, split, k, recipe, "cpu", Halving(8)) for k in range(4)]
        losses[precision] = np.array(steps)
        assert {p.dtype for p in model.parameters()} == {p.grad.dtype for p in model.parameters()} == {torch.float32}
        weights[precision] = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert 0 < np.abs(losses["bfloat16"] / losses["float32"] - 1).max() < 0.02
    assert not torch.equal(*weights.values())


def test_claps_cosines_with_tf32(monkeypatch):
    scorer, rng = load_scorer(str(EMBEDDED / "clap")), np.random.default_rng(0)
    clips = [rng.normal(0, 0.1, (1, 2 * scorer.sample_rate)).astype(np.float32) for _ in range(3)]
    texts = ["Sound of a dog", "Sound of a siren"]
    exact = scorer.embed_audio(clips) @ scorer.embed_text(texts).T
    with simulated_tf32(monkeypatch):
        found = scorer.embed_audio(clips) @ scorer.embed_text(texts).T
    assert 0 < np.abs(found - exact).max() < COSINE_TOLERANCE


def test_the_margin_of_a_preference_with_tf32(monkeypatch):
    """A small difference of errors, but policy and reference round the same factors."""
    model = load_text_to_audio(str(EMBEDDED / "text_to_audio"))
    trainable, data = make_trainable(model, "lora"), latent_data(model)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in trainable.parameters.items():
        if "lora_B" in name:  # as large as 150 steps at the default rate make them
            parameter.data += 2e-3 * torch.randn(parameter.shape, generator=generator)
    options = step_options(beta=2000.0)
    draws = [preference.draw(data, options, step) for step in range(8)]

    def margins() -> np.ndarray:
        return np.array([preference.batch_loss(model, trainable, draw, options)[1]["margin"] for draw in draws])

    exact = margins()
    with simulated_tf32(monkeypatch):
        found = margins()
    assert np.all(found != exact) and np.abs(exact).mean() > 0.1
    assert np.abs(found - exact).mean() < MARGIN_TOLERANCE * np.abs(exact).mean()
