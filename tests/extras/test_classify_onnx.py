"""The example is run as a user does, in tests/extras/test_export_onnx.py; here what it is written for."""

from __future__ import annotations

import ast

from tests.scripts import ROOT


def test_it_imports_nothing_but_what_a_small_device_has():
    tree = ast.parse((ROOT / "extras/classify_onnx.py").read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert names == {"json", "sys", "onnxruntime", "soundfile"}
    assert not any(isinstance(node, ast.ImportFrom) for node in ast.walk(tree))
