"""`sh run.sh --check`: what is missing is found before anything runs, each with its mend."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path

import pytest

from synthio.pipeline import doctor
from synthio.pipeline.doctor import (
    Need,
    calls_line,
    check_disk,
    check_environments,
    check_gpu,
    check_memory,
    entry_tokens,
)
from tests.cpu_time import children_cpu_s
from tests.hub_server import Repo, hub_server
from tests.pipeline.toy import DIFFUSERS, GB, TRANSFORMERS
from tests.scripts import ROOT, call_script

RUN = ROOT / "run.sh"
SHELL = shutil.which("dash") or "sh"


def check(*words, **environment):
    """`sh run.sh --check ...` without a GPU, in an environment that is offline unless told otherwise."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "OPENAI_"))}
    known = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"} | environment
    command = [SHELL, str(RUN), "--check", *map(str, words)]
    return subprocess.run(command, env=clean | known, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def hub():
    """Address of a hub that has a free, a gated and a differently made model."""
    repos = {
        "stable/free": Repo(DIFFUSERS),
        "stable/gated": Repo(DIFFUSERS, gated=True, accepted=("accepted",)),
        "stable/tools": Repo({"model_config.json": 9, "model.ckpt": GB}),
        "stable/other": Repo({"weights.bin": GB}),
        "laion/clap": Repo(TRANSFORMERS),
    }
    with hub_server(repos) as address:
        yield address


def only(findings):
    (finding,) = findings
    return finding.level, finding.text


# ---- the whole


def test_the_demo_can_run_and_is_checked_quickly(tmp_path):
    before = children_cpu_s()
    done = check("--results_root", tmp_path)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "nothing is missing", done.stdout + done.stderr
    assert "ok       environment .venv\n" in done.stdout and "ok       demo set: will be made\n" in done.stdout
    assert re.search(r"^ok       time: about \d+ min", done.stdout, re.MULTILINE)
    memory = re.findall(r"^ok       memory of stage (\d), computed: 0\.\d GB .*; this machine has", done.stdout, re.M)
    assert memory == ["4", "6"]
    assert not list(tmp_path.iterdir())
    assert children_cpu_s() - before < 5


def test_offline_every_model_that_is_not_there_is_named(tmp_path):
    done = check("--results_root", tmp_path, "--profile", "paper", "--llm_input_price", 2.5, "--stage", 1)
    missing = re.findall(r"^MISSING  (\S+ \S+)", done.stdout, re.MULTILINE)
    assert done.returncode == 2 and missing == [
        "--gama_dir: no",
        "--gama_checkpoint: no",
        "text_to_audio_model sonalkum/synthio-stable-audio-open:",
        "text_to_audio_model google/flan-t5-large:",
        "clap_model laion/clap-htsat-unfused:",
        "ast_model MIT/ast-finetuned-audioset-10-10-0.4593:",
        "caption_writer openai:",
    ]
    assert done.stdout.endswith("7 things missing\n") and "profile paper sets " in done.stdout
    assert re.search(
        r"language model: about \d+ calls, \d+ tokens sent and \d+ received; .*costs about 0\.\d\d$", done.stdout, re.M
    )


def test_a_model_in_the_cache_is_enough_offline(tmp_path):
    snapshot = tmp_path / "hub/models--owner--clap/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs/main").write_text("abc")
    words = ["--results_root", tmp_path, "--clap_model", "owner/clap"]
    assert "clap_model owner/clap: not in the cache" in check(*words, HF_HOME=str(tmp_path)).stdout
    (snapshot / "model.safetensors").touch()
    done = check(*words, HF_HOME=str(tmp_path))
    assert "ok       clap_model owner/clap: in the cache\n" in done.stdout and done.returncode == 0


