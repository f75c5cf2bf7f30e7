"""The real run.sh, as people call it, on a tiny set with tiny models; and the stamps it decides by."""

from __future__ import annotations

import base64
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from synthio.captions.composer import EVENTS
from synthio.classification.heads import TITLES
from synthio.files import fingerprint, read_json
from synthio.pipeline import variables
from tests.chat_server import ChatServer
from tests.classification.toy_clips import save_tiny_ast
from tests.cpu_time import children_cpu_s
from tests.published_stable_audio_3 import save_published
from tests.rows import rows_of
from tests.running import processes_of, save_program, wait_until
from tests.scripts import ROOT, copy_driver
from tests.tiny_audio_llms import save_qwen2_audio
from tests.tiny_models import save_clap, save_text_to_audio

RUN = ROOT / "run.sh"
SHELL = shutil.which("dash") or "sh"
LABELS = ["dog_bark", "Hund, laut", "001"]


def call(*args, cwd=None, timeout=600, driver=RUN, **environment):
    """`sh run.sh ...`, with sh being dash where there is one."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", **environment}
    environment = {name: value for name, value in environment.items() if value is not None}
    command = [SHELL, str(driver), *map(str, args)]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def save_tones(folder: Path, split: str, clips: int) -> None:
    """<split>.csv of noisy tones, 0.5 to 1 s, one pitch a label."""
    rng = np.random.default_rng(list(split.encode()))
    rows = []
    for i in range(clips):
        time_s = np.arange(int(16000 * (0.5 + 0.04 * i))) / 16000
        tone = 0.2 * np.sin(2 * np.pi * (300 + 700 * (i % 3)) * time_s) + 0.05 * rng.normal(size=len(time_s))
        soundfile.write(folder / f"audio {split} {i}.wav", tone, 16000)
        rows.append([f"audio {split} {i}.wav", LABELS[i % 3]])
    with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["path", "label"], *rows])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a space in its name that holds data and tiny models; runs are started from it."""
    return save_world(tmp_path_factory.mktemp("a world"))


def save_world(folder: Path) -> Path:
    """What `options` names."""
    (folder / "data").mkdir()
    for split, clips in {"train": 9, "valid": 6, "test": 6}.items():
        save_tones(folder / "data", split, clips)
    save_text_to_audio(folder / "models/t2a")
    save_clap(folder / "models/clap")
    save_tiny_ast(folder / "models/ast")
    return folder


