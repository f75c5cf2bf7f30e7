"""torch.compile: the numbers stay, and where it cannot work it is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from synthio.cli import UserError, compile_network
from synthio.models.adapters import make_trainable
from synthio.models.ast_model import load_ast
from synthio.models.load import load_text_to_audio
from synthio.pipeline.stamp import command_key
from tests.classification.toy_clips import save_tiny_ast
from tests.tiny_models import save_text_to_audio

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """Compiles a network, with what torch keeps in tmp_path; skips the test where it cannot."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))

    def run(module) -> None:
        try:
            compile_network(module, "cpu")
        except UserError as error:
            pytest.skip(str(error))

    yield run
    torch._dynamo.reset()


@pytest.mark.slow
def test_a_compiled_transformer_gives_the_same_numbers(tmp_path, compiled):
    """With a LoRA on it, forward and back, and with the LoRA switched off."""
    model = load_text_to_audio(str(save_text_to_audio(tmp_path / "model")))
    trainable = make_trainable(model, "lora")
    generator = torch.Generator().manual_seed(0)
    for parameter in trainable.parameters.values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    x, t = torch.randn(2, *model.latent_shape, generator=generator), torch.tensor([0.3, 0.8])
    condition = model.condition(["rain", "dog bark"], [1.0, 0.5])

    def numbers() -> list[torch.Tensor]:
        out = model.predict(x, t, condition)
        gradients = torch.autograd.grad(out.square().mean(), list(trainable.parameters.values()))
        with torch.no_grad(), trainable.reference():
            return [out.detach(), model.predict(x, t, condition), *gradients]

    as_it_was, names = numbers(), list(model.module.state_dict())
    compiled(model.module)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] < 2  # the sum that was tried
    torch.testing.assert_close(numbers(), as_it_was, atol=1e-5, rtol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2  # it did compile
    assert list(model.module.state_dict()) == names and not torch.equal(as_it_was[0], as_it_was[1])


@pytest.mark.slow
def test_a_compiled_ast_gives_the_same_numbers(tmp_path, compiled):
    model = load_ast(str(save_tiny_ast(tmp_path / "ast")), ["x", "y"], 56, False, seed=1).eval()
    features = torch.randn(3, 56, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        as_it_was = model(features).logits
        compiled(model)
        torch.testing.assert_close(model(features).logits, as_it_was, atol=1e-5, rtol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2
    model.save_pretrained(tmp_path / "saved")
    again = load_ast(str(tmp_path / "saved"), ["x", "y"], 56, False, seed=1)
    assert again.state_dict().keys() == model.state_dict().keys()


def test_without_a_compiler_it_is_refused(tmp_path):
    code = (
        "import torch; from synthio.cli import compile_network, run_main;"
        "run_main(lambda: compile_network(torch.nn.Linear(1, 1), 'cpu'))"
    )
    environment = {**os.environ, "CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "compiled")}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: --compile true: torch.compile does not work here (")


def test_compiled_work_is_not_done_again(tmp_path):
    plain = ["python", "ast/train.py", "--seed", "0"]
    assert command_key([*plain, "--compile", "true"], [], tmp_path) == command_key(plain, [], tmp_path)