@pytest.mark.parametrize(
    ("model", "token", "level", "part"),
    [
        ("stable/free", "", "ok", "to download, 4.0 GB"),
        (
            "stable/gated",
            "",
            "MISSING",
            r"gated \(401\); accept its licence at http://127.0.0.1:\d+/stable/gated, put a",
        ),
        pytest.param(
            "stable/gated",
            "hf_other",
            "MISSING",
            r"your token has no access \(403\); accept the licence at http://",
            marks=pytest.mark.slow,
        ),
        pytest.param("stable/gated", "accepted", "ok", "to download, 4.0 GB", marks=pytest.mark.slow),
        pytest.param("stable/absent", "", "MISSING", "no such model, or a private one", marks=pytest.mark.slow),
        ("stable/tools", "", "ok", "to download, 1.0 GB"),
        pytest.param("stable/other", "", "MISSING", "not in diffusers' format", marks=pytest.mark.slow),
        pytest.param("no/such/id", "", "MISSING", "nor a hub id", marks=pytest.mark.slow),
    ],
)
def test_what_the_hub_says(tmp_path, hub, model, token, level, part):
    environment = {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
    if token:
        environment["HF_TOKEN"] = token
    words = ["--results_root", tmp_path, "--clap_model", "laion/clap", "--text_to_audio_model", model]
    done = check(*words, **environment)
    assert re.search(rf"^{level} +text_to_audio_model {model}: .*{part}", done.stdout, re.M), done.stdout + done.stderr
    assert "ok       clap_model laion/clap: to download, 1.0 GB\n" in done.stdout
    assert done.returncode == (2 if level == "MISSING" else 0)
    assert ("environment .envs/stable_audio" in done.stdout) == (model == "stable/tools")


def test_every_problem_of_the_csvs_is_told(tmp_path, make_wav, make_manifest):
    make_wav("a.wav", seed=1), make_wav("b.wav", seed=2), make_wav("c.wav", seed=3, level=0)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    train = make_manifest("train.csv", [("a.wav", "x"), ("b.wav", "y"), ("c.wav", "y"), ("broken.wav", "x")])
    valid = make_manifest("valid.csv", [("a.wav", "x"), ("b.wav", "z")])
    test = make_manifest("test.csv", [("nowhere.wav", "x")])
    words = ["--input_train_file", train, "--valid_csv", valid, "--test_csv", test, "--num_samples", 50]
    done = check("--results_root", tmp_path / "out", *words)
    missing = re.findall(r"^MISSING  (.*)", done.stdout, re.MULTILINE)
    parts = ["fewer than num_samples 50", "'z'", "broken.wav", "nowhere.wav"]
    parts += [f"valid.csv row {row} has the same content as" for row in (1, 2)]
    assert done.returncode == 2 and len(missing) == len(parts), done.stdout + done.stderr
    assert all(part in line for part, line in zip(parts, missing, strict=True)), missing
    assert re.search(r"^note     .*digital silence", done.stdout, re.MULTILINE)
    dropped = check("--results_root", tmp_path / "out", *words, "--on_bad_audio", "drop")
    assert re.search(r"^note     .*broken\.wav", dropped.stdout, re.MULTILINE)
    absent = check(
        "--results_root", tmp_path / "out", "--input_train_file", "no.csv", "--valid_csv", valid, "--test_csv", test
    )
    assert absent.returncode == 2 and "MISSING  --input_train_file: no such CSV file: no.csv" in absent.stdout


def test_clips_that_are_to_be_added_are_looked_at_too(tmp_path, make_wav, make_manifest):
    """A sound of the test set, a new label; what is in the training set as long as all of it is drawn."""
    csvs = {}
    for n, split in enumerate(("train", "valid", "test")):
        rows = [(make_wav(f"{split}{i}.wav", 0.3, seed=10 * n + i).name, "xy"[i]) for i in range(2)]
        csvs[split] = make_manifest(f"{split}.csv", rows)
    make_wav("new.wav", 0.3, seed=99)
    more = make_manifest("more.csv", [("test0.wav", "x"), ("new.wav", "z"), ("train1.wav", "y")])
    words = ["--input_train_file", csvs["train"], "--valid_csv", csvs["valid"], "--test_csv", csvs["test"]]
    done = check("--results_root", tmp_path / "out", *words, "--add_csv", more)
    missing = re.findall(r"^MISSING  (.*)", done.stdout, re.MULTILINE)
    parts = ["row 2: label 'z'", "more.csv row 1 has the same content as", "row 3: "]
    assert done.returncode == 2 and len(missing) == len(parts), done.stdout + done.stderr
    assert all(part in line for part, line in zip(parts, missing, strict=True)), missing
    drawn = check("--results_root", tmp_path / "out", *words, "--add_csv", more, "--num_samples", 2)
    assert "row 3: " not in drawn.stdout and "row 1 has the same content as" in drawn.stdout


def test_sounds_without_labels_are_looked_at_too(tmp_path):
    (tmp_path / "corpus.csv").write_text("path\n")
    done = check("--retrieval_csv", tmp_path / "corpus.csv", "--results_root", tmp_path)
    assert done.returncode == 2 and "MISSING  --retrieval_csv: " in done.stdout and "no sounds there" in done.stdout
    (tmp_path / "sounds").mkdir()
    done = check("--other_class", "true", "--other_csv", tmp_path / "sounds", "--results_root", tmp_path)
    assert done.returncode == 2 and "MISSING  --other_csv: " in done.stdout and "no sounds there" in done.stdout


def test_a_fresh_clone_is_checked_without_an_environment(tmp_path):
    for name in ("run.sh", "extras", "synthio"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    python = shutil.which("python3", path=os.defpath)
    if not python or subprocess.run([python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]).returncode:
        pytest.skip("no Python 3.11 besides the main environment")
    command = [SHELL, tmp_path / "run.sh", "--check", "--clap_model", "laion/clap"]
    environment = {"PATH": f"{Path(python).parent}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "note     environment .venv: will be made; 1-5 minutes, 1.7 GB" in done.stdout
    assert "clap_model laion/clap: " in done.stdout
    assert not (tmp_path / ".venv").exists()


# ---- its parts


def test_environments_that_will_be_made(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    shutil.copytree(ROOT / "extras", tmp_path / "extras", ignore=shutil.ignore_patterns("embedded"))
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").touch()
    findings, needs = check_environments({"own_envs": "stable_audio gama"})
    assert [finding.level for finding in findings] == ["ok", "note", "note"]
    assert [need.gb for need in needs] == [5.3, 1.4]
    (tmp_path / ".venv/.installing").touch()  # an install that was cut short
    assert [need.what for need in check_environments({})[1]] == ["environment main"]


def test_a_disk_that_is_too_small(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage(9 * GB, 3 * GB, 6 * GB))
    needs = [Need(tmp_path / "not/there", 2.0, "audio"), Need(tmp_path, 3.5, "a model")]
    assert only(check_disk(needs)) == ("ok", f"disk of {tmp_path}: 6 GB free, about 5.5 GB needed")
    level, text = only(check_disk([*needs, Need(tmp_path, 1.0, "b")]))
    assert level == "MISSING" and "(audio 2.0, a model 3.5, b 1.0); make room" in text


@pytest.mark.parametrize(
    ("free_mib", "level", "part"),
    [
        ("81000", "ok", "GPU 1: 10.5 GB free"),
        ("3000", "MISSING", "GPU 0: 3.1 GB free, stabilityai/stable-audio-open-1.0 "),
    ],
)
def test_gpu_memory(tmp_path, monkeypatch, free_mib, level, part):
    """A stand-in for nvidia-smi tells three GPUs, of which two are visible."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '0, GPU-a, {free_mib}\\n1, GPU-b, 10000\\n2, GPU-c, 5\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    known, two = {"text_to_audio_model": "stabilityai/stable-audio-open-1.0"}, {"machine": "GPU 0, GPU-b"}
    found = only(check_gpu(known.items(), two))
    assert found[0] == level and part in found[1] and "takes 5.3 GB or more" in found[1]
    assert "is not known" in only(check_gpu([("text_to_audio_model", "owner/model")], two))[1]
    assert only(check_gpu(known.items(), {"machine": "CPU, processes: 1"}))[1].startswith("no GPU is used")
    assert only(check_gpu([("clap_model", "embedded")], two))[0] == "ok"
    small = [
        ("text_to_audio_model", "stabilityai/stable-audio-3-small-sfx"),
        ("clap_model", "laion/clap-htsat-unfused"),
    ]
    level, text = only(check_gpu(small, {"machine": "CPU, processes: 1"}))
    assert level == "ok" and text.endswith("run there; see the time below")


@pytest.mark.parametrize(
    ("free_gb", "levels", "parts"),
    [
        (24.0, ("ok", "ok"), ("computed: 8.0 GB for 4 pairs of latents of 4.6 s (weights 4.3,", "3.5 GB for 16 clips")),
        (7.5, ("note", "ok"), ("GPU 0 has 7.5; dpo_gradient_checkpointing=true needs 7.0. Else", "GPU 0 has 7.5")),
        (
            6.5,
            ("note", "ok"),
            ("dpo_gradient_checkpointing=true dpo_batch_size=1 dpo_accumulation=8 dtype=bfloat16 needs ", "has 6.5"),
        ),
        (
            2.0,
            ("MISSING", "MISSING"),
            ("choose a smaller model or another GPU", "generate_batch_size=1 needs 3.5; choose"),
        ),
    ],
)
def test_memory_of_stages_4_and_6_and_what_to_change(plan, monkeypatch, free_gb, levels, parts):
    steps, variables = plan(text_to_audio_model="stabilityai/stable-audio-open-1.0")
    monkeypatch.setattr(doctor, "free_gpu_gb", lambda names: dict.fromkeys(names, free_gb))
    found = check_memory(steps, variables | {"machine": "GPU 0"}, 4.0)
    assert tuple(one.level for one in found) == levels
    assert [one.text.split(",")[0] for one in found] == ["memory of stage 4", "memory of stage 6"]
    assert all(part in one.text for part, one in zip(parts, found, strict=True)), found


def test_the_memory_of_each_generator_is_told(plan):
    several = "embedded,stabilityai/stable-audio-3-small-sfx-base"
    found = check_memory(*plan(text_to_audio_model=several), 4.0)
    assert [one.text.split(", computed")[0] for one in found] == [
        "memory of stage 4, text_to_audio",
        "memory of stage 4, stable-audio-3-small-sfx-base",
        "memory of stage 6, text_to_audio",
        "memory of stage 6, stable-audio-3-small-sfx-base",
    ]


def test_memory_that_cannot_be_computed_or_compared_is_said(plan, monkeypatch):
    steps, variables = plan(text_to_audio_model="owner/model")
    assert {one.text.partition(": ")[2] for one in check_memory(steps, variables, 4.0)} == {
        "the sizes of owner/model are not known here"
    }
    steps, variables = plan(text_to_audio_model="stabilityai/stable-audio-open-1.0", dpo="false")
    monkeypatch.setattr(doctor, "free_gpu_gb", lambda names: {})
    (finding,) = check_memory(steps, variables | {"machine": "GPU 0"}, None)
    assert finding.level == "note" and "16 clips of latents of 47.6 s" in finding.text
    assert finding.text.endswith("; what GPU 0 has free is not known")
    assert check_memory(*plan(augment="false"), 4.0) == []


def test_calls_and_costs_follow_the_prompts(plan):
    openai = {"caption_writer": "openai", "llm_model": "gpt", "reflect_rounds": 0}
    assert calls_line(*plan(**openai)).startswith("language model: about 200 calls, ")
    assert calls_line(*plan(**openai, plain_caption="true")).startswith("language model: about 100 calls, ")
    assert calls_line(*plan(**openai, stage=8, iterative="false")).startswith("language model: about 0 calls, ")
    again = calls_line(*plan(**openai | {"reflect_rounds": 2}))
    assert "about 269 calls" in again and again.endswith("; 69 calls for rewrites")
    sent = 100 * (entry_tokens("extract") + entry_tokens("mixcap"))
    assert f" {sent} tokens sent and 14000 received; 0 calls" in calls_line(*plan(**openai))
    priced = calls_line(*plan(**openai, llm_input_price=10, llm_output_price=20))
    assert priced.endswith(f"; costs about {(sent * 10 + 14000 * 20) / 1e6:.2f}")


def test_a_captioner_on_a_server_wants_a_key_or_an_address(plan, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    asked = {"captioner": "openai", "caption_model": "ears"}
    missing, calls = doctor.check_captioner(*plan(**asked))
    assert missing.level == "MISSING" and "put its key in OPENAI_API_KEY, or set caption_base_url" in missing.text
    assert (calls.level, calls.text) == ("ok", "calls of the captioner: about 100, each with a clip's sound")
    assert len(doctor.check_captioner(*plan(**asked, caption_base_url="http://localhost:8080/v1"))) == 1
    assert doctor.check_captioner(*plan()) == [] and doctor.check_captioner(*plan(**asked, stage=3)) == []


def test_the_token_estimate_is_that_of_the_writer():
    """Of usual values, within a third of what the writer itself counts before it asks."""
    from synthio.captions.chat_writer import ChatWriter, tokens_in
    from synthio.captions.requests import CaptionRequest, Extraction, WriterOptions

    class Silent(ChatWriter):
        def _complete(self, questions):
            return iter(())

    writer = Silent("silent", WriterOptions(cache=""))
    phrases = tuple(f"phrase of usual len{i:02d}" for i in range(60))
    mixcap = writer._write_question(CaptionRequest("dog bark", 2, 0, pool=Extraction(phrases, phrases)))
    assert entry_tokens("mixcap") == pytest.approx(tokens_in(mixcap.size()), rel=0.33)
    extract = writer._extract_question("dog bark", "a caption of a usual length " * 5)
    assert entry_tokens("extract") == pytest.approx(tokens_in(extract.size()), rel=0.33)


def test_every_figure_is_on_the_page_of_models():
    page = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    for model, gb in doctor.GPU_GB.items():
        assert re.search(rf"^\|.*`{model}`.*\b{re.escape(f'{gb:g}')} GB", page, re.MULTILINE), model


def test_a_wrong_word():
    done = call_script(ROOT / "synthio/pipeline/doctor.py", "nothing")
    assert done.returncode == 2 and "'nothing' is not name=value" in done.stderr