def options(root, **changes):
    """Options of a tiny run with two shards; all paths relative to the world."""
    values = {
        "results_root": root,
        "dataset_name": "tiny set",
        "input_train_file": "data/train.csv",
        "valid_csv": "./data/valid.csv",
        "test_csv": "data/test.csv",
        "num_samples": 6,
        "text_to_audio_model": "models/t2a",
        "clap_model": "models/clap",
        "ast_model": "models/ast",
        "generate_batch_size": 2,
        "num_steps": 2,
        "dpo_losers": 1,
        "dpo_num_steps": 2,
        "dpo_batch_size": 2,
        "ast_num_steps": 3,
        "ast_batch_size": 4,
        "clap_threshold": 0.802,
        "reflect_rounds": 1,
        "cpu_shards": 2,
        "cpu_threads": 1,
    } | changes
    return [word for name, value in values.items() for word in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def finished(world):
    """(results root, what was printed) of an unbroken run with two shards."""
    done = call(*options("unbroken run"), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    return world / "unbroken run", done.stdout


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """run.sh in a clone without an environment: a dry run shows the steps, and asks no stamps, which takes seconds."""
    run = copy_driver(tmp_path_factory.mktemp("bare") / "clone")
    (run.parent / "synthio").symlink_to(ROOT / "synthio")
    return run


@pytest.fixture
def copy(world, finished, tmp_path):
    """A copy of the finished results, under another name; it must be as good as the original."""
    root = world / f"copy of {tmp_path.name}"
    shutil.copytree(finished[0], root)
    yield root
    shutil.rmtree(root)


@pytest.fixture
def before_generation(copy):
    """The copy as it was before stage 6."""
    shutil.rmtree(copy / "tiny set_synthetic/round_0")
    for folder in ("round_1", "shards/generate", "classifier"):
        shutil.rmtree(copy / "tiny set" / folder)
    for name in ("generated", "kept", "rejected"):
        (copy / f"tiny set/round_0/{name}.csv").unlink()
    return copy


def stage_answers(text: str) -> dict[str, str]:
    """What the driver said of each stage: {'0 check': 'up to date: ...', ...}."""
    return dict(re.findall(r"^\[[\d:]+\] stage ([^:]+): .*\n((?: {4}\S+ .*\n)*)", text, re.MULTILINE))


def unpacked(page: Path) -> str:
    """The pictures of a page as text, one after the other."""
    found = re.findall(r"data:image/svg\+xml;base64,([\w+/=]+)", page.read_text(encoding="utf-8"))
    return "".join(base64.b64decode(part).decode() for part in found)


def sounds(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.wav")}


def same_generation(root: Path, finished) -> None:
    """The generated clips and their CSV are, byte for byte, those of the unbroken run."""
    generated = "tiny set/round_0/generated.csv"
    assert (root / generated).read_bytes() == (finished[0] / generated).read_bytes()
    folder = "tiny set_synthetic/round_0"
    assert sounds(root / folder) == sounds(finished[0] / folder)
    assert not list((root / folder).glob(".*"))


def start(world, *args):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    heard = lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)  # noqa: E731 # under nohup bash could not trap it
    return subprocess.Popen([SHELL, str(RUN), *map(str, args)], cwd=world, env=environment, preexec_fn=heard, **quiet)


needs_proc = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks at processes in /proc")


needs_setpriv = pytest.mark.skipif(not shutil.which("setpriv"), reason="children outlive kill -9 without setpriv")


# ---- a whole run


def test_the_outputs_of_a_run(finished):
    root, printed = finished
    work, audio = root / "tiny set", root / "tiny set_synthetic"
    assert len(rows_of(work / "train_6.csv")) == 6
    generated = rows_of(work / "round_0/generated.csv")
    kept, rejected = rows_of(work / "round_0/kept.csv"), rows_of(work / "round_0/rejected.csv")
    assert len(generated) == 12 == len(kept) + len(rejected)
    assert kept and rejected, "the threshold of this test must part the clips"
    again = rows_of(work / "round_1/generated.csv")
    assert len(again) == len(rejected)
    merged = rows_of(work / "train_6_synthetic.csv")
    kept_again = rows_of(work / "round_1/kept.csv")
    assert len(merged) == 6 + len(kept) + len(kept_again)
    assert all((work / row["path"]).is_file() for row in merged)
    assert {row["label"] for row in merged} == set(LABELS)
    assert len(sounds(work / "dataset/audio")) == len(kept) + len(kept_again)
    assert "| text-to-audio | t2a | not known here |" in (work / "dataset/README.md").read_text(encoding="utf-8")
    assert len(sounds(audio / "round_0")) == 12 and len(sounds(audio / "dpo_losers")) == 6
    scores = json.loads((work / "scores.json").read_text())
    assert [method["name"] for method in scores["methods"]] == ["gold-only", "synthio"]
    steps = [read_json(work / f"classifier/{name}_ast/scores.json")["num_steps"] for name in ("gold_only", "synthio")]
    assert steps == [3, 3]
    check_classifiers(work)
    stages = [row["stage"] for row in rows_of(work / "timings.csv")]
    assert stages[0] == "0 check" and "6 generate" in stages
    trained = [f"10 {step} gold only" for step in ("classify", "heads", "choose")]
    assert stages[-7:] == [*trained, "10 quality", *(stage.replace("gold only", "synthio") for stage in trained)]
    assert printed.startswith("tiny set: stages 0 to 10\n    machine  CPU, processes: 2, threads of each: 1\n")
    assert "Test scores in percent" in printed
    assert re.search(r"^Every method, \d+ test clips; 1 cell", printed, re.MULTILINE)
    assert "Best without synthetic clips, by the validation clips: " in printed
    assert re.search(
        r"^Synthetic clips\nKAD to validation clips -?\d.*\nlabel heard by a classifier", printed, re.MULTILINE
    )
    assert json.loads((work / "quality.json").read_text())["overall"]["clips"]["gold"] == 6
    assert re.search(r"^report .*tiny set/report\.html \(\d\.\d MB", printed, re.MULTILINE)
    assert "<audio" in (work / "report.html").read_text(encoding="utf-8")
    assert "12 rows in, 12 out" in stage_answers(printed)["6 generate"]
    assert "dropped (see kept.dropped.csv)" in stage_answers(printed)["7 filter"]
    assert (work / "logs/generate.1.log").is_file() and (work / "logs/generate.2.log").is_file()


def check_classifiers(work: Path) -> None:
    """Every one is there, one of them is *the* classifier, and the run's scores tell of all."""
    scores = read_json(work / "scores.json")
    for name, summary in zip(("gold_only", "synthio"), scores["methods"], strict=True):
        heads = {path.name for path in (work / f"classifier/{name}_heads").iterdir() if path.is_dir()}
        assert heads == set(TITLES) - {
            "ast",
            "own_names",
            "probe_names",
        }  # this AST has no head whose classes have names
        chosen, folder = read_json(work / f"classifier/{name}/scores.json"), work / "classifier" / name
        assert chosen["head"] == chosen["choice"]["chosen"] == summary["head"] and chosen["choice"]["asked"] == "auto"
        assert [row["name"] for row in chosen["choice"]["compared"]] == ["fusion", "probe", "ast"]
        source = folder.with_name(f"{name}_ast")
        if chosen["head"] != "ast":
            source = folder.with_name(f"{name}_heads") / chosen["head"]
        assert (folder / "model/model.safetensors").samefile(source / "model/model.safetensors")
        files = {"model", "predictions.csv", "valid_predictions.csv", "scores.json"}
        assert files <= {path.name for path in folder.iterdir()}
        predicted = {(folder / row["path"]).resolve() for row in rows_of(folder / "predictions.csv")}
        assert len(predicted) == 6 and all(path.is_file() for path in predicted)
    methods = {row["method"]: row for row in scores["trained"]}
    assert set(methods) == {"ast", *heads} and all((work / row["file"]).is_file() for row in methods.values())
    assert {name for name, row in methods.items() if "with" not in row} == {"zero_shot"}
    assert scores["verdict"]["baseline"] in ("fusion", "probe", "ast") and "interval_95" in scores["verdict"]


def test_a_second_call_does_nothing(world, copy, finished):
    ends = [copy / "tiny set" / name for name in ("report.html", "scores.json", "scores.txt")]
    made = [(path.read_bytes(), path.stat().st_mtime_ns) for path in ends]
    before = children_cpu_s()
    done = call(*options(copy), cwd=world)
    assert done.returncode == 0, done.stderr
    answers = stage_answers(done.stdout)
    assert len(answers) == 23 and all("up to date" in answer for answer in answers.values()), answers
    assert "running" not in done.stdout and "Test scores in percent" in done.stdout
    assert re.search(r"\n    time     about \d+ (s|min) if nothing is up to date \(from the last run\)\n", done.stdout)
    assert children_cpu_s() - before < 4
    assert made == [(path.read_bytes(), path.stat().st_mtime_ns) for path in ends], "made again"
    assert done.stdout.endswith(finished[1].partition("Test scores in percent")[2].replace("unbroken run", copy.name))
    ends[0].unlink()  # the page: scores and seconds stay as they are
    done = call(*options(copy), cwd=world)
    assert done.returncode == 0, done.stderr
    assert ends[0].is_file() and [made[1][0], made[2][0]] == [path.read_bytes() for path in ends[1:]]


def test_a_changed_threshold_leaves_the_generation_alone(world, copy):
    before = {p: p.stat().st_mtime_ns for p in (copy / "tiny set_synthetic").rglob("*.wav")}
    done = call(*options(copy, clap_threshold=0, stop_stage=9), cwd=world)
    assert done.returncode == 0, done.stderr
    answers = stage_answers(done.stdout)
    rerun = {name for name, answer in answers.items() if "running" in answer}
    assert rerun == {"7 filter", "9 merge", "9 dataset"}
    assert "changed: --threshold 0" in answers["7 filter"]
    assert "round 0: 12 of 12 kept; quota reached in 3 of 3 classes" in done.stdout
    assert before == {p: p.stat().st_mtime_ns for p in (copy / "tiny set_synthetic").rglob("*.wav")}
    assert len(rows_of(copy / "tiny set/train_6_synthetic.csv")) == 6 + 12


def test_a_lost_clip_is_made_again_with_the_same_bytes(world, copy, finished):
    next((copy / "tiny set_synthetic/round_0").glob("*.wav")).unlink()
    done = call(*options(copy, stop_stage=9), cwd=world)
    assert done.returncode == 0, done.stderr
    assert {n for n, a in stage_answers(done.stdout).items() if "running" in a} == {"6 generate"}
    same_generation(copy, finished)


def test_the_result_does_not_depend_on_the_number_of_shards(world, before_generation, finished):
    done = call(*options(before_generation, cpu_shards=1, stop_stage=6), cwd=world)
    assert done.returncode == 0, done.stderr
    same_generation(before_generation, finished)


ADDED = ("add", "merge added", "caption added", "captions added", "generate added", "filter added")
JOINED = ("merge", "dataset", "quality")
LEARNT = [f"{part} {name}" for part in ("classify", "heads", "choose") for name in ("gold only", "synthio")]


@pytest.mark.slow
@needs_proc
@needs_setpriv
def test_clips_are_added_to_a_finished_run(world, copy, finished, tmp_path):
    """Only what depends on them is done; killed in between, it goes on; a second call does nothing."""
    if not (world / "data/more.csv").exists():
        save_tones(world / "data", "more", 3)
    more, work, clips = ["--add_csv", "data/more.csv"], copy / "tiny set", copy / "tiny set_synthetic"
    before = {path: path.read_bytes() for path in clips.rglob("*.wav")}
    kept = {name: (work / name).read_bytes() for name in ("checked/train.csv", "checked/valid.csv", "checked/test.csv")}
    process = start(world, *options(copy), *more)
    wait_until(lambda: processes_of(copy, "tiny set_synthetic/added/round_0"), "the generation of what is added")
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not processes_of(copy), "the end of the generation", 10)
    done = call(*options(copy), *more, cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    answers = stage_answers(done.stdout)
    names = {name.partition(" ")[2]: "running" in answer for name, answer in answers.items()}
    again = {f"{name} 1 added" for name in ("rewrite", "generate", "filter")}
    # the first call had done the others of ADDED
    assert {name for name, ran in names.items() if ran} - again == {"generate added", "filter added", *JOINED, *LEARNT}
    assert set(ADDED) <= set(names) and len(answers) >= 23 + len(ADDED)
    assert {path: path.read_bytes() for path in before} == before
    assert {name: (work / name).read_bytes() for name in kept} == kept
    rows = rows_of(work / "train_6_added_synthetic.csv")
    gold = [row for row in rows if not row["source_path"]]
    assert len(gold) == 9 and [row["path"] for row in gold[:6]] == [
        row["path"] for row in rows_of(work / "train_6.csv")
    ]
    new = {row["sha256"] for row in gold[6:]}
    assert any(row["source_sha256"] in new for row in rows if row["source_path"]) and not new & {
        row["sha256"] for name in kept for row in rows_of(work / name)
    }
    scores = read_json(work / "scores.json")
    assert [method["train"]["gold"] for method in scores["methods"]] == [9, 9]
    page = (work / "report.html").read_text(encoding="utf-8")
    assert "added 0" in page and "is of an earlier run" not in page
    again = call(*options(copy), *more, cwd=world)
    assert again.returncode == 0 and "running" not in again.stdout
    taken = call(*options(copy), "--add_csv", "data/test.csv", cwd=world)
    assert taken.returncode != 0 and "data/test.csv row 1 has the same content as" in taken.stderr
    told = call(*options(copy), "--add_csv", "data/test.csv", "--check", cwd=world)
    assert told.returncode == 2 and "data/test.csv row 1 has the same content as" in told.stdout + told.stderr


# ---- what breaks


def test_a_shard_that_fails(world, before_generation, finished, tmp_path):
    breaking = 'case "$*" in *shards/generate/shard_001*) echo broken >&2; exit 7;; esac'
    environment = tmp_path / "env"
    save_program(environment / "bin/python", f'{breaking}\nexec "{sys.executable}" "$@"')
    work = before_generation / "tiny set"
    done = call(*options(before_generation, stop_stage=6, stable_audio_env=environment), cwd=world)
    assert done.returncode == 1
    assert "1 of 2 shards of stage 6 generate failed; see " in done.stderr
    assert "tiny set/logs/generate.2.log\n    broken\n" in done.stderr
    assert not (work / "round_0/generated.csv").exists()
    made = sounds(before_generation / "tiny set_synthetic/round_0")
    assert len(made) == 6
    again = call(*options(before_generation, stop_stage=6), cwd=world)
    assert again.returncode == 0, again.stderr
    assert "shard 1 is complete" in again.stdout
    assert "6 clips, 6 of them generated now" in (work / "logs/generate.2.log").read_text()
    same_generation(before_generation, finished)


@pytest.mark.parametrize(
    ("visible", "shown"), [("0, 2", ["0", "2"]), ("GPU-a,GPU-b,GPU-c", ["GPU-a", "GPU-b", "GPU-c"]), (None, ["0", "1"])]
)
def test_each_gpu_gets_one_shard(world, before_generation, tmp_path, visible, shown):
    """A stand-in for the interpreter says which GPU it sees; another for nvidia-smi counts two."""
    save_program(tmp_path / "env/bin/python", 'echo "GPU $CUDA_VISIBLE_DEVICES"; exit 1')
    save_program(tmp_path / "bin/nvidia-smi", "printf '0\\n1\\n'")
    words = options(before_generation, stage=6, stop_stage=6, stable_audio_env=tmp_path / "env")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = call(*words, cwd=world, CUDA_VISIBLE_DEVICES=visible, PATH=path)
    assert f"{len(shown)} of {len(shown)} shards of stage 6 generate failed" in done.stderr
    logs = sorted((before_generation / "tiny set/logs").glob("generate.[0-9].log"))
    assert [log.read_text() for log in logs][: len(shown)] == [f"GPU {name}\n" for name in shown]


@pytest.mark.slow
def test_a_training_is_shared_out_to_the_devices_that_are_asked_for(world, copy, finished):
    """On a CPU to two processes. It is the same training, so that another number of them does nothing again."""
    from safetensors.torch import load_file

    work = copy / "tiny set"
    shutil.rmtree(work / "dpo/adapter")
    words = options(copy, stage=4, stop_stage=4)
    shown = call(*words, "--train_devices", "auto", "--dry_run", cwd=world)
    assert "bin/python -m synthio.pipeline.launch auto " in shown.stdout, shown.stdout
    assert "launch" not in call(*words, "--dry_run", cwd=world).stdout
    done = call(*words, "--train_devices", "2", cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" steps; at the end loss ") == 1, "one of the processes is heard"
    again = call(*words, "--train_devices", "1", cwd=world)
    assert again.returncode == 0 and list(stage_answers(again.stdout)) == ["4 dpo"]
    assert "up to date" in stage_answers(again.stdout)["4 dpo"], again.stdout
    name = "tiny set/dpo/adapter/adapter_model.safetensors"
    found, expected = (load_file(root / name) for root in (copy, finished[0]))
    for key, tensor in expected.items():  # a step goes at most its learning rate, 1e-5 of which is rounding
        assert (found[key] - tensor).abs().max() < 2 * 5e-5 * 1e-2, key


def test_more_devices_than_there_are_gpus_are_refused(tmp_path):
    done = call("--train_devices", "3", "--dry_run", cwd=tmp_path, CUDA_VISIBLE_DEVICES="0,1")
    assert done.returncode == 2
    assert "--train_devices: 3, but there are 2 GPUs; take fewer, or auto" in done.stderr


def test_a_report_that_fails_leaves_the_scores(world, copy):
    """The record that is broken is read by the report only."""
    work = copy / "tiny set"
    (work / "checked/train.json").write_text("{")
    done = call(*options(copy, stage=10), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "run.sh: the report could not be made (the scores above stand); see " in done.stderr
    assert "Test scores in percent" in done.stdout and "report.html" not in done.stdout
    assert not (work / "report.html").exists() and (work / "scores.json").is_file()
    assert "train.json: damaged, for it is no JSON" in (work / "logs/report.log").read_text()


def test_memory_is_kept_where_there_is_no_gpu(world, tmp_path):
    """A stand-in for the interpreter says what it was given; what the user set stands, and a GPU needs none of it."""
    names = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")
    save_program(tmp_path / "env/bin/python", f"echo {' '.join(f'${{{name}-none}}' for name in names)}; exit 1")
    words = options("memory", stop_stage=2, cpu_shards=1, gama_env=tmp_path / "env")

    def given(**environment):
        done = call(*words, cwd=world, **dict.fromkeys(names) | environment)
        assert "stage 2 caption failed" in done.stderr, done.stdout + done.stderr
        return (world / "memory/tiny set/logs/caption.log").read_text().split()

    assert given() == ["33554432", "1073741824", "67108864"]
    assert given(MALLOC_TOP_PAD_="4096") == ["33554432", "1073741824", "4096"]
    assert given(CUDA_VISIBLE_DEVICES="0") == ["none"] * 3


@needs_proc
@needs_setpriv
def test_kill_9_in_the_middle_of_the_generation(world, before_generation, finished):
    folder = before_generation / "tiny set_synthetic/round_0"
    process = start(world, *options(before_generation, stop_stage=6))
    wait_until(lambda: list(folder.glob("*.wav")), "a first clip")
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not processes_of(before_generation), "the end of the shards", 10)
    assert not (before_generation / "tiny set/round_0/generated.csv").exists()
    done = call(*options(before_generation, stop_stage=6), cwd=world)
    assert done.returncode == 0, done.stderr
    same_generation(before_generation, finished)


@pytest.mark.slow
@needs_proc
@needs_setpriv
def test_kill_9_in_the_middle_of_the_filter(world, copy, finished):
    kept = "tiny set/round_0/kept.csv"
    (copy / kept).unlink()
    process = start(world, *options(copy, stop_stage=7))
    wait_until(lambda: processes_of(copy, "filter_audios.py"), "the filter")
    time.sleep(1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not processes_of(copy), "the end of the filter", 10)
    assert not (copy / kept).exists()
    done = call(*options(copy, stop_stage=9), cwd=world)
    assert done.returncode == 0, done.stderr
    for name in (kept, "tiny set/round_0/rejected.csv", "tiny set/train_6_synthetic.csv"):
        assert (copy / name).read_bytes() == (finished[0] / name).read_bytes()


@needs_proc
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_run_leaves_no_process_behind(world, before_generation, signal_number):
    process = start(world, *options(before_generation, stop_stage=6))
    wait_until(lambda: len(processes_of(before_generation, "generate.py")) >= 2, "the shards")
    process.send_signal(signal_number)
    assert process.wait(timeout=20) == 128 + signal_number
    wait_until(lambda: not processes_of(before_generation), "the end of the shards", 5)


@pytest.mark.skipif(not shutil.which("flock"), reason="the lock is flock's")
def test_two_runs_in_one_folder_are_refused(world, copy):
    import fcntl

    with (copy / "tiny set/.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        done = call(*options(copy), cwd=world)
    assert done.returncode == 2 and "another run works in" in done.stderr


def test_a_bad_row_stops_the_run_with_one_clear_line(world):
    (world / "data/bad.csv").write_text("path,label\nnot there.wav,001\n")
    done = call(*options("bad run", input_train_file="data/bad.csv", num_samples=0), cwd=world)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0].startswith("run.sh: stage 0 check failed") and "bad run/tiny set/logs/check.log" in lines[0]
    assert "row 1" in lines[-1] and "not there.wav" in lines[-1] and "Traceback" not in done.stderr


def test_a_stage_whose_input_is_missing(world):
    done = call(*options("empty run", stage=7), cwd=world)
    assert done.returncode == 2
    assert "stage 7 filter needs empty run/tiny set/round_0/generated.csv" in done.stderr


# ---- options


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--augmnt", "true"], "unknown option --augmnt; did you mean --augment?"),
        (["--clap_treshold=1"], "did you mean --clap_threshold?"),
        (["--dpo"], "--dpo needs a value"),
        (["--dpo", "--augment", "true"], "--dpo needs a value"),
        (["--dpo", "maybe"], "'maybe' is not a boolean; use true, false or auto"),
        (["--num_iters", "2.5"], "'2.5' is not a whole number"),
        (["--num_iters", "0"], "0 is outside [1, 100]"),
        (["--clap_threshold", "x"], "'x' is not a number"),
        (["--clap_threshold", "1.2"], "1.2 is outside [0, 1]"),
        (["--latent_seconds", "all"], "'all' is not a number"),
        (["--latent_seconds", "auto model"], "'auto model' is not a number"),
        (["--latent_seconds", "0"], "0 is outside [0.1, infinity]"),
        (
            ["--clap_threshold", "auto", "--threshold_kind", "rank"],
            "clap_threshold=auto needs threshold_kind=absolute: it is an",
        ),
        (["--classifier_weight", "0.5"], "classifier_weight=0.5 needs threshold_kind=rank: it mixes ranks"),
        (["--filter_w_finetune", "true", "--clap_filter", "false"], "filter_w_finetune=true needs clap_filter=true"),
        (["--on_bad_audio", "keep"], "'keep' is none of stop, drop"),
        (["--on_bad_audio="], "is none of stop, drop"),
        (["--sampler", "plms"], "'plms' is none of auto, euler, heun, dpmpp_2m, dpmpp_2m_sde, dpmpp_3m_sde, pingpong"),
        (["--use_label", "true", "--plain_caption", "true"], "use_label and plain_caption are both true"),
        (["--supcon", "true", "--use_ast", "false"], "supcon=true trains AST, but use_ast is false"),
        (["--supcon", "true", "--ast_mixup", "0.3"], "ast_mixup blends the labels"),
        (["--use_ast", "false", "--ast_spec_augment", "yes"], "use_ast=false takes no augmentation of AST"),
        (["--classifier", "clap"], "'clap' is none of auto, fusion, probe, ast"),
        (["--use_ast", "false", "--classifier", "ast"], "classifier=ast needs use_ast=true"),
        (["--probe_embeddings", "clap"], "probe_embeddings goes with classifier=probe"),
        (["--classifier", "fusion", "--probe_embeddings", "ast"], "probe_embeddings goes with classifier=probe"),
        (["--probe_embeddings", "auto"], "'auto' is none of both, ast, clap"),
        (["--zero_shot", "true"], "zero_shot=true trains nothing; it needs use_ast=false and augment=false"),
        (
            ["--zero_shot", "yes", "--use_ast", "no", "--augment", "no", "--classifier", "fusion"],
            "zero_shot=true is a classifier of its own; leave classifier at auto",
        ),
        (["--probe_clap_model", "embedded"], "--probe_clap_model is clap_model, which filters; name another CLAP"),
        (["--probe_clap_model", "./not/there"], "no such model folder: ./not/there"),
        (["--ast_waveform_augment", "loud"], "'loud' is none of none, noise, pitch, speed, chain"),
        (["--captioner", "gama"], "--gama_dir: no such folder: ''"),
        (["--captioner", "gama", "--gama_dir", "."], "--gama_checkpoint: no such file: ''"),
        (["--gama_checkpoint", "x"], "gama_dir and gama_checkpoint go with captioner=gama"),
        (["--captioner", "openai"], "captioner=openai needs --caption_model"),
        (["--caption_base_url", "http://x/v1"], "caption_model and caption_base_url go with captioner=openai"),
        (["--captioner", "./not/there"], "no such model folder: ./not/there"),
        (["--dpo", "false", "--dpo_ckpt_folder", "."], "dpo is false"),
        (["--dpo_train_parts", "neck"], "'neck' is none of lora, prefix, all"),
        (["--dpo_pairs", "ranked", "--dpo_losers", "1"], "dpo_pairs=ranked needs dpo_losers of 2 or more"),
        (["--dpo_loss", "sft", "--dpo_rounds", "2"], "dpo_loss=sft knows no losers"),
        (["--dpo_loss", "sft", "--dpo_pairs", "ranked"], "dpo_loss=sft knows no losers"),
        (["--augment", "false", "--only_synthetic", "true"], "only_synthetic=true needs augment=true"),
        (["--stage", "5", "--stop_stage", "4"], "--stage 5 comes after --stop_stage 4"),
        (["--stage", "11"], "11 is outside [0, 10]"),
        (["--train_devices", "0"], "0 is outside [1, 64]"),
        (["--train_devices", "all"], "'all' is not a whole number"),
        (["--valid_csv", "v.csv"], "only valid_csv given"),
        (["--input_train_file", "t.csv", "--valid_csv", "v", "--test_csv", "w"], "--input_train_file: no such CSV"),
        (["--dpo_ckpt_folder", "/not/there"], "no such folder: /not/there"),
        (["--text_to_audio_model", "./not/there"], "no such model folder: ./not/there"),
        (["--text_to_audio_model", "embedded,"], "'embedded,' has no model before or after a comma"),
        (["--text_to_audio_model", "embedded,a/b,a/b"], "names a/b twice; name each generator once"),
        (["--text_to_audio_model", "a/b,c/d", "--dpo_ckpt_folder", str(ROOT)], "is the adapter of one generator"),
        (["--stable_audio_env", "/not/there"], "neither a venv folder"),
        (["--dataset_name", "ast"], "is a folder of this program"),
        (["--dataset_name", "../up"], "cannot name a folder"),
        (["--device", "cuda:1"], "choose GPUs by CUDA_VISIBLE_DEVICES"),
        (
            ["--profile", "papers"],
            "'papers' is none of embedded, stable_audio_open, stable_audio_3, laptop, paper_models, paper",
        ),
        (["--profile", "paper"], "--gama_dir: no such folder: ''"),
        (["demo"], "'demo' is no option"),
    ],
)
def test_a_mistake_is_refused_before_anything_runs(tmp_path, words, part):
    done = call("--results_root", tmp_path / "results", *words, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert part in done.stderr and done.stderr.startswith("run.sh: ") and done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_captions_come_from_a_server_that_hears(world):
    """Which is asked once for each clip, whatever the number of shards, and never gets OpenAI's key."""
    with ChatServer() as server:
        served = {"captioner": "openai", "caption_model": "ears", "caption_base_url": server.url}
        words = options("heard", **served, num_samples=6, stop_stage=2)
        done = call(*words, cwd=world, OPENAI_API_KEY="sk-not-for-others-123456")
        assert done.returncode == 0, done.stdout + done.stderr
        rows = rows_of(world / "heard/tiny set/captions.csv")
        assert len(rows) == 6 and all(row["caption"].startswith("a tone of ") for row in rows)
        assert server.keys == ["Bearer none"] * 6
        again = call(*words, cwd=world)
        assert again.returncode == 0 and stage_answers(again.stdout)["2 caption"].startswith("    up to date")
        assert len(server.keys) == 6


@pytest.mark.slow
def test_stable_audio_3_as_it_is_published_is_aligned_and_generates(world):
    """Two shards want it at once, and one converts it; the next run finds it converted."""
    save_published(world / "models/sa3", "medium")
    words = options("published", text_to_audio_model="models/sa3", stop_stage=6)
    done = call(*words, cwd=world, HF_HOME=str(world / "hf"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("converted once") == 1
    rows = rows_of(world / "published/tiny set/round_0/generated.csv")
    assert len(rows) == 12 and all(row["model"].startswith("sa3@") and "+adapter@" in row["model"] for row in rows)
    again = call(
        *options("published again", text_to_audio_model="models/sa3", stop_stage=3),
        cwd=world,
        HF_HOME=str(world / "hf"),
    )
    assert again.returncode == 0 and "converted" not in again.stdout, again.stdout + again.stderr
    audio = "tiny set_synthetic/dpo_losers"
    assert sounds(world / "published" / audio) == sounds(world / "published again" / audio)


@pytest.mark.slow
def test_two_generators_share_the_clips_of_each_label_and_are_compared(world, finished):
    """Each has its adapter; what the first one's losers and adapter are is what a run with it alone has."""
    save_text_to_audio(world / "models/t2b", "v", seed=5)
    words = options("two generators", text_to_audio_model="models/t2a,models/t2b", attribution_clips=2)
    done = call(*words, cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    work, alone = world / "two generators/tiny set", finished[0] / "tiny set"
    assert (work / "dpo/losers.csv").read_bytes() == (alone / "dpo/losers.csv").read_bytes()
    weights = "dpo/adapter/adapter_model.safetensors"
    assert (work / weights).read_bytes() == (alone / weights).read_bytes()
    assert (work / "dpo/adapter_m2/adapter_model.safetensors").is_file()
    rows = rows_of(work / "round_0/generated.csv")
    prompts = rows_of(work / "round_0/prompts.csv")
    assert [(row["prompt"], row["seed"]) for row in rows] == [(row["prompt"], row["seed"]) for row in prompts]
    made = {(row["label"], row["model"].split("@")[0]) for row in rows}
    assert made == {(label, name) for label in LABELS for name in ("t2a", "t2b")}
    assert all("+adapter@" in row["model"] for row in rows)
    for label in LABELS:
        names = [row["model"].split("@")[0] for row in rows if row["label"] == label]
        assert names.count("t2a") - names.count("t2b") in (0, 1)
    record = json.loads((work / "quality.json").read_text())
    assert [one["generator"].split("@")[0] for one in record["generators"]] == ["t2a", "t2b"]
    assert sum(one["made"] for one in record["generators"]) >= len(rows)
    assert "The generators beside each other" in (work / "report.html").read_text(encoding="utf-8")
    card = (work / "dataset/README.md").read_text(encoding="utf-8")
    assert "| text-to-audio | t2a |" in card and "| text-to-audio | t2b |" in card
    again = call(*words, cwd=world)
    assert again.returncode == 0 and set(re.findall(r"^    (running|up to date)", again.stdout, re.M)) == {"up to date"}
    sharded = call(
        *options("one shard", text_to_audio_model="models/t2a,models/t2b", cpu_shards=1, stop_stage=6), cwd=world
    )
    assert sharded.returncode == 0, sharded.stdout + sharded.stderr
    audio = "tiny set_synthetic/round_0"
    assert sounds(world / "one shard" / audio) == sounds(world / "two generators" / audio)


def test_help_names_every_variable_with_its_default(tmp_path):
    done = call("--help", cwd=tmp_path)
    assert done.returncode == 0
    for name in "dataset_name num_iters supcon clap_threshold multi_label domain seed cpu_shards dry_run".split():
        assert re.search(rf"^  --{name} .*default: ", done.stdout, re.MULTILINE), name
    assert "paper: 0.85) [number 0..1 or auto; default: 0.85]" in done.stdout


def test_help_and_mistakes_need_no_environment(tmp_path):
    bare = tmp_path / "bare clone"
    bare.mkdir()
    copy_driver(bare)
    for words, status in ((["--help"], 0), (["--nope", "1"], 2), (["--dry_run"], 0)):
        done = subprocess.run([SHELL, bare / "run.sh", *words], capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
    assert sorted(path.name for path in bare.iterdir()) == ["extras", "run.sh"]
    shutil.rmtree(bare / "extras")
    done = subprocess.run([SHELL, bare / "run.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr == f"run.sh: its other half is not there: {bare}/extras/driver\n"


def test_a_variable_may_be_edited_in_the_file(tmp_path):
    text = RUN.read_text().replace("dataset_name=demo  ", 'dataset_name="my set"')
    assert text != RUN.read_text()
    copy_driver(tmp_path).write_text(text)
    command = [SHELL, tmp_path / "run.sh"]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    assert re.search(r"--dataset_name .*default: my set\]", shown)
    shown = subprocess.run([*command, "--dry_run"], capture_output=True, text=True, check=True).stdout
    assert "my set/checked/train.csv" in shown


def table_of(name: str) -> dict[str, dict[str, str]]:
    """Column -> variable -> value, where it is not the default, of a table in extras."""
    head, *rows = variables.rows_of(ROOT / "extras" / name)
    return {column: {row[0]: row[i] for row in rows if row[i] != "-"} for i, column in enumerate(head[1:], 1)}


def what_is_set(driver, *words):
    """(what sets -> variable -> value, all that is printed) of a dry run."""
    done = call(*words, "--dry_run", driver=driver)
    assert done.returncode == 0, done.stderr
    sets = re.findall(r"^(profile \w+|\w+ of full size) sets (.*)", done.stdout, re.MULTILINE)
    return {who: dict(word.split("=", 1) for word in text.split()) for who, text in sets}, done.stdout


@pytest.mark.parametrize("name", ["stable_audio_open", "stable_audio_3", "laptop", "paper_models", "paper"])
def test_a_profile_sets_models_and_their_sizes_what_suits_them(bare, tmp_path, name):
    (tmp_path / "weights.bin").touch()
    gama = ["--gama_dir", tmp_path, "--gama_checkpoint", tmp_path / "weights.bin"]
    sets, text = what_is_set(bare, "--profile", name, *(gama if name.startswith("paper") else []))
    sizes, wanted = table_of("sizes.txt"), table_of("profiles.txt")[name]
    large = [model for model in ("text_to_audio_model", "ast_model") if model in wanted]
    suited = {model: {key: value for key, value in sizes[model].items() if key not in wanted} for model in large}
    assert sets == {f"profile {name}": wanted} | {f"{model} of full size": suited[model] for model in large}
    sets = {variable: value for part in sets.values() for variable, value in part.items()}
    rate = sets.get("ast_learning_rate", "3e-4")
    assert f"--model {sets['text_to_audio_model']} " in text and f"--learning_rate {rate} " in text
    assert f"--num_steps {sets.get('num_steps', 0)} " in text
    assert f"--captioner {sets.get('captioner', 'embedded')} " in text
    assert ("dpo_train.py" in text) == (sets.get("dpo") != "false")


@pytest.mark.parametrize("model", ["hub id", "folder", "file", "small folder"])
def test_a_model_of_full_size_brings_what_suits_it(bare, tmp_path, model):
    """By its weights on the disk, with nothing else chosen; what the user gives wins."""
    weights = tmp_path / ("ast.pth" if model == "file" else "ast/model.safetensors")
    weights.parent.mkdir(exist_ok=True)
    weights.write_bytes(bytes((7 if model == "small folder" else 90) << 20))
    named = {"hub id": "MIT/ast-finetuned-audioset-10-10-0.4593", "file": weights}.get(model, weights.parent)
    sets, text = what_is_set(bare, "--ast_model", named, "--ast_batch_size", 12)
    if model == "small folder":
        assert sets == {} and "--learning_rate 3e-4 " in text
        return
    suits = table_of("sizes.txt")["ast_model"]
    assert sets == {
        "ast_model of full size": {name: value for name, value in suits.items() if name != "ast_batch_size"}
    }
    assert (
        "--num_steps 1000 --epochs 0 --patience 0 --learning_rate 1e-5 --batch_size 12 " in text
        and "--head_init random " in text
    )


def test_a_full_size_generator_alone_brings_what_suits_it(bare):
    sets, text = what_is_set(bare, "--text_to_audio_model", "stabilityai/stable-audio-open-1.0", "--dpo_num_steps", 150)
    suits = table_of("sizes.txt")["text_to_audio_model"]
    del suits["dpo_num_steps"]
    assert sets == {"text_to_audio_model of full size": suits}
    assert "--batch_size 4 --gradient_accumulation 2 " in text and "--learning_rate 3e-4 " in text


def test_what_the_user_sets_wins_over_the_profile(bare, tmp_path):
    words = ["--num_steps", 0, "--caption_writer=embedded", "--captioner", "embedded", "--ast_learning_rate", "1e-4"]
    found, text = what_is_set(bare, "--profile", "paper", *words)
    sets = {name: value for part in found.values() for name, value in part.items()}
    assert sets.keys().isdisjoint({"num_steps", "caption_writer", "captioner", "ast_learning_rate", "llm_model"})
    assert sets["cfg_scale"] == "7" and "--sampler dpmpp_3m_sde --distilled auto --num_steps 0 --cfg_scale 7 " in text
    edited = RUN.read_text().replace("dpo_learning_rate=5e-5 ", "dpo_learning_rate=3e-4 ")
    edited = edited.replace("profile=embedded  ", "profile=stable_audio_open  ").replace("cfg_scale=0 ", "cfg_scale=4 ")
    copy_driver(tmp_path).write_text(edited)
    done = subprocess.run([SHELL, tmp_path / "run.sh", "--dry_run"], capture_output=True, text=True, check=False)
    assert "cfg_scale=" not in done.stdout and "--cfg_scale 4 " in done.stdout, done.stderr
    assert "--learning_rate 3e-4 " in done.stdout and "num_steps=100" in done.stdout


def test_a_conda_environment_by_name(bare, world, tmp_path):
    save_program(tmp_path / "bin/conda", 'test "$1 $2 $3" = "run -n sounds"')
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    words = [*options("conda run", stable_audio_env="sounds"), "--dry_run"]
    done = call(*words, cwd=world, driver=bare, PATH=path)
    assert "conda run -n sounds --no-capture-output python" in done.stdout
    assert done.stdout.count("conda run -n") == 5  # losers, dpo, generate, its round, some again
    assert call(*options("x", ast_env="others"), cwd=world, driver=bare, PATH=path).returncode == 2


@pytest.mark.parametrize(
    ("words", "variable", "environment", "script"),
    [
        (
            ["--text_to_audio_model", "stabilityai/stable-audio-open-small"],
            "stable_audio_env",
            "stable_audio",
            "generate",
        ),
        (["--text_to_audio_model", "{}/tools"], "stable_audio_env", "stable_audio", "dpo_train"),
        (["--text_to_audio_model", "{}/tools/model.safetensors"], "stable_audio_env", "stable_audio", "generate"),
        (["--clap_model", "{}/clap.pt"], "clap_env", "clap", "filter_audios"),
        (["--clap_model", "msclap:2023", "--use_ast", "no"], "clap_env", "clap", "heads"),
        (["--probe_clap_model", "{}/clap.pt", "--clap_filter", "no"], "clap_env", "clap", "heads"),
    ],
)
def test_a_model_brings_its_environment(tmp_path, words, variable, environment, script):
    """The one in .envs/, unless the user names another; in a copy of the driver, where each list of packages is."""
    (tmp_path / "tools").mkdir()
    for name in ("tools/model_config.json", "tools/model.safetensors", "clap.pt"):
        (tmp_path / name).touch()
    copy_driver(tmp_path)
    (tmp_path / "synthio").symlink_to(ROOT / "synthio")
    (tmp_path / f"extras/environments/{environment}.txt").touch()
    command = [SHELL, tmp_path / "run.sh", "--dry_run", *[word.format(tmp_path) for word in words]]

    def python_of_script(*more):
        text = subprocess.run([*command, *more], capture_output=True, text=True, check=True).stdout
        (python,) = {line.split()[0] for line in text.splitlines() if f"{script}.py" in line}
        return Path(python).relative_to(tmp_path).as_posix(), f"(.envs/{environment} is not there yet" in text

    assert python_of_script() == (f".envs/{environment}/bin/python", True)
    save_program(tmp_path / "mine/bin/python", "exit 1")
    assert python_of_script(f"--{variable}", tmp_path / "mine") == ("mine/bin/python", False)
    (tmp_path / f"extras/environments/{environment}.txt").unlink()
    assert python_of_script() == (".venv/bin/python", False)


def test_only_what_is_used_brings_its_environment(tmp_path):
    copy_driver(tmp_path)
    (tmp_path / "synthio").symlink_to(ROOT / "synthio")
    for name in ("clap.pt", "extras/environments/clap.txt", "extras/environments/stable_audio.txt"):
        (tmp_path / name).touch()
    models = ["--clap_model", "clap.pt", "--text_to_audio_model", "sonalkum/synthio-stable-audio-open"]

    def told(*words):
        command = [SHELL, "run.sh", *models, *words, "--dry_run"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return re.findall(r"\.envs/(\w+) is not there", done.stdout), done.stderr

    assert told() == (["stable_audio", "clap"], "")
    assert told("--clap_filter", "no")[0] == ["stable_audio", "clap"]  # the heads hear with it
    assert told("--clap_filter", "no", "--probe_clap_model", "a/b")[0] == ["stable_audio"]
    assert told("--augment", "no")[0] == ["clap"]
    assert told("--augment", "no", "--probe_clap_model", "a/b")[0] == []
    assert "dpo loads in one process what no environment has together: text_to" in told("--dpo_pairs", "ranked")[1]


def test_gama_gets_its_environment_and_is_driven_from_the_main_one(bare, world, tmp_path):
    save_program(tmp_path / "bin/conda", 'test "$1 $2 $3" = "run -n listener"')
    changes = {"captioner": "gama", "gama_dir": "data", "gama_checkpoint": "data/train.csv", "gama_env": "listener"}
    words = [*options("gama", **changes), "--dry_run"]
    done = call(*words, cwd=world, driver=bare, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (line,) = [line for line in done.stdout.splitlines() if "gama_csv_inf.py" in line]
    assert line.split()[0].endswith(".venv/bin/python")
    assert "--batch_size 8 --gama_dir" in line and "--gama_env listener" in line


@pytest.mark.slow
def test_an_audio_llm_captions_in_the_run(world):
    save_qwen2_audio(world / "models/listener")
    changes = {"captioner": "models/listener", "caption_max_tokens": 10, "caption_batch_size": 2, "stop_stage": 2}
    done = call(*options("listened", **changes), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    captions = [row["caption"] for row in rows_of(world / "listened/tiny set/captions.csv")]
    assert len(captions) == 6 and len(set(captions)) > 2
    again = call(*options("listened", **changes), cwd=world)
    assert "up to date: 6 rows in, 6 out" in stage_answers(again.stdout)["2 caption"]


def dry(root, driver=RUN, **changes):
    done = call(*options(root, **changes), "--dry_run", cwd=root.parent, driver=driver)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_dry_run_does_nothing(world, copy):
    names = sorted(copy.rglob("*"))
    text = dry(copy, num_iters=3)
    answers = stage_answers(text)
    assert "up to date" in answers["0 check"]
    assert "would run: changed: --num_captions 3" in answers["5 captions"]
    assert sorted(copy.rglob("*")) == names
    dry(world / "nothing here")
    assert not (world / "nothing here").exists()


@pytest.mark.parametrize(
    ("changes", "there", "absent"),
    [
        (
            {"augment": "false"},
            ["1 stratify", "10 classify gold only"],
            ["5 captions", "9 merge", "10 classify synthio"],
        ),
        ({"dpo": "false"}, ["6 generate"], ["3 losers", "4 dpo", "--adapter"]),
        ({"clap_filter": "false"}, ["9 merge", "generated.csv"], ["7 filter", "8 rewrite 1"]),
        ({"iterative": "false"}, ["7 filter"], ["8 rewrite 1"]),
        ({"use_label": "true"}, ["--mode template --num_captions 2"], ["2 caption", "mixcap"]),
        ({"plain_wo_caption": "true"}, ["--mode plain_wo_caption"], ["2 caption", "mixcap"]),
        ({"plain_caption": "true"}, ["2 caption", "--mode plain "], ["mixcap"]),
        ({"initialize_audio": "true"}, ["--initialize_audio true --init_noise_level 0.6"], []),
        ({}, ["6 generate"], ["--initialize_audio"]),
        (
            {
                "ast_head_init": "random",
                "ast_wise_ft_alpha": ".7",
                "ast_class_weights": "yes",
                "synthetic_weight": ".5",
            },
            ["--head_init random --wise_ft_alpha .7 --class_weights true", "--synthetic_weight .5 --output_folder"],
            [],
        ),
        (
            {"sampler": "heun", "cfg_scale": "5", "cfg_rescale": ".5"},
            ["--sampler heun --distilled auto --num_steps 2 --cfg_scale 5 --cfg_rescale .5"],
            [],
        ),
        ({"dpo_ckpt_folder": "adapter"}, ["--adapter"], ["3 losers", "4 dpo"]),
        ({"dpo_loss": "sft"}, ["4 dpo", "--loss sft"], ["3 losers", "--losers_csv"]),
        ({"dpo_pairs": "ranked", "dpo_losers": 2}, ["--pairs ranked", "--scorer"], []),
        ({"dpo_rounds": 2}, ["3 losers 2", "4 dpo 2", "--init_adapter"], ["3 losers 3", "4 dpo 3"]),
        ({"domain": "a street"}, ["--domain a\\ street"], []),
        (
            {"supcon": "true", "ast_waveform_augment": "chain"},
            ["--waveform_augment chain", "--supcon true", "--mode supcon --num_captions 2"],
            ["2 caption", "mixcap"],
        ),
        ({"supcon": "true", "plain_caption": "true"}, ["2 caption", "--mode plain ", "--supcon true"], ["mode supcon"]),
        ({"supcon": "true", "use_label": "true"}, ["--mode template --num_captions 2"], ["--mode supcon"]),
        (
            {},
            ["10 classify synthio", "10 heads synthio", "10 choose synthio", "--classifier auto --folders"],
            ["--heads "],
        ),
        ({}, ["synthio_ast", "synthio_heads/fusion", "synthio_heads/probe"], ["heads/probe_clap", "heads/zero_shot"]),
        (
            {"classifier": "fusion"},
            ["ast/train.py", "--classifier fusion --folders", "synthio_ast", "synthio_heads/fusion"],
            ["synthio_heads/probe "],
        ),
        ({"classifier": "ast"}, ["ast/heads.py", "--classifier ast --folders"], ["synthio_heads/fusion"]),
        ({"classifier": "probe"}, ["ast/train.py", "--classifier probe --folders"], ["--classifier auto"]),
        (
            {"classifier": "probe", "probe_embeddings": "clap"},
            ["--classifier probe_clap --folders", "synthio_heads/probe_clap"],
            [],
        ),
        (
            {"use_ast": "false"},
            ["ast/heads.py", "--synthetic_weight auto", "--cache_folder", "--classifier probe --folders"],
            ["ast/train.py", "10 classify", "synthio_ast"],
        ),
        ({"use_ast": "false", "classifier": "fusion"}, ["--classifier fusion --folders"], ["ast/train.py"]),
        ({"use_ast": "false", "probe_embeddings": "ast"}, ["--classifier probe_ast --folders"], []),
        (
            {"use_ast": "false", "augment": "false", "zero_shot": "true"},
            ["10 heads gold only", "--classifier zero_shot --folders", "gold_only_heads/zero_shot"],
            ["ast/train.py", "10 heads synthio"],
        ),
        ({"probe_clap_model": "owner/clap"}, ["--clap_model owner/clap --cache_folder"], []),
        ({}, ["gold_only_ast --ast_model"], []),
        ({"use_ast": "false"}, ["gold_only_heads/probe_ast --ast_model"], []),
        ({}, ["10 quality", "-m synthio.report.quality --input_csv"], []),
        ({"quality": "false"}, ["10 classify synthio"], ["quality"]),
        ({}, ["10 classify synthio"], ["--log_to"]),
        ({"log_to": "trackio"}, ["--log_to trackio --log_folder"], []),
        ({}, ["--threshold_kind absolute --threshold 0.802 --gold_csv"], ["keep_percent", "finetune_clap", "balance"]),
        ({"clap_threshold": "auto"}, ["--threshold auto --auto_quantile 0.1"], ["0.802", "keep_percent"]),
        (
            {"threshold_kind": "class_quantile", "quality": "false"},
            ["class_quantile --keep_percent 70"],
            ["--threshold ", "percent 70 --classifier ", "7 filter classifier"],
        ),
        (
            {"threshold_kind": "rank", "keep_percent": 40, "classifier_weight": 0.3},
            [
                "7 filter classifier",
                "--seed 1 --device",
                "rank --keep_percent 40 --classifier",
                "_weight 0.3 --gold_csv",
            ],
            ["--threshold "],
        ),
        (
            {"filter_w_finetune": "true", "finetune_num_steps": 9, "finetune_learning_rate": "1e-6"},
            ["7 finetune clap", "--num_steps 9 --learning_rate 1e-6", "set/clap_finetuned --threshold_kind"],
            [],
        ),
        ({"drop_repeats": "true"}, ["--drop_repeats true --earlier_csvs"], []),
        ({"duplicate_cosine": 0.8, "max_clipped": 0.1}, ["--duplicate_cosine 0.8 --max_clipped 0.1"], []),
        ({"balance": "true", "num_iters": 3}, ["9 balance", "--num_iters 3 --kept_csvs", "balanced.csv"], []),
    ],
)
def test_variables_choose_the_stages(bare, world, changes, there, absent):
    (world / "adapter").mkdir(exist_ok=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (world / "adapter" / name).touch()
    text = dry(world / "variables", bare, **changes)
    assert all(part in text for part in there), text
    assert not [part for part in absent if part in text], text


@pytest.mark.slow
def test_a_further_round_trains_on_against_losers_of_the_round_before(world, copy):
    done = call(*options(copy, dpo_rounds=2, stop_stage=6), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    rerun = {name for name, answer in stage_answers(done.stdout).items() if "running" in answer}
    assert rerun == {"3 losers 2", "4 dpo 2", "6 generate"}
    dpo = copy / "tiny set/dpo"
    models = [rows_of(path)[0]["model"] for path in (dpo / "losers.csv", dpo / "losers_2.csv")]
    assert "+adapter@" in models[1] and "+adapter@" not in models[0]
    assert float(rows_of(dpo / "adapter_2_history.csv")[0]["loss"]) == pytest.approx(0.6931, abs=1e-4)
    last = rows_of(copy / "tiny set/round_0/generated.csv")[0]["model"]
    assert last.endswith("+adapter@" + fingerprint(dpo / "adapter_2")[:12])


@pytest.mark.slow
def test_other_filters(world, copy):
    """Rank with a classifier's say and a tuned CLAP, no repeats, balanced classes; a change of one reruns its own."""
    changes = {"threshold_kind": "rank", "keep_percent": 40, "classifier_weight": 0.5, "drop_repeats": "true"}
    changes |= {"filter_w_finetune": "true", "finetune_num_steps": 2, "balance": "true", "stop_stage": 9}
    done = call(*options(copy, **changes), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    answers = stage_answers(done.stdout)
    assert "up to date" in answers["6 generate"] and "running" in answers["7 finetune clap"]
    work = copy / "tiny set"
    rows = rows_of(work / "round_0/kept.csv")
    counts = Counter(row["label"] for row in rows)
    assert all(0 < counts[label] <= 2 for label in LABELS), counts  # of 4 clips a class, .4 * 4 rounded up
    assert {"classifier_probability", "rank_score", "nearest_cosine"} <= rows[0].keys()
    assert re.search(r"round 1: \+\d+ of \d+ rewritten kept; quota reached in \d of 3 classes", done.stdout)
    balanced = Counter(row["label"] for row in rows_of(work / "balanced.csv"))
    assert len(set(balanced.values())) == 1 and balanced.keys() == set(LABELS)
    assert len(rows_of(work / "train_6_synthetic.csv")) == 6 + balanced.total()
    again = call(*options(copy, **changes | {"duplicate_cosine": 0.99, "reflect_rounds": 0}), cwd=world)
    assert again.returncode == 0, again.stdout + again.stderr
    rerun = {name for name, answer in stage_answers(again.stdout).items() if "running" in answer}
    assert "7 filter" in rerun and not rerun & {"6 generate", "7 finetune clap", "7 filter classifier"}, rerun


@pytest.mark.slow
def test_other_ways_to_run(world, copy):
    """Template prompts, no DPO, no filter, started from the gold audio, trained on the synthetic clips alone."""
    changes = {"use_label": "yes", "dpo": "no", "clap_filter": "off", "initialize_audio": 1, "only_synthetic": "on"}
    changes |= {"num_iters": 1, "cpu_shards": 1, "output_folder": copy / "sounds", "output_csv_path": copy / "all.csv"}
    done = call(*options(copy, **changes), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = rows_of(copy / "all.csv")
    assert len(rows) == 6 and {row["split_name"] for row in rows} == {"synthetic"}
    assert len(sounds(copy / "sounds/round_0")) == 6
    assert "synthetic-only" in done.stdout
    assert "up to date" in stage_answers(done.stdout)["10 classify gold only"]


@pytest.mark.slow
def test_an_adapter_that_does_harm_makes_no_clips(world, copy):
    changes = {"dpo": "auto", "reflect_rounds": 0, "cpu_shards": 1}
    done = call(*options(copy, **changes), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    work, judged = copy / "tiny set", copy / "tiny set/dpo/judged.json"
    answers, found = stage_answers(done.stdout), json.loads(judged.read_text())
    assert "up to date" in answers["4 dpo"] and "running" in answers["4 judge"] and found["clips"] == 6
    first = rows_of(work / "round_0/generated.csv")
    assert all(("+adapter@" in row["model"]) == found["used"] for row in first)
    assert {"alignment", "captions"} <= read_json(work / "quality.json")["attribution"]["parts"].keys()
    # with six clips nothing is told, so what is told is written by hand
    low = {"difference": -0.5, "interval_95": [-0.7, -0.3], "before": 0.8, "after": 0.3, "told": "worse"}
    judged.write_text(json.dumps({**found, "used": False, "agreement": {**found["agreement"], **low}}))
    done = call(*options(copy, **changes, stage=5), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not any("+adapter@" in row["model"] for row in rows_of(work / "round_0/generated.csv"))
    page = (work / "report.html").read_text(encoding="utf-8")
    assert "heard in 30% of 6 clips with the adapter and in 80% of those without it (-50 points, -70 to -30)" in page


@pytest.mark.slow
def test_contrastive_training_with_prompts_beyond_the_label(world, copy):
    done = call(*options(copy, supcon="true", num_iters=1, reflect_rounds=0, cpu_shards=1), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    rerun = {name for name, answer in stage_answers(done.stdout).items() if "running" in answer}
    expected = {
        "5 captions",
        "6 generate",
        "7 filter",
        "9 again prompts",
        "9 again",
        "9 merge",
        "9 dataset",
        "10 quality",
    }
    expected |= {"10 heads synthio"}
    expected |= {f"10 {step} {name}" for step in ("classify", "choose") for name in ("gold only", "synthio")}
    assert rerun == expected  # heads of the gold clips have no part in it
    work = copy / "tiny set"
    prompts = [row["prompt"] for row in rows_of(work / "round_0/prompts.csv")]
    assert len(prompts) == 6 and all(any(event in text for event in EVENTS) for text in prompts)
    for name in ("gold_only", "synthio"):
        options_of = read_json(work / f"classifier/{name}_ast/scores.json")["options"]
        assert options_of["supcon"] is True
    assert [method["name"] for method in json.loads((work / "scores.json").read_text())["methods"]][-1] == "synthio"


@pytest.mark.slow
def test_heads_alone_with_a_clap_of_their_own(world, copy):
    save_clap(world / "models/other clap", seed=1)
    changes = {"use_ast": "no", "probe_embeddings": "clap", "probe_clap_model": "models/other clap"}
    done = call(*options(copy, **changes), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    rerun = {name for name, answer in stage_answers(done.stdout).items() if "running" in answer}
    made = {f"10 {step} {name}" for step in ("heads", "choose") for name in ("gold only", "synthio")}
    assert rerun == made | {"10 quality"}
    work = copy / "tiny set"
    kinds = sorted(path.name.split("_")[0] for path in (work / "embeddings").iterdir())
    # one cache for all; the other CLAP is the one that the finished run heard with; and that of the report
    assert kinds == ["ast", "clap", "clap", "map"]
    for name in ("gold_only", "synthio"):
        folder = work / "classifier" / name
        assert {path.name for path in folder.iterdir()} == {
            *("model", "predictions.csv", "valid_predictions.csv", "scores.json")
        }
        assert {path.name for path in (folder / "model").iterdir()} == {
            *("README.md", "config.json", "listening.json", "model.safetensors")
        }
        record = read_json(folder / "scores.json")
        assert record["head"] == record["choice"]["asked"] == "probe_clap"
        assert Path(record["options"]["clap_model"]).name == "other clap"
    judges = read_json(work / "quality.json")["judges"]
    assert judges["classifier"]["note"] == "independent of the filter"  # the probe on AST alone
    assert "Test scores in percent" in done.stdout and (work / "report.html").is_file()


@pytest.mark.slow
def test_a_label_for_what_is_none_of_the_labels(world, copy):
    folder = world / "background"
    folder.mkdir()
    for seed in range(16):
        noise = np.random.default_rng(seed).uniform(-0.2, 0.2, 8000)
        soundfile.write(folder / f"{seed}.wav", noise, 16000)
    changes = {"use_ast": "no", "other_class": "true", "other_csv": "background"}
    done = call(*options(copy, **changes), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    work = copy / "tiny set"
    made = {path.name for path in (work / "other").glob("*.csv") if ".dropped." not in path.name}
    assert made == {"train.csv", "valid.csv", "classes.csv", "foreign.csv"}
    assert read_json(work / "classifier/other/model/listening.json")["ignored"] == ["other"]
    assert "other" in read_json(work / "classifier/other/scores.json")["labels"]
    assert "other" not in read_json(work / "classifier/synthio/scores.json")["labels"]
    record = read_json(work / "false_alarms.json")
    assert record["clips"]["foreign"] == len(rows_of(work / "other/foreign.csv")) >= 4
    assert "\nOther sounds\nfalse alarms at 90 % recall, on " in done.stdout
    assert "python listen.py --model '" in done.stdout and "/classifier/other' --input" in done.stdout
    assert "false alarms at 90 % recall" in (work / "report.html").read_text()


@pytest.mark.slow
def test_another_classifier_is_a_choice_and_no_training(world, copy):
    """Only what is named as the classifier changes; the tables are those of the same heads."""
    before = {path: path.read_bytes() for path in (copy / "tiny set/classifier").glob("*_heads/*/scores.json")}
    done = call(*options(copy, classifier="ast"), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    rerun = {name for name, answer in stage_answers(done.stdout).items() if "running" in answer}
    assert rerun == {"10 choose gold only", "10 choose synthio"}
    for name in ("gold_only", "synthio"):
        record = read_json(copy / "tiny set/classifier" / name / "scores.json")
        assert record["head"] == "ast" and record["choice"] == {"asked": "ast", "chosen": "ast", "compared": []}
        assert (copy / "tiny set/classifier" / name / "history.csv").is_file()
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.slow
def test_heads_on_the_gold_clips_alone(world):
    words = {"augment": "false", "use_ast": "no", "cpu_shards": 1}
    done = call(*options("gold alone", **words), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    work = world / "gold alone/tiny set"
    assert "share of right answers" in unpacked(work / "report.html")
    assert read_json(work / "classifier/gold_only/scores.json")["head"] == "probe"
    assert not (work / "classifier/gold_only_ast").exists()


@pytest.mark.slow
def test_zero_shot_alone(world):
    words = {"augment": "no", "use_ast": "no", "zero_shot": "yes", "cpu_shards": 1, "make_report": "no"}
    done = call(*options("zero shot", **words), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    record = read_json(world / "zero shot/tiny set/classifier/gold_only/scores.json")
    assert record["head"] == "zero_shot" and "gold-only: zero_shot" in done.stdout


@pytest.mark.slow
def test_the_demo_with_the_embedded_models(tmp_path):
    words = ["--num_samples", 20, "--num_steps", 4, "--dpo_num_steps", 4, "--ast_num_steps", 10, "--reflect_rounds", 1]
    done = call("--results_root", tmp_path, *words, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(rows_of(tmp_path / "demo/train_20.csv")) == 20
    assert len(rows_of(tmp_path / "demo/round_0/generated.csv")) == 40


# ---- the environment


def make_env(folder, requirements, **environment):
    command = ["bash", str(ROOT / "extras/environments/make_env.sh"), str(folder), str(requirements)]
    environment = {**os.environ, "PIP_FIND_LINKS": str(folder.parent), **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_an_environment_is_made_once_and_again_when_it_is_not_whole(tmp_path):
    folder, requirements = tmp_path / "my env", tmp_path / "needs.txt"
    requirements.write_text("# nothing\n")
    done = make_env(folder, requirements)
    assert done.returncode == 0 and "the first time this takes 1 to 5 minutes\n" in done.stderr, done.stderr
    assert (folder / "bin/python").exists() and not (folder / ".installing").exists()
    assert make_env(folder, requirements).stderr == ""
    requirements.write_text("# still nothing\n")
    (folder / "mine").touch()
    assert "installed in" in make_env(folder, requirements).stderr
    assert (folder / "mine").exists()
    (folder / ".installing").touch()  # as an interrupted install leaves it
    assert "installed in" in make_env(folder, requirements).stderr
    assert not (folder / "mine").exists()
    requirements.write_text("no-such-package-here==1\n")
    failed = make_env(folder, requirements, PIP_NO_INDEX="1")
    assert failed.returncode == 1 and "run the same command again" in failed.stderr
    assert (folder / ".installing").exists()


def test_the_cost_of_an_environment_is_said_first(tmp_path):
    requirements = tmp_path / "clap.txt"
    requirements.write_text("no-such-package-here==1\n")
    done = make_env(tmp_path / "env", requirements, PIP_NO_INDEX="1")
    assert "this takes 1 to 5 minutes and about 5.5 GB\n" in done.stderr


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work/thesis.txt").touch()
    (tmp_path / "needs.txt").touch()
    done = make_env(tmp_path / "work", tmp_path / "needs.txt")
    assert done.returncode == 2 and "is no virtual environment" in done.stderr
    assert (tmp_path / "work/thesis.txt").exists()


def test_without_python_the_error_says_how_to_get_it(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in "bash basename cksum mkdir touch rm ls env".split():
        (tools / name).symlink_to(shutil.which(name))
    (tmp_path / "needs.txt").touch()
    done = make_env(tmp_path / "env", tmp_path / "needs.txt", PATH=str(tools))
    assert done.returncode == 2 and "Python 3.11 or newer" in done.stderr and "apt-get install" in done.stderr


def test_the_tests_of_an_environment(tmp_path):
    """test.sh makes the one environment and runs the files that name its variable; stand-ins say what they are told."""
    shutil.copy(ROOT / "test.sh", tmp_path)
    save_program(tmp_path / "extras/environments/make_env.sh", 'echo "make $*"')
    save_program(tmp_path / ".venv/bin/python", 'echo "python $*"')
    shutil.copy(ROOT / "extras/environments/environments.txt", tmp_path / "extras/environments")
    (tmp_path / "extras/environments/parity.txt").touch()
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/wing").mkdir()
    (tmp_path / "tests/wing/test_a.py").write_text('\town_python("parity")')
    (tmp_path / "tests/test_b.py").write_text('\town_python("ast")')
    (tmp_path / "tests/test_c.py").write_text('"parity"')  # names it, but does not ask for it

    def told(*words):
        done = subprocess.run([SHELL, tmp_path / "test.sh", *words], capture_output=True, text=True, check=False)
        return done.stdout.splitlines()

    assert told("parity", "-x")[2:] == [
        "make .envs/parity extras/environments/parity.txt",
        "python -m pytest -m slow or not slow tests/wing/test_a.py -x",
    ]
    (tmp_path / "tests/wing/test_a.py").unlink()
    assert told("parity") == told()[:2]  # nothing but the main environment: it has no tests


@pytest.mark.parametrize(("jobs", "words"), [("1", ""), ("3", "-n 3 --dist loadfile ")])
@pytest.mark.parametrize("target", ["", "slow"])
def test_tests_run_side_by_side(tmp_path, target, jobs, words):
    shutil.copy(ROOT / "test.sh", tmp_path)
    shutil.copytree(ROOT / "extras/environments", tmp_path / "extras/environments")
    for name in ("ruff", "mypy", "lint-imports", "shellcheck", "python"):
        save_program(tmp_path / ".venv/bin" / name, f'echo "{name} $*"')
    save_program(tmp_path / "extras/environments/make_env.sh", "true")
    environment = {**os.environ, "SYNTHIO_TEST_JOBS": jobs}
    done = subprocess.run(
        [SHELL, tmp_path / "test.sh", *target.split(), "-x"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines, which = done.stdout.splitlines(), "slow" if target else "not slow"
    assert lines[-1] == f"python -m pytest -m {which} and not slurm {words}-x"
    assert ("ruff check ." in lines) == (not target)


def test_every_environment_is_listed_and_has_tests():
    rows = [line.split() for line in (ROOT / "extras/environments/environments.txt").read_text().splitlines()]
    names = [row[0] for row in rows if not row[0].startswith("#")][2:]  # after the heading and main
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    there = [name for name in names if (ROOT / f"extras/environments/{name}.txt").is_file()]
    assert {"ast", "gama", "parity"} <= set(there)
    assert [name for name in there if f'own_python("{name}")' not in tests] == []


@pytest.mark.parametrize(("said", "told"), [("broken\n", False), ("", True)])
def test_an_empty_log_is_that_of_a_full_disk(tmp_path, said, told):
    """What a process had written goes when it ends, so that there is room again when the driver looks."""
    log = tmp_path / "logs/step.log"
    log.parent.mkdir()
    log.write_text(said)
    words = 'root=$PWD; shown() { echo "$1"; }; source extras/driver/steps.sh; tell_full_disk "$1"'
    done = subprocess.run(["bash", "-c", words, "run.sh", log], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (f"the disk that holds {log.parent} is full; free some space" in done.stdout) == told
