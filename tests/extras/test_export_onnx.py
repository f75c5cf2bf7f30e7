"""The ONNX file: the saved model's probabilities in ONNX Runtime, without torch."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pandas as pd
import pytest
import soundfile

from synthio.audio import read_audio
from synthio.classification.saved import load_classifier, saved_probabilities
from synthio.classification.windows import Span
from synthio.models.classifiers import FINE_TUNED
from tests.classification.listeners import LABELS, save_ast, save_head, save_world
from tests.classification.toy_clips import save_tones
from tests.scripts import ROOT, call_script, own_python
from tests.tiny_classifiers import save_loud_classifier
from tests.tiny_models import save_clap

SCRIPT, EXAMPLE = ROOT / "extras/export_onnx.py", ROOT / "extras/classify_onnx.py"


@pytest.fixture(scope="module")
def onnx_python():
    return own_python("onnx")


def call(python, *words):
    done = subprocess.run([str(python), *map(str, words)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=[False, True], ids=["single", "multi"])
def exported(request, onnx_python, tmp_path_factory):
    """(folder of the files, the saved classifier)."""
    folder = tmp_path_factory.mktemp("onnx")
    save_ast(folder, folder / "run", request.param)
    csv = save_tones(folder, "test", 6, 0)
    words = ("--model", folder / "run", "--output_file", folder / "c.onnx", "--int8_file", folder / "c8.onnx")
    call(onnx_python, SCRIPT, *words, "--test_csv", csv)
    return folder, load_classifier(folder / "run")


def test_onnx_runtime_says_what_the_saved_model_says(onnx_python, exported):
    folder, classifier = exported
    rng = np.random.default_rng(0)
    for seconds in (0.02, 0.3, 0.9, 2.5, 12.0):
        soundfile.write(folder / "x.wav", rng.uniform(-0.5, 0.5, round(16000 * seconds)), 16000)
        lines = call(onnx_python, EXAMPLE, folder / "c.onnx", folder / "x.wav").splitlines()
        audio = read_audio(folder / "x.wav", 16000)[0][0]
        (wanted,) = classifier.score(Span(0, {16000: audio}, [0], classifier.window))
        found = {label: float(chance) for chance, label in (line.split(" ", 1) for line in lines)}
        assert found == pytest.approx(dict(zip(LABELS, wanted, strict=True)), abs=1.5e-4)  # of 4 digits


def test_the_record_says_what_was_compared(exported):
    folder, classifier = exported
    record = json.loads((folder / "c.json").read_text())
    assert record["largest_difference"] <= 1e-4 < record["int8_difference"] < 0.2
    assert record["opset"] == 18 and record["labels"] == LABELS and record["sample_rate"] == 16000
    assert record["multi_label"] is classifier.multi_label
    scores = record["mAP" if classifier.multi_label else "accuracy"]
    assert scores.keys() == {"saved", "float32", "int8"} and scores["saved"] == pytest.approx(scores["float32"])
    assert set(record["bytes"]) == {"c.onnx", "c8.onnx"}


def test_what_follows_from_few_numbers_is_computed_when_a_file_is_loaded(onnx_python, exported):
    """The places of the samples in a matrix of sines, or in frames, were megabytes of a file."""
    folder, _ = exported
    count = (
        "import onnx, sys; print(*(i.ByteSize() for i in onnx.load(sys.argv[1]).graph.initializer if i.data_type == 7))"
    )
    for name in ("c.onnx", "c8.onnx"):
        sizes = [int(word) for word in call(onnx_python, "-c", count, folder / name).split()]
        assert sizes and max(sizes) <= 8 * 4096 + 100


def test_names_and_the_table_are_looked_at_first(tmp_path):
    words = ("--model", tmp_path, "--output_file", tmp_path / "c.onnx")
    for more, said in (
        (("--test_csv", tmp_path / "no.csv"), "no.csv: no such CSV file"),
        (("--int8_file", tmp_path / "c.onnx"), "--int8_file is --output_file; name another file"),
    ):
        done = call_script(SCRIPT, *words, *more)
        assert done.returncode == 2 and said in done.stderr


def test_a_label_that_the_classifier_has_not_is_told_before_the_export(onnx_python, exported, tmp_path):
    folder, _ = exported
    csv = tmp_path / "other.csv"
    csv.write_text(f"path,label\n{folder / 'x.wav'},nobody knows it\n")
    soundfile.write(folder / "x.wav", np.zeros(4410), 16000)
    words = ("--model", folder / "run", "--output_file", tmp_path / "c.onnx", "--test_csv", csv)
    done = subprocess.run(list(map(str, (onnx_python, SCRIPT, *words))), capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "row 1" in done.stderr and "nobody knows it" in done.stderr
    assert not (tmp_path / "c.onnx").exists()


def test_the_example_called_without_words_says_how(onnx_python):
    done = subprocess.run([str(onnx_python), str(EXAMPLE)], capture_output=True, text=True, check=False)
    assert done.returncode and "python classify_onnx.py classifier.onnx clip.wav" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_example_needs_no_torch_and_refuses_another_rate(onnx_python, exported):
    folder, _ = exported
    soundfile.write(folder / "x.wav", np.zeros((4410, 2)), 44100)
    words = [str(onnx_python), str(EXAMPLE), str(folder / "c.onnx"), str(folder / "x.wav")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode and "44100 Hz; resample it to 16000 Hz" in done.stderr
    text = EXAMPLE.read_text()
    assert len(text.splitlines()) <= 30 and "torch" not in text.replace("without torch", "") and "synthio" not in text


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rate"), [("fusion", 16000), ("tip_adapter", 16000), ("fusion", 48000)])
def test_a_head_is_exported_with_the_models_that_it_listens_through(onnx_python, tmp_path, name, rate):
    """They were moved since. At the higher rate CLAP is one with fusion, and AST hears the sound resampled."""
    (tmp_path / "world").mkdir()
    world = save_world(tmp_path / "world")
    save_clap(world / "clap", rate=rate, fusion=rate == 48000)
    save_head(world, tmp_path / "head", name, False)
    world.rename(tmp_path / "moved")
    models = {kind: str(tmp_path / "moved" / kind) for kind in ("ast", "clap")}
    places = [f"--{kind}_model={model}" for kind, model in models.items()]
    files = ("--output_file", tmp_path / "c.onnx", "--int8_file", tmp_path / "c8.onnx")
    csv = tmp_path / "moved/valid.csv"
    call(onnx_python, SCRIPT, "--model", tmp_path / "head", *files, *places, "--test_csv", csv)
    check_record(tmp_path, rate)
    soundfile.write(tmp_path / "x.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 7 * rate), rate)
    said = call(onnx_python, EXAMPLE, tmp_path / "c.onnx", tmp_path / "x.wav").splitlines()
    wanted, labels = saved_probabilities(
        tmp_path / "head/model", [str(tmp_path / "x.wav")], tmp_path / "cache", models=models
    )
    found = {label: float(chance) for chance, label in (line.split(" ", 1) for line in said)}
    assert found == pytest.approx(dict(zip(labels, wanted[0], strict=True)), abs=1.5e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FINE_TUNED)
def test_every_other_network_is_exported(onnx_python, tmp_path, kind):
    save_loud_classifier(tmp_path / "run/model", kind, LABELS)
    call(onnx_python, SCRIPT, "--model", tmp_path / "run", "--output_file", tmp_path / "c.onnx")
    check_record(tmp_path)


def check_record(folder, rate=16000):
    record = json.loads((folder / "c.json").read_text())
    assert record["largest_difference"] <= 1e-4 and record["labels"] == LABELS and record["sample_rate"] == rate
    assert not record.get("accuracy") or record["accuracy"]["saved"] == pytest.approx(record["accuracy"]["float32"])


def test_the_main_environment_is_told_what_to_call(tmp_path):
    pytest.importorskip("torch")
    try:
        pd.__version__, __import__("onnxruntime")
    except ImportError:
        done = call_script(SCRIPT, "--model", tmp_path, "--output_file", tmp_path / "c.onnx")
        assert done.returncode == 2 and "make_env.sh .envs/onnx extras/environments/onnx.txt" in done.stderr


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("pe_audio", "a 'pe_audio' hears, but is not fine-tuned"),
        ("bert", "a 'bert' is no audio classifier of transformers; it takes audio-spectrogram-transformer, data2vec"),
    ],
)
def test_another_network_is_refused_in_one_line(onnx_python, tmp_path, kind, reason):
    (tmp_path / "run/model").mkdir(parents=True)
    (tmp_path / "run/model/config.json").write_text(json.dumps({"model_type": kind}))
    for folder in ("run", "run/model"):
        words = (onnx_python, SCRIPT, "--model", tmp_path / folder, "--output_file", tmp_path / "c.onnx")
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
        assert done.returncode == 2 and reason in done.stderr and "Traceback" not in done.stderr
        assert not (tmp_path / "c.onnx").exists()
