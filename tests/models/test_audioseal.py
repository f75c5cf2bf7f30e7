"""AudioSeal's mark, by its own library on small random weights saved as the published ones are."""

from __future__ import annotations

import json
import os
import pickle
import subprocess

import numpy as np
import pytest
import soundfile
import torch

from synthio.cli import UserError
from synthio.models.audioseal import message_of, read_checkpoint
from synthio.publish.provenance import read_tags
from tests.report.test_page import save_run
from tests.scripts import ROOT, Done, own_python

SMALL, SCRIPT = ROOT / "tests/programs/small_audioseal.py", ROOT / "extras/export_dataset.py"


@pytest.fixture(scope="module")
def seal_python():
    return own_python("watermark")


def call(python, *words) -> Done:
    env = os.environ | {"PYTHONPATH": str(ROOT), "NO_TORCH_COMPILE": "1"}
    done = subprocess.run([str(python), *map(str, words)], capture_output=True, text=True, check=False, env=env)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def small(seal_python, tmp_path_factory):
    """generator.pth and detector.pth, and both without settings."""
    folder = tmp_path_factory.mktemp("seal")
    assert call(seal_python, SMALL, folder).returncode == 0
    return folder


def test_a_message_is_16_bits_of_the_run():
    assert len(message_of("mine")) == 16 and set(message_of("mine")) <= {0, 1}
    assert message_of("mine") == message_of("mine") != message_of("yours")


def test_a_checkpoint_is_tensors_and_settings_and_runs_nothing(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"model": Evil()}))
    with pytest.raises(UserError, match="cannot be read as tensors and plain settings"):
        read_checkpoint(tmp_path / "evil.pth")
    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="take none from strangers"):
        read_checkpoint(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(UserError, match=r"no such checkpoint; get generator_base\.pth"):
        read_checkpoint(tmp_path / "none.pth")
    torch.save({"best_state": {"model": {"a": torch.ones(2)}}, "xp.cfg": {"nbits": 16}}, tmp_path / "a.pth")
    state, said = read_checkpoint(tmp_path / "a.pth")
    assert torch.equal(state["a"], torch.ones(2)) and said == {"nbits": 16}


def test_without_the_library_its_environment_is_named(tmp_path, run_script):
    torch.save({"model": {}}, tmp_path / "g.pth")
    words = "from synthio.models.audioseal import load; load('generator', __import__('sys').argv[1])"
    done = run_script("-c", words, tmp_path / "g.pth")
    assert done.returncode and "extras/environments/watermark.txt` makes an environment that has it" in done.stderr


@pytest.mark.slow
def test_the_mark_is_what_the_library_adds_at_16_khz_and_any_rate_keeps_its_length(seal_python, small, tmp_path):
    program = """
import sys, numpy as np, torch
from audioseal import AudioSeal
from synthio.models.audioseal import Detector, Seal, message_of
folder, x = sys.argv[1], (0.1 * np.random.default_rng(0).normal(size=(1, 16000))).astype(np.float32)
seal, library = Seal(f"{folder}/generator.pth", message_of("mine")), AudioSeal.load_generator(f"{folder}/generator.pth")
with torch.inference_mode():
    wanted = library(torch.from_numpy(x[None]), 16000, torch.tensor([message_of("mine")]))[0].numpy()
assert np.abs(wanted - x).max() > 1e-4
assert np.allclose(seal.mark(x, 16000), np.clip(wanted, -1, 1), atol=1e-6)
for rate, samples, channels in ((44100, 30001, 2), (8000, 50, 1), (16000, 16001, 1)):
    y = 0.1 * np.ones((channels, samples), np.float32)
    z = seal.mark(y, rate)
    assert z.shape == y.shape and np.isfinite(z).all() and not np.array_equal(y, z)
library = AudioSeal.load_detector(f"{folder}/detector.pth")
with torch.inference_mode():
    share = float(library.detect_watermark(torch.from_numpy(x[None]), 16000)[0])
assert Detector(f"{folder}/detector.pth").hears(x, 16000) == (share > 0.5)
"""
    done = call(seal_python, "-c", program, small)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_copies_are_marked_and_what_is_trained_on_is_not(seal_python, small, tmp_path):
    work = save_run(tmp_path / "w", "hub/clap", rounds=1)
    before = {path: path.read_bytes() for path in work.parent.rglob("*.wav")}
    words = ["--input_csv", work / "train_8_synthetic.csv", "--work", work, "--with_gold", "true"]
    done = call(seal_python, SCRIPT, *words, "--output_folder", tmp_path / "plain")
    assert done.returncode == 0, done.stderr
    marks = ["--watermark", small / "generator.pth", "--detector", small / "detector.pth"]
    done = call(seal_python, SCRIPT, *words, "--output_folder", tmp_path / "out", *marks)
    assert done.returncode == 0 and "AudioSeal's detector hears its mark in " in done.stderr, done.stderr
    assert {path: path.read_bytes() for path in before} == before
    rows = [json.loads(line) for line in (tmp_path / "out/metadata.jsonl").read_text().splitlines()]
    for row in rows:
        plain, _ = soundfile.read(tmp_path / "plain" / row["file_name"])
        marked, _ = soundfile.read(tmp_path / "out" / row["file_name"])
        assert len(plain) == len(marked) and np.array_equal(plain, marked) == (not row["synthetic"])
        assert row["watermark"] == ("AudioSeal" if row["synthetic"] else "")
        if row["synthetic"]:
            assert "Watermarked by AudioSeal." in read_tags(tmp_path / "out" / row["file_name"])["comment"]
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["watermark"]["message"] == message_of("w") and 0 <= record["watermark"]["heard"] <= 6
    assert "It also carries AudioSeal's inaudible watermark" in (tmp_path / "out/README.md").read_text()
    bad = [SCRIPT, *words, "--output_folder", tmp_path / "bad"]
    refused = call(seal_python, *bad, "--watermark", small / "generator.bare.pth")
    assert refused.returncode == 2 and "is no generator of AudioSeal" in refused.stderr  # settings of full size
    alone = call(seal_python, *bad, "--detector", small / "detector.pth")
    assert alone.returncode == 2 and "--detector goes with --watermark" in alone.stderr
