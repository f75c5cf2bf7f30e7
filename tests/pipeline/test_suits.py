"""Models that cannot do what a run asks of them are refused before anything runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from synthio.models.load import load_scorer
from synthio.pipeline.sizes import sizes_of
from synthio.pipeline.suits import generator_misfits, misfits, remarks
from tests.hub_server import Repo, hub_server
from tests.published_stable_audio_3 import save_published
from tests.scripts import ROOT
from tests.tiny_classifiers import save_pe_audio
from tests.tiny_models import save_clap, save_stable_audio_3, save_text_to_audio


def save_config(folder, **values):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(values))
    return str(folder)


def told(model, **variables):
    return list(misfits({"ast_model": model}, {"use_ast": "true", "ast_spec_augment": "false", **variables}))


def test_each_kind_is_taken_or_refused_with_its_mend(tmp_path):
    wave = save_config(tmp_path / "wave", model_type="wavlm")
    assert told("embedded") == told(wave) == told("model.pth") == []
    (text,) = told(wave, ast_spec_augment="true")
    assert text.startswith("ast_spec_augment=true masks AST's spectrogram") and text.endswith("'wavlm'; leave it out")
    assert told(wave, ast_spec_augment="true", use_ast="false") == []
    bert = save_config(tmp_path / "bert", model_type="bert")
    assert told(bert)[0].startswith(f"ast_model {bert}: a 'bert' is no audio classifier of transformers; it takes")
    frozen = save_config(tmp_path / "pe", model_type="pe_audio")
    assert told(frozen) == [f"ast_model {frozen}: a 'pe_audio' hears, but is not fine-tuned; set use_ast=false"]
    assert told(frozen, use_ast="false") == []
    own = save_config(tmp_path / "own", model_type="beats", auto_map={"AutoModel": "own.Model"})
    assert "needs code of its own (auto_map), which is never run" in told(own)[0]


def test_what_is_not_compiled_is_said(tmp_path):
    wave = save_config(tmp_path / "wave", model_type="wavlm")
    asked = {"compile": "true", "use_ast": "true"}
    assert list(remarks({"ast_model": wave}, asked)) == [
        f"compile=true: ast_model {wave} is not compiled, for its clips are of many lengths; the result is the same"
    ]
    for changes in ({"compile": "false"}, {"use_ast": "false"}):
        assert not list(remarks({"ast_model": wave}, asked | changes))
    assert not list(remarks({"ast_model": "embedded"}, asked))


def ask(*words, step="10\tclassify_gold_only\tast_model={}\t\t\tx.py\n", model, **environment):
    command = [sys.executable, "-m", "synthio.pipeline.suits", "ahead=classify_gold_only", *words]
    return subprocess.run(
        command,
        input=step.format(model),
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_hub_id_is_told_by_the_hub_and_its_cache_stays_empty(tmp_path):
    config = json.dumps({"model_type": "bert"}).encode()
    with hub_server({"me/bert": Repo({"config.json": config}), "me/empty": Repo({"x.txt": 1})}) as address:
        hub = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home")}
        done = ask("use_ast=true", model="me/bert@main", **hub)
        assert done.returncode == 2 and "ast_model me/bert@main: a 'bert' is no audio classifier" in done.stderr
        assert not list(tmp_path.rglob("config.json"))
        assert ask("use_ast=true", model="me/empty", **hub).returncode == 0  # its loader says what is wrong
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    assert ask("use_ast=true", model="me/bert", **offline).returncode == 0


@pytest.mark.parametrize("check", [True, False])
def test_a_run_is_refused_before_its_first_stage(tmp_path, check):
    model = save_config(tmp_path / "bert", model_type="bert")
    (tmp_path / "bert/model.safetensors").touch()
    words = ["sh", "run.sh", "--results_root", str(tmp_path / "out"), "--ast_model", model, "--augment", "false"]
    done = subprocess.run([*words, *(["--check"] if check else [])], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    where = done.stdout if check else done.stderr
    assert f"ast_model {model}: a 'bert' is no audio classifier of transformers" in where
    assert "stage 0" not in done.stdout


FILTER = {"clap_filter": "true", "threshold_kind": "absolute", "clap_threshold": "0.85", "filter_w_finetune": "false"}


def clap_told(model, **variables):
    return list(misfits({"clap_model": str(model)}, {**FILTER, **variables}))


def test_a_model_of_sound_and_text_is_taken_or_refused(tmp_path):
    assert clap_told("msclap:2023") == clap_told("embedded") == clap_told("weights.pt") == []
    glap = save_config(tmp_path / "glap", model_type="glap", auto_map={"AutoModel": "modeling_glap.GlapModel"})
    assert "needs code of its own (auto_map), which is never run" in clap_told(glap)[0]
    bert = save_config(tmp_path / "bert", model_type="bert")
    assert clap_told(bert) == [
        f"clap_model {bert}: a 'bert' does not compare sounds with texts; it takes clap, pe_audio, pe_audio_video"
    ]
    frames = save_config(tmp_path / "a-frame", model_type="pe_audio", architectures=["PeAudioFrameLevelModel"])
    assert "was trained for frames and has no vector of a clip" in clap_told(frames)[0]
    pe = save_config(tmp_path / "pe", model_type="pe_audio")
    assert clap_told(pe) == [] and clap_told(pe, filter_w_finetune="true")[0].endswith("a 'pe_audio'; leave it out")


def test_a_threshold_that_no_cosine_reaches_is_refused(tmp_path):
    """sigmoid(1.5) is .818; a probability has no such limit, and what it means is said."""
    clap, pe = save_clap(tmp_path / "clap"), save_pe_audio(tmp_path / "pe")
    state = load_file(clap / "model.safetensors")
    state["logit_scale_a"] = torch.tensor(1.5).log()
    save_file(state, clap / "model.safetensors", metadata={"format": "pt"})
    assert load_scorer(str(clap)).logit_scale == pytest.approx(1.5)
    assert clap_told(clap) == [
        f"clap_model {clap} says at most sigmoid(scale 1.5) = 0.818, so no clip reaches clap_threshold=0.85; take a "
        "lower one, or auto"
    ]
    for fitting in ({"clap_threshold": "0.81"}, {"clap_threshold": "auto"}, {"threshold_kind": "rank"}):
        assert clap_told(clap, **fitting) == []
    assert clap_told(pe, clap_threshold="0.999") == []
    (note,) = remarks({"clap_model": str(pe)}, FILTER)
    assert note.startswith("clap_threshold=0.85: of clap_model") and "it is a probability" in note
    assert not list(remarks({"clap_model": str(clap)}, FILTER))
    assert not list(remarks({"clap_model": str(pe)}, {**FILTER, "clap_threshold": "auto"}))


def test_what_a_generator_cannot_do_is_told_before_anything_runs(plan, tmp_path):
    def of(model, **changes):
        return list(generator_misfits(*plan(text_to_audio_model=model, **changes)))

    small = "stabilityai/stable-audio-3-small-sfx"
    distilled = [small, f"{small}@v1", save_stable_audio_3(tmp_path / "three", distilled=True)]
    distilled.append(save_published(tmp_path / "published"))
    for model in distilled:
        (text,) = of(model)
        assert (
            text
            == f"text_to_audio_model {model} is distilled, which an alignment would undo; set dpo=false, or "
            + ("take its -base")
        )
        assert of(model, dpo="false") == [] and len(of(f"embedded,{model}")) == 1
    assert of(f"{small}-base") == of("embedded") == of("owner/unknown", sampler="heun") == []
    v = save_text_to_audio(tmp_path / "v", "v")
    assert [sizes_of(str(one)).objective for one in (v, distilled[2])] == ["v", "rectified_flow"]
    (text,) = of(f"embedded,{v}", sampler="pingpong")
    assert text.startswith(f"sampler=pingpong is for rectified flows, and text_to_audio_model {v} is a v model; take")
    assert of(v, sampler="dpmpp_2m") == []
    assert of("embedded", distilled="true") == []
    (text,) = of(f"embedded,{v}", distilled="true")
    assert (
        text == f"distilled=true: text_to_audio_model {v} has no distilled weights beside its own; set distilled=auto"
    )
