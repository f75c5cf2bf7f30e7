"""Checkpoints of the AST repository: the same logits in transformers, other lengths, and what is refused."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from synthio.cli import UserError
from synthio.models import ast_checkpoint, ast_model
from tests.models.plain_ast import CONVERT, PlainDeit, our_logits, plain_ast
from tests.programs import original_ast
from tests.scripts import call_script, own_python


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    original_ast.save(plain_ast(), tmp_path / "plain.pth")
    return tmp_path / "plain.pth"


# The strides are those of the published checkpoints; 128 and 512 frames are recipes, 200 frames is none.
@pytest.mark.parametrize(("stride", "frames"), [(10, 128), (12, 128), (16, 512), (10, 200)])
@pytest.mark.parametrize("length", ["same", "shorter", "longer"])
def test_logits_are_those_of_a_plain_reference(tmp_path, stride, frames, length):
    model = plain_ast(stride, frames)
    original_ast.save(model, tmp_path / "plain.pth")
    lengths = {length: {"same": frames, "shorter": 3 * frames // 4, "longer": 2 * frames}[length]}
    expected = original_ast.logits_of(model, lengths)
    found = our_logits(str(tmp_path / "plain.pth"), expected[f"input_{length}"])
    torch.testing.assert_close(found, expected[f"logits_{length}"], atol=2e-5, rtol=0)
    assert float(found.std()) > 0.1


@pytest.mark.slow
def test_logits_are_those_of_timm(tmp_path):
    python = own_python("ast")
    environment = {**os.environ, "PYTHONPATH": ""}
    subprocess.run([python, original_ast.__file__, tmp_path], check=True, env=environment)
    expected = load_file(tmp_path / "io.safetensors")
    for length in original_ast.LENGTHS:
        found = our_logits(str(tmp_path / "checkpoint.pth"), expected[f"input_{length}"])
        torch.testing.assert_close(found, expected[f"logits_{length}"], atol=1e-4, rtol=0)
        assert float(found.std()) > 0.1


@pytest.mark.parametrize(("name", "width"), [("tiny224", 192), ("small224", 384), ("base384", 768)])
def test_sizes_come_from_the_shapes(name, width):
    with torch.device("meta"):
        model = original_ast.OriginalAst(PlainDeit(width, depth=12), 10, 1024, 527)
    state = {key: value for key, value in model.state_dict().items() if not key.startswith(ast_checkpoint.UNUSED)}
    config = ast_checkpoint._read_config(state, name, 0, 0)
    shape = (config.hidden_size, config.num_attention_heads, config.intermediate_size, config.num_hidden_layers)
    assert shape == (width, width // 64, 4 * width, 12)
    assert (config.frequency_stride, config.time_stride, config.max_length) == (10, 10, 1024)
    assert (config.patch_size, config.num_mel_bins, config.num_labels) == (16, 128, 527)


@pytest.mark.parametrize("stride", ast_checkpoint.STRIDES)
@pytest.mark.parametrize("frames", ast_checkpoint.RECIPE_FRAMES)
def test_every_published_stride_and_length_is_found(stride, frames):
    rows, columns = original_ast.grid(frames, stride)
    strides = ast_checkpoint._find_strides(rows * columns, 16, 0, 0, "x.pth")
    assert strides == (stride, stride)
    assert ast_checkpoint._input_frames(rows * columns, 16, *strides) == frames


def test_strides_that_shapes_cannot_tell_must_be_given(tmp_path):
    rows, columns = original_ast.grid(466, 10)  # 12 x 46 = 8 x 69
    with pytest.raises(UserError, match=r"552 patches fit all of \(10, 10\), \(16, 16\).*ast/convert\.py"):
        ast_checkpoint._find_strides(rows * columns, 16, 0, 0, "x.pth")
    assert ast_checkpoint._find_strides(rows * columns, 16, 16, 0, "x.pth") == (16, 16)
    with pytest.raises(UserError, match=r"13 patches fit none of \(10, 10\)"):
        ast_checkpoint._find_strides(13, 16, 0, 0, "x.pth")


def test_a_checkpoint_gets_a_new_head_and_length(checkpoint):
    model = ast_model.load_ast(str(checkpoint), ["x", "y"], 96, False, seed=1)
    assert model(torch.zeros(2, 96, 128)).logits.shape == (2, 2)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    first = model.audio_spectrogram_transformer.layers[0].mlp.fc1.weight
    assert torch.equal(first, torch.load(checkpoint, weights_only=True)["module.v.blocks.0.mlp.fc1.weight"])


def test_names_without_dataparallel(checkpoint):
    state = {key.removeprefix("module."): v for key, v in torch.load(checkpoint, weights_only=True).items()}
    torch.save(state, checkpoint.with_name("bare.pth"))
    x = torch.randn(1, 128, 128, generator=torch.Generator().manual_seed(0))
    assert torch.equal(our_logits(str(checkpoint), x), our_logits(str(checkpoint.with_name("bare.pth")), x))


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("module.v.extra.weight", torch.zeros(3), r"the key 'v\.extra\.weight' \(\[3\]\) is no part of AST"),
        ("module.v.blocks.0.ls1.gamma", torch.zeros(3), r"'v\.blocks\.0\.ls1\.gamma'"),
        ("module.v.blocks.1.mlp.fc2.weight", torch.zeros(3, 4), r"layers\.1\.mlp\.fc2\.weight .* \[3, 4\], should be"),
        ("module.v.blocks.1.mlp.fc2.weight", None, r"lacks .*layers\.1\.mlp\.fc2\.weight"),
        ("module.v.pos_embed", None, "has no v.pos_embed, so it is no checkpoint of the AST repository"),
        ("module.v.cls_token", torch.zeros(1, 1, 100), "width 100 is no whole number of attention heads"),
        ("epoch", 3, "not a state dict"),
    ],
)
def test_every_key_is_accounted_for(checkpoint, key, value, reason):
    state = torch.load(checkpoint, weights_only=True) | {key: value}
    torch.save({k: v for k, v in state.items() if v is not None}, checkpoint)
    with pytest.raises(UserError, match=reason):
        ast_checkpoint.read_ast_checkpoint(checkpoint)


def test_files_that_are_no_checkpoints(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        ast_model.load_ast_config(str(tmp_path / "absent.pth"))
    torch.save(plain_ast(), tmp_path / "pickled.pth")
    with pytest.raises(UserError, match=r"not a checkpoint of plain tensors .*model\.state_dict\(\) alone"):
        ast_model.load_ast_config(str(tmp_path / "pickled.pth"))
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(UserError, match="not a checkpoint of plain tensors"):
        ast_model.load_ast_config(str(tmp_path / "text.pth"))


def test_weights_that_do_not_fit_the_config_of_their_folder(checkpoint):
    done = call_script(CONVERT, "--checkpoint", checkpoint, "--output_folder", checkpoint.parent / "folder")
    assert done.returncode == 0, done.stderr
    config = checkpoint.parent / "folder/config.json"
    config.write_text(config.read_text().replace('"max_length": 128', '"max_length": 300'))
    with pytest.raises(UserError, match=r"another shape: .*position_embeddings \["):
        ast_model.load_pretrained_ast(str(config.parent))
