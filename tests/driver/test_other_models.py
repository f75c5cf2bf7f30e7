"""Whole runs whose classifier is no AST and whose filter is no CLAP, of tiny models."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from transformers import pipeline

from synthio.audio import read_audio
from tests.driver.test_run import call, options, save_world
from tests.scripts import ROOT, call_script
from tests.tiny_classifiers import save_embedding_gemma, save_pe_audio, save_tiny_classifier


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = save_world(tmp_path_factory.mktemp("other models"))
    save_tiny_classifier(folder / "models/hubert", "hubert")
    save_pe_audio(folder / "models/pe")
    save_embedding_gemma(folder / "models/gemma")
    return folder


@pytest.mark.slow
def test_a_run_with_a_wave_network_and_pe_audio(world):
    """Trained twice, chosen, judged by the quality and used on a recording; the filter has probabilities."""
    models = {"ast_model": "models/hubert", "clap_model": "models/pe", "classifier": "ast", "ast_mixup": 0.2}
    kinds = {"threshold_kind": "rank", "classifier_weight": 0.3, "keep_percent": 50}
    shorter = {"dpo": "false", "attribution_clips": 0, "iterative": "false"}
    done = call(*options("waves", **models, **kinds, **shorter), cwd=world, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    work = world / "waves/tiny set"
    scores = json.loads((work / "classifier/synthio/scores.json").read_text())
    assert scores["head"] == "ast" and scores["network"] == "HubertForSequenceClassification"
    listen = pipeline("audio-classification", model=str(work / "classifier/synthio/model"), top_k=None)
    folder = work / "classifier/synthio"
    for row in pd.read_csv(folder / "predictions.csv", dtype=str, keep_default_na=False).to_dict("records"):
        found = {said["label"]: said["score"] for said in listen(read_audio(folder / row["path"], 16000)[0][0])}
        for label, chance in found.items():
            assert chance == pytest.approx(float(row[f"probability_{label}"]), abs=1e-4)
    record = json.loads((work / "round_0/kept.json").read_text())
    assert (record["logit_scale"], record["logit_bias"], record["similarity"]) == (2.0, -1.0, "product")
    quality = json.loads((work / "quality.json").read_text())
    assert "classifier" in quality["overall"]["agreement"]
    page = (work / "report.html").read_text(encoding="utf-8")
    for said in ("HuBERT, fine-tuned", "logistic regression, HuBERT + CLAP", "synthio: HuBERT"):
        assert said in done.stdout and said in page
    assert (
        "kernel distance of HuBERT embeddings" in page and "AST" not in done.stdout[done.stdout.index("Test scores") :]
    )
    heard = call_script(
        *(ROOT / "listen.py", "--model", folder, "--input", world / "data/audio test 0.wav"),
        *("--output", world / "events.csv", "--device", "cpu", "--threshold", "0"),
    )
    assert heard.returncode == 0 and len(pd.read_csv(world / "events.csv")), heard.stderr


@pytest.mark.slow
def test_a_run_on_a_frozen_tower(world):
    changes = {"ast_model": "models/gemma", "use_ast": "false", "augment": "false", "probe_embeddings": "ast"}
    done = call(*options("frozen", **changes), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    config = json.loads((world / "frozen/tiny set/classifier/gold_only/model/config.json").read_text())
    assert [part["kind"] for part in config["embeddings"]] == ["ast"]


def test_check_names_the_models_and_what_a_threshold_is(world):
    models = {"ast_model": "models/hubert", "clap_model": "models/pe", "clap_threshold": 0.85}
    done = call(*options("checked", **models), "--check", cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    for text in (
        f"ok       ast_model {world}/models/hubert",
        f"note     clap_threshold=0.85: of clap_model {world}/models/pe it is a probability",
    ):
        assert text in done.stdout
    refused = call(*options("checked", ast_model="models/pe", ast_spec_augment="true"), "--check", cwd=world)
    assert refused.returncode == 2
    assert "MISSING  ast_model" in refused.stdout and "'pe_audio' hears, but is not fine-tuned" in refused.stdout
    mixed = {"ast_model": "models/gemma", "use_ast": "false", "clap_model": "old.pt", "augment": "false"}
    (world / "old.pt").touch()
    clash = call(*options("checked", **mixed), "--check", cwd=world)
    assert clash.returncode == 2 and "loads in one process what no environment has together" in clash.stdout
