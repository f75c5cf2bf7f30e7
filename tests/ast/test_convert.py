"""The script ast/convert.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import ASTFeatureExtractor, ASTForAudioClassification

from tests.models.plain_ast import CONVERT, our_logits, plain_ast
from tests.programs import original_ast
from tests.scripts import call_script


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    original_ast.save(plain_ast(), tmp_path / "plain.pth")
    return tmp_path / "plain.pth"


def test_convert_writes_a_folder_that_gives_the_same_logits(checkpoint):
    labels = [f"Sound, {i}" for i in range(original_ast.CLASSES)]
    csv = checkpoint.with_name("labels.csv")
    csv.write_text("index,display_name\n" + "".join(f'{i},"{label}"\n' for i, label in enumerate(labels)))
    folder = checkpoint.parent / "folder"
    command = ["--checkpoint", checkpoint, "--output_folder", folder, "--labels_csv", csv, "--mean", -6.5]
    done = call_script(CONVERT, *command)
    assert done.returncode == 0, done.stderr
    assert "2 layers of width 128, strides 10 and 10, 128 frames, 7 classes" in done.stdout
    model = ASTForAudioClassification.from_pretrained(folder)
    assert list(model.config.id2label.values()) == labels
    extractor = ASTFeatureExtractor.from_pretrained(folder)
    assert (extractor.mean, extractor.max_length) == (-6.5, 128)
    x = torch.randn(1, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x).logits, our_logits(str(checkpoint), x), atol=1e-6, rtol=0)
    csv.write_text("label\na\n")
    done = call_script(CONVERT, *command)
    assert done.returncode == 2 and "1 labels, but the checkpoint has 7 classes" in done.stderr
