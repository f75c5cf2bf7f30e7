"""docs/quickstart.ipynb, run as Jupyter runs it, on a demo set with hardly any training."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.scripts import ROOT, own_python

TINY = {
    "num_samples": 10,
    "num_iters": 1,
    "reflect_rounds": 0,
    "num_steps": 2,
    "dpo_losers": 1,
    "dpo_num_steps": 1,
    "dpo_batch_size": 2,
    "ast_num_steps": 1,
    "clap_threshold": 0,
    "report_clips": 2,
}


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    """It ends with two scores and clips to listen to, and has no outputs of its own in the repository."""
    notebook = ROOT / "docs/quickstart.ipynb"
    assert all(not cell.get("outputs") for cell in json.loads(notebook.read_text())["cells"])
    options = " ".join(f"--{name} {value}" for name, value in TINY.items())
    python = own_python("notebook")
    subprocess.run(
        [python, ROOT / "tests/programs/run_notebook.py", notebook, tmp_path / "out.ipynb", ROOT / "docs",
         f"results={tmp_path}", f"options={options}"],
        check=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}, timeout=900,
    )  # fmt: skip
    cells = json.loads((tmp_path / "out.ipynb").read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    text = "".join("".join(output.get("text", [])) for output in outputs)
    assert "real clips alone" in text and "real and synthetic clips" in text
    assert any("audio" in "".join(output.get("data", {}).get("text/html", [])) for output in outputs)
    assert (tmp_path / "demo/report.html").exists()
